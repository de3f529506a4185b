//! Llama: RMSNorm, rotary embeddings, a gated MLP. Most families are this one with a few settings of their own.

use super::Family;
use crate::config::{Config, ConfigError, Keys, Rotary};

/// Llama 2 and 3, SmolLM2, TinyLlama.
pub(super) static LLAMA: Family =
    Family { model_type: "llama", models: "Llama 2 and 3, SmolLM2, TinyLlama", layout: ROTARY.layout, reader: read };

const ROTARY: Rotary = Rotary::LLAMA;

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    ROTARY.read(&LLAMA, keys)
}
