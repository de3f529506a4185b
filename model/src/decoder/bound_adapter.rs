//! An adapter fitted to a decoder: what it does to each module, by the module's number.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use lcr_formats::adapter::{Adapter, Coverage, EmbeddingLowRank, LowRank, low_rank_is_zero};
use lcr_formats::checkpoint::Weight;

use super::Decoder;
use super::linear::{Linear, Matrix, for_each_tile, multiply, parallelism};

/// A module that adapters may change: its place among those of its decoder, in the order in which they were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModuleId(pub(super) usize);

/// What an adapter does to one module.
#[derive(Debug, Default)]
pub(super) struct BoundModule {
    low_rank: Option<Arc<LowRank>>,
    /// Bᵀ, `[rank, outputs]`, made when the change first meets a few rows, as in generation.
    lora_b_columns: OnceLock<Vec<f32>>,
    /// Of a DoRA module, computed when the module first runs and its weight is at hand.
    weight_norms: OnceLock<WeightNorms>,
    replaced: Option<Weight>,
    bias: Option<Vec<f32>>,
}

/// An adapter whose every tensor has found its module in a base model.
#[derive(Debug)]
pub struct BoundAdapter {
    adapter: Adapter,
    coverage: Coverage,
    /// By [`ModuleId`]; nothing for a module that stays as it is.
    modules: Vec<Option<BoundModule>>,
}

/// Row norms of a DoRA module, `[outputs]` each.
#[derive(Debug)]
struct WeightNorms {
    /// n = ‖W + sBA‖_row.
    norms: Vec<f64>,
    /// m/n.
    ratios: Vec<f32>,
}

impl BoundModule {
    /// What `adapter` does to the module at `path`, if it does anything.
    fn of(adapter: &Adapter, path: &str) -> Option<Self> {
        let low_rank = adapter.modules.get(path).cloned();
        let replaced = adapter.modules_to_save.get(&format!("{path}.weight")).map(|whole| whole.weight.clone());
        let bias = adapter.biases.get(path).cloned();
        let changes = low_rank.is_some() || replaced.is_some() || bias.is_some();
        changes.then(|| Self { low_rank, replaced, bias, ..Self::default() })
    }

    pub(super) fn low_rank(&self) -> Option<&LowRank> {
        self.low_rank.as_deref()
    }

    /// Where Bᵀ is kept.
    pub(super) fn lora_b_columns(&self) -> &OnceLock<Vec<f32>> {
        &self.lora_b_columns
    }

    /// The weight that stands in for the base's.
    pub(super) fn replaced(&self) -> Option<&Weight> {
        self.replaced.as_ref()
    }

    pub(super) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// DoRA's m/‖W + sBA‖_row, `[outputs]`; `None` where this is not DoRA.
    pub(super) fn magnitude_ratio(&self, linear: &Linear) -> Option<&[f32]> {
        self.weight_norms(linear, None).map(|weight_norms| weight_norms.ratios.as_slice())
    }

    /// ‖W + sBA‖_row of a DoRA module, `[outputs]`.
    pub(super) fn row_norms(&self, linear: &Linear) -> Option<&[f64]> {
        self.weight_norms(linear, None).map(|weight_norms| weight_norms.norms.as_slice())
    }

    /// `squares` are ‖W_i‖², where they are known.
    fn weight_norms(&self, linear: &Linear, squares: Option<&[f64]>) -> Option<&WeightNorms> {
        let low_rank = self.low_rank()?;
        let magnitude = low_rank.magnitude.as_ref()?;
        Some(self.weight_norms.get_or_init(|| {
            let weight = self.replaced.as_ref().unwrap_or(&linear.weight);
            let norms = adapted_row_norms(weight, linear.transposed, low_rank, squares);
            let pairs = magnitude.iter().zip(&norms);
            let ratios = pairs.map(|(magnitude, norm)| (f64::from(*magnitude) / norm) as f32).collect();
            WeightNorms { norms, ratios }
        }))
    }
}

impl BoundAdapter {
    pub(crate) fn new(decoder: &Decoder, adapter: Adapter, coverage: Coverage) -> Self {
        let mut modules: Vec<Option<BoundModule>> = Vec::new();
        for (id, path) in decoder.modules() {
            let place = id.0;
            if modules.len() <= place {
                modules.resize_with(place + 1, || None);
            }
            modules[place] = BoundModule::of(&adapter, path);
        }
        Self { adapter, coverage, modules }
    }

    /// A variant whose low-rank factors have moved since `coverage` was found, as an optimiser's step leaves it.
    ///
    /// No file is looked at. `squares` holds ‖W_i‖² of DoRA modules by path ([`Decoder::row_squares`]), so that what is
    /// left of a norm is the cross term, one product of the weight with A.
    pub fn moved(
        decoder: &Decoder,
        adapter: Adapter,
        coverage: Coverage,
        squares: &BTreeMap<String, Vec<f64>>,
    ) -> Self {
        let variant = Self::new(decoder, adapter, coverage);
        for (path, squares) in squares {
            if let Some((linear, module)) =
                decoder.linear(path).and_then(|linear| Some((linear, variant.module(linear.id)?)))
            {
                module.weight_norms(linear, Some(squares));
            }
        }
        variant
    }

    /// What the adapter does to a module, if it does anything.
    pub(super) fn module(&self, id: ModuleId) -> Option<&BoundModule> {
        self.modules.get(id.0)?.as_ref()
    }

