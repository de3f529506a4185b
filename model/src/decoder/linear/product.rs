//! Products with frozen weights that stay in their file: a tile of output rows at a time is widened to f32 and
//! multiplied with the rows of *all* branches, so that every weight is read and widened once however many models share
//! it.

use gemm::Parallelism;
use lcr_formats::checkpoint::Weight;
use rayon::prelude::*;

use super::super::kernels::{self, SkinnyRows, StoredRows};

/// f32 values of a widened tile: 4 MiB, large enough to amortise the packing of the activations, small beside a layer.
const TILE_VALUES: usize = 1 << 20;
/// Values of one task when a tile is widened on all cores.
const WIDEN_TASK: usize = 1 << 16;
/// Up to this many rows are multiplied with the stored bytes themselves: a tile would be written and read for nothing.
pub(super) const STREAMED_ROWS: usize = 16;
/// Stored bytes of one task there: long enough to read ahead, short enough to share a layer evenly.
const STREAMED_TASK_BYTES: usize = 1 << 18;
/// Multiplications under which the second core is not worth waking.
pub(in crate::decoder) const SERIAL_OPERATIONS: usize = 1 << 18;

/// Products up to this many multiplications are summed in f64: their time does not show, and the models small enough to
/// consist of them are the ones whose results are compared digit by digit.
const EXACT_OPERATIONS: usize = 1 << 18;

/// A strided matrix in a slice of f32.
#[derive(Clone, Copy)]
pub(in crate::decoder) struct Matrix<'a> {
    pub(in crate::decoder) values: &'a [f32],
    pub(in crate::decoder) rows: usize,
    pub(in crate::decoder) columns: usize,
    pub(in crate::decoder) row_stride: usize,
    pub(in crate::decoder) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major `[rows, columns]`.
    pub(in crate::decoder) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// `[rows, columns]` inside rows of `row_stride` values.
    pub(in crate::decoder) fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Rows as columns.
    pub(in crate::decoder) fn transposed(self) -> Self {
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
pub(in crate::decoder) fn parallelism(operations: usize) -> Parallelism {
    if operations < 1 << 21 { Parallelism::None } else { Parallelism::Rayon(0) }
}

/// out = scale · left · right, or out += where `accumulate`; `out` is `[left.rows, right.columns]` in rows of
/// `row_stride`.
///
/// # Panics
/// If an operand is shorter than its shape says: a bug of the caller, never a property of a file.
pub(in crate::decoder) fn multiply(
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
    // SAFETY: the three spans were just checked against their slices, and `out` is borrowed mutably, so nothing aliases
    // it.
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
    let round = |target: &mut f32, sum: f64| {
        let before = if accumulate { f64::from(*target) } else { 0.0 };
        *target = (before + f64::from(scale) * sum) as f32;
    };
    if left.column_stride == 1 && right.row_stride == 1 {
        for row in 0..left.rows {
            let first = &left.values[row * left.row_stride..][..left.columns];
            for column in 0..right.columns {
                let second = &right.values[column * right.column_stride..][..left.columns];
                round(&mut out[row * row_stride + column], exact_dot(first, second));
            }
        }
        return;
    }
    let mut sums = vec![0.0f64; right.columns];
    for row in 0..left.rows {
        sums.fill(0.0);
        for k in 0..left.columns {
            let factor = f64::from(left.values[row * left.row_stride + k * left.column_stride]);
            let values = &right.values[k * right.row_stride..];
            if right.column_stride == 1 {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * f64::from(*value));
            } else {
                let values = values.iter().step_by(right.column_stride);
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * f64::from(*value));
            }
        }
        out[row * row_stride..].iter_mut().zip(&sums).for_each(|(target, sum)| round(target, *sum));
    }
}

