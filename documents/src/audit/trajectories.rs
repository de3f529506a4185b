//! The ways of single tokens through the layers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Paths of the tracked tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Trajectories {
    /// Mean over tracked tokens of the Jensen–Shannon divergence (nats) between both lenses, by site `resid.0` …
    /// `resid.L`.
    pub js: Vec<f64>,
    /// Share of tracked tokens whose lens says the same top token in both, by site.
    pub top1_agreement: Vec<f64>,
    /// Mean commit layer: the first site from which the lens's top token never changes again.
    pub commit_layer: PairOf,
    /// Mean of net/length.
    pub straightness: PairOf,
    /// The tracked tokens.
    pub tracked: Vec<Track>,
}

/// The same mean for both models.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PairOf {
    /// Of the base.
    pub base: f64,
    /// Of the adapted model.
    pub adapted: f64,
}

/// One token's way through the layers in both models.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Track {
    /// Index of the prompt.
    pub prompt: usize,
    /// Index of the token in the prompt.
    pub position: usize,
    /// The token's text (or `#id`).
    pub text: String,
    /// Jensen–Shannon divergence (nats) between both lenses, by site `resid.0` … `resid.L`.
    pub js: Vec<f64>,
    /// The base's path.
    pub base: Path,
    /// The adapted model's path.
    pub adapted: Path,
}

/// One token's way through the layers of one model. Every list runs over `resid.0` … `resid.L`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Path {
    /// First layer from which the lens's top token never changes again.
    pub commit_layer: usize,
    /// The lens's top token, as text.
    pub top: Vec<String>,
    /// Rank (0 = first) of the model's final top token, by site.
    pub rank_of_final: Vec<usize>,
    /// Σ‖h_{l+1} − h_l‖.
    pub length: f64,
    /// ‖h_L − h_0‖.
    pub net: f64,
    /// net/length; `null` for a stream that stands still.
    pub straightness: Option<f64>,
    /// The stream on the two leading principal axes of all tracked tokens of both models, each state scaled to unit
    /// norm.
    pub plane: Vec<[f64; 2]>,
}
