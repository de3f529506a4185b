//! Whole things into a folder or nothing: made under a hidden name, synced, renamed.

use std::fs::File;
use std::path::Path;

use lcr_documents::steps::step;
use serde::{Serialize, de::DeserializeOwned};

use super::StateError;
use super::checkpoint::{self, MANIFEST, Manifest};

/// Prefix of what is not finished.
pub(super) const WRITING: &str = lcr_documents::write::UNFINISHED;
/// Prefix of a checkpoint that is being replaced by one of the same step.
pub(super) const REPLACED: &str = ".replaced-";

/// A folder for unfinished things in `parent`, on the same file system; it removes itself.
pub(super) fn hidden(parent: &Path) -> Result<tempfile::TempDir, StateError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(WRITING);
    // A temporary folder is private by default; a checkpoint is as readable as any other folder that its owner makes.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(parent).map_err(StateError::write("make a folder in", parent))
}

/// Makes the checkpoint `target`: `fill` writes its files, the manifest is added, everything synced and renamed into
/// place.
pub(super) fn publish(target: &Path, fill: impl FnOnce(&Path) -> Result<(), StateError>) -> Result<(), StateError> {
    let parent = target.parent().unwrap_or(Path::new("."));
    let stage = hidden(parent)?;
    fill(stage.path())?;
    let manifest = serde_json::to_vec_pretty(&Manifest::of(stage.path())?).map_err(StateError::Serialize)?;
    write_file(&stage.path().join(MANIFEST), &manifest)?;
    sync_contents(stage.path())?;
    if target.exists() {
        replace(stage.path(), target, parent)?;
    } else {
        std::fs::rename(stage.path(), target).map_err(StateError::write("write", target))?;
    }
    sync_folder(parent)?;
    step();
    Ok(())
}

/// Puts `stage` where `target` is. What is there is either equal and stays, or is moved aside under a name from which
/// the next run brings it back, should this one be killed in between.
fn replace(stage: &Path, target: &Path, parent: &Path) -> Result<(), StateError> {
    if checkpoint::fault(target).is_none() && checkpoint::equal(stage, target) {
        return Ok(());
    }
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let aside = parent.join(format!("{REPLACED}{name}"));
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(StateError::write("remove", &aside))?;
    }
    std::fs::rename(target, &aside).map_err(StateError::write("move aside", target))?;
    step();
    if let Err(source) = std::fs::rename(stage, target) {
        // A second failure leaves it under its hidden name, from which the next run brings it back.
        let _ = std::fs::rename(&aside, target);
        return Err(StateError::Write { action: "write", path: target.to_path_buf(), source });
    }
    std::fs::remove_dir_all(&aside).map_err(StateError::write("remove", &aside))
}

/// Writes a file aside, flushes it and renames it.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    lcr_documents::write::replace(path, bytes).map_err(StateError::write("write", path))
}

/// Waits until every file of a folder, and the folder, is on the disk.
fn sync_contents(folder: &Path) -> Result<(), StateError> {
    for entry in std::fs::read_dir(folder).map_err(StateError::read(folder))? {
        let path = entry.map_err(StateError::read(folder))?.path();
        // Some systems sync only what is open for writing.
        let sync = || File::options().write(true).open(&path)?.sync_all();
        sync().map_err(StateError::write("sync", &path))?;
    }
    sync_folder(folder)
}

/// Waits until the names in a folder are on the disk, where the system can say so.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StateError> {
    if cfg!(unix) {
        let sync = || File::open(folder)?.sync_all();
        sync().map_err(StateError::write("sync", folder))?;
    }
    Ok(())
}

/// Pretty JSON that is known to read back equal; NaN would come back as nothing at all.
pub(super) fn to_json<T>(what: &'static str, value: &T) -> Result<Vec<u8>, StateError>
where
    T: Serialize + DeserializeOwned + PartialEq,
{
    let mut text = serde_json::to_vec_pretty(value).map_err(StateError::Serialize)?;
    match serde_json::from_slice::<T>(&text) {
        Ok(read) if read == *value => {
            text.push(b'\n');
            Ok(text)
        }
        _ => Err(StateError::NotFinite { what }),
    }
}
