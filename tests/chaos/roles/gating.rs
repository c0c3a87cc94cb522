//! A consumer that the producer waits for.

use seqring::Ring;

use crate::roles::reading::Terms;
use crate::roles::{Kind, Role, reading};
use crate::stage::Stage;
use crate::support::role::PATIENCE;

pub static ROLE: Role =
    Role { name: "gating reader", kind: Kind::Gates, mortals: 3, veterans: 1, weight: 1, play };

/// Receives until the ring is closed, without a gap, whatever happens to the others.
fn play(stage: &mut Stage) {
    let ring = Ring::<[u8]>::open_wait(&stage.ring, PATIENCE)
        .unwrap_or_else(|error| panic!("the reader cannot start: {error}"));
    let consumer =
        ring.consumer().wait_strategy(stage.wait_strategy()).name(ROLE.name).gating().attach();
    let mut consumer =
        consumer.unwrap_or_else(|error| panic!("the reader cannot register: {error}"));
    reading::follow(stage, &ring, &mut consumer, Terms { lossless: true, enough: u64::MAX });
    assert_eq!(consumer.lost(), 0);
}
