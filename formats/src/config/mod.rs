//! `config.json`: which family a model is of, its shapes, and every setting that changes its mathematics.
//!
//! What a family makes of the keys is said in its file of [`families`]; here are the keys that several
//! share. A key that is neither used by the family nor known to be without effect on the forward pass is an error that
//! names it: a setting that is ignored in silence makes every later number wrong.

mod error;
mod keys;
mod layout;
mod rope;
mod rotary;
mod window;

use std::path::Path;

use serde_json::Value;

use crate::families::{self, Family};

pub use self::error::ConfigError;
pub(crate) use self::keys::Keys;
pub use self::layout::{FeedForwardNames, Layout, ProjectionNames};
pub(crate) use self::rope::Thetas;
pub use self::rope::{Rope, RopeScaling};
pub(crate) use self::rotary::Rotary;
pub(crate) use self::window::Windowing;

/// Normalisation of the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// x/√(mean x² + eps) · (gain + offset).
    Rms {
        /// Added to the mean square.
        eps: f32,
        /// Added to the stored gain.
        offset: f32,
    },
    /// (x − mean)/√(variance + eps) · gain + bias.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
}

/// Non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·sigmoid(x).
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
}

/// What distinguishes one layer of a model from another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerKind {
    /// A query sees this many latest tokens, itself included; all where `None`.
    pub window: Option<usize>,
    /// Rotary embedding, if the layer has one.
    pub rope: Option<Rope>,
}

/// Everything config.json says about the forward pass.
#[expect(clippy::struct_excessive_bools, reason = "config.json has that many switches")]
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Family.
    pub family: &'static Family,
    /// How its modules are called.
    pub layout: Layout,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the MLP.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence that positions exist for.
    pub max_positions: usize,
    /// Normalisation.
    pub norm: Norm,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// Factor on q·k.
    pub attention_scale: f32,
    /// Scores become cap·tanh(score/cap).
    pub attention_softcap: Option<f32>,
    /// Logits become cap·tanh(logit/cap).
    pub final_softcap: Option<f32>,
    /// Factor on the embeddings.
    pub embedding_scale: f32,
    /// Whether the output head is the embedding matrix.
    pub tied_head: bool,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have a bias.
    pub mlp_bias: bool,
    /// One entry per layer.
    pub layers: Vec<LayerKind>,
    /// End-of-sequence tokens.
    pub eos: Vec<u32>,
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn open(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        Self::parse(&path, &text)
    }

    /// Reads the text of a config.json; `path` is for error messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ConfigError> {
        let json = |reason: String| ConfigError::Json { path: path.to_path_buf(), reason };
        let value: Value = serde_json::from_slice(text).map_err(|error| json(error.to_string()))?;
        let Value::Object(keys) = value else { return Err(json("another JSON value stands there".to_owned())) };
        let mut keys = Keys { path, keys };
        let model_type = keys.string("model_type")?.unwrap_or_default();
        let Some(family) = families::find(&model_type) else {
            return Err(ConfigError::Family { path: path.to_path_buf(), model_type });
        };
        let config = family.read(&mut keys)?;
        keys.refuse_leftovers()?;
        Ok(config)
    }
}
