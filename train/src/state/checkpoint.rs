//! One checkpoint: `checkpoints/step_000123/`.
//!
//! Its `manifest.json`, written last, has length and SHA-256 of every other file. A checkpoint is complete when all of
//! them are as the manifest says; anything else is passed over with a note, for a disk may lose what a rename has
//! already shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lcr_formats::adapter::Adapter;
use serde::{Deserialize, Serialize};

use super::{Provenance, STATE_FORMAT, StateError, TrainerState, digest_file};
use crate::step::optimizer::AdamW;

/// Lists the files of a checkpoint.
pub const MANIFEST: &str = "manifest.json";
/// Holds the [`TrainerState`].
pub const STATE: &str = "state.json";
/// Holds the optimizer's moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";

const STEP_PREFIX: &str = "step_";

/// Length and digest of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileEntry {
    bytes: u64,
    sha256: String,
}

/// `manifest.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// Describes the files in `folder` as they are.
    pub(super) fn of(folder: &Path) -> Result<Self, StateError> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(StateError::read(folder))? {
            let path = entry.map_err(StateError::read(folder))?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| *name != MANIFEST) {
                let (sha256, bytes) = digest_file(&path)?;
                files.insert(name.to_owned(), FileEntry { bytes, sha256 });
            }
        }
        Ok(Self { files })
    }

    fn read(folder: &Path) -> Result<Self, StateError> {
        read_json(&folder.join(MANIFEST))
    }

    /// What is wrong with the files in `folder`, if anything is.
    fn fault(&self, folder: &Path) -> Option<String> {
        self.files.iter().find_map(|(name, expected)| match digest_file(&folder.join(name)) {
            Ok((_, bytes)) if bytes != expected.bytes => {
                Some(format!("`{name}` has {bytes} bytes, the manifest says {}", expected.bytes))
            }
            Ok((sha256, _)) if sha256 != expected.sha256 => Some(format!("`{name}` is not what was written")),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        })
    }
}

/// What keeps a checkpoint from being used; nothing where it is complete.
pub(super) fn fault(folder: &Path) -> Option<String> {
    match Manifest::read(folder) {
        Ok(manifest) => manifest.fault(folder),
        Err(error) => Some(error.to_string()),
    }
}

/// Whether two checkpoints were written from the same numbers.
pub(super) fn equal(left: &Path, right: &Path) -> bool {
    matches!((Manifest::read(left), Manifest::read(right)), (Ok(left), Ok(right)) if left == right)
}

/// Name of the folder of a step.
pub(super) fn folder_name(step: u64) -> String {
    format!("{STEP_PREFIX}{step:06}")
}

/// Folders of steps below `checkpoints`, the latest first.
pub(super) fn list(checkpoints: &Path) -> Result<Vec<(u64, PathBuf)>, StateError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(checkpoints).map_err(StateError::read(checkpoints))? {
        let entry = entry.map_err(StateError::read(checkpoints))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix(STEP_PREFIX)).and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, entry.path()));
        }
    }
    found.sort_unstable_by(|left, right| right.cmp(left));
    Ok(found)
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    folder: PathBuf,
    state: TrainerState,
}

/// What [`super::RunFolder::newest`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// The newest complete checkpoint; none where the run ended before its first.
    pub checkpoint: Option<Checkpoint>,
    /// Checkpoints that were passed over, and why.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// Reads the state of a checkpoint; that it is complete is [`super::RunFolder::newest`]'s to say.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(STATE);
        // The format comes first: another format may have other fields.
        let format: FormatOnly = read_json(&path)?;
        if format.format != STATE_FORMAT {
            return Err(StateError::Format { path, found: format.format, expected: STATE_FORMAT });
        }
        Ok(Self { folder: folder.to_path_buf(), state: read_json(&path)? })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How far the run was.
    pub fn state(&self) -> &TrainerState {
        &self.state
    }

    /// Refuses to go on from here when anything that the run depends on has changed.
    pub fn check(&self, now: &Provenance) -> Result<(), StateError> {
        let differences = self.state.provenance.differences(now);
        if differences.is_empty() {
            Ok(())
        } else {
            Err(StateError::Changed { checkpoint: self.folder.clone(), differences })
        }
    }

    /// The adapter as it was.
    pub fn adapter(&self) -> Result<Adapter, StateError> {
        Ok(Adapter::open(&self.folder)?)
    }

    /// Gives an optimizer of the same tensors its moments back.
    pub fn restore_optimizer(&self, optimizer: &mut AdamW) -> Result<(), StateError> {
        let path = self.folder.join(OPTIMIZER);
        if !path.exists() {
            return Err(StateError::Missing { checkpoint: self.folder.clone(), file: OPTIMIZER });
        }
        Ok(optimizer.restore(&path)?)
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

pub(super) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, StateError> {
    let bytes = std::fs::read(path).map_err(StateError::read(path))?;
    serde_json::from_slice(&bytes).map_err(|source| StateError::Parse { path: path.to_path_buf(), source })
}
