//! Histories of real threads and real processes, checked against the specification.

mod check;
mod corrupt;
mod gate;
mod history;
mod payload;
mod plan;
mod record;
mod run;
mod shared;
#[path = "../support/mod.rs"]
mod support;

use proptest::prelude::*;

use crate::check::check;
use crate::history::History;
use crate::plan::{gating_plans, plans};

/// Runs are not repeatable, so there is nothing to keep for the next time.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    }
}

fn expect_correct(history: &History) -> Result<(), TestCaseError> {
    let violations = check(history);
    let shown: Vec<String> =
        violations.iter().take(5).map(|violation| format!("{violation:?}")).collect();
    prop_assert!(
        violations.is_empty(),
        "{} violations, the first:\n{}",
        violations.len(),
        shown.join("\n")
    );
    Ok(())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn threads_see_what_the_specification_allows(plan in plans(60)) {
        expect_correct(&run::threads(&plan))?;
    }
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn processes_see_what_the_specification_allows(plan in plans(60)) {
        expect_correct(&run::processes(&plan))?;
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn threads_that_gate_lose_nothing(plan in gating_plans(16)) {
        expect_correct(&run::threads(&plan))?;
    }
}

proptest! {
    #![proptest_config(cases(25))]

    #[test]
    fn processes_that_gate_lose_nothing(plan in gating_plans(16)) {
        expect_correct(&run::processes(&plan))?;
    }
}

/// The same for several producers.
fn expect_one_order(history: &shared::History) -> Result<(), TestCaseError> {
    let broken = shared::check::check(history);
    let shown: Vec<String> = broken.iter().take(5).map(|broken| format!("{broken:?}")).collect();
    prop_assert!(
        broken.is_empty(),
        "{} violations, the first:\n{}",
        broken.len(),
        shown.join("\n")
    );
    Ok(())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn threads_see_one_order_of_several_producers(plan in shared::run::plans(12, false)) {
        expect_one_order(&shared::run::threads(&plan))?;
    }

    #[test]
    fn threads_that_gate_lose_nothing_of_several_producers(plan in shared::run::plans(8, true)) {
        expect_one_order(&shared::run::threads(&plan))?;
    }
}

proptest! {
    #![proptest_config(cases(25))]

    #[test]
    fn processes_see_one_order_of_several_producers(plan in shared::run::plans(12, false)) {
        expect_one_order(&shared::run::processes(&plan))?;
    }

    #[test]
    fn processes_that_gate_lose_nothing_of_several_producers(plan in shared::run::plans(8, true)) {
        expect_one_order(&shared::run::processes(&plan))?;
    }
}

#[test]
fn role() {
    match support::role::current() {
        Some((role, argument)) if role.starts_with("crew-") => shared::run::child(&role, &argument),
        Some((role, argument)) => run::child(&role, &argument),
        None => {}
    }
}
