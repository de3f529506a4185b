//! An adapter fitted to a decoder.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use lcr_formats::adapter::{Adapter, Coverage, EmbeddingLowRank, LowRank, low_rank_is_zero};
use lcr_formats::checkpoint::Weight;

use super::Decoder;
use super::linear::{Linear, Matrix, for_each_panel, multiply, parallelism};

/// An adapter whose every tensor has found its module in a base model.
#[derive(Debug)]
pub struct Variant {
    adapter: Adapter,
    coverage: Coverage,
    /// Bᵀ of each low-rank change, made when it first meets a few rows, as in generation.
    up_columns: HashMap<String, OnceLock<Vec<f32>>>,
    /// Names of the whole weights by their modules' paths: every module asks for its own at every forward pass.
    whole_names: HashMap<String, String>,
    /// Of each DoRA module, computed when the module first runs and its weight is at hand.
    lengths: HashMap<String, OnceLock<Lengths>>,
}

/// Row lengths of a DoRA module, `[outputs]` each.
#[derive(Debug)]
struct Lengths {
    /// n = ‖W + sBA‖_row.
    norms: Vec<f64>,
    /// m/n.
    ratios: Vec<f32>,
}

impl Lengths {
    /// `squares` are ‖W_i‖², where they are known.
    fn new(weight: &Weight, transposed: bool, low_rank: &LowRank, magnitude: &[f32], squares: Option<&[f64]>) -> Self {
        let norms = adapted_row_norms(weight, transposed, low_rank, squares);
        let pairs = magnitude.iter().zip(&norms);
        let ratios = pairs.map(|(magnitude, norm)| (f64::from(*magnitude) / norm) as f32).collect();
        Self { norms, ratios }
    }
}

impl Variant {
    pub(crate) fn new(adapter: Adapter, coverage: Coverage) -> Self {
        let lengths = adapter
            .modules
            .iter()
            .filter(|(_, low_rank)| low_rank.magnitude.is_some())
            .map(|(path, _)| (path.clone(), OnceLock::new()))
            .collect();
        let module = |name: &str| name.strip_suffix(".weight").map(str::to_owned);
        let whole_names =
            adapter.whole.keys().filter_map(|name| module(name).map(|path| (path, name.clone()))).collect();
        let up_columns = adapter.modules.keys().map(|path| (path.clone(), OnceLock::new())).collect();
        Self { adapter, coverage, up_columns, whole_names, lengths }
    }

    /// A variant whose low-rank factors have moved since `coverage` was found, as an optimiser's step leaves it.
    ///
    /// No file is looked at. `squares` holds ‖W_i‖² of DoRA modules by path ([`Decoder::row_squares`]), so that what is left
    /// of a norm is the cross term, one product of the weight with A.
    pub fn moved(
        decoder: &Decoder,
        adapter: Adapter,
        coverage: Coverage,
        squares: &BTreeMap<String, Vec<f64>>,
    ) -> Self {
        let variant = Self::new(adapter, coverage);
        for (path, lengths) in &variant.lengths {
            let (Some(linear), Some(squares)) = (decoder.linear(path), squares.get(path)) else { continue };
            variant.lengths_of(linear, lengths, Some(squares));
        }
        variant
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
            && adapter.whole.iter().all(|(name, whole)| same(decoder.tensor(name), &whole.weight.to_f32()))
            && adapter.biases.iter().all(|(path, bias)| same(decoder.tensor(&format!("{path}.bias")), bias))
    }

    pub(crate) fn low_rank(&self, path: &str) -> Option<&LowRank> {
        self.adapter.modules.get(path)
    }

    /// Where Bᵀ of the module at `path` is kept, `[rank, outputs]`.
    pub(crate) fn up_columns(&self, path: &str) -> Option<&OnceLock<Vec<f32>>> {
        self.up_columns.get(path)
    }

    pub(crate) fn embedding(&self, path: &str) -> Option<&EmbeddingLowRank> {
        self.adapter.embeddings.get(path)
    }

    /// The weight that stands in for that of the module at `path`.
    pub(crate) fn whole_of(&self, path: &str) -> Option<&Weight> {
        self.adapter.whole.get(self.whole_names.get(path)?).map(|whole| &whole.weight)
    }

    pub(crate) fn bias(&self, path: &str) -> Option<&[f32]> {
        self.adapter.biases.get(path).map(Vec::as_slice)
    }

    /// DoRA's m/‖W + sBA‖_row of the module at `path`, `[outputs]`; `None` where it is not DoRA.
    pub fn ratio_of(&self, decoder: &Decoder, path: &str) -> Option<&[f32]> {
        decoder.linear(path).and_then(|linear| self.magnitude_ratio(linear))
    }

    /// The same, of a module at hand.
    pub(crate) fn magnitude_ratio(&self, linear: &Linear) -> Option<&[f32]> {
        let lengths = self.lengths.get(&linear.path)?;
        self.lengths_of(linear, lengths, None).map(|lengths| lengths.ratios.as_slice())
    }

