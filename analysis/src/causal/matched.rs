//! Random adapters that do as much: scaled until they change the base's answers to one set by as much as the adapter
//! does, and what they change of the other sets then.
//!
//! A random adapter of the same singular values changes answers hundreds of times less than a trained one, and what it
//! does to one set over another is no measure there: while a change is small, answers that the base is unsure of move
//! most, and as it grows, all move alike. On the nano reasoner refusals move 30 to 90 times as much as general answers
//! under random changes of a tenth of the weights, and 1.3 to 1.9 times under changes of six tenths.

use lcr_documents::statistics::median;
use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, ModelError};

use super::dose::scaled;
use super::pass::{Pair, Prompts, divergences};
use crate::AuditError;
use crate::evidence::random::random_adapter;
use crate::evidence::{BaseAnswers, ProbeSet};

/// A change within this factor of the wanted one is as large.
const AS_LARGE: f64 = 1.5;
/// Strengths that are tried.
const TRIES: usize = 4;
/// Adapters and prompts that the strength is looked for with: a change need only be met about.
const LOOKED_WITH: usize = 3;
const LOOKED_ON: usize = 6;
/// The power of the strength that divergence grows with, where nothing is known: the first term of its expansion.
const QUADRATIC: f64 = 2.0;
/// Nats per answer token that stand for a model whose numbers overflow: more than any.
const OVERFLOWS: f64 = 100.0;

/// The models that are compared, and the set on which random adapters are to do as much as the adapter.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// The adapter.
    pub adapter: &'a BoundAdapter,
    /// The probes.
    pub sets: &'a [ProbeSet],
    /// What the base answered to them.
    pub base: &'a BaseAnswers,
    /// The set, by its place.
    pub general: usize,
}

impl Matched<'_> {
    /// What the change of adapters like `random` is to be multiplied by so that they change answers to the set by
    /// `wanted` nats per token, and what they then change them by; as they are they change them by `at_one`. Changes of
    /// few modules never do as much as is wanted: then it is the nearest that was found.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn strength(&self, random: &[BoundAdapter], at_one: f64, wanted: f64) -> Result<(f64, f64), AuditError> {
        let mut prompts = Prompts::of_sets(self.sets, self.base, &[self.general]);
        prompts.ids.truncate(LOOKED_ON);
        let random = &random[..random.len().min(LOOKED_WITH)];
        // (ln strength, ln change), by strength.
        let mut known: Vec<(f64, f64)> = vec![(0.0, at_one.ln())];
        for _ in 0..TRIES {
            if nearest(&known, wanted.ln()).is_some_and(|(_, change)| (change - wanted.ln()).abs() <= AS_LARGE.ln()) {
                break;
            }
            let next = next_strength(&known, wanted.ln());
            let moved = self.changes(random, next.exp(), &prompts)?;
            let middle = median(&moved.iter().map(|sums| prompts.mean_of(sums, self.general)).collect::<Vec<_>>());
            known.push((next, middle.filter(|middle| *middle > 0.0).unwrap_or(OVERFLOWS).ln()));
            known.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok(nearest(&known, wanted.ln()).map_or((1.0, at_one), |(strength, change)| (strength.exp(), change.exp())))
    }

    /// Mean divergence per answer token on some sets over that on the set that is matched, `[adapters][sets]`, of `random`
    /// made as strong; those whose numbers overflow are left out.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn ratios(&self, random: &[BoundAdapter], strength: f64, sets: &[usize]) -> Result<Vec<Vec<f64>>, AuditError> {
        let prompts = Prompts::of_sets(self.sets, self.base, &[&[self.general], sets].concat());
        let moved = self.changes(random, strength, &prompts)?;
        let of_adapter = |sums: &Vec<f64>| {
            let general = prompts.mean_of(sums, self.general).max(f64::MIN_POSITIVE);
            sets.iter().map(|set| prompts.mean_of(sums, *set) / general).collect()
        };
        Ok(moved.iter().map(of_adapter).collect())
    }

    /// Further random adapters, of the seeds from `seed` on.
    ///
    /// # Errors
    /// As binding the adapter itself.
    pub fn draw(&self, seed: u64, count: usize) -> Result<Vec<BoundAdapter>, AuditError> {
        let drawn = (0..count as u64).map(|draw| random_adapter(self.decoder, self.adapter, seed.wrapping_add(draw)));
        Ok(drawn.collect::<Result<_, _>>()?)
    }

    /// Σ KL over the answer, `[adapters][prompts]`.
    fn changes(&self, random: &[BoundAdapter], strength: f64, prompts: &Prompts) -> Result<Vec<Vec<f64>>, AuditError> {
        let strengthened = random.iter().map(|random| scaled(self.decoder, random, strength));
        let mut variants = strengthened.collect::<Result<Vec<_>, _>>()?;
        loop {
            let models: Vec<_> = std::iter::once(None).chain(variants.iter().map(Some)).collect();
            let pairs: Vec<Pair> = (1..models.len()).map(|to| Pair { of: 0, to }).collect();
            match divergences(self.decoder, &models, &pairs, prompts, |_| Hooks::default(), &mut |_, _| ()) {
                Err(AuditError::Model(ModelError::Overflow { place, .. })) if place > 0 => {
                    drop(variants.remove(place - 1));
                }
                found => break found,
            }
        }
    }
}

/// The strength whose change is nearest to the wanted one.
fn nearest(known: &[(f64, f64)], wanted: f64) -> Option<(f64, f64)> {
    known.iter().copied().min_by(|a, b| (a.1 - wanted).abs().total_cmp(&(b.1 - wanted).abs()))
}

/// Where a change of `wanted` is to be looked for, all as logarithms: between the strengths known to do less and more,
/// or beyond them all by the square.
fn next_strength(known: &[(f64, f64)], wanted: f64) -> f64 {
    let below = known.iter().rfind(|(_, change)| *change < wanted);
    let above = known.iter().find(|(_, change)| *change >= wanted);
    match (below, above) {
        (Some(below), Some(above)) if above.1 > below.1 && above.0 > below.0 => {
            below.0 + (above.0 - below.0) * (wanted - below.1) / (above.1 - below.1)
        }
        (Some(end), _) | (None, Some(end)) => end.0 + (wanted - end.1) / QUADRATIC,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change that grows with a power of the strength: four steps come within a tenth.
    #[test]
    fn the_strength_is_found_where_change_grows_by_a_power() {
        for (power, wanted) in [(2.0, 5.0), (3.0, 6.0), (3.0, -4.0), (6.0, 6.0)] {
            let mut known = vec![(0.0, 0.0)];
            for _ in 0..4 {
                let next = next_strength(&known, wanted);
                known.push((next, power * next));
                known.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
            let nearest = known.iter().map(|(_, change)| (change - wanted).abs()).fold(f64::MAX, f64::min);
            assert!(nearest < 0.1, "{power} {wanted}: {known:?}");
        }
    }
}
