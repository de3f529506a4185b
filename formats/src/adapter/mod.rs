//! Adapters as their files say they are: LoRA and DoRA in the layouts of PEFT and of MLX, read strictly.
//!
//! An adapter W' = W + s·BA (LoRA), or W' = m ⊙ (W + s·BA)/‖W + s·BA‖_row (DoRA), is a handful of small tensors and a
//! config that says how they are scaled and where they go. The one idea here: every tensor of the file is understood
//! and given a place, or the whole adapter is refused with an error that names it; libraries drop what they cannot
//! place without a word, and then what was audited is not what was published. [`Adapter::open`] reads the files alone;
//! [`Adapter::bind`] checks them against a base model, and refuses what the library that wrote them would ignore.
//!
//! Nothing here multiplies an adapter out: [`factored`](crate::factored) works on the factors.

mod bind;
mod config;
mod error;
mod fields;
mod files;
mod foreign;
mod heads;
mod inspect;
mod methods;
mod mlx;
mod notes;
mod parts;
mod patterns;
mod peft;
mod save;
mod stack;
mod targets;
mod vocabulary;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::Weight;
use crate::factored::FactoredMatrix;

pub use bind::{Coverage, Resized};
pub use config::{BiasMode, PeftConfig};
pub use error::AdapterError;
pub use heads::is_classification_head;
pub use inspect::{Inspection, ModuleInspection, WholeInspection};
pub use mlx::MlxConfig;
pub use notes::{Note, NoteKind};
pub use parts::{AdapterParts, Bounds, Part};
pub use stack::NotStackable;

/// Layout of an adapter's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Format {
    /// Hugging Face PEFT: `adapter_model.safetensors`, `lora_A` (rank × inputs).
    #[serde(rename = "PEFT")]
    Peft,
    /// mlx-lm: `adapters.safetensors`, `lora_a` (inputs × rank).
    #[serde(rename = "MLX")]
    Mlx,
}

impl Format {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peft => "PEFT",
            Self::Mlx => "MLX",
        }
    }
}

/// How the factor before BA was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalingRule {
    /// alpha/rank.
    AlphaOverRank,
    /// alpha/√rank (rsLoRA).
    AlphaOverRootRank,
    /// Written in the config as it is (MLX).
    Raw,
}

impl ScalingRule {
    /// The factor s before BA.
    pub fn scale(self, alpha: f64, rank: usize) -> f64 {
        match self {
            Self::AlphaOverRank => alpha / rank as f64,
            Self::AlphaOverRootRank => alpha / (rank as f64).sqrt(),
            Self::Raw => alpha,
        }
    }
}

/// The change of one linear module: ΔW = s·BA, with DoRA's magnitude where there is one.
///
/// W is (outputs × inputs) whatever the base's own layout (GPT-2 stores the transpose).
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// Inner dimension of BA.
    pub rank: usize,
    /// Numerator of the scale; the scale itself where [`ScalingRule::Raw`] applies.
    pub alpha: f64,
    /// The factor s before BA.
    pub scale: f64,
    /// Where s comes from.
    pub scaling_rule: ScalingRule,
    /// A, (rank × inputs), row-major.
    pub lora_a: Vec<f32>,
    /// B, (outputs × rank), row-major.
    pub lora_b: Vec<f32>,
    /// Columns of W.
    pub inputs: usize,
    /// Rows of W.
    pub outputs: usize,
    /// DoRA's m, (outputs): the norms that the rows of W + s·BA are set to.
    pub magnitude: Option<Vec<f32>>,
    /// Bias of B, (outputs), scaled by s like BA.
    pub lora_b_bias: Option<Vec<f32>>,
    /// Tensors of the file that it was read from.
    pub tensor_names: Vec<String>,
}

