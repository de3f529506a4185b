//! What a run says about itself: one line of `metrics.jsonl` for each optimizer step.
//!
//! The one idea: a number that was not measured is absent, and a number that went wrong is an error. JSON has no NaN,
//! and serde_json writes `null` in its place, which a reader takes for the former; [`JsonLines`] refuses it by name
//! instead. Lines are appended whole and never rewritten, so a run that is killed loses at most the line it was
//! writing.
//!
//! Seconds, tokens per second and memory depend on the machine; everything else in a record is a function of config,
//! seed and weights ([`StepRecord::without_measurements`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod iteration_stats;
mod lines;
mod memory;
pub mod preview;
pub mod rotation;
pub mod tensorboard;

pub use lines::{JsonLines, LogError};
pub use memory::{Memory, MemoryMeter};

/// One line of `metrics.jsonl`: an optimizer step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Optimizer steps taken, this one included.
    pub step: u64,
    /// Groups before this one, the skipped ones included.
    pub iteration: u64,
    /// The loss that was differentiated, KL term included.
    pub loss: f64,
    /// Mean reward of the group.
    pub reward_mean: f64,
    /// Standard deviation of the group's rewards (population).
    pub reward_std: f64,
    /// Mean of |advantage| over the group.
    pub advantage_magnitude: f64,
    /// Share of right answers by view (`naked`, `scaffold_0`, …), over the groups since the last step, the skipped
    /// included.
    #[serde(default)]
    pub accuracy_by_view: BTreeMap<String, f64>,
    /// Share of right answers by where the answer stood in injected text (`none`, `scaffold`, `tail`), over the same
    /// groups.
    #[serde(default)]
    pub accuracy_by_leak: BTreeMap<String, f64>,
    /// KL(policy‖base) in the context without scaffold, as deployed; absent without a reference.
    #[serde(default)]
    pub kl_naked: Option<Divergence>,
    /// KL(policy‖base) in the context with scaffold, as trained; absent without a reference.
    #[serde(default)]
    pub kl_scaffolded: Option<Divergence>,
    /// Mean entropy of the policy's next-token distribution over the trained tokens, in nats.
    #[serde(default)]
    pub entropy: Option<f64>,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Norm of the change of all parameters together.
    pub update_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Tokens that the policy wrote since the last step.
    pub tokens_generated: u64,
    /// Tokens with a weight above zero in the loss.
    pub tokens_trained: u64,
    /// n_eff = (Σw)²/Σw² of the token weights w.
    pub effective_tokens: f64,
    /// Mean Jaccard similarity of model chunks with the expert's words; absent where no rollout had a scaffold.
    #[serde(default)]
    pub mean_jaccard: Option<f64>,
    /// Share of rollouts since the last step whose thinking was closed by force.
    pub forced_close_share: f64,
    /// Share of rollouts since the last step into which the end of the expert's thinking was injected.
    #[serde(default)]
    pub tail_share: f64,
    /// Rollouts since the last step by where the answer stood in injected text (`none`, `scaffold`, `tail`).
    #[serde(default)]
    pub rollouts_by_leak: BTreeMap<String, u64>,
    /// Mean share of the target that the expert was to say, by scaffolded view, over the same groups.
    #[serde(default)]
    pub share_planned: BTreeMap<String, f64>,
    /// Mean share of the target that it said in fact.
    #[serde(default)]
    pub share_injected: BTreeMap<String, f64>,
    /// Mean number of stretches of thinking that the model wrote.
    #[serde(default)]
    pub model_chunks: BTreeMap<String, f64>,
    /// Share of scaffolded rollouts in which the model wrote two such stretches or more.
    #[serde(default)]
    pub interleaved_share: Option<f64>,
    /// Groups in which each later view held more of the expert than the one before, with other boundaries.
    #[serde(default)]
    pub views_grown: u64,
    /// Groups in which one did not, though the expert had more to say.
    #[serde(default)]
    pub views_stalled: u64,
    /// Groups in which one did not, and the expert could not say more without the answer.
    #[serde(default)]
    pub views_without_room: u64,
    /// Groups of which two views had the same boundaries.
    #[serde(default)]
    pub views_identical: u64,
    /// Views that were written again, because they held no more than the one before.
    #[serde(default)]
    pub views_redrawn: u64,
    /// Mean angle over rows by which this step turned the effective weights, in degrees.
    #[serde(default)]
    pub rotation_step_mean: Option<f64>,
    /// Largest such angle, in degrees.
    #[serde(default)]
    pub rotation_step_max: Option<f64>,
    /// Mean angle over rows between the effective weights and the base's, in degrees.
    #[serde(default)]
    pub rotation_total_mean: Option<f64>,
    /// Largest such angle, in degrees.
    #[serde(default)]
    pub rotation_total_max: Option<f64>,
    /// Groups since the last step that were skipped because the naked rollout was right.
    pub skipped_groups: u64,
    /// Groups since the last step in which no advantage was positive.
    pub dead_groups: u64,
    /// Tokens generated per second of rollout.
    #[serde(default)]
    pub tokens_per_second: Option<f64>,
    /// Largest anonymous resident memory seen since the run was started or resumed, in bytes; absent where the system
    /// does not say.
    #[serde(default)]
    pub peak_anonymous_memory: Option<u64>,
    /// Largest resident memory since then, mapped weights included, in bytes.
    #[serde(default)]
    pub peak_resident_memory: Option<u64>,
    /// Seconds since the last step, by phase.
    #[serde(default)]
    pub seconds: PhaseSeconds,
}

