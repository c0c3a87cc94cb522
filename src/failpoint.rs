//! Places to die at: one behind each step that a role takes in shared memory, or by a lock, a file
//! or a name.
//!
//! [`hit`] is nothing in an ordinary build. With the feature `failpoints`, a process that was
//! started with `SEQRING_FAILPOINT=publish.mark`, or `publish.mark:3`, kills itself (SIGKILL) at
//! the first, or third, time that it comes to that step. Under loom, a model kills a role there, by
//! unwinding out of it: see `kill_at`.
//!
//! `docs/failpoints.md` says of each step what the survivors see; `tests/failpoints.rs` kills real
//! processes at all of them. A new step is a line here, a call of [`hit`] behind what it names, a
//! line there, and, if its role is new, a scenario in the test.

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident $name:literal)*) => {
        /// A step of some role; one dies behind it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        #[cfg(any(test, loom, feature = "failpoints"))]
        impl Step {
            /// All steps, role by role, each in the order in which it takes them.
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
    /// The creator has made the file, of its full size, and has it open.
    CreateFile "create.file"
    /// It has the owner's lock.
    CreateLock "create.lock"
    /// It has set the mode.
    CreateMode "create.mode"
    /// It has reserved the space.
    CreateSpace "create.space"
    /// It has written a field of the header, or a word of a text.
    CreateField "create.field"
    /// It has written the magic word.
    CreateMagic "create.magic"
    /// Who replaces a stale ring has both locks of it.
    ReplaceLock "replace.lock"
    /// It has told the old ring's consumers.
    ReplaceState "replace.state"
    /// It has removed the old name.
    ReplaceName "replace.name"
    /// The last handle of an owner has both locks.
    RemoveLock "remove.lock"
    /// It has removed the name.
    RemoveName "remove.name"

    /// A producer has its lock.
    ResumeLock "resume.lock"
    /// It has left its process id.
    ResumePid "resume.pid"
    /// It has counted itself.
    ResumeEpoch "resume.epoch"
    /// It has counted its predecessor's messages.
    ResumeHead "resume.head"
    /// It has opened the ring.
    ResumeState "resume.state"
    /// It has marked the slot.
    PublishMark "publish.mark"
    /// It has written a piece of a message that is written in pieces.
    PublishPiece "publish.piece"
    /// It has written all of the message.
    PublishPayload "publish.payload"
    /// It has made the message ready.
    PublishReady "publish.ready"
    /// It has counted the message in the head.
    PublishCount "publish.count"
    /// It has shortened the roster of the reader table.
    LookRoster "look.roster"
    /// It has counted a wait for a consumer.
    WaitCount "wait.count"
    /// It has added to the time that it has waited for the consumer.
    WaitTime "wait.time"
    /// One of several producers has cleared its predecessor's row.
    CrewRow "crew.row"
    /// It has announced the sequence that it is about to claim.
    ClaimAnnounce "claim.announce"
    /// It has claimed it.
    ClaimHead "claim.head"
    /// It has withdrawn the announcement, behind the message.
    ClaimDone "claim.done"
    /// It has given a tombstone to a dead producer's claim.
    ClaimBury "claim.bury"
    /// It has told a consumer to skip ahead.
    SyncRow "sync.row"
    /// It has made a consumer look at what it wants.
    OrderRow "order.row"
    /// It has closed the ring.
    CloseState "close.state"
    /// It has released its lock.
    CloseLock "close.lock"

    /// A consumer that registers has the lock of a row.
    JoinLock "join.lock"
    /// It has written a field that tools read.
    JoinField "join.field"
    /// It has written its provisional cursor.
    JoinProvisional "join.provisional"
    /// It has taken the row.
    JoinState "join.state"
    /// It has entered itself in the roster.
    JoinRoster "join.roster"
    /// It has written its cursor.
    JoinCursor "join.cursor"
    /// It has told how many messages it has received.
    TellReceived "tell.received"
    /// It has told how many it has lost.
    TellLost "tell.lost"
    /// It has told its longest lag so far.
    TellLag "tell.lag"
    /// It has told where a successor of its name goes on.
    TellCheckpoint "tell.checkpoint"
    /// It has told its cursor.
    TellCursor "tell.cursor"
    /// A row is free: its consumer has left, or the producer has given up on it.
    VacateRow "vacate.row"
    /// Who has left has released the row's lock.
    LeaveLock "leave.lock"

    /// A consumer that waits for a message, or a producer that waits for room, has said that it sleeps, and does not yet.
    SleepRaise "sleep.raise"
    /// Who has made what somebody sleeps for has lowered the bell's bit, and has not woken anybody yet.
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

    /// The variable that says where this process is to die.
    const VARIABLE: &str = "SEQRING_FAILPOINT";

    /// Notes that `step` has been taken, and ends the process if it is to die there.
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
        // SAFETY: a system call without memory in it, which ends the process.
        unsafe { libc::raise(libc::SIGKILL) };
        unreachable!("nobody survives SIGKILL")
    }

    /// The step, and at which time that it is taken one dies.
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

/// Whether the calling thread of a model is dying: what a real process does not do when it is
/// killed, it must not do then either.
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
        /// Where this thread of the model is to die, and at which time that it comes there.
        static FATAL: Cell<Option<(Step, u32)>> = Cell::new(None);
    }

    loom::thread_local! {
        static DYING: Cell<bool> = Cell::new(false);
    }

    pub fn is_dying() -> bool {
        DYING.with(Cell::get)
    }

    /// What unwinds out of the role that dies.
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

    /// Runs `role`, which dies when it takes `step` for the `times`th time. What a real process
    /// leaves behind, it leaves.
    ///
    /// # Panics
    /// If it lives on: a model of its death would prove nothing.
    pub fn kill_at<T>(step: Step, times: u32, role: impl FnOnce() -> T) {
        FATAL.with(|fatal| fatal.set(Some((step, times))));
        match catch_unwind(AssertUnwindSafe(role)) {
            Ok(_) => panic!("the role never came to {} for the {times}. time", step.name()),
            Err(reason) if reason.is::<Death>() => DYING.with(|dying| dying.set(false)),
            // Loom's, or a failed assertion's.
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
