//! GPT-2: LayerNorm, learned positions, biases everywhere, a plain MLP, and linears stored as inputs × outputs.

use crate::config::{
    Activation, Config, ConfigError, Family, FeedForwardNames, Keys, LayerKind, Layout, Norm, ProjectionNames,
};

/// GPT-2.
pub(super) static GPT2: Family = Family { model_type: "gpt2", models: "GPT-2", layout: LAYOUT, read };

const LAYOUT: Layout = Layout {
    body: "transformer",
    embedding: "wte",
    positions: Some("wpe"),
    layers: "h",
    final_norm: "ln_f",
    input_norm: "ln_1",
    projections: ProjectionNames::Fused("attn.c_attn"),
    head_norms: None,
    output: "attn.c_proj",
    post_attention_norm: None,
    feed_forward_norm: "ln_2",
    feed_forward: FeedForwardNames::Plain { up: "mlp.c_fc", down: "mlp.c_proj" },
    post_feed_forward_norm: None,
    transposed: true,
};

fn read(keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
    let width = keys.size("n_embd")?;
    let heads = keys.size("n_head")?;
    let head_dim = keys.divided("n_embd", width, heads)?;
    let layers = keys.layers("n_layer")?;
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        keys.must_be_off(key)?;
    }
    let scaled = keys.flag("scale_attn_weights", true)?;
    Ok(Config {
        family: &GPT2,
        vocab_size: keys.size("vocab_size")?,
        width,
        intermediate: keys.optional_size("n_inner")?.unwrap_or(4 * width),
        heads,
        kv_heads: heads,
        head_dim,
        max_positions: keys.size("n_positions")?,
        norm: Norm::Layer { eps: keys.number("layer_norm_epsilon", 1e-5)? as f32 },
        activation: keys.activation(&["activation_function"], Activation::GeluTanh)?,
        attention_scale: if scaled { (head_dim as f32).powf(-0.5) } else { 1.0 },
        attention_softcap: None,
        final_softcap: None,
        embedding_scale: 1.0,
        tied_head: keys.flag("tie_word_embeddings", true)?,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        layers: vec![LayerKind { window: None, rope: None }; layers],
        eos: keys.tokens("eos_token_id"),
    })
}
