//! Why a run's state could not be kept or taken up.

use std::path::{Path, PathBuf};

use super::UnhealthyAdapter;
use crate::log::LogError;
use crate::step::optimizer::OptimizerError;

/// Why a run's state could not be kept or taken up.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Something could not be written.
    #[error("cannot {action} {}: {source}. Earlier checkpoints are as they were", path.display())]
    Write {
        /// What was tried.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A JSON file is not what it should be.
    #[error("{} is not valid: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value could not become JSON.
    #[error("the run's state cannot be written as JSON: {0}")]
    Serialize(#[source] serde_json::Error),
    /// A number of the state is NaN or infinite.
    #[error("{what} holds a number that is not finite, which JSON cannot carry")]
    NotFinite {
        /// What was to be written.
        what: &'static str,
    },
    /// `state.json` has another layout.
    #[error("{} has format {found}; this version reads format {expected}. Resume with the version \
        that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// [`super::STATE_FORMAT`].
        expected: u32,
    },
    /// The folder already holds a run.
    #[error("{} already holds a run (`{found}` is there). Add --resume to continue it, or choose \
        another folder", folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// What was found.
        found: &'static str,
    },
    /// The folder to resume holds no run.
    #[error("{} holds no run to resume: there is no folder `checkpoints`", folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process writes into the folder.
    #[error("{} is in use by {holder}. Wait for it to end, or choose another folder", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process, as far as it is known.
        holder: String,
    },
    /// The run depends on something that has changed.
    #[error(
        "{} cannot be resumed: {}. Put back what the run began with, or start a new run in another folder",
        checkpoint.display(), differences.join("; ")
    )]
    Changed {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// What has changed and how.
        differences: Vec<String>,
    },
    /// A checkpoint lacks one of its files.
    #[error("{} cannot be resumed: `{file}` is missing", checkpoint.display())]
    Missing {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// There are checkpoints, but none can be used.
    #[error("{} holds no complete checkpoint: {}", folder.display(), notes.join("; "))]
    NoneComplete {
        /// The run's folder.
        folder: PathBuf,
        /// What is wrong with each.
        notes: Vec<String>,
    },
    /// The adapter has diverged.
    #[error(transparent)]
    Unhealthy(#[from] UnhealthyAdapter),
    /// The adapter could not be written or read.
    #[error(transparent)]
    Adapter(#[from] lcr_formats::adapter::AdapterError),
    /// The optimizer's moments could not be written or read.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A log could not be cut back.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl StateError {
    pub(super) fn read(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Read { path: path.to_path_buf(), source }
    }

    pub(super) fn write(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Write { action, path: path.to_path_buf(), source }
    }
}
