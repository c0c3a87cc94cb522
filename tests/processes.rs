//! The public API where it matters: between processes.

mod support;

#[path = "processes/creation.rs"]
mod creation;
#[path = "processes/fork.rs"]
mod fork;
#[path = "processes/gating.rs"]
mod gating;
#[path = "processes/life.rs"]
mod life;
#[path = "processes/limits.rs"]
mod limits;
#[path = "processes/merge.rs"]
mod merge;
#[path = "processes/peer.rs"]
mod peer;
#[path = "processes/resume.rs"]
mod resume;
#[path = "processes/shared_producers.rs"]
mod shared_producers;
#[path = "processes/waiting.rs"]
mod waiting;

#[test]
fn role() {
    match support::role::current() {
        Some((role, name)) if role == fork::ROLE => fork::run(&name),
        Some((role, argument)) if role == "author" => shared_producers::author(&argument),
        Some((role, argument)) if role == merge::ROLE => merge::run(&argument),
        Some((role, name)) if role == "half" => shared_producers::half(&name),
        Some((role, name)) if role == "forks_busily" => fork::run_busily(&name),
        Some((_, name)) => peer::run(&name),
        None => {}
    }
}