impl LowRank {
    /// The change in its factors: rows are outputs.
    pub fn factored(&self) -> FactoredMatrix<'_> {
        FactoredMatrix {
            rows: self.outputs,
            columns: self.inputs,
            rank: self.rank,
            scale: self.scale,
            lora_b: Cow::Borrowed(&self.lora_b),
            lora_a: Cow::Borrowed(&self.lora_a),
        }
    }
}

/// The change of an embedding table E, (rows × width): ΔE = s·(BA)ᵀ.
///
/// It changes what a token looks up and nothing else: an output head tied to the table keeps the base's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingLowRank {
    /// Inner dimension of BA.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// The factor s before BA.
    pub scale: f64,
    /// Where s comes from.
    pub scaling_rule: ScalingRule,
    /// A, (rank × rows), row-major: column t belongs to token t.
    pub lora_a: Vec<f32>,
    /// B, (width × rank), row-major.
    pub lora_b: Vec<f32>,
    /// Tokens in the table.
    pub rows: usize,
    /// Length of an embedding.
    pub width: usize,
    /// Tensors of the file that it was read from.
    pub tensor_names: Vec<String>,
}

impl EmbeddingLowRank {
    /// The change in its factors, ΔE = s·AᵀBᵀ: rows are tokens.
    pub fn factored(&self) -> FactoredMatrix<'_> {
        FactoredMatrix {
            rows: self.rows,
            columns: self.width,
            rank: self.rank,
            scale: self.scale,
            lora_b: Cow::Owned(transposed(&self.lora_a, self.rank, self.rows)),
            lora_a: Cow::Owned(transposed(&self.lora_b, self.width, self.rank)),
        }
    }

    /// The transposed change s·BA, (width × tokens), as if it were a linear module's: the same spectrum and norm.
    pub fn as_low_rank(&self) -> LowRank {
        LowRank {
            rank: self.rank,
            alpha: self.alpha,
            scale: self.scale,
            scaling_rule: self.scaling_rule,
            lora_a: self.lora_a.clone(),
            lora_b: self.lora_b.clone(),
            inputs: self.rows,
            outputs: self.width,
            magnitude: None,
            lora_b_bias: None,
            tensor_names: self.tensor_names.clone(),
        }
    }
}

/// Where a whole tensor comes from, which decides what else it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A module saved whole. It stands for itself alone: a head tied to a saved embedding keeps the base's weights.
    ModuleToSave,
    /// `base_layer` of an adapted module. PEFT loads it *into* the base: a tensor tied to it changes as well, and the
    /// module's low-rank change comes on top.
    BaseLayer,
}

/// A tensor that replaces the base's tensor of that name.
#[derive(Debug, Clone)]
pub struct ReplacedWeight {
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// Its elements, in the adapter's file; all of them are finite.
    pub weight: Weight,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether the config announces it (`modules_to_save`, or an adapted embedding). PEFT loads it in any case.
    pub declared: bool,
    /// Name in the file.
    pub tensor_name: String,
}

/// The config beside the tensors.
#[derive(Debug, Clone)]
pub enum AdapterConfig {
    /// `adapter_config.json` of PEFT.
    Peft(Box<PeftConfig>),
    /// `adapter_config.json` of mlx-lm.
    Mlx(Box<MlxConfig>),
}

/// What a module of the base is, as far as targeting is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// A linear layer with weights (outputs × inputs).
    Linear,
    /// GPT-2's linear layer, weights stored (inputs × outputs).
    Conv1d,
    /// An embedding table (inputs = tokens, outputs = width).
    Embedding,
    /// A norm (inputs = outputs = width).
    Norm,
    /// The output head, tied or not (inputs = width, outputs = tokens).
    Head,
}

/// A module of the base that an adapter may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModule {
    /// Its path in the Hugging Face class with the head, e.g. `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Inputs of the function that it computes.
    pub inputs: usize,
    /// Outputs of the function that it computes.
    pub outputs: usize,
    /// What it is.
    pub kind: ModuleKind,
}

