//! The inner loops of [`super`] for AVX2, FMA and F16C.
//!
//! A tile of R stored rows and A rows of x is summed in R·A ≤ 8 registers: two multiplications can start in each cycle
//! and take four, so eight independent sums keep both units busy, and what is loaded once is used R or A times.

//! Every unsafe function here asks for the same: that the processor has the three features, that `stored` holds the
//! rows and columns it is told of, and that each row of x and each result is as long as the stored rows it meets.
//! [`super`] checks all of it once, before the first loop.

#![expect(unsafe_code, reason = "vector loads from slices whose lengths were checked once, before the loops")]
#![expect(unsafe_op_in_unsafe_fn, reason = "all functions share the condition in the header")]

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_add_ps, _mm_loadu_si128, _mm_prefetch, _mm_storeu_ps, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_cvtps_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_round_ps, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps,
};

use lcr_formats::checkpoint::Dtype;

use super::{STEP, StoredRows};

/// The kinds of stored element, as parameters of the loops.
const BF16: u8 = 0;
const F16: u8 = 1;
const F32: u8 = 2;

const fn size_of_kind(kind: u8) -> usize {
    if kind == F32 { 4 } else { 2 }
}

/// Columns of one pass where several rows of x are multiplied: four of them stay in the first-level cache.
const COLUMN_BLOCK: usize = 1024;
/// Stored rows that one group of rows of x goes through before the next does: they stay in the second-level cache.
const ROW_BLOCK: usize = 32;
/// Rows of x in one tile.
const GROUP: usize = 4;
/// Bytes by which a stored row is asked for ahead of its use: far enough that memory has answered, near enough to stay
/// in the second-level cache. The processor's own prefetching stops at the end of a page.
const AHEAD: usize = 1 << 14;

/// See [`super::gemv`], which has checked the shapes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn gemv(stored: StoredRows, x: &[&[f32]], columns: usize, count: usize, out: &mut [&mut [f32]]) {
    match stored {
        StoredRows::Bytes(bytes, Dtype::Bf16) => dot_all::<BF16>(bytes.as_ptr(), x, columns, count, out),
        StoredRows::Bytes(bytes, Dtype::F16) => dot_all::<F16>(bytes.as_ptr(), x, columns, count, out),
        StoredRows::Bytes(bytes, Dtype::F32) => dot_all::<F32>(bytes.as_ptr(), x, columns, count, out),
        StoredRows::Values(values) => dot_all::<F32>(values.as_ptr().cast(), x, columns, count, out),
        StoredRows::Bytes(_, Dtype::Other(..)) => {}
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_all<const KIND: u8>(
    stored: *const u8,
    x: &[&[f32]],
    columns: usize,
    count: usize,
    out: &mut [&mut [f32]],
) {
    out.iter_mut().for_each(|row| row.fill(0.0));
    let whole = columns / STEP * STEP;
    let block = if x.len() == 1 { whole } else { COLUMN_BLOCK };
    for start in (0..whole).step_by(block.max(STEP)) {
        let part = Part { columns, start, end: (start + block).min(whole) };
        for first in (0..count).step_by(ROW_BLOCK) {
            let rows = first..(first + ROW_BLOCK).min(count);
            for group in groups(x.len()) {
                let (x, out) = (&x[group.clone()], &mut out[group]);
                match x.len() {
                    1 => sweep::<KIND, 4, 1>(stored, part, rows.clone(), x, out),
                    2 => sweep::<KIND, 4, 2>(stored, part, rows.clone(), x, out),
                    3 => sweep::<KIND, 2, 3>(stored, part, rows.clone(), x, out),
                    _ => sweep::<KIND, 2, GROUP>(stored, part, rows.clone(), x, out),
                }
            }
        }
    }
    for row in 0..count * usize::from(whole < columns) {
        for column in whole..columns {
            // SAFETY: row < count and column < columns, and `stored` holds count · columns elements.
            let value = unsafe { element::<KIND>(stored, row * columns + column) };
            out.iter_mut().zip(x).for_each(|(out, x)| out[row] += value * x[column]);
        }
    }
}

/// `rows` in groups of at most [`GROUP`], as even as possible.
fn groups(rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let count = rows.div_ceil(GROUP).max(1);
    (0..count).map(move |group| group * rows / count..(group + 1) * rows / count)
}

/// Which columns of the stored rows a pass takes.
#[derive(Clone, Copy)]
struct Part {
    columns: usize,
    start: usize,
    /// A whole number of steps after `start`.
    end: usize,
}

/// All stored `rows` against A rows of x, R at a time.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn sweep<const KIND: u8, const R: usize, const A: usize>(
    stored: *const u8,
    part: Part,
    rows: std::ops::Range<usize>,
    x: &[&[f32]],
    out: &mut [&mut [f32]],
) {
    let x: [*const f32; A] = std::array::from_fn(|a| x[a].as_ptr());
    let tiles = rows.len() / R;
    let mut row = rows.start;
    for _ in 0..tiles {
        let sums = tile::<KIND, R, A>(stored, part, row, x);
        for (a, out) in out.iter_mut().enumerate() {
            for r in 0..R {
                out[row + r] += sums[r * A + a];
            }
        }
        row += R;
    }
    while row < rows.end {
        let sums = tile::<KIND, 1, A>(stored, part, row, x);
        for (out, sum) in out.iter_mut().zip(sums) {
            out[row] += sum;
        }
        row += 1;
    }
}

