//! Bulk copies beside libc's `memcpy`: a message into the ring and out of it, against the same
//! bytes copied between plain buffers of the same number and size.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seqring::{Ring, Start};

const SLOTS: usize = 4;

fn copies(c: &mut Criterion) {
    for bytes in [1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let mut group = c.benchmark_group(format!("copy {bytes} B"));
        group.throughput(Throughput::Bytes(bytes as u64));
        let source = vec![7u8; bytes];

        let mut buffers = vec![vec![0u8; bytes]; SLOTS];
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter("memcpy in"), |b| {
            b.iter(|| {
                next = (next + 1) % SLOTS;
                buffers[next].copy_from_slice(black_box(&source));
                black_box(&buffers[next]);
            });
        });

        let name = format!("bench-copy-{}", std::process::id());
        let ring = Ring::<[u8]>::builder(&name)
            .slots(SLOTS)
            .slot_bytes(bytes)
            .prefault(true)
            .create()
            .expect("a ring");
        let mut producer = ring.producer().expect("a producer");
        group.bench_function(BenchmarkId::from_parameter("publish"), |b| {
            b.iter(|| producer.publish(black_box(&source)).expect("it fits"));
        });

        let mut target = vec![0u8; bytes];
        group.bench_function(BenchmarkId::from_parameter("memcpy out"), |b| {
            b.iter(|| {
                next = (next + 1) % SLOTS;
                target.copy_from_slice(black_box(&buffers[next]));
                black_box(&target);
            });
        });

        for _ in 0..SLOTS {
            producer.publish(&source).expect("it fits");
        }
        let mut consumer = ring.consumer().start(Start::Oldest).attach();
        let mut received = Vec::with_capacity(bytes);
        group.bench_function(BenchmarkId::from_parameter("receive"), |b| {
            b.iter(|| {
                // The ring stays as it is: go round the messages that are there.
                if consumer.lag() == 0 {
                    consumer.seek(Start::Oldest);
                }
                consumer.try_recv_into(&mut received).expect("a message");
                black_box(&received);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, copies);
criterion_main!(benches);
