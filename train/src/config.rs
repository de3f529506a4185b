//! The configuration of a run: every mechanism a field, every field with the default of the method's description.
//!
//! It is read from TOML, overridden by flags, and written to `run.json` as it was used.

use serde::{Deserialize, Serialize};

use crate::adapter::AdapterOptions;
use crate::methods::ChosenMethod;
use crate::step::credit::{CreditError, CreditOptions};
use crate::step::format::FormatOptions;
use crate::step::optimizer::{OptimizerError, OptimizerOptions};
use crate::step::scaffold::{ScaffoldError, ScaffoldOptions};

/// A group of rollouts of one sample.
#[expect(clippy::struct_excessive_bools, reason = "each mechanism can be switched off alone")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupOptions {
    /// Rollouts of a sample.
    pub size: usize,
    /// The first rollout has no scaffold.
    pub naked_first: bool,
    /// A right naked rollout ends the group: no more rollouts, no loss, no step.
    pub early_stop: bool,
    /// Rollouts that are no better than their group's mean carry no loss.
    pub positive_only: bool,
    /// Without it every right rollout has advantage 1 and every other 0.
    pub relative: bool,
    /// Groups of one optimiser step; their rollouts are decoded together.
    pub per_step: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { size: 3, naked_first: true, early_stop: true, positive_only: true, relative: true, per_step: 1 }
    }
}

/// How long the parts of a rollout may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetOptions {
    /// Tokens of thinking, the expert's included, before it is closed by force.
    pub thinking: usize,
    /// Where set, a problem's budget is this many times the tokens of its expert's thinking, if that is less than
    /// `thinking`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_per_target: Option<f64>,
    /// Close the thinking by force where the budget is spent; without it such a rollout has no answer.
    pub forced_close: bool,
    /// Last tokens of the expert's thinking that are injected before a forced close tag; never into a naked rollout.
    pub tail: usize,
    /// Open the answer's box after the close tag; without it the model must do so itself.
    pub answer_turn: bool,
    /// Tokens of the answer.
    pub answer: usize,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self { thinking: 256, thinking_per_target: None, forced_close: true, tail: 12, answer_turn: true, answer: 64 }
    }
}

impl BudgetOptions {
    /// Tokens of thinking for a problem whose expert thinks that many.
    pub fn of(&self, target: usize) -> usize {
        let relative = self.thinking_per_target.map_or(usize::MAX, |times| (times * target as f64).ceil() as usize);
        self.thinking.min(relative.max(1))
    }
}

/// How tokens are drawn in rollouts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Divides the logits.
    pub temperature: f64,
    /// Keeps the most probable tokens up to this mass.
    pub top_p: f64,
    /// Keeps this many most probable tokens; 0 keeps all.
    pub top_k: usize,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { temperature: 0.8, top_p: 0.95, top_k: 20 }
    }
}

/// Scaffolding anchors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorOptions {
    /// Lines drawn for each sample; 0 switches anchors off.
    pub count: usize,
    /// A text file with an instruction a line; the built-in bank where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<std::path::PathBuf>,
}

impl Default for AnchorOptions {
    fn default() -> Self {
        Self { count: 2, file: None }
    }
}

/// The Kullback–Leibler divergence from the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KlOptions {
    /// β of the k3 term in the loss; 0 leaves it out.
    pub weight: f64,
    /// Steps between two measurements for the log; 0 measures never.
    pub every: u64,
}

impl Default for KlOptions {
    fn default() -> Self {
        Self { weight: 0.0, every: 10 }
    }
}

/// How the expert's share changes over the run, linearly with the samples visited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CurriculumOptions {
    /// Share of the plan's size that is left at the end: 1 keeps it, 0 fades the expert out.
    pub end: f64,
}

impl Default for CurriculumOptions {
    fn default() -> Self {
        Self { end: 1.0 }
    }
}

/// When a run ends; the first limit that is reached counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopOptions {
    /// Samples visited; 0 is no limit.
    pub samples: u64,
    /// Tokens generated and trained on; 0 is no limit.
    pub tokens: u64,
}

impl Default for StopOptions {
    fn default() -> Self {
        Self { samples: 1600, tokens: 0 }
    }
}

/// Checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointOptions {
    /// Optimiser steps between two checkpoints.
    pub every: u64,
    /// Latest checkpoints that are kept.
    pub keep: usize,
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self { every: 25, keep: 2 }
    }
}

