//! What can be said of an adapter without its base: the content of the command `inspect`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Adapter, AdapterConfig, Format, LowRank, Origin, ScalingRule, low_rank_is_zero, module_of};
use crate::checkpoint::Weight;

/// Singular values listed per module.
const SINGULAR_VALUES: usize = 8;
/// Largest rank whose spectrum is computed: the work grows with its cube.
const WHOLE_SPECTRUM: usize = 256;

/// An adapter described from its files.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The tensor file.
    pub path: String,
    /// Layout of the files.
    pub format: Format,
    /// `LoRA` or `DoRA`, with rsLoRA scaling named where used.
    pub method: String,
    /// Base that the config names.
    pub base_model: Option<String>,
    /// SHA-256 of the tensor file.
    pub sha256: String,
    /// Bytes of the tensor file.
    pub bytes: u64,
    /// Tensors in it.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Ranks found, ascending.
    pub ranks: Vec<usize>,
    /// Every scale in use with its reason, e.g. `alpha 16 / rank 8 = 2`.
    pub scales: Vec<String>,
    /// Kinds of module changed.
    pub targets: Vec<String>,
    /// Blocks touched, ascending.
    pub layers: Vec<usize>,
    /// Whether the files alone prove that nothing changes.
    pub zero_effect: bool,
    /// Low-rank changes by module path; embeddings among them.
    pub modules: BTreeMap<String, ModuleInspection>,
    /// Tensors that replace the base's.
    pub whole: BTreeMap<String, WholeInspection>,
    /// Biases that replace the base's: module path and length.
    pub biases: BTreeMap<String, usize>,
    /// What a reader should know of the config.
    pub notes: Vec<String>,
}

impl Inspection {
    /// Adds what another part of the same adapter holds.
    pub fn join(&mut self, other: Self) {
        fn united<T: Ord>(left: &mut Vec<T>, right: Vec<T>) {
            left.extend(right);
            left.sort();
            left.dedup();
        }
        // A part that adapts nothing with a magnitude says plain LoRA.
        if other.method.len() > self.method.len() || other.method.starts_with("DoRA") {
            self.method = other.method;
        }
        united(&mut self.ranks, other.ranks);
        united(&mut self.scales, other.scales);
        united(&mut self.targets, other.targets);
        united(&mut self.layers, other.layers);
        self.zero_effect &= other.zero_effect;
        self.modules.extend(other.modules);
        self.whole.extend(other.whole);
        self.biases.extend(other.biases);
        let fresh: Vec<String> = other.notes.into_iter().filter(|note| !self.notes.contains(note)).collect();
        self.notes.extend(fresh);
    }
}

/// One low-rank change.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleInspection {
    /// (outputs, inputs) of the weight that it changes; (tokens, width) for an embedding.
    pub shape: [usize; 2],
    /// Inner dimension.
    pub rank: usize,
    /// Factor before BA.
    pub scale: f64,
    /// Where the factor comes from.
    pub scaling_rule: ScalingRule,
    /// ‖s·BA‖_F.
    pub norm: f64,
    /// Largest singular values of s·BA, descending; none of a rank over 256, whose decomposition takes long.
    pub singular_values: Vec<f64>,
    /// Whether s·BA vanishes.
    pub zero: bool,
    /// DoRA's magnitudes: smallest, mean, largest.
    pub magnitude: Option<[f64; 3]>,
    /// ‖s·b‖ of the bias of B.
    pub bias_norm: Option<f64>,
}

/// One tensor carried whole.
#[derive(Debug, Clone, Serialize)]
pub struct WholeInspection {
    /// Its shape.
    pub shape: Vec<usize>,
    /// ‖tensor‖_F.
    pub norm: f64,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether the config announces it.
    pub declared: bool,
}

