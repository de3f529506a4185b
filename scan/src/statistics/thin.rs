//! A change as a product of two thin matrices, and the few dense products that its statistics need.
//!
//! Everything of r × r is summed in f64, block by block: a wide module takes no more memory than a narrow one. The products go
//! through a matrix library, because at rank 64 they are nine tenths of a scan.

use std::borrow::Cow;

use lcr_model::adapter::{EmbeddingLowRank, LowRank};
use nalgebra::{DMatrix, DMatrixView};

/// Elements of a factor that are widened to f64 at a time, but at least so many rows or columns.
const BLOCK: usize = 1 << 15;
const SHORTEST: usize = 128;

/// BA with B (rows × rank) and A (rank × columns), both row-major, and the factor before it.
///
/// The rank is at most the smaller side: where a file claims more, the longer factor is multiplied out, so that the work on
/// r × r matrices is bounded by the size of the file.
#[derive(Debug, Clone)]
pub(super) struct Thin<'a> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) rank: usize,
    /// B.
    pub(super) up: Cow<'a, [f32]>,
    /// A.
    pub(super) down: Cow<'a, [f32]>,
}

impl<'a> Thin<'a> {
    /// The change of a linear module: rows are its outputs.
    pub(super) fn of_module(module: &'a LowRank) -> Self {
        let (up, down) = (Cow::Borrowed(module.up.as_slice()), Cow::Borrowed(module.down.as_slice()));
        Self { rows: module.outputs, columns: module.inputs, rank: module.rank, up, down }.reduced()
    }

    /// The change of an embedding table, ΔE = s·AᵀBᵀ: rows are its tokens.
    pub(super) fn of_embedding(embedding: &'a EmbeddingLowRank) -> Self {
        let up = Cow::Owned(transposed(&embedding.down, embedding.rank, embedding.rows));
        let down = Cow::Owned(transposed(&embedding.up, embedding.width, embedding.rank));
        Self { rows: embedding.rows, columns: embedding.width, rank: embedding.rank, up, down }.reduced()
    }

