//! Functions of the singular values of centred activations.

use lcr_documents::audit::Spectrum;

/// First rank of the power-law fit: the leading directions follow no law.
const FIT_FROM: usize = 11;
/// Last rank of the power-law fit.
const FIT_TO: usize = 100;
/// Fewer points than this are no law.
const FIT_POINTS: usize = 5;
/// Singular values kept for the figures.
const KEPT: usize = 64;
/// σ below this share of σ₁ counts as zero.
pub(crate) const RANK_TOLERANCE: f64 = 1e-6;

/// exp of the entropy of weights scaled to sum to one; `None` where they are all zero.
pub(crate) fn exp_entropy(weights: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let total: f64 = weights.clone().sum();
    (total > 0.0).then(|| {
        let entropy: f64 =
            weights.map(|weight| weight / total).filter(|share| *share > 0.0).map(|share| -share * share.ln()).sum();
        entropy.exp()
    })
}

/// Summary of a spectrum given λ = s², descending.
pub fn summary(squares: &[f64]) -> Spectrum {
    let total: f64 = squares.iter().sum();
    let of_squares: f64 = squares.iter().map(|square| square * square).sum();
    let positive = total > 0.0;
    Spectrum {
        rankme: exp_entropy(squares.iter().map(|square| square.sqrt())),
        effective_rank: exp_entropy(squares.iter().copied()),
        participation_ratio: positive.then(|| total * total / of_squares),
        stable_rank: positive.then(|| total / squares[0]),
        alpha_req: power_law(squares),
        singular_values: squares.iter().take(KEPT).map(|square| square.sqrt()).collect(),
    }
}

/// −slope of ln λ_i on ln i with weights 1/i.
fn power_law(squares: &[f64]) -> Option<f64> {
    let floor = RANK_TOLERANCE.powi(2) * squares.first()?;
    let rank = squares.iter().take_while(|square| **square > floor).count();
    let points: Vec<(f64, f64, f64)> = (FIT_FROM..=FIT_TO.min(rank))
        .map(|index| (1.0 / index as f64, (index as f64).ln(), squares[index - 1].ln()))
        .collect();
    if points.len() < FIT_POINTS {
        return None;
    }
    let weight: f64 = points.iter().map(|point| point.0).sum();
    let mean =
        |value: fn(&(f64, f64, f64)) -> f64| points.iter().map(|point| point.0 * value(point)).sum::<f64>() / weight;
    let (mean_x, mean_y) = (mean(|point| point.1), mean(|point| point.2));
    let covariance: f64 = points.iter().map(|(w, x, y)| w * (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(w, x, _)| w * (x - mean_x).powi(2)).sum();
    Some(-covariance / variance)
}

/// Jensen–Shannon divergence (nats) between two spectra scaled to sum to one; zero where either is empty.
pub fn divergence(left: &[f64], right: &[f64]) -> f64 {
    let (left_total, right_total) = (left.iter().sum::<f64>(), right.iter().sum::<f64>());
    if left_total <= 0.0 || right_total <= 0.0 {
        return 0.0;
    }
    left.iter().zip(right).map(|(p, q)| jensen_shannon_term(p / left_total, q / right_total)).sum()
}

/// ½ p ln(p/m) + ½ q ln(q/m) with m = (p+q)/2.
///
/// With x = (p−q)/(p+q) the term is (p+q)/4 · [(1+x)ln(1+x) + (1−x)ln(1−x)], whose series x² + x⁴/6 + x⁶/15 + … is second
/// order from the start: the naive logarithms would leave 10⁻¹⁶ of noise where the divergence itself is smaller.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_spectrum_has_full_rank_by_every_measure() {
        let spectrum = summary(&[4.0; 20]);
        for value in [spectrum.rankme, spectrum.effective_rank, spectrum.participation_ratio, spectrum.stable_rank] {
            assert!((value.unwrap() - 20.0).abs() < 1e-12);
        }
        assert!(spectrum.alpha_req.unwrap().abs() < 1e-12);
    }

    #[test]
    fn power_law_is_read_back() {
        let squares: Vec<f64> = (1..=200).map(|index| (index as f64).powf(-1.3)).collect();
        assert!((summary(&squares).alpha_req.unwrap() - 1.3).abs() < 1e-12);
        assert_eq!(summary(&squares[..14]).alpha_req, None);
    }

    #[test]
    fn zero_spectrum_is_undefined_not_nan() {
        let spectrum = summary(&[0.0; 4]);
        assert_eq!((spectrum.rankme, spectrum.stable_rank), (None, None));
    }

    #[test]
    fn divergence_is_bounded_by_ln_two_and_smooth_near_zero() {
        assert!((divergence(&[1.0, 0.0], &[0.0, 1.0]) - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!(divergence(&[1.0, 2.0], &[2.0, 4.0]), 0.0);
        // Both branches of the term agree where they meet.
        for x in [0.0999_f64, 0.1001] {
            let (p, q) = (1.0 + x, 1.0 - x);
            let m = f64::midpoint(p, q);
            let naive = 0.5 * (p * (p / m).ln() + q * (q / m).ln());
            assert!((jensen_shannon_term(p, q) / naive - 1.0).abs() < 1e-11);
        }
    }

    /// `scipy.spatial.distance.jensenshannon` squared, which scales both to sum to one itself.
    #[test]
    fn divergence_is_that_of_scipy() {
        let js = divergence(&[9.0, 4.0, 3.0, 2.0, 1.0, 0.5], &[5.0, 5.0, 4.0, 1.0, 1.0, 0.0]);
        assert!((js / 0.030_225_647_554_907_04 - 1.0).abs() < 1e-12, "{js}");
    }

    /// `numpy.polyfit` of ln λ on ln i with weights 1/i on the squares; without them the slope is 2.03.
    #[test]
    fn a_bent_spectrum_is_fitted_as_numpy_fits_it() {
        let mut squares: Vec<f64> = (1..=30_u32).map(|index| f64::from((40 - index).pow(2) + index * 7 % 5)).collect();
        squares.sort_by(|left, right| right.total_cmp(left));
        let slope = summary(&squares).alpha_req.unwrap();
        assert!((slope - 1.885_935_630_962_890_7).abs() < 1e-10, "{slope}");
    }
}
