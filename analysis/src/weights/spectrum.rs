//! ΔW's spectrum and the directions that it writes and reads.

use faer::Mat;
use lcr_formats::factored::FactoredMatrix;

use super::LEADING;
use super::changed::ChangedTensor;
use super::gram::{BaseSpectrum, ChangeGrams};
use crate::linalg::{NoConvergence, eigen, product};
use crate::statistics::RANK_TOLERANCE;

/// ΔW's spectrum and the directions it writes and reads.
pub(super) struct ChangeSpectrum {
    /// σ, descending.
    pub(super) values: Vec<f64>,
    /// ‖U_10(W)ᵀ U(ΔW)‖_F².
    pub(super) overlap: f64,
    pub(super) left: Vec<f64>,
    pub(super) right: Vec<f64>,
}

/// Singular values of ΔW and its singular vectors on the shorter side of W.
struct ShortSide {
    /// All of them, descending.
    values: Vec<f64>,
    /// Vectors of the values above the rank tolerance, as columns.
    vectors: Mat<f64>,
    /// The leading vector of the longer side, where it is known already.
    other: Option<Vec<f64>>,
}

impl ShortSide {
    fn of_factors(matrix: &FactoredMatrix<'_>, tall: bool) -> Self {
        let found = matrix.leading_directions(matrix.rank);
        let (own, other) = if tall { (&found.right, &found.left) } else { (&found.left, &found.right) };
        let size = if tall { matrix.columns } else { matrix.rows };
        Self {
            values: matrix.singular_values(),
            vectors: Mat::from_fn(size, own.len(), |row, column| own[column][row]),
            other: Some(other.first().cloned().unwrap_or_default()),
        }
    }

    fn of_gram(gram: &Mat<f64>) -> Result<Self, NoConvergence> {
        let (squares, vectors) = eigen(gram.as_ref())?;
        let first = squares.first().copied().unwrap_or(0.0);
        let rank = squares.iter().take_while(|square| **square > RANK_TOLERANCE.powi(2) * first).count();
        let rank = if first > 0.0 { rank } else { 0 };
        Ok(Self {
            values: squares.iter().map(|square| square.sqrt()).collect(),
            vectors: vectors.subcols(0, rank).to_owned(),
            other: None,
        })
    }
}

impl ChangedTensor<'_> {
    /// ΔW's spectrum: from the factors of a LoRA module, from Gram matrices otherwise.
    pub(super) fn change_spectrum(
        &self,
        grams: &ChangeGrams,
        known: &BaseSpectrum,
    ) -> Result<ChangeSpectrum, NoConvergence> {
        let directions = match grams {
            ChangeGrams::Dense { change, .. } => ShortSide::of_gram(change)?,
            ChangeGrams::LowRank(factors) => ShortSide::of_factors(&factors.matrix, self.is_tall()),
        };
        let overlap = self.overlap(grams, known, &directions);
        let kept = &directions.vectors;
        let own: Vec<f64> = if kept.ncols() > 0 { kept.col_as_slice(0).to_vec() } else { Vec::new() };
        let other = match directions.other {
            Some(other) => other,
            None if own.is_empty() => Vec::new(),
            None => self.other_side(&own, directions.values[0]),
        };
        let (left, right) = if self.is_tall() { (other, own) } else { (own, other) };
        Ok(ChangeSpectrum { values: directions.values, overlap, left, right })
    }

    /// ‖U_10(W)ᵀ U(ΔW)‖_F².
    fn overlap(&self, grams: &ChangeGrams, known: &BaseSpectrum, directions: &ShortSide) -> f64 {
        let leading = LEADING.min(known.squares.len());
        let base = known.vectors.subcols(0, leading);
        let kept = directions.vectors.as_ref();
        if !self.is_tall() {
            return product(base.transpose(), kept).squared_norm_l2();
        }
        // U_10ᵀU_Δ = Σ⁻¹ V_10ᵀ (WᵀΔ) V_Δ Σ_Δ⁻¹.
        let inner = product(grams.between(base).as_ref(), kept);
        let inverse = |length: f64| if length > 0.0 { 1.0 / length } else { 0.0 };
        let entry = |row: usize, column: usize| {
            inner[(row, column)] * inverse(known.squares[row].sqrt()) * inverse(directions.values[column])
        };
        (0..leading).map(|row| (0..kept.ncols()).map(|column| entry(row, column).powi(2)).sum::<f64>()).sum()
    }

    /// The other singular vector that belongs to one of ΔW's shorter side.
    fn other_side(&self, own: &[f64], length: f64) -> Vec<f64> {
        let tall = self.outputs > self.inputs;
        let mut other = vec![0.0; self.outputs.max(self.inputs)];
        self.for_each_slab(|rows, columns, _, change| {
            for (row, line) in rows.zip(change.chunks_exact(columns.len())) {
                if tall {
                    other[row] = line.iter().zip(own).map(|(d, v)| d * v).sum::<f64>() / length;
                } else {
                    let part = &mut other[columns.clone()];
                    part.iter_mut().zip(line).for_each(|(sum, d)| *sum += d * own[row] / length);
                }
            }
        });
        other
    }
}