    /// ‖W + sBA‖_row of a DoRA module, `[outputs]`.
    pub(super) fn row_norms(&self, linear: &Linear) -> Option<&[f64]> {
        let lengths = self.lengths.get(&linear.path)?;
        self.lengths_of(linear, lengths, None).map(|lengths| lengths.norms.as_slice())
    }

    fn lengths_of<'a>(
        &self,
        linear: &Linear,
        lengths: &'a OnceLock<Lengths>,
        squares: Option<&[f64]>,
    ) -> Option<&'a Lengths> {
        let low_rank = self.low_rank(&linear.path)?;
        let magnitude = low_rank.magnitude.as_ref()?;
        Some(lengths.get_or_init(|| {
            let weight = self.whole_of(&linear.path).unwrap_or(&linear.weight);
            Lengths::new(weight, linear.transposed, low_rank, magnitude, squares)
        }))
    }
}

impl Decoder {
    /// ‖W_i‖² of every row of the linear module at `path`, `[outputs]`, in f64.
    pub fn row_squares(&self, path: &str) -> Option<Vec<f64>> {
        let linear = self.linear(path)?;
        let (inputs, outputs) = (linear.inputs, linear.outputs);
        let mut squares = vec![0.0; outputs];
        if linear.transposed {
            for_each_panel(&linear.weight, outputs, inputs, |_, _, panel| add_column_squares(&mut squares, panel));
        } else {
            for_each_panel(&linear.weight, inputs, outputs, |first, _, panel| {
                set_row_squares(&mut squares[first..], panel, inputs);
            });
        }
        Some(squares)
    }
}

/// Adds the squares of a panel's rows, element by element.
fn add_column_squares(squares: &mut [f64], panel: &[f32]) {
    for row in panel.chunks_exact(squares.len().max(1)) {
        squares.iter_mut().zip(row).for_each(|(square, value)| *square += f64::from(*value).powi(2));
    }
}

/// The sum of squares of each row of a panel.
fn set_row_squares(squares: &mut [f64], panel: &[f32], inputs: usize) {
    for (square, row) in squares.iter_mut().zip(panel.chunks_exact(inputs)) {
        *square = row.iter().map(|value| f64::from(*value).powi(2)).sum();
    }
}

/// ‖W_i + s(BA)_i‖ of every row i from ‖W_i‖² + 2s⟨WAᵀ,B⟩_i + s²⟨B(AAᵀ),B⟩_i, in f64, never forming BA.
///
/// `weight` is `[outputs, inputs]`, or the transpose of that where `transposed`; `known` are ‖W_i‖², if somebody has them.
fn adapted_row_norms(weight: &Weight, transposed: bool, low_rank: &LowRank, known: Option<&[f64]>) -> Vec<f64> {
    let LowRank { rank, inputs, outputs, scale, .. } = *low_rank;
    let mut squares = vec![0.0; outputs];
    let mut projected = vec![0.0f32; outputs * rank];
    let down = Matrix::new(&low_rank.down, rank, inputs);
    if transposed {
        for_each_panel(weight, outputs, inputs, |first, count, panel| {
            if known.is_none() {
                add_column_squares(&mut squares, panel);
            }
            let left = Matrix::new(panel, count, outputs).transposed();
            let right = Matrix::strided(&low_rank.down[first..], rank, count, inputs).transposed();
            multiply(&mut projected, rank, left, right, 1.0, first > 0, parallelism(count * outputs * rank));
        });
    } else {
        for_each_panel(weight, inputs, outputs, |first, count, panel| {
            if known.is_none() {
                set_row_squares(&mut squares[first..], panel, inputs);
            }
            let left = Matrix::new(panel, count, inputs);
            let out = &mut projected[first * rank..];
            multiply(out, rank, left, down.transposed(), 1.0, false, parallelism(count * inputs * rank));
        });
    }
    let squares = known.unwrap_or(&squares);
    let gram = down_gram(low_rank);
    (0..outputs)
        .map(|row| {
            let up = &low_rank.up[row * rank..(row + 1) * rank];
            let cross: f64 = up.iter().zip(&projected[row * rank..]).map(|(b, p)| f64::from(*b) * f64::from(*p)).sum();
            let own: f64 = (0..rank)
                .map(|i| f64::from(up[i]) * (0..rank).map(|j| gram[i * rank + j] * f64::from(up[j])).sum::<f64>())
                .sum();
            (squares[row] + 2.0 * scale * cross + scale * scale * own).max(0.0).sqrt()
        })
        .collect()
}

/// AAᵀ, `[rank, rank]`.
fn down_gram(low_rank: &LowRank) -> Vec<f64> {
    let rows: Vec<&[f32]> = low_rank.down.chunks_exact(low_rank.inputs.max(1)).collect();
    let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    rows.iter().flat_map(|a| rows.iter().map(move |b| inner(a, b))).collect()
}
