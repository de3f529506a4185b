//! A run in its folder: turns, logs, checkpoints, the way back after an interruption.
//!
//! ```text
//! take the folder (or go back to its newest checkpoint) → turn, log, now and then a checkpoint … → adapter, run.json
//! ```
//!
//! An interruption is looked at between two turns: the step that was begun is finished and saved.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use lcr_formats::adapter::Adapter;
use serde::{Deserialize, Serialize};

use crate::adapter::TrainableAdapter;
use crate::config::TrainConfig;
use crate::lcr::{Divergences, Iteration, Progress, Stepped, TrainError, Trainer};
use crate::log::iteration_stats::{Share, Spoken};
use crate::log::rotation::{Rotation, RotationError, rotation_of_adapter};
use crate::log::{Divergence, LogError, MemoryMeter, PhaseSeconds, StepRecord};
use crate::methods::LearnsFrom;
use crate::state::{
    Interrupt, LogLengths, Logs, Provenance, RunFolder, StateError, TrainerState, check_adapter, digest_file,
};
use crate::step::group::Group;
use crate::step::optimizer::OptimizerError;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct RunRequest<'a> {
    /// Folder of the run.
    pub folder: &'a Path,
    /// Go on where the run in it stopped.
    pub resume: bool,
    /// Folder of the base, for its digest.
    pub base: &'a Path,
    /// How `run.json` names the base.
    pub base_name: String,
    /// How `run.json` names the data.
    pub data_name: String,
    /// Asks the run to stop and save.
    pub interrupt: &'a Interrupt,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder or a checkpoint.
    #[error(transparent)]
    State(#[from] StateError),
    /// A log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A step.
    #[error(transparent)]
    Train(Box<TrainError>),
    /// Angles of the effective weights.
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

impl RunError {
    /// Whether the numbers of the run went wrong: an adapter or a gradient that is not finite, or absurdly large.
    pub fn diverged(&self) -> bool {
        match self {
            Self::State(StateError::Unhealthy(_)) => true,
            Self::Train(error) => matches!(
                **error,
                TrainError::Optimizer(OptimizerError::NotFinite { .. } | OptimizerError::TooLarge { .. })
            ),
            _ => false,
        }
    }
}

impl From<TrainError> for RunError {
    fn from(error: TrainError) -> Self {
        Self::Train(Box::new(error))
    }
}

/// What happens, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something to know.
    Note(&'a str),
    /// Groups were written.
    Iteration(&'a Iteration),
    /// A step was taken.
    Step(&'a StepRecord),
    /// Everything is saved here.
    Checkpoint(&'a Path),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It reached its limit.
    Finished,
    /// It was asked to stop.
    Interrupted,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// How it ended.
    pub ending: Ending,
    /// Where it stands.
    pub progress: Progress,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program.
    pub version: String,
    /// The base, as it was named.
    pub base: String,
    /// SHA-256 over the digests of its files.
    pub base_sha256: String,
    /// The data, as it was named.
    pub data: String,
    /// SHA-256 of the file.
    pub data_sha256: String,
    /// Problems in it that can be used.
    pub problems: usize,
    /// Lines of it that cannot.
    pub refused_lines: usize,
    /// Seed of everything that was drawn.
    pub seed: u64,
    /// The configuration as it was used.
    pub config: TrainConfig,
    /// Elements of the adapter.
    pub trainable_parameters: u64,
    /// How the run ended; absent while it goes on.
    pub ending: Option<Ending>,
    /// Where it stands.
    pub progress: Progress,
}

/// Runs to the end, or until it is asked to stop.
pub fn run(
    trainer: &mut Trainer,
    request: &RunRequest,
    mut observe: impl FnMut(&Event),
) -> Result<RunSummary, RunError> {
    let folder = if request.resume { RunFolder::resume(request.folder)? } else { RunFolder::create(request.folder)? };
    folder.notes().iter().for_each(|note| observe(&Event::Note(note)));
    let base_digest = base_digest(request.base)?;
    // How often a run is saved does not change it.
    let config = TrainConfig { checkpoint: crate::config::CheckpointOptions::default(), ..trainer.config().clone() };
    let provenance = Provenance::new(&config, base_digest.clone(), trainer.dataset().sha256.clone(), config.seed)?;
    let lengths =
        if request.resume { take_up(trainer, &folder, &provenance, &mut observe)? } else { LogLengths::default() };
    let mut run = Run {
        logs: Logs::open(folder.path(), &lengths, now())?,
        meter: MemoryMeter::default(),
        manifest: manifest(trainer, request, base_digest),
        folder,
        provenance,
    };
    run.folder.write_json("run.json", &run.manifest)?;
    let ending = run.turns(trainer, request.interrupt, &mut observe)?;
    run.finish(trainer, ending, &mut observe)?;
    Ok(RunSummary { ending, progress: trainer.progress().clone() })
}

/// Goes back to the newest checkpoint of a folder; returns the lengths of the logs then.
fn take_up(
    trainer: &mut Trainer,
    folder: &RunFolder,
    provenance: &Provenance,
    observe: &mut impl FnMut(&Event),
) -> Result<LogLengths, RunError> {
    let newest = folder.newest()?;
    newest.notes.iter().for_each(|note| observe(&Event::Note(note)));
    let Some(checkpoint) = newest.checkpoint else {
        observe(&Event::Note("no checkpoint was written before the interruption: the run begins anew"));
        return Ok(LogLengths::default());
    };
    checkpoint.check(provenance)?;
    let state = checkpoint.state().clone();
    let adapter = TrainableAdapter::open(trainer.decoder(), checkpoint.folder()).map_err(TrainError::from)?;
    trainer.resume(state.progress, adapter, |optimizer| checkpoint.restore_optimizer(optimizer))?;
    observe(&Event::Note(&format!("resumed from {}", checkpoint.folder().display())));
    Ok(state.lengths)
}

/// The open files of a run.
struct Run {
    folder: RunFolder,
    logs: Logs,
    meter: MemoryMeter,
    manifest: Manifest,
    provenance: Provenance,
}

impl Run {
    fn turns(
        &mut self,
        trainer: &mut Trainer,
        interrupt: &Interrupt,
        observe: &mut impl FnMut(&Event),
    ) -> Result<Ending, RunError> {
        while trainer.done() < 1.0 {
            if interrupt.requested() {
                return Ok(Ending::Interrupted);
            }
            let before = trainer.adapter().adapter().clone();
            let turn = trainer.turn()?;
            self.meter.sample();
            for record in &turn.records {
                self.logs.rollout(record)?;
            }
            observe(&Event::Iteration(&turn));
            let Some(stepped) = &turn.stepped else { continue };
            check_adapter(trainer.adapter().adapter()).map_err(StateError::from)?;
            let record = self.record(trainer, &turn, stepped, &before)?;
            self.logs.step(&record, now())?;
            observe(&Event::Step(&record));
            if trainer.progress().step.is_multiple_of(trainer.config().checkpoint.every) {
                self.save(trainer, observe)?;
            }
        }
        Ok(Ending::Finished)
    }

    fn record(
        &self,
        trainer: &Trainer,
        turn: &Iteration,
        stepped: &Stepped,
        before: &Adapter,
    ) -> Result<StepRecord, RunError> {
        let after = trainer.adapter().adapter();
        let rotation = rotation_of_adapter(trainer.decoder(), &before.modules, &after.modules)?;
        let peak = self.meter.peak();
        Ok(step_record(trainer.progress(), turn, stepped, rotation, peak))
    }

    fn save(&mut self, trainer: &Trainer, observe: &mut impl FnMut(&Event)) -> Result<(), RunError> {
        let lengths = self.logs.sync()?;
        let state = TrainerState::new(trainer.progress().clone(), lengths, self.provenance.clone());
        let path = self.folder.write_checkpoint(&state, trainer.adapter().adapter(), trainer.optimizer())?;
        self.folder.prune(trainer.config().checkpoint.keep)?;
        observe(&Event::Checkpoint(&path));
        Ok(())
    }

    fn finish(&mut self, trainer: &Trainer, ending: Ending, observe: &mut impl FnMut(&Event)) -> Result<(), RunError> {
        let progress = trainer.progress();
        self.save(trainer, observe)?;
        self.folder.publish_adapter(trainer.adapter().adapter())?;
        self.manifest.ending = Some(ending);
        self.manifest.progress = progress.clone();
        self.folder.write_json("run.json", &self.manifest)?;
        let rollouts = trainer.config().method.learns_from() == LearnsFrom::Rollouts;
        if rollouts && progress.correct_rollouts == 0 && progress.iteration > 0 {
            observe(&Event::Note(
                "no rollout was correct in the whole run, so nothing was learned. Give the expert a larger share \
                 (scaffold.expert_shares), more thinking budget, or easier problems",
            ));
        } else if progress.step == 0 && ending == Ending::Finished {
            observe(&Event::Note(
                "no step was taken: no group had a rollout that was better than the others. The adapter is as it began",
            ));
        }
        Ok(())
    }
}

fn step_record(
    progress: &Progress,
    turn: &Iteration,
    stepped: &Stepped,
    rotation: Rotation,
    peak: Option<crate::log::Memory>,
) -> StepRecord {
    let tally = &turn.tally;
    let share = |part: f64, whole: u64| if whole == 0 { 0.0 } else { part / whole as f64 };
    let accuracy = |shares: &std::collections::BTreeMap<String, Share>| {
        shares.iter().map(|(name, share)| (name.clone(), share.correct as f64 / share.of.max(1) as f64)).collect()
    };
    let spoken = |value: &dyn Fn(&Spoken) -> f64| {
        tally.expert.iter().map(|(view, sums)| (view.clone(), share(value(sums), sums.of))).collect()
    };
    let scaffolded = tally.expert.values().map(|sums| sums.of).sum();
    let reward = share(tally.rewards, tally.rewarded);
    let divergence =
        |measured: &Divergences| Divergence { k1: measured.k1, k3: measured.k3, exact: Some(measured.exact) };
    StepRecord {
        step: progress.step,
        iteration: progress.iteration,
        loss: stepped.loss,
        reward_mean: reward,
        // Rewards are 0 or 1.
        reward_std: (reward * (1.0 - reward)).sqrt(),
        advantage_magnitude: share(tally.advantages, tally.rollouts),
        accuracy_by_view: accuracy(&tally.views),
        accuracy_by_leak: accuracy(&tally.leaks),
        kl_naked: stepped.naked.as_ref().map(divergence),
        kl_scaffolded: stepped.scaffolded.as_ref().map(divergence),
        entropy: Some(stepped.entropy),
        gradient_norm: stepped.gradient_norm,
        update_norm: stepped.update_norm,
        learning_rate: stepped.learning_rate,
        tokens_generated: tally.generated,
        tokens_trained: stepped.weighted_tokens,
        effective_tokens: stepped.effective_tokens,
        mean_jaccard: (tally.jaccards > 0).then(|| share(tally.jaccard, tally.jaccards)),
        forced_close_share: share(tally.forced as f64, tally.rollouts),
        tail_share: share(tally.tails as f64, tally.rollouts),
        rollouts_by_leak: tally.leaks.iter().map(|(leak, share)| (leak.clone(), share.of)).collect(),
        share_planned: spoken(&|sums| sums.planned),
        share_injected: spoken(&|sums| sums.injected),
        model_chunks: spoken(&|sums| sums.model_chunks as f64),
        interleaved_share: (scaffolded > 0).then(|| share(tally.interleaved as f64, scaffolded)),
        views_grown: tally.grown,
        views_stalled: tally.stalled,
        views_without_room: tally.without_room,
        views_identical: tally.identical_views,
        views_redrawn: tally.redrawn,
        rotation_step_mean: Some(rotation.step.mean),
        rotation_step_max: Some(rotation.step.max),
        rotation_total_mean: Some(rotation.total.mean),
        rotation_total_max: Some(rotation.total.max),
        skipped_groups: tally.skipped,
        dead_groups: tally.zero_variance,
        tokens_per_second: (generated(turn) > 0).then(|| generated(turn) as f64 / turn.rollout_seconds),
        peak_anonymous_memory: peak.map(|memory| memory.anonymous),
        peak_resident_memory: peak.map(|memory| memory.peak_resident),
        seconds: PhaseSeconds {
            rollout: turn.rollout_seconds,
            gradient: stepped.gradient_seconds,
            optimizer: stepped.optimizer_seconds,
        },
    }
}

/// Tokens that the model wrote in this turn.
fn generated(turn: &Iteration) -> u64 {
    turn.groups.iter().map(Group::generated).sum()
}

fn manifest(trainer: &Trainer, request: &RunRequest, base_sha256: String) -> Manifest {
    let dataset = trainer.dataset();
    Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        base: request.base_name.clone(),
        base_sha256,
        data: request.data_name.clone(),
        data_sha256: dataset.sha256.clone(),
        problems: dataset.problems.len(),
        refused_lines: dataset.refused.len(),
        seed: trainer.config().seed,
        config: trainer.config().clone(),
        trainable_parameters: trainer.adapter().parameters().map(|(_, values)| values.len() as u64).sum(),
        ending: None,
        progress: trainer.progress().clone(),
    }
}

/// SHA-256 over name and digest of every file of a model that decides what it computes.
fn base_digest(folder: &Path) -> Result<String, StateError> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_err(|source| StateError::Read { path: folder.to_path_buf(), source })?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".safetensors") || name == "config.json" || name.starts_with("tokenizer"))
        .collect();
    names.sort();
    let mut lines = Vec::with_capacity(names.len());
    for name in names {
        let (digest, _) = digest_file(&folder.join(&name))?;
        lines.push(format!("{digest}  {name}\n"));
    }
    Ok(crate::state::digest_bytes(lines.concat().as_bytes()))
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
