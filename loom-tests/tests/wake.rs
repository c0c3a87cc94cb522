//! The bell: whoever sleeps by it is woken when there is something to wake up for.
//!
//! In these models nobody's sleep ends by itself unless the model says so: a lost wake-up is a
//! deadlock, which loom reports. Wakers look at the bell with the light barrier, which is a fence
//! here.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Ghost, Ordering};

use loom::thread;
use loom_tests::{Bound, Follower, Futex, Member, Outcomes, Ring, explore};
use seqring::protocol::wake::{self, Barrier};
use seqring::protocol::{OnLag, Start, TryRecvError, Writer};
use seqring::sync::AtomicU64;

/// A word, and the kernel behind it.
#[derive(Clone)]
struct Bell(Arc<(AtomicU64, Futex, Ghost)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((AtomicU64::new(0), Futex::default(), Ghost::new(0))))
    }

    fn word(&self) -> &AtomicU64 {
        &self.0.0
    }

    fn futex(&self) -> &Futex {
        &self.0.1
    }

    /// Ghost: how often somebody was to be woken.
    fn rung(&self) -> u64 {
        self.0.2.load(Ordering::Relaxed)
    }

    /// What a waker does behind its work, up to the wake; returns whether it must wake.
    fn ring(&self, barrier: Barrier) -> bool {
        let rings = wake::has_waiters(self.word(), barrier) && wake::notify(self.word());
        self.0.2.fetch_add(rings.into(), Ordering::Relaxed);
        rings
    }

    /// What a waker does behind its work.
    fn wake(&self, barrier: Barrier) {
        if self.ring(barrier) {
            self.futex().wake_all();
        }
    }

    /// Sleeps while `must_wait` says so, as a parked thread does; the outcomes say how that went.
    fn sleep(&self, outcomes: &Outcomes, mut must_wait: impl FnMut() -> bool) {
        while must_wait() {
            let expected = wake::prepare_wait(self.word());
            if !must_wait() {
                outcomes.saw("last look");
                return;
            }
            outcomes.saw(if self.futex().wait(&[(self.word(), expected)]) {
                "slept"
            } else {
                "not asleep"
            });
        }
    }
}

/// What may become of one who goes to sleep: there is something at its last look; or behind that,
/// before it falls asleep; or later.
const SLEEPER: [&str; 3] = ["last look", "not asleep", "slept"];

/// Receives the next message, asleep until it comes.
fn recv(
    outcomes: &Outcomes,
    ring: &Ring,
    bell: &Bell,
    follower: &mut Follower,
) -> Result<u64, TryRecvError> {
    bell.sleep(outcomes, || {
        follower.reader.must_wait(ring.words()) && follower.reader.ended(ring.words()).is_none()
    });
    follower.recv()
}

/// A consumer in a thread of its own that receives the first `messages`, asleep between them.
fn receiving(
    outcomes: &Arc<Outcomes>,
    ring: &Ring,
    bell: &Bell,
    messages: u64,
) -> thread::JoinHandle<()> {
    let (outcomes, ring, bell) = (outcomes.clone(), ring.clone(), bell.clone());
    thread::spawn(move || {
        let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
        for message in 0..messages {
            assert_eq!(recv(&outcomes, &ring, &bell, &mut follower), Ok(message));
        }
    })
}

fn publish(ring: &Ring, writer: &mut Writer, bell: &Bell) {
    ring.publish(writer);
    bell.wake(Barrier::Light);
}

/// A consumer asleep on the wake word, a message: it wakes up: a lost wake-up is a deadlock.
#[test]
fn one_message() {
    explore("bell::one_message", Bound::Complete, &SLEEPER, |outcomes| {
        let (ring, bell) = (Ring::new(1), Bell::new());
        let mut writer = ring.writer();
        let receiving = receiving(outcomes, &ring, &bell, 1);
        publish(&ring, &mut writer, &bell);
        receiving.join().unwrap();
    });
}

/// A consumer asleep on the wake word, a message; 2 messages: it wakes up: a lost wake-up is a
/// deadlock.
#[test]
fn two_messages() {
    explore("bell::two_messages", Bound::Preemptions, &SLEEPER, |outcomes| {
        let (ring, bell) = (Ring::new(2), Bell::new());
        let mut writer = ring.writer();
        let receiving = receiving(outcomes, &ring, &bell, 2);
        publish(&ring, &mut writer, &bell);
        publish(&ring, &mut writer, &bell);
        receiving.join().unwrap();
    });
}

