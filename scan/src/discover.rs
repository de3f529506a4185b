//! Which adapters stand under the paths that a user names.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::limits::Limits;

/// Files that make a folder an adapter's.
const CONFIG: &str = "adapter_config.json";
const TENSORS: [&str; 3] = ["adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors"];

/// Something to scan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Artifact {
    /// A folder that holds an adapter.
    Adapter(PathBuf),
    /// A single tensor or model file, outside any adapter's folder.
    File(PathBuf),
}

impl Artifact {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Adapter(path) | Self::File(path) => path,
        }
    }
}

/// Why nothing can be scanned.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// Nothing stands at the path.
    #[error("{path} does not exist. Give the folder of an adapter, a folder of such folders, or a file")]
    NotFound {
        /// What was given.
        path: PathBuf,
    },
    /// A folder cannot be listed.
    #[error("cannot list {path}: {source}. Check its permissions")]
    Unreadable {
        /// Folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More than the limits allow.
    #[error("{path} holds more than {limit} files and folders: give the folders of the adapters themselves")]
    TooMany {
        /// Folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Deeper than the limits allow.
    #[error("{path} lies more than {limit} folders deep: give the folders of the adapters themselves")]
    TooDeep {
        /// Folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// No adapter at all.
    #[error(
        "{path} holds no adapter: no folder in it has an adapter_config.json or adapter tensors, and there is no model file"
    )]
    Nothing {
        /// Folder.
        path: PathBuf,
    },
}

/// The adapters and stray model files under `paths`, each once, in the order of their paths.
///
/// A folder with an adapter in it is one artifact with all that lies below it, other adapters excepted, which are artifacts of
/// their own. A file that belongs to an adapter's folder stands for that folder. Programs and texts outside of adapters are
/// nobody's: a repository of adapters may hold its own source.
pub fn discover(paths: &[PathBuf], limits: &Limits) -> Result<Vec<Artifact>, DiscoverError> {
    let mut artifacts = BTreeSet::new();
    for path in paths {
        // `./a` and `a` are one adapter, for a policy's patterns and in a baseline.
        let path = &without_dots(path);
        if path.symlink_metadata().is_err() {
            return Err(DiscoverError::NotFound { path: path.clone() });
        }
        if !path.is_dir() {
            artifacts.insert(of_file(path));
            continue;
        }
        let before = artifacts.len();
        let mut entries = 0;
        search(path, 0, limits, &mut entries, &mut artifacts)?;
        if artifacts.len() == before && !artifacts.iter().any(|artifact| artifact.path().starts_with(path)) {
            return Err(DiscoverError::Nothing { path: path.clone() });
        }
    }
    Ok(artifacts.into_iter().collect())
}

/// A path without its `.` components.
fn without_dots(path: &Path) -> PathBuf {
    let plain: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain }
}

/// Whether a folder holds an adapter.
pub(crate) fn is_adapter_folder(folder: &Path) -> bool {
    let present = |name: &str| folder.join(name).symlink_metadata().is_ok();
    present(CONFIG) || TENSORS.iter().any(|name| present(name))
}

fn of_file(path: &Path) -> Artifact {
    let folder = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match folder {
        Some(folder) if is_adapter_folder(folder) => Artifact::Adapter(folder.to_path_buf()),
        _ => Artifact::File(path.to_path_buf()),
    }
}

fn search(
    folder: &Path,
    depth: usize,
    limits: &Limits,
    entries: &mut usize,
    artifacts: &mut BTreeSet<Artifact>,
) -> Result<(), DiscoverError> {
    let inside = is_adapter_folder(folder);
    if inside {
        artifacts.insert(Artifact::Adapter(folder.to_path_buf()));
    }
    if depth > limits.depth {
        // Below an adapter the scan itself says that it went no deeper.
        let known = below_an_adapter(folder, artifacts);
        let too_deep = DiscoverError::TooDeep { path: folder.to_path_buf(), limit: limits.depth };
        return if known { Ok(()) } else { Err(too_deep) };
    }
    let unreadable = |source| DiscoverError::Unreadable { path: folder.to_path_buf(), source };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        *entries += 1;
        // A registry of a thousand adapters has some ten thousand files.
        let limit = limits.entries * 100;
        if *entries > limit {
            return Err(DiscoverError::TooMany { path: folder.to_path_buf(), limit });
        }
        found.push(without_dots(&entry.map_err(unreadable)?.path()));
    }
    found.sort();
    for path in found {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if metadata.is_dir() && !is_hidden {
            search(&path, depth + 1, limits, entries, artifacts)?;
        } else if !inside && metadata.is_file() && is_model_file(&path) && !below_an_adapter(&path, artifacts) {
            artifacts.insert(Artifact::File(path));
        }
    }
    Ok(())
}

/// Files below an adapter's folder are scanned with it.
fn below_an_adapter(path: &Path, artifacts: &BTreeSet<Artifact>) -> bool {
    artifacts.iter().any(|artifact| matches!(artifact, Artifact::Adapter(folder) if path.starts_with(folder)))
}

pub(crate) fn is_model_file(path: &Path) -> bool {
    const MODEL_FILES: [&str; 12] =
        ["safetensors", "bin", "pt", "pth", "ckpt", "pkl", "pickle", "gguf", "onnx", "h5", "npz", "npy"];
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| MODEL_FILES.contains(&extension.as_str()))
}
