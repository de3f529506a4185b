//! The files of a folder: walked without following links out of it, told apart, digested.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive;
use crate::check::{Check, Observation};
use crate::digest;
use crate::limits::Limits;

/// Bytes looked at to tell a file's kind.
const PREFIX_BYTES: u64 = 4096;

/// One file of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// Path relative to the scanned folder, parts joined by `/`.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the content, hexadecimal; empty where the file was not read.
    pub sha256: String,
}

/// A file that can be read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: FileRecord,
    pub(crate) path: PathBuf,
    /// Its first bytes.
    pub(crate) prefix: Vec<u8>,
    /// Whether an archive's directory stands at its end, though it begins like something else.
    pub(crate) ends_like_archive: bool,
    /// What it has in common with other names of the same content, where it has others.
    pub(crate) shared: Option<usize>,
}

/// What two names of one file have in common: the device and the number that it has there.
type Identity = (u64, u64);

/// A file that was met and not yet read.
struct Met {
    bytes: u64,
    identity: Option<Identity>,
}

/// A walk in progress.
struct Walk<'a> {
    root: PathBuf,
    limits: &'a Limits,
    entries: usize,
    /// By name and path: names that are not UTF-8 may look alike.
    files: BTreeMap<(String, PathBuf), Met>,
    contents: BTreeSet<Identity>,
    links: usize,
    bytes: u64,
    found: &'a mut Vec<Observation>,
}

/// Every regular file under `root`, in the order of names, with its digest.
///
/// `root` may be a file, which then is the only one. Folders for which `skip` holds (relative path) are not entered.
pub(crate) fn walk(
    root: &Path,
    limits: &Limits,
    skip: &dyn Fn(&str) -> bool,
    found: &mut Vec<Observation>,
) -> Vec<Found> {
    let canonical = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let (files, contents) = (BTreeMap::new(), BTreeSet::new());
    let mut walk = Walk { root: canonical, limits, entries: 0, files, contents, links: 0, bytes: 0, found };
    if root.is_dir() {
        walk.folder(root, "", 0, skip);
    } else {
        let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
        walk.entry(root, &name, 0, skip);
    }
    let files = walk.files;
    let (readable, unreadable): (Vec<_>, Vec<_>) = read_each_once(files, limits).into_iter().partition(Result::is_ok);
    found.extend(unreadable.into_iter().filter_map(Result::err));
    readable.into_iter().filter_map(Result::ok).collect()
}

/// Reads every content once, however many names it has, and gives it to each of them, in the order of names.
fn read_each_once(files: BTreeMap<(String, PathBuf), Met>, limits: &Limits) -> Vec<Result<Found, Observation>> {
    let mut numbers: HashMap<Identity, usize> = HashMap::new();
    let mut contents: Vec<Vec<(String, PathBuf)>> = Vec::new();
    let mut lengths = Vec::new();
    let mut order = Vec::with_capacity(files.len());
    for (name, met) in files {
        let fresh = contents.len();
        let content = met.identity.map_or(fresh, |identity| *numbers.entry(identity).or_insert(fresh));
        if content == fresh {
            contents.push(Vec::new());
            lengths.push(met.bytes);
        }
        order.push((name.clone(), content));
        contents[content].push(name);
    }
    let read = contents.into_par_iter().zip(lengths).enumerate().map(|(content, (names, bytes))| {
        let (name, path) = names.first().cloned().unwrap_or_default();
        let first = read(name, path, bytes, limits);
        let shared = (names.len() > 1).then_some(content);
        names.into_iter().map(move |(name, path)| again(&first, name, path, shared)).collect()
    });
    let read: Vec<Vec<Result<Found, Observation>>> = read.collect();
    // Names of a content are in order, and so is each of its turns.
    let mut turns: Vec<_> = read.into_iter().map(Vec::into_iter).collect();
    order.into_iter().filter_map(|(_, content)| turns.get_mut(content)?.next()).collect()
}

