//! Functions of the singular values of centred activations.

use lcr_documents::audit::{SiteChange, Spectrum, SpectrumPair};

use super::descriptor::Transformation::{CommonRotation, Rotation, TokenOrder, Translation};
use super::descriptor::{Entry, Metric, Number, Reads, Runs, SiteMetric, Transformation, Unit};
use crate::activations::Activations;
use crate::linalg::NoConvergence;
use crate::statistics::{RANK_TOLERANCE, exp_entropy, jensen_shannon_term};

/// First rank of the power-law fit: the leading directions follow no law.
const FIT_FROM: usize = 11;
/// Last rank of the power-law fit.
const FIT_TO: usize = 100;
/// Fewer points than this are no law.
const FIT_POINTS: usize = 5;
/// Singular values kept for the figures.
const KEPT: usize = 64;

/// `spectrum`.
pub static METRIC: Metric = Metric {
    name: "spectrum",
    runs: Runs::ByDefault,
    reads: Reads::Rows(|_, _| Ok(Box::new(Spectra))),
    entries: &[SUMMARY, DIVERGENCE],
    references: &[
        "Agrawal, Mondal, Ghosh, Richards 2022. α-ReQ: Assessing representation quality in self-supervised learning by \
         measuring eigenspectrum decay. NeurIPS.",
        "Gao, Trautmann, Yu, Santhanam, Ryu, Shenoy, Ganguli 2017. A theory of multineuronal dimensionality, dynamics \
         and measurement. bioRxiv.",
        "Garrido, Balestriero, Najman, LeCun 2023. RankMe: Assessing the downstream performance of pretrained \
         self-supervised representations by their rank. ICML.",
        "Lin 1991. Divergence measures based on the Shannon entropy. IEEE Transactions on Information Theory 37.",
        "Roy, Vetterli 2007. The effective rank: A measure of effective dimensionality. EUSIPCO.",
        "Rudelson, Vershynin 2007. Sampling from large matrices: An approach through geometric functional analysis. \
         Journal of the ACM 54.",
    ],
};

const ANY_AXES: &[Transformation] = &Transformation::OF_ACTIVATIONS;

const SUMMARY: Entry = Entry {
    heading: "`spectrum.{base,adapted}.*`",
    definition: "
Of the singular values of X_c and of Y_c each. `rankme` is Roy and Vetterli's effective rank (2007), for \
        representations
Garrido, Balestriero, Najman and LeCun 2023; `effective_rank` is the same on variances. `participation_ratio`: Gao et \
        al.
2017. `stable_rank`: Rudelson and Vershynin 2007. `alpha_req`: after Agrawal, Mondal, Ghosh and Richards 2022, with
weights 1/i.

`rank` counts s above 10⁻⁶ s₁. `alpha_req` is `null` under five points, that is under rank 15. The entropy of s \
        weights
small directions more than that of λ, so `rankme` ≥ `effective_rank` always.",
    blind_to: "All but `singular_values` are blind to scaling; all are blind to rotation and shift.",
    chance: "",
    trap: "
Traps: all of them are bounded by min(n − 1, d) and rise with n, so compare base and adapted of one run, never two runs
with different probes. `alpha_req` is a fit; tiny models and short probes have no power law, and the fit is then a
number without a meaning.",
    numbers: &[
        Number::new("spectrum.*.rankme", "exp H(s/Σs) (Garrido et al. 2023).", Unit::Count, "1 to rank")
            .blind_to(ANY_AXES),
        Number::new(
            "spectrum.*.effective_rank",
            "exp H(λ/Σλ), the entropy rank of the variances.",
            Unit::Count,
            "1 to rank",
        )
        .blind_to(ANY_AXES),
        Number::new("spectrum.*.participation_ratio", "(Σλ)²/Σλ².", Unit::Count, "1 to rank").blind_to(ANY_AXES),
        Number::new("spectrum.*.stable_rank", "Σλ/λ₁.", Unit::Count, "1 to rank").blind_to(ANY_AXES),
        Number::new(
            "spectrum.*.alpha_req",
            "−slope of ln λ_i on ln i, i = 11 … min(100, rank) (Agrawal et al. 2022); `null` under five points.",
            Unit::Ratio,
            "any",
        )
        .blind_to(ANY_AXES),
        Number::new(
            "spectrum.*.singular_values",
            "Largest singular values, descending, at most 64.",
            Unit::Length,
            "0 to ∞",
        )
        .blind_to(&[Translation, CommonRotation, Rotation, TokenOrder]),
    ],
    glossary: &[],
};

const DIVERGENCE: Entry = Entry {
    heading: "`spectrum.js`",
    definition: "Jensen–Shannon divergence (Lin 1991) of λ/Σλ of both models, each sorted.",
    blind_to: "
Blind to everything that leaves the spectrum as it is: two models with the same spectrum in wholly different directions
score 0.",
    chance: "",
    trap: "",
    numbers: &[Number::new(
        "spectrum.js",
        "Jensen–Shannon divergence (nats) between the two λ/Σλ, sorted.",
        Unit::Nats,
        "0 to ln 2",
    )
    .more_change(0.0)
    .blind_to(ANY_AXES)],
    glossary: &[(
        "spectrum JS",
        "Jensen–Shannon divergence (nats) between the sorted, normalised eigenvalues. 0 is unchanged, at most 0.693.",
    )],
};

struct Spectra;

impl SiteMetric for Spectra {
    fn changed(&self, base: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        let (left, right) = (base.squares()?, adapted.squares()?);
        let js = divergence(left, right);
        change.spectrum = Some(SpectrumPair { base: summary(left), adapted: summary(right), js });
        Ok(())
    }

    fn unchanged(&self, base: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence> {
        let summary = summary(base.squares()?);
        change.spectrum = Some(SpectrumPair { base: summary.clone(), adapted: summary, js: 0.0 });
        Ok(())
    }
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
