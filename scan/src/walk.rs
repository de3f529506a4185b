//! A folder walked without following links out of it, every file in it digested.
//!
//! What is met and not read is kept as well: an observation says why, and name, size and link target go into the
//! folder's digest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::cache;
use crate::check::{Check, Observation};
use crate::files::{FileRecord, Found, Unread, is_deceptive_name, read};
use crate::git;
use crate::json::shown;
use crate::limits::Limits;

/// What a device and a number on it say of a file: two names with one of them are one file.
type Identity = (u64, u64);
/// A file, or why there is none and what is known of it.
type Reading = Result<Found, Box<(Observation, Unread)>>;

/// A folder, walked.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// What was read, in the order of names.
    pub(crate) files: Vec<Found>,
    /// What was not.
    pub(crate) unread: Vec<Unread>,
}

impl Walked {
    /// The records of both, in the order of names.
    pub(crate) fn records(&self) -> Vec<FileRecord> {
        let read = self.files.iter().map(|file| file.record.clone());
        let mut records: Vec<FileRecord> = read.chain(self.unread.iter().map(Unread::record)).collect();
        records.sort_by(|left, right| left.path.cmp(&right.path));
        records
    }
}

/// A file that was met and not yet read.
struct Met {
    bytes: u64,
    identity: Option<Identity>,
    /// The blob of a download cache that it links to.
    blob: Option<PathBuf>,
}

/// A walk in progress.
struct Walk<'a> {
    /// The folder itself, without links in its path.
    root: PathBuf,
    /// Blobs that links may lead to, where the folder is a snapshot in a download cache.
    blobs: Option<PathBuf>,
    limits: &'a Limits,
    entries: usize,
    /// By name and path: names that are not UTF-8 may look alike.
    files: BTreeMap<(String, PathBuf), Met>,
    unread: Vec<Unread>,
    contents: BTreeSet<Identity>,
    links: usize,
    bytes: u64,
    found: &'a mut Vec<Observation>,
}

/// Every file under `root`, with its digest, and what cannot be read.
///
/// `root` may be a file, which then is the only one. Folders for which `skip` holds (relative path) are not entered.
pub(crate) fn walk(root: &Path, limits: &Limits, skip: &dyn Fn(&str) -> bool, found: &mut Vec<Observation>) -> Walked {
    let is_folder = root.is_dir();
    // A link that is given as a file may lead to what stands beside it.
    let folder = if is_folder { Some(root) } else { root.parent().map(current) };
    let canonical = folder.and_then(|folder| folder.canonicalize().ok()).unwrap_or_else(|| root.to_path_buf());
    let mut walk = Walk {
        blobs: cache::blobs_of(&canonical),
        root: canonical,
        limits,
        entries: 0,
        files: BTreeMap::new(),
        unread: Vec::new(),
        contents: BTreeSet::new(),
        links: 0,
        bytes: 0,
        found,
    };
    if is_folder {
        walk.folder(root, "", 0, skip);
    } else {
        let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
        walk.entry(root, &name, 0, skip);
    }
    let (files, mut unread) = (walk.files, walk.unread);
    let mut readable = Vec::new();
    for read in read_each_once(files, limits, found) {
        match read {
            Ok(file) => readable.push(file),
            Err(left) => {
                let (observation, file) = *left;
                found.push(observation);
                unread.push(file);
            }
        }
    }
    unread.sort();
    Walked { files: readable, unread }
}

/// A folder's path that may be empty, which is the working directory.
pub(crate) fn current(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// What a pipe, socket or device is called.
pub(crate) fn special_kind(metadata: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "pipe";
        }
        if kind.is_socket() {
            return "socket";
        }
    }
    let _ = metadata;
    "device"
}

/// What is said of a pipe, socket or device.
pub(crate) const SPECIAL: &str =
    "a pipe, socket or device: a loader that opens it may wait for ever, or read what was never published";

