//! Qwen3: norms on the heads of queries and keys, and windows as Qwen2 has them.

use super::qwen2;
use crate::config::{Family, Layout, Rotary};

/// Qwen3, dense.
pub(super) static QWEN3: Family = Family {
    model_type: "qwen3",
    models: "Qwen3, dense",
    layout: Layout { head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..Layout::LLAMA },
    read: |keys| ROTARY.read(&QWEN3, keys),
};

const ROTARY: Rotary = Rotary { windowing: qwen2::ROTARY.windowing, ..Rotary::LLAMA };