/// Estimates of a KL divergence, each a mean over tokens, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Mean of log p − log q at the tokens drawn from p; unbiased, may be negative.
    pub k1: f64,
    /// Mean of q/p − 1 − log(q/p) at the tokens drawn from p; unbiased, never negative.
    pub k3: f64,
    /// Σ p log(p/q) over the whole vocabulary; absent where it was not computed.
    #[serde(default)]
    pub exact: Option<f64>,
}

/// Wall-clock seconds by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseSeconds {
    /// Writing rollouts.
    pub rollout: f64,
    /// Forward and backward passes of the loss.
    pub gradient: f64,
    /// The optimizer's step and the measurements of it.
    pub optimizer: f64,
}

impl StepRecord {
    /// The record without what depends on the machine: two runs of one config and seed agree in the rest.
    #[must_use]
    pub fn without_measurements(&self) -> Self {
        Self {
            tokens_per_second: None,
            peak_anonymous_memory: None,
            peak_resident_memory: None,
            seconds: PhaseSeconds::default(),
            ..self.clone()
        }
    }

    /// Every number of the record under the name it has in charts, absent ones left out.
    pub fn scalars(&self) -> Vec<(String, f64)> {
        let always = [
            ("loss", self.loss),
            ("reward/mean", self.reward_mean),
            ("reward/std", self.reward_std),
            ("reward/advantage_magnitude", self.advantage_magnitude),
            ("optimizer/gradient_norm", self.gradient_norm),
            ("optimizer/update_norm", self.update_norm),
            ("optimizer/learning_rate", self.learning_rate),
            ("tokens/generated", self.tokens_generated as f64),
            ("tokens/trained", self.tokens_trained as f64),
            ("tokens/effective", self.effective_tokens),
            ("rollouts/forced_close_share", self.forced_close_share),
            ("rollouts/tail_share", self.tail_share),
            ("rollouts/skipped_groups", self.skipped_groups as f64),
            ("rollouts/dead_groups", self.dead_groups as f64),
            ("views/grown", self.views_grown as f64),
            ("views/stalled", self.views_stalled as f64),
            ("views/without_room", self.views_without_room as f64),
            ("views/identical", self.views_identical as f64),
            ("views/redrawn", self.views_redrawn as f64),
            ("seconds/rollout", self.seconds.rollout),
            ("seconds/gradient", self.seconds.gradient),
            ("seconds/optimizer", self.seconds.optimizer),
        ];
        let sometimes = [
            ("kl_naked/k1", self.kl_naked.map(|kl| kl.k1)),
            ("kl_naked/k3", self.kl_naked.map(|kl| kl.k3)),
            ("kl_naked/exact", self.kl_naked.and_then(|kl| kl.exact)),
            ("kl_scaffolded/k1", self.kl_scaffolded.map(|kl| kl.k1)),
            ("kl_scaffolded/k3", self.kl_scaffolded.map(|kl| kl.k3)),
            ("kl_scaffolded/exact", self.kl_scaffolded.and_then(|kl| kl.exact)),
            ("entropy", self.entropy),
            ("rollouts/mean_jaccard", self.mean_jaccard),
            ("rollouts/interleaved_share", self.interleaved_share),
            ("rotation/step_mean", self.rotation_step_mean),
            ("rotation/step_max", self.rotation_step_max),
            ("rotation/total_mean", self.rotation_total_mean),
            ("rotation/total_max", self.rotation_total_max),
            ("tokens/per_second", self.tokens_per_second),
            ("memory/peak_anonymous", self.peak_anonymous_memory.map(|bytes| bytes as f64)),
            ("memory/peak_resident", self.peak_resident_memory.map(|bytes| bytes as f64)),
        ];
        let named = |(name, value): (&str, f64)| (name.to_owned(), value);
        let present = sometimes.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let views = self.accuracy_by_view.iter().map(|(view, share)| (format!("accuracy/{view}"), *share));
        let leaks = self.accuracy_by_leak.iter().map(|(leak, share)| (format!("accuracy_by_leak/{leak}"), *share));
        let counts = self.rollouts_by_leak.iter().map(|(leak, count)| (format!("leaks/{leak}"), *count as f64));
        let expert = [
            ("share_planned", &self.share_planned),
            ("share_injected", &self.share_injected),
            ("model_chunks", &self.model_chunks),
        ];
        let expert = expert
            .into_iter()
            .flat_map(|(name, by_view)| by_view.iter().map(move |(view, value)| (format!("{name}/{view}"), *value)));
        always.into_iter().chain(present).map(named).chain(views).chain(leaks).chain(counts).chain(expert).collect()
    }
}

#[cfg(test)]
mod tests;
