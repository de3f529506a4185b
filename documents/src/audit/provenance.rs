//! What made a report: the program, digests of everything that it rests on, what was asked, and the text that both
//! models read.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Depth;

/// The program that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `lcr-audit`.
    pub name: String,
    /// Version of the program.
    pub version: String,
}

/// What a report rests on, by SHA-256 in hexadecimal. Folders are digested over the lines `<sha256>  <name>` of their
/// files, sorted by name, as `sha256sum` writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The program's own file.
    pub tool: Option<String>,
    /// The base's weights and config.json.
    pub base: Option<String>,
    /// The base's tokenizer files.
    pub tokenizer: Option<String>,
    /// The base's files that hold a chat template.
    pub template: Option<String>,
    /// All files of the adapter's folder.
    pub adapter: Option<String>,
    /// The token ids that both models read, as JSON without blanks.
    pub probes: String,
    /// The text of the policy that gave the verdict; `None` where the built-in rules did.
    pub policy: Option<String>,
    /// Day that the expiry of the policy's waivers was held against, YYYY-MM-DD; `None` where it has none.
    #[serde(default)]
    pub date: Option<String>,
}

/// What was asked of the models beside the probes' source: with it the comparison can be run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// Metrics by name, sorted.
    pub metrics: Vec<String>,
    /// Prompts that are read at most.
    pub max_prompts: Option<usize>,
    /// Tokens of a prompt that are read at most.
    pub max_tokens: usize,
    /// Whether the probes are token ids.
    pub tokens: bool,
    /// Whether the tokenizer's chat template is left out.
    pub raw: bool,
    /// Whether sinks are kept.
    pub keep_sinks: bool,
    /// Dimensions of the subspaces that are compared.
    pub subspace_dimensions: usize,
    /// Tokens that are followed through the layers.
    pub tracked: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// How much is asked.
    #[serde(default = "quick")]
    pub depth: Depth,
    /// Texts that are tried as triggers, at depth `deep`.
    #[serde(default)]
    pub sweep_budget: usize,
    /// Files in the place of built-in probe sets, by name of the set: the user's, or those that the base brings along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetPin>,
    /// Other adapters that it is used together with.
    #[serde(default)]
    pub stack: Vec<Stacked>,
    /// Known-good adapters that it is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfilePin>,
}

/// Prompts in the place of a built-in probe set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetPin {
    /// Name of the set.
    pub name: String,
    /// The file with its prompts; within the base's folder where the base brings it along.
    pub path: String,
    /// Whether it is a file of the base's folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_base: bool,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// A profile of known-good adapters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfilePin {
    /// Its file.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// Another adapter that is used together with the one that is audited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stacked {
    /// Its folder.
    pub path: String,
    /// How strong it is: 1 is as it was trained.
    pub weight: f64,
    /// SHA-256 of its tensor file.
    pub sha256: String,
}

/// What reports asked that do not say.
fn quick() -> Depth {
    Depth::Quick
}

/// Facts about the text that both models read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Probes {
    /// Built-in set's name, or the file.
    pub source: String,
    /// Prompts.
    pub prompts: usize,
    /// Tokens in all of them.
    pub tokens: usize,
    /// Whether the tokenizer's chat template was applied.
    pub chat_template: bool,
    /// Positions left out of every metric because they open a sequence.
    pub first_positions: usize,
    /// Positions left out because their norm exceeds ten times the median, by site; sites without any are not listed.
    pub sinks: IndexMap<String, usize>,
    /// Whether sinks were kept after all (`--keep-sinks`).
    pub keep_sinks: bool,
    /// Seed of every random choice.
    pub seed: u64,
}
