//! The order of an epoch, and where its randomness comes from.
//!
//! Every use has a generator of its own, seeded with SHA-256 of a purpose and the numbers that it may depend on. So no
//! draw shifts another, and nothing depends on how a library shuffles.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// A generator for one purpose.
pub(crate) fn generator(purpose: &str, numbers: &[u64], name: &str) -> ChaCha12Rng {
    let mut digest = Sha256::new();
    digest.update((purpose.len() as u64).to_le_bytes());
    digest.update(purpose);
    for number in numbers {
        digest.update(number.to_le_bytes());
    }
    digest.update(name);
    ChaCha12Rng::from_seed(digest.finalize().into())
}

/// Shuffles as Fisher and Yates do: every order is equally probable.
pub(crate) fn shuffle<T>(values: &mut [T], generator: &mut ChaCha12Rng) {
    for last in (1..values.len()).rev() {
        let chosen = below(last as u64 + 1, generator);
        values.swap(last, chosen as usize);
    }
}

/// A number in 0..`bound`, each equally probable: draws in the incomplete last run of `bound` numbers are repeated.
fn below(bound: u64, generator: &mut ChaCha12Rng) -> u64 {
    let rest = (u64::MAX % bound + 1) % bound;
    loop {
        let draw = generator.next_u64();
        if draw <= u64::MAX - rest {
            return draw % bound;
        }
    }
}

/// Rounds over the types; see [`super::Dataset::balanced_order`].
pub(super) fn balanced(kinds: BTreeMap<&str, Vec<usize>>, seed: u64, epoch: u64) -> Vec<usize> {
    let mut queues: Vec<std::vec::IntoIter<usize>> = kinds
        .into_iter()
        .map(|(kind, mut indices)| {
            shuffle(&mut indices, &mut generator("order within a type", &[seed, epoch], kind));
            indices.into_iter()
        })
        .collect();
    let mut rounds = generator("order of the types", &[seed, epoch], "");
    let mut order = Vec::new();
    while !queues.is_empty() {
        shuffle(&mut queues, &mut rounds);
        order.extend(queues.iter_mut().filter_map(Iterator::next));
        queues.retain(|queue| queue.len() > 0);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> BTreeMap<&'static str, Vec<usize>> {
        BTreeMap::from([("a", (0..10).collect()), ("b", (10..13).collect()), ("c", (13..20).collect())])
    }

    #[test]
    fn every_problem_comes_once_and_rounds_are_balanced() {
        let order = balanced(kinds(), 7, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        let kind = |index: &usize| {
            if *index < 10 {
                'a'
            } else if *index < 13 {
                'b'
            } else {
                'c'
            }
        };
        // Three types for three rounds, then two for four, then the largest alone.
        for round in order.get(..9).unwrap_or_default().chunks(3) {
            assert_eq!(round.iter().map(kind).collect::<std::collections::BTreeSet<_>>().len(), 3);
        }
        for round in order.get(9..17).unwrap_or_default().chunks(2) {
            assert_eq!(round.iter().map(kind).collect::<String>().len(), 2);
            assert_ne!(round.first().map(kind), round.last().map(kind));
        }
        assert!(order.iter().skip(17).all(|index| kind(index) == 'a'));
    }

    #[test]
    fn the_order_is_a_function_of_seed_and_epoch() {
        assert_eq!(balanced(kinds(), 7, 1), balanced(kinds(), 7, 1));
        assert_ne!(balanced(kinds(), 7, 1), balanced(kinds(), 7, 2));
        assert_ne!(balanced(kinds(), 8, 1), balanced(kinds(), 7, 1));
        assert!(balanced(BTreeMap::new(), 0, 0).is_empty());
    }

    #[test]
    fn all_orders_of_three_are_equally_probable() {
        let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut generator = generator("test", &[1], "");
        for _ in 0..6000 {
            let mut values = vec![0, 1, 2];
            shuffle(&mut values, &mut generator);
            *counts.entry(values).or_default() += 1;
        }
        // Expected 1000 each with standard deviation sqrt(6000·1/6·5/6) = 28.9; five of them either way.
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| count.abs_diff(1000) < 145), "{counts:?}");
    }
}
