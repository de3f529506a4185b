//! Whether many modules write, or read, one common direction.

use std::collections::BTreeMap;

use lcr_formats::module::{ModulePath, StreamRole};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Measured;

/// Modules of a kind whose directions are compared; real models have a hundred layers at most.
pub(super) const MODULE_LIMIT: usize = 256;
/// Modules that must agree on a direction before it is one.
const FEWEST_MODULES: usize = 4;

/// How far modules agree on one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coherence {
    /// Mean |cos| over pairs of modules of the leading singular vectors.
    pub mean: f64,
    /// √(2/πd), what unrelated directions give.
    pub chance: f64,
    /// Modules.
    pub modules: usize,
}

/// Mean |cos| over pairs of the vectors of modules of one role, among those of the commonest width.
pub(super) fn coherence(
    measured: &[Measured],
    role: StreamRole,
    vector: impl Fn(&Measured) -> &Vec<f32>,
) -> Option<Coherence> {
    let mut widths: BTreeMap<usize, Vec<&Vec<f32>>> = BTreeMap::new();
    for module in measured.iter().filter(|module| ModulePath::parse(&module.path).role() == Some(role)) {
        let vector = vector(module);
        if !vector.is_empty() {
            widths.entry(vector.len()).or_default().push(vector);
        }
    }
    let (width, vectors) = widths.into_iter().max_by_key(|(_, vectors)| vectors.len())?;
    if vectors.len() < FEWEST_MODULES {
        return None;
    }
    let mut total = 0.0;
    let mut pairs = 0_usize;
    for (at, left) in vectors.iter().enumerate() {
        for right in vectors.iter().skip(at + 1) {
            total += dot(left, right).abs();
            pairs += 1;
        }
    }
    let chance = (2.0 / (std::f64::consts::PI * width as f64)).sqrt();
    Some(Coherence { mean: total / pairs as f64, chance, modules: vectors.len() })
}

/// The vector of length one, or none of a vector that is zero.
pub(super) fn unit(values: Vec<f64>) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 { values.into_iter().map(|value| (value / length) as f32).collect() } else { Vec::new() }
}

/// In several sums at once, so that one addition need not wait for the one before.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (left_blocks, left_rest) = left.as_chunks::<LANES>();
    let (right_blocks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_blocks.iter().zip(right_blocks) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += f64::from(*left) * f64::from(*right);
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum();
    sums.iter().sum::<f64>() + rest
}
