//! The loss of a step, from its formula, on a model whose log-probabilities have a closed form.

use crate::tiny::{Factors, Tiny};

/// Half of a central difference.
const STEP: f64 = 1e-5;

/// A sequence with what the loss makes of it.
#[derive(Clone)]
pub(super) struct Sequence {
    pub(super) advantage: f64,
    pub(super) tokens: Vec<u32>,
    /// w of each token.
    pub(super) weights: Vec<f64>,
}

impl Sequence {
    /// Of parts with the weights of their tokens; none where all of them are 0.
    pub(super) fn new(tiny: &Tiny, advantage: f64, parts: &[(&str, &[f64])]) -> Self {
        let mut sequence = Self { advantage, tokens: Vec::new(), weights: Vec::new() };
        for (text, weights) in parts {
            let tokens = tiny.ids(text);
            assert!(weights.is_empty() || weights.len() == tokens.len(), "{text}");
            sequence.weights.extend(*weights);
            sequence.tokens.extend(&tokens);
            sequence.weights.resize(sequence.tokens.len(), 0.0);
        }
        sequence
    }

    /// Places of the tokens with a weight.
    pub(super) fn targets(&self) -> impl Iterator<Item = usize> {
        (0..self.tokens.len()).filter(|target| self.weights[*target] > 0.0)
    }

    /// (Σw)²/Σw².
    pub(super) fn effective_tokens(&self) -> f64 {
        let squares: f64 = self.weights.iter().map(|weight| weight * weight).sum();
        self.weights.iter().sum::<f64>().powi(2) / squares
    }

    /// Σ ln p over the tokens with a weight.
    pub(super) fn log_probability(&self, tiny: &Tiny, factors: &Factors) -> f64 {
        self.targets().map(|target| self.at(tiny, Some(factors), target)).sum()
    }

    fn at(&self, tiny: &Tiny, factors: Option<&Factors>, target: usize) -> f64 {
        tiny.distribution(factors, &self.tokens[..target])[self.tokens[target] as usize]
    }

    /// k3 = q/p − 1 − ln(q/p) at a token.
    fn k3(&self, tiny: &Tiny, factors: &Factors, target: usize) -> f64 {
        let ratio = self.at(tiny, None, target) - self.at(tiny, Some(factors), target);
        ratio.exp() - 1.0 - ratio
    }

    /// Means over the tokens with a weight: ln p − ln q, k3, and Σ p (ln p − ln q) over the vocabulary.
    pub(super) fn divergences(&self, tiny: &Tiny, factors: &Factors) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for target in self.targets() {
            let [policy, base] =
                [Some(factors), None].map(|factors| tiny.distribution(factors, &self.tokens[..target]));
            sums[0] += self.at(tiny, Some(factors), target) - self.at(tiny, None, target);
            sums[1] += self.k3(tiny, factors, target);
            sums[2] += policy.iter().zip(&base).map(|(policy, base)| policy.exp() * (policy - base)).sum::<f64>();
        }
        sums.map(|sum| sum / self.targets().count() as f64)
    }
}

/// Σ A Σ w (−ln p)/Z / groups + β · mean k3, means and sums over sequences whose advantage is not 0.
pub(super) struct Loss {
    pub(super) sequences: Vec<Sequence>,
    /// Z of a sequence.
    pub(super) divisor: fn(&Sequence) -> f64,
    /// Groups that carry a loss.
    pub(super) groups: f64,
    /// β.
    pub(super) divergence: f64,
}

impl Loss {
    /// Of one group, divided by the sum of the weights, without divergence.
    pub(super) fn of(sequences: Vec<Sequence>) -> Self {
        Self { sequences, divisor: |sequence| sequence.weights.iter().sum(), groups: 1.0, divergence: 0.0 }
    }

    pub(super) fn value(&self, tiny: &Tiny, factors: &Factors) -> f64 {
        let (mut loss, mut divergence, mut count) = (0.0, 0.0, 0);
        for sequence in self.sequences.iter().filter(|sequence| sequence.advantage != 0.0) {
            let divisor = (self.divisor)(sequence) * self.groups;
            for target in sequence.targets() {
                let surprise = -sequence.at(tiny, Some(factors), target);
                loss += sequence.advantage * sequence.weights[target] * surprise / divisor;
                divergence += sequence.k3(tiny, factors, target);
                count += 1;
            }
        }
        loss + self.divergence * divergence / f64::from(count)
    }

    /// Its derivative by every parameter, by central differences.
    pub(super) fn slope(&self, tiny: &Tiny, factors: &Factors) -> Vec<f64> {
        let count = factors.parameters().count();
        let moved = |index: usize, by: f64| self.value(tiny, &factors.moved(index, by));
        (0..count).map(|index| (moved(index, STEP) - moved(index, -STEP)) / (2.0 * STEP)).collect()
    }
}
