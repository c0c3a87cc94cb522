//! The cost of one message on one core, beside the yardstick: a sequentially consistent fence.
//!
//! `publish` writes to a ring that nobody reads; `receive` reads from a ring that was filled
//! before, so that no empty poll is timed. `seqring bench throughput` measures the same and
//! alternates with the fence, for ratios.

use std::hint::black_box;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use bytemuck::Pod;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seqring::{Producer, Ring, Start};

const SLOTS: usize = 1024;

fn ring<T: Pod>(purpose: &str) -> (Ring<T>, Producer<T>) {
    let ring = Ring::builder(&format!("bench-{purpose}-{}", std::process::id()))
        .slots(SLOTS)
        .prefault(true)
        .create()
        .expect("a ring");
    let producer = ring.producer().expect("a producer");
    (ring, producer)
}

fn yardstick(c: &mut Criterion) {
    c.bench_function("fence/seq_cst", |b| {
        let mut word = 0u64;
        b.iter(|| {
            word = black_box(word + 1);
            fence(Ordering::SeqCst);
        });
    });
}

fn publish<const WORDS: usize>(c: &mut Criterion)
where
    [u64; WORDS]: Pod,
{
    let mut group = c.benchmark_group("publish");
    group.throughput(Throughput::Bytes(8 * WORDS as u64));
    let (ring, mut producer) = ring::<[u64; WORDS]>("publish");
    let mut message = [0; WORDS];
    group.bench_function(BenchmarkId::from_parameter(format!("{}B", 8 * WORDS)), |b| {
        b.iter(|| {
            message[0] += 1;
            producer.publish(black_box(&message))
        });
    });
    let consumers: Vec<_> = (0..1000).map(|_| ring.consumer().attach()).collect();
    group.bench_function(
        BenchmarkId::from_parameter(format!("{}B, 1000 idle consumers", 8 * WORDS)),
        |b| {
            b.iter(|| {
                message[0] += 1;
                producer.publish(black_box(&message))
            });
        },
    );
    drop(consumers);
    group.finish();
}

fn receive<const WORDS: usize>(c: &mut Criterion)
where
    [u64; WORDS]: Pod,
{
    let mut group = c.benchmark_group("receive");
    group.throughput(Throughput::Bytes(8 * WORDS as u64));
    let (ring, mut producer) = ring::<[u64; WORDS]>("receive");
    let mut consumer = ring.consumer().attach();
    group.bench_function(BenchmarkId::from_parameter(format!("{}B", 8 * WORDS)), |b| {
        b.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let filled = left.min(SLOTS as u64 / 2);
                for _ in 0..filled {
                    producer.publish(&[left; WORDS]);
                }
                let start = Instant::now();
                for _ in 0..filled {
                    black_box(consumer.try_recv().expect("a message"));
                }
                elapsed += start.elapsed();
                left -= filled;
            }
            elapsed
        });
    });
    consumer.seek(Start::Next);
    group.finish();
}

criterion_group!(benches, yardstick, publish::<1>, publish::<6>, receive::<1>, receive::<6>);
criterion_main!(benches);