/// Σ aᵢbᵢ of equally long slices, in f64; eight partial sums stay in vector registers.
fn exact_dot(left: &[f32], right: &[f32]) -> f64 {
    const PARTS: usize = 8;
    let mut sums = [0.0f64; PARTS];
    let (left_chunks, right_chunks) = (left.chunks_exact(PARTS), right.chunks_exact(PARTS));
    let tail = left_chunks.remainder().iter().zip(right_chunks.remainder());
    let tail: f64 = tail.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    for (a, b) in left_chunks.zip(right_chunks) {
        for part in 0..PARTS {
            sums[part] += f64::from(a[part]) * f64::from(b[part]);
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// x Wᵀ for every branch: each of `branches` is `[rows, inputs]` row-major, each result `[rows, outputs]`.
///
/// `weight` is stored `[outputs, inputs]`, or `[inputs, outputs]` where `transposed` (GPT-2's Conv1D).
pub(super) fn frozen_matmul(
    weight: &Weight,
    transposed: bool,
    inputs: usize,
    outputs: usize,
    branches: &[&[f32]],
) -> Vec<Vec<f32>> {
    let mut results: Vec<Vec<f32>> = branches.iter().map(|branch| vec![0.0; branch.len() / inputs * outputs]).collect();
    let rows: usize = branches.iter().map(|branch| branch.len() / inputs).sum();
    if rows <= STREAMED_ROWS {
        let x: Vec<&[f32]> = branches.iter().flat_map(|branch| branch.chunks_exact(inputs)).collect();
        let y: Vec<&mut [f32]> = results.iter_mut().flat_map(|result| result.chunks_exact_mut(outputs)).collect();
        skinny_matmul(weight, transposed, x, y);
    } else if transposed {
        conv1d_matmul(weight, inputs, outputs, branches, &mut results);
    } else if let [branch] = branches {
        let left = Matrix::new(branch, rows, inputs);
        for_each_tile(weight, inputs, outputs, |first, count, tile| {
            let right = Matrix::new(tile, count, inputs).transposed();
            multiply(&mut results[0][first..], outputs, left, right, 1.0, false, parallelism(rows * inputs * count));
        });
    } else {
        joint_matmul(weight, inputs, outputs, branches, &mut results);
    }
    results
}

/// All branches as one matrix: the product packs a tile once for all of them, which for a few rows a branch is most of
/// its work.
fn joint_matmul(weight: &Weight, inputs: usize, outputs: usize, branches: &[&[f32]], results: &mut [Vec<f32>]) {
    let all = branches.concat();
    let rows = all.len() / inputs;
    let fewest = branches.iter().map(|branch| branch.len() / inputs).min().unwrap_or(0);
    let mut products = Vec::new();
    for_each_tile(weight, inputs, outputs, |first, count, tile| {
        let right = Matrix::new(tile, count, inputs).transposed();
        if fewest * count * inputs <= EXACT_OPERATIONS {
            // Whether sums are exact is a matter of a model's own rows, never of the company that they are in.
            for (branch, result) in branches.iter().zip(&mut *results) {
                let rows = branch.len() / inputs;
                let left = Matrix::new(branch, rows, inputs);
                multiply(&mut result[first..], outputs, left, right, 1.0, false, parallelism(rows * inputs * count));
            }
            return;
        }
        products.resize(rows * count, 0.0);
        let left = Matrix::new(&all, rows, inputs);
        multiply(&mut products, count, left, right, 1.0, false, parallelism(rows * inputs * count));
        let mut rest = products.as_slice();
        for result in &mut *results {
            let (own, others) = rest.split_at(result.len() / outputs * count);
            rest = others;
            let lines = result.par_chunks_exact_mut(outputs).zip(own.par_chunks_exact(count));
            lines.for_each(|(line, own)| line[first..first + count].copy_from_slice(own));
        }
    });
}

/// Widens `weight` (`[outputs, inputs]`) a tile of rows at a time and hands each to `visit(first row, rows, values)`.
pub fn for_each_tile(weight: &Weight, inputs: usize, outputs: usize, mut visit: impl FnMut(usize, usize, &[f32])) {
    let tile_rows = (TILE_VALUES / inputs.max(1)).clamp(1, outputs.max(1));
    let mut tile = vec![0.0; tile_rows * inputs];
    for first in (0..outputs).step_by(tile_rows) {
        let count = tile_rows.min(outputs - first);
        let values = &mut tile[..count * inputs];
        values.par_chunks_mut(WIDEN_TASK).enumerate().for_each(|(task, part)| {
            let start = first * inputs + task * WIDEN_TASK;
            weight.widen(start..start + part.len(), part);
        });
        visit(first, count, values);
    }
}

/// The same product with a weight stored `[inputs, outputs]`: tiles are blocks of inputs, and results add up.
fn conv1d_matmul(weight: &Weight, inputs: usize, outputs: usize, branches: &[&[f32]], results: &mut [Vec<f32>]) {
    for_each_tile(weight, outputs, inputs, |first, count, tile| {
        for (branch, result) in branches.iter().zip(results.iter_mut()) {
            let rows = branch.len() / inputs;
            let left = Matrix::strided(&branch[first..], rows, count, inputs);
            let right = Matrix::new(tile, count, outputs);
            multiply(result, outputs, left, right, 1.0, first > 0, parallelism(rows * count * outputs));
        }
    });
}

/// A few rows against the stored weight: bound by reading its bytes once.
fn skinny_matmul(weight: &Weight, transposed: bool, x: Vec<&[f32]>, y: Vec<&mut [f32]>) {
    let (Some(inputs), Some(outputs)) = (x.first().map(|row| row.len()), y.first().map(|row| row.len())) else {
        return;
    };
    let rows = x.len();
    let stored = StoredRows::of_weight(weight);
    let serial = rows * inputs * outputs <= SERIAL_OPERATIONS;
    let count = STREAMED_TASK_BYTES / (inputs * weight.dtype().size()).max(1);
    // Whole cache lines of results, so that no two cores write to one.
    let count = if serial { outputs } else { (count / 16 * 16).max(16) };
    let mut parts = blocks(y, count);
    let mut room = Vec::new();
    if transposed {
        let task = |(index, out): (usize, &mut [&mut [f32]])| kernels::gemv_t(stored, outputs, index * count, &x, out);
        for_each_block(&mut parts, rows, serial, task);
    } else {
        let x = SkinnyRows::new(x, stored, &mut room);
        let task = |(index, out): (usize, &mut [&mut [f32]])| {
            let first = index * count * inputs;
            let length = out.first().map_or(0, |part| part.len()) * inputs;
            kernels::gemv(stored.part(first..first + length), &x, out);
        };
        for_each_block(&mut parts, rows, serial, task);
    }
}

/// Columns of all `rows`, `count` at a time: the parts of one block stand together.
fn blocks(rows: Vec<&mut [f32]>, count: usize) -> Vec<&mut [f32]> {
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.chunks_mut(count)).collect();
    let blocks = rows.first().map_or(0, ExactSizeIterator::len);
    let mut parts = Vec::with_capacity(blocks * rows.len());
    for _ in 0..blocks {
        parts.extend(rows.iter_mut().filter_map(Iterator::next));
    }
    parts
}

/// Runs `task` on each block of `rows` parts, on all cores unless `serial`.
fn for_each_block<'a>(
    parts: &mut [&'a mut [f32]],
    rows: usize,
    serial: bool,
    task: impl Fn((usize, &mut [&'a mut [f32]])) + Sync + Send,
) {
    if serial {
        parts.chunks_mut(rows).enumerate().for_each(task);
    } else {
        parts.par_chunks_mut(rows).enumerate().for_each(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lcr_formats::checkpoint::SafetensorsFile;

    fn noise(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .collect()
    }

    /// A stored f32 matrix.
    fn with_weight(shape: [usize; 2], test: impl FnOnce(&Weight, &[f32])) {
        let values = noise(3, shape[0] * shape[1]);
        let bytes = 4 * values.len();
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":{shape:?},"data_offsets":[0,{bytes}]}}}}"#);
        let data = values.iter().flat_map(|value| value.to_le_bytes());
        let file: Vec<u8> = (header.len() as u64).to_le_bytes().into_iter().chain(header.bytes()).chain(data).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        std::fs::write(&path, file).unwrap();
        test(&SafetensorsFile::open(&path).unwrap().tensors()[0], &values);
    }

    #[test]
    fn lanes_together_get_what_each_gets_alone() {
        // Panels of 1,747 rows, so two of them; a few rows a branch and many; and a product small enough to be exact.
        for (outputs, inputs, rows) in [(2_000, 600, 18), (2_000, 600, 150), (100, 40, 30)] {
            with_weight([outputs, inputs], |weight, values| {
                let branches: Vec<Vec<f32>> = (0..3).map(|branch| noise(10 + branch, rows * inputs)).collect();
                let views: Vec<&[f32]> = branches.iter().map(Vec::as_slice).collect();
                let together = frozen_matmul(weight, false, inputs, outputs, &views);
                for (branch, result) in views.iter().zip(&together) {
                    let alone = frozen_matmul(weight, false, inputs, outputs, &[branch]).remove(0);
                    assert!(*result == alone, "{outputs}×{inputs}, {rows} rows");
                    for (row, column) in [(0, 0), (rows - 1, outputs - 1), (rows / 2, outputs / 3)] {
                        let expected =
                            exact_dot(&branch[row * inputs..][..inputs], &values[column * inputs..][..inputs]);
                        assert!((f64::from(result[row * outputs + column]) - expected).abs() < 1e-4);
                    }
                }
            });
        }
    }
}
