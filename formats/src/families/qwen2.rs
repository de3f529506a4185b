//! Qwen2: a Llama with biases on query, key and value, and windows in the upper layers where they are switched on.

use crate::config::{Family, Layout, Rotary, Windowing};

/// Qwen2, Qwen2.5.
pub(super) static QWEN2: Family = Family {
    model_type: "qwen2",
    models: "Qwen2, Qwen2.5",
    layout: Layout::LLAMA,
    read: |keys| ROTARY.read(&QWEN2, keys),
};

/// What Qwen3 shares.
pub(super) const ROTARY: Rotary = Rotary {
    qkv_bias: true,
    windowing: Windowing {
        opt_in: true,
        is_sliding: |keys, layer| keys.enabled && layer >= keys.first_windowed,
        ..Windowing::NONE
    },
    ..Rotary::LLAMA
};
