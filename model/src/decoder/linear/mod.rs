//! A linear module of the decoder, for all branches at once: one product with the frozen weight, then each variant's
//! own path.
//!
//! DoRA (Liu et al. 2024, §4.3): y' = (m/‖W + sBA‖_row) ⊙ (xWᵀ + s(xAᵀ)Bᵀ) + bias, the adapter never multiplied out.

mod backward;
mod product;

use std::sync::OnceLock;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};
use lcr_formats::adapter::LowRank;
use lcr_formats::checkpoint::Weight;
use rayon::prelude::*;

pub use self::product::for_each_tile;
pub(super) use self::product::{Matrix, SERIAL_OPERATIONS, multiply, parallelism};
use self::product::{STREAMED_ROWS, frozen_matmul};
use super::bound_adapter::{BoundAdapter, ModuleId};
use super::branches::Branches;
use super::cpu_slices::{matrix, with_all_values, with_values};
use super::kernels::{self, SkinnyRows, StoredRows};
use super::norm::row;
use super::saved::{SavedProduct, Saver};

/// y = xWᵀ + b with W in its file.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// By which adapters know it.
    pub(crate) id: ModuleId,
    /// Module path in the checkpoint, such as `model.layers.0.self_attn.q_proj`.
    pub(crate) path: String,
    pub(crate) weight: Weight,
    /// Stored `[inputs, outputs]`: GPT-2's Conv1D.
    pub(crate) transposed: bool,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// `[outputs]`.
    pub(crate) bias: Option<Vec<f32>>,
}

/// What one variant does to a linear module.
#[derive(Clone, Copy)]
struct Change<'a> {
    low_rank: Option<&'a LowRank>,
    /// Bᵀ, kept by the variant for products with a few rows.
    lora_b_columns: &'a OnceLock<Vec<f32>>,
    /// m/‖W + sBA‖_row, `[outputs]`.
    ratio: Option<&'a [f32]>,
    replaced: Option<&'a Weight>,
    bias: Option<&'a [f32]>,
}

impl Linear {
    fn change<'a>(&'a self, variant: Option<&'a BoundAdapter>) -> Option<Change<'a>> {
        let module = variant?.module(self.id)?;
        Some(Change {
            low_rank: module.low_rank(),
            lora_b_columns: module.lora_b_columns(),
            ratio: module.magnitude_ratio(self),
            replaced: module.replaced(),
            bias: module.bias().or(self.bias.as_deref()),
        })
    }

    /// `[tokens, inputs]` to `[tokens, outputs]` for every model; `variants` holds the adapter of each, if it has one.
    pub(super) fn forward(
        &self,
        x: &Branches,
        variants: &[Option<&BoundAdapter>],
        saver: &mut Saver,
    ) -> Result<Branches> {
        let changes: Vec<Option<Change>> = variants.iter().map(|variant| self.change(*variant)).collect();
        let keeps_weight = |model: usize| changes[model].as_ref().is_none_or(|change| change.replaced.is_none());
        let mut used: Vec<usize> = Vec::new();
        for (model, branch) in x.of_model().iter().enumerate() {
            if keeps_weight(model) && !used.contains(branch) {
                used.push(*branch);
            }
        }
        let inputs: Vec<&Tensor> = used.iter().map(|branch| &x.tensors()[*branch]).collect();
        let mut tensors = self.product(&self.weight, &inputs)?;
        let mut of_model = vec![0; variants.len()];
        let position = |branch: usize| used.iter().position(|known| *known == branch).unwrap_or(0);
        let mut users: Vec<usize> = vec![0; tensors.len()];
        for (model, branch) in x.of_model().iter().enumerate().filter(|(model, _)| keeps_weight(*model)) {
            of_model[model] = position(*branch);
            users[position(*branch)] += 1;
        }
        // Branches part here: a changed model takes a copy of its rows unless it is the last to use them.
        let mut own_bias = vec![self.bias.as_deref(); tensors.len()];
        let mut pre_magnitude = None;
        for (model, change) in changes.iter().enumerate() {
            let Some(change) = change else { continue };
            let input = x.model(model);
            let branch = if let Some(whole) = change.replaced {
                tensors.extend(self.product(whole, &[input])?);
                tensors.len() - 1
            } else if users[of_model[model]] > 1 {
                users[of_model[model]] -= 1;
                tensors.push(tensors[of_model[model]].copy()?);
                tensors.len() - 1
            } else {
                of_model[model]
            };
            own_bias.resize(tensors.len(), None);
            own_bias[branch] = change.bias;
            of_model[model] = branch;
            tensors[branch] = match change.ratio {
                Some(ratio) if saver.keeps_products() && model == 0 => {
                    let rows = Self::adapt(&tensors[branch], input, &Change { ratio: None, ..*change })?;
                    scaled(pre_magnitude.insert(rows), ratio)?
                }
                _ => Self::adapt(&tensors[branch], input, change)?,
            };
        }
        for (tensor, bias) in tensors.iter_mut().zip(own_bias) {
            if let Some(bias) = bias {
                *tensor = tensor.broadcast_add(&row(bias, tensor.device())?)?;
            }
        }
        let result = Branches::new(tensors, of_model);
        saver.product(|| SavedProduct { output: result.model(0).clone(), pre_magnitude });
        Ok(result)
    }

