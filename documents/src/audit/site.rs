//! How far apart the activations of both models are at one site.
//!
//! What each number is, in formula, range and traps, stands with the metric that measures it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far apart the two models' activations are at one site. Rows are tokens, columns the width of the stream.
///
/// A metric that was not asked for is `None`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct SiteChange {
    /// Tokens compared.
    pub rows: usize,
    /// ‖Δ‖_F/‖X‖_F.
    pub relative_change: f64,
    /// Cosine of each token with itself in the other model.
    pub cosine: Cosines,
    /// Cosine of the flattened matrices: usually quoted, never judged on.
    pub cosine_flat: f64,
    /// Mean over tokens of the cosine after removing each model's mean.
    pub cosine_centered: f64,
    /// Linear CKA (Kornblith et al. 2019).
    pub cka: Option<f64>,
    /// Linear CKA with the unbiased HSIC estimator (Song et al. 2012).
    pub cka_debiased: Option<f64>,
    /// Orthogonal Procrustes.
    pub procrustes: Option<Procrustes>,
    /// Mean share of a token's ten cosine neighbours that it keeps.
    pub knn_overlap: Option<f64>,
    /// What `knn_overlap` would be for unrelated states: 10/(n − 1).
    pub knn_chance: Option<f64>,
    /// Leading right singular subspaces of both.
    pub subspace: Option<Subspace>,
    /// Spectra of both.
    pub spectrum: Option<SpectrumPair>,
    /// Δ itself.
    pub drift: Option<Shift>,
    /// Clusterings of both.
    pub clusters: Option<Clusters>,
    /// Stability of the dissimilarities of tokens; where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdm_stability: Option<RdmStability>,
    /// Attention patterns; at `attn_out` sites only.
    pub attention: Option<AttentionChange>,
}

/// Statistics over tokens of cos(x_t, y_t).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cosines {
    /// Mean over tokens of cos(x_t, y_t).
    pub mean: f64,
    /// Median over tokens.
    pub median: f64,
    /// Fifth percentile over tokens.
    pub p05: f64,
    /// Smallest of any token.
    pub min: f64,
    /// 1 − `mean`, computed without the cancellation.
    pub one_minus_mean: f64,
    /// Mean angle, degrees.
    pub mean_angle_deg: f64,
}

/// Orthogonal Procrustes of the centred, unit-norm matrices. In-sample, so never judged on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Procrustes {
    /// ‖A − B‖².
    pub raw_squared: f64,
    /// min over orthogonal R of ‖A − BR‖².
    pub residual_squared: f64,
    /// 1 − residual/raw; `null` where raw is zero.
    pub explained: Option<f64>,
}

/// Leading k right singular subspaces V, W of both centred matrices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Subspace {
    /// Dimensions compared.
    pub k: usize,
    /// ‖VᵀW‖_F²/k.
    pub overlap: f64,
    /// Largest principal angle, degrees.
    pub max_angle_deg: f64,
    /// s_k/s_{k+1} of the base: without a gap the overlap means nothing.
    pub base_gap: Option<f64>,
    /// s_k/s_{k+1} of the adapted model.
    pub adapted_gap: Option<f64>,
}

/// Spectra of both centred matrices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SpectrumPair {
    /// Of the base.
    pub base: Spectrum,
    /// Of the adapted model.
    pub adapted: Spectrum,
    /// Jensen–Shannon divergence (nats) between the two λ/Σλ, sorted.
    pub js: f64,
}

/// Functions of the singular values s, and of λ = s².
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Spectrum {
    /// exp H(s/Σs) (Garrido et al. 2023).
    pub rankme: Option<f64>,
    /// exp H(λ/Σλ), the entropy rank of the variances.
    pub effective_rank: Option<f64>,
    /// (Σλ)²/Σλ².
    pub participation_ratio: Option<f64>,
    /// Σλ/λ₁.
    pub stable_rank: Option<f64>,
    /// −slope of ln λ_i on ln i, i = 11 … min(100, rank) (Agrawal et al. 2022); `null` under five points.
    pub alpha_req: Option<f64>,
    /// Largest singular values, descending, at most 64.
    pub singular_values: Vec<f64>,
}

/// Size and direction of Δ.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Shift {
    /// mean‖Δ_t‖/mean‖x_t‖.
    pub size: f64,
    /// ‖mean Δ_t‖/mean‖Δ_t‖; `null` where nothing moved.
    pub coherence: Option<f64>,
    /// 1/√n: the coherence of unrelated directions.
    pub coherence_chance: f64,
    /// σ₁²/Σσ² of uncentred Δ; `null` where nothing moved.
    pub pc1_share: Option<f64>,
}

/// k-means on both, same seeds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Clusters {
    /// Clusters asked for.
    pub k: usize,
    /// Adjusted Rand index of the two labelings.
    pub ari: f64,
    /// Normalised mutual information (arithmetic mean) of the two labelings.
    pub nmi: f64,
    /// Adjusted Rand index of two bootstraps of the base: the agreement that chance in k-means allows.
    pub ceiling: f64,
}

/// Split-half stability of both models' representational dissimilarity matrices.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RdmStability {
    /// Mean rank correlation of the base's dissimilarities between random halves of the dimensions.
    pub base: Option<f64>,
    /// The same of the adapted model.
    pub adapted: Option<f64>,
    /// `adapted` − `base`.
    pub difference: Option<f64>,
}

/// Jensen–Shannon divergence (nats) between the two models' attention rows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AttentionChange {
    /// See the type.
    pub js: AttentionJs,
}

/// Attention divergences by head.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AttentionJs {
    /// Mean over heads and rows.
    pub mean: f64,
    /// Largest of any row of any head.
    pub max: f64,
    /// Mean over rows, by head.
    pub head: Vec<f64>,
}
