//! What a child that was forked, without executing anything, can do to its parent's rings: nothing.
//!
//! The process that forks is this binary in a role of its own: a child of many threads may call
//! hardly anything. There, one thread runs, and the harness's waits for it, with no lock held.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use seqring::{
    CloseReason, Consumer, IfExists, Producer, RecvError, Registered, Ring, Start, TryRecvError,
};

use crate::support::role::{Child, hear, say};
use crate::support::wake::{self, WakeWord};
use crate::support::{Name, expect_error, variant};

/// The role of a process that forks.
pub const ROLE: &str = "forks";

const SLOTS: u64 = 8;

/// All that a process can inherit of a ring.
struct Handles {
    ring: Ring<u64>,
    producer: Producer<u64>,
    /// Reads what its process could write.
    beside: Consumer<u64>,
    /// Reads only.
    free: Consumer<u64>,
    gating: Consumer<u64, Registered>,
}

impl Handles {
    fn new(name: &str) -> Self {
        let ring = Ring::builder(name)
            .slots(SLOTS as usize)
            .if_exists(IfExists::Attach)
            .create()
            .expect("a ring");
        let producer = ring.producer().expect("its producer");
        let reading = Ring::open_read_only(name).expect("the ring");
        let beside = ring.consumer().start(Start::Oldest).attach();
        let free = reading.consumer().start(Start::Oldest).attach();
        let gating = reading.consumer().name("gates").gating().attach().expect("a row");
        Self { ring, producer, beside, free, gating }
    }

    /// Every message of the ring is its own sequence.
    fn publish(&mut self, count: &str) -> String {
        let count: u64 = count.parse().expect("a number");
        let published = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..count {
                let sequence = self.producer.next_sequence();
                if self.producer.try_publish(&sequence).is_err() {
                    return "full".to_owned();
                }
            }
            "ok".to_owned()
        }));
        published.unwrap_or_else(|panic| {
            format!("panic: {}", panic.downcast_ref::<String>().map_or("?", |text| text))
        })
    }

    fn apply_command(&mut self, words: &[&str]) -> String {
        match *words {
            ["publish", count] => self.publish(count),
            ["beside"] => format!("{:?}", self.beside.try_recv()),
            ["free"] => format!("{:?}", self.free.try_recv()),
            ["gating"] => format!("{:?}", self.gating.try_recv()),
            ["ungate"] => self.ring.consumer().name("no longer gates").attach().map_or_else(
                |error| variant(&error),
                |registered| {
                    self.gating = registered;
                    "ok".into()
                },
            ),
            // Waits, so it asks who is alive.
            ["wait", "free"] => format!("{:?}", self.free.recv()),
            ["wait", "beside"] => format!("{:?}", self.beside.recv()),
            ["wait", "gating"] => format!("{:?}", self.gating.recv()),
            ["alive"] => self.ring.is_producer_alive().to_string(),
            ["readers"] => format!(
                "{:?}",
                self.ring.consumers().iter().map(|reader| reader.is_alive).collect::<Vec<_>>()
            ),
            ["names"] => format!(
                "{:?}",
                self.ring.consumers().iter().map(|reader| &*reader.name).collect::<Vec<_>>()
            ),
            ["produce"] => {
                self.ring.producer().map_or_else(|error| variant(&error), |_| "ok".into())
            }
            ["register"] => self
                .ring
                .consumer()
                .name("second")
                .attach()
                .map_or_else(|error| variant(&error), |_| "ok".into()),
            ref other => panic!("nobody here understands {other:?}"),
        }
    }
}