/// The end of the ring wakes too.
#[test]
fn closed() {
    explore("bell::closed", Bound::Preemptions, &SLEEPER, |outcomes| {
        let (ring, bell) = (Ring::new(1), Bell::new());
        let mut writer = ring.writer();
        let waiting = {
            let (outcomes, ring, bell) = (outcomes.clone(), ring.clone(), bell.clone());
            thread::spawn(move || {
                let mut follower = ring.follower(Start::Sequence(0), OnLag::Oldest);
                assert!(matches!(
                    recv(&outcomes, &ring, &bell, &mut follower),
                    Err(TryRecvError::Closed(_))
                ));
            })
        };
        writer.close(ring.words());
        bell.wake(Barrier::Light);
        waiting.join().unwrap();
    });
}

/// Two consumers asleep, a message: both wake up.
#[test]
fn two_sleepers() {
    explore("bell::two_sleepers", Bound::Preemptions, &SLEEPER, |outcomes| {
        let (ring, bell) = (Ring::new(1), Bell::new());
        let mut writer = ring.writer();
        let sleepers = [(); 2].map(|()| receiving(outcomes, &ring, &bell, 1));
        publish(&ring, &mut writer, &bell);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert!(bell.rung() <= 2, "nobody raises the bit behind the message");
    });
}