/// An adapter, read and consistent in itself; [`Adapter::bind`] checks it against a base.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The tensor file; empty for an adapter that is being trained and is in no file.
    pub path: PathBuf,
    /// Layout of the files.
    pub format: Format,
    /// Tensors in the file, or those that it will have.
    pub tensors_in_file: usize,
    /// Bytes of the file; 0 where there is none.
    pub bytes: u64,
    /// Elements of all tensors.
    pub parameters: u64,
    /// SHA-256 of the very bytes that the tensors were read from, hexadecimal; empty where there is no file.
    pub sha256: String,
    /// SHA-256 of the bytes that the config was parsed from; empty where there is no file.
    pub config_sha256: String,
    /// Low-rank changes by the module's path in the base, e.g. `model.layers.0.self_attn.q_proj`. Shared with whoever
    /// runs them.
    pub modules: BTreeMap<String, Arc<LowRank>>,
    /// Low-rank changes of embedding tables by the module's path.
    pub embeddings: BTreeMap<String, EmbeddingLowRank>,
    /// Tensors that replace the base's, by full tensor name, e.g. `lm_head.weight`; biases are in [`Adapter::biases`].
    pub modules_to_save: BTreeMap<String, ReplacedWeight>,
    /// Biases that replace the base's, by the module's path, wherever in the file they stood.
    pub biases: BTreeMap<String, Vec<f32>>,
    /// Names of the tensors behind [`Adapter::biases`].
    pub bias_tensors: BTreeMap<String, String>,
    /// The config.
    pub config: AdapterConfig,
    /// What a reader of the audit should know about the files.
    pub notes: Vec<Note>,
}

/// The refusal of the file at `path`, where it is an adapter, or looks like one, in a format that is not read here: it
/// names the format and the way out.
pub fn foreign_format(path: &Path) -> Option<AdapterError> {
    Some(foreign::Foreign::of_file(path)?.refusal(path))
}

impl LowRank {
    /// Elements of its tensors.
    pub fn parameters(&self) -> usize {
        let vectors = [&self.magnitude, &self.lora_b_bias].into_iter().flatten().map(Vec::len).sum::<usize>();
        self.lora_a.len() + self.lora_b.len() + vectors
    }
}

impl Adapter {
    /// An adapter that is in no file yet: one that is being trained, or was put together.
    pub fn unsaved(config: PeftConfig, modules: BTreeMap<String, Arc<LowRank>>) -> Self {
        Self {
            path: PathBuf::new(),
            format: Format::Peft,
            tensors_in_file: modules.values().map(|module| module.tensor_names.len()).sum(),
            bytes: 0,
            parameters: modules.values().map(|module| module.parameters() as u64).sum(),
            sha256: String::new(),
            config_sha256: String::new(),
            modules,
            embeddings: BTreeMap::new(),
            modules_to_save: BTreeMap::new(),
            biases: BTreeMap::new(),
            bias_tensors: BTreeMap::new(),
            config: AdapterConfig::Peft(Box::new(config)),
            notes: Vec::new(),
        }
    }

    /// Reads an adapter: its folder, or a `.safetensors` file with `adapter_config.json` beside it.
    pub fn open(path: &Path) -> Result<Self, AdapterError> {
        let found = files::locate(path)?;
        let adapter = match found.config {
            files::RawConfig::Peft(map) => {
                peft::open(&PeftConfig::from_json(&found.config_path, &map)?, &found.tensors, None)
            }
            files::RawConfig::Mlx(map) => mlx::open(&found.config_path, &map, &found.tensors, None),
        }?;
        // What is read into memory cannot change; of a larger file the factors were copied while it could.
        if adapter.bytes > files::MOST_HELD && files::digest(&adapter.path)?.0 != adapter.sha256 {
            let source = std::io::Error::other("it was written to meanwhile");
            return Err(AdapterError::Read { path: adapter.path, source });
        }
        Ok(Self { config_sha256: found.config_sha256, ..adapter })
    }

