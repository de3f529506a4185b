//! Spectrum, norm and leading directions of s·BA to the last digits, through QR of the factors.
//!
//! B = Q_B R_B and Aᵀ = Q_A R_A (thin QR, f64) give s·BA = Q_B (s R_B R_Aᵀ) Q_Aᵀ: the small core C = s R_B R_Aᵀ, at
//! most rank × rank, has the same singular values, and its singular vectors, carried through Q_B and Q_A, are those of
//! s·BA.
//!
//! Singular vectors come from the symmetric products of the core, never from nalgebra's SVD with vectors, which is
//! wrong on rank-deficient input.

use nalgebra::{DMatrix, DVector};

use super::FactoredMatrix;

/// Singular values below this share of the largest have no meaningful direction.
const DIRECTION_FLOOR: f64 = 1e-6;
/// Steps before an iteration is given up; a core of rank 512 needs about a thousand.
const MAX_ITERATIONS: usize = 100_000;

/// Leading singular triples of s·BA.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    /// Singular values, descending.
    pub values: Vec<f64>,
    /// Left singular vectors, (outputs) each, of unit length.
    pub left: Vec<Vec<f64>>,
    /// Right singular vectors, (inputs) each, of unit length.
    pub right: Vec<Vec<f64>>,
}

/// s·BA = Q_B · (size · core) · Q_Aᵀ, with the core's largest entry scaled to one so that squares neither vanish nor
/// overflow.
struct ThinQr {
    /// Q_B, (outputs × k).
    left: DMatrix<f64>,
    /// C / size, (k × l).
    core: DMatrix<f64>,
    /// Q_A, (inputs × l).
    right: DMatrix<f64>,
    /// Largest absolute entry of C.
    size: f64,
}

fn widened(values: &[f32], rows: usize, columns: usize) -> DMatrix<f64> {
    DMatrix::from_row_iterator(
        rows,
        columns,
        values.iter().map(|&value| f64::from(value)).chain(std::iter::repeat(0.0)).take(rows * columns),
    )
}

fn factor(matrix: &FactoredMatrix<'_>) -> ThinQr {
    let left = widened(&matrix.lora_b, matrix.rows, matrix.rank).qr();
    let right = widened(&matrix.lora_a, matrix.rank, matrix.columns).transpose().qr();
    // The scale stays out of the core until the core is of order one: an absurd alpha then cannot make it infinite.
    let core = left.r() * right.r().transpose();
    let size = core.amax();
    let divisor = if size > 0.0 { size.copysign(matrix.scale) } else { 1.0 };
    ThinQr { left: left.q(), core: core / divisor, right: right.q(), size: size * matrix.scale.abs() }
}

/// Eigenvalues of CCᵀ, descending, with their vectors.
fn squared_eigen(core: &DMatrix<f64>) -> Vec<(f64, DVector<f64>)> {
    let square = core * core.transpose();
    let Some(eigen) = square.try_symmetric_eigen(f64::EPSILON, MAX_ITERATIONS) else {
        return Vec::new();
    };
    let vectors = eigen.eigenvectors.column_iter().map(nalgebra::Matrix::into_owned);
    let mut pairs: Vec<(f64, DVector<f64>)> = eigen.eigenvalues.iter().copied().zip(vectors).collect();
    pairs.sort_by(|left, right| right.0.total_cmp(&left.0));
    pairs
}

impl FactoredMatrix<'_> {
    /// Singular values of s·BA, descending; at most `rank` of them, for s·BA has no others but zero.
    pub fn singular_values(&self) -> Vec<f64> {
        let factored = factor(self);
        let mut values: Vec<f64> = match factored.core.clone().try_svd(false, false, 5.0 * f64::EPSILON, MAX_ITERATIONS)
        {
            Some(decomposition) => decomposition.singular_values.iter().copied().collect(),
            // Never seen to happen; the roots of the squares lose digits of the small values only.
            None => squared_eigen(&factored.core).into_iter().map(|(square, _)| square.max(0.0).sqrt()).collect(),
        };
        for value in &mut values {
            *value *= factored.size;
        }
        values.sort_unstable_by(|left, right| right.total_cmp(left));
        values
    }

    /// ‖s·BA‖_F.
    pub fn frobenius_norm(&self) -> f64 {
        let factored = factor(self);
        factored.core.norm() * factored.size
    }

    /// ‖s·BA‖_F from the inner products of the factors: no decomposition, and a few digits of a change that nearly
    /// cancels.
    pub fn norm_of_products(&self) -> f64 {
        self.scale.abs() * self.grams().square.sqrt()
    }

    /// The `count` leading singular triples of s·BA; fewer where it has no more directions.
    pub fn leading_directions(&self, count: usize) -> Directions {
        let factored = factor(self);
        let mut directions = Directions { values: Vec::new(), left: Vec::new(), right: Vec::new() };
        let mut largest = 0.0_f64;
        for (_, inner_left) in squared_eigen(&factored.core).into_iter().take(count) {
            // σ v = Cᵀ u: the norm is accurate where the square root of a small eigenvalue is not.
            let image: DVector<f64> = factored.core.tr_mul(&inner_left);
            let value = image.norm();
            largest = largest.max(value);
            if value <= DIRECTION_FLOOR * largest || value == 0.0 {
                break;
            }
            let left = &factored.left * &inner_left;
            let right = &factored.right * (image / value);
            directions.values.push(value * factored.size);
            directions.left.push(left.iter().copied().collect());
            directions.right.push(right.iter().copied().collect());
        }
        directions
    }
}