/// Sums of R stored rows from `row` on against A rows of x, `[R, A]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn tile<const KIND: u8, const R: usize, const A: usize>(
    stored: *const u8,
    part: Part,
    row: usize,
    x: [*const f32; A],
) -> [f32; 8] {
    let size = size_of_kind(KIND);
    let mut sums = [[_mm256_setzero_ps(); A]; R];
    let mut column = part.start;
    while column < part.end {
        // SAFETY: `row + R` stored rows of `columns` elements exist and so do `columns` values of each x; a step begins
        // at least STEP columns before the end.
        unsafe {
            let mut first = [_mm256_setzero_ps(); R];
            let mut second = [_mm256_setzero_ps(); R];
            for r in 0..R {
                let address = stored.add(((row + r) * part.columns + column) * size);
                _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(AHEAD).cast());
                (first[r], second[r]) = load_step::<KIND>(address);
            }
            for a in 0..A {
                let left = _mm256_loadu_ps(x[a].add(column));
                for r in 0..R {
                    sums[r][a] = _mm256_fmadd_ps(first[r], left, sums[r][a]);
                }
            }
            for a in 0..A {
                let right = _mm256_loadu_ps(x[a].add(column + 8));
                for r in 0..R {
                    sums[r][a] = _mm256_fmadd_ps(second[r], right, sums[r][a]);
                }
            }
        }
        column += STEP;
    }
    let mut flat = [_mm256_setzero_ps(); 8];
    for r in 0..R {
        for a in 0..A {
            flat[r * A + a] = sums[r][a];
        }
    }
    horizontal_sums(flat)
}

/// Sixteen stored elements as f32: for bf16 those of even and of odd columns, otherwise the first and the last eight.
///
/// # Safety
/// Sixteen elements must lie at `address`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load_step<const KIND: u8>(address: *const u8) -> (__m256, __m256) {
    // SAFETY: unaligned loads of the sixteen elements that the caller vouches for.
    unsafe {
        match KIND {
            BF16 => {
                let pairs = _mm256_loadu_si256(address.cast());
                let even = _mm256_slli_epi32::<16>(pairs);
                let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed()));
                (_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd))
            }
            _ => (load_eight::<KIND>(address), load_eight::<KIND>(address.add(8 * size_of_kind(KIND)))),
        }
    }
}

