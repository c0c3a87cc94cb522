//! Runs a model to its end, or fails.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use loom::model::Builder;

/// Preemptions per execution where `LOOM_MAX_PREEMPTIONS` does not say otherwise.
const PREEMPTIONS: usize = 3;

/// A model with more executions than this fails, unless `SEQRING_LOOM_MAX_ITERATIONS` says
/// otherwise: it would be stopped by somebody's patience instead, and a model that was stopped has
/// proved nothing.
const MOST_ITERATIONS: u64 = 5_000_000;

/// Which executions of a model are explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// All of them.
    Complete,
    /// Those in which no more than `LOOM_MAX_PREEMPTIONS` times (default: 3) a thread is
    /// interrupted that could go on.
    Preemptions,
}

/// Counts, over all executions of a model, how often it came to each of the ends that it must be
/// able to come to.
#[derive(Debug)]
pub struct Outcomes(Vec<(&'static str, AtomicU64)>);

impl Outcomes {
    /// Notes that this execution saw `outcome`.
    ///
    /// # Panics
    /// If the model did not announce `outcome` to [`explore`].
    pub fn saw(&self, outcome: &str) {
        let known = self.0.iter().find(|(name, _)| *name == outcome);
        known
            .unwrap_or_else(|| {
                panic!("outcome {outcome:?} is not in the list given to explore(): add it")
            })
            .1
            .fetch_add(1, Relaxed);
    }
}

/// Explores `model` and prints the number of executions and of each outcome.
///
/// Loom's own caps, which end a run early and call it a success, are switched off.
///
/// # Panics
/// With whatever `model` panics with; with `capped: ...` if there are too many executions; and with
/// `void: ...` if one of `outcomes` was never seen, because a model that explores only one course
/// of events proves nothing about the other.
pub fn explore<F>(name: &'static str, bound: Bound, outcomes: &[&'static str], model: F)
where
    F: Fn(&Arc<Outcomes>) + Send + Sync + 'static,
{
    let most = most_iterations();
    let mut builder = Builder::new();
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder.preemption_bound = match bound {
        Bound::Complete => None,
        Bound::Preemptions => Some(builder.preemption_bound.unwrap_or(PREEMPTIONS)),
    };
    let shown_bound = builder
        .preemption_bound
        .map_or("complete".to_owned(), |bound| format!("at most {bound} preemptions"));

    let seen =
        Arc::new(Outcomes(outcomes.iter().map(|outcome| (*outcome, AtomicU64::new(0))).collect()));
    let iterations = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let (seen_by_model, counter) = (seen.clone(), iterations.clone());
    builder.check(move || {
        let iteration = counter.fetch_add(1, Relaxed) + 1;
        assert!(
            iteration <= most,
            "capped: model {name} has more than {most} iterations; make it smaller, or set SEQRING_LOOM_MAX_ITERATIONS"
        );
        model(&seen_by_model);
    });
    let seconds = start.elapsed().as_secs_f64();
    let counts: Vec<String> = seen
        .0
        .iter()
        .map(|(outcome, count)| format!("{outcome}: {}", count.load(Relaxed)))
        .collect();
    println!(
        "model {name}: {} iterations in {seconds:.1} s ({shown_bound}); {}",
        iterations.load(Relaxed),
        counts.join(", ")
    );
    for (outcome, count) in &seen.0 {
        assert!(count.load(Relaxed) > 0, "void: no execution of model {name} came to {outcome:?}");
    }
}

fn most_iterations() -> u64 {
    match env::var("SEQRING_LOOM_MAX_ITERATIONS") {
        Ok(text) => text.parse().unwrap_or_else(|e| {
            panic!("SEQRING_LOOM_MAX_ITERATIONS={text:?} is not a number of iterations: {e}")
        }),
        Err(_) => MOST_ITERATIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "void: no execution of model deaf came to \"never\"")]
    fn a_model_that_misses_an_outcome_fails() {
        explore("deaf", Bound::Complete, &["always", "never"], |outcomes| outcomes.saw("always"));
    }

    #[test]
    #[should_panic(expected = "is not in the list")]
    fn an_outcome_must_be_announced() {
        explore("typo", Bound::Complete, &["accepted"], |outcomes| outcomes.saw("acepted"));
    }
}
