//! The folder of a run: who may write in it, and how whole things get into it.
//!
//! A checkpoint is made in a hidden folder beside its place, every file and the folder synced, and then renamed. What a
//! killed run left half-made is hidden by its name and removed by the next run that takes the folder.

use std::path::{Path, PathBuf};

use lcr_documents::lock::{Attempt, Lock};
use lcr_documents::steps::step;
use lcr_formats::adapter::Adapter;
use serde::{Serialize, de::DeserializeOwned};

use super::checkpoint::{self, Checkpoint, MANIFEST, Newest, OPTIMIZER, STATE};
use super::publish::{REPLACED, WRITING, hidden, publish, sync_folder, to_json, write_file};
use super::{StateError, TrainerState, check_adapter};
use crate::step::optimizer::AdamW;

/// Folder of the checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// What shows that a folder holds a run.
const TRACES: [&str; 4] = ["run.json", "metrics.jsonl", "rollouts.jsonl", CHECKPOINTS];
/// An adapter's files, in the order in which they are put into place.
const ADAPTER_FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_config.json"];

/// Takes a folder for this process.
fn lock(folder: &Path) -> Result<Lock, StateError> {
    match Lock::acquire(folder).map_err(StateError::write("lock", folder))? {
        Attempt::Held(lock) => Ok(lock),
        Attempt::Taken(process) => {
            let holder = process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"));
            Err(StateError::Locked { folder: folder.to_path_buf(), holder })
        }
    }
}

/// The folder of a run, locked as long as this lives.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    notes: Vec<String>,
    _lock: Lock,
}

impl RunFolder {
    /// Takes a folder for a new run; it is made where it is missing and refused where a run is in it.
    pub fn create(path: &Path) -> Result<Self, StateError> {
        std::fs::create_dir_all(path).map_err(StateError::write("make", path))?;
        let lock = lock(path)?;
        if let Some(found) = TRACES.into_iter().find(|name| path.join(name).exists()) {
            return Err(StateError::Occupied { folder: path.to_path_buf(), found });
        }
        let checkpoints = path.join(CHECKPOINTS);
        std::fs::create_dir(&checkpoints).map_err(StateError::write("make", &checkpoints))?;
        Ok(Self { path: path.to_path_buf(), notes: Vec::new(), _lock: lock })
    }

    /// Takes the folder of an interrupted run and removes what it left unfinished.
    pub fn resume(path: &Path) -> Result<Self, StateError> {
        if !path.join(CHECKPOINTS).is_dir() {
            return Err(StateError::NoRun { folder: path.to_path_buf() });
        }
        let lock = lock(path)?;
        let stale = lock.stale.map(|process| format!("process {process}, which wrote here before, was killed"));
        let mut folder = Self { path: path.to_path_buf(), notes: stale.into_iter().collect(), _lock: lock };
        folder.tidy(&folder.path.join(CHECKPOINTS))?;
        folder.tidy(&folder.path.clone())?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was found and done when the folder was taken.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Removes unfinished things from `place`; a checkpoint moved aside whose successor never came is moved back.
    fn tidy(&mut self, place: &Path) -> Result<(), StateError> {
        for entry in std::fs::read_dir(place).map_err(StateError::read(place))? {
            let entry = entry.map_err(StateError::read(place))?;
            let (name, path) = (entry.file_name(), entry.path());
            let Some(name) = name.to_str() else { continue };
            if let Some(original) = name.strip_prefix(REPLACED) {
                let original = place.join(original);
                if !original.exists() {
                    std::fs::rename(&path, &original).map_err(StateError::write("move back", &path))?;
                    self.notes.push(format!("{} was being replaced and is kept", original.display()));
                    continue;
                }
            } else if !name.starts_with(WRITING) {
                continue;
            }
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(StateError::write("remove", &path))?;
            self.notes.push(format!("removed {}, which was left unfinished", path.display()));
        }
        Ok(())
    }

    /// Writes the checkpoint of `state.progress.step` and returns its folder. The adapter is checked first
    /// ([`check_adapter`]); when anything fails, all earlier checkpoints are as they were.
    ///
    /// Sync the logs before taking their lengths for `state`: a checkpoint must not outlive lines that it counts.
    pub fn write_checkpoint(
        &self,
        state: &TrainerState,
        adapter: &Adapter,
        optimizer: &AdamW,
    ) -> Result<PathBuf, StateError> {
        check_adapter(adapter)?;
        let target = self.path.join(CHECKPOINTS).join(checkpoint::folder_name(state.progress.step));
        let state = to_json(STATE, state)?;
        publish(&target, |stage| {
            adapter.save_peft(stage)?;
            optimizer.save(&stage.join(OPTIMIZER))?;
            write_file(&stage.join(STATE), &state)
        })?;
        Ok(target)
    }

    /// The newest complete checkpoint. Incomplete ones are passed over; when there are no others, or when the newest
    /// lacks its optimizer, that is an error and not a start from zero.
    pub fn newest(&self) -> Result<Newest, StateError> {
        let mut notes = Vec::new();
        for (_, folder) in checkpoint::list(&self.path.join(CHECKPOINTS))? {
            if folder.join(MANIFEST).exists() && folder.join(STATE).exists() && !folder.join(OPTIMIZER).exists() {
                return Err(StateError::Missing { checkpoint: folder, file: OPTIMIZER });
            }
            match checkpoint::fault(&folder) {
                None => return Ok(Newest { checkpoint: Some(Checkpoint::open(&folder)?), notes }),
                Some(fault) => notes.push(format!("{} is not complete and was passed over: {fault}", folder.display())),
            }
        }
        if notes.is_empty() {
            Ok(Newest { checkpoint: None, notes })
        } else {
            Err(StateError::NoneComplete { folder: self.path.clone(), notes })
        }
    }

    /// Removes all but the newest `keep` complete checkpoints (at least one stays), and incomplete ones older than the
    /// newest complete. Returns what was removed.
    pub fn prune(&self, keep: usize) -> Result<Vec<PathBuf>, StateError> {
        let mut complete = 0;
        let mut removed = Vec::new();
        for (_, folder) in checkpoint::list(&self.path.join(CHECKPOINTS))? {
            let superfluous = complete >= keep.max(1);
            if !superfluous && checkpoint::fault(&folder).is_none() {
                complete += 1;
            } else if complete > 0 {
                std::fs::remove_dir_all(&folder).map_err(StateError::write("remove", &folder))?;
                removed.push(folder);
            }
        }
        Ok(removed)
    }

    /// Puts the trained adapter into the run's folder itself, after the same check as for a checkpoint.
    pub fn publish_adapter(&self, adapter: &Adapter) -> Result<(), StateError> {
        check_adapter(adapter)?;
        let stage = hidden(&self.path)?;
        adapter.save_peft(stage.path())?;
        for name in ADAPTER_FILES {
            let target = self.path.join(name);
            std::fs::rename(stage.path().join(name), &target).map_err(StateError::write("write", &target))?;
            step();
        }
        sync_folder(&self.path)
    }

    /// Writes a JSON file such as `run.json` into the folder, aside and then renamed.
    pub fn write_json<T: Serialize + DeserializeOwned + PartialEq>(
        &self,
        name: &'static str,
        value: &T,
    ) -> Result<(), StateError> {
        write_file(&self.path.join(name), &to_json(name, value)?)
    }
}