/// What reading the content under another name would give.
fn again(
    first: &Result<Found, Observation>,
    name: String,
    path: PathBuf,
    shared: Option<usize>,
) -> Result<Found, Observation> {
    match first {
        Ok(first) => Ok(Found {
            record: FileRecord { path: name, ..first.record.clone() },
            path,
            prefix: first.prefix.clone(),
            ends_like_archive: first.ends_like_archive,
            shared,
        }),
        Err(observation) => Err(Observation { file: name, ..observation.clone() }),
    }
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize, skip: &dyn Fn(&str) -> bool) {
        if depth > self.limits.depth {
            let message =
                format!("folders deeper than {} are not entered; nothing in this one was looked at", self.limits.depth);
            return self.found.push(Observation::new(Check::BeyondLimits, prefix, message));
        }
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                return self.found.push(Observation::new(
                    Check::Unreadable,
                    prefix,
                    format!("the folder cannot be listed: {error}"),
                ));
            }
        };
        let mut names: Vec<(String, PathBuf)> = Vec::new();
        for entry in entries {
            self.entries += 1;
            if self.entries > self.limits.entries {
                let message =
                    format!("more than {} files and folders; the rest was not looked at", self.limits.entries);
                return self.found.push(Observation::new(Check::BeyondLimits, prefix, message));
            }
            match entry {
                Ok(entry) => names.push((entry.file_name().to_string_lossy().into_owned(), entry.path())),
                Err(error) => self.found.push(Observation::new(
                    Check::Unreadable,
                    prefix,
                    format!("the folder cannot be listed to its end: {error}"),
                )),
            }
        }
        names.sort();
        for (name, path) in names {
            let relative = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            self.entry(&path, &relative, depth, skip);
        }
    }

    fn entry(&mut self, path: &Path, name: &str, depth: usize, skip: &dyn Fn(&str) -> bool) {
        if name.chars().any(is_deceptive) || path.to_str().is_none() {
            let shown = crate::json::shown(name);
            self.found.push(Observation::new(
                Check::DeceptiveName,
                &shown,
                "the name holds control, invisible or text-direction characters, or is not UTF-8: it reads otherwise than it is",
            ));
        }
        let metadata = match std::fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return self.unreadable(name, &error),
        };
        let metadata = if metadata.is_symlink() {
            match self.follow(path, name) {
                Some(metadata) => metadata,
                None => return,
            }
        } else {
            metadata
        };
        if metadata.is_dir() {
            // Git's own objects are no part of what a loader sees.
            let is_git = name == ".git" || name.ends_with("/.git");
            if !is_git && !skip(name) {
                self.folder(path, name, depth + 1, skip);
            }
        } else if metadata.is_file() {
            self.regular(path, name, &metadata);
        } else {
            let message =
                "a pipe, socket or device: a loader that opens it may wait for ever, or read what was never published";
            self.found.push(Observation::new(Check::SpecialFile, name, message));
        }
    }

    /// A file to read, as long as all of them together stay within the limits; one with several names counts once.
    fn regular(&mut self, path: &Path, name: &str, metadata: &Metadata) {
        let (bytes, identity) = (metadata.len(), identity(metadata));
        if identity.is_none_or(|identity| self.contents.insert(identity)) {
            self.bytes = self.bytes.saturating_add(bytes.min(self.limits.file_bytes));
        }
        if self.bytes > self.limits.total_bytes {
            let message = format!("more than {} bytes in all files; this one was not read", self.limits.total_bytes);
            self.found.push(Observation::new(Check::BeyondLimits, name, message));
        } else {
            self.files.insert((name.to_owned(), path.to_path_buf()), Met { bytes, identity });
        }
    }

    /// What a link points to, if that lies inside the scanned folder and is no folder.
    fn follow(&mut self, path: &Path, name: &str) -> Option<Metadata> {
        self.links += 1;
        if self.links > self.limits.links {
            let message = format!("more than {} links; this one was not followed", self.limits.links);
            self.found.push(Observation::new(Check::BeyondLimits, name, message));
            return None;
        }
        let target =
            std::fs::read_link(path).map(|target| crate::json::shown(&target.to_string_lossy())).unwrap_or_default();
        let resolved = path.canonicalize();
        let inside = resolved.as_ref().is_ok_and(|resolved| resolved.starts_with(&self.root));
        let metadata = resolved.ok().and_then(|resolved| std::fs::metadata(resolved).ok());
        match metadata {
            Some(metadata) if inside && metadata.is_file() => return Some(metadata),
            // The folder itself is walked where it stands; entering it here again could go round in circles.
            Some(metadata) if inside && metadata.is_dir() => {}
            Some(_) => self.found.push(
                Observation::new(
                    Check::LinkOutside,
                    name,
                    format!("a link to `{target}`, outside the folder: what it loads is not what was published, and was not read"),
                )
                .at(target),
            ),
            None => self.found.push(
                Observation::new(Check::LinkOutside, name, format!("a link to `{target}`, which cannot be followed")).at(target),
            ),
        }
        None
    }

    fn unreadable(&mut self, name: &str, error: &std::io::Error) {
        self.found.push(Observation::new(Check::Unreadable, name, format!("cannot be read: {error}")));
    }
}

/// Control characters, and those that turn or hide text.
pub(crate) fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// By what a file is known under all its names; none where the system does not say.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems do not say")]
fn identity(metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<Identity> {
    None
}

/// Digests a file and keeps its first bytes.
pub(crate) fn read(name: String, path: PathBuf, bytes: u64, limits: &Limits) -> Result<Found, Observation> {
    if bytes > limits.file_bytes {
        let message = format!("{bytes} bytes, more than the limit of {}; the file was not read", limits.file_bytes);
        return Err(Observation::new(Check::BeyondLimits, &name, message).measured(bytes as f64));
    }
    let mut prefix = Vec::new();
    let mut look = || {
        let mut file = File::open(&path)?;
        file.by_ref().take(PREFIX_BYTES).read_to_end(&mut prefix)?;
        let sha256 = digest::of_file(&mut file, limits.file_bytes)?;
        let ends_like_archive = archive::ends_like_one(&mut file)?;
        Ok((sha256, ends_like_archive))
    };
    match look() {
        Ok((sha256, ends_like_archive)) => {
            let record = FileRecord { path: name, bytes, sha256 };
            Ok(Found { record, path, prefix, ends_like_archive, shared: None })
        }
        Err(error) => {
            let error: std::io::Error = error;
            Err(Observation::new(Check::Unreadable, &name, format!("cannot be read: {error}")))
        }
    }
}

/// Reads at most `limit` bytes of a file.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
