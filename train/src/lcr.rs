//! Latent Contextual Reinforcement, one step after another.
//!
//! ```text
//! for each sample (types in balanced order):
//!     naked rollout right → skipped: no more rollouts, no loss, no step
//!     else the group is completed by scaffolded rollouts, each with the expert speaking elsewhere
//!     R = boxed answer right;  A = (R − mean R)/(std R + 1e-4);  only A > 0 propagates
//!     loss = Σ A_i Σ_t w_it (−ln p_it) / Z  +  β Σ k3 / N
//!     one optimiser step
//! ```
//!
//! Given by the method: interleaving, masks, proximity, Jaccard, the group with its naked first rollout, positive
//! advantages, the thinking budget, the answer turn, anchors. Ours, nearly all of it fields of [`TrainConfig`]: the
//! numbers in them, the plan's shape, where the expert goes on, several groups a step. Fixed are where a target may be
//! cut (`scaffold::target`) and the 1e-4 of the advantage. ln p is that of the model itself, at temperature 1, whatever
//! temperature drew the tokens. One step for each batch of rollouts, on-policy, so there is no ratio to clip. The
//! reference of the divergence is the same weights without the adapter.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use lcr_documents::rollout::{RolloutRecord, SegmentTag};
use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};
use lcr_model::tokenizer::TokenizerError;
use serde::{Deserialize, Serialize};

use crate::adapter::{TrainableAdapter, TrainableError};
use crate::config::{ConfigError, TrainConfig};
use crate::log::iteration_stats::IterationStats;
use crate::methods::LearnsFrom;
use crate::methods::sft::supervised_example;
use crate::step::credit::{CreditOptions, common_tokens, effective_tokens, normalisers};
use crate::step::format::Format;
use crate::step::gradient::{Example, Trace, divergence};
use crate::step::group::{Group, GroupMaker, GroupOutcome};
use crate::step::optimizer::{AdamW, OptimizerError};
use crate::step::rollout::{RolloutError, Span, View};
use crate::step::scaffold::Target;
use crate::tasks::anchors::{AnchorError, Anchors};
use crate::tasks::dataset::Dataset;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The adapter.
    #[error(transparent)]
    Adapter(#[from] TrainableError),
    /// The bank of anchors.
    #[error(transparent)]
    Anchors(#[from] AnchorError),
    /// A rollout.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Expert's thinking that the model could never read.
    #[error(
        "{path}: line {line}: the thinking has more tokens than the model has positions ({positions}). Shorten it, or \
         leave the problem out"
    )]
    ThinkingTooLong {
        /// File of the problems.
        path: PathBuf,
        /// Line of the problem.
        line: usize,
        /// Positions of the model.
        positions: usize,
    },
    /// The optimiser, or a gradient that is not finite.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
}

/// Where a run stands: with the weights and the moments, all that the next step depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps taken.
    pub step: u64,
    /// Samples visited.
    pub iteration: u64,
    /// Passes over the data begun before this one.
    pub epoch: u64,
    /// Samples of this pass that were visited.
    pub position: usize,
    /// Tokens drawn from the model.
    pub generated_tokens: u64,
    /// Tokens of the sequences that were trained on.
    pub trained_tokens: u64,
    /// Rollouts that were right, over the whole run.
    pub correct_rollouts: u64,
    /// Counts since the last optimiser step.
    pub tally: IterationStats,
}

/// Divergence from the base on some tokens, nats per token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Divergences {
    /// Mean of ln p − ln q over the tokens drawn.
    pub k1: f64,
    /// Mean of q/p − 1 − ln(q/p) over the tokens drawn (Schulman 2020).
    pub k3: f64,
    /// Mean of the exact divergence over the full vocabulary.
    pub exact: f64,
}

