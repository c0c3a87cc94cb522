//! Which mutants of the kept result are run again.

use std::path::Path;
use std::process::Command;

use crate::command;

/// The seed of a checkout: from the commit's id, or `None` outside of a repository.
pub fn seed_of_commit(root: &Path) -> Option<u64> {
    let mut git = Command::new("git");
    let id = command::output(git.current_dir(root).args(["rev-parse", "HEAD"])).ok()?;
    u64::from_str_radix(id.trim().get(..16)?, 16).ok()
}

/// `count` different numbers below `total`, sorted; all of them if `count` is not smaller. The same
/// seed chooses the same numbers.
pub fn choose(total: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..total).collect();
    let mut state = seed;
    let count = count.min(total);
    for place in 0..count {
        let left = (total - place) as u64;
        numbers.swap(place, place + (split_mix(&mut state) % left) as usize);
    }
    numbers.truncate(count);
    numbers.sort_unstable();
    numbers
}

/// The generator SplitMix64: every seed, zero too, gives numbers that look independent.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_size_and_no_repetition() {
        for seed in 0..50 {
            let chosen = choose(45, 6, seed);
            assert_eq!(chosen.len(), 6);
            assert!(chosen.is_sorted_by(|a, b| a < b) && chosen[5] < 45, "{chosen:?}");
        }
        assert_eq!(choose(3, 6, 1), [0, 1, 2]);
        assert!(choose(3, 0, 1).is_empty());
    }

    #[test]
    fn the_seed_decides_and_every_mutant_is_reached() {
        assert_eq!(choose(45, 6, 7), choose(45, 6, 7));
        assert_ne!(choose(45, 6, 7), choose(45, 6, 8));
        let reached: std::collections::BTreeSet<usize> =
            (0..200).flat_map(|seed| choose(45, 6, seed)).collect();
        assert_eq!(reached.len(), 45);
    }
}