/// Everything that decides a run, with the base and the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How the adapter is trained.
    pub method: ChosenMethod,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// When the run ends.
    pub stop: StopOptions,
    /// The adapter.
    pub adapter: AdapterOptions,
    /// The optimiser.
    pub optimizer: OptimizerOptions,
    /// Groups.
    pub group: GroupOptions,
    /// Lengths.
    pub budget: BudgetOptions,
    /// Sampling.
    pub sampling: SamplingConfig,
    /// Where the expert speaks.
    pub scaffold: ScaffoldOptions,
    /// How the expert's share changes over the run.
    pub curriculum: CurriculumOptions,
    /// Weights of tokens.
    pub credit: CreditOptions,
    /// Anchors.
    pub anchors: AnchorOptions,
    /// Divergence from the base.
    pub kl: KlOptions,
    /// Checkpoints.
    pub checkpoint: CheckpointOptions,
    /// Tags and the box.
    pub format: FormatOptions,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not TOML, an unknown key, a value of the wrong type.
    #[error("{path}: {reason}")]
    Toml {
        /// The file.
        path: String,
        /// What the parser says, with the line.
        reason: String,
    },
    /// A value outside its range.
    #[error("`{field}` is {value}, but must be {range}")]
    Range {
        /// The setting.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        range: &'static str,
    },
    /// A setting of the scaffold.
    #[error(transparent)]
    Scaffold(#[from] ScaffoldError),
    /// A setting of the token weights.
    #[error(transparent)]
    Credit(#[from] CreditError),
    /// A setting of the optimiser.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
}

impl TrainConfig {
    /// Reads a TOML file.
    pub fn read(path: &std::path::Path) -> Result<Self, ConfigError> {
        let text = fs_err::read_to_string(path)?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Toml { path: path.display().to_string(), reason: error.to_string() })
    }

    /// This configuration with one field set, as in `scaffold.dirichlet=2.0`; the value is TOML, a bare word a string.
    pub fn with(&self, assignment: &str) -> Result<Self, ConfigError> {
        let fault = |reason: String| ConfigError::Toml { path: format!("--set {assignment}"), reason };
        let (key, value) = assignment.split_once('=').ok_or_else(|| fault("expected KEY=VALUE".into()))?;
        let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        let mut whole = toml::Table::try_from(self).map_err(|error| fault(error.to_string()))?;
        let (path, name) = key.trim().rsplit_once('.').unwrap_or(("", key.trim()));
        let mut place = &mut whole;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            place = place
                .get_mut(part)
                .and_then(toml::Value::as_table_mut)
                .ok_or_else(|| fault(format!("there is no section `{part}`")))?;
        }
        place.insert(name.to_owned(), value);
        whole.try_into().map_err(|error: toml::de::Error| fault(error.to_string()))
    }

    /// Refuses values that no run can be made of.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: String, range| Err(ConfigError::Range { field, value, range });
        if self.group.size == 0 {
            return refuse("group.size", "0".into(), "at least 1");
        }
        self.method.check(self)?;
        if self.group.per_step == 0 {
            return refuse("group.per_step", "0".into(), "at least 1");
        }
        if self.budget.thinking == 0 || self.budget.answer == 0 {
            return refuse("budget.thinking and budget.answer", "0".into(), "at least 1");
        }
        if let Some(times) = self.budget.thinking_per_target.filter(|times| !(times.is_finite() && *times > 0.0)) {
            return refuse("budget.thinking_per_target", times.to_string(), "a finite number above 0");
        }
        if self.stop.samples == 0 && self.stop.tokens == 0 {
            return refuse("stop", "without a limit".into(), "a number of samples or of tokens");
        }
        if !(self.sampling.temperature.is_finite() && self.sampling.temperature > 0.0) {
            let range = "a finite number above 0: equal rollouts teach nothing";
            return refuse("sampling.temperature", self.sampling.temperature.to_string(), range);
        }
        if !(self.sampling.top_p > 0.0 && self.sampling.top_p <= 1.0) {
            return refuse("sampling.top_p", self.sampling.top_p.to_string(), "above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.curriculum.end) {
            return refuse("curriculum.end", self.curriculum.end.to_string(), "between 0 and 1");
        }
        if !(self.kl.weight.is_finite() && self.kl.weight >= 0.0) {
            return refuse("kl.weight", self.kl.weight.to_string(), "0 or a finite number above it");
        }
        if self.checkpoint.every == 0 || self.checkpoint.keep == 0 {
            return refuse("checkpoint.every and checkpoint.keep", "0".into(), "at least 1");
        }
        self.scaffold.check()?;
        self.credit.check()?;
        Ok(self.optimizer.check()?)
    }
}
