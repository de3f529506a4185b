//! Gemma 3, text: Gemma 2 with norms on the heads, one layer in six that sees everything, and a rotary embedding of
//! their own for the others.

use super::gemma2;
use crate::config::{Config, ConfigError, Family, Keys, Layout, Rotary, Thetas, Windowing};

/// Gemma 3, text.
pub(super) static GEMMA3: Family = Family {
    model_type: "gemma3_text",
    models: "Gemma 3, text",
    layout: Layout { head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..Layout::SANDWICHED },
    read,
};

const ROTARY: Rotary = Rotary {
    thetas: Thetas { global: 1e6, local: Some(1e4) },
    windowing: Windowing {
        is_sliding: |keys, layer| !(layer + 1).is_multiple_of(keys.pattern.unwrap_or(6)),
        ..gemma2::ROTARY.windowing
    },
    ..gemma2::ROTARY
};

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    gemma2::scaled(ROTARY.read(&GEMMA3, keys)?, keys)
}
