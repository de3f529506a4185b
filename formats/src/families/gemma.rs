//! Gemma: a Llama with norms that store their gain minus one, embeddings scaled by √width, and GELU.

use serde_json::Value;

use crate::config::{Activation, Config, ConfigError, Family, Keys, Layout, Rotary};

/// Gemma.
pub(super) static GEMMA: Family =
    Family { model_type: "gemma", models: "Gemma 1, CodeGemma", layout: Layout::LLAMA, read };

const ROTARY: Rotary = Rotary {
    norm_offset: 1.0,
    activation: Activation::GeluTanh,
    head_dim: Some(256),
    tied_head: true,
    ..Rotary::LLAMA
};

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    // The first configs said `gelu` and meant the approximation, which every version of transformers computes for them.
    // The later key names it, and is read by some versions only: whatever else it says is not one model.
    if let Some(activation) = keys.string("hidden_activation")?
        && activation != "gelu_pytorch_tanh"
    {
        return Err(keys.unsupported("hidden_activation", &Value::String(activation)));
    }
    let config = ROTARY.read(&GEMMA, keys)?;
    let activation = if config.activation == Activation::GeluErf { Activation::GeluTanh } else { config.activation };
    Ok(Config { activation, embedding_scale: (config.width as f32).sqrt(), ..config })
}
