//! Gemma 2: norms before and after attention and MLP, windows in every other layer, capped scores and logits.

use crate::config::{Activation, Config, ConfigError, Family, Keys, Layout, Rotary, Windowing};

/// Gemma 2.
pub(super) static GEMMA2: Family = Family { model_type: "gemma2", models: "Gemma 2", layout: Layout::SANDWICHED, read };

/// What Gemma 3 shares.
pub(super) const ROTARY: Rotary = Rotary {
    norm_offset: 1.0,
    activation: Activation::GeluTanh,
    head_dim: Some(256),
    tied_head: true,
    windowing: Windowing { fallback: Some(4096), is_sliding: |_, layer| layer.is_multiple_of(2), ..Windowing::NONE },
    ..Rotary::LLAMA
};

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    scaled(ROTARY.read(&GEMMA2, keys)?, keys)
}

/// The keys that Gemma 2 and 3 have beside a Llama's: scale of the scores, caps; and the scale of their embeddings.
pub(super) fn scaled(config: Config, keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    Ok(Config {
        attention_scale: keys.number("query_pre_attn_scalar", 256.0)?.powf(-0.5) as f32,
        attention_softcap: keys.optional_number("attn_logit_softcapping")?.map(|cap| cap as f32),
        final_softcap: keys.optional_number("final_logit_softcapping")?.map(|cap| cap as f32),
        embedding_scale: (config.width as f32).sqrt(),
        ..config
    })
}
