//! Llama: RMSNorm, rotary embeddings, a gated MLP. Most families are this one with a few settings of their own.

use crate::config::{Family, Layout, Rotary};

/// Llama 2 and 3, SmolLM2, TinyLlama.
pub(super) static LLAMA: Family = Family {
    model_type: "llama",
    models: "Llama 2 and 3, SmolLM2, TinyLlama",
    layout: Layout::LLAMA,
    read: |keys| ROTARY.read(&LLAMA, keys),
};

const ROTARY: Rotary = Rotary::LLAMA;
