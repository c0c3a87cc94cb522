//! Publishes a tick each millisecond for five seconds; start `consumer` beside it.

use seqring::Ring;
use std::{thread, time::Duration};

fn main() -> Result<(), seqring::Error> {
    let ring = Ring::<[f64; 2]>::builder("ticks").slots(1024).create()?;
    let mut producer = ring.producer()?;
    for i in 0..5000 {
        producer.publish(&[1.0 + f64::from(i) / 1e4, 100.0]); // price, size
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
