//! Products of a few rows with many stored ones: what decoding consists of.
//!
//! The stored bytes are read once, widened to f32 in registers and multiplied with all the rows, so that one row is
//! bound by reading memory and several cost little more. Two forms: [`gemv`], where an output belongs to a stored row
//! (a linear module, the scores of attention), and [`gemv_t`], where stored rows are added up (GPT-2's Conv1D, the
//! values of attention). Everything here runs on the calling thread; who calls shares out the stored rows.
//!
//! On x86-64 with AVX2, FMA and F16C the inner loops are those of [`avx2`]; elsewhere portable loops give the same sums
//! in another order.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use std::ops::Range;

use lcr_formats::checkpoint::{Dtype, Weight};

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

/// A few rows of f32, laid out as [`gemv`] reads them against stored rows of one kind.
#[derive(Debug)]
pub(crate) struct SkinnyRows<'a> {
    rows: Vec<&'a [f32]>,
}

impl<'a> SkinnyRows<'a> {
    /// `rows` are of one length; `room` keeps the reordered copy where one is needed.
    pub(crate) fn new(rows: Vec<&'a [f32]>, stored: StoredRows, room: &'a mut Vec<f32>) -> Self {
        let columns = rows.first().map_or(0, |row| row.len());
        if !(stored.is_bf16() && vectorised()) || columns < STEP {
            return Self { rows };
        }
        // Two neighbouring bf16 share 32 bits, from which a shift takes the first and a mask the second: even and odd
        // columns come apart, so the rows are put in that order too.
        room.clear();
        room.resize(rows.len() * columns, 0.0);
        for (row, out) in rows.iter().zip(room.chunks_exact_mut(columns)) {
            let (mut steps, mut outs) = (row.chunks_exact(STEP), out.chunks_exact_mut(STEP));
            for (step, out) in (&mut steps).zip(&mut outs) {
                for pair in 0..STEP / 2 {
                    out[pair] = step[2 * pair];
                    out[STEP / 2 + pair] = step[2 * pair + 1];
                }
            }
            outs.into_remainder().copy_from_slice(steps.remainder());
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
pub(crate) fn gemv(stored: StoredRows, x: &SkinnyRows, out: &mut [&mut [f32]]) {
    let columns = x.columns();
    let count = out.first().map_or(0, |row| row.len());
    assert!(out.len() == x.rows.len() && out.iter().all(|row| row.len() == count), "as many results as rows");
    assert!(x.rows.iter().all(|row| row.len() == columns), "rows of one length");
    assert!(stored.len() >= count * columns, "fewer stored rows than results");
    #[cfg(target_arch = "x86_64")]
    if vectorised() {
        #[expect(unsafe_code, reason = "functions compiled for AVX2 may run only where it is")]
        // SAFETY: `vectorised` has just found AVX2, FMA and F16C.
        return unsafe { avx2::gemv(stored, &x.rows, columns, count, out) };
    }
    portable::gemv(stored, &x.rows, columns, count, out);
}

/// out[a][j] += Σ_i x[a][i] · stored[i, j], in f32; `stored` holds rows of `stride` elements of which those from
/// `first` on are taken, as many as an `out` has.
///
/// # Panics
/// As [`gemv`].
pub(crate) fn gemv_t(stored: StoredRows, stride: usize, first: usize, x: &[&[f32]], out: &mut [&mut [f32]]) {
    let columns = out.first().map_or(0, |row| row.len());
    let count = x.first().map_or(0, |row| row.len());
    assert!(out.len() == x.len() && out.iter().all(|row| row.len() == columns), "as many results as rows");
    assert!(x.iter().all(|row| row.len() == count), "rows of one length");
    assert!(count == 0 || stored.len() >= (count - 1) * stride + first + columns, "fewer stored rows than factors");
    #[cfg(target_arch = "x86_64")]
    if vectorised() {
        #[expect(unsafe_code, reason = "functions compiled for AVX2 may run only where it is")]
        // SAFETY: `vectorised` has just found AVX2, FMA and F16C.
        return unsafe { avx2::gemv_t(stored, stride, first, x, out) };
    }
    portable::gemv_t(stored, stride, first, x, out);
}

/// v ← e^(factor · v + shift), within two units of the last place; exponents beyond ±87 count as ±87.
pub(crate) fn exponentials(values: &mut [f32], factor: f32, shift: f32) {
    #[cfg(target_arch = "x86_64")]
    if vectorised() {
        #[expect(unsafe_code, reason = "functions compiled for AVX2 may run only where it is")]
        // SAFETY: `vectorised` has just found AVX2, FMA and F16C.
        return unsafe { avx2::exponentials(values, factor, shift) };
    }
    portable::exponentials(values, factor, shift);
}

/// Whether the loops of [`avx2`] can run here.
fn vectorised() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    /// Uniform in ±1 with so few bits that bf16 and f16 hold it exactly.
    fn noise(generator: &mut ChaCha12Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| (generator.next_u32() % 255) as f32 / 128.0 - 127.0 / 128.0).collect()
    }

    fn stored(values: &[f32], dtype: Dtype) -> Vec<u8> {
        match dtype {
            Dtype::Bf16 => values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    fn largest_difference(found: &[Vec<f32>], expected: impl Fn(usize, usize) -> f64) -> f64 {
        let errors = found.iter().enumerate().flat_map(|(row, values)| {
            let expected = &expected;
            values.iter().enumerate().map(move |(column, value)| (f64::from(*value) - expected(row, column)).abs())
        });
        errors.fold(0.0, f64::max)
    }

    /// Column counts around the steps and blocks of the loops.
    const COLUMNS: [usize; 7] = [1, 15, 16, 40, 129, 1024, 2061];

    #[test]
    fn gemv_equals_sums_in_f64_for_every_dtype_and_any_shape() {
        let mut generator = ChaCha12Rng::seed_from_u64(1);
        for (dtype, columns) in [Dtype::Bf16, Dtype::F16, Dtype::F32].into_iter().flat_map(|d| COLUMNS.map(|c| (d, c)))
        {
            for (rows, count) in [(1, 37), (2, 5), (3, 34), (4, 33), (5, 1), (8, 3), (16, 2), (17, 7)] {
                let weights = noise(&mut generator, count * columns);
                let x = noise(&mut generator, rows * columns);
                // One byte before: files need not align their tensors.
                let bytes = [vec![0], stored(&weights, dtype)].concat();
                let source = StoredRows::Bytes(&bytes[1..], dtype);
                let exact = |row: usize, index: usize| -> f64 {
                    let (x, w) = (&x[row * columns..][..columns], &weights[index * columns..][..columns]);
                    x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
                };
                let tolerance = 2e-7 * columns as f64;
                let mut out = vec![vec![f32::NAN; count]; rows];
                let views: Vec<&[f32]> = x.chunks_exact(columns).collect();
                let mut room = Vec::new();
                let few = SkinnyRows::new(views.clone(), source, &mut room);
                gemv(source, &few, &mut out.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
                let error = largest_difference(&out, exact);
                assert!(error < tolerance, "{dtype}, {rows} × {columns} × {count}: {error}");
                let mut out: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
                portable::gemv(source, &views, columns, count, &mut out);
                let out: Vec<Vec<f32>> = out.iter().map(|row| row.to_vec()).collect();
                assert!(largest_difference(&out, exact) < tolerance, "portable, {dtype}");
            }
        }
    }

    #[test]
    fn combined_rows_equal_sums_in_f64_and_add_to_what_is_there() {
        let mut generator = ChaCha12Rng::seed_from_u64(2);
        for (dtype, columns) in [Dtype::Bf16, Dtype::F16, Dtype::F32].into_iter().flat_map(|d| COLUMNS.map(|c| (d, c)))
        {
            for (rows, count) in [(1, 70), (2, 33), (3, 5), (4, 1), (9, 32)] {
                let (first, stride) = (3, columns + 5);
                let weights = noise(&mut generator, count * stride);
                let x = noise(&mut generator, rows * count);
                let bytes = [vec![0], stored(&weights, dtype)].concat();
                let source = StoredRows::Bytes(&bytes[1..], dtype);
                let exact = |row: usize, column: usize| -> f64 {
                    let term =
                        |i: usize| f64::from(x[row * count + i]) * f64::from(weights[i * stride + first + column]);
                    0.5 + (0..count).map(term).sum::<f64>()
                };
                let views: Vec<&[f32]> = x.chunks_exact(count).collect();
                for run in [gemv_t, portable::gemv_t] {
                    let mut out = vec![vec![0.5; columns]; rows];
                    run(source, stride, first, &views, &mut out.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
                    let error = largest_difference(&out, exact);
                    assert!(error < 2e-7 * count as f64, "{dtype}, {rows} × {count} × {columns}: {error}");
                }
            }
        }
    }

    #[test]
    fn exponentials_are_right_to_two_units_of_the_last_place() {
        let points: Vec<f32> = (-86_000..=86_000).map(|index| index as f32 / 1000.0).collect();
        let mut values = points.clone();
        exponentials(&mut values, 1.0, 0.0);
        for (x, value) in points.iter().zip(&values) {
            let exact = f64::from(*x).exp();
            assert!((f64::from(*value) / exact - 1.0).abs() < 2.0 * f64::from(f32::EPSILON), "e^{x} = {value}");
        }
        for run in [exponentials, portable::exponentials] {
            let mut special = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0, 3.0];
            run(&mut special, -1.0, 1.0);
            assert!(special[0].is_nan());
            assert!(special[1] > 1e37 && special[1].is_finite() && special[2] < 2e-38, "{special:?}");
            assert!(
                (special[3] / std::f32::consts::E - 1.0).abs() < 1e-6 && (special[4] / 0.135_335_28 - 1.0).abs() < 1e-6
            );
        }
    }
}
