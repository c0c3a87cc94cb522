//! The public API where it matters: between processes.

mod support;

#[path = "processes/creation.rs"]
mod creation;
#[path = "processes/gating.rs"]
mod gating;
#[path = "processes/life.rs"]
mod life;
#[path = "processes/limits.rs"]
mod limits;
#[path = "processes/peer.rs"]
mod peer;
#[path = "processes/resume.rs"]
mod resume;

#[test]
fn role() {
    if let Some((_, argument)) = support::role::current() {
        peer::run(&argument);
    }
}