    /// The same product with an inner dimension of at most its smaller side.
    fn reduced(self) -> Self {
        let (rows, columns) = (self.rows, self.columns);
        if self.rank <= rows.min(columns) {
            return self;
        }
        let product = Cow::Owned(multiplied(&self));
        let identity = |size: usize| -> Cow<'a, [f32]> {
            Cow::Owned((0..size * size).map(|at| if at % (size + 1) == 0 { 1.0 } else { 0.0 }).collect())
        };
        if rows <= columns {
            Self { rows, columns, rank: rows, up: identity(rows), down: product }
        } else {
            Self { rows, columns, rank: columns, up: product, down: identity(columns) }
        }
    }

    /// BᵀB, (rank × rank).
    pub(super) fn gram_of_up(&self) -> DMatrix<f64> {
        let mut gram = DMatrix::zeros(self.rank, self.rank);
        self.for_rows(|_, transposed, block| gram.gemm(1.0, transposed, block, 1.0));
        gram
    }

    /// AAᵀ, (rank × rank).
    pub(super) fn gram_of_down(&self) -> DMatrix<f64> {
        let mut gram = DMatrix::zeros(self.rank, self.rank);
        self.for_columns(|_, block, transposed| gram.gemm(1.0, block, transposed, 1.0));
        gram
    }

    /// ‖row‖² of BA by row: ‖bᵢA‖² = bᵢ(AAᵀ)bᵢᵀ, from AAᵀ.
    pub(super) fn row_squares(&self, gram_of_down: &DMatrix<f64>) -> Vec<f64> {
        let mut squares = Vec::with_capacity(self.rows);
        self.for_rows(|_, transposed, _| {
            let products = gram_of_down * transposed;
            let each = products.column_iter().zip(transposed.column_iter());
            squares.extend(each.map(|(product, own)| product.dot(&own).max(0.0)));
        });
        squares
    }

    /// ‖column‖² of BA by column: ‖Baⱼ‖² = aⱼᵀ(BᵀB)aⱼ, from BᵀB.
    pub(super) fn column_squares(&self, gram_of_up: &DMatrix<f64>) -> Vec<f64> {
        let mut squares = vec![0.0; self.columns];
        self.for_columns(|start, _, transposed| {
            let mut products = DMatrix::zeros(transposed.nrows(), self.rank);
            products.gemm(1.0, transposed, gram_of_up, 0.0);
            let sums = squares.get_mut(start..).unwrap_or_default();
            for (product, own) in products.column_iter().zip(transposed.column_iter()) {
                sums.iter_mut()
                    .zip(product.iter().zip(own.iter()))
                    .for_each(|(sum, (left, right))| *sum += left * right);
            }
        });
        squares.iter_mut().for_each(|square| *square = square.max(0.0));
        squares
    }

    /// Σx⁴ over each of some rows of BA; the entries themselves are f32, their powers are summed in f64.
    pub(super) fn fourth_powers(&self, rows: &[usize]) -> Vec<f64> {
        let mut sums = vec![0.0; rows.len()];
        let picked = rows.iter().filter_map(|row| self.up.get(row * self.rank..(row + 1) * self.rank)).flatten();
        let picked: Vec<f32> = picked.copied().collect();
        if picked.len() != rows.len() * self.rank || self.down.len() != self.rank * self.columns {
            return sums;
        }
        let up = DMatrix::from_row_slice(rows.len(), self.rank, &picked);
        let step = (BLOCK / rows.len().max(1)).max(1);
        for start in (0..self.columns).step_by(step) {
            let width = step.min(self.columns - start);
            let source = self.down.get(start..).unwrap_or_default();
            let block = DMatrixView::from_slice_with_strides(source, self.rank, width, self.columns, 1);
            let entries = &up * block;
            for column in entries.column_iter() {
                sums.iter_mut().zip(column.iter()).for_each(|(sum, entry)| *sum += f64::from(*entry).powi(2).powi(2));
            }
        }
        sums
    }

    /// Bw, in f64.
    pub(super) fn up_times(&self, vector: &[f64]) -> Vec<f64> {
        let lines = self.up.chunks_exact(self.rank.max(1));
        lines.map(|line| line.iter().zip(vector).map(|(value, weight)| f64::from(*value) * weight).sum()).collect()
    }

    /// Aᵀw, in f64.
    pub(super) fn down_times(&self, vector: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.columns];
        for (line, weight) in self.down.chunks_exact(self.columns.max(1)).zip(vector) {
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        sums
    }

    /// B in blocks of rows, widened: first row, the block transposed (rank × n), the block (n × rank).
    fn for_rows(&self, mut each: impl FnMut(usize, &DMatrixView<'_, f64>, &Strided<'_>)) {
        let step = (BLOCK / self.rank.max(1)).max(SHORTEST);
        let mut wide = Vec::new();
        for (index, lines) in self.up.chunks(step * self.rank.max(1)).enumerate() {
            wide.clear();
            wide.extend(lines.iter().map(|value| f64::from(*value)));
            let count = lines.len() / self.rank.max(1);
            let transposed = DMatrixView::from_slice(&wide, self.rank, count);
            let block = Strided::from_slice_with_strides(&wide, count, self.rank, self.rank, 1);
            each(index * step, &transposed, &block);
        }
    }

    /// A in blocks of columns, widened: first column, the block (rank × n), the block transposed (n × rank).
    fn for_columns(&self, mut each: impl FnMut(usize, &Strided<'_>, &DMatrixView<'_, f64>)) {
        let step = (BLOCK / self.rank.max(1)).max(SHORTEST);
        let mut wide = Vec::new();
        for start in (0..self.columns).step_by(step) {
            let width = step.min(self.columns - start);
            wide.clear();
            for line in self.down.chunks_exact(self.columns.max(1)).take(self.rank) {
                let values = line.get(start..start + width).unwrap_or_default();
                wide.extend(values.iter().map(|value| f64::from(*value)));
            }
            // Row-major (rank × n) is column-major (n × rank).
            let transposed = DMatrixView::from_slice(&wide, width, self.rank);
            let block = Strided::from_slice_with_strides(&wide, self.rank, width, width, 1);
            each(start, &block, &transposed);
        }
    }
}

/// A view whose rows and columns are any number of elements apart.
type Strided<'a> = DMatrixView<'a, f64, nalgebra::Dyn, nalgebra::Dyn>;

/// (rows × columns) as (columns × rows), both row-major.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values.get(row * columns + column).copied().unwrap_or(0.0)))
        .collect()
}

/// BA itself, (rows × columns), row-major, rounded to f32 once.
fn multiplied(thin: &Thin<'_>) -> Vec<f32> {
    let mut product = Vec::with_capacity(thin.rows * thin.columns);
    for line in thin.up.chunks_exact(thin.rank.max(1)) {
        let weights: Vec<f64> = line.iter().map(|value| f64::from(*value)).collect();
        product.extend(thin.down_times(&weights).into_iter().map(|value| value as f32));
    }
    product
}
