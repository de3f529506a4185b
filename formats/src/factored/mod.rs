//! ΔW = s·BA kept as its two factors, and everything that follows from them without multiplying them out: norms,
//! spectrum, Gram matrices, leading directions.
//!
//! All of it is a function of the product BA, so rewriting A → MA, B → BM⁻¹ moves nothing but the last digits. This
//! folder is the one door to nalgebra, for contiguous matrices of the rank's size: its views with rows further apart
//! than they are long were seen to be written outside of (0.35). Decompositions of activation size are the audit's own.

#![expect(clippy::disallowed_types, reason = "this folder is the door to nalgebra")]

mod grams;
mod products;
mod spectrum;

use std::borrow::Cow;

pub use self::grams::{Grams, Leading};
pub use self::spectrum::Directions;
use crate::adapter::{EmbeddingLowRank, LowRank};

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
    /// The change of a linear module: rows are its outputs.
    pub fn of_module(module: &'a LowRank) -> Self {
        Self {
            rows: module.outputs,
            columns: module.inputs,
            rank: module.rank,
            scale: module.scale,
            lora_b: Cow::Borrowed(module.lora_b.as_slice()),
            lora_a: Cow::Borrowed(module.lora_a.as_slice()),
        }
    }

    /// The change of an embedding table, ΔE = s·AᵀBᵀ: rows are its tokens.
    pub fn of_embedding(embedding: &'a EmbeddingLowRank) -> Self {
        Self {
            rows: embedding.rows,
            columns: embedding.width,
            rank: embedding.rank,
            scale: embedding.scale,
            lora_b: Cow::Owned(transposed(&embedding.lora_a, embedding.rank, embedding.rows)),
            lora_a: Cow::Owned(transposed(&embedding.lora_b, embedding.width, embedding.rank)),
        }
    }

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

/// (rows × columns) as (columns × rows), both row-major.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values.get(row * columns + column).copied().unwrap_or(0.0)))
        .collect()
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
