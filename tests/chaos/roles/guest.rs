//! A consumer that registers and leaves again, over and over, and that nobody waits for.

use seqring::{Ring, Start};

use crate::roles::reading::{Ended, Terms};
use crate::roles::{Kind, Role, SLOTS, reading};
use crate::stage::Stage;
use crate::support::role::PATIENCE;

pub static ROLE: Role =
    Role { name: "guest", kind: Kind::Registers, mortals: 2, veterans: 0, weight: 1, play };

/// Comes and goes until the ring is closed.
fn play(stage: &mut Stage) {
    let ring = Ring::<[u8]>::open_wait(&stage.ring, PATIENCE)
        .unwrap_or_else(|error| panic!("the guest cannot start: {error}"));
    loop {
        let start = [Start::Next, Start::Oldest][stage.random.below(2) as usize];
        let consumer = ring
            .consumer()
            .start(start)
            .wait_strategy(stage.wait_strategy())
            .name(ROLE.name)
            .attach();
        let mut consumer =
            consumer.unwrap_or_else(|error| panic!("the guest cannot register: {error}"));
        let enough = stage.random.below(8 * SLOTS as u64);
        if reading::follow(stage, &ring, &mut consumer, Terms { lossless: false, enough })
            == Ended::Closed
        {
            return;
        }
    }
}