/// Reads every content once, however many names it has, and gives it to each of them, in the order of names.
fn read_each_once(
    files: BTreeMap<(String, PathBuf), Met>,
    limits: &Limits,
    found: &mut Vec<Observation>,
) -> Vec<Reading> {
    let mut numbers: HashMap<Identity, usize> = HashMap::new();
    let mut contents: Vec<Vec<(String, PathBuf)>> = Vec::new();
    let mut lengths = Vec::new();
    let mut blobs = Vec::new();
    let mut order = Vec::with_capacity(files.len());
    for (name, met) in files {
        let fresh = contents.len();
        let content = met.identity.map_or(fresh, |identity| *numbers.entry(identity).or_insert(fresh));
        if content == fresh {
            contents.push(Vec::new());
            lengths.push(met.bytes);
        }
        order.push(content);
        blobs.push(met.blob);
        if let Some(names) = contents.get_mut(content) {
            names.push(name);
        }
    }
    let read = contents.into_par_iter().zip(lengths).enumerate().map(|(content, (names, bytes))| {
        let (name, path) = names.first().cloned().unwrap_or_default();
        let first = read(name, path, bytes, limits);
        let shared = (names.len() > 1).then_some(content);
        names.into_iter().map(move |(name, path)| again(&first, name, path, bytes, shared)).collect()
    });
    let read: Vec<Vec<Reading>> = read.collect();
    // Names of a content are in order, and so is each of its turns.
    let mut turns: Vec<_> = read.into_iter().map(Vec::into_iter).collect();
    let in_order = order.into_iter().filter_map(|content| turns.get_mut(content)?.next());
    let in_order: Vec<Reading> = in_order.collect();
    let named = in_order.iter().zip(&blobs).filter_map(|(file, blob)| Some((file.as_ref().ok()?, blob.as_ref()?)));
    found.extend(named.filter_map(|(file, blob)| mismatch(&file.record, blob)));
    in_order
}

/// A blob that does not hold what it is named after.
fn mismatch(record: &FileRecord, blob: &Path) -> Option<Observation> {
    let named = cache::named_digest(blob).filter(|named| *named != record.sha256)?;
    let message = format!(
        "the cache's blob is named by the digest {named}, its content has {}: it was changed after the download",
        record.sha256
    );
    Some(Observation::new(Check::CacheMismatch, &record.path, message))
}

