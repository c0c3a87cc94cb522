//! The demo without a terminal: lines.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::live::{Scene, Show};
use crate::bench::output::{figure, nanoseconds};
use crate::console::print;

/// Seconds between two blocks of lines.
const PERIOD: f64 = 1.0;

/// Prints events as they come, and a block of lines a second.
#[derive(Debug)]
pub struct Plain {
    events: usize,
    next_block: f64,
}

impl Plain {
    /// Nothing printed yet.
    pub fn new() -> Self {
        Self { events: 0, next_block: PERIOD }
    }
}

impl Show for Plain {
    fn show(&mut self, scene: &Scene, patience: Duration) -> Result<bool> {
        for (seconds, event) in &scene.events[self.events..] {
            print(&format!("{seconds:5.1} s  {event}\n"))?;
        }
        self.events = scene.events.len();
        if scene.elapsed_seconds >= self.next_block {
            self.next_block += PERIOD;
            print(&block(scene))?;
        }
        thread::sleep(patience);
        Ok(false)
    }
}

fn block(scene: &Scene) -> String {
    let mut lines = format!(
        "{:5.1} s  {:<12} {:>9} msg/s\n",
        scene.elapsed_seconds,
        scene.producer.name,
        figure(scene.producer.rate())
    );
    for reader in scene.readers.iter().filter(|reader| !reader.is_killed()) {
        let Some(stats) = reader.stats() else { continue };
        lines += &format!(
            "         {:<12} {:>9} msg/s  lag {:>5}  lost {:>8}  sleeps {:>6}  latency p50 {:>8}, p99 {:>8}\n",
            reader.name,
            figure(reader.rate()),
            stats.lag,
            stats.lost,
            stats.sleeps,
            nanoseconds(stats.p50_ns as f64),
            nanoseconds(stats.p99_ns as f64),
        );
    }
    lines
}
