//! The spectrum of BA from the inner products of its factors, (rank × rank), without multiplying it out.
//!
//! The eigenvalues of AAᵀ·BᵀB are the σ² of BA. Small singular values lose digits in such squares: who asks for them
//! takes [`FactoredMatrix::singular_values`].

#![expect(clippy::indexing_slicing, reason = "entries of matrices whose sizes stand beside the loops over them")]

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::FactoredMatrix;

/// Largest rank whose whole spectrum is computed: the work grows with its cube.
const WHOLE_SPECTRUM: usize = 256;
/// Steps of the search for the leading direction; up to this rank it is exact.
const STEPS: usize = 48;
/// Sweeps after which a decomposition counts as failed.
const SWEEPS: usize = 10_000;

/// The inner products of the factors of BA; the scale is in none of them.
#[derive(Debug)]
pub struct Grams {
    /// AAᵀ, (rank × rank).
    pub(super) of_a: DMatrix<f64>,
    /// BᵀB, (rank × rank).
    pub(super) of_b: DMatrix<f64>,
    /// ‖BA‖_F² = tr(AAᵀ·BᵀB).
    pub square: f64,
}

/// The largest singular value of BA, and w with Bw along its left singular vector.
#[derive(Debug)]
pub struct Leading {
    /// σ₁.
    pub value: f64,
    /// w, (rank).
    pub direction: Vec<f64>,
}

impl Grams {
    pub(super) fn of(matrix: &FactoredMatrix<'_>) -> Self {
        let (of_a, of_b) = (matrix.gram_of_a(), matrix.gram_of_b());
        let square = of_a.dot(&of_b).max(0.0);
        Self { of_a, of_b, square }
    }

    /// ‖row‖² of A by row: the diagonal of AAᵀ.
    pub fn row_squares_of_a(&self) -> impl Iterator<Item = f64> {
        (0..self.of_a.nrows()).map(|index| self.of_a[(index, index)])
    }

    /// Whether there is anything to measure.
    pub fn is_positive(&self) -> bool {
        self.square > 0.0 && self.square.is_finite()
    }

    /// (Σσ²)²/Σσ⁴, from traces alone.
    pub fn participation_ratio(&self) -> Option<f64> {
        let product = (&self.of_a / self.square) * &self.of_b;
        let fourth = product.dot(&product.transpose());
        Some(1.0 / fourth).filter(|ratio| self.is_positive() && ratio.is_finite())
    }

    /// exp H of σ²/Σσ², from the eigenvalues of Lᵀ(AAᵀ)L where LLᵀ = BᵀB; none of a rank over 256.
    pub fn effective_rank(&self) -> Option<f64> {
        if !self.is_positive() || self.of_b.nrows() > WHOLE_SPECTRUM {
            return None;
        }
        let root = root(&self.of_b);
        let symmetric = root.transpose() * (&self.of_a / self.square) * &root;
        let shares = SymmetricEigen::try_new(symmetric, f64::EPSILON, SWEEPS)?.eigenvalues;
        let entropy: f64 = shares.iter().filter(|share| **share > 0.0).map(|share| -share * share.ln()).sum();
        Some(entropy.exp()).filter(|rank| rank.is_finite())
    }

    /// BᵀB w.
    pub fn b_gram_times(&self, vector: &[f64]) -> Vec<f64> {
        (&self.of_b * DVector::from_column_slice(vector)).as_slice().to_vec()
    }