/// Eight stored elements as f32, in their order.
///
/// # Safety
/// Eight elements must lie at `address`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load_eight<const KIND: u8>(address: *const u8) -> __m256 {
    // SAFETY: unaligned loads of the eight elements that the caller vouches for.
    unsafe {
        match KIND {
            BF16 => {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(address.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
            F16 => _mm256_cvtph_ps(_mm_loadu_si128(address.cast())),
            _ => _mm256_loadu_ps(address.cast()),
        }
    }
}

/// One stored element.
///
/// # Safety
/// Element `index` must lie behind `stored`.
unsafe fn element<const KIND: u8>(stored: *const u8, index: usize) -> f32 {
    // SAFETY: bytes of the element that the caller vouches for.
    unsafe {
        match KIND {
            BF16 => f32::from_bits(u32::from(u16::from_le_bytes(stored.add(2 * index).cast::<[u8; 2]>().read())) << 16),
            F16 => half::f16::from_le_bytes(stored.add(2 * index).cast::<[u8; 2]>().read()).to_f32(),
            _ => f32::from_le_bytes(stored.add(4 * index).cast::<[u8; 4]>().read()),
        }
    }
}

/// The sum over each of eight registers.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn horizontal_sums(v: [__m256; 8]) -> [f32; 8] {
    let mut out = [0.0; 8];
    for half in 0..2 {
        let [a, b, c, d] = [v[4 * half], v[4 * half + 1], v[4 * half + 2], v[4 * half + 3]];
        let sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
        // SAFETY: four of the eight values of `out`.
        unsafe { _mm_storeu_ps(out.as_mut_ptr().add(4 * half), sums) };
    }
    out
}