    /// xWᵀ for several tensors of rows.
    fn product(&self, weight: &Weight, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        let Some(first) = inputs.first() else { return Ok(Vec::new()) };
        if first.device().is_cpu() {
            let products = with_all_values(inputs, |branches| {
                frozen_matmul(weight, self.transposed, self.inputs, self.outputs, branches)
            })?;
            return products.into_iter().map(|values| matrix(values, self.outputs)).collect();
        }
        let shape = if self.transposed { (self.inputs, self.outputs) } else { (self.outputs, self.inputs) };
        let weight = Tensor::from_vec(weight.to_f32(), shape, first.device())?;
        let right = if self.transposed { weight } else { weight.t()? };
        inputs.iter().map(|x| x.matmul(&right)).collect()
    }

    /// The variant's own path, added to `y` in place where the device allows it.
    fn adapt(y: &Tensor, x: &Tensor, change: &Change) -> Result<Tensor> {
        let Some(low_rank) = change.low_rank else { return Ok(y.clone()) };
        if y.device().is_cpu() {
            y.inplace_op2(
                &x.contiguous()?,
                &LowRankPath { low_rank, lora_b_columns: change.lora_b_columns, ratio: change.ratio },
            )?;
            return Ok(y.clone());
        }
        Self::adapt_composed(y, x, low_rank, change.ratio)
    }

    /// The same out of tensor operations, for devices other than the CPU.
    fn adapt_composed(y: &Tensor, x: &Tensor, low_rank: &LowRank, ratio: Option<&[f32]>) -> Result<Tensor> {
        let device = y.device();
        let lora_a = Tensor::from_slice(&low_rank.lora_a, (low_rank.rank, low_rank.inputs), device)?;
        let lora_b = Tensor::from_slice(&low_rank.lora_b, (low_rank.outputs, low_rank.rank), device)?;
        let mut step = x.matmul(&lora_a.t()?)?.matmul(&lora_b.t()?)?;
        if let Some(bias) = &low_rank.lora_b_bias {
            step = step.broadcast_add(&row(bias, device)?)?;
        }
        let sum = (y + (step * low_rank.scale)?)?;
        match ratio {
            Some(ratio) => sum.broadcast_mul(&row(ratio, device)?),
            None => Ok(sum),
        }
    }
}

/// Rows `[tokens, outputs]` with each column times its factor, in a tensor of their own.
fn scaled(rows: &Tensor, factors: &[f32]) -> Result<Tensor> {
    if !rows.device().is_cpu() {
        return rows.broadcast_mul(&row(factors, rows.device())?);
    }
    let mut values = with_values(rows, <[f32]>::to_vec)?;
    values.par_chunks_exact_mut(factors.len().max(1)).for_each(|row| {
        row.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
    });
    matrix(values, factors.len())
}

