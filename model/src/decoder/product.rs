//! Products with frozen weights that stay in their file: a panel of output rows at a time is widened to f32 and multiplied
//! with the rows of *all* lanes, so that every weight is read and widened once however many models share it.

use gemm::Parallelism;
use rayon::prelude::*;

use crate::checkpoint::Weight;

/// f32 values of a widened panel: 4 MiB, large enough to amortise the packing of the activations, small beside a layer.
const PANEL_VALUES: usize = 1 << 20;
/// Values of one task when a panel is widened on all cores.
const WIDEN_TASK: usize = 1 << 16;
/// Fewer rows than this are streamed against the stored bytes instead: a panel would be written and read for nothing.
const STREAMED_ROWS: usize = 4;

/// Products up to this many multiplications are summed in f64: their time does not show, and the models small enough to
/// consist of them are the ones whose results are compared digit by digit.
const EXACT_OPERATIONS: usize = 1 << 18;

/// A strided matrix in a slice of f32.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major `[rows, columns]`.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// `[rows, columns]` inside rows of `row_stride` values.
    pub(crate) fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Rows as columns.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn span(&self) -> usize {
        span(self.rows, self.columns, self.row_stride, self.column_stride)
    }
}

fn span(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + (columns - 1) * column_stride + 1 }
}

/// Threads for one product; large ones use the whole pool.
pub(crate) fn parallelism(operations: usize) -> Parallelism {
    if operations < 1 << 21 { Parallelism::None } else { Parallelism::Rayon(0) }
}

/// out = scale · left · right, or out += where `accumulate`; `out` is `[left.rows, right.columns]` in rows of `row_stride`.
///
/// # Panics
/// If an operand is shorter than its shape says: a bug of the caller, never a property of a file.
pub(crate) fn multiply(
    out: &mut [f32],
    row_stride: usize,
    left: Matrix,
    right: Matrix,
    scale: f32,
    accumulate: bool,
    parallelism: Parallelism,
) {
    assert!(left.columns == right.rows, "inner dimensions differ");
    assert!(left.values.len() >= left.span() && right.values.len() >= right.span(), "operand too short");
    assert!(out.len() >= span(left.rows, right.columns, row_stride, 1), "result too short");
    if left.rows * right.columns * left.columns <= EXACT_OPERATIONS {
        return multiply_small(out, row_stride, left, right, scale, accumulate);
    }
    #[expect(unsafe_code, reason = "the gemm crate takes raw pointers")]
    // SAFETY: the three spans were just checked against their slices, and `out` is borrowed mutably, so nothing aliases it.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            row_stride as isize,
            accumulate,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The same with every sum in f64, rounded once.
fn multiply_small(out: &mut [f32], row_stride: usize, left: Matrix, right: Matrix, scale: f32, accumulate: bool) {
    for row in 0..left.rows {
        let first = &left.values[row * left.row_stride..];
        for column in 0..right.columns {
            let second = &right.values[column * right.column_stride..];
            let sum: f64 = (0..left.columns)
                .map(|k| f64::from(first[k * left.column_stride]) * f64::from(second[k * right.row_stride]))
                .sum();
            let target = &mut out[row * row_stride + column];
            let before = if accumulate { f64::from(*target) } else { 0.0 };
            *target = (before + f64::from(scale) * sum) as f32;
        }
    }
}

/// x Wᵀ for every lane: each of `lanes` is `[rows, inputs]` row-major, each result `[rows, outputs]`.
///
/// `weight` is stored `[outputs, inputs]`, or `[inputs, outputs]` where `transposed` (GPT-2's Conv1D).
pub(crate) fn frozen_product(
    weight: &Weight,
    transposed: bool,
    inputs: usize,
    outputs: usize,
    lanes: &[&[f32]],
) -> Vec<Vec<f32>> {
    let mut results: Vec<Vec<f32>> = lanes.iter().map(|lane| vec![0.0; lane.len() / inputs * outputs]).collect();
    let rows: usize = lanes.iter().map(|lane| lane.len() / inputs).sum();
    if transposed {
        conv1d_product(weight, inputs, outputs, lanes, &mut results);
    } else if rows < STREAMED_ROWS {
        for (lane, result) in lanes.iter().zip(&mut results) {
            for (x, y) in lane.chunks_exact(inputs).zip(result.chunks_exact_mut(outputs)) {
                streamed_product(weight, x, y);
            }
        }
    } else {
        for_each_panel(weight, inputs, outputs, |first, count, panel| {
            for (lane, result) in lanes.iter().zip(&mut results) {
                let rows = lane.len() / inputs;
                let left = Matrix::new(lane, rows, inputs);
                let right = Matrix::new(panel, count, inputs).transposed();
                multiply(&mut result[first..], outputs, left, right, 1.0, false, parallelism(rows * inputs * count));
            }
        });
    }
    results
}

/// Widens `weight` (`[outputs, inputs]`) a panel of rows at a time and hands each to `visit(first row, rows, values)`.
pub fn for_each_panel(weight: &Weight, inputs: usize, outputs: usize, mut visit: impl FnMut(usize, usize, &[f32])) {
    let panel_rows = (PANEL_VALUES / inputs.max(1)).clamp(1, outputs.max(1));
    let mut panel = vec![0.0; panel_rows * inputs];
    for first in (0..outputs).step_by(panel_rows) {
        let count = panel_rows.min(outputs - first);
        let values = &mut panel[..count * inputs];
        values.par_chunks_mut(WIDEN_TASK).enumerate().for_each(|(task, part)| {
            let start = first * inputs + task * WIDEN_TASK;
            weight.widen(start..start + part.len(), part);
        });
        visit(first, count, values);
    }
}

/// The same product with a weight stored `[inputs, outputs]`: panels are blocks of inputs, and results add up.
fn conv1d_product(weight: &Weight, inputs: usize, outputs: usize, lanes: &[&[f32]], results: &mut [Vec<f32>]) {
    for_each_panel(weight, outputs, inputs, |first, count, panel| {
        for (lane, result) in lanes.iter().zip(results.iter_mut()) {
            let rows = lane.len() / inputs;
            let left = Matrix::strided(&lane[first..], rows, count, inputs);
            let right = Matrix::new(panel, count, outputs);
            multiply(result, outputs, left, right, 1.0, first > 0, parallelism(rows * count * outputs));
        }
    });
}

/// One row against the stored weight: bound by reading its bytes once.
fn streamed_product(weight: &Weight, x: &[f32], y: &mut [f32]) {
    let inputs = x.len();
    let rows_per_task = (WIDEN_TASK / inputs.max(1)).max(1);
    y.par_chunks_mut(rows_per_task).enumerate().for_each(|(task, part)| {
        let mut row = vec![0.0; inputs];
        for (offset, value) in part.iter_mut().enumerate() {
            let start = (task * rows_per_task + offset) * inputs;
            weight.widen(start..start + inputs, &mut row);
            *value = dot(&row, x);
        }
    });
}

/// Σ aᵢbᵢ in sixteen partial sums, which the compiler keeps in vector registers.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    const PARTS: usize = 16;
    let mut sums = [0.0f32; PARTS];
    let (left_chunks, right_chunks) = (left.chunks_exact(PARTS), right.chunks_exact(PARTS));
    let tail: f32 = left_chunks.remainder().iter().zip(right_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left_chunks.zip(right_chunks) {
        for part in 0..PARTS {
            sums[part] += a[part] * b[part];
        }
    }
    sums.iter().sum::<f32>() + tail
}