/// What reading the content under another name would give.
fn again(
    first: &Result<Found, Observation>,
    name: String,
    path: PathBuf,
    bytes: u64,
    shared: Option<usize>,
) -> Reading {
    match first {
        Ok(first) => Ok(Found {
            record: FileRecord { path: name, ..first.record.clone() },
            path,
            prefix: first.prefix.clone(),
            ends_like_archive: first.ends_like_archive,
            shared,
        }),
        Err(observation) => {
            let unread = Unread::new(&name, "file", bytes);
            Err(Box::new((Observation { file: name, ..observation.clone() }, unread)))
        }
    }
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize, skip: &dyn Fn(&str) -> bool) {
        if depth > self.limits.depth {
            let message =
                format!("folders deeper than {} are not entered; nothing in this one was looked at", self.limits.depth);
            return self.left_out(Check::BeyondLimits, Unread::new(prefix, "folder", 0), message);
        }
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                let message = format!("the folder cannot be listed: {error}");
                return self.left_out(Check::Unreadable, Unread::new(prefix, "folder", 0), message);
            }
        };
        let mut names: Vec<(String, PathBuf)> = Vec::new();
        for entry in entries {
            self.entries += 1;
            if self.entries > self.limits.entries {
                let message =
                    format!("more than {} files and folders; the rest was not looked at", self.limits.entries);
                return self.left_out(Check::BeyondLimits, Unread::new(prefix, "folder", 0), message);
            }
            match entry {
                Ok(entry) => names.push((entry.file_name().to_string_lossy().into_owned(), entry.path())),
                Err(error) => {
                    let message = format!("the folder cannot be listed to its end: {error}");
                    self.left_out(Check::Unreadable, Unread::new(prefix, "folder", 0), message);
                }
            }
        }
        names.sort();
        if git::is_folder(folder) {
            names.retain(|(_, path)| !git::is_own(path));
        }
        for (name, path) in names {
            let relative = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            self.entry(&path, &relative, depth, skip);
        }
    }

    fn entry(&mut self, path: &Path, name: &str, depth: usize, skip: &dyn Fn(&str) -> bool) {
        if path.file_name().is_some_and(|name| is_deceptive_name(Path::new(name))) {
            self.found.push(Observation::new(
                Check::DeceptiveName,
                &shown(name),
                "the name holds control, invisible or text-direction characters, or is not UTF-8: it reads otherwise \
                 than it is",
            ));
        }
        let metadata = match std::fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                let message = format!("cannot be read: {error}");
                return self.left_out(Check::Unreadable, Unread::new(name, "file", 0), message);
            }
        };
        if metadata.is_symlink() {
            self.link(path, name);
        } else if metadata.is_dir() {
            if git::is_folder(path) {
                self.found.push(Observation::new(Check::GitFolder, name, git::SEEN));
            }
            if !skip(name) {
                self.folder(path, name, depth + 1, skip);
            }
        } else if metadata.is_file() {
            self.regular(path, name, &metadata, None);
        } else {
            self.left_out(Check::SpecialFile, Unread::new(name, special_kind(&metadata), 0), SPECIAL);
        }
    }

    /// A file to read, as long as all of them together stay within the limits; one with several names counts once.
    fn regular(&mut self, path: &Path, name: &str, metadata: &Metadata, blob: Option<PathBuf>) {
        let (bytes, identity) = (metadata.len(), identity(metadata));
        if identity.is_none_or(|identity| self.contents.insert(identity)) {
            self.bytes = self.bytes.saturating_add(bytes.min(self.limits.file_bytes));
        }
        if self.bytes > self.limits.total_bytes {
            let message = format!("more than {} bytes in all files; this one was not read", self.limits.total_bytes);
            self.left_out(Check::BeyondLimits, Unread::new(name, "file", bytes), message);
        } else {
            self.files.insert((name.to_owned(), path.to_path_buf()), Met { bytes, identity, blob });
        }
    }

    /// Follows a link to a file inside the folder, or to a blob of the cache that the folder belongs to.
    fn link(&mut self, path: &Path, name: &str) {
        let target = std::fs::read_link(path).map(|target| shown(&target.to_string_lossy())).unwrap_or_default();
        let resolved = path.canonicalize().ok();
        let metadata = resolved.as_ref().and_then(|resolved| std::fs::metadata(resolved).ok());
        let (Some(resolved), Some(metadata)) = (resolved, metadata) else {
            let message = format!("a link to `{target}`, which cannot be followed");
            return self.left_link(Check::LinkOutside, path, name, &target, message);
        };
        if metadata.is_file() && self.blobs.as_ref().is_some_and(|blobs| cache::is_blob(&resolved, blobs)) {
            return self.regular(path, name, &metadata, Some(resolved));
        }
        if !resolved.starts_with(&self.root) {
            let message = format!(
                "a link to `{target}`, outside the folder: what it loads is not what was published, and was not read"
            );
            return self.left_link(Check::LinkOutside, path, name, &target, message);
        }
        self.links += 1;
        if self.links > self.limits.links {
            let message = format!("more than {} links; this one was not followed", self.limits.links);
            return self.left_link(Check::BeyondLimits, path, name, &target, message);
        }
        if metadata.is_file() {
            self.regular(path, name, &metadata, None);
        } else if !metadata.is_dir() {
            self.left_link(Check::SpecialFile, path, name, &target, format!("a link to `{target}`: {SPECIAL}"));
        } else if git::leads_into(&resolved, &self.root) {
            let message = format!("a link to `{target}`, which leads into Git's own folder; that is not entered");
            self.left_link(Check::LinkOutside, path, name, &target, message);
        } else {
            // The folder itself is walked where it stands; entering it here again could go round in circles.
            self.unread.push(Unread::link(name, path));
        }
    }

    fn left_link(&mut self, check: Check, path: &Path, name: &str, target: &str, message: String) {
        self.found.push(Observation::new(check, name, message).at(target));
        self.unread.push(Unread::link(name, path));
    }

    fn left_out(&mut self, check: Check, unread: Unread, message: impl Into<String>) {
        self.found.push(Observation::new(check, &unread.path, message));
        self.unread.push(unread);
    }
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
