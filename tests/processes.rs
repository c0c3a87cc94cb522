//! The public API where it matters: between processes.

mod support;

#[path = "processes/creation.rs"]
mod creation;
#[path = "processes/crew.rs"]
mod crew;
#[path = "processes/fork.rs"]
mod fork;
#[path = "processes/gating.rs"]
mod gating;
#[path = "processes/lanes.rs"]
mod lanes;
#[path = "processes/life.rs"]
mod life;
#[path = "processes/limits.rs"]
mod limits;
#[path = "processes/peer.rs"]
mod peer;
#[path = "processes/resume.rs"]
mod resume;
#[path = "processes/waiting.rs"]
mod waiting;

#[test]
fn role() {
    match support::role::current() {
        Some((role, name)) if role == fork::ROLE => fork::run(&name),
        Some((role, argument)) if role == "author" => crew::author(&argument),
        Some((role, argument)) if role == lanes::ROLE => lanes::run(&argument),
        Some((role, name)) if role == "half" => crew::half(&name),
        Some((role, name)) if role == "forks_busily" => fork::run_busily(&name),
        Some((_, name)) => peer::run(&name),
        None => {}
    }
}
