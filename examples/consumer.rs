//! Prints the ticks of `producer`; may be started before or behind it, any number of times.

use seqring::Ring;
use std::time::Duration;

fn main() -> Result<(), seqring::Error> {
    let ring = Ring::<[f64; 2]>::open_wait("ticks", Duration::from_secs(10))?;
    for tick in ring.consumer().attach().iter() {
        match tick {
            Ok([price, size]) => println!("{size} at {price}"),
            Err(lagged) => eprintln!("too slow: {lagged}"),
        }
    }
    Ok(())
}