/// y ← ratio ⊙ (y + s((xAᵀ)Bᵀ + b)) on the CPU.
struct LowRankPath<'a> {
    low_rank: &'a LowRank,
    lora_b_columns: &'a OnceLock<Vec<f32>>,
    ratio: Option<&'a [f32]>,
}

impl LowRankPath<'_> {
    /// y += s(xAᵀ)Bᵀ as decoding does it: both factors are read once for all rows.
    fn skinny(&self, y: &mut [f32], x: &[f32]) {
        let LowRank { rank, inputs, outputs, .. } = *self.low_rank;
        if rank == 0 || inputs == 0 || outputs == 0 {
            return;
        }
        let lora_b = self.lora_b_columns.get_or_init(|| {
            let rows = || self.low_rank.lora_b.chunks_exact(rank);
            (0..rank).flat_map(|column| rows().map(move |row| row[column])).collect()
        });
        let lora_a = StoredRows::Values(&self.low_rank.lora_a);
        let mut unused = Vec::new();
        let x = SkinnyRows::new(x.chunks_exact(inputs).collect(), lora_a, &mut unused);
        let mut inner = vec![0.0; y.len() / outputs * rank];
        kernels::gemv(lora_a, &x, &mut inner.chunks_exact_mut(rank).collect::<Vec<_>>());
        inner.iter_mut().for_each(|value| *value *= self.low_rank.scale as f32);
        let factors: Vec<&[f32]> = inner.chunks_exact(rank).collect();
        let mut y: Vec<&mut [f32]> = y.chunks_exact_mut(outputs).collect();
        kernels::gemv_t(StoredRows::Values(lora_b), outputs, 0, &factors, &mut y);
    }
}

impl InplaceOp2 for LowRankPath<'_> {
    fn name(&self) -> &'static str {
        "low-rank path"
    }

    fn cpu_fwd(&self, y: &mut CpuStorage, y_layout: &Layout, x: &CpuStorage, x_layout: &Layout) -> Result<()> {
        let (Some((y_start, y_end)), Some((x_start, x_end))) =
            (y_layout.contiguous_offsets(), x_layout.contiguous_offsets())
        else {
            return Err(candle_core::Error::Msg("low-rank path needs contiguous rows".into()));
        };
        let CpuStorage::F32(y) = y else {
            return Err(candle_core::Error::Msg("low-rank path needs f32 rows".into()));
        };
        let (y, x) = (&mut y[y_start..y_end], &x.as_slice::<f32>()?[x_start..x_end]);
        let LowRank { rank, inputs, outputs, .. } = *self.low_rank;
        let rows = x.len() / inputs.max(1);
        let scale = self.low_rank.scale as f32;
        if rows <= STREAMED_ROWS {
            self.skinny(y, x);
        } else {
            let mut inner = vec![0.0; rows * rank];
            let left = Matrix::new(x, rows, inputs);
            let lora_a = Matrix::new(&self.low_rank.lora_a, rank, inputs).transposed();
            multiply(&mut inner, rank, left, lora_a, 1.0, false, parallelism(rows * rank * inputs));
            let left = Matrix::new(&inner, rows, rank);
            let lora_b = Matrix::new(&self.low_rank.lora_b, outputs, rank).transposed();
            multiply(y, outputs, left, lora_b, scale, true, parallelism(rows * rank * outputs));
        }
        if self.low_rank.lora_b_bias.is_some() || self.ratio.is_some() {
            y.par_chunks_exact_mut(outputs.max(1)).with_min_len(STREAMED_ROWS).for_each(|row| {
                if let Some(bias) = &self.low_rank.lora_b_bias {
                    row.iter_mut().zip(bias).for_each(|(value, bias)| *value += scale * bias);
                }
                if let Some(ratio) = self.ratio {
                    row.iter_mut().zip(ratio).for_each(|(value, ratio)| *value *= ratio);
                }
            });
        }
        Ok(())
    }
}