impl Adapter {
    /// Describes the adapter from its files.
    pub fn summary(&self) -> Inspection {
        let low_rank = self.modules.iter().map(|(path, module)| (path.clone(), inspect(module)));
        let embeddings = self.embeddings.iter().map(|(path, module)| {
            let as_module = module.as_low_rank();
            let mut inspection = inspect(&as_module);
            inspection.shape = [module.rows, module.width];
            (path.clone(), inspection)
        });
        let whole = self.modules_to_save.iter().map(|(name, tensor)| {
            let inspection = WholeInspection {
                shape: tensor.shape.clone(),
                norm: norm_of(&tensor.weight),
                origin: tensor.origin,
                declared: tensor.declared,
            };
            (name.clone(), inspection)
        });
        Inspection {
            path: self.path.display().to_string(),
            format: self.format,
            method: self.method(),
            base_model: self.base_model().map(str::to_owned),
            sha256: self.sha256.clone(),
            bytes: self.bytes,
            tensors: self.tensors_in_file,
            parameters: self.parameters,
            ranks: self.ranks(),
            scales: self.scale_reasons(),
            targets: self.target_names(),
            layers: self.layers_touched(),
            zero_effect: self.is_zero_effect(),
            modules: low_rank.chain(embeddings).collect(),
            whole: whole.collect(),
            biases: self.biases.iter().map(|(path, bias)| (path.clone(), bias.len())).collect(),
            notes: self.notes.iter().map(|note| note.text.clone()).collect(),
        }
    }

    /// Base that the config names.
    pub fn base_model(&self) -> Option<&str> {
        match &self.config {
            AdapterConfig::Peft(config) => config.base_model.as_deref(),
            AdapterConfig::Mlx(config) => config.base_model.as_deref(),
        }
    }

    /// Every scale in use with its reason, e.g. `alpha 16 / rank 8 = 2`.
    pub fn scale_reasons(&self) -> Vec<String> {
        let modules =
            self.modules.values().map(|module| (module.scaling_rule, module.alpha, module.rank, module.scale));
        let embeddings =
            self.embeddings.values().map(|module| (module.scaling_rule, module.alpha, module.rank, module.scale));
        let mut reasons: Vec<String> = modules
            .chain(embeddings)
            .map(|(rule, alpha, rank, scale)| match rule {
                ScalingRule::AlphaOverRank => format!("alpha {alpha} / rank {rank} = {scale}"),
                ScalingRule::AlphaOverRootRank => format!("alpha {alpha} / √rank {rank} = {scale} (rsLoRA)"),
                ScalingRule::Raw => format!("scale {scale}, as the MLX config has it"),
            })
            .collect();
        reasons.sort();
        reasons.dedup();
        reasons
    }

    /// Blocks with any change, ascending.
    pub fn layers_touched(&self) -> Vec<usize> {
        let paths = self.modules.keys().chain(self.biases.keys()).map(String::as_str);
        let mut layers: Vec<usize> = paths
            .chain(self.modules_to_save.keys().map(|name| module_of(name)))
            .filter_map(|path| path.split('.').find_map(|segment| segment.parse().ok()))
            .collect();
        layers.sort_unstable();
        layers.dedup();
        layers
    }
}

fn inspect(module: &LowRank) -> ModuleInspection {
    let matrix = module.factored();
    let is_wide = module.rank > WHOLE_SPECTRUM;
    let mut singular_values = if is_wide { Vec::new() } else { matrix.singular_values() };
    let norm_of_change = if is_wide {
        matrix.norm_of_products()
    } else {
        singular_values.iter().map(|value| value * value).sum::<f64>().sqrt()
    };
    singular_values.truncate(SINGULAR_VALUES);
    ModuleInspection {
        shape: [module.outputs, module.inputs],
        rank: module.rank,
        scale: module.scale,
        scaling_rule: module.scaling_rule,
        norm: norm_of_change,
        singular_values,
        zero: low_rank_is_zero(module),
        magnitude: module.magnitude.as_deref().map(spread),
        bias_norm: module.lora_b_bias.as_deref().map(|bias| module.scale.abs() * norm(bias)),
    }
}

/// Smallest, mean, largest.
fn spread(values: &[f32]) -> [f64; 3] {
    let wide = || values.iter().map(|&value| f64::from(value));
    let smallest = wide().fold(f64::INFINITY, f64::min);
    let largest = wide().fold(f64::NEG_INFINITY, f64::max);
    [smallest, wide().sum::<f64>() / values.len() as f64, largest]
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// ‖tensor‖_F, read a block at a time.
fn norm_of(weight: &Weight) -> f64 {
    const BLOCK: usize = 1 << 14;
    let mut values = vec![0.0; BLOCK.min(weight.len())];
    let mut square = 0.0;
    for start in (0..weight.len()).step_by(BLOCK) {
        let end = (start + BLOCK).min(weight.len());
        let Some(block) = values.get_mut(..end - start) else { break };
        weight.widen(start..end, block);
        square += norm(block).powi(2);
    }
    square.sqrt()
}
