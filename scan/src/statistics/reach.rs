//! How large the numbers get that a change gives: whether they fit into those that a model is run with, and whether a
//! bias of B is in proportion to the rows that it joins.

use lcr_documents::statistics::median;
use lcr_formats::factored::{FactoredMatrix, Grams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sizes that s·BA reaches.
pub(super) struct Reach {
    /// Largest norm of a row of s·BA.
    pub(super) largest_row: f64,
    /// Largest value of s·BA·x over all x of unit root mean square, ‖x‖ = √inputs; where Ax, BAx or s itself leave f32,
    /// theirs.
    pub(super) largest_value: f64,
}

impl Reach {
    pub(super) fn of(matrix: &FactoredMatrix<'_>, grams: &Grams, row_squares: &[f64]) -> Self {
        let (length, scale) = ((matrix.columns as f64).sqrt(), matrix.scale);
        let largest = |squares: &mut dyn Iterator<Item = f64>| squares.fold(0.0, f64::max).sqrt();
        let unscaled = largest(&mut row_squares.iter().copied());
        let inner = largest(&mut grams.row_squares_of_a());
        let largest_row = scale.abs() * unscaled;
        let on_the_way = (inner * length).max(unscaled * length).max(scale.abs());
        let given = largest_row * length;
        // What overflows on the way gives no number at all, however small the factor after it.
        let largest_value = if on_the_way > f64::from(f32::MAX) { on_the_way.max(given) } else { given };
        Self { largest_row, largest_value }
    }
}

/// A bias of B beside the rows of s·BA: what it adds to every text, against what the low-rank change adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BiasSize {
    /// Largest |s·b|.
    pub largest: f64,
    /// Median norm of the rows of s·BA: what the change adds to an output for an input of unit root mean square.
    pub row: f64,
}

impl BiasSize {
    pub(super) fn of(bias: &[f32], scale: f64, row_squares: &[f64]) -> Self {
        let largest = bias.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max);
        let norms: Vec<f64> = row_squares.iter().map(|square| scale * square.sqrt()).collect();
        Self { largest: scale * largest, row: median(&norms).unwrap_or(0.0) }
    }

    /// How many times as large as the change that it joins; of a bias under `smallest`, nothing is asked.
    pub(crate) fn ratio(&self, smallest: f64) -> Option<f64> {
        (self.largest > smallest).then(|| self.largest / self.row)
    }
}
