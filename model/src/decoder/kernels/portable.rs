//! The loops for any processor: a stored row is widened at a time, and the compiler finds the vectors.

use super::StoredRows;

/// v ← e^(factor · v + shift), as [`super::exponentials`].
pub(super) fn exponentials(values: &mut [f32], factor: f32, shift: f32) {
    values.iter_mut().for_each(|value| *value = (factor * *value + shift).clamp(-87.0, 87.0).exp());
}

/// As [`super::gemv`], its shapes checked.
pub(super) fn gemv(stored: StoredRows, x: &[&[f32]], columns: usize, count: usize, out: &mut [&mut [f32]]) {
    let mut row = vec![0.0; columns];
    for index in 0..count {
        stored.widen(index * columns, &mut row);
        for (out, x) in out.iter_mut().zip(x) {
            out[index] = dot(&row, x);
        }
    }
}

/// As [`super::gemv_t`], its shapes checked.
pub(super) fn gemv_t(stored: StoredRows, stride: usize, first: usize, x: &[&[f32]], out: &mut [&mut [f32]]) {
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