/// Obeys until the input ends. Behind a `fork` it is the child who hears and speaks, until it is
/// told to `leave`.
pub fn run(name: &str) {
    let mut handles = Some(Handles::new(name));
    let mut is_child = false;
    say("ready");
    while let Some(line) = hear() {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match *words {
            ["fork"] => {
                // SAFETY: the one other thread waits for the end of this one (see `forked`), so it
                // holds no lock that the child could want.
                match unsafe { fork() }.expect("a child") {
                    ForkResult::Child => {
                        is_child = true;
                        "forked".into()
                    }
                    ForkResult::Parent { child } => {
                        waitpid(child, None).expect("one's own child");
                        "left".into()
                    }
                }
            }
            ["limit"] => {
                // One descriptor more would be one too many.
                let unused = std::fs::File::open("/dev/null").expect("a descriptor");
                let limit = unused.as_raw_fd() as u64;
                setrlimit(Resource::RLIMIT_NOFILE, limit, limit).expect("a lower limit");
                "ok".into()
            }
            ["threads"] => {
                std::fs::read_dir("/proc/self/task").expect("our threads").count().to_string()
            }
            ["drop"] => {
                drop(handles.take());
                "ok".into()
            }
            ["leave"] => break,
            _ => handles.as_mut().expect("not dropped").apply_command(&words),
        };
        say(&answer);
    }
    if is_child {
        // SAFETY: ends the process without the destructors and exit handlers that are its parent's.
        unsafe { libc::_exit(0) }
    }
}

/// A process with all handles of a ring, and its child with copies of them, to which one speaks.
fn forked(name: &str, published: u64) -> Child {
    let mut child = Child::start(ROLE, name);
    assert_eq!(child.line(), "ready");
    assert_eq!(child.ask("threads"), "2", "this thread, and the harness's, which waits for it");
    assert_eq!(child.ask(&format!("publish {published}")), "ok");
    assert_eq!(child.ask("fork"), "forked");
    child
}

#[test]
fn a_child_does_not_keep_its_dead_parent_alive() {
    let name = Name::new("fork-dead");
    let mut child = forked(&name, 3);
    let ring = Ring::<u64>::open(&name).unwrap();
    let mut consumer = ring.consumer().start(Start::Oldest).attach();
    assert!(ring.is_producer_alive());
    expect_error(ring.producer(), "ProducerExists", &name);
    assert!(ring.consumers()[0].is_alive);
    // The parent only; its child goes on to speak.
    child.kill();
    assert!(!ring.is_producer_alive());
    for sequence in 0..3 {
        assert_eq!(consumer.recv(), Ok(sequence));
    }
    assert_eq!(consumer.recv(), Err(RecvError::Closed(CloseReason::ProducerDied)));
    assert_eq!((child.ask("alive"), child.ask("readers")), ("false".into(), "[false]".into()));
    // Its row does not hold up whoever takes over.
    let mut producer = ring.producer().unwrap();
    for sequence in 3..3 + 2 * SLOTS {
        assert_eq!(producer.try_publish(&sequence), Ok(sequence));
    }
    assert_eq!(ring.consumers(), []);
    assert_eq!(child.ask("alive"), "true");
    child.tell("leave");
}

#[test]
fn a_child_reads_on_and_learns_of_the_death() {
    let name = Name::new("fork-reads");
    let mut child = forked(&name, 2);
    for consumer in ["beside", "free", "gating"] {
        assert_eq!(
            (child.ask(consumer), child.ask(consumer)),
            ("Ok(0)".into(), "Ok(1)".into()),
            "{consumer}"
        );
        assert_eq!(child.ask(consumer), "Err(Empty)");
    }
    child.kill();
    assert_eq!(child.ask("wait free"), "Err(Closed(ProducerDied))");
    let ring = Ring::<u64>::open(&name).unwrap();
    ring.producer().unwrap().publish(&2);
    for consumer in ["beside", "free", "gating"] {
        assert_eq!(
            child.ask(consumer),
            "Ok(2)",
            "{consumer} does not see what comes behind the fork"
        );
        assert_eq!(child.ask(consumer), "Err(Closed(Closed))");
    }
    child.tell("leave");
}

