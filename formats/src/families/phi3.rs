//! Phi-3: a Llama with query, key and value in one product, gate and up in another, and windows in every layer where
//! the file names one.

use crate::config::{Family, FeedForwardNames, Layout, ProjectionNames, Rotary, Windowing};

/// Phi-3.
pub(super) static PHI3: Family = Family {
    model_type: "phi3",
    models: "Phi-3",
    layout: Layout {
        projections: ProjectionNames::Fused("self_attn.qkv_proj"),
        feed_forward: FeedForwardNames::GatedFused { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" },
        ..Layout::LLAMA
    },
    read: |keys| ROTARY.read(&PHI3, keys),
};

const ROTARY: Rotary = Rotary { windowing: Windowing { is_sliding: |_, _| true, ..Windowing::NONE }, ..Rotary::LLAMA };
