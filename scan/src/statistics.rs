//! What a low-rank change is, measured from its factors without the base, and how its modules compare with each other.
//!
//! Everything is a function of the product BA, so rewriting A → MA, B → BM⁻¹ moves nothing but the last digits.

mod coherence;
mod heads;
mod magnitudes;
mod module_groups;
mod profile;
mod reach;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::BTreeMap;

use lcr_documents::statistics::median;
use lcr_formats::adapter::Adapter;
use lcr_formats::factored::FactoredMatrix;
use lcr_formats::module::{ModulePath, StreamRole};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::coherence::Coherence;
use self::coherence::{MODULE_LIMIT, unit};
pub(crate) use self::heads::Heads;
pub use self::magnitudes::Magnitudes;
pub use self::module_groups::{Farthest, ModuleGroup};
pub use self::profile::RowShare;
use self::profile::{Profile, gini};
pub use self::reach::BiasSize;
use self::reach::Reach;
pub use self::whole::{VectorStatistics, WholeStatistics};
pub(crate) use self::whole::{measure_vector, measure_whole};
use crate::tensor_kind::TensorKind;

/// Rank from which modules are measured one after the other: what each needs of memory grows with its square.
const ALONE: usize = 256;
/// Modules whose rows are tokens.
const TOKEN_ROWS: [&str; 2] = ["lm_head", "embed_out"];

/// One low-rank change, from its factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleStatistics {
    /// Outputs and inputs of the weight that it changes; tokens and width of an embedding table.
    pub shape: [usize; 2],
    /// Inner dimension of BA.
    pub rank: usize,
    /// The factor before BA.
    pub scale: f64,
    /// ‖s·BA‖_F.
    pub norm: f64,
    /// Largest singular value of s·BA.
    pub spectral_norm: f64,
    /// Largest norm of a row of s·BA.
    #[serde(default)]
    pub largest_row: f64,
    /// The largest value that applying it to inputs of unit root mean square can give, the steps on the way counted
    /// where they leave f32: what has to fit into the numbers that a model is run with.
    #[serde(default)]
    pub reach: f64,
    /// The bias of B, where there is one, against what it joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<BiasSize>,
    /// Σσ²/σ₁²; `None` of a change that is zero, like the others.
    pub stable_rank: Option<f64>,
    /// What it is where both factors are random and large: rank over the upper edge of the product of two
    /// Marchenko–Pastur laws.
    pub stable_rank_chance: Option<f64>,
    /// σ₁²/Σσ².
    pub top1_share: Option<f64>,
    /// (Σσ²)²/Σσ⁴: from 1 to the rank.
    pub participation_ratio: Option<f64>,
    /// exp H of the shares σ²/Σσ²: from 1 to the rank; `None` of ranks over 256.
    pub effective_rank: Option<f64>,
    /// Pearson kurtosis of the entries, from the eight heaviest rows and 120 others spread evenly.
    pub kurtosis: Option<f64>,
    /// Share of ‖BA‖² in its eight heaviest rows.
    pub row_top8_share: Option<f64>,
    /// Hoyer sparsity (√n − ‖v‖₁/‖v‖₂)/(√n − 1) of the row norms v: 0 where all are equal, 1 where one row is all.
    pub row_hoyer: Option<f64>,
    /// Gini coefficient of the row norms: 0 where all are equal, 1 − 1/n where one row is all.
    pub row_gini: Option<f64>,
    /// Hoyer sparsity of the column norms: what of the input is looked at.
    pub column_hoyer: Option<f64>,
    /// The eight heaviest rows of an output head or an embedding table, whose rows are tokens, heaviest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heaviest_rows: Vec<RowShare>,
    /// Share of ‖BA‖² by attention head, where the base's config says how many there are: rows of q, k and v, columns
    /// of o.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<f64>>,
    /// DoRA's magnitudes: smallest, median and largest absolute value.
    pub magnitude: Option<[f64; 3]>,
    /// The same magnitudes, as far as rows are gone or turned round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnitudes: Option<Magnitudes>,
    /// Robust z of ln ‖s·BA‖ among its kind, depth trend removed; `None` under 16 modules of the kind.
    pub norm_z: Option<f64>,
    /// The smallest of the robust z of ln kurtosis, ln `row_top8_share` and `row_hoyer` among its kind: high only where
    /// all three rise together, as they do where a change is concentrated on a few outputs.
    pub concentration_z: Option<f64>,
}

