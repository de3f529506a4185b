//! One line of `rollouts.jsonl`: everything that a person needs to judge one rollout.

use serde::{Deserialize, Serialize};

/// What a stretch of a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentTag {
    /// The rendered prompt, anchors included, up to and with the opening of the thinking.
    Prompt,
    /// A chunk of the expert's thinking.
    Expert,
    /// Thinking that the model wrote.
    Model,
    /// The last tokens of the expert's thinking, injected where the budget was spent.
    Tail,
    /// The close tag of the thinking, where it was forced.
    Close,
    /// What opens the answer's box.
    Opener,
    /// The answer that the model wrote.
    Answer,
}

/// Who wrote a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The dataset or the trainer: injected, never trained on.
    Injected,
    /// The policy.
    Model,
}

/// A stretch of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// What it is.
    pub tag: SegmentTag,
    /// Who wrote it.
    pub source: Source,
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub token_count: usize,
    /// Whether it carries no loss.
    pub masked: bool,
    /// Text of each token; only where it is not masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<String>,
    /// Weight of each token, before normalisation; only where it is not masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f32>,
}

/// Where the true answer stood in injected text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// Nowhere.
    None,
    /// In an expert chunk.
    Scaffold,
    /// In the forced tail alone.
    Tail,
}

/// Tokens of a rollout by who wrote them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Prompt, anchors included.
    pub prompt: usize,
    /// Expert chunks.
    pub expert: usize,
    /// Thinking by the model.
    pub model: usize,
    /// Forced tail and close tag.
    pub forced: usize,
    /// Answer by the model.
    pub answer: usize,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Groups before this one, the skipped ones included.
    pub iteration: u64,
    /// Index of the sample in the dataset.
    pub sample: usize,
    /// `naked`, `scaffold_0`, `scaffold_1`, …
    pub view: String,
    /// The sample's `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The question.
    pub prompt: String,
    /// Whether the boxed answer is right.
    pub correct: bool,
    /// 1 or 0.
    pub reward: f64,
    /// (R − mean R)/(std R + 1e-4) in its group.
    pub advantage: f64,
    /// The right answer.
    pub target_answer: String,
    /// What stood in the box, if there was one.
    pub generated_answer: Option<String>,
    /// Tokens by author.
    pub token_counts: TokenCounts,
    /// Whether the right answer stood in injected text.
    pub leak: Leak,
    /// Whether the thinking was closed by force.
    pub forced_close: bool,
    /// Mean Jaccard similarity of its model chunks with the expert's words; absent for naked rollouts.
    pub jaccard: Option<f64>,
    /// The expert's share of the target that the plan asked for; 0 when naked.
    pub expert_share: f64,
    /// The share of the target that the expert said in fact; 0 when naked.
    #[serde(default)]
    pub injected_share: f64,
    /// Tokens of the target after which the expert handed over, one for each chunk that was injected.
    #[serde(default)]
    pub boundaries: Vec<usize>,
    /// Stretches of thinking by the model; two or more are interleaved with the expert's.
    #[serde(default)]
    pub model_chunks: usize,
    /// Its parts in order; their texts concatenated are the whole sequence.
    pub segments: Vec<Segment>,
}

/// What the expert said in a view, or was to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Target tokens.
    pub tokens: usize,
    /// Target indices where it handed over, ascending.
    pub boundaries: Vec<usize>,
}

impl Said {
    /// Whether this is strictly more than `earlier`, with other boundaries.
    pub fn goes_beyond(&self, earlier: &Self) -> bool {
        self.tokens > earlier.tokens && self.boundaries != earlier.boundaries
    }
}
