//! Products of a few rows with many stored ones: what decoding consists of.
//!
//! The stored bytes are read once, widened to f32 in registers and multiplied with all the rows, so that one row is bound
//! by reading memory and several cost little more. Two forms: [`dot_rows`], where an output belongs to a stored row (a
//! linear module, the scores of attention), and [`combine_rows`], where stored rows are added up (GPT-2's Conv1D, the
//! values of attention). Everything here runs on the calling thread; who calls shares out the stored rows.
//!
//! On x86-64 with AVX2, FMA and F16C the inner loops are those of [`avx2`]; elsewhere portable loops give the same sums in
//! another order.

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::ops::Range;

use crate::checkpoint::{Dtype, Weight};

/// Columns that the vector loops take in one step.
const STEP: usize = 16;

/// Rows of equal length, one after another, in the dtype in which they are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StoredRows<'a> {
    /// Little-endian bytes of a file.
    Bytes(&'a [u8], Dtype),
    /// Values in memory.
    Values(&'a [f32]),
}

impl<'a> StoredRows<'a> {
    pub(crate) fn of_weight(weight: &'a Weight) -> Self {
        Self::Bytes(weight.bytes(), weight.dtype())
    }

    /// Some of the elements; nothing where the range lies outside.
    pub(crate) fn part(self, elements: Range<usize>) -> Self {
        match self {
            Self::Bytes(bytes, dtype) => {
                let size = dtype.size();
                Self::Bytes(bytes.get(elements.start * size..elements.end * size).unwrap_or(&[]), dtype)
            }
            Self::Values(values) => Self::Values(values.get(elements).unwrap_or(&[])),
        }
    }

    /// Elements.
    fn len(self) -> usize {
        match self {
            Self::Bytes(bytes, dtype) => bytes.len() / dtype.size(),
            Self::Values(values) => values.len(),
        }
    }

    fn is_bf16(self) -> bool {
        matches!(self, Self::Bytes(_, Dtype::Bf16))
    }

    /// Widens the elements from `start` on into `out`.
    fn widen(self, start: usize, out: &mut [f32]) {
        match self.part(start..start + out.len()) {
            Self::Values(values) => out.iter_mut().zip(values).for_each(|(out, value)| *out = *value),
            Self::Bytes(bytes, dtype) => dtype.widen(bytes, out),
        }
    }
}

/// A few rows of f32, laid out as [`dot_rows`] reads them against stored rows of one kind.
#[derive(Debug)]
pub(crate) struct FewRows<'a> {
    rows: Vec<&'a [f32]>,
}

impl<'a> FewRows<'a> {
    /// `rows` are of one length; `room` keeps the reordered copy where one is needed.
    pub(crate) fn new(rows: Vec<&'a [f32]>, stored: StoredRows, room: &'a mut Vec<f32>) -> Self {
        let columns = rows.first().map_or(0, |row| row.len());
        if !(stored.is_bf16() && vectorised()) || columns < STEP {
            return Self { rows };
        }
        // Two neighbouring bf16 share 32 bits, from which a shift takes the first and a mask the second: even and odd
        // columns come apart, so the rows are put in that order too.
        room.clear();
        for row in &rows {
            for step in row.chunks(STEP) {
                if step.len() == STEP {
                    room.extend(step.iter().step_by(2));
                    room.extend(step.iter().skip(1).step_by(2));
                } else {
                    room.extend(step);
                }
            }
        }
        Self { rows: room.chunks_exact(columns).collect() }
    }

    fn columns(&self) -> usize {
        self.rows.first().map_or(0, |row| row.len())
    }
}

/// out[a][i] = Σ_k stored[i, k] · x[a][k], in f32; `stored` is `[out[a].len(), columns of x]`.
///
/// # Panics
/// If the shapes do not fit together: a bug of the caller, never a property of a file.
pub(crate) fn dot_rows(stored: StoredRows, x: &FewRows, out: &mut [&mut [f32]]) {
    let columns = x.columns();
    let count = out.first().map_or(0, |row| row.len());
    assert!(out.len() == x.rows.len() && out.iter().all(|row| row.len() == count), "as many results as rows");
    assert!(x.rows.iter().all(|row| row.len() == columns), "rows of one length");
    assert!(stored.len() >= count * columns, "fewer stored rows than results");
    #[cfg(target_arch = "x86_64")]
    if vectorised() {
        #[expect(unsafe_code, reason = "functions compiled for AVX2 may run only where it is")]
        // SAFETY: `vectorised` has just found AVX2, FMA and F16C.
        return unsafe { avx2::dot_rows(stored, &x.rows, columns, count, out) };
    }
    dot_rows_portable(stored, &x.rows, columns, count, out);
}

/// out[a][j] += Σ_i x[a][i] · stored[i, j], in f32; `stored` holds rows of `stride` elements of which those from `first` on
/// are taken, as many as an `out` has.
///
/// # Panics
/// As [`dot_rows`].
pub(crate) fn combine_rows(stored: StoredRows, stride: usize, first: usize, x: &[&[f32]], out: &mut [&mut [f32]]) {
    let columns = out.first().map_or(0, |row| row.len());
    let count = x.first().map_or(0, |row| row.len());
    assert!(out.len() == x.len() && out.iter().all(|row| row.len() == columns), "as many results as rows");
    assert!(x.iter().all(|row| row.len() == count), "rows of one length");
    assert!(count == 0 || stored.len() >= (count - 1) * stride + first + columns, "fewer stored rows than factors");
    #[cfg(target_arch = "x86_64")]
    if vectorised() {
        #[expect(unsafe_code, reason = "functions compiled for AVX2 may run only where it is")]
        // SAFETY: `vectorised` has just found AVX2, FMA and F16C.
        return unsafe { avx2::combine_rows(stored, stride, first, x, out) };
    }
    combine_rows_portable(stored, stride, first, x, out);
}

/// Whether the loops of [`avx2`] can run here.
fn vectorised() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn dot_rows_portable(stored: StoredRows, x: &[&[f32]], columns: usize, count: usize, out: &mut [&mut [f32]]) {
    let mut row = vec![0.0; columns];
    for index in 0..count {
        stored.widen(index * columns, &mut row);
        for (out, x) in out.iter_mut().zip(x) {
            out[index] = dot(&row, x);
        }
    }
}

fn combine_rows_portable(stored: StoredRows, stride: usize, first: usize, x: &[&[f32]], out: &mut [&mut [f32]]) {
    let mut row = vec![0.0; out.first().map_or(0, |row| row.len())];
    for index in 0..x.first().map_or(0, |x| x.len()) {
        stored.widen(index * stride + first, &mut row);
        for (out, x) in out.iter_mut().zip(x) {
            out.iter_mut().zip(&row).for_each(|(sum, value)| *sum += x[index] * value);
        }
    }
}

/// Σ aᵢbᵢ in sixteen partial sums, which the compiler keeps in vector registers.
fn dot(left: &[f32], right: &[f32]) -> f32 {
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
