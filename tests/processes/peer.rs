//! A process that does with one ring of numbers what it is told, line by line.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use seqring::{
    Consumer, IfExists, Producer, RecvTimeoutError, Registered, Registration, Ring, Start,
};

use crate::support::role::{Child, hear, say};
use crate::support::variant;

/// Messages are their own sequence, by this factor.
pub const FACTOR: u64 = 10;

/// Starts a peer for the ring called `name`.
pub fn start(name: &str) -> Child {
    Child::start("peer", name)
}

#[derive(Default)]
struct Peer {
    ring: Option<Ring<u64>>,
    producer: Option<Producer<u64>>,
    consumer: Option<Consumer<u64>>,
    registered: Option<Consumer<u64, Registered>>,
}

/// Obeys until the input ends. Answers are `ok`, a value, or the variant of an error.
pub fn run(name: &str) {
    let mut peer = Peer::default();
    while let Some(line) = hear() {
        let words: Vec<&str> = line.split(' ').collect();
        say(&peer.apply_command(name, &words).unwrap_or_else(|error| variant(&error)));
    }
}

impl Peer {
    fn apply_command(&mut self, name: &str, words: &[&str]) -> Result<String, seqring::Error> {
        let mut answer = "ok".to_owned();
        match *words {
            ["create", policy, slots] => {
                let if_exists = match policy {
                    "attach" => IfExists::Attach,
                    "error" => IfExists::Error,
                    "replace" => IfExists::ReplaceStale,
                    other => panic!("no policy is called {other:?}"),
                };
                self.ring = Some(
                    Ring::builder(name)
                        .slots(slots.parse().expect("a number"))
                        .if_exists(if_exists)
                        .create()?,
                );
            }
            ["open"] => self.ring = Some(Ring::open(name)?),
            ["open_read_only"] => self.ring = Some(Ring::open_read_only(name)?),
            ["open_wait"] => self.ring = Some(Ring::open_wait(name, Duration::from_secs(20))?),
            ["produce"] => self.producer = Some(self.ring().producer()?),
            ["publish", count] => {
                let count: u64 = count.parse().expect("a number");
                let producer = self.producer.as_mut().expect("produce first");
                for _ in 0..count {
                    producer.publish(&(producer.next_sequence() * FACTOR));
                }
            }
            ["consume"] => {
                self.consumer = Some(self.ring().consumer().start(Start::Oldest).attach())
            }
            ["register", consumer] => {
                self.registered = Some(self.ring().consumer().name(consumer).attach()?)
            }
            ["gate", consumer] => {
                self.registered = Some(self.ring().consumer().name(consumer).gating().attach()?)
            }
            ["resume", consumer, "free"] => {
                self.registered = Some(self.ring().consumer().name(consumer).resume().attach()?)
            }
            ["resume", consumer, "gate"] => {
                self.registered =
                    Some(self.ring().consumer().name(consumer).resume().gating().attach()?)
            }
            ["checkpoint"] => self
                .registered
                .as_mut()
                .expect("resume first")
                .checkpoint()
                .expect("there is no file"),
            // Receives until the end; what is lost is not in order.
            ["drain"] => {
                answer = match &mut self.registered {
                    Some(consumer) => drain(consumer),
                    None => drain(self.consumer.as_mut().expect("consume first")),
                };
            }
            ["recv"] => {
                let received = match &mut self.registered {
                    Some(consumer) => consumer.recv(),
                    None => self.consumer.as_mut().expect("consume first").recv(),
                };
                answer = format!("{received:?}");
            }
            // Waits in vain; nanoseconds of processor time that it took.
            ["idle", milliseconds] => {
                let idle = Duration::from_millis(milliseconds.parse().expect("a number"));
                let before = processor_time();
                let received = self.registered.as_mut().expect("register first").recv_timeout(idle);
                assert_eq!(received, Err(RecvTimeoutError::Timeout));
                answer = (processor_time() - before).as_nanos().to_string();
            }
            ["close"] => self.producer.take().expect("produce first").close(),
            ["drop"] => *self = Self::default(),
            ["epoch"] => answer = self.ring().epoch().to_string(),
            // The permissions of all mappings of the ring's file.
            ["mappings"] => {
                let maps = std::fs::read_to_string("/proc/self/maps").expect("our own maps");
                let ours = maps.lines().filter(|line| line.ends_with(&format!("seqring.{name}")));
                answer =
                    ours.filter_map(|line| line.split(' ').nth(1)).collect::<Vec<_>>().join(" ");
            }
            ref other => panic!("no peer understands {other:?}"),
        }
        Ok(answer)
    }

    fn ring(&self) -> &Ring<u64> {
        self.ring.as_ref().expect("create or open first")
    }
}

/// What the calling thread has used, in its own code and in the kernel.
fn processor_time() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_THREAD).expect("the kernel counts it");
    let microseconds = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    Duration::from_micros(microseconds.try_into().expect("time goes on"))
}

fn drain<R: Registration>(consumer: &mut Consumer<u64, R>) -> String {
    let first = consumer.cursor();
    let all: Vec<u64> =
        consumer.iter().map(|item| item.unwrap_or_else(|lagged| panic!("{lagged}"))).collect();
    assert!(
        all.iter().zip(first..).all(|(&message, sequence)| message == sequence * FACTOR),
        "not in order: {all:?}"
    );
    format!("{first}..{}", first + all.len() as u64)
}
