//! Gram matrices of the shorter side: of W, which all changes of one weight share, and what a change adds to it.
//!
//! With WᵀΔ = C and ΔᵀΔ = D (WΔᵀ and ΔΔᵀ for a wide W) the Gram matrix of W' is G + C + Cᵀ + D. For a LoRA module C =
//! P·Qᵀ and D = Q·K·Qᵀ are of its rank; in the basis of W's own singular vectors G is diagonal as well, so that G' is
//! applied at the price of the rank and never stands as a matrix.

use std::ops::Range;

use faer::{Accum, Mat, MatRef, Par};
use lcr_formats::adapter::LowRank;
use lcr_formats::factored::FactoredMatrix;

use super::LEADING;
use super::changed::ChangedTensor;
use crate::linalg::{NoConvergence, eigen, leading_eigenvectors, leading_eigenvectors_of, product};

/// A direction of W' below this |cos| to all of W's is an intruder (Shuttleworth et al. 2024).
const INTRUDER_COSINE: f64 = 0.5;
/// Squared singular values of W below this share of its largest are rounding.
const ROUNDING: f64 = 1e-14;

/// W's own part of every spectral figure: the Gram matrix of its shorter side and what it decomposes into. Changes of
/// one weight by several adapters share it.
#[derive(Debug)]
pub struct BaseSpectrum {
    /// Outputs and inputs of W.
    pub(super) shape: [usize; 2],
    gram: Mat<f64>,
    /// Squared singular values of W, descending.
    pub(super) squares: Vec<f64>,
    /// Singular vectors of the shorter side, as columns.
    pub(super) vectors: Mat<f64>,
}

/// What a change adds to the Gram matrix.
pub(super) enum ChangeGrams<'a> {
    /// C and D as they are, `[short, short]`.
    Dense { between: Mat<f64>, change: Mat<f64> },
    /// C = P·Qᵀ and D = Q·K·Qᵀ.
    LowRank(LowRankGrams<'a>),
}

/// The factors of C and D, with `short` and `long` the sides of W.
pub(super) struct LowRankGrams<'a> {
    /// s·BA itself.
    pub(super) matrix: FactoredMatrix<'a>,
    /// sB of a tall W, sAᵀ of a wide one, `[long, rank]`.
    long: Mat<f64>,
    /// P = WᵀsB or WsAᵀ, `[short, rank]`.
    inner: Mat<f64>,
    /// Q = Aᵀ or B, `[short, rank]`.
    outer: Mat<f64>,
    /// K = s²BᵀB or s²AAᵀ, `[rank, rank]`.
    core: Mat<f64>,
}

/// The leading singular vectors U' of W' on the shorter side, as W sees them.
struct Leading {
    /// VᵀU', with V all of W's singular vectors on that side.
    in_base: Mat<f64>,
    /// Vᵀ(G + C)U'.
    crossed: Mat<f64>,
    /// Squared singular values of W' that belong to them.
    squares: Vec<f64>,
}

impl BaseSpectrum {
    /// From the lower triangle of W's Gram matrix.
    pub(super) fn of(shape: [usize; 2], mut gram: Mat<f64>) -> Result<Self, NoConvergence> {
        mirror(&mut gram);
        let (squares, vectors) = eigen(gram.as_ref())?;
        Ok(Self { shape, gram, squares, vectors })
    }

    fn is_tall(&self) -> bool {
        self.shape[0] > self.shape[1]
    }

    /// How many of the leading left singular vectors of W' resemble none of W's.
    pub(super) fn intruders(&self, grams: &ChangeGrams) -> Result<usize, NoConvergence> {
        let size = self.squares.len();
        let count = LEADING.min(size);
        let leading = match grams {
            ChangeGrams::Dense { between, change } => self.leading_dense(between, change, count)?,
            ChangeGrams::LowRank(factors) => self.leading_low_rank(factors, count)?,
        };
        let floor = ROUNDING * self.squares.first().copied().unwrap_or(0.0);
        let cosine = |row: usize, column: usize| {
            if !self.is_tall() {
                return leading.in_base[(row, column)];
            }
            // UᵀU' = Σ⁻¹ Vᵀ (WᵀW') V' Σ'⁻¹ with WᵀW' = G + C.
            let scale = (self.squares[row].max(0.0) * leading.squares[column].max(0.0)).sqrt();
            if self.squares[row] > floor && scale > 0.0 { leading.crossed[(row, column)] / scale } else { 0.0 }
        };
        let nearest = |column: usize| (0..size).map(|row| cosine(row, column).abs()).fold(0.0, f64::max);
        Ok((0..count).filter(|column| nearest(*column) < INTRUDER_COSINE).count())
    }

