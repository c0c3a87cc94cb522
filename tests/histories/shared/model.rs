//! A ring with several producers in slow motion: correct by its simplicity, step by step in any
//! order, for the checker to accept.

use crate::history::Span;
use crate::plan::{Policy, margin};
use crate::shared::{Call, Counters, Event, History, Id, Outcome, Produced, Seen};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % end as u64) as usize
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Claimed(Id),
    Ready(Id),
    Tombstone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Called,
    Claimed(u64),
    Written(u64),
    Ended,
}

/// When a call began, and what it will return, once that is decided.
type Receiving = (u64, Option<(Outcome, Counters)>);

struct Ring {
    slots: u64,
    head: u64,
    /// The last sequence of each slot and what became of it.
    contents: Vec<Option<(u64, Content)>>,
}

impl Ring {
    fn slot(&mut self, sequence: u64) -> &mut Option<(u64, Content)> {
        &mut self.contents[(sequence % self.slots) as usize]
    }
}

/// Runs `producers`, of which `deaths` are killed somewhere, and `readers`, which receive to the
/// end.
pub fn run(seed: u64, slots: u64, producers: usize, deaths: usize, readers: usize) -> History {
    let mut random = Random(seed);
    let mut ring = Ring { slots, head: 0, contents: vec![None; slots as usize] };
    let (mut clock, open) = (0, Span { invoked: 0, returned: u64::MAX });
    let mut doing = vec![Doing::Nothing; producers];
    let mut produced = vec![Produced { calls: vec![], killed: false, end: open }; producers];
    let attach = Span { invoked: 0, returned: 0 };
    // Who stays would do so for ever.
    let policies = [Policy::Oldest, Policy::Newest];
    let mut seen: Vec<_> = policies
        .iter()
        .cycle()
        .take(readers)
        .map(|on_lag| Seen { on_lag: *on_lag, gating: false, attach, cursor: 0, events: vec![] })
        .collect();
    let mut calling: Vec<Option<Receiving>> = vec![None; readers];
    let done =
        |seen: &Seen| matches!(seen.events.last(), Some(Event { outcome: Outcome::Closed, .. }));
    while !seen.iter().all(done) {
        clock += 1;
        let index = random.below(producers + readers);
        if index < producers {
            let due = index < deaths
                && produced[index].calls.len() > 5
                && doing[index] != Doing::Ended
                && random.below(8) == 0;
            let calls = produced[index].calls.len();
            if due {
                produced[index].killed = true;
                produced[index].end = Span { invoked: clock, returned: clock + 1 };
                clock += 1;
                doing[index] = Doing::Ended;
                continue;
            }
            doing[index] = match doing[index] {
                Doing::Nothing if calls == 40 => {
                    produced[index].end = Span { invoked: clock, returned: clock };
                    Doing::Ended
                }
                Doing::Nothing => {
                    produced[index].calls.push(Call {
                        sequence: None,
                        span: Span { invoked: clock, returned: u64::MAX },
                    });
                    Doing::Called
                }
                Doing::Called => {
                    claim(&mut ring, &produced, Id { producer: index, number: calls - 1 })
                }
                Doing::Claimed(sequence) => {
                    *ring.slot(sequence) =
                        Some((sequence, Content::Ready(Id { producer: index, number: calls - 1 })));
                    Doing::Written(sequence)
                }
                Doing::Written(sequence) => {
                    let call = &mut produced[index].calls[calls - 1];
                    (call.sequence, call.span.returned) = (Some(sequence), clock);
                    Doing::Nothing
                }
                Doing::Ended => Doing::Ended,
            };
            continue;
        }
        let index = index - producers;
        if done(&seen[index]) {
            continue;
        }
        calling[index] = match calling[index].take() {
            None => Some((clock, None)),
            Some((invoked, None)) => {
                let now =
                    seen[index].events.last().map_or(Counters::default(), |event| event.after);
                let most = 1 + random.below(4);
                let ended = doing.iter().all(|doing| *doing == Doing::Ended);
                Some((
                    invoked,
                    Some(receive(&mut ring, &produced, seen[index].on_lag, now, most, ended)),
                ))
            }
            Some((invoked, Some((outcome, after)))) => {
                seen[index].events.push(Event {
                    span: Span { invoked, returned: clock },
                    outcome,
                    after,
                });
                None
            }
        };
    }
    History { slots, producers: produced, readers: seen }
}

/// Claims the next sequence, unless its slot is in use.
fn claim(ring: &mut Ring, produced: &[Produced], id: Id) -> Doing {
    let sequence = ring.head;
    match *ring.slot(sequence) {
        Some((before, Content::Claimed(other))) if produced[other.producer].killed => {
            *ring.slot(sequence) = Some((before, Content::Tombstone));
            Doing::Called
        }
        Some((_, Content::Claimed(_))) => Doing::Called,
        _ => {
            *ring.slot(sequence) = Some((sequence, Content::Claimed(id)));
            ring.head += 1;
            Doing::Claimed(sequence)
        }
    }
}

/// Receives at most so many.
fn receive(
    ring: &mut Ring,
    produced: &[Produced],
    on_lag: Policy,
    mut now: Counters,
    most: usize,
    ended: bool,
) -> (Outcome, Counters) {
    let mut messages = Vec::new();
    let outcome = loop {
        if messages.len() == most {
            break Outcome::Messages(messages);
        }
        let mut next = now;
        let otherwise = match *ring.slot(now.cursor) {
            Some((sequence, content)) if sequence == now.cursor => match content {
                Content::Ready(id) => {
                    messages.push(Some(id));
                    next.received += 1;
                    None
                }
                Content::Claimed(id) if !produced[id.producer].killed => Some(Outcome::Empty),
                // A batch ends before tombstones.
                Content::Claimed(_) | Content::Tombstone if !messages.is_empty() => {
                    Some(Outcome::Empty)
                }
                Content::Claimed(_) | Content::Tombstone => {
                    next.tombstones += 1;
                    None
                }
            },
            Some((sequence, _)) if sequence > now.cursor => {
                let target = match on_lag {
                    Policy::Oldest => ring.head - ring.slots + margin(ring.slots),
                    Policy::Newest => ring.head - 1,
                    Policy::Stay => unreachable!("no reader stays"),
                };
                Some(Outcome::Lagged(target.max(now.cursor + 1) - now.cursor))
            }
            _ if ended => Some(Outcome::Closed),
            _ => Some(Outcome::Empty),
        };
        let Some(otherwise) = otherwise else {
            next.cursor += 1;
            now = next;
            continue;
        };
        if !messages.is_empty() {
            break Outcome::Messages(messages);
        }
        if let Outcome::Lagged(n) = otherwise {
            now.cursor += n;
            now.lost += n;
        }
        break otherwise;
    };
    (outcome, now)
}
