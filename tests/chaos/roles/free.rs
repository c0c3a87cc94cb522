//! A consumer that is nobody's business.

use seqring::{OnLag, Ring, Start};

use crate::roles::reading::Terms;
use crate::roles::{Kind, Role, reading};
use crate::stage::Stage;
use crate::support::role::PATIENCE;

pub static ROLE: Role =
    Role { name: "free reader", kind: Kind::Receives, mortals: 2, veterans: 1, weight: 1, play };

/// Receives until the ring is closed, from anywhere.
fn play(stage: &mut Stage) {
    // Through a mapping that can be written, a free reader can sleep until it is woken; otherwise
    // it naps.
    let ring =
        Ring::<[u8]>::options(&stage.ring).read_only(stage.random.one_in(2)).wait(PATIENCE).open();
    let ring = ring.unwrap_or_else(|error| panic!("the reader cannot start: {error}"));
    let start = [Start::Next, Start::Newest, Start::Oldest][stage.random.below(3) as usize];
    let on_lag = [OnLag::Oldest, OnLag::Newest][stage.random.below(2) as usize];
    let mut consumer =
        ring.consumer().start(start).on_lag(on_lag).wait_strategy(stage.wait_strategy()).attach();
    reading::follow(stage, &ring, &mut consumer, Terms { lossless: false, enough: u64::MAX });
}