    fn leading_dense(&self, between: &Mat<f64>, change: &Mat<f64>, count: usize) -> Result<Leading, NoConvergence> {
        let size = self.squares.len();
        let adapted = Mat::from_fn(size, size, |row, column| {
            self.gram[(row, column)] + between[(row, column)] + between[(column, row)] + change[(row, column)]
        });
        let vectors = leading_eigenvectors(adapted.as_ref(), &self.squares, count)?;
        let squares = rayleigh(&vectors, &product(adapted.as_ref(), vectors.as_ref()));
        let in_base = product(self.vectors.transpose(), vectors.as_ref());
        // Where it is not needed, it is not worth a product.
        let crossed = if self.is_tall() {
            let image = product((&self.gram + between).as_ref(), vectors.as_ref());
            product(self.vectors.transpose(), image.as_ref())
        } else {
            Mat::new()
        };
        Ok(Leading { in_base, crossed, squares })
    }

    fn leading_low_rank(&self, factors: &LowRankGrams, count: usize) -> Result<Leading, NoConvergence> {
        let basis = self.vectors.transpose();
        let (inner, outer) = (product(basis, factors.inner.as_ref()), product(basis, factors.outer.as_ref()));
        // (VᵀGV + VᵀCV)z = Λz + P̃(Q̃ᵀz), and the rest of G' is Q̃(P̃ᵀz + K(Q̃ᵀz)).
        let crossed = |z: MatRef<f64>, seen: &Mat<f64>| {
            let mut image = Mat::from_fn(z.nrows(), z.ncols(), |row, column| self.squares[row] * z[(row, column)]);
            add_product(&mut image, inner.as_ref(), seen.as_ref(), false);
            image
        };
        let apply = |z: MatRef<f64>| {
            let seen = product(outer.transpose(), z);
            let mut back = product(inner.transpose(), z);
            add_product(&mut back, factors.core.as_ref(), seen.as_ref(), false);
            let mut image = crossed(z, &seen);
            add_product(&mut image, outer.as_ref(), back.as_ref(), false);
            image
        };
        let vectors = leading_eigenvectors_of(&apply, self.squares.len(), &self.squares, count)?;
        let squares = rayleigh(&vectors, &apply(vectors.as_ref()));
        let crossed = crossed(vectors.as_ref(), &product(outer.transpose(), vectors.as_ref()));
        Ok(Leading { in_base: vectors, crossed, squares })
    }
}

impl<'a> ChangeGrams<'a> {
    /// Of a change whose slabs are yet to be added.
    pub(super) fn of(tensor: &'a ChangedTensor) -> Self {
        let short = tensor.outputs.min(tensor.inputs);
        match tensor.low_rank() {
            Some(low_rank) => Self::LowRank(LowRankGrams::of(low_rank, tensor.is_tall())),
            None => Self::Dense { between: Mat::zeros(short, short), change: Mat::zeros(short, short) },
        }
    }

    /// Adds a slab: W and ΔW, `[short, long.len()]`.
    pub(super) fn add(&mut self, w: MatRef<f64>, d: MatRef<f64>, long: &Range<usize>) {
        match self {
            Self::Dense { between, change } => {
                add_product(between, w, d.transpose(), false);
                add_product(change, d, d.transpose(), true);
            }
            Self::LowRank(factors) => {
                add_product(&mut factors.inner, w, factors.long.subrows(long.start, long.len()), false);
            }
        }
    }

    /// After the last slab.
    pub(super) fn finish(&mut self) {
        if let Self::Dense { change, .. } = self {
            mirror(change);
        }
    }

    /// xᵀC for x `[short, k]`: `[k, short]`.
    pub(super) fn between(&self, x: MatRef<f64>) -> Mat<f64> {
        match self {
            Self::Dense { between, .. } => product(x.transpose(), between.as_ref()),
            Self::LowRank(factors) => {
                product(product(x.transpose(), factors.inner.as_ref()).as_ref(), factors.outer.transpose())
            }
        }
    }
}

impl<'a> LowRankGrams<'a> {
    fn of(low_rank: &'a LowRank, is_tall: bool) -> Self {
        let matrix = low_rank.factored();
        let (rank, columns) = (matrix.rank, matrix.columns);
        let lora_b = Mat::from_fn(matrix.rows, rank, |row, inner| f64::from(matrix.lora_b[row * rank + inner]));
        let lora_a = Mat::from_fn(columns, rank, |column, inner| f64::from(matrix.lora_a[inner * columns + column]));
        let (long, outer) = if is_tall { (lora_b, lora_a) } else { (lora_a, lora_b) };
        let long = long * matrix.scale;
        let core = product(long.transpose(), long.as_ref());
        Self { matrix, inner: Mat::zeros(outer.nrows(), rank), long, outer, core }
    }
}

