//! Sums over vectors and distributions that several metrics share, each in the form that keeps its digits.

use crate::linalg::sum_pairs;

/// A singular value below this share of the largest counts as zero.
pub(crate) const RANK_TOLERANCE: f64 = 1e-6;

/// ⟨left, right⟩ in f64.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    sum_pairs(left, right, |a, b| f64::from(a) * f64::from(b))
}

/// 1 − cos of two vectors as ½‖u − v‖² of their unit vectors, which keeps its digits where cos rounds to one.
///
/// A zero vector has no direction: against another zero vector it counts as unchanged, against anything else as
/// orthogonal.
pub(crate) fn one_minus_cosine<T: Copy + Into<f64>>(left: &[T], right: &[T]) -> f64 {
    let norm = |values: &[T]| sum_pairs(values, values, |a, b| a.into() * b.into()).sqrt();
    let (left_norm, right_norm) = (norm(left), norm(right));
    if left_norm == 0.0 || right_norm == 0.0 {
        return if left_norm == right_norm { 0.0 } else { 1.0 };
    }
    let (left_scale, right_scale) = (left_norm.recip(), right_norm.recip());
    0.5 * sum_pairs(left, right, |a, b| (a.into() * left_scale - b.into() * right_scale).powi(2))
}

/// Percentile `share` (0 … 1) of ascending values, interpolated linearly.
pub(crate) fn percentile(ascending: &[f64], share: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    ascending[below] + (place - below as f64) * (ascending[above] - ascending[below])
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// exp of the entropy of weights scaled to sum to one; `None` where they are all zero.
pub(crate) fn exp_entropy(weights: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let total: f64 = weights.clone().sum();
    (total > 0.0).then(|| {
        let entropy: f64 =
            weights.map(|weight| weight / total).filter(|share| *share > 0.0).map(|share| -share * share.ln()).sum();
        entropy.exp()
    })
}

/// ½ p ln(p/m) + ½ q ln(q/m) with m = (p+q)/2.
///
/// With x = (p−q)/(p+q) the term is (p+q)/4 · [(1+x)ln(1+x) + (1−x)ln(1−x)], whose series x² + x⁴/6 + x⁶/15 + … is
/// second order from the start: the naive logarithms would leave 10⁻¹⁶ of noise where the divergence itself is smaller.
pub(crate) fn jensen_shannon_term(p: f64, q: f64) -> f64 {
    let sum = p + q;
    if sum <= 0.0 {
        return 0.0;
    }
    let x = (p - q) / sum;
    if x.abs() < 0.1 {
        let square = x * x;
        let series = 0.5 + square * (1.0 / 12.0 + square * (1.0 / 30.0 + square * (1.0 / 56.0 + square / 90.0)));
        return 0.5 * sum * square * series;
    }
    let part = |share: f64| if share > 0.0 { 0.5 * share * (2.0 * share / sum).ln() } else { 0.0 };
    part(p) + part(q)
}
