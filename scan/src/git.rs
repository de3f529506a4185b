//! Git's own folder in a checkout: its objects are no part of what a loader sees, and are left alone. What Git does not
//! keep there is looked at like anything else.

use std::path::{Component, Path};

use crate::likeness::is_named_model;

/// What is said of it.
pub(crate) const SEEN: &str =
    "Git's own folder: what Git keeps there was not looked at, for loaders do not look there either";
/// Folders that Git and its extensions keep in it.
const FOLDERS: [&str; 14] = [
    "annex",
    "branches",
    "hooks",
    "info",
    "lfs",
    "logs",
    "modules",
    "objects",
    "rebase-apply",
    "rebase-merge",
    "refs",
    "rr-cache",
    "sequencer",
    "worktrees",
];

/// Whether a folder is Git's own, by its name and by what Git itself looks for in it.
pub(crate) fn is_folder(path: &Path) -> bool {
    let is_real = |name: &str, is_folder: bool| {
        let metadata = path.join(name).symlink_metadata();
        metadata.is_ok_and(|metadata| if is_folder { metadata.is_dir() } else { metadata.is_file() })
    };
    path.file_name().is_some_and(|name| name == ".git")
        && path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
        && is_real("HEAD", false)
        && is_real("objects", true)
        && is_real("refs", true)
}

/// Whether something in that folder is what Git keeps there: its folders, and files that are not named like a model.
pub(crate) fn is_own(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => FOLDERS.contains(&name.as_ref()),
        Ok(metadata) if metadata.is_file() => !is_named_model(&name),
        _ => false,
    }
}

/// Whether a path, without links in it, leads to what Git keeps in its folder below `root`.
pub(crate) fn leads_into(path: &Path, root: &Path) -> bool {
    let Ok(below) = path.strip_prefix(root) else { return false };
    let mut folder = root.to_path_buf();
    for part in below.components() {
        if let Component::Normal(name) = part
            && is_folder(&folder)
            && is_own(&folder.join(name))
        {
            return true;
        }
        folder.push(part);
    }
    is_folder(&folder)
}