    /// Whether the bytes behind the adapter are still those of [`Adapter::sha256`]. Whatever is in memory is; tensors
    /// carried whole in a file too large for that are read from the file all the time, which somebody may have written
    /// to.
    pub fn is_as_opened(&self) -> bool {
        let mapped = self.modules_to_save.values().find(|whole| !whole.weight.is_held());
        mapped.is_none_or(|whole| whole.weight.file_sha256() == self.sha256)
    }

    /// `LoRA` or `DoRA`, with rsLoRA scaling named where it is used.
    pub fn method(&self) -> String {
        let decomposed = self.modules.values().any(|module| module.magnitude.is_some());
        let stabilised = self.scaling_rules().any(|rule| rule == ScalingRule::AlphaOverRootRank);
        let name = if decomposed { "DoRA" } else { "LoRA" };
        if stabilised { format!("{name} (rsLoRA scaling)") } else { name.to_owned() }
    }

    fn scaling_rules(&self) -> impl Iterator<Item = ScalingRule> {
        let embeddings = self.embeddings.values().map(|module| module.scaling_rule);
        self.modules.values().map(|module| module.scaling_rule).chain(embeddings)
    }

    /// Ranks found, ascending, without repetition.
    pub fn ranks(&self) -> Vec<usize> {
        let embeddings = self.embeddings.values().map(|module| module.rank);
        let mut ranks: Vec<usize> = self.modules.values().map(|module| module.rank).chain(embeddings).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    /// Scales used, ascending, without repetition.
    pub fn scales(&self) -> Vec<f64> {
        let embeddings = self.embeddings.values().map(|module| module.scale);
        let mut scales: Vec<f64> = self.modules.values().map(|module| module.scale).chain(embeddings).collect();
        scales.sort_unstable_by(f64::total_cmp);
        scales.dedup();
        scales
    }

    /// Last components of the changed modules' paths (`q_proj`, `v_proj`, …), sorted, without repetition.
    pub fn target_names(&self) -> Vec<String> {
        let whole = self.modules_to_save.keys().map(|name| module_of(name));
        let paths = self.modules.keys().chain(self.embeddings.keys()).chain(self.biases.keys());
        let mut names: Vec<String> = paths
            .map(String::as_str)
            .chain(whole)
            .map(|path| path.rsplit('.').next().unwrap_or(path).to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether the files alone prove that the adapter changes nothing.
    ///
    /// `false` where it carries magnitudes, whole tensors or biases: whether those differ from the base, only the base
    /// can tell. [`low_rank_is_zero`] then says which low-rank parts vanish.
    pub fn is_zero_effect(&self) -> bool {
        self.modules_to_save.is_empty()
            && self.biases.is_empty()
            && self.modules.values().all(|module| module.magnitude.is_none() && low_rank_is_zero(module))
            && self.embeddings.values().all(|module| product_is_zero(module.scale, &module.lora_a, &module.lora_b))
    }
}

/// Whether s·BA and the bias of B vanish, whatever the base; DoRA's magnitude is not looked at.
pub fn low_rank_is_zero(module: &LowRank) -> bool {
    let bias_vanishes = module.lora_b_bias.as_ref().is_none_or(|bias| module.scale == 0.0 || is_zero(bias));
    bias_vanishes && product_is_zero(module.scale, &module.lora_a, &module.lora_b)
}

fn product_is_zero(scale: f64, lora_a: &[f32], lora_b: &[f32]) -> bool {
    scale == 0.0 || is_zero(lora_a) || is_zero(lora_b)
}

fn is_zero(values: &[f32]) -> bool {
    values.iter().all(|&value| value == 0.0)
}

/// The module that a tensor belongs to: its name without the last component.
pub(crate) fn module_of(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or("", |(module, _)| module)
}

/// (rows × columns) as (columns × rows), both row-major.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values.get(row * columns + column).copied().unwrap_or(0.0)))
        .collect()
}