/// What all modules say together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeightStatistics {
    /// By the module's path.
    pub modules: BTreeMap<String, ModuleStatistics>,
    /// Low-rank changes of embedding tables, by the table's path; rows are tokens.
    #[serde(default)]
    pub embeddings: BTreeMap<String, ModuleStatistics>,
    /// Matrices that replace the base's whole, by the tensor's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub whole: BTreeMap<String, WholeStatistics>,
    /// Vectors that replace the base's, norms' weights and biases, by the tensor's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vectors: BTreeMap<String, VectorStatistics>,
    /// By kind of module, the last part of its path; those without a layer's number are left out.
    #[serde(default)]
    pub families: BTreeMap<String, ModuleGroup>,
    /// Gini coefficient of ‖s·BA‖ over the modules: 0 where all change alike.
    pub norm_gini: Option<f64>,
    /// ln of the median ‖s·BA‖/√(outputs·inputs) of modules in attention over that of modules in MLPs.
    pub attention_to_mlp: Option<f64>,
    /// Mean |cos| over pairs of modules of what the writers write first; `None` under four of one width.
    pub coherence_write: Option<Coherence>,
    /// The same of what the readers read first.
    pub coherence_read: Option<Coherence>,
}

/// One change's statistics and the directions it writes and reads first.
struct Measured {
    path: String,
    statistics: ModuleStatistics,
    left: Vec<f32>,
    right: Vec<f32>,
}

/// One change to be measured: its path, its factors, and what is known of it beside them.
struct Change<'a> {
    path: &'a str,
    /// Its rank may be less than the file's.
    matrix: FactoredMatrix<'a>,
    rank: usize,
    magnitude: Option<&'a [f32]>,
    lora_b_bias: Option<&'a [f32]>,
    has_token_rows: bool,
}

/// Statistics gathered from an adapter that is read in parts.
#[derive(Default)]
pub(crate) struct Gathering {
    heads: Option<Heads>,
    measured: Vec<Measured>,
    embeddings: BTreeMap<String, ModuleStatistics>,
    whole: BTreeMap<String, WholeStatistics>,
    vectors: BTreeMap<String, VectorStatistics>,
    /// Modules of which directions are kept, by kind.
    directions: BTreeMap<String, usize>,
}

impl Gathering {
    /// Nothing yet, for a base whose attention is divided so.
    pub(crate) fn of(heads: Option<Heads>) -> Self {
        Self { heads, ..Self::default() }
    }

    /// Measures every change of a part, and gives the largest [reach](ModuleStatistics::reach) of its low-rank ones.
    pub(crate) fn add(&mut self, adapter: &Adapter) -> f64 {
        let heads = self.heads;
        let (wide, narrow): (Vec<_>, Vec<_>) = adapter.modules.iter().partition(|(_, module)| module.rank > ALONE);
        let mut measured: Vec<Measured> =
            narrow.into_par_iter().map(|(path, module)| measure(&Change::of_module(path, module), heads)).collect();
        measured.extend(wide.into_iter().map(|(path, module)| measure(&Change::of_module(path, module), heads)));
        let mut reach = 0.0_f64;
        for mut module in measured {
            reach = reach.max(module.statistics.reach);
            let kept = self.directions.entry(ModulePath::parse(&module.path).kind.to_owned()).or_default();
            *kept += 1;
            if *kept > MODULE_LIMIT {
                (module.left, module.right) = (Vec::new(), Vec::new());
            }
            self.measured.push(module);
        }
        for (path, embedding) in &adapter.embeddings {
            let change = Change {
                path,
                matrix: embedding.factored().reduced(),
                rank: embedding.rank,
                magnitude: None,
                lora_b_bias: None,
                has_token_rows: true,
            };
            let statistics = measure(&change, None).statistics;
            reach = reach.max(statistics.reach);
            self.embeddings.insert(path.clone(), statistics);
        }
        for (name, whole) in &adapter.modules_to_save {
            if whole.shape.len() > 1 {
                self.whole.insert(name.clone(), measure_whole(&whole.weight, TensorKind::of(name).has_token_rows()));
            } else {
                self.vectors.insert(name.clone(), measure_vector(&whole.weight.to_f32()));
            }
            whole.weight.release();
        }
        let biases = adapter.biases.iter().map(|(path, bias)| (format!("{path}.bias"), measure_vector(bias)));
        self.vectors.extend(biases);
        reach
    }

    /// Holds modules against each other.
    pub(crate) fn finish(mut self) -> WeightStatistics {
        let families = module_groups::compare(&mut self.measured);
        let coherence_write = coherence::coherence(&self.measured, StreamRole::Writes, |module| &module.left);
        let coherence_read = coherence::coherence(&self.measured, StreamRole::Reads, |module| &module.right);
        let norm_gini = gini(self.measured.iter().map(|module| module.statistics.norm).collect());
        let attention_to_mlp = attention_to_mlp(&self.measured);
        let modules = self.measured.into_iter().map(|module| (module.path, module.statistics)).collect();
        let (embeddings, whole, vectors) = (self.embeddings, self.whole, self.vectors);
        WeightStatistics {
            modules,
            embeddings,
            whole,
            vectors,
            families,
            norm_gini,
            attention_to_mlp,
            coherence_write,
            coherence_read,
        }
    }
}

