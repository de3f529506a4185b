//! What the two models say next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Next-token distributions, over the positions compared.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenChange {
    /// Positions compared.
    pub positions: usize,
    /// KL(base‖adapted), nats.
    pub kl: KlSummary,
    /// Mean Jensen–Shannon divergence, nats.
    pub js_mean: f64,
    /// Share of positions whose most likely next token differs.
    pub top1_flip_rate: f64,
    /// Mean entropy, nats.
    pub entropy: Entropies,
    /// The positions with the largest KL, worst first.
    pub worst: Vec<WorstToken>,
}

/// KL(base‖adapted) over positions, nats.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KlSummary {
    /// Mean of KL(base‖adapted) over positions, nats.
    pub mean: f64,
    /// 95th percentile over positions.
    pub p95: f64,
    /// Largest of any position.
    pub max: f64,
}

/// Mean entropies, nats.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Entropies {
    /// Mean entropy of the base's next-token distributions, nats.
    pub base: f64,
    /// Of the adapted model's.
    pub adapted: f64,
}

/// A position where the two models disagree most about what comes next.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WorstToken {
    /// Index of the prompt.
    pub prompt: usize,
    /// Index of the token in the prompt.
    pub position: usize,
    /// KL(base‖adapted), nats.
    pub kl: f64,
    /// The text up to and including this token (its last 160 characters); token ids where there is no tokenizer.
    pub context: String,
    /// The base's most likely next tokens, most likely first.
    pub base_top: Vec<Prediction>,
    /// The adapted model's.
    pub adapted_top: Vec<Prediction>,
}

/// One next-token candidate.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// Token id.
    pub token: u32,
    /// Its text; `#id` where there is no tokenizer.
    pub text: String,
    /// Probability.
    pub probability: f64,
}
