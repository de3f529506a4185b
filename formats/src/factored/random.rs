//! A change of the same size in random directions: what any adapter with these singular values would do.

use nalgebra::DMatrix;
use rand::Rng;
use rand::distr::StandardUniform;

use super::FactoredMatrix;

impl FactoredMatrix<'_> {
    /// Factors (B, A) of a matrix with the singular values of this one and singular vectors drawn uniformly: B = UΣ,
    /// (rows × rank), and A = Vᵀ, (rank × columns), row-major, whose product needs no further scale.
    ///
    /// U and V are the orthonormal parts of Gaussian matrices (Haar measure on the Stiefel manifold; Eaton 1983), so
    /// that norm, rank and spectrum stay and every direction is lost.
    pub fn random_like(&self, draw: &mut impl Rng) -> (Vec<f32>, Vec<f32>) {
        let rank = self.rank.min(self.rows).min(self.columns);
        let values = self.singular_values();
        let left = random_orthonormal(self.rows, rank, draw);
        let right = random_orthonormal(self.columns, rank, draw);
        let mut lora_b = vec![0.0; self.rows * self.rank];
        let mut lora_a = vec![0.0; self.rank * self.columns];
        for (direction, value) in values.iter().enumerate().take(rank) {
            let rows = lora_b.iter_mut().skip(direction).step_by(self.rank);
            rows.zip(left.column(direction).iter()).for_each(|(out, own)| *out = (own * value) as f32);
            let line = lora_a.iter_mut().skip(direction * self.columns);
            line.zip(right.column(direction).iter()).for_each(|(out, own)| *out = *own as f32);
        }
        (lora_b, lora_a)
    }
}

/// `count` orthonormal columns of length `rows`, drawn uniformly.
fn random_orthonormal(rows: usize, count: usize, draw: &mut impl Rng) -> DMatrix<f64> {
    DMatrix::from_fn(rows, count, |_, _| gaussian(draw)).qr().q()
}

/// A standard normal number by the method of Box and Muller (1958).
fn gaussian(draw: &mut impl Rng) -> f64 {
    let (first, second): (f64, f64) = (draw.sample(StandardUniform), draw.sample(StandardUniform));
    (-2.0 * (1.0 - first).ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn matrix(lora_b: Vec<f32>, lora_a: Vec<f32>, scale: f64) -> FactoredMatrix<'static> {
        FactoredMatrix { rows: 6, columns: 5, rank: 2, scale, lora_b: lora_b.into(), lora_a: lora_a.into() }
    }

    /// B = [3e₁ 4e₂], A = [e₁; e₂] and s = ½: singular values 2 and 1.5 by hand.
    #[test]
    fn the_spectrum_stays_and_the_directions_go() {
        let mut lora_b = vec![0.0; 12];
        (lora_b[0], lora_b[3]) = (3.0, 4.0);
        let mut lora_a = vec![0.0; 10];
        (lora_a[0], lora_a[6]) = (1.0, 1.0);
        let own = matrix(lora_b, lora_a, 0.5);
        let mut draw = ChaCha8Rng::seed_from_u64(3);
        let (first, second) = (own.random_like(&mut draw), own.random_like(&mut draw));
        for (lora_b, lora_a) in [&first, &second] {
            let random = matrix(lora_b.clone(), lora_a.clone(), 1.0);
            let values = random.singular_values();
            assert!((values[0] - 2.0).abs() < 1e-6 && (values[1] - 1.5).abs() < 1e-6, "{values:?}");
            // No direction of the stream is its own any more.
            assert!(lora_b.iter().all(|value| *value != 0.0));
        }
        assert_ne!(first, second);
    }

    /// A single direction's projection on an axis has mean square 1/n.
    #[test]
    fn directions_are_spread_evenly() {
        let mut draw = ChaCha8Rng::seed_from_u64(0);
        let mut sums = [0.0; 4];
        for _ in 0..4000 {
            let column = random_orthonormal(4, 1, &mut draw);
            sums.iter_mut().zip(column.iter()).for_each(|(sum, value)| *sum += value * value / 4000.0);
        }
        assert!(sums.iter().all(|mean| (mean - 0.25).abs() < 0.02), "{sums:?}");
    }
}