/// vᵀ(Gv) of every column.
fn rayleigh(vectors: &Mat<f64>, images: &Mat<f64>) -> Vec<f64> {
    let of = |column: usize| (0..vectors.nrows()).map(|row| vectors[(row, column)] * images[(row, column)]).sum();
    (0..vectors.ncols()).map(of).collect()
}

/// out += left · right; only the lower triangle where the result is known to be symmetric.
pub(super) fn add_product(out: &mut Mat<f64>, left: MatRef<f64>, right: MatRef<f64>, symmetric: bool) {
    use faer::linalg::matmul::triangular::{self, BlockStructure};
    if symmetric {
        let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        triangular::matmul(out.as_mut(), lower, Accum::Add, left, full, right, full, 1.0, Par::Seq);
    } else {
        faer::linalg::matmul::matmul(out.as_mut(), Accum::Add, left, right, 1.0, Par::Seq);
    }
}

/// Fills the upper triangle from the lower.
pub(super) fn mirror(symmetric: &mut Mat<f64>) {
    for column in 0..symmetric.ncols() {
        for row in 0..column {
            symmetric[(row, column)] = symmetric[(column, row)];
        }
    }
}

#[cfg(test)]
mod tests {
    use lcr_formats::adapter::ScalingRule;

    use super::*;

    fn noise(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            })
            .collect()
    }

    fn change(outputs: usize, inputs: usize, scale: f64) -> LowRank {
        let rank = 4;
        LowRank {
            rank,
            alpha: scale,
            scale,
            scaling_rule: ScalingRule::Raw,
            lora_a: noise(5, rank * inputs),
            lora_b: noise(6, outputs * rank),
            inputs,
            outputs,
            magnitude: None,
            lora_b_bias: None,
            tensor_names: Vec::new(),
        }
    }

    /// W `[outputs, inputs]` with falling columns, and sBA as matrices, as tall slabs or wide ones see them: `[short,
    /// long]`.
    fn sides(low_rank: &LowRank) -> (Mat<f64>, Mat<f64>) {
        let LowRank { outputs, inputs, rank, scale, .. } = *low_rank;
        let values = noise(9, outputs * inputs);
        let w = Mat::from_fn(outputs, inputs, |row, column| {
            f64::from(values[row * inputs + column]) / (1.0 + column as f64).sqrt()
        });
        let d = Mat::from_fn(outputs, inputs, |row, column| {
            let terms = (0..rank).map(|k| (low_rank.lora_b[row * rank + k], low_rank.lora_a[k * inputs + column]));
            scale * terms.map(|(up, down)| f64::from(up) * f64::from(down)).sum::<f64>()
        });
        if outputs > inputs { (w.transpose().to_owned(), d.transpose().to_owned()) } else { (w, d) }
    }

    #[test]
    fn factored_and_dense_grams_see_the_same_intruders() {
        for (outputs, inputs) in [(330, 260), (260, 330)] {
            let counts: Vec<usize> = [0.003, 0.05, 2.0]
                .into_iter()
                .map(|scale| {
                    let low_rank = change(outputs, inputs, scale);
                    let (w, d) = sides(&low_rank);
                    let base = BaseSpectrum::of([outputs, inputs], product(w.as_ref(), w.transpose())).unwrap();
                    let mut factors = LowRankGrams::of(&low_rank, outputs > inputs);
                    factors.inner = product(w.as_ref(), factors.long.as_ref());
                    let between = product(w.as_ref(), d.transpose());
                    let change = product(d.as_ref(), d.transpose());
                    let dense = base.leading_dense(&between, &change, LEADING).unwrap();
                    let factored = base.leading_low_rank(&factors, LEADING).unwrap();
                    for column in 0..LEADING {
                        let (left, right) = (dense.squares[column], factored.squares[column]);
                        assert!((left / right - 1.0).abs() < 1e-8, "{outputs}×{inputs}, {scale}: {left} {right}");
                        let along: f64 = (0..base.squares.len())
                            .map(|row| dense.in_base[(row, column)] * factored.in_base[(row, column)])
                            .sum();
                        assert!(1.0 - along.abs() < 1e-6, "{outputs}×{inputs}, {scale}, {column}: {along}");
                    }
                    let dense = base.intruders(&ChangeGrams::Dense { between, change }).unwrap();
                    assert_eq!(dense, base.intruders(&ChangeGrams::LowRank(factors)).unwrap());
                    dense
                })
                .collect();
            // A faint change brings none, an overwhelming one as many as its rank.
            assert_eq!((counts[0], counts[2]), (0, 4), "{outputs}×{inputs}: {counts:?}");
        }
    }
}
