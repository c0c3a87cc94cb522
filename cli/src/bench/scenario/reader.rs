//! A reader process of a scenario.

use std::time::Duration;

use anyhow::Result;

use super::child::{self, Link};
use super::outcome::latency_histogram;
use super::payload;
use super::protocol::{ReaderFigures, ReaderTask, Report};
use super::tally::{Counts, Tally};
use crate::clock;
use crate::engine::Received;

/// A receive gives up after this, only to start again: nothing depends on it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Does the task that the parent sends on standard input, as reader number `row`.
///
/// # Errors
///
/// Whatever keeps it from being done; the parent hears of it too.
pub fn run(row: usize) -> Result<()> {
    child::run(|| {
        let (task, link) = Link::connect::<ReaderTask>()?;
        let message_bytes = task.channel.slot_bytes;
        let mut receiver = task.channel.receiver(row)?;
        let mut tally = Tally::new(message_bytes, task.verify, task.channel.writers);
        let mut latencies = latency_histogram();
        let mut latency_max_ns = 0;
        // Filled, so that its pages are there before the first message.
        let mut message = vec![1; message_bytes];
        clock::ask_for_precise_sleep();
        link.wait_for_start()?;

        let cpu_before = clock::process_cpu_seconds();
        let start_ns = clock::monotonic_ns();
        loop {
            match receiver.receive(&mut message, PATIENCE)? {
                Received::Message(position) => {
                    let now_ns = clock::monotonic_ns();
                    if let Some(head) = payload::head(&message) {
                        let latency_ns = now_ns.saturating_sub(head.sent_ns);
                        latencies.saturating_record(latency_ns);
                        latency_max_ns = latency_max_ns.max(latency_ns);
                    }
                    tally.received(&message, position);
                    if task.burn_ns > 0 {
                        clock::burn_cpu(task.burn_ns);
                    }
                }
                Received::Lagged(messages) => tally.lost(messages),
                Received::Nothing => {}
                Received::Closed => break,
            }
        }
        Ok(Report::Reader(ReaderFigures {
            counts: Counts {
                tombstones: receiver.tombstones(),
                sleeps: receiver.sleeps(),
                ..tally.counts()
            },
            order: tally.order(),
            seconds: (clock::monotonic_ns() - start_ns) as f64 / 1e9,
            cpu_seconds: clock::process_cpu_seconds() - cpu_before,
            latency_max_ns,
            latencies: latencies
                .iter_recorded()
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect(),
        }))
    })
}
