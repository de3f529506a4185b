//! The few dense products that a change's statistics need, block by block.
//!
//! Everything of r × r is summed in f64: a wide module takes no more memory than a narrow one. The products go through
//! a matrix library, because at rank 64 they are nine tenths of a scan.

use nalgebra::{DMatrix, DMatrixView};

use super::{FactoredMatrix, Grams};

/// Elements of a factor that are widened to f64 at a time, but at least so many rows or columns.
const BLOCK: usize = 1 << 15;
const SHORTEST: usize = 128;

impl FactoredMatrix<'_> {
    /// BᵀB, (rank × rank).
    pub(super) fn gram_of_b(&self) -> DMatrix<f64> {
        let mut gram = DMatrix::zeros(self.rank, self.rank);
        self.for_rows(|transposed| gram.gemm(1.0, transposed, &transposed.transpose(), 1.0));
        gram
    }

    /// AAᵀ, (rank × rank).
    pub(super) fn gram_of_a(&self) -> DMatrix<f64> {
        let mut gram = DMatrix::zeros(self.rank, self.rank);
        self.for_columns(|_, transposed| gram.gemm(1.0, &transposed.transpose(), transposed, 1.0));
        gram
    }

    /// ‖row‖² of BA by row: ‖bᵢA‖² = bᵢ(AAᵀ)bᵢᵀ, from AAᵀ; the scale is left out.
    pub fn row_squares(&self, grams: &Grams) -> Vec<f64> {
        let mut squares = Vec::with_capacity(self.rows);
        self.for_rows(|transposed| {
            let products = &grams.of_a * transposed;
            let each = products.column_iter().zip(transposed.column_iter());
            squares.extend(each.map(|(product, own)| product.dot(&own).max(0.0)));
        });
        squares
    }

    /// ‖column‖² of BA by column: ‖Baⱼ‖² = aⱼᵀ(BᵀB)aⱼ, from BᵀB; the scale is left out.
    pub fn column_squares(&self, grams: &Grams) -> Vec<f64> {
        let mut squares = vec![0.0; self.columns];
        self.for_columns(|start, transposed| {
            let products = transposed * &grams.of_b;
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
    pub fn fourth_powers(&self, rows: &[usize]) -> Vec<f64> {
        let mut sums = vec![0.0; rows.len()];
        let picked = rows.iter().filter_map(|row| self.lora_b.get(row * self.rank..(row + 1) * self.rank)).flatten();
        let picked: Vec<f32> = picked.copied().collect();
        if picked.len() != rows.len() * self.rank {
            return sums;
        }
        // Row-major (rows × rank) is column-major (rank × rows).
        let lora_b = DMatrixView::from_slice(&picked, self.rank, rows.len());
        let step = (BLOCK / rows.len().max(1)).max(SHORTEST);
        let mut block = Vec::new();
        for start in (0..self.columns).step_by(step) {
            let width = step.min(self.columns - start);
            block.clear();
            self.lines(start, width).for_each(|line| block.extend(line));
            let entries = DMatrixView::from_slice(&block, width, self.rank) * lora_b;
            sums.iter_mut().zip(entries.column_iter()).for_each(|(sum, own)| *sum += fourth(own.as_slice()));
        }
        sums
    }

    /// Bw, in f64.
    pub fn b_times(&self, vector: &[f64]) -> Vec<f64> {
        let lines = self.lora_b.chunks_exact(self.rank.max(1));
        lines.map(|line| line.iter().zip(vector).map(|(value, weight)| f64::from(*value) * weight).sum()).collect()
    }

    /// Aᵀw, in f64.
    pub fn transposed_a_times(&self, vector: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.columns];
        for (line, weight) in self.lora_a.chunks_exact(self.columns.max(1)).zip(vector) {
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        sums
    }

    /// B in blocks of rows, widened, each transposed: (rank × n).
    ///
    /// All views here are of whole columns side by side: with rows further apart nalgebra 0.35 was seen to read outside
    /// of them.
    fn for_rows(&self, mut each: impl FnMut(&DMatrixView<'_, f64>)) {
        let rank = self.rank.max(1);
        let step = (BLOCK / rank).max(SHORTEST);
        let mut wide = Vec::new();
        for lines in self.lora_b.chunks(step * rank) {
            wide.clear();
            wide.extend(lines.iter().map(|value| f64::from(*value)));
            each(&DMatrixView::from_slice(&wide, rank, lines.len() / rank));
        }
    }

    /// A in blocks of columns, widened, each transposed: first column, (n × rank).
    fn for_columns(&self, mut each: impl FnMut(usize, &DMatrixView<'_, f64>)) {
        let step = (BLOCK / self.rank.max(1)).max(SHORTEST);
        let mut wide = Vec::new();
        for start in (0..self.columns).step_by(step) {
            let width = step.min(self.columns - start);
            wide.clear();
            self.lines(start, width).for_each(|line| wide.extend(line.iter().map(|value| f64::from(*value))));
            each(start, &DMatrixView::from_slice(&wide, width, self.rank));
        }
    }

    /// A part of each row of A.
    fn lines(&self, start: usize, width: usize) -> impl Iterator<Item = &[f32]> {
        let lines = self.lora_a.chunks_exact(self.columns.max(1)).take(self.rank);
        lines.map(move |line| line.get(start..start + width).unwrap_or_default())
    }
}

/// Σx⁴, in several sums at once, so that one addition need not wait for the one before.
fn fourth(entries: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (blocks, rest) = entries.as_chunks::<LANES>();
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, entry)| *sum += f64::from(*entry).powi(2).powi(2));
    }
    sums.iter().sum::<f64>() + rest.iter().map(|entry| f64::from(*entry).powi(2).powi(2)).sum::<f64>()
}
