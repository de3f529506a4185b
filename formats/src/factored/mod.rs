//! ΔW = s·BA kept as its two factors, and everything that follows from them without multiplying them out: norms,
//! spectrum, Gram matrices, leading directions.
//!
//! All of it is a function of the product BA, so rewriting A → MA, B → BM⁻¹ moves nothing but the last digits. This
//! folder is the one door to nalgebra, for contiguous matrices of the rank's size: its views with rows further apart
//! than they are long were seen to be written outside of (0.35). Decompositions of activation size are the audit's own.

#![expect(clippy::disallowed_types, reason = "this folder is the door to nalgebra")]

mod grams;
mod products;
mod random;
mod spectrum;

use std::borrow::Cow;

pub use self::grams::{Grams, Leading};
pub use self::spectrum::Directions;

/// s·BA with B (rows × rank) and A (rank × columns), both row-major.
#[derive(Debug, Clone)]
pub struct FactoredMatrix<'a> {
    /// Rows of the product: a linear's outputs, an embedding's tokens.
    pub rows: usize,
    /// Columns of the product: a linear's inputs, an embedding's width.
    pub columns: usize,
    /// Inner dimension of BA.
    pub rank: usize,
    /// The factor before BA.
    pub scale: f64,
    /// B.
    pub lora_b: Cow<'a, [f32]>,
    /// A.
    pub lora_a: Cow<'a, [f32]>,
}

impl<'a> FactoredMatrix<'a> {
    /// The same product with an inner dimension of at most its smaller side: where a file claims more, the longer
    /// factor is multiplied out and rounded to f32, so that the work on r × r matrices is bounded by the size of the
    /// file.
    #[must_use]
    pub fn reduced(self) -> Self {
        let (rows, columns, scale) = (self.rows, self.columns, self.scale);
        if self.rank <= rows.min(columns) {
            return self;
        }
        let product = Cow::Owned(multiplied(&self));
        let identity = |size: usize| -> Cow<'a, [f32]> {
            Cow::Owned((0..size * size).map(|at| if at % (size + 1) == 0 { 1.0 } else { 0.0 }).collect())
        };
        if rows <= columns {
            Self { rows, columns, rank: rows, scale, lora_b: identity(rows), lora_a: product }
        } else {
            Self { rows, columns, rank: columns, scale, lora_b: product, lora_a: identity(columns) }
        }
    }

    /// AAᵀ and BᵀB, summed in f64.
    pub fn grams(&self) -> Grams {
        Grams::of(self)
    }
}

/// BA itself, (rows × columns), row-major, rounded to f32 once.
fn multiplied(matrix: &FactoredMatrix<'_>) -> Vec<f32> {
    let mut product = Vec::with_capacity(matrix.rows * matrix.columns);
    for line in matrix.lora_b.chunks_exact(matrix.rank.max(1)) {
        let weights: Vec<f64> = line.iter().map(|value| f64::from(*value)).collect();
        product.extend(matrix.transposed_a_times(&weights).into_iter().map(|value| value as f32));
    }
    product
}