    /// The adapter itself.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// What became of its tensors.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Whether every weight stays as it is in the base: no product BA, no rescaled row, no other tensor or bias.
    ///
    /// DoRA magnitudes count as unchanged within f32's rounding of ‖W‖, which is how PEFT initialises them.
    pub fn is_zero_effect(&self, decoder: &Decoder) -> bool {
        const ROUNDING: f32 = 1e-5;
        let unscaled = |path: &String| {
            self.ratio_of(decoder, path).is_none_or(|ratio| ratio.iter().all(|value| (value - 1.0).abs() < ROUNDING))
        };
        let same = |base: Option<&Weight>, values: &[f32]| match base {
            Some(base) => base.to_f32() == values,
            None => values.iter().all(|value| *value == 0.0),
        };
        let adapter = &self.adapter;
        adapter.modules.iter().all(|(path, low_rank)| low_rank_is_zero(low_rank) && unscaled(path))
            && adapter.embeddings.values().all(|embedding| low_rank_is_zero(&embedding.as_low_rank()))
            && adapter.modules_to_save.iter().all(|(name, whole)| same(decoder.tensor(name), &whole.weight.to_f32()))
            && adapter.biases.iter().all(|(path, bias)| same(decoder.tensor(&format!("{path}.bias")), bias))
    }

    /// The change of the embedding table at `path`.
    pub(crate) fn embedding(&self, path: &str) -> Option<&EmbeddingLowRank> {
        self.adapter.embeddings.get(path)
    }

    /// DoRA's m/‖W + sBA‖_row of the module at `path`, `[outputs]`; `None` where it is not DoRA.
    pub fn ratio_of(&self, decoder: &Decoder, path: &str) -> Option<&[f32]> {
        let linear = decoder.linear(path)?;
        self.module(linear.id)?.magnitude_ratio(linear)
    }
}

impl Decoder {
    /// ‖W_i‖² of every row of the linear module at `path`, `[outputs]`, in f64.
    pub fn row_squares(&self, path: &str) -> Option<Vec<f64>> {
        let linear = self.linear(path)?;
        let (inputs, outputs) = (linear.inputs, linear.outputs);
        let mut squares = vec![0.0; outputs];
        if linear.transposed {
            for_each_tile(&linear.weight, outputs, inputs, |_, _, tile| add_column_squares(&mut squares, tile));
        } else {
            for_each_tile(&linear.weight, inputs, outputs, |first, _, tile| {
                set_row_squares(&mut squares[first..], tile, inputs);
            });
        }
        Some(squares)
    }
}

/// Adds the squares of a tile's rows, element by element.
fn add_column_squares(squares: &mut [f64], tile: &[f32]) {
    for row in tile.chunks_exact(squares.len().max(1)) {
        squares.iter_mut().zip(row).for_each(|(square, value)| *square += f64::from(*value).powi(2));
    }
}

/// The sum of squares of each row of a tile.
fn set_row_squares(squares: &mut [f64], tile: &[f32], inputs: usize) {
    for (square, row) in squares.iter_mut().zip(tile.chunks_exact(inputs)) {
        *square = row.iter().map(|value| f64::from(*value).powi(2)).sum();
    }
}

/// ‖W_i + s(BA)_i‖ of every row i from ‖W_i‖² + 2s⟨WAᵀ,B⟩_i + s²⟨B(AAᵀ),B⟩_i, in f64, never forming BA.
///
/// `weight` is `[outputs, inputs]`, or the transpose of that where `transposed`; `known` are ‖W_i‖², if somebody has
/// them.
fn adapted_row_norms(weight: &Weight, transposed: bool, low_rank: &LowRank, known: Option<&[f64]>) -> Vec<f64> {
    let LowRank { rank, inputs, outputs, scale, .. } = *low_rank;
    let mut squares = vec![0.0; outputs];
    let mut projected = vec![0.0f32; outputs * rank];
    let lora_a = Matrix::new(&low_rank.lora_a, rank, inputs);
    if transposed {
        for_each_tile(weight, outputs, inputs, |first, count, tile| {
            if known.is_none() {
                add_column_squares(&mut squares, tile);
            }
            let left = Matrix::new(tile, count, outputs).transposed();
            let right = Matrix::strided(&low_rank.lora_a[first..], rank, count, inputs).transposed();
            multiply(&mut projected, rank, left, right, 1.0, first > 0, parallelism(count * outputs * rank));
        });
    } else {
        for_each_tile(weight, inputs, outputs, |first, count, tile| {
            if known.is_none() {
                set_row_squares(&mut squares[first..], tile, inputs);
            }
            let left = Matrix::new(tile, count, inputs);
            let out = &mut projected[first * rank..];
            multiply(out, rank, left, lora_a.transposed(), 1.0, false, parallelism(count * inputs * rank));
        });
    }
    let squares = known.unwrap_or(&squares);
    let gram = lora_a_gram(low_rank);
    (0..outputs)
        .map(|row| {
            let lora_b = &low_rank.lora_b[row * rank..(row + 1) * rank];
            let cross: f64 =
                lora_b.iter().zip(&projected[row * rank..]).map(|(b, p)| f64::from(*b) * f64::from(*p)).sum();
            let own: f64 = (0..rank)
                .map(|i| {
                    f64::from(lora_b[i]) * (0..rank).map(|j| gram[i * rank + j] * f64::from(lora_b[j])).sum::<f64>()
                })
                .sum();
            (squares[row] + 2.0 * scale * cross + scale * scale * own).max(0.0).sqrt()
        })
        .collect()
}

/// AAᵀ, `[rank, rank]`.
fn lora_a_gram(low_rank: &LowRank) -> Vec<f64> {
    let rows: Vec<&[f32]> = low_rank.lora_a.chunks_exact(low_rank.inputs.max(1)).collect();
    let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    rows.iter().flat_map(|a| rows.iter().map(move |b| inner(a, b))).collect()
}