/// What an optimiser step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// The loss before the step.
    pub loss: f64,
    /// Mean entropy of the model's distributions at the tokens that carry weight, nats.
    pub entropy: f64,
    /// ‖gradient‖ before clipping.
    pub gradient_norm: f64,
    /// ‖change of the parameters‖.
    pub update_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Tokens with a weight.
    pub weighted_tokens: u64,
    /// (Σw)²/Σw², the mean over sequences.
    pub effective_tokens: f64,
    /// Where it was trained: with the expert's text in its context.
    pub scaffolded: Option<Divergences>,
    /// Where it will be used: naked rollouts.
    pub naked: Option<Divergences>,
    /// Seconds in the forward and backward pass.
    pub gradient_seconds: f64,
    /// Seconds in the optimiser.
    pub optimizer_seconds: f64,
}

/// One batch of groups, and the step that it led to.
#[derive(Debug)]
pub struct Iteration {
    /// Its groups; none for supervised fine-tuning.
    pub groups: Vec<Group>,
    /// Their lines of `rollouts.jsonl`.
    pub records: Vec<RolloutRecord>,
    /// The optimiser step, if anything carried a loss.
    pub stepped: Option<Stepped>,
    /// What was counted since the step before; emptied by a step.
    pub tally: IterationStats,
    /// Seconds spent on rollouts.
    pub rollout_seconds: f64,
}

/// An example with what each of its targets weighs in the loss.
struct Weighted {
    example: Example,
    /// A·w/Z of each target.
    coefficients: Vec<f64>,
    effective_tokens: f64,
}

/// A run in memory: model, data, adapter, optimiser.
#[derive(Debug)]
pub struct Trainer<'a> {
    decoder: &'a Decoder,
    format: Format<'a>,
    dataset: &'a Dataset,
    config: TrainConfig,
    anchors: Anchors,
    common: HashSet<u32>,
    adapter: TrainableAdapter,
    optimizer: AdamW,
    progress: Progress,
    /// The adapter fitted to the model, as it stands.
    variant: BoundAdapter,
    order: (u64, Vec<usize>),
}

/// What the expert says of every problem. All of it must fit the model by itself, which is found out without reading on
/// beyond that.
fn targets(format: &Format, dataset: &Dataset, positions: usize) -> Result<Vec<Target>, TrainError> {
    let target = |problem| {
        if format.is_beyond_positions(problem)? {
            let (path, line) = (dataset.path.clone(), problem.line);
            return Err(TrainError::ThinkingTooLong { path, line, positions });
        }
        Ok(format.target(problem)?)
    };
    dataset.problems.iter().map(target).collect()
}

impl<'a> Trainer<'a> {
    /// A run that begins.
    pub fn new(
        decoder: &'a Decoder,
        format: Format<'a>,
        dataset: &'a Dataset,
        config: TrainConfig,
        adapter: TrainableAdapter,
    ) -> Result<Self, TrainError> {
        config.check()?;
        let anchors = match &config.anchors.file {
            Some(path) => Anchors::open(path)?,
            None => Anchors::default(),
        };
        let sizes: Vec<usize> = adapter.parameters().map(|(_, values)| values.len()).collect();
        let names: Vec<String> = adapter.parameters().map(|(name, _)| name).collect();
        let optimizer = AdamW::new(config.optimizer.clone(), &sizes)?.with_names(names)?;
        let targets = targets(&format, dataset, decoder.config().max_positions)?;
        let text = |token: u32| format.tokenizer().token_text(token);
        let common = common_tokens(
            format.tokenizer().vocab_size(),
            targets.iter().map(|target| target.tokens.as_slice()),
            text,
            &config.credit,
        );
        let variant = adapter.variant(decoder);
        let order = (0, dataset.balanced_order(config.seed, 0));
        Ok(Self {
            decoder,
            format,
            dataset,
            config,
            anchors,
            common,
            adapter,
            optimizer,
            progress: Progress::default(),
            variant,
            order,
        })
    }

