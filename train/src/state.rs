//! Keeps a run: its folder, its checkpoints, and the way back into it.
//!
//! The one idea: a run is a pure function of its config, seed, base and data, so a checkpoint needs no random state. It holds the
//! adapter, the optimizer's moments, and a [`TrainerState`] that says how far the run was and how long each log was then. A
//! resume checks that nothing the run depends on has changed, cuts the logs back to those lengths, and goes on as if nothing had
//! happened. A checkpoint is written aside, synced and renamed, so a kill or a full disk at any moment costs at most what was
//! done since the last one.
//!
//! ```text
//! OUT/
//!   adapter_model.safetensors, adapter_config.json    the trained adapter
//!   run.json, metrics.jsonl, rollouts.jsonl, events.out.tfevents.*
//!   checkpoints/step_000123/                          adapter, optimizer.safetensors, state.json, manifest.json
//!   .lock                                             who is writing here
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod checkpoint;
mod digest;
mod error;
mod folder;
mod health;
mod interrupt;
mod lock;
mod logs;
mod provenance;
mod publish;

pub use checkpoint::{Checkpoint, MANIFEST, Newest, OPTIMIZER, STATE};
pub use digest::{digest_bytes, digest_file, digest_json};
pub use error::StateError;
pub use folder::RunFolder;
pub use health::{LARGEST_ADAPTER_VALUE, UnhealthyAdapter, check_adapter, check_values};
pub use interrupt::Interrupt;
pub use logs::Logs;
pub use provenance::Provenance;

/// Layout of `state.json`; a file with another number is refused.
pub const STATE_FORMAT: u32 = 1;

/// How far a run is: `state.json` of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// [`STATE_FORMAT`].
    pub format: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// Groups rolled out, the skipped ones included; with the seed it determines every random choice of the next one.
    pub iteration: u64,
    /// The next sample.
    pub cursor: DataCursor,
    /// Counts and sums of the run so far.
    pub totals: RunTotals,
    /// Lengths of the logs at that moment.
    pub lengths: LogLengths,
    /// What the run depends on.
    pub provenance: Provenance,
}

impl TrainerState {
    /// The state of a run that has not begun.
    pub fn fresh(provenance: Provenance) -> Self {
        Self {
            format: STATE_FORMAT,
            step: 0,
            iteration: 0,
            cursor: DataCursor::default(),
            totals: RunTotals::default(),
            lengths: LogLengths::default(),
            provenance,
        }
    }
}

/// A place in the dataset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataCursor {
    /// Times the dataset was gone through.
    pub epoch: u64,
    /// Samples of this pass that were used.
    pub position: u64,
}

/// What a run adds up: what the next line of the log needs, and what its summary says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunTotals {
    /// Groups skipped because the naked rollout was right.
    pub skipped_groups: u64,
    /// Groups in which no advantage was positive.
    pub dead_groups: u64,
    /// Of the skipped groups, those since the last step.
    pub skipped_since_step: u64,
    /// Of the dead groups, those since the last step.
    pub dead_since_step: u64,
    /// Rollouts written.
    pub rollouts: u64,
    /// Tokens that the policy wrote.
    pub tokens_generated: u64,
    /// Tokens that carried a loss.
    pub tokens_trained: u64,
    /// Further sums by name.
    pub sums: BTreeMap<String, f64>,
}

/// Bytes of the logs when a checkpoint was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLengths {
    /// `metrics.jsonl`.
    pub metrics: u64,
    /// `rollouts.jsonl`.
    pub rollouts: u64,
    /// The TensorBoard file, where there is one.
    pub events: Option<EventFile>,
}

/// A TensorBoard file and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFile {
    /// Its name in the run's folder.
    pub name: String,
    /// Its bytes.
    pub length: u64,
}

#[cfg(test)]
mod tests;
