//! Mistral: a Llama whose layers all have a window, of 4096 tokens where the key is absent.

use crate::config::{Family, Layout, Rotary, Windowing};

/// Mistral 7B and its kin.
pub(super) static MISTRAL: Family = Family {
    model_type: "mistral",
    models: "Mistral 7B and its kin",
    layout: Layout::LLAMA,
    read: |keys| ROTARY.read(&MISTRAL, keys),
};

const ROTARY: Rotary =
    Rotary { windowing: Windowing { unsaid: Some(4096), is_sliding: |_, _| true, ..Windowing::NONE }, ..Rotary::LLAMA };
