//! `config.json`: which family a model is of, its shapes, and every setting that changes its mathematics.
//!
//! What a family makes of the keys is said in its file of [`families`](crate::families); here are the keys that several
//! share. A key that is neither used by the family nor known to be without effect on the forward pass is an error that
//! names it: a setting that is ignored in silence makes every later number wrong.

mod error;
mod family;
mod keys;
mod layout;
mod rope;
mod rotary;
mod window;

pub use self::error::ConfigError;
pub use self::family::Family;
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
    /// Family, and with it how its modules are called.
    pub family: &'static Family,
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
