//! The cache of the hub's download tools, in which an adapter's files are links: recognised by its layout, so that they
//! can be read.
//!
//! ```text
//! models--org--name/blobs/<hash>                    the contents
//! models--org--name/snapshots/<revision>/…/<file>   links to ../../blobs/<hash>
//! ```
//!
//! A blob that was kept with large-file storage is named by its SHA-256, any other by Git's hash of it. Nothing else is
//! followed: no link to another repository's blobs, none through a second link.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How the folder of a repository begins.
const REPOSITORIES: [&str; 3] = ["models--", "datasets--", "spaces--"];
const BLOBS: &str = "blobs";
const SNAPSHOTS: &str = "snapshots";
/// Digits of a SHA-256, and of Git's hash.
const DIGITS: [usize; 2] = [64, 40];

/// Whether a folder is that of a cached repository.
pub(crate) fn is_repository(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let is_real_folder = |name: &str| folder.join(name).symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    REPOSITORIES.iter().any(|prefix| name.starts_with(prefix)) && is_real_folder(BLOBS) && is_real_folder(SNAPSHOTS)
}

/// The folder of the blobs that a folder's links may lead to: both are given without links in them. None where it is no
/// snapshot.
pub(crate) fn blobs_of(snapshot: &Path) -> Option<PathBuf> {
    let below = |folder: &&Path| folder.file_name().is_some_and(|name| name == SNAPSHOTS) && *folder != snapshot;
    let snapshots = snapshot.ancestors().find(below)?;
    let repository = snapshots.parent().filter(|folder| is_repository(folder))?;
    Some(repository.join(BLOBS))
}

/// Whether the target of a link, without links in it, is a blob of that folder.
pub(crate) fn is_blob(target: &Path, blobs: &Path) -> bool {
    let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    target.parent() == Some(blobs) && DIGITS.contains(&name.len()) && name.bytes().all(is_digit)
}

/// The SHA-256 that a blob is named by, where it is.
pub(crate) fn named_digest(blob: &Path) -> Option<&str> {
    blob.file_name()?.to_str().filter(|name| name.len() == DIGITS[0])
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The blobs that the snapshots of a repository link to: what they hold is looked at there. At most `most` links are
/// followed.
pub(crate) fn linked_blobs(repository: &Path, depth: usize, most: usize) -> HashSet<PathBuf> {
    let mut linked = HashSet::new();
    let Ok(canonical) = repository.canonicalize() else { return linked };
    let blobs = canonical.join(BLOBS);
    let mut folders = vec![(repository.join(SNAPSHOTS), 0)];
    let mut entries = 0;
    while let Some((folder, level)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            entries += 1;
            if entries > most {
                return linked;
            }
            let path = entry.path();
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() && level < depth {
                folders.push((path, level + 1));
            } else if metadata.is_symlink() && level > 0 {
                linked.extend(path.canonicalize().ok().filter(|target| is_blob(target, &blobs)));
            }
        }
    }
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn only_blobs_of_the_same_repository_are_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        let repository = root.join("models--a--b");
        let snapshot = repository.join("snapshots/0123");
        std::fs::create_dir_all(snapshot.join("sub")).expect("created");
        assert_eq!(blobs_of(&snapshot), None, "no blobs yet");
        std::fs::create_dir_all(repository.join("blobs")).expect("created");
        let blobs = repository.join("blobs");
        assert_eq!(blobs_of(&snapshot), Some(blobs.clone()));
        assert_eq!(blobs_of(&snapshot.join("sub")), Some(blobs.clone()));
        for other in [&root, &repository, &repository.join("snapshots"), &blobs] {
            assert_eq!(blobs_of(other), None, "{}", other.display());
        }
        assert!(is_blob(&blobs.join(SHA), &blobs));
        assert!(is_blob(&blobs.join(&SHA[..40]), &blobs));
        let elsewhere =
            [root.join("blobs").join(SHA), blobs.join("x").join(SHA), blobs.join("evil.py"), blobs.join(&SHA[..39])];
        for other in elsewhere {
            assert!(!is_blob(&other, &blobs), "{}", other.display());
        }
        assert_eq!(named_digest(&blobs.join(SHA)), Some(SHA));
        assert_eq!(named_digest(&blobs.join(&SHA[..40])), None);
    }
}
