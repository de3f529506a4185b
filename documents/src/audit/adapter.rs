//! Facts about the base and about the adapter: what they are, before anything is compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Facts about the base model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Base {
    /// Folder, as given on the command line.
    pub path: String,
    /// `model_type` of config.json.
    pub family: String,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Parameters in the checkpoint.
    pub parameters: u64,
    /// Bytes of the checkpoint's tensors.
    pub bytes: u64,
    /// How the weights are stored: `BF16`, `F16`, `F32`, or several joined by `+`. Both models compute in f32.
    pub storage_dtype: String,
}

/// Facts about the adapter.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AdapterFacts {
    /// Folder, as given on the command line.
    pub path: String,
    /// Last component of the path, to tell several adapters apart.
    pub name: String,
    /// The base that the adapter's config says it was trained on.
    #[serde(default)]
    pub base_model: Option<String>,
    /// `PEFT` or `MLX`.
    pub format: String,
    /// `LoRA`, `DoRA`, with `rsLoRA` scaling named where used.
    pub method: String,
    /// Ranks found, ascending, without repetition.
    pub ranks: Vec<usize>,
    /// Scales used (alpha/rank or alpha/√rank), ascending, without repetition.
    pub scales: Vec<f64>,
    /// Kinds of module changed: `q_proj`, `v_proj`, …
    pub targets: Vec<String>,
    /// Parameters in the adapter's file.
    pub parameters: u64,
    /// Bytes of the adapter's file.
    pub bytes: u64,
    /// SHA-256 of the adapter's tensor file, in hex.
    pub sha256: String,
    /// Whether the adapter leaves every weight as it was.
    pub zero_effect: bool,
    /// Every tensor accounted for.
    pub coverage: Coverage,
}

/// Every tensor of an adapter is applied or named.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Tensors in the file.
    pub tensors: usize,
    /// Tensors that took part in the forward pass.
    pub applied: usize,
    /// Names of the others. A run with any does not get as far as a report.
    pub unmatched: Vec<String>,
    /// Tensors of a classification head, which a language model does not have: they took no part, and are not among the
    /// others.
    #[serde(default)]
    pub set_aside: Vec<String>,
    /// Tables over the vocabulary of another size than the base's, compared over the rows that both have.
    #[serde(default)]
    pub vocabulary: Vec<ResizedTable>,
    /// Modules that the config targets and the file holds no tensor for: they stay as in the base.
    pub targeted_without_tensors: Vec<String>,
}

impl Coverage {
    /// Tensors that were neither applied nor set aside.
    pub fn uncovered(&self) -> usize {
        self.tensors.saturating_sub(self.applied + self.set_aside.len()).max(self.unmatched.len())
    }
}

/// An embedding or output head of another size than the base's.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ResizedTable {
    /// Tensor of the adapter.
    pub tensor: String,
    /// Rows in the base.
    pub base_rows: usize,
    /// Rows in the adapter.
    pub adapter_rows: usize,
}
