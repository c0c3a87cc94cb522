//! Large messages, beside memcpy.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use seqring::{IfExists, Ring, Start};

use super::Bench;
use super::row::{Beside, Row, Timed};
use crate::bench::output;
use crate::bench::stats::Quartiles;
use crate::engine::Engine;

const SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
/// Rings of small messages have slots for this many bytes, so that a lap takes long enough to be
/// timed.
const RING_BYTES: usize = 512 << 10;
/// Rings of large messages have this many slots.
const FEWEST_SLOTS: usize = 8;
/// Where the copies of memcpy begin: on a cache line, as those in a ring do.
const LINE: usize = 64;

/// Measures each size.
pub fn run(bench: &mut Bench<'_>, rows: &mut Vec<Row>) -> Result<()> {
    for bytes in SIZES {
        run_size(bench, bytes, rows)?;
    }
    Ok(())
}

fn run_size(bench: &mut Bench<'_>, bytes: usize, rows: &mut Vec<Row>) -> Result<()> {
    let slots = (RING_BYTES / bytes).max(FEWEST_SLOTS);
    let ring = Ring::<[u8]>::builder(&bench.session.name(&format!("bulk-{bytes}")))
        .slots(slots)
        .slot_bytes(bytes)
        .if_exists(IfExists::Error)
        .prefault(true)
        .create()?;
    let mut producer = ring.producer()?;
    let mut consumer = ring.consumer().start(Start::Next).attach();
    let mut private = Private::new(slots, bytes);
    let message: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
    let mut landing = vec![0; bytes];

    let rounds = bench.rounds_alone(&format!("bulk-copy {}", output::bytes(bytes)), || {
        let copied_out = private.lap(|slot| slot.copy_from_slice(black_box(&message)));
        let start = Instant::now();
        for _ in 0..slots {
            producer.publish(black_box(&message))?;
        }
        let published = start.elapsed();

        let copied_in = private.lap(|slot| black_box(&mut landing[..]).copy_from_slice(slot));
        let start = Instant::now();
        for _ in 0..slots {
            consumer.try_recv_into(&mut landing)?;
            black_box(&landing);
        }
        let received = start.elapsed();
        ensure!(landing == message, "a message of {bytes} bytes arrived damaged");
        Ok([(copied_out, published), (copied_in, received)])
    })?;

    for (index, mode) in ["bulk-copy-publish", "bulk-copy-receive"].into_iter().enumerate() {
        let timed: Vec<_> = rounds
            .iter()
            .map(|(floor_ns, pairs)| Timed {
                messages: slots as u64,
                ns: pairs[index].1.as_nanos() as f64,
                floor_ns: *floor_ns,
            })
            .collect();
        let ratio = Quartiles::of(
            rounds
                .iter()
                .map(|(_, pairs)| pairs[index].0.as_secs_f64() / pairs[index].1.as_secs_f64()),
        );
        let memcpy = Quartiles::of(
            rounds.iter().map(|(_, pairs)| (slots * bytes) as f64 / pairs[index].0.as_secs_f64()),
        );
        let beside = Beside::Memcpy {
            memcpy_bytes_per_second: memcpy.median,
            ratio_to_memcpy: ratio.median,
            ratio_q1: ratio.q1,
            ratio_q3: ratio.q3,
        };
        rows.push(Row { beside: Some(beside), ..Row::new(Engine::Ring, mode, bytes, 1, &timed) });
    }
    Ok(())
}

/// Private memory of the same shape as the ring: as many places, as far apart, as aligned.
struct Private {
    memory: Vec<u8>,
    start: usize,
    slots: usize,
    bytes: usize,
}

impl Private {
    fn new(slots: usize, bytes: usize) -> Self {
        let memory = vec![1; slots * (bytes + LINE) + LINE];
        let start = memory.as_ptr().align_offset(LINE);
        Self { memory, start, slots, bytes }
    }

    /// Visits each place once. `copy_from_slice` of a length that the compiler does not know is a
    /// call to memcpy.
    fn lap(&mut self, mut visit: impl FnMut(&mut [u8])) -> Duration {
        let Self { memory, start, slots, bytes } = self;
        let start_of = |slot: usize| *start + slot * (*bytes + LINE);
        let began = Instant::now();
        for slot in 0..*slots {
            visit(black_box(&mut memory[start_of(slot)..][..*bytes]));
        }
        began.elapsed()
    }
}
