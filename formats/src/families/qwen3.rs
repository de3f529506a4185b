//! Qwen3: norms on the heads of queries and keys, and windows as Qwen2 has them.

use super::Family;
use crate::config::{Config, ConfigError, Keys, Layout, Rotary, Windowing};

/// Qwen3, dense.
pub(super) static QWEN3: Family =
    Family { model_type: "qwen3", models: "Qwen3, dense", layout: ROTARY.layout, reader: read };

const ROTARY: Rotary = Rotary {
    layout: Layout { head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..Layout::LLAMA },
    windowing: Windowing {
        opt_in: true,
        is_sliding: |keys, layer| keys.enabled && layer >= keys.first_windowed,
        ..Windowing::NONE
    },
    ..Rotary::LLAMA
};

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    ROTARY.read(&QWEN3, keys)
}
