//! What an adapter makes of the weights, without a forward pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one module's weight W became: W' = W + ΔW, DoRA's rescaling included.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WeightChange {
    /// Rows (outputs) and columns (inputs) of W.
    pub shape: [usize; 2],
    /// `lora`, `dora`, or `whole` where the adapter carries the tensor itself.
    pub kind: String,
    /// ‖ΔW‖_F/‖W‖_F; `null` where W is zero.
    pub relative_norm: Option<f64>,
    /// σ₁(ΔW)/σ₁(W); `null` where W is zero.
    pub spectral_ratio: Option<f64>,
    /// Cosine of W and W' flattened: the "weight cosine" that says 1.0000.
    pub cosine: f64,
    /// 1 − `cosine`, computed without the cancellation.
    pub one_minus_cosine: f64,
    /// Singular values of ΔW above 10⁻⁶ σ₁.
    pub rank: usize,
    /// Σσ²/σ₁² of ΔW.
    pub stable_rank: Option<f64>,
    /// exp H(σ/Σσ) of ΔW.
    pub rankme: Option<f64>,
    /// exp H(σ²/Σσ²) of ΔW.
    pub effective_rank: Option<f64>,
    /// σ₁²/Σσ² of ΔW.
    pub top1_share: Option<f64>,
    /// Pearson kurtosis of ΔW's entries (3 for a normal distribution).
    pub kurtosis: Option<f64>,
    /// Share of ‖ΔW‖² in its eight heaviest rows.
    pub row_top8_share: Option<f64>,
    /// Angle between the rows of W and of W', degrees.
    pub row_rotation_deg: RowRotation,
    /// ‖w'‖/‖w‖ − 1 over rows.
    pub row_norm_change: RowNormChange,
    /// Of a bias or a norm's weights: the largest change of one entry over the typical size of what it joins, ‖W‖_F/√n
    /// of its module's weight W with n outputs, which of a norm is the vector itself; `null` of matrices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_change: Option<f64>,
    /// ‖U₁₀(W)ᵀ U(ΔW)‖_F²/rank: does the change write where W already writes?
    pub output_overlap: Option<f64>,
    /// Of the ten leading left singular vectors of W', how many have |cos| < 0.5 with every one of W's.
    pub intruder_dimensions: Option<usize>,
    /// √(2 ln n/d): the largest |cos| that n random directions of d dimensions reach.
    pub intruder_chance_cosine: f64,
    /// What is left of the change after a merge into the base's bf16.
    pub merge_survival: MergeSurvival,
    /// Largest singular values of ΔW, descending, at most 64.
    pub singular_values: Vec<f64>,
}

/// Angles between corresponding rows, degrees.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RowRotation {
    /// Mean over rows.
    pub mean: f64,
    /// Largest of any row.
    pub max: f64,
}

/// Relative changes of row norms.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RowNormChange {
    /// Mean of |‖w'‖/‖w‖ − 1|.
    pub mean_abs: f64,
    /// Largest |‖w'‖/‖w‖ − 1|.
    pub max_abs: f64,
    /// Smallest ‖w'‖/‖w‖ − 1, with its sign: −1 is a row that is gone.
    pub min: f64,
}

/// bf16(W') − bf16(W) against ΔW: small adapters vanish when merged.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MergeSurvival {
    /// Cosine of bf16(W') − bf16(W) with ΔW; `null` where nothing changed.
    pub cosine: Option<f64>,
    /// Share of entries that change at all.
    pub changed_share: f64,
}

/// Whether the adapter's modules agree on one direction of the stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Coherence {
    /// Mean |cos| over pairs of modules of the leading left singular vectors of ΔW of the writers (o, down).
    pub write: Option<f64>,
    /// Mean |cos| over pairs of the leading right singular vectors of the readers (q, k, v, gate, up).
    pub read: Option<f64>,
    /// √(2/πd): what unrelated directions give.
    pub chance: f64,
}
