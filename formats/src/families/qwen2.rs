//! Qwen2: a Llama with biases on query, key and value, and windows in the upper layers where they are switched on.

use super::Family;
use crate::config::{Config, ConfigError, Keys, Rotary, Windowing};

/// Qwen2, Qwen2.5.
pub(super) static QWEN2: Family =
    Family { model_type: "qwen2", models: "Qwen2, Qwen2.5", layout: ROTARY.layout, reader: read };

const ROTARY: Rotary = Rotary {
    qkv_bias: true,
    windowing: Windowing {
        opt_in: true,
        is_sliding: |keys, layer| keys.enabled && layer >= keys.first_windowed,
        ..Windowing::NONE
    },
    ..Rotary::LLAMA
};

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    ROTARY.read(&QWEN2, keys)
}
