//! The kinds of tensor that an adapter may carry, and what judges each without a base.

use lcr_formats::adapter::is_classification_head;

use crate::check::Check;

/// Rows from which `score` is a head over tokens and no classifier's: no classifier of texts has so many labels.
const TOKENS: usize = 4096;

/// A kind of tensor. A kind is judged by [`TensorKind::judged_by`] in a scan, and a test holds each against an
/// exaggerated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TensorKind {
    /// `lora_A` and `lora_B` of a linear module, `lora_a` and `lora_b` of MLX.
    LowRank,
    /// `lora_embedding_A` and `_B`.
    EmbeddingLowRank,
    /// DoRA's `lora_magnitude_vector`, `m` of MLX.
    Magnitude,
    /// `lora_B.bias`, which `lora_bias` announces.
    LowRankBias,
    /// A bias of the base, replaced (`bias`: `all` or `lora_only`).
    Bias,
    /// An output head, replaced.
    Head,
    /// A table of embeddings, replaced.
    Embedding,
    /// A norm's weights, replaced.
    Norm,
    /// A router of experts, replaced.
    Router,
    /// A classifier's head, replaced.
    Classifier,
    /// Any other weight, replaced.
    Other,
    /// What is none of these: another dtype, or a name that the layout does not have.
    Unknown,
}

impl TensorKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::LowRank,
        Self::EmbeddingLowRank,
        Self::Magnitude,
        Self::LowRankBias,
        Self::Bias,
        Self::Head,
        Self::Embedding,
        Self::Norm,
        Self::Router,
        Self::Classifier,
        Self::Other,
        Self::Unknown,
    ];

    /// The kind of a tensor that replaces the base's, by its name there.
    pub fn of(tensor: &str) -> Self {
        match tensor.rsplit_once('.') {
            Some((_, "bias")) => Self::Bias,
            Some((module, _)) => Self::of_module(module),
            None => Self::of_module(tensor),
        }
    }

    /// The kind of a module whose weight is replaced, by its path.
    fn of_module(path: &str) -> Self {
        if is_classification_head(path) {
            return Self::Classifier;
        }
        let last = path.rsplit('.').next().unwrap_or(path);
        match last {
            "lm_head" | "embed_out" => Self::Head,
            "embed_tokens" | "wte" | "wpe" | "word_embeddings" | "tok_embeddings" | "embed_in" | "shared" => {
                Self::Embedding
            }
            "gate" | "router" | "switch" => Self::Router,
            _ if last.contains("norm") || last.starts_with("ln_") => Self::Norm,
            _ => Self::Other,
        }
    }

    /// The kind of a changed module with so many outputs.
    pub(super) fn of_changed(path: &str, rows: usize) -> Self {
        match Self::of_module(path) {
            Self::Classifier if rows >= TOKENS => Self::Head,
            kind => kind,
        }
    }

    /// Whether its rows are tokens.
    pub(crate) fn has_token_rows(self) -> bool {
        matches!(self, Self::Head | Self::Embedding)
    }

    /// What it is called in a text.
    pub fn name(self) -> &'static str {
        match self {
            Self::LowRank => "factors of a module (`lora_A`, `lora_B`)",
            Self::EmbeddingLowRank => "factors of an embedding (`lora_embedding_A`, `_B`)",
            Self::Magnitude => "DoRA's magnitudes",
            Self::LowRankBias => "bias of B (`lora_bias`)",
            Self::Bias => "a bias of the base (`bias`: `all`, `lora_only`)",
            Self::Head => "an output head, whole",
            Self::Embedding => "a table of embeddings, whole",
            Self::Norm => "a norm's weights, whole",
            Self::Router => "a router of experts, whole",
            Self::Classifier => "a classifier's head, whole",
            Self::Other => "any other weight, whole",
            Self::Unknown => "anything else: another dtype, a name that the layout does not have",
        }
    }

    /// The checks of a scan that look into it.
    pub fn judged_by(self) -> &'static [Check] {
        use Check::{
            BiasChange, BiasOutlier, ChangeSize, ClassificationHead, CoherentReads, CoherentWrites, ConcentratedModule,
            ConfigMismatch, DeadRows, EmbeddingChange, FlippedRows, MagnitudeOutlier, NormOutlier, Overflow,
            RouterChange, TensorSize, UnanalysedTensor, UntrainedTensor, WholeOutlier, WholeTensor, ZeroEffect,
        };
        match self {
            Self::LowRank => &[
                ChangeSize,
                Overflow,
                ZeroEffect,
                ConcentratedModule,
                NormOutlier,
                CoherentWrites,
                CoherentReads,
                EmbeddingChange,
                RouterChange,
            ],
            Self::EmbeddingLowRank => &[ChangeSize, Overflow, ZeroEffect, EmbeddingChange],
            Self::Magnitude => &[DeadRows, FlippedRows, MagnitudeOutlier, TensorSize, Overflow],
            Self::LowRankBias => &[BiasOutlier, Overflow],
            Self::Bias => &[BiasChange, TensorSize, Overflow],
            Self::Head | Self::Embedding => {
                &[WholeTensor, EmbeddingChange, UntrainedTensor, TensorSize, WholeOutlier, Overflow]
            }
            Self::Norm | Self::Other => &[WholeTensor, TensorSize, WholeOutlier, Overflow],
            Self::Classifier => &[ClassificationHead, TensorSize, WholeOutlier, Overflow],
            Self::Router => &[WholeTensor, RouterChange, TensorSize, WholeOutlier, Overflow],
            Self::Unknown => &[UnanalysedTensor, ConfigMismatch],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TensorKind;

    #[test]
    fn whole_tensors_are_known_by_the_name_of_their_module() {
        let kinds = [
            ("lm_head.weight", TensorKind::Head),
            ("model.embed_tokens.weight", TensorKind::Embedding),
            ("transformer.wte.weight", TensorKind::Embedding),
            ("model.norm.weight", TensorKind::Norm),
            ("model.layers.3.input_layernorm.weight", TensorKind::Norm),
            ("transformer.h.0.ln_1.weight", TensorKind::Norm),
            ("transformer.h.0.ln_1.bias", TensorKind::Bias),
            ("model.layers.0.self_attn.q_proj.bias", TensorKind::Bias),
            ("model.layers.0.mlp.gate.weight", TensorKind::Router),
            ("score.weight", TensorKind::Classifier),
            ("model.layers.0.mlp.gate_proj.weight", TensorKind::Other),
            ("backdoor", TensorKind::Other),
        ];
        for (tensor, kind) in kinds {
            assert_eq!(TensorKind::of(tensor), kind, "{tensor}");
        }
        assert_eq!(TensorKind::of_changed("score", 2), TensorKind::Classifier);
        assert_eq!(TensorKind::of_changed("score", 32_000), TensorKind::Head);
    }

    #[test]
    fn every_kind_is_judged() {
        for kind in TensorKind::ALL {
            assert!(!kind.judged_by().is_empty() && !kind.name().is_empty(), "{kind:?}");
        }
    }
}