/// See [`super::gemv_t`], which has checked the shapes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn gemv_t(stored: StoredRows, stride: usize, first: usize, x: &[&[f32]], out: &mut [&mut [f32]]) {
    match stored {
        StoredRows::Bytes(bytes, Dtype::Bf16) => combine_all::<BF16>(bytes.as_ptr(), stride, first, x, out),
        StoredRows::Bytes(bytes, Dtype::F16) => combine_all::<F16>(bytes.as_ptr(), stride, first, x, out),
        StoredRows::Bytes(bytes, Dtype::F32) => combine_all::<F32>(bytes.as_ptr(), stride, first, x, out),
        StoredRows::Values(values) => combine_all::<F32>(values.as_ptr().cast(), stride, first, x, out),
        StoredRows::Bytes(_, Dtype::Other(..)) => {}
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn combine_all<const KIND: u8>(
    stored: *const u8,
    stride: usize,
    first: usize,
    x: &[&[f32]],
    out: &mut [&mut [f32]],
) {
    let count = x.first().map_or(0, |row| row.len());
    for start in (0..count).step_by(ROW_BLOCK) {
        let rows = start..(start + ROW_BLOCK).min(count);
        for group in groups(x.len()) {
            let (x, out) = (&x[group.clone()], &mut out[group]);
            match x.len() {
                1 => combine_group::<KIND, 8, 1>(stored, stride, first, rows.clone(), x, out),
                2 => combine_group::<KIND, 4, 2>(stored, stride, first, rows.clone(), x, out),
                3 => combine_group::<KIND, 2, 3>(stored, stride, first, rows.clone(), x, out),
                _ => combine_group::<KIND, 2, GROUP>(stored, stride, first, rows.clone(), x, out),
            }
        }
    }
}

/// Stored `rows` into A results, C·8 columns at a time, then eight, then one.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn combine_group<const KIND: u8, const C: usize, const A: usize>(
    stored: *const u8,
    stride: usize,
    first: usize,
    rows: std::ops::Range<usize>,
    x: &[&[f32]],
    out: &mut [&mut [f32]],
) {
    let columns = out[0].len();
    let mut column = 0;
    while column + 8 * C <= columns {
        combine_tile::<KIND, C, A>(stored, stride, first, rows.clone(), x, out, column);
        column += 8 * C;
    }
    while column + 8 <= columns {
        combine_tile::<KIND, 1, A>(stored, stride, first, rows.clone(), x, out, column);
        column += 8;
    }
    for column in column..columns {
        for row in rows.clone() {
            // SAFETY: the caller's stored rows reach `row · stride + first + columns`.
            let value = unsafe { element::<KIND>(stored, row * stride + first + column) };
            out.iter_mut().zip(x).for_each(|(out, x)| out[column] += x[row] * value);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn combine_tile<const KIND: u8, const C: usize, const A: usize>(
    stored: *const u8,
    stride: usize,
    first: usize,
    rows: std::ops::Range<usize>,
    x: &[&[f32]],
    out: &mut [&mut [f32]],
    column: usize,
) {
    let mut sums = [[_mm256_setzero_ps(); C]; A];
    // SAFETY: every out has C · 8 columns from `column` on, every x a value for each row, and the stored rows reach as
    // far.
    unsafe {
        for (sums, out) in sums.iter_mut().zip(out.iter()) {
            for (c, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_loadu_ps(out.as_ptr().add(column + 8 * c));
            }
        }
        for row in rows {
            let address = stored.add((row * stride + first + column) * size_of_kind(KIND));
            let factors: [__m256; A] = std::array::from_fn(|a| _mm256_set1_ps(*x[a].get_unchecked(row)));
            for c in 0..C {
                let values = load_eight::<KIND>(address.add(8 * c * size_of_kind(KIND)));
                for (sums, factor) in sums.iter_mut().zip(factors) {
                    sums[c] = _mm256_fmadd_ps(factor, values, sums[c]);
                }
            }
        }
        for (sums, out) in sums.iter().zip(out.iter_mut()) {
            for (c, sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(out.as_mut_ptr().add(column + 8 * c), *sum);
            }
        }
    }
}

/// e^x for eight values, within 1.5 units of the last place: x = n·ln 2 + r with |r| ≤ ln 2 / 2, a polynomial for e^r
/// (the coefficients of Cephes' `expf`, Moshier 1989), and n added to the exponent. Beyond ±87 the result stays that of
/// ±87, NaN stays NaN.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn exponential(x: __m256) -> __m256 {
    const COEFFICIENTS: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    /// The leading bits of ln 2, so that n times it is exact, and the rest.
    const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
    // Of two operands one of which is NaN, these return the second.
    let x = _mm256_min_ps(_mm256_set1_ps(87.0), _mm256_max_ps(_mm256_set1_ps(-87.0), x));
    let n = _mm256_round_ps::<0x08>(_mm256_mul_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E)));
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN_2[0]), x);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN_2[1]), r);
    let mut sum = _mm256_set1_ps(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(*coefficient));
    }
    let power = _mm256_add_ps(_mm256_fmadd_ps(sum, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0));
    let exponent = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
    _mm256_mul_ps(power, _mm256_castsi256_ps(exponent))
}

/// See [`super::exponentials`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn exponentials(values: &mut [f32], factor: f32, shift: f32) {
    let (factor, shift) = (_mm256_set1_ps(factor), _mm256_set1_ps(shift));
    let mut chunks = values.chunks_exact_mut(8);
    for chunk in &mut chunks {
        // SAFETY: the eight values of `chunk`.
        unsafe {
            let x = _mm256_fmadd_ps(_mm256_loadu_ps(chunk.as_ptr()), factor, shift);
            _mm256_storeu_ps(chunk.as_mut_ptr(), exponential(x));
        }
    }
    let tail = chunks.into_remainder();
    let mut eight = [0.0; 8];
    eight[..tail.len()].copy_from_slice(tail);
    // SAFETY: the eight values of `eight`.
    unsafe {
        let x = _mm256_fmadd_ps(_mm256_loadu_ps(eight.as_ptr()), factor, shift);
        _mm256_storeu_ps(eight.as_mut_ptr(), exponential(x));
    }
    tail.copy_from_slice(&eight[..tail.len()]);
}
