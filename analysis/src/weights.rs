//! What an adapter does to the weights, without a forward pass. All of it is a function of ΔW = W' − W alone, so
//! rewriting A → MA, B → BM⁻¹ moves nothing.
//!
//! W is read once, in slabs along its longer side, and never stands in f64 as a whole. Beside sums over entries and
//! rows, a slab adds to three Gram matrices of the shorter side, of W, of ΔW, and between them; every spectral figure
//! comes from those. For a LoRA module the latter two stay factored, and ΔW's own spectrum comes from QR of the factors
//! (`delta` in `lcr-model`); DoRA's rescaling and whole tensors have no such factors and take the Gram way throughout.

mod changed;
pub mod erasure;
mod gram;
mod spectrum;
mod sums;

use faer::{Mat, MatRef};
use lcr_documents::audit::WeightChange;

pub(crate) use self::changed::natural_key;
pub use self::changed::{ChangedTensor, changed_tensors};
pub use self::gram::BaseSpectrum;

use self::gram::{ChangeGrams, add_product};
use self::sums::{Sums, heaviest_share, one_minus_cosine, row_norm_change, row_rotation};
use crate::linalg::NoConvergence;
use crate::statistics::{RANK_TOLERANCE, exp_entropy};

/// Leading directions of W that a change is held against.
const LEADING: usize = 10;
/// Singular values kept for the figures.
const KEPT: usize = 64;

/// The measurements of one tensor, and its leading directions for the coherence of modules; those are no text, and
/// are kept as tensors where the rest is written.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Measured {
    /// The report's entry.
    pub change: WeightChange,
    /// Leading left singular vector of ΔW, `[outputs]`; empty where ΔW is zero.
    #[serde(skip)]
    pub left: Vec<f64>,
    /// Leading right singular vector of ΔW, `[inputs]`.
    #[serde(skip)]
    pub right: Vec<f64>,
}

impl ChangedTensor<'_> {
    /// Measures the change. `base` keeps what W alone gives, for the next change of the same weight.
    pub fn measure(&self, base: &mut Option<BaseSpectrum>) -> Result<Measured, NoConvergence> {
        let known = base.take().filter(|base| base.shape == self.shape());
        let (sums, grams, known) = self.collect(known)?;
        let base_energy: f64 = sums.base.iter().sum();
        let change_energy: f64 = sums.change.iter().sum();
        let base_squares = known.squares.as_slice();
        let spectrum = self.change_spectrum(&grams, &known)?;
        let intruders = known.intruders(&grams)?;
        let relevant = spectrum.values.iter().take_while(|value| **value > RANK_TOLERANCE * spectrum.values[0]);
        let rank = if change_energy > 0.0 { relevant.count() } else { 0 };
        let squares = spectrum.values.iter().map(|value| value * value);
        let total: f64 = squares.clone().sum();
        let first = spectrum.values.first().copied().unwrap_or(0.0);
        let base_first = base_squares.first().copied().unwrap_or(0.0).sqrt();
        let changed = change_energy > 0.0 && first > 0.0;
        let one_minus_cosine = one_minus_cosine(base_energy, change_energy, sums.cross.iter().sum());
        let change = WeightChange {
            shape: self.shape(),
            kind: self.kind().to_owned(),
            relative_norm: (base_energy > 0.0).then(|| (change_energy / base_energy).sqrt()),
            spectral_ratio: (base_first > 0.0).then(|| first / base_first),
            cosine: 1.0 - one_minus_cosine,
            one_minus_cosine,
            rank,
            stable_rank: changed.then(|| total / (first * first)),
            rankme: exp_entropy(spectrum.values.iter().copied()),
            effective_rank: exp_entropy(squares),
            top1_share: changed.then(|| first * first / total),
            kurtosis: sums.kurtosis(),
            row_top8_share: changed.then(|| heaviest_share(&sums.change, change_energy)),
            row_rotation_deg: row_rotation(&sums),
            row_norm_change: row_norm_change(&sums),
            entry_change: self.joins.and_then(|weight| sums.entry_change(weight)),
            output_overlap: (rank > 0).then(|| spectrum.overlap / rank as f64),
            intruder_dimensions: (self.outputs > 1 && self.inputs > 1).then_some(intruders),
            intruder_chance_cosine: chance_cosine(self.outputs.min(self.inputs), self.outputs),
            merge_survival: sums.merge_survival(),
            singular_values: spectrum.values.iter().take(KEPT).copied().collect(),
        };
        *base = Some(known);
        Ok(Measured { change, left: spectrum.left, right: spectrum.right })
    }

    /// One pass over W: sums, and the Gram matrices of the shorter side; W's own only where it is not known yet.
    fn collect(&self, known: Option<BaseSpectrum>) -> Result<(Sums, ChangeGrams<'_>, BaseSpectrum), NoConvergence> {
        let short = self.outputs.min(self.inputs);
        let mut sums = Sums::new(self.shape());
        let mut grams = ChangeGrams::of(self);
        let mut own = if known.is_none() { Some(Mat::zeros(short, short)) } else { None };
        self.for_each_slab(|rows, columns, base, change| {
            sums.add(rows.start, columns.len(), base, change);
            let view = |values| MatRef::from_row_major_slice(values, rows.len(), columns.len());
            let (w, d): (MatRef<f64>, MatRef<f64>) = (view(base), view(change));
            let (w, d, long) = if self.is_tall() { (w.transpose(), d.transpose(), rows) } else { (w, d, columns) };
            if let Some(gram) = &mut own {
                add_product(gram, w, w.transpose(), true);
            }
            grams.add(w, d, &long);
        });
        grams.finish();
        let known = match (known, own) {
            (Some(known), _) => known,
            (None, own) => BaseSpectrum::of(self.shape(), own.unwrap_or_else(|| Mat::zeros(short, short)))?,
        };
        Ok((sums, grams, known))
    }
}

/// √(2 ln n/d): the largest |cos| that n random directions of d dimensions reach.
fn chance_cosine(directions: usize, dimensions: usize) -> f64 {
    (2.0 * (directions.max(1) as f64).ln() / dimensions.max(1) as f64).sqrt().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::chance_cosine;

    /// √(2 ln 100/400), and at most 1.
    #[test]
    fn many_directions_of_few_dimensions_come_near_any() {
        assert!((chance_cosine(100, 400) - 0.151_742_712_938_514_63).abs() < 1e-15);
        assert_eq!((chance_cosine(100, 4), chance_cosine(1, 4)), (1.0, 0.0));
    }
}
