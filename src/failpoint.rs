//! Failpoints: one after each step that a role takes in shared memory, or with a lock, a file or a
//! name.
//!
//! [`hit`] is empty in an ordinary build. With the feature `failpoints`, a process that was started
//! with `SEQRING_FAILPOINT=publish.mark`, or `publish.mark:3`, kills itself (SIGKILL) the first, or
//! third, time that it has taken that step. Under loom, a model kills a role at a step by unwinding
//! out of it: see `kill_at`.
//!
//! `docs/failpoints.md` says for each step what the survivors see; `tests/failpoints.rs` kills real
//! processes at all steps. A new step needs a line here, a call of [`hit`] after the action that it
//! names, a line in that document, and, if its role is new, a scenario in that test.

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident $name:literal)*) => {
        /// A step of some role. The role is killed directly after it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        #[cfg(any(test, loom, feature = "failpoints"))]
        impl Step {
            /// All steps, role by role, in the order in which a role takes them.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// The name, as in `SEQRING_FAILPOINT`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)*
                }
            }
        }
    };
}

steps! {
    /// The creator has made the file at its full size, and has it open.
    CreateFile "create.file"
    /// The creator has the owner's lock.
    CreateLock "create.lock"
    /// The creator has set the mode.
    CreateMode "create.mode"
    /// The creator has reserved the space.
    CreateSpace "create.space"
    /// The creator has written a field of the header, or a word of a text.
    CreateField "create.field"
    /// The creator has written the magic word.
    CreateMagic "create.magic"
    /// The process that replaces a stale ring has both of its locks.
    ReplaceLock "replace.lock"
    /// The process has marked the old ring as superseded for its consumers.
    ReplaceState "replace.state"
    /// The process has removed the old name.
    ReplaceName "replace.name"
    /// The last handle of an owner has both locks.
    RemoveLock "remove.lock"
    /// The last handle has removed the name.
    RemoveName "remove.name"

    /// A producer has its lock.
    ResumeLock "resume.lock"
    /// The producer has written its process id.
    ResumePid "resume.pid"
    /// The producer has counted itself in the epoch.
    ResumeEpoch "resume.epoch"
    /// The producer has counted its predecessor's messages in the head.
    ResumeHead "resume.head"
    /// The producer has opened the ring.
    ResumeState "resume.state"
    /// The producer has marked the slot as being written.
    PublishMark "publish.mark"
    /// The producer has written one piece of a message that is written in pieces.
    PublishPiece "publish.piece"
    /// The producer has written the whole payload.
    PublishPayload "publish.payload"
    /// The producer has made the message ready.
    PublishReady "publish.ready"
    /// The producer has counted the message in the head.
    PublishCount "publish.count"
    /// The producer has shortened the roster of the reader table.
    LookRoster "look.roster"
    /// The producer has counted a wait for a consumer.
    WaitCount "wait.count"
    /// The producer has added to the time that it has waited for the consumer.
    WaitTime "wait.time"
    /// One of several producers has cleared its predecessor's row.
    CrewRow "crew.row"
    /// The producer has announced the sequence that it is about to claim.
    ClaimAnnounce "claim.announce"
    /// The producer has claimed the sequence.
    ClaimHead "claim.head"
    /// The producer has withdrawn the announcement, after the message.
    ClaimDone "claim.done"
    /// The producer has given a tombstone to a dead producer's claim.
    ClaimBury "claim.bury"
    /// The producer has written the sequence to which a consumer must skip.
    SyncRow "sync.row"
    /// The producer has counted a new command to a consumer.
    OrderRow "order.row"
    /// The producer has closed the ring.
    CloseState "close.state"
    /// The producer has released its lock.
    CloseLock "close.lock"

    /// A consumer that registers has the lock of a row.
    JoinLock "join.lock"
    /// The consumer has written a field that tools read.
    JoinField "join.field"
    /// The consumer has written its provisional cursor.
    JoinProvisional "join.provisional"
    /// The consumer has taken the row.
    JoinState "join.state"
    /// The consumer has entered itself in the roster.
    JoinRoster "join.roster"
    /// The consumer has written its cursor.
    JoinCursor "join.cursor"
    /// The consumer has published how many messages it has received.
    TellReceived "tell.received"
    /// The consumer has published how many messages it has lost.
    TellLost "tell.lost"
    /// The consumer has published its longest lag so far.
    TellLag "tell.lag"
    /// The consumer has published where a successor of its name continues.
    TellCheckpoint "tell.checkpoint"
    /// The consumer has published its cursor.
    TellCursor "tell.cursor"
    /// A row is free: its consumer has left, or the producer has evicted it.
    VacateRow "vacate.row"
    /// A consumer that has left has released the lock of its row.
    LeaveLock "leave.lock"

    /// A consumer that waits for a message, or a producer that waits for space, has set the waiters
    /// bit and is not asleep yet.
    SleepRaise "sleep.raise"
    /// A waker has cleared the waiters bit, and has not woken any thread yet.
    WakeBell "wake.bell"
}

