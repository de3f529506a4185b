//! How the energy ‖BA‖² spreads over rows, columns, heads or modules.

#![expect(clippy::indexing_slicing, reason = "indices are those of the squares that they were sorted from")]

use lcr_formats::factored::FactoredMatrix;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows counted as the heaviest.
const HEAVY_ROWS: usize = 8;
/// Rows whose entries the kurtosis is estimated from, beside the heaviest.
const SAMPLED_ROWS: usize = 120;

/// One row's part in a change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RowShare {
    /// Index of the row: the id of the token, where rows are tokens.
    pub row: usize,
    /// Its share of ‖ΔW‖².
    pub share: f64,
}

/// ‖row‖² of BA (without the scale), and which rows are heaviest; of its columns likewise.
pub(super) struct Profile {
    squares: Vec<f64>,
    total: f64,
    /// Indices of the heaviest, heaviest first.
    heavy: Vec<usize>,
}

impl Profile {
    pub(super) fn of(squares: Vec<f64>) -> Self {
        let total = squares.iter().sum();
        let mut order: Vec<usize> = (0..squares.len()).collect();
        let heavier = |left: &usize, right: &usize| squares[*right].total_cmp(&squares[*left]).then(left.cmp(right));
        if order.len() > HEAVY_ROWS {
            order.select_nth_unstable_by(HEAVY_ROWS, heavier);
            order.truncate(HEAVY_ROWS);
        }
        order.sort_by(heavier);
        Self { squares, total, heavy: order }
    }

    fn is_zero(&self) -> bool {
        !(self.total > 0.0 && self.total.is_finite())
    }

    /// Share of the eight heaviest.
    pub(super) fn heavy_share(&self) -> Option<f64> {
        (!self.is_zero()).then(|| self.heavy.iter().map(|row| self.squares[*row]).sum::<f64>() / self.total)
    }

    /// The eight heaviest by name, those that are zero left out.
    pub(super) fn heaviest(&self) -> Vec<RowShare> {
        if self.is_zero() {
            return Vec::new();
        }
        let shares = self.heavy.iter().map(|row| RowShare { row: *row, share: self.squares[*row] / self.total });
        shares.filter(|row| row.share > 0.0).collect()
    }

    /// Hoyer sparsity (√n − ‖v‖₁/‖v‖₂)/(√n − 1) of the norms v.
    pub(super) fn hoyer(&self) -> Option<f64> {
        let root = (self.squares.len() as f64).sqrt();
        if self.is_zero() || root <= 1.0 {
            return None;
        }
        let absolute: f64 = self.squares.iter().map(|square| square.sqrt()).sum();
        Some((root - absolute / self.total.sqrt()) / (root - 1.0))
    }

    /// Gini coefficient of the norms.
    pub(super) fn gini(&self) -> Option<f64> {
        gini(self.squares.iter().map(|square| square.sqrt()).collect())
    }

    /// Rows, or columns.
    pub(super) fn len(&self) -> usize {
        self.squares.len()
    }

    /// Shares of the total of blocks of `size` neighbours.
    pub(super) fn blocks(&self, size: usize) -> Option<Vec<f64>> {
        let blocks = || self.squares.chunks(size.max(1)).map(|block| block.iter().sum::<f64>() / self.total).collect();
        (!self.is_zero()).then(blocks)
    }

    /// n Σx⁴/(Σx²)² about zero: the mean of the entries of a low-rank change is nothing beside their spread.
    ///
    /// Of the rows that are not heavy, 120 spread evenly stand for all.
    pub(super) fn kurtosis(&self, matrix: &FactoredMatrix<'_>) -> Option<f64> {
        if self.is_zero() {
            return None;
        }
        let others: Vec<usize> = (0..self.squares.len()).filter(|row| !self.heavy.contains(row)).collect();
        let step = others.len().div_ceil(SAMPLED_ROWS).max(1);
        let sample = others.iter().copied().skip(step / 2).step_by(step);
        let rows: Vec<usize> = self.heavy.iter().copied().chain(sample).collect();
        let fourth = matrix.fourth_powers(&rows);
        let (heavy, sampled) = fourth.split_at_checked(self.heavy.len())?;
        let of_others = match sampled.len() {
            0 => 0.0,
            taken => sampled.iter().sum::<f64>() * others.len() as f64 / taken as f64,
        };
        let entries = self.squares.len() as f64 * matrix.columns as f64;
        let kurtosis = entries * (heavy.iter().sum::<f64>() + of_others) / self.total.powi(2);
        Some(kurtosis).filter(|value| value.is_finite())
    }
}

/// Gini coefficient 2Σi·xᵢ/(nΣx) − (n + 1)/n of values in ascending order, i from 1: 0 where all are equal, 1 − 1/n
/// where one is all.
pub(super) fn gini(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as f64;
    let total: f64 = values.iter().sum();
    let weighted: f64 = values.iter().zip(1_u32..).map(|(value, rank)| f64::from(rank) * value).sum();
    let gini = 2.0 * weighted / (count * total) - (count + 1.0) / count;
    (total > 0.0 && gini.is_finite()).then_some(gini.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparsity_is_zero_for_equal_rows_and_full_for_a_single_row() {
        let equal = Profile::of(vec![2.0; 9]);
        assert!(equal.hoyer().expect("not zero").abs() < 1e-12);
        assert!(equal.gini().expect("not zero").abs() < 1e-12);
        let single = Profile::of(vec![0.0, 0.0, 5.0, 0.0]);
        assert!((single.hoyer().expect("not zero") - 1.0).abs() < 1e-12);
        assert!((single.gini().expect("not zero") - 0.75).abs() < 1e-12);
        assert_eq!(single.heaviest(), [RowShare { row: 2, share: 1.0 }]);
    }

    #[test]
    fn gini_of_a_ramp_is_a_third() {
        // Of 1, 2, …, n it is (n − 1)/(3n)·… = (n² − 1)/(3n(n + 1)).
        let count = 50.0;
        let found = gini((1..=50).map(f64::from).collect()).expect("not zero");
        assert!((found - (count - 1.0) / (3.0 * count)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn nothing_has_no_shape() {
        let nothing = Profile::of(vec![0.0; 20]);
        assert_eq!((nothing.hoyer(), nothing.gini(), nothing.heavy_share()), (None, None, None));
        assert!(nothing.heaviest().is_empty() && nothing.blocks(4).is_none());
    }

    #[test]
    fn blocks_are_shares() {
        assert_eq!(Profile::of(vec![1.0, 1.0, 0.0, 2.0]).blocks(2), Some(vec![0.5, 0.5]));
    }
}
