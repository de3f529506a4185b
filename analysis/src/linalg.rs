//! Decompositions of activation size, in f64, single-threaded: many sites are reduced at once, one on each core.
//!
//! Every routine works on the smaller side of its matrix. Eigenvalues of Gram matrices stand for squared singular
//! values where their rounding (10⁻¹⁶ of the largest) cannot show in the result; where it could, [`nuclear_norm`] says
//! so by an explicit bound and takes the slower way.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par, Side};

/// A decomposition did not converge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a decomposition of a {rows}×{columns} matrix did not converge")]
pub struct NoConvergence {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// Relative error of a Gram matrix's eigenvalues against its largest, generously.
const GRAM_ERROR: f64 = 1e-14;
/// Share of the Procrustes residual that the error of a nuclear norm may reach.
const TOLERATED_ERROR: f64 = 1e-4;
/// Matrices up to this size are decomposed whole; an iteration would not pay.
const SMALL: usize = 128;

/// xᵀx or xxᵀ, whichever is smaller, both triangles filled. `x` is `[rows, columns]`.
pub fn small_gram(x: MatRef<f64>) -> Mat<f64> {
    let left = if x.nrows() <= x.ncols() { x } else { x.transpose() };
    let size = left.nrows();
    let mut gram = Mat::zeros(size, size);
    triangular::matmul(
        gram.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        left,
        BlockStructure::Rectangular,
        left.transpose(),
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    for column in 0..size {
        for row in 0..column {
            gram[(row, column)] = gram[(column, row)];
        }
    }
    gram
}

/// left · right, single-threaded.
pub fn product(left: MatRef<f64>, right: MatRef<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(left.nrows(), right.ncols());
    faer::linalg::matmul::matmul(out.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
    out
}

/// Eigenvalues of a symmetric matrix, descending, negatives (rounding of zeros) raised to zero.
pub fn eigenvalues(symmetric: MatRef<f64>) -> Result<Vec<f64>, NoConvergence> {
    let failed = NoConvergence { rows: symmetric.nrows(), columns: symmetric.ncols() };
    let mut values = symmetric.self_adjoint_eigenvalues(Side::Lower).map_err(|_| failed)?;
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    values.reverse();
    Ok(values)
}

/// Eigenvalues (descending, at least zero) and eigenvectors (columns in that order) of a symmetric matrix.
pub fn eigen(symmetric: MatRef<f64>) -> Result<(Vec<f64>, Mat<f64>), NoConvergence> {
    let size = symmetric.nrows();
    let failed = NoConvergence { rows: size, columns: size };
    let decomposed = symmetric.self_adjoint_eigen(Side::Lower).map_err(|_| failed)?;
    let values = (0..size).rev().map(|index| decomposed.S().column_vector()[index].max(0.0)).collect();
    let vectors = Mat::from_fn(size, size, |row, column| decomposed.U()[(row, size - 1 - column)]);
    Ok((values, vectors))
}

/// Singular values, descending.
pub fn singular_values(matrix: MatRef<f64>) -> Result<Vec<f64>, NoConvergence> {
    matrix.singular_values().map_err(|_| NoConvergence { rows: matrix.nrows(), columns: matrix.ncols() })
}

/// The orthogonal matrix nearest to a square one: UVᵀ of its singular value decomposition (Schönemann 1966).
pub fn nearest_orthogonal(matrix: MatRef<f64>) -> Result<Mat<f64>, NoConvergence> {
    let failed = NoConvergence { rows: matrix.nrows(), columns: matrix.ncols() };
    let decomposed = matrix.thin_svd().map_err(|_| failed)?;
    Ok(product(decomposed.U(), decomposed.V().transpose()))
}

/// (G + λI)⁻¹C of a symmetric positive semidefinite G; `ridge` is λ as a share of G's mean eigenvalue.
pub fn ridge_solution(gram: MatRef<f64>, cross: MatRef<f64>, ridge: f64) -> Result<Mat<f64>, NoConvergence> {
    let (values, vectors) = eigen(gram)?;
    let added = ridge * values.iter().sum::<f64>() / values.len().max(1) as f64;
    let mut inner = product(vectors.transpose(), cross);
    for (row, value) in values.iter().enumerate() {
        let divisor = value + added;
        for column in 0..inner.ncols() {
            inner[(row, column)] = if divisor > 0.0 { inner[(row, column)] / divisor } else { 0.0 };
        }
    }
    Ok(product(vectors.as_ref(), inner.as_ref()))
}

/// Leading `count` eigenvectors of a positive semidefinite matrix whose eigenvalues (descending) are known, at least
/// about.
pub fn leading_eigenvectors(symmetric: MatRef<f64>, values: &[f64], count: usize) -> Result<Mat<f64>, NoConvergence> {
    if let Some(found) = filtered(&|x| product(symmetric, x), symmetric.nrows(), values, count)? {
        return Ok(found);
    }
    let (_, vectors) = eigen(symmetric)?;
    Ok(vectors.subcols(0, count.min(symmetric.nrows())).to_owned())
}

/// The same of a matrix `[size, size]` that is only known by what it does to columns.
pub fn leading_eigenvectors_of(
    apply: &dyn Fn(MatRef<f64>) -> Mat<f64>,
    size: usize,
    values: &[f64],
    count: usize,
) -> Result<Mat<f64>, NoConvergence> {
    if let Some(found) = filtered(apply, size, values, count)? {
        return Ok(found);
    }
    let (_, vectors) = eigen(apply(Mat::<f64>::identity(size, size).as_ref()).as_ref())?;
    Ok(vectors.subcols(0, count.min(size)).to_owned())
}

/// Subspace iteration under a Chebyshev filter that damps everything below the block (Zhou et al. 2006), closed by
/// Rayleigh–Ritz. `None` where a whole decomposition is the better way: a small matrix, a spectrum too flat for it.
fn filtered(
    apply: &dyn Fn(MatRef<f64>) -> Mat<f64>,
    size: usize,
    values: &[f64],
    count: usize,
) -> Result<Option<Mat<f64>>, NoConvergence> {
    const DEGREE: usize = 10;
    const ROUNDS: usize = 12;
    // The subspace is off by the residual over the gap, and what is reported of it by the square of that.
    const RESIDUAL: f64 = 1e-10;
    let block = 2 * count + 12;
    let largest = values.first().copied().unwrap_or(0.0);
    if size <= SMALL.max(2 * block) || largest <= 0.0 {
        return Ok(None);
    }
    let cut = values[block];
    let mut basis = start_block(size, block);
    for _ in 0..ROUNDS {
        basis = orthonormal(&chebyshev(apply, basis, cut, largest, DEGREE));
        let image = apply(basis.as_ref());
        let (ritz, rotation) = eigen(product(basis.transpose(), image.as_ref()).as_ref())?;
        let vectors = product(basis.as_ref(), rotation.as_ref());
        let images = product(image.as_ref(), rotation.as_ref());
        let residual = (0..count)
            .map(|k| (0..size).map(|row| (images[(row, k)] - ritz[k] * vectors[(row, k)]).powi(2)).sum::<f64>())
            .fold(0.0, f64::max)
            .sqrt();
        basis = vectors;
        if residual <= RESIDUAL * largest {
            return Ok(Some(basis.subcols(0, count).to_owned()));
        }
    }
    Ok(None)
}

/// A fixed, well-spread starting block: its entries only need to overlap every eigenvector.
pub(crate) fn start_block(size: usize, block: usize) -> Mat<f64> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    Mat::from_fn(size, block, |_, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    })
}

/// T_degree of the matrix mapped so that [0, cut] lies in [−1, 1], applied to `block` and scaled to stay finite.
fn chebyshev(
    matrix: &dyn Fn(MatRef<f64>) -> Mat<f64>,
    block: Mat<f64>,
    cut: f64,
    largest: f64,
    degree: usize,
) -> Mat<f64> {
    let half = (cut / 2.0).max(largest * 1e-14);
    let growth = largest / half - 1.0;
    let apply = |x: &Mat<f64>| {
        let mut y = matrix(x.as_ref());
        faer::zip!(&mut y, x).for_each(|faer::unzip!(y, x)| *y = (*y / half - *x) / growth);
        y
    };
    // The recurrence T_{j+1} = 2xT_j − T_{j−1}, each step divided by the growth at the largest eigenvalue.
    let mut before = block;
    let mut current = apply(&before);
    for _ in 1..degree {
        let mut next = apply(&current);
        let damping = 1.0 / (growth * growth);
        faer::zip!(&mut next, &before).for_each(|faer::unzip!(next, before)| *next = 2.0 * *next - damping * *before);
        before = std::mem::replace(&mut current, next);
        let scale = current.norm_max();
        if scale > 0.0 {
            faer::zip!(&mut current).for_each(|faer::unzip!(value)| *value /= scale);
            faer::zip!(&mut before).for_each(|faer::unzip!(value)| *value /= scale);
        }
    }
    current
}

/// An orthonormal basis of the columns.
pub fn orthonormal(columns: &Mat<f64>) -> Mat<f64> {
    columns.qr().compute_thin_Q()
}

/// R of the thin QR of xᵀ, `[rows, rows]` for x `[rows, columns]` with rows ≤ columns: R_xᵀR_x = xxᵀ, and R_xR_yᵀ has
/// the singular values of xᵀy.
pub fn row_factor(x: MatRef<f64>) -> Mat<f64> {
    x.transpose().to_owned().qr().thin_R().to_owned()
}

/// ‖cross‖_*, the sum of singular values, of a cross product xᵀy where `raw_gap` = ‖x‖² + ‖y‖² − 2⟨x, y⟩ says how small
/// a difference it will be used to show.
///
/// Singular values of a large one come from the eigenvalues of its Gram matrix, half the work of an SVD, as long as the
/// bound on what this costs in precision stays far below the gap; else from the SVD itself.
pub fn nuclear_norm(cross: &Mat<f64>, raw_gap: f64) -> Result<f64, NoConvergence> {
    if cross.nrows() > SMALL {
        let squares = eigenvalues(small_gram(cross.as_ref()).as_ref())?;
        let error = GRAM_ERROR * squares.first().copied().unwrap_or(0.0);
        let bound: f64 = squares.iter().map(|square| (error / square.sqrt()).min(error.sqrt())).sum();
        if bound < TOLERATED_ERROR * raw_gap {
            return Ok(squares.iter().map(|square| square.sqrt()).sum());
        }
    }
    Ok(singular_values(cross.as_ref())?.iter().sum())
}

/// σ₁² of a matrix of f32 rows, `[rows, columns]` row-major, by Lanczos on its smaller Gram operator with full
/// reorthogonalisation.
pub fn largest_squared_singular_value(values: &[f32], columns: usize) -> f64 {
    const STEPS: usize = 60;
    let rows = values.len() / columns.max(1);
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let (mut diagonal, mut off): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut vector: Vec<f64> = (0..columns).map(|column| 1.0 + (column as f64 * 0.7).sin()).collect();
    let mut largest = 0.0;
    for step in 0..STEPS.min(rows).min(columns) {
        let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        if length <= f64::MIN_POSITIVE || (step > 0 && length * length <= 1e-28 * largest) {
            break;
        }
        if step > 0 {
            off.push(length);
        }
        vector.iter_mut().for_each(|value| *value /= length);
        let mut image = gram_times(values, columns, &vector);
        diagonal.push(image.iter().zip(&vector).map(|(a, b)| a * b).sum());
        basis.push(vector);
        for _ in 0..2 {
            for known in &basis {
                let along = sum_pairs(&image, known, |a, b| a * b);
                image.iter_mut().zip(known).for_each(|(value, known)| *value -= along * known);
            }
        }
        vector = image;
        let before = largest;
        largest = largest_of_tridiagonal(&diagonal, &off);
        if step > 3 && (largest - before).abs() <= 1e-10 * largest {
            break;
        }
    }
    largest
}

/// Σ f(aᵢ, bᵢ) in eight partial sums, which the compiler keeps in vector registers.
pub(crate) fn sum_pairs<L: Copy, R: Copy>(left: &[L], right: &[R], f: impl Fn(L, R) -> f64) -> f64 {
    let mut sums = [0.0; 8];
    let (left, right) = (left.chunks_exact(8), right.chunks_exact(8));
    let tail: f64 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| f(*a, *b)).sum();
    for (a, b) in left.zip(right) {
        for part in 0..8 {
            sums[part] += f(a[part], b[part]);
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// AᵀA v for row-major f32 rows A.
fn gram_times(values: &[f32], columns: usize, vector: &[f64]) -> Vec<f64> {
    let mut image = vec![0.0; columns];
    for row in values.chunks_exact(columns) {
        let along = sum_pairs(row, vector, |a, b| f64::from(a) * b);
        image.iter_mut().zip(row).for_each(|(out, value)| *out += along * f64::from(*value));
    }
    image
}

/// Largest eigenvalue of a symmetric tridiagonal matrix, by bisection on Sturm counts.
fn largest_of_tridiagonal(diagonal: &[f64], off: &[f64]) -> f64 {
    let reach = |row: usize| {
        let left = row.checked_sub(1).map_or(0.0, |before| off[before].abs());
        diagonal[row] + left + off.get(row).map_or(0.0, |value| value.abs())
    };
    let mut high = (0..diagonal.len()).map(reach).fold(0.0, f64::max);
    let mut low = diagonal.iter().copied().fold(0.0, f64::max);
    let above = |shift: f64| {
        let mut pivot = 1.0;
        (0..diagonal.len()).any(|row| {
            let coupling = row.checked_sub(1).map_or(0.0, |before| off[before] * off[before]);
            pivot = diagonal[row] - shift - coupling / if pivot == 0.0 { f64::MIN_POSITIVE } else { pivot };
            pivot > 0.0
        })
    };
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if above(middle) { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decaying(rows: usize, columns: usize) -> Mat<f64> {
        let noise = start_block(rows, columns);
        Mat::from_fn(rows, columns, |row, column| noise[(row, column)] / (1.0 + column as f64).sqrt())
    }

    #[test]
    fn leading_eigenvectors_agree_with_the_whole_decomposition() {
        let gram = small_gram(decaying(300, 400).as_ref());
        let (values, vectors) = eigen(gram.as_ref()).unwrap();
        let leading = leading_eigenvectors(gram.as_ref(), &values, 10).unwrap();
        let overlap = product(leading.transpose(), vectors.subcols(0, 10)).squared_norm_l2();
        assert!((overlap - 10.0).abs() < 1e-10, "{overlap}");
    }

    #[test]
    fn nuclear_norm_takes_either_way_to_the_same_number() {
        for (rows, columns) in [(40, 300), (260, 200), (200, 260)] {
            let (x, y) = (decaying(rows, columns), decaying(rows, columns) * 1.5);
            let cross = product(x.transpose(), y.as_ref());
            let exact: f64 = singular_values(cross.as_ref()).unwrap().iter().sum();
            let mut ways = vec![cross];
            if rows <= columns {
                ways.push(product(row_factor(x.as_ref()).as_ref(), row_factor(y.as_ref()).transpose()));
            }
            for (way, gap) in ways.iter().flat_map(|way| [(way, 0.0), (way, 1.0)]) {
                let norm = nuclear_norm(way, gap).unwrap();
                assert!((norm / exact - 1.0).abs() < 1e-10, "{rows}×{columns}: {norm} {exact}");
            }
        }
    }

    #[test]
    fn lanczos_finds_the_largest_singular_value() {
        let matrix = decaying(70, 50);
        let values: Vec<f32> = (0..70 * 50).map(|at| matrix[(at / 50, at % 50)] as f32).collect();
        let rounded = Mat::from_fn(70, 50, |row, column| f64::from(values[row * 50 + column]));
        let exact = singular_values(rounded.as_ref()).unwrap()[0].powi(2);
        assert!((largest_squared_singular_value(&values, 50) / exact - 1.0).abs() < 1e-9);
    }

    /// A matrix that is not symmetric, with eigenvalues 0.33 ± 3.00i, −0.16 and −2 and a negative trace:
    /// `numpy.linalg.norm(matrix, "nuc")`.
    #[test]
    fn nuclear_norm_is_no_trace() {
        let rows = [[0.0, -3.0, 1.0, 0.0], [3.0, 0.0, 0.0, 2.0], [0.0, 0.0, -2.0, 0.0], [1.0, 0.0, 0.0, 0.5]];
        let matrix = Mat::from_fn(4, 4, |row, column| rows[row][column]);
        let norm = nuclear_norm(&matrix, 1.0).unwrap();
        assert!((norm - 9.004_144_351_546_111).abs() < 1e-13, "{norm}");
    }

    /// Blocks (i + 1)·[[0, −1], [1, 0]] have both singular values i + 1 and a trace of zero. A hundred of them, or as
    /// many rows of a wider matrix that hold −(i + 1) once each: large enough for the way of the Gram matrix, which a
    /// wide gap allows.
    #[test]
    fn nuclear_norm_of_a_large_matrix_is_no_trace_either() {
        let turned = Mat::from_fn(200, 200, |row, column| {
            let size = (row / 2 + 1) as f64;
            match (row % 2, column == row ^ 1) {
                (_, false) => 0.0,
                (0, true) => -size,
                (_, true) => size,
            }
        });
        let wide = Mat::from_fn(200, 260, |row, column| if column == row + 7 { -((row / 2 + 1) as f64) } else { 0.0 });
        for matrix in [&turned, &wide, &wide.transpose().to_owned()] {
            for gap in [0.0, 1e9] {
                let norm = nuclear_norm(matrix, gap).unwrap();
                assert!((norm / 10_100.0 - 1.0).abs() < 1e-12, "gap {gap}: {norm}");
            }
        }
    }
}