/// The bell is in a page that the child would have for itself once it wrote to it, or slept on a
/// word of it.
#[test]
fn a_child_that_waits_leaves_the_bell_alone() {
    let name = Name::new("fork-waits");
    let mut child = forked(&name, 0);
    child.kill();
    // Each waits until it asks who is alive, and so has slept.
    for consumer in ["beside", "free", "gating"] {
        assert_eq!(child.ask(&format!("wait {consumer}")), "Err(Closed(ProducerDied))");
    }
    assert_eq!(
        wake::word(name.path(), WakeWord::Consumers),
        0,
        "the child is heard by its parent's ring"
    );
    // It still sees what others do to the page.
    let ring = Ring::<u64>::open(&name).unwrap();
    let _rows = ["one", "two"].map(|name| ring.consumer().name(name).attach().unwrap());
    assert_eq!(child.ask("names"), r#"["one", "two"]"#);
    let mut producer = ring.producer().unwrap();
    for (consumer, sequence) in [("beside", 0), ("free", 1), ("gating", 2)] {
        (0..sequence).for_each(|earlier| {
            assert_eq!(child.ask(&format!("wait {consumer}")), format!("Ok({earlier})"))
        });
        child.tell(&format!("wait {consumer}"));
        // Long enough to fall asleep, as a rule.
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(producer.publish(&sequence), sequence);
        assert_eq!(
            child.line(),
            format!("Ok({sequence})"),
            "{consumer} finds the message though nobody wakes it"
        );
    }
    assert_eq!(wake::word(name.path(), WakeWord::Consumers), 0);
    child.tell("leave");
}

#[test]
fn what_a_child_publishes_reaches_nobody_and_is_refused_within_a_lap() {
    let name = Name::new("fork-publishes");
    let mut child = forked(&name, 3);
    let ring = Ring::<u64>::open_read_only(&name).unwrap();
    let mut consumer = ring.consumer().start(Start::Oldest).attach();
    let before = std::fs::read(name.path()).unwrap();
    let answer = child.ask(&format!("publish {}", SLOTS + 1));
    assert!(
        answer.contains(&format!("{:?}", &*name)) && answer.contains("before a fork"),
        "{answer}"
    );
    assert!(child.ask("publish 1").starts_with("panic"), "once refused, it is refused");
    // What the child has received, its parent has not.
    for _ in 0..3 {
        child.ask("gating");
    }
    assert_eq!(
        std::fs::read(name.path()).unwrap(),
        before,
        "the child has written to its parent's segment"
    );
    assert_eq!((child.ask("produce"), child.ask("register")), ("Forked".into(), "Forked".into()));
    child.tell("leave");
    assert_eq!(child.line(), "left");
    // The parent does as if nothing had happened; its own gating consumer has received nothing.
    assert_eq!(child.ask(&format!("publish {}", SLOTS - 3)), "ok");
    assert_eq!(child.ask("publish 1"), "full");
    for sequence in 0..SLOTS {
        assert_eq!(consumer.recv(), Ok(sequence));
        assert_eq!(child.ask("gating"), format!("Ok({sequence})"));
    }
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
    child.finish();
}

/// No message of theirs waits for anybody, and the looks that producers take ahead of time must not
/// let them go on.
#[test]
fn a_child_is_refused_within_a_lap_also_where_nobody_gates() {
    let name = Name::new("fork-publishes-free");
    let mut child = Child::start(ROLE, &name);
    assert_eq!(child.line(), "ready");
    assert_eq!(
        (child.ask("ungate"), child.ask(&format!("publish {}", 5 * SLOTS + 3))),
        ("ok".into(), "ok".into())
    );
    assert_eq!(child.ask("fork"), "forked");
    let answer = child.ask(&format!("publish {}", SLOTS + 1));
    assert!(
        answer.contains(&format!("{:?}", &*name)) && answer.contains("before a fork"),
        "{answer}"
    );
    child.tell("leave");
    assert_eq!(child.line(), "left");
    assert_eq!(child.ask(&format!("publish {}", 5 * SLOTS)), "ok");
    child.finish();
}

#[test]
fn what_a_child_drops_stays_its_parents() {
    let name = Name::new("fork-drops");
    let mut child = forked(&name, 1);
    assert_eq!(child.ask("drop"), "ok");
    let ring = Ring::<u64>::open(&name).expect("the child has removed the name");
    expect_error(ring.producer(), "ProducerExists", &name);
    assert!(ring.consumers()[0].is_alive, "the child has left for its parent");
    child.tell("leave");
    assert_eq!(child.line(), "left");
    let mut consumer = ring.consumer().attach();
    assert_eq!(child.ask("publish 1"), "ok");
    assert_eq!(consumer.recv(), Ok(1), "the child has closed the ring");
    assert!(ring.is_producer_alive() && ring.consumers()[0].is_alive);
    child.finish();
    assert!(!name.path().exists());
}

#[test]
fn a_grandchild_is_no_different() {
    let name = Name::new("fork-twice");
    let mut child = forked(&name, 1);
    assert_eq!(child.ask("fork"), "forked");
    assert_eq!((child.ask("free"), child.ask("alive")), ("Ok(0)".into(), "true".into()));
    assert!(child.ask("publish 9").starts_with("panic"));
    child.kill();
    assert_eq!(child.ask("alive"), "false");
    Ring::<u64>::open(&name)
        .unwrap()
        .producer()
        .expect("neither child nor grandchild holds the lock");
    child.tell("leave");
    assert_eq!(child.line(), "left");
    child.tell("leave");
}

/// Without a descriptor to spare for a file of its own, a child cannot look on. It is told so, and
/// the rest holds all the same.
#[test]
fn a_child_without_a_descriptor_to_spare() {
    let name = Name::new("fork-limit");
    let mut child = Child::start(ROLE, &name);
    assert_eq!(child.line(), "ready");
    assert_eq!(
        (child.ask("publish 3"), child.ask("limit"), child.ask("fork")),
        ("ok".into(), "ok".into(), "forked".into())
    );
    assert_eq!(child.ask("alive"), "true", "who cannot know says so");
    assert_eq!(child.ask("beside"), "Err(Closed(Superseded))");
    // Those whose segment was open for reading only need no other.
    assert_eq!((child.ask("gating"), child.ask("free")), ("Ok(0)".into(), "Ok(0)".into()));
    assert!(child.ask("publish 9").starts_with("panic"));
    let ring = Ring::<u64>::open(&name).unwrap();
    assert_eq!((ring.head(), ring.is_producer_alive()), (3, true));
    child.kill();
    assert!(!ring.is_producer_alive() && !ring.consumers()[0].is_alive);
    ring.producer().expect("the child does not hold the lock");
    child.tell("leave");
}

#[test]
fn threads_that_open_and_close_rings_do_not_disturb_a_fork() {
    let name = Name::new("fork-threads");
    let mut child = Child::start("forks_busily", &name);
    assert_eq!(child.line(), "ready");
    // The forked children outlive their parent, by a bit; no lock does.
    child.kill();
    let left: Vec<String> = std::fs::read_dir("/dev/shm")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|file| file.starts_with(&format!("seqring.{}-", &*name)))
        .map(|file| file.trim_start_matches("seqring.").to_owned())
        .collect();
    assert!(!left.is_empty(), "the process was killed with rings open");
    for ring in left {
        assert!(Ring::<u64>::unlink(&ring).unwrap_or_else(|error| panic!("{error}")));
    }
}

