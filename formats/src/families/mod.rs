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

use std::path::Path;

use serde_json::Value;

use crate::config::{Config, ConfigError, Family, Keys};

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

/// The family of a `model_type`.
pub fn find(model_type: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|family| family.model_type == model_type)
}

/// Every `model_type`, as a message lists them.
fn names() -> String {
    FAMILIES.map(|family| family.model_type).join(", ")
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn open(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        Self::parse(&path, &text)
    }

    /// Reads the text of a config.json; `path` is for error messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ConfigError> {
        let json = |reason: String| ConfigError::Json { path: path.to_path_buf(), reason };
        let value: Value = serde_json::from_slice(text).map_err(|error| json(error.to_string()))?;
        let Value::Object(keys) = value else { return Err(json("another JSON value stands there".to_owned())) };
        let mut keys = Keys { path, keys };
        let model_type = keys.string("model_type")?.unwrap_or_default();
        let Some(family) = find(&model_type) else {
            return Err(ConfigError::Family { path: path.to_path_buf(), model_type, supported: names() });
        };
        let config = (family.read)(&mut keys)?;
        keys.refuse_leftovers()?;
        Ok(config)
    }
}
