//! A linear module's backward pass: the gradient of its input through the frozen weight, and those of its adapter.
//!
//! With y = (m/n) ⊙ u + bias, u = Wx + sBAx and the norm n held constant (DoRA, Liu et al. 2024, §4.3), g = (m/n) ⊙ dy:
//! dm_i = Σ_t dy_ti u_ti/n_i, dB = s·gᵀ(Ax), dA = s·(gB)ᵀx, dx = gW + s(gB)A. Without a magnitude g = dy. Sums over
//! tokens are taken in f32 over a block of them, in f64 over the blocks.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use gemm::Parallelism;
use lcr_formats::adapter::LowRank;
use lcr_formats::checkpoint::Weight;
use rayon::prelude::*;

use super::super::backward::ModuleGradient;
use super::super::bound_adapter::BoundAdapter;
use super::super::branches::Branches;
use super::super::cpu_slices::{with_all_values, with_values};
use super::super::saved::{SavedProduct, Saver, Saving};
use super::{Linear, Matrix, for_each_tile, multiply, parallelism};

/// Tokens whose products are summed in f32.
const TOKEN_BLOCK: usize = 256;
/// Outputs that one task sums over all tokens.
const TASK_OUTPUTS: usize = 64;

impl Linear {
    /// Whether the variant has a low-rank path here, which is what training moves.
    pub(in crate::decoder) fn is_adapted(&self, variant: Option<&BoundAdapter>) -> bool {
        variant.and_then(|variant| variant.module(self.id)?.low_rank()).is_some()
    }

    /// Whether the backward pass needs [`SavedProduct::pre_magnitude`].
    pub(in crate::decoder) fn has_magnitude(&self, variant: Option<&BoundAdapter>) -> bool {
        self.change(variant).is_some_and(|change| change.ratio.is_some())
    }

    /// The forward pass for one model, with what the backward pass needs of it.
    pub(in crate::decoder) fn run(&self, x: &Tensor, variant: Option<&BoundAdapter>) -> Result<SavedProduct> {
        let mut saver = Saver::new(Saving::Products);
        self.forward(&Branches::shared(x.clone(), 1), &[variant], &mut saver)?;
        saver.into_products().pop().ok_or_else(|| candle_core::Error::Msg(format!("{}: no product", self.path)))
    }

    /// Adds the gradient of the input `x` `[tokens, inputs]` to `into`, where it is wanted, and the adapter's to
    /// `modules`.
    ///
    /// `gradient` is that of the output, `[tokens, outputs]`; afterwards it holds g.
    pub(in crate::decoder) fn backward(
        &self,
        x: &Tensor,
        pre_magnitude: Option<&Tensor>,
        gradient: &mut [f32],
        variant: Option<&BoundAdapter>,
        into: Option<&mut [f32]>,
        modules: &mut BTreeMap<String, ModuleGradient>,
    ) -> Result<()> {
        let change = self.change(variant);
        let (low_rank, ratio) = change.as_ref().map_or((None, None), |change| (change.low_rank, change.ratio));
        let mut magnitude = None;
        let norms = variant.and_then(|variant| variant.module(self.id)?.row_norms(self));
        if let (Some(ratio), Some(norms), Some(pre_magnitude)) = (ratio, norms, pre_magnitude) {
            magnitude =
                Some(with_values(pre_magnitude, |pre_magnitude| magnitude_gradient(gradient, pre_magnitude, norms))?);
            gradient.par_chunks_exact_mut(self.outputs.max(1)).for_each(|row| {
                row.iter_mut().zip(ratio).for_each(|(value, ratio)| *value *= ratio);
            });
        }
        let mut into = into;
        if let Some(into) = into.as_deref_mut() {
            let weight = change.as_ref().and_then(|change| change.replaced).unwrap_or(&self.weight);
            self.frozen_backward(weight, gradient, into);
        }
        let Some(low_rank) = low_rank else { return Ok(()) };
        let own = with_all_values(&[x], |values| low_rank_backward(low_rank, values[0], gradient, into))?;
        let total = modules.entry(self.path.clone()).or_insert_with(|| ModuleGradient::zero(low_rank));
        total.add(&ModuleGradient { magnitude, ..own });
        Ok(())
    }