impl<'a> Change<'a> {
    fn of_module(path: &'a str, module: &'a lcr_formats::adapter::LowRank) -> Self {
        Self {
            path,
            matrix: module.factored().reduced(),
            rank: module.rank,
            magnitude: module.magnitude.as_deref(),
            lora_b_bias: module.lora_b_bias.as_deref(),
            has_token_rows: TOKEN_ROWS.contains(&ModulePath::parse(path).kind),
        }
    }
}

fn measure(change: &Change<'_>, heads: Option<Heads>) -> Measured {
    let Change { path, ref matrix, rank, .. } = *change;
    let scale = matrix.scale.abs();
    let grams = matrix.grams();
    let leading = grams.leading();
    let row_squares = matrix.row_squares(&grams);
    let reach = Reach::of(matrix, &grams, &row_squares);
    let bias = change.lora_b_bias.map(|bias| BiasSize::of(bias, scale, &row_squares));
    let rows = Profile::of(row_squares);
    let columns = Profile::of(matrix.column_squares(&grams));
    let first = leading.as_ref().map(|leading| leading.value);
    let shares = |first: f64| (first * first / grams.square).min(1.0);
    let statistics = ModuleStatistics {
        shape: [matrix.rows, matrix.columns],
        rank,
        scale: matrix.scale,
        norm: scale * grams.square.sqrt(),
        spectral_norm: scale * first.unwrap_or(0.0),
        largest_row: reach.largest_row,
        reach: reach.largest_value,
        bias,
        stable_rank: first.map(|first| 1.0 / shares(first)),
        stable_rank_chance: first.map(|_| stable_rank_of_chance(matrix.rows, matrix.columns, rank)),
        top1_share: first.map(shares),
        participation_ratio: grams.participation_ratio(),
        effective_rank: grams.effective_rank(),
        kurtosis: rows.kurtosis(matrix),
        row_top8_share: rows.heavy_share(),
        row_hoyer: rows.hoyer(),
        row_gini: rows.gini(),
        column_hoyer: columns.hoyer(),
        heaviest_rows: if change.has_token_rows { rows.heaviest() } else { Vec::new() },
        heads: heads.and_then(|heads| heads.shares(path, &rows, &columns)),
        magnitude: change.magnitude.map(magnitudes::spread),
        magnitudes: change.magnitude.map(Magnitudes::of),
        norm_z: None,
        concentration_z: None,
    };
    let role = ModulePath::parse(path).role();
    let direction = |wanted| leading.as_ref().filter(|_| role == Some(wanted)).map(|found| &found.direction);
    // Bw is the left singular vector, Aᵀ(BᵀB w) the right one.
    let left = direction(StreamRole::Writes).map(|direction| unit(matrix.b_times(direction)));
    let right =
        direction(StreamRole::Reads).map(|direction| unit(matrix.transposed_a_times(&grams.b_gram_times(direction))));
    Measured { path: path.to_owned(), statistics, left: left.unwrap_or_default(), right: right.unwrap_or_default() }
}

/// ln of the ratio of the median root mean square entries of two groups of modules; those that change nothing are left
/// out.
fn attention_to_mlp(measured: &[Measured]) -> Option<f64> {
    let typical = |names: &[&str]| {
        let own = measured.iter().filter(|module| module.path.split('.').any(|part| names.contains(&part)));
        let sizes = own.map(|module| {
            let [outputs, inputs] = module.statistics.shape;
            module.statistics.norm / (outputs as f64 * inputs as f64).sqrt()
        });
        median(&sizes.filter(|size| *size > 0.0 && size.is_finite()).collect::<Vec<_>>())
    };
    let attention = typical(&["self_attn", "attn", "attention", "self_attention"])?;
    let mlp = typical(&["mlp", "feed_forward", "ffn", "block_sparse_moe"])?;
    Some((attention / mlp).ln()).filter(|ratio| ratio.is_finite())
}

/// Σσ²/σ₁² that a product of two random factors has: `rank`/min over z of (1 + z)(1 + z·r/rows)(1 + z·r/columns)/z, the
/// edge of the product of two Marchenko–Pastur laws (the S-transform of each is 1/(1 + cz)).
pub(super) fn stable_rank_of_chance(rows: usize, columns: usize, rank: usize) -> f64 {
    let rank = rank as f64;
    let (first, second) = (rank / rows.max(1) as f64, rank / columns.max(1) as f64);
    // The derivative vanishes where 2c₁c₂z³ + (c₁ + c₂ + c₁c₂)z² = 1; the left side rises with z.
    let slope = |z: f64| 2.0 * first * second * z.powi(3) + (first + second + first * second) * z * z - 1.0;
    let (mut below, mut above) = (0.0, 1.0 / (first + second).sqrt());
    for _ in 0..60 {
        let middle = f64::midpoint(below, above);
        if slope(middle) < 0.0 { below = middle } else { above = middle }
    }
    rank * above / ((1.0 + above) * (1.0 + first * above) * (1.0 + second * above))
}