/// Notes that `step` has been taken.
#[cfg(not(any(loom, feature = "failpoints")))]
#[inline(always)]
pub fn hit(_step: Step) {}

#[cfg(all(not(loom), feature = "failpoints"))]
pub use process::hit;

#[cfg(any(test, all(not(loom), feature = "failpoints")))]
mod process {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Step;

    /// The variable that names the step at which this process is to die.
    const VARIABLE: &str = "SEQRING_FAILPOINT";

    /// Notes that `step` has been taken, and kills the process if it is to die there.
    #[cfg_attr(not(feature = "failpoints"), allow(dead_code))]
    pub fn hit(step: Step) {
        static ARMED: OnceLock<Option<(Step, AtomicU32)>> = OnceLock::new();
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var_os(VARIABLE)?;
            match parse(&text.to_string_lossy()) {
                Ok((step, times)) => Some((step, AtomicU32::new(times))),
                Err(wrong) => {
                    eprintln!("{wrong}");
                    std::process::abort()
                }
            }
        });
        match armed {
            Some((fatal, times))
                if *fatal == step && times.fetch_sub(1, Ordering::Relaxed) == 1 =>
            {
                die()
            }
            _ => {}
        }
    }

    fn die() -> ! {
        // SAFETY: a system call that accesses no memory and ends the process.
        unsafe { libc::raise(libc::SIGKILL) };
        unreachable!("nobody survives SIGKILL")
    }

    /// The step to die at, and how many times the process must take it before it dies.
    pub(super) fn parse(text: &str) -> Result<(Step, u32), String> {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let step = Step::ALL.iter().copied().find(|step| step.name() == name);
        match (step, times.parse()) {
            (Some(step), Ok(times @ 1..)) => Ok((step, times)),
            (Some(_), _) => Err(format!(
                "{VARIABLE}={text}: {times:?} is not a number of times: give one from 1 on, as in {name}:3"
            )),
            (None, _) => {
                let names: Vec<&str> = Step::ALL.iter().map(|step| step.name()).collect();
                Err(format!(
                    "{VARIABLE}={text}: there is no step {name:?}; there are: {}",
                    names.join(", ")
                ))
            }
        }
    }
}

/// Whether the calling thread of a model is dying. The cleanup that a killed process does not do
/// must not run in that thread either.
#[cfg(not(loom))]
#[inline(always)]
pub fn is_dying() -> bool {
    false
}

#[cfg(loom)]
pub use model::{hit, is_dying, kill_at};

#[cfg(loom)]
mod model {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::Step;

    loom::thread_local! {
        /// The step at which this thread of the model is to die, and how many times it must still
        /// take it.
        static FATAL: Cell<Option<(Step, u32)>> = Cell::new(None);
    }

    loom::thread_local! {
        static DYING: Cell<bool> = Cell::new(false);
    }

    pub fn is_dying() -> bool {
        DYING.with(Cell::get)
    }

    /// The payload of the unwinding that ends a role.
    struct Death;

    /// Notes that `step` has been taken, and unwinds if the calling thread is to die there.
    pub fn hit(step: Step) {
        FATAL.with(|fatal| match fatal.get() {
            Some((at, times)) if at == step => {
                fatal.set((times > 1).then_some((at, times - 1)));
                if times == 1 {
                    DYING.with(|dying| dying.set(true));
                    resume_unwind(Box::new(Death));
                }
            }
            _ => {}
        });
    }

    /// Runs `role`, which dies when it takes `step` for the `times`th time. It leaves behind what a
    /// real process leaves.
    ///
    /// # Panics
    /// If the role survives: a model of its death would prove nothing.
    pub fn kill_at<T>(step: Step, times: u32, role: impl FnOnce() -> T) {
        FATAL.with(|fatal| fatal.set(Some((step, times))));
        match catch_unwind(AssertUnwindSafe(role)) {
            Ok(_) => panic!("the role never came to {} for the {times}. time", step.name()),
            Err(reason) if reason.is::<Death>() => DYING.with(|dying| dying.set(false)),
            // A panic of loom, or of a failed assertion.
            Err(reason) => resume_unwind(reason),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::process::parse;
    use super::*;

    #[test]
    fn steps_are_named_in_the_variable() {
        assert_eq!(parse("publish.mark"), Ok((Step::PublishMark, 1)));
        assert_eq!(parse("join.field:12"), Ok((Step::JoinField, 12)));
        for wrong in ["publish.mark:0", "publish.mark:", "publish.mark:x", "publish.mark:1:2"] {
            assert!(parse(wrong).unwrap_err().contains("not a number of times"), "{wrong}");
        }
        let text = parse("publish").unwrap_err();
        assert!(Step::ALL.iter().all(|step| text.contains(step.name())), "{text}");
    }

    #[test]
    fn the_document_has_all_steps_in_order() {
        let text = include_str!("../docs/failpoints.md");
        let documented: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let steps: Vec<&str> = Step::ALL.iter().map(|step| step.name()).collect();
        assert_eq!(documented, steps);
    }
}