    /// The leading pair, by Lanczos steps in the inner product of BᵀB, in which w ↦ AAᵀ·BᵀB·w is symmetric.
    pub fn leading(&self) -> Option<Leading> {
        if !self.is_positive() {
            return None;
        }
        let steps = STEPS.min(self.of_b.nrows());
        let down = &self.of_a / self.square;
        let mut search = Search { grams: self, basis: Vec::new(), seen: Vec::new(), next: 0 };
        let mut tridiagonal = DMatrix::zeros(steps, steps);
        let start = DVector::from_fn(self.of_b.nrows(), |index, _| 1.0 + (index as f64 * 0.754_877_666).fract());
        let mut captured = 0.0;
        let mut fresh = search.admit(start).is_some() || search.restart();
        while fresh {
            let at = search.basis.len() - 1;
            let image = &down * &search.seen[at];
            let energy = image.dot(&search.seen[at]);
            tridiagonal[(at, at)] = energy;
            captured += energy;
            if at + 1 == steps {
                break;
            }
            if let Some(length) = search.admit(image) {
                tridiagonal[(at, at + 1)] = length;
                tridiagonal[(at + 1, at)] = length;
            } else {
                // What is left over cannot hold a larger value than what was found, or another start must look for it.
                fresh = 1.0 - captured > captured / (at + 1) as f64 && search.restart();
            }
        }
        let found = search.basis.len();
        // Entry by entry: no view whose rows are further apart than they are long.
        let part = DMatrix::from_fn(found, found, |row, column| tridiagonal[(row, column)]);
        let eigen = SymmetricEigen::try_new(part, f64::EPSILON, SWEEPS)?;
        let (best, value) = eigen.eigenvalues.argmax();
        let weights = eigen.eigenvectors.column(best);
        let mut direction = DVector::zeros(self.of_b.nrows());
        search.basis.iter().zip(weights.iter()).for_each(|(vector, weight)| direction.axpy(*weight, vector, 1.0));
        let value = (value.clamp(0.0, 1.0) * self.square).sqrt();
        Some(Leading { value, direction: direction.as_slice().to_vec() }).filter(|leading| leading.value > 0.0)
    }
}

/// A basis that grows, orthonormal in the inner product of BᵀB.
struct Search<'a> {
    grams: &'a Grams,
    basis: Vec<DVector<f64>>,
    /// BᵀB times the basis.
    seen: Vec<DVector<f64>>,
    /// Coordinate that the next start is along.
    next: usize,
}

impl Search<'_> {
    /// Takes what of a vector is new into the basis and gives its length; none where nothing is.
    fn admit(&mut self, mut vector: DVector<f64>) -> Option<f64> {
        let length = |vector: &DVector<f64>, seen: &DVector<f64>| vector.dot(seen).max(0.0).sqrt();
        let before = length(&vector, &(&self.grams.of_b * &vector));
        // Once loses half of the digits where little is new.
        for _ in 0..2 {
            for (known, seen) in self.basis.iter().zip(&self.seen) {
                let share = vector.dot(seen);
                vector.axpy(-share, known, 1.0);
            }
        }
        let seen = &self.grams.of_b * &vector;
        let after = length(&vector, &seen);
        if !(after > 1e-12 * before && after.is_finite()) {
            return None;
        }
        self.basis.push(vector / after);
        self.seen.push(seen / after);
        Some(after)
    }

    /// Begins anew along a coordinate that is not yet spanned.
    fn restart(&mut self) -> bool {
        let size = self.grams.of_b.nrows();
        let last = size.min(self.next + 2 * STEPS);
        while self.next < last {
            let start = DVector::from_fn(size, |index, _| if index == self.next { 1.0 } else { 0.0 });
            self.next += 1;
            if self.admit(start).is_some() {
                return true;
            }
        }
        false
    }
}

/// L (n × k) with LLᵀ = `gram`: Cholesky's factor by the largest pivot first, as far as the matrix goes.
fn root(gram: &DMatrix<f64>) -> DMatrix<f64> {
    let size = gram.nrows();
    let mut left: DVector<f64> = gram.diagonal();
    let smallest = size as f64 * f64::EPSILON * left.max();
    let mut factor = DMatrix::zeros(size, size);
    let mut count = 0;
    while count < size {
        let (pivot, value) = left.argmax();
        if value <= smallest {
            break;
        }
        let known = DVector::from_fn(count, |index, _| factor[(pivot, index)]);
        let mut column: DVector<f64> = gram.column(pivot).into_owned();
        column -= factor.columns(0, count) * known;
        column /= value.sqrt();
        left.iter_mut().zip(column.iter()).for_each(|(left, entry)| *left -= entry * entry);
        left[pivot] = f64::NEG_INFINITY;
        factor.set_column(count, &column);
        count += 1;
    }
    factor.columns(0, count).into_owned()
}
