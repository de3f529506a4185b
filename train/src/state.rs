//! Keeps a run: its folder, its checkpoints, and the way back into it.
//!
//! The one idea: a run is a pure function of its config, seed, base and data, so a checkpoint needs no random state. It
//! holds the adapter, the optimizer's moments, and a [`TrainerState`] that says how far the run was and how long each
//! log was then. A resume checks that nothing the run depends on has changed, cuts the logs back to those lengths, and
//! goes on as if nothing had happened. A checkpoint is written aside, synced and renamed, so a kill or a full disk at
//! any moment costs at most what was done since the last one.
//!
//! ```text
//! OUT/
//!   adapter_model.safetensors, adapter_config.json    the trained adapter
//!   run.json, metrics.jsonl, rollouts.jsonl, events.out.tfevents.*
//!   checkpoints/step_000123/                          adapter, optimizer.safetensors, state.json, manifest.json
//!   .lock                                             who is writing here
//! ```

use serde::{Deserialize, Serialize};

use crate::lcr::Progress;

mod checkpoint;
mod digest;
mod error;
mod folder;
mod health;
mod interrupt;
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
    /// How far: all that the next step depends on, beside adapter and moments.
    pub progress: Progress,
    /// Lengths of the logs at that moment.
    pub lengths: LogLengths,
    /// What the run depends on.
    pub provenance: Provenance,
}

impl TrainerState {
    /// The state of a run that has come this far.
    pub fn new(progress: Progress, lengths: LogLengths, provenance: Provenance) -> Self {
        Self { format: STATE_FORMAT, progress, lengths, provenance }
    }
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