    /// The model.
    pub fn decoder(&self) -> &'a Decoder {
        self.decoder
    }

    /// The problems.
    pub fn dataset(&self) -> &'a Dataset {
        self.dataset
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The adapter as it stands.
    pub fn adapter(&self) -> &TrainableAdapter {
        &self.adapter
    }

    /// The adapter fitted to the model.
    pub fn variant(&self) -> &BoundAdapter {
        &self.variant
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Spelling of rollouts.
    pub fn format(&self) -> &Format<'a> {
        &self.format
    }

    /// Behaviour instructions.
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Goes on where another run stopped, with its adapter; `restore` reads the optimiser's moments.
    pub fn resume<E>(
        &mut self,
        progress: Progress,
        adapter: TrainableAdapter,
        restore: impl FnOnce(&mut AdamW) -> Result<(), E>,
    ) -> Result<(), E> {
        self.variant = adapter.variant(self.decoder);
        self.adapter = adapter;
        restore(&mut self.optimizer)?;
        self.order = (progress.epoch, self.dataset.balanced_order(self.config.seed, progress.epoch));
        self.progress = progress;
        Ok(())
    }

    /// Share of the run that is done, 0 to 1.
    pub fn done(&self) -> f64 {
        let share = |now: u64, limit: u64| if limit == 0 { 0.0 } else { now as f64 / limit as f64 };
        let tokens = self.progress.generated_tokens + self.progress.trained_tokens;
        share(self.progress.iteration, self.config.stop.samples).max(share(tokens, self.config.stop.tokens)).min(1.0)
    }

    /// Visits the next samples and, where a rollout carries a loss, takes a step.
    pub fn turn(&mut self) -> Result<Iteration, TrainError> {
        let started = Instant::now();
        let progress_before = self.done();
        let batch = self.next_samples();
        let (groups, records, examples) = if self.config.method.learns_from() == LearnsFrom::Traces {
            (Vec::new(), Vec::new(), self.supervised(&batch)?)
        } else {
            let maker = self.maker(progress_before);
            let groups = maker.make(&batch)?;
            let mut records = Vec::new();
            for group in &groups {
                records.extend(maker.records(group)?);
            }
            let examples = weighted(&groups, &self.config.credit);
            (groups, records, examples)
        };
        for group in &groups {
            self.progress.tally.add(group);
            self.progress.generated_tokens += group.generated();
            self.progress.correct_rollouts +=
                group.members.iter().filter(|member| member.rollout.correct()).count() as u64;
        }
        let rollout_seconds = started.elapsed().as_secs_f64();
        let stepped = if examples.is_empty() { None } else { Some(self.step(&groups, examples, progress_before)?) };
        let tally =
            if stepped.is_some() { std::mem::take(&mut self.progress.tally) } else { IterationStats::default() };
        Ok(Iteration { groups, records, stepped, tally, rollout_seconds })
    }

    /// The groups of the next samples and their records, without a step: nothing of the run changes.
    pub fn dry_run(&mut self) -> Result<(Vec<Group>, Vec<RolloutRecord>), TrainError> {
        if self.config.method.learns_from() == LearnsFrom::Traces {
            return Ok((Vec::new(), Vec::new()));
        }
        let before = self.progress.clone();
        let batch = self.next_samples();
        self.progress = before;
        let maker = self.maker(self.done());
        let groups = maker.make(&batch[..batch.len().min(1)])?;
        let mut records = Vec::new();
        for group in &groups {
            records.extend(maker.records(group)?);
        }
        Ok((groups, records))
    }

    fn maker(&self, done: f64) -> GroupMaker<'_> {
        GroupMaker {
            decoder: self.decoder,
            variant: &self.variant,
            format: &self.format,
            dataset: self.dataset,
            anchors: &self.anchors,
            common: &self.common,
            config: &self.config,
            share_scale: 1.0 - (1.0 - self.config.curriculum.end) * done,
        }
    }

    /// The next batch: (samples visited before it, index of the sample).
    fn next_samples(&mut self) -> Vec<(u64, usize)> {
        let mut batch = Vec::with_capacity(self.config.group.per_step);
        let limit = self.config.stop.samples;
        while batch.len() < self.config.group.per_step && (limit == 0 || self.progress.iteration < limit) {
            if self.progress.position >= self.order.1.len() {
                self.progress.epoch += 1;
                self.progress.position = 0;
                self.order = (self.progress.epoch, self.dataset.balanced_order(self.config.seed, self.progress.epoch));
            }
            batch.push((self.progress.iteration, self.order.1[self.progress.position]));
            self.progress.position += 1;
            self.progress.iteration += 1;
        }
        batch
    }

    fn supervised(&self, batch: &[(u64, usize)]) -> Result<Vec<Weighted>, TrainError> {
        let share = 1.0 / batch.len() as f64;
        batch
            .iter()
            .map(|(iteration, sample)| {
                let example =
                    supervised_example(self.dataset, &self.format, &self.anchors, &self.config, *iteration, *sample)?;
                let targets = example.targets.len();
                let coefficients = vec![share / targets.max(1) as f64; targets];
                Ok(Weighted { example, coefficients, effective_tokens: targets as f64 })
            })
            .collect()
    }

    /// Forward, backward, one step of the optimiser.
    fn step(&mut self, groups: &[Group], weighted: Vec<Weighted>, done: f64) -> Result<Stepped, TrainError> {
        let started = Instant::now();
        let effective = weighted.iter().map(|item| item.effective_tokens).sum::<f64>() / weighted.len() as f64;
        let (examples, mut coefficients): (Vec<Example>, Vec<Vec<f64>>) =
            weighted.into_iter().map(|item| (item.example, item.coefficients)).unzip();
        let trained: u64 = examples.iter().map(|example| example.tokens.len() as u64).sum();
        let weighted_tokens = examples.iter().map(|example| example.targets.len() as u64).sum();
        let trace = Trace::forward(self.decoder, &self.variant, &examples)?;
        let mut loss = weigh(&coefficients, trace.log_probabilities());
        let entropy = mean(trace.entropies().iter().flatten().copied());
        let measured = self.config.kl.every > 0 && self.progress.step.is_multiple_of(self.config.kl.every);
        let mut scaffolded = None;
        if measured || self.config.kl.weight > 0.0 {
            let reference = divergence(self.decoder, &self.variant, &examples)?;
            scaffolded = Some(divergences(&reference));
            if self.config.kl.weight > 0.0 {
                loss += self.add_divergence(&mut coefficients, &reference);
            }
        }
        let gradient = trace.backward(&coefficients)?;
        let naked = if measured { self.naked_divergence(groups)? } else { None };
        let gradient_seconds = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let taken = self.optimizer.steps();
        // The number of steps is not known beforehand, since samples may be skipped: the share of the run that is done
        // is.
        let total = if done > 0.0 { (taken as f64 / done) as u64 } else { u64::MAX };
        let learning_rate = self.config.optimizer.learning_rate_at(taken, total);
        let gradients: Vec<&[f32]> = gradient.slices().collect();
        let mut parameters: Vec<&mut [f32]> = self.adapter.parameters_mut().map(|(_, values)| values).collect();
        let report = self.optimizer.step(&mut parameters, &gradients, learning_rate)?;
        self.variant = self.adapter.variant(self.decoder);
        self.progress.step += 1;
        self.progress.trained_tokens += trained;
        Ok(Stepped {
            loss,
            entropy,
            gradient_norm: report.gradient_norm,
            update_norm: report.update_norm,
            learning_rate,
            weighted_tokens,
            effective_tokens: effective,
            scaffolded,
            naked,
            gradient_seconds,
            optimizer_seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Adds β·mean k3 to the loss: with r = ln q − ln p, k3 = eʳ − r − 1 and −∂k3/∂ln p = eʳ − 1.
    fn add_divergence(&self, coefficients: &mut [Vec<f64>], reference: &crate::step::gradient::Divergence) -> f64 {
        let count = coefficients.iter().map(Vec::len).sum::<usize>().max(1) as f64;
        let factor = self.config.kl.weight / count;
        let mut term = 0.0;
        for (example, row) in coefficients.iter_mut().enumerate() {
            for (target, coefficient) in row.iter_mut().enumerate() {
                let ratio = reference.reference[example][target] - reference.policy[example][target];
                *coefficient += factor * (ratio.exp() - 1.0);
                term += factor * (ratio.exp() - ratio - 1.0);
            }
        }
        term
    }

    /// Divergence on the naked rollouts of this step, on what the model wrote: injected tokens were not drawn from it.
    fn naked_divergence(&self, groups: &[Group]) -> Result<Option<Divergences>, TrainError> {
        let naked = groups.iter().flat_map(|group| &group.members).map(|member| &member.rollout);
        let examples: Vec<Example> = naked
            .filter(|rollout| matches!(rollout.view, View::Naked(_)))
            .map(|rollout| {
                let own = |span: &&Span| matches!(span.tag, SegmentTag::Model | SegmentTag::Answer);
                let targets = rollout.spans.iter().filter(own).flat_map(|span| span.tokens.clone());
                Example { tokens: rollout.tokens.clone(), targets: targets.filter(|target| *target > 0).collect() }
            })
            .filter(|example| !example.targets.is_empty())
            .collect();
        if examples.is_empty() {
            return Ok(None);
        }
        Ok(Some(divergences(&divergence(self.decoder, &self.variant, &examples)?)))
    }
}

/// The members that carry a loss, as examples: targets are the tokens with a weight, coefficients A·w/Z over the groups
/// that do.
fn weighted(groups: &[Group], credit: &CreditOptions) -> Vec<Weighted> {
    let trained: Vec<&Group> = groups.iter().filter(|group| group.outcome == GroupOutcome::Trained).collect();
    trained.iter().flat_map(|group| weighted_members(group, credit, trained.len())).collect()
}

/// The members of one group of `groups`.
fn weighted_members(group: &Group, credit: &CreditOptions, groups: usize) -> Vec<Weighted> {
    let members = || group.members.iter().filter(|member| member.advantage != 0.0);
    let weights: Vec<&[f32]> = members().map(|member| member.weights.as_slice()).collect();
    members()
        .zip(normalisers(&weights, credit))
        .filter_map(|(member, normaliser)| {
            let targets: Vec<usize> = (1..member.weights.len()).filter(|&token| member.weights[token] > 0.0).collect();
            if targets.is_empty() {
                return None;
            }
            let factor = member.advantage / normaliser / groups as f64;
            let coefficients = targets.iter().map(|&token| factor * f64::from(member.weights[token])).collect();
            let example = Example { tokens: member.rollout.tokens.clone(), targets };
            Some(Weighted { example, coefficients, effective_tokens: effective_tokens(&member.weights) })
        })
        .collect()
}

/// Σ c·(−ln p).
fn weigh(coefficients: &[Vec<f64>], log_probabilities: &[Vec<f64>]) -> f64 {
    let pairs = coefficients.iter().flatten().zip(log_probabilities.iter().flatten());
    pairs.map(|(coefficient, log_probability)| -coefficient * log_probability).sum()
}

fn divergences(measured: &crate::step::gradient::Divergence) -> Divergences {
    let ratios = || {
        let pairs = measured.policy.iter().flatten().zip(measured.reference.iter().flatten());
        pairs.map(|(policy, reference)| reference - policy)
    };
    Divergences {
        k1: mean(ratios().map(|ratio| -ratio)),
        k3: mean(ratios().map(|ratio| ratio.exp() - ratio - 1.0)),
        exact: mean(measured.divergence.iter().flatten().copied()),
    }
}

/// The mean; 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests;
