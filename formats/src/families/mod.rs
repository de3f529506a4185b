//! Families of decoders, one file each: what a family's config.json means, and how its modules are called.
//!
//! To add one: a file here, a line in [`FAMILIES`], a golden case. What its layers compute otherwise belongs into the
//! decoder's layer parts, as a field of [`Config`] that says so; no code asks which family a model is of.

mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use crate::config::{Config, ConfigError, Keys, Layout};

/// A family of decoders.
#[derive(Debug)]
pub struct Family {
    /// `model_type` of config.json.
    pub model_type: &'static str,
    /// Models that people know.
    pub models: &'static str,
    /// How its modules are called.
    pub layout: Layout,
    reader: fn(&mut Keys<'_>) -> Result<Config, ConfigError>,
}

/// Every family that the decoder runs.
pub const FAMILIES: [&Family; 10] = [
    &llama::LLAMA,
    &mistral::MISTRAL,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
    &gemma::GEMMA,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &phi3::PHI3,
    &smollm3::SMOLLM3,
    &gpt2::GPT2,
];

impl Family {
    /// Reads a config of this family.
    pub(crate) fn read(&self, keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
        (self.reader)(keys)
    }
}

/// Families are told apart by what config.json calls them.
impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

/// The family of a `model_type`.
pub fn find(model_type: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|family| family.model_type == model_type)
}

/// Every `model_type`, as a message lists them.
pub fn names() -> String {
    FAMILIES.map(|family| family.model_type).join(", ")
}
