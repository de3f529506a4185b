//! What families with rotary embeddings share: the keys of a Llama, and what a family says where they are absent.

use super::keys::Keys;
use super::rope::{self, Thetas};
use super::window::{self, Windowing};
use super::{Activation, Config, ConfigError, Family, LayerKind, Norm};

/// A family with rotary embeddings, as far as it differs from a Llama.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotary {
    /// Added to the stored gain of its norms.
    pub(crate) norm_offset: f32,
    /// Non-linearity where the file names none.
    pub(crate) activation: Activation,
    /// Width of a head where the file names none; the stream's shared out among the heads where `None`.
    pub(crate) head_dim: Option<usize>,
    /// Whether the head is the embedding matrix where the file does not say.
    pub(crate) tied_head: bool,
    /// Whether query, key and value have a bias whatever the file says.
    pub(crate) qkv_bias: bool,
    /// Bases of the frequencies.
    pub(crate) thetas: Thetas,
    /// Windows of attention.
    pub(crate) windowing: Windowing,
}

impl Rotary {
    /// A Llama.
    pub(crate) const LLAMA: Self = Self {
        norm_offset: 0.0,
        activation: Activation::Silu,
        head_dim: None,
        tied_head: false,
        qkv_bias: false,
        thetas: Thetas { global: 1e4, local: None },
        windowing: Windowing::NONE,
    };

    /// Reads the shared keys. What else a family has, it reads itself and writes into the result.
    pub(crate) fn read(&self, family: &'static Family, keys: &mut Keys<'_>) -> Result<Config, ConfigError> {
        let width = keys.size("hidden_size")?;
        let heads = keys.size("num_attention_heads")?;
        let kv_heads = keys.optional_size("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(keys.wrong("num_key_value_heads", format!("{kv_heads} does not divide {heads} query heads")));
        }
        let head_dim = match keys.optional_size("head_dim")?.or(self.head_dim) {
            Some(size) => size,
            None => keys.divided("hidden_size", width, heads)?,
        };
        for key in ["use_bidirectional_attention", "quantization_config"] {
            keys.must_be_off(key)?;
        }
        let attention_bias = keys.flag("attention_bias", false)?;
        let count = keys.layers("num_hidden_layers")?;
        let windows = window::read(keys, self.windowing, count)?;
        let (global, local) = rope::read(keys, self.thetas, head_dim)?;
        let rope = |window: &Option<usize>| Some(if window.is_some() { local } else { global });
        Ok(Config {
            family,
            vocab_size: keys.size("vocab_size")?,
            width,
            intermediate: keys.size("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            max_positions: keys.optional_size("max_position_embeddings")?.unwrap_or(usize::MAX),
            norm: Norm::Rms { eps: keys.number("rms_norm_eps", 1e-6)? as f32, offset: self.norm_offset },
            activation: keys.activation(&["hidden_act", "hidden_activation"], self.activation)?,
            attention_scale: (head_dim as f64).powf(-0.5) as f32,
            attention_softcap: None,
            final_softcap: None,
            embedding_scale: 1.0,
            tied_head: keys.flag("tie_word_embeddings", self.tied_head)?,
            qkv_bias: attention_bias || self.qkv_bias,
            output_bias: attention_bias,
            mlp_bias: keys.flag("mlp_bias", false)?,
            layers: windows.iter().map(|window| LayerKind { window: *window, rope: rope(window) }).collect(),
            eos: keys.tokens("eos_token_id"),
        })
    }
}