/// Opens and closes rings in some threads and forks in another; the children sleep until this
/// process is dead.
pub fn run_busily(name: &str) {
    for thread in 0..2 {
        let name = format!("{name}-{thread}");
        let kept: Ring<u64> = Ring::builder(&format!("{name}-kept")).create().expect("a ring");
        std::mem::forget((kept.producer().expect("its producer"), kept));
        std::thread::spawn(move || {
            loop {
                let ring: Ring<u64> = Ring::builder(&name).slots(2).create().expect("a ring");
                let _producer = ring.producer().expect("its producer");
            }
        });
    }
    let parent = nix::unistd::getpid();
    let (mut here, there) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    for _ in 0..100 {
        // SAFETY: the child makes system calls only.
        if let ForkResult::Child = unsafe { fork() }.expect("a child") {
            // SAFETY: a system call on a descriptor of ours, and on a byte that is static.
            unsafe { libc::write(there.as_raw_fd(), b"!".as_ptr().cast(), 1) };
            while nix::unistd::getppid() == parent {
                // SAFETY: a system call without memory in it.
                unsafe { libc::usleep(100_000) };
            }
            // The locks are looked for while we are still there.
            // SAFETY: as above.
            unsafe { libc::usleep(2_000_000) };
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) };
        }
    }
    // Until `fork` has returned in it, a child keeps its parent's locks.
    here.read_exact(&mut [0; 100]).expect("a byte from each child");
    say("ready");
    hear();
}