    /// into += gW, the weight a tile at a time.
    fn frozen_backward(&self, weight: &Weight, gradient: &[f32], into: &mut [f32]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let rows = gradient.len() / outputs.max(1);
        if self.transposed {
            for_each_tile(weight, outputs, inputs, |first, count, tile| {
                let right = Matrix::new(tile, count, outputs).transposed();
                let left = Matrix::new(gradient, rows, outputs);
                multiply(&mut into[first..], inputs, left, right, 1.0, true, parallelism(rows * count * outputs));
            });
        } else {
            for_each_tile(weight, inputs, outputs, |first, count, tile| {
                let left = Matrix::strided(&gradient[first..], rows, count, outputs);
                let right = Matrix::new(tile, count, inputs);
                multiply(into, inputs, left, right, 1.0, true, parallelism(rows * count * inputs));
            });
        }
    }
}

/// Σ_t dy_ti u_ti/n_i of every output i.
fn magnitude_gradient(gradient: &[f32], pre_magnitude: &[f32], norms: &[f64]) -> Vec<f32> {
    let outputs = norms.len().max(1);
    let mut out = vec![0.0; norms.len()];
    out.par_chunks_mut(TASK_OUTPUTS).zip(norms.par_chunks(TASK_OUTPUTS)).enumerate().for_each(
        |(task, (out, norms))| {
            let mut sums = [0.0f64; TASK_OUTPUTS];
            let columns = task * TASK_OUTPUTS..task * TASK_OUTPUTS + out.len();
            for (dy, u) in gradient.chunks_exact(outputs).zip(pre_magnitude.chunks_exact(outputs)) {
                let pairs = dy[columns.clone()].iter().zip(&u[columns.clone()]);
                sums.iter_mut().zip(pairs).for_each(|(sum, (dy, u))| *sum += f64::from(*dy) * f64::from(*u));
            }
            out.iter_mut().zip(sums).zip(norms).for_each(|((out, sum), norm)| *out = (sum / norm) as f32);
        },
    );
    out
}

/// Gradients of A and B from x `[tokens, inputs]` and g `[tokens, outputs]`; `into` += s(gB)A.
fn low_rank_backward(low_rank: &LowRank, x: &[f32], g: &[f32], into: Option<&mut [f32]>) -> ModuleGradient {
    let LowRank { rank, inputs, outputs, scale, .. } = *low_rank;
    let rows = x.len() / inputs.max(1);
    let (x, g) = (Matrix::new(x, rows, inputs), Matrix::new(g, rows, outputs));
    let lora_a = Matrix::new(&low_rank.lora_a, rank, inputs);
    let mut inner = vec![0.0; rows * rank];
    multiply(&mut inner, rank, x, lora_a.transposed(), 1.0, false, parallelism(rows * rank * inputs));
    let mut pulled = vec![0.0; rows * rank];
    let lora_b = Matrix::new(&low_rank.lora_b, outputs, rank);
    multiply(&mut pulled, rank, g, lora_b, scale as f32, false, parallelism(rows * rank * outputs));
    let pulled = Matrix::new(&pulled, rows, rank);
    if let Some(into) = into {
        multiply(into, inputs, pulled, lora_a, 1.0, true, parallelism(rows * rank * inputs));
    }
    let inner = Matrix::new(&inner, rows, rank);
    ModuleGradient { lora_a: over_tokens(pulled, x, 1.0), lora_b: over_tokens(g, inner, scale), magnitude: None }
}

/// Some rows of a row-major matrix.
fn tokens(matrix: Matrix, first: usize, count: usize) -> Matrix {
    Matrix::strided(&matrix.values[first * matrix.row_stride..], count, matrix.columns, matrix.row_stride)
}

/// scale · leftᵀ·right, `[left.columns, right.columns]`, of two matrices with a row per token.
fn over_tokens(left: Matrix, right: Matrix, scale: f64) -> Vec<f32> {
    let mut total = vec![0.0f64; left.columns * right.columns];
    let mut part = vec![0.0f32; total.len()];
    for first in (0..left.rows).step_by(TOKEN_BLOCK) {
        let count = TOKEN_BLOCK.min(left.rows - first);
        let (left, right) = (tokens(left, first, count).transposed(), tokens(right, first, count));
        multiply(&mut part, right.columns, left, right, 1.0, false, Parallelism::None);
        total.iter_mut().zip(&part).for_each(|(total, part)| *total += f64::from(*part));
    }
    total.into_iter().map(|value| (value * scale) as f32).collect()
}