/// Each of two wakers brings one half of what the sleeper waits for: the ring of one of them may
/// not stand for the other's work.
#[test]
fn two_wakers() {
    explore("bell::two_wakers", Bound::Preemptions, &SLEEPER, |outcomes| {
        let rings = [Ring::new(1), Ring::new(1)];
        let bell = Bell::new();
        let wakers = rings.clone().map(|ring| {
            let (bell, mut writer) = (bell.clone(), ring.writer());
            thread::spawn(move || publish(&ring, &mut writer, &bell))
        });
        let mut followers =
            rings.clone().map(|ring| ring.follower(Start::Sequence(0), OnLag::Oldest));
        bell.sleep(outcomes, || {
            rings
                .iter()
                .zip(&followers)
                .any(|(ring, follower)| follower.reader.must_wait(ring.words()))
        });
        for follower in &mut followers {
            assert_eq!(follower.recv(), Ok(0));
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

/// A sleeper that died behind raising the bit: one ring in vain, and the living are woken as ever.
#[test]
fn sleeper_killed() {
    explore("bell::sleeper_killed", Bound::Preemptions, &SLEEPER, |outcomes| {
        let (ring, bell) = (Ring::new(2), Bell::new());
        let mut writer = ring.writer();
        let killed = {
            let bell = bell.clone();
            thread::spawn(move || {
                wake::prepare_wait(bell.word());
            })
        };
        let receiving = receiving(outcomes, &ring, &bell, 1);
        publish(&ring, &mut writer, &bell);
        killed.join().unwrap();
        receiving.join().unwrap();
        // Nobody is left to sleep: whatever the dead one has left behind is paid for by one more
        // message.
        publish(&ring, &mut writer, &bell);
        let rung = bell.rung();
        assert!(rung > 0, "the bit that the dead one raised was missed");
        publish(&ring, &mut writer, &bell);
        assert_eq!(bell.rung(), rung, "the bell rings for somebody who is dead, again and again");
    });
}

/// A producer that is killed between clearing the bit and the wake.
fn killed_waker(outcomes: &Arc<Outcomes>, rescue: impl FnOnce(&Ring, &Bell)) {
    let (ring, bell) = (Ring::new(2), Bell::new());
    let mut writer = ring.writer();
    let receiving = receiving(outcomes, &ring, &bell, 1);
    let killed = {
        let (ring, bell) = (ring.clone(), bell.clone());
        thread::spawn(move || {
            ring.publish(&mut writer);
            let _ = bell.ring(Barrier::Light);
        })
    };
    // The kernel's lock, which shows the death, orders what follows.
    killed.join().unwrap();
    rescue(&ring, &bell);
    receiving.join().unwrap();
}

/// Its message is received when the sleep ends at last.
#[test]
fn waker_killed_and_time_passes() {
    explore("bell::waker_killed_and_time_passes", Bound::Preemptions, &SLEEPER, |outcomes| {
        killed_waker(outcomes, |_, bell| bell.futex().expire());
    });
}

/// Its message is received as soon as there is another producer, which wakes whoever sleeps.
#[test]
fn waker_killed_and_succeeded() {
    explore("bell::waker_killed_and_succeeded", Bound::Preemptions, &SLEEPER, |outcomes| {
        killed_waker(outcomes, |ring, bell| {
            ring.writer();
            bell.futex().wake_all();
        });
    });
}

/// Its message is received with the next one, if another sleeper has raised the bit.
#[test]
fn waker_killed_and_bit_raised() {
    explore("bell::waker_killed_and_bit_raised", Bound::Preemptions, &SLEEPER, |outcomes| {
        killed_waker(outcomes, |ring, bell| {
            let mut writer = ring.writer();
            wake::prepare_wait(bell.word());
            publish(ring, &mut writer, bell);
        });
    });
}

/// Publishes the next message, asleep until there is room.
fn publish_asleep(outcomes: &Outcomes, ring: &Ring, writer: &mut Writer, room: &Bell) {
    room.sleep(outcomes, || ring.refresh_limit(writer.next_sequence()).is_err());
    ring.try_publish(writer).expect("there is room");
}

/// Receives one message and tells the producer.
fn recv_and_tell(member: &mut Member, room: &Bell) {
    assert!(member.recv().is_ok());
    room.wake(Barrier::Light);
}

/// A full ring of one slot with `N` gating consumers: the producer sleeps until all of them have
/// read.
fn room<const N: usize>(outcomes: &Arc<Outcomes>, during: u64) {
    let (ring, room) = (Ring::with_readers(1, N), Bell::new());
    let mut writer = ring.writer();
    let members: Vec<Member> = (0..N).map(|row| ring.join(row)).collect();
    ring.publish(&mut writer);
    let reading: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            let room = room.clone();
            thread::spawn(move || recv_and_tell(&mut member, &room))
        })
        .collect();
    for _ in 0..during {
        publish_asleep(outcomes, &ring, &mut writer, &room);
    }
    reading.into_iter().for_each(|reading| reading.join().unwrap());
}

/// A producer asleep on a full ring, a consumer that receives and publishes its cursor: the
/// producer wakes up.
#[test]
fn room_by_one() {
    explore("bell::room_by_one", Bound::Preemptions, &SLEEPER, |outcomes| room::<1>(outcomes, 1));
}

/// The two consumers are two wakers.
#[test]
fn room_by_two() {
    explore("bell::room_by_two", Bound::Preemptions, &SLEEPER, |outcomes| room::<2>(outcomes, 1));
}

/// A consumer that leaves makes room too.
#[test]
fn room_by_leaving() {
    explore("bell::room_by_leaving", Bound::Preemptions, &SLEEPER, |outcomes| {
        let (ring, room) = (Ring::with_readers(1, 1), Bell::new());
        let mut writer = ring.writer();
        let member = ring.join(0);
        ring.publish(&mut writer);
        let leaving = {
            let room = room.clone();
            thread::spawn(move || {
                member.leave();
                room.wake(Barrier::Light);
            })
        };
        publish_asleep(outcomes, &ring, &mut writer, &room);
        leaving.join().unwrap();
    });
}

/// Producer and consumer sleep by turns: neither leaves the other asleep.
#[test]
fn both_sleep() {
    explore("bell::both_sleep", Bound::Preemptions, &SLEEPER, |outcomes| {
        let (ring, bell, room) = (Ring::with_readers(1, 1), Bell::new(), Bell::new());
        let mut writer = ring.writer();
        let mut member = ring.join(0);
        let reading = {
            let (outcomes, ring, bell, room) =
                (outcomes.clone(), ring.clone(), bell.clone(), room.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    bell.sleep(&outcomes, || member.follower.reader.must_wait(ring.words()));
                    recv_and_tell(&mut member, &room);
                }
            })
        };
        for _ in 0..2 {
            publish_asleep(outcomes, &ring, &mut writer, &room);
            bell.wake(Barrier::Light);
        }
        reading.join().unwrap();
    });
}

/// A sleeper sleeps on the bell and on a word to cancel it by. Nothing else comes; and it learns
/// why it was cancelled.
#[test]
fn cancelled() {
    explore("bell::cancelled", Bound::Complete, &["awake", "not asleep", "slept"], |outcomes| {
        let bell = Bell::new();
        let cancel = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let waiting = {
            let (outcomes, bell, cancel) = (outcomes.clone(), bell.clone(), cancel.clone());
            thread::spawn(move || {
                let (word, reason) = &*cancel;
                let mut end = "awake";
                while !wake::is_cancelled(word) {
                    let expected = wake::prepare_wait(bell.word());
                    let slept = bell.futex().wait(&[(bell.word(), expected), (word, 0)]);
                    end = if slept { "slept" } else { "not asleep" };
                }
                assert_eq!(reason.load(Ordering::Relaxed), 7, "cancelled for no reason");
                outcomes.saw(end);
            })
        };
        let (word, reason) = &*cancel;
        reason.store(7, Ordering::Relaxed);
        wake::cancel(word);
        bell.futex().wake_all();
        waiting.join().unwrap();
    });
}
