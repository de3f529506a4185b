//! Which adapters stand under the paths that a user names, and what else there was not looked into.
//!
//! Everything is entered: hidden folders too, links never, for what they lead to is found where it stands. Of what
//! belongs to no adapter, files that a loader might take for a model are artifacts of their own, by name or by content;
//! what could not be entered is told by an artifact for the path itself. Nothing is passed over in silence but other
//! people's source and texts.

use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};

use crate::cache;
use crate::check::{Check, Observation};
use crate::files::Unread;
use crate::git;
use crate::json::shown;
use crate::kind::Kind;
use crate::likeness::{is_named_model, is_weights, looks_like_model};
use crate::limits::Limits;
use crate::walk::{SPECIAL, current, special_kind};

/// Files that make one folder per adapter's.
const CONFIG: &str = "adapter_config.json";
const TENSORS: [&str; 3] = ["adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors"];
/// The file that makes a folder with weights that of a whole model.
const MODEL_CONFIG: &str = "config.json";

/// Something to scan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Artifact {
    /// A folder that holds an adapter.
    Adapter(PathBuf),
    /// A folder that holds a whole model, in no adapter's folder.
    Model(PathBuf),
    /// A single tensor or model file, in neither.
    File(PathBuf),
    /// What else stands under a path that was given and was not entered.
    Around(Around),
}

/// A path that was given, with what under it was not entered and belongs to no other artifact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Around {
    pub(crate) folder: PathBuf,
    pub(crate) seen: Vec<Aside>,
}

/// One thing that was not entered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Aside {
    pub(crate) check: Check,
    pub(crate) unread: Unread,
    /// Where a link leads, fit to be shown.
    place: String,
    message: String,
}

impl Aside {
    pub(crate) fn observation(&self) -> Observation {
        Observation::new(self.check, &self.unread.path, self.message.clone()).at(self.place.clone())
    }
}

impl Artifact {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Adapter(path) | Self::Model(path) | Self::File(path) => path,
            Self::Around(around) => &around.folder,
        }
    }

    /// Whether an adapter is expected in it, which a comparison could run.
    pub fn is_adapter(&self) -> bool {
        matches!(self, Self::Adapter(_))
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
    /// No adapter at all.
    #[error(
        "{path} holds no adapter: no folder in it has an adapter_config.json or adapter tensors, and there is no model \
         file"
    )]
    Nothing {
        /// Folder.
        path: PathBuf,
    },
}

/// The adapters, whole models and stray model files under `paths`, each once, in the order of their paths.
///
/// A folder with an adapter in it is one artifact with all that lies below it, other adapters excepted, which are
/// artifacts of their own. A file that belongs to an adapter's folder stands for that folder and all adapters in it.
/// Programs and texts outside of adapters are nobody's: a repository of adapters may hold its own source.
pub fn discover(paths: &[PathBuf], limits: &Limits) -> Result<Vec<Artifact>, DiscoverError> {
    // `./a` and `a` are one adapter, for a policy's patterns and in a baseline.
    let paths: Vec<PathBuf> = paths.iter().map(|path| without_dots(path)).collect();
    let folder_of = |path: &PathBuf| if path.is_dir() { path.clone() } else { above(path) };
    let roots = paths.iter().filter_map(|path| folder_of(path).canonicalize().ok());
    let mut search = Search { limits, roots: roots.collect(), ..Search::new(limits) };
    for path in &paths {
        if path.symlink_metadata().is_err() {
            return Err(DiscoverError::NotFound { path: path.clone() });
        }
        if path.is_dir() {
            search.argument(path)?;
            let is_below = |known: &PathBuf| known.starts_with(path) || (path == Path::new(".") && known.is_relative());
            if !search.artifacts.keys().any(is_below) {
                return Err(DiscoverError::Nothing { path: path.clone() });
            }
        } else {
            search.file_argument(path)?;
        }
    }
    Ok(search.artifacts.into_values().collect())
}

/// A path without its `.` components.
fn without_dots(path: &Path) -> PathBuf {
    let plain: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain }
}

/// The folder that a file stands in.
fn above(path: &Path) -> PathBuf {
    current(path.parent().unwrap_or(Path::new(""))).to_path_buf()
}

fn is_present(folder: &Path, name: &str) -> bool {
    folder.join(name).symlink_metadata().is_ok()
}

/// Whether a folder holds an adapter.
pub(crate) fn is_adapter_folder(folder: &Path) -> bool {
    is_present(folder, CONFIG) || TENSORS.iter().any(|name| is_present(folder, name))
}

/// To what the folder that is being searched belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Artifact,
}

/// What a folder holds.
#[derive(Default)]
struct Listing {
    folders: Vec<PathBuf>,
    files: Vec<(PathBuf, Metadata)>,
    links: Vec<PathBuf>,
    special: Vec<(PathBuf, Metadata)>,
}

struct Search<'a> {
    limits: &'a Limits,
    /// Folders of all paths that were given, without links in them.
    roots: Vec<PathBuf>,
    artifacts: BTreeMap<PathBuf, Artifact>,
    /// Folders that were searched already, with all below them.
    searched: HashSet<PathBuf>,
    entries: usize,
    /// The path that is being searched, and what in it was not entered.
    argument: PathBuf,
    seen: Vec<Aside>,
    /// Blobs of a download cache that are looked at through the links to them.
    blobs: HashSet<PathBuf>,
}

impl<'a> Search<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            roots: Vec::new(),
            artifacts: BTreeMap::new(),
            searched: HashSet::new(),
            entries: 0,
            argument: PathBuf::new(),
            seen: Vec::new(),
            blobs: HashSet::new(),
        }
    }

    fn add(&mut self, artifact: Artifact) {
        self.artifacts.entry(artifact.path().to_path_buf()).or_insert(artifact);
    }

    /// Searches a folder that was given, unless it lies in one that was searched already.
    fn argument(&mut self, path: &Path) -> Result<(), DiscoverError> {
        let is_known = path.ancestors().any(|above| self.searched.contains(current(above)));
        if is_known {
            return Ok(());
        }
        self.entries = 0;
        path.clone_into(&mut self.argument);
        let before = self.artifacts.len();
        self.folder(path, 0, Owner::Nobody)?;
        self.searched.insert(path.to_path_buf());
        let seen = std::mem::take(&mut self.seen);
        // That there is a checkout makes no adapter of it.
        let is_worth_telling =
            self.artifacts.len() > before || seen.iter().any(|aside| aside.check != Check::GitFolder);
        if is_worth_telling && !seen.is_empty() {
            self.add(Artifact::Around(Around { folder: path.to_path_buf(), seen }));
        }
        Ok(())
    }

    /// A file that was given stands for the adapter or model that it belongs to.
    fn file_argument(&mut self, path: &Path) -> Result<(), DiscoverError> {
        let folder = above(path);
        let is_model = || {
            let metadata = std::fs::metadata(path).ok().filter(Metadata::is_file);
            is_present(&folder, MODEL_CONFIG)
                && metadata.is_some_and(|metadata| is_weights(path, &metadata, self.limits))
        };
        if is_adapter_folder(&folder) || is_model() {
            self.argument(&folder)
        } else {
            self.add(Artifact::File(path.to_path_buf()));
            Ok(())
        }
    }

    fn folder(&mut self, folder: &Path, depth: usize, owner: Owner) -> Result<(), DiscoverError> {
        let mut owner = owner;
        if is_adapter_folder(folder) {
            self.add(Artifact::Adapter(folder.to_path_buf()));
            owner = Owner::Artifact;
        }
        if depth > self.limits.depth {
            // Below an artifact the scan itself says that it went no deeper.
            let message =
                format!("folders deeper than {} are not entered; nothing in this one was looked at", self.limits.depth);
            self.aside(owner, Check::BeyondLimits, folder, "folder", message);
            return Ok(());
        }
        let listing = match self.list(folder)? {
            Ok(listing) => listing,
            Err(source) if depth == 0 => return Err(DiscoverError::Unreadable { path: folder.to_path_buf(), source }),
            Err(error) => {
                self.aside(owner, Check::Unreadable, folder, "folder", format!("the folder cannot be listed: {error}"));
                return Ok(());
            }
        };
        if owner == Owner::Nobody {
            owner = self.lone_files(folder, &listing);
        }
        for (path, metadata) in &listing.special {
            self.aside(owner, Check::SpecialFile, path, special_kind(metadata), SPECIAL);
        }
        if cache::is_repository(folder) {
            let most = self.limits.entries * 10;
            self.blobs.extend(cache::linked_blobs(folder, self.limits.depth, most));
        }
        for path in &listing.folders {
            if git::is_folder(path) {
                self.aside(owner, Check::GitFolder, path, "folder", git::SEEN);
            }
            self.folder(path, depth + 1, owner)?;
        }
        Ok(())
    }

    /// What stands in a folder, in the order of names; within it an error where it cannot be listed.
    fn list(&mut self, folder: &Path) -> Result<std::io::Result<Listing>, DiscoverError> {
        let mut found: Vec<PathBuf> = Vec::new();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return Ok(Err(error)),
        };
        for entry in entries {
            self.entries += 1;
            // A registry of a thousand adapters has some ten thousand files.
            let limit = self.limits.entries * 100;
            if self.entries > limit {
                return Err(DiscoverError::TooMany { path: folder.to_path_buf(), limit });
            }
            match entry {
                Ok(entry) => found.push(without_dots(&entry.path())),
                Err(error) => return Ok(Err(error)),
            }
        }
        found.sort();
        if git::is_folder(folder) {
            found.retain(|path| !git::is_own(path));
        }
        let mut listing = Listing::default();
        for path in found {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            match () {
                () if metadata.is_symlink() => listing.links.push(path),
                () if metadata.is_dir() => listing.folders.push(path),
                () if metadata.is_file() => listing.files.push((path, metadata)),
                () => listing.special.push((path, metadata)),
            }
        }
        Ok(Ok(listing))
    }

    /// Files of a folder that is no adapter's: they make it a model's, or those that may be models stand alone. Says
    /// whose it is.
    fn lone_files(&mut self, folder: &Path, listing: &Listing) -> Owner {
        let files = listing.files.iter().filter(|(path, _)| !self.is_linked_blob(path));
        let files = files.map(|(path, metadata)| (path.clone(), metadata.clone()));
        // In a download cache the files of a model are links.
        let blobs = listing.links.iter().filter_map(|path| Some((path.clone(), blob(path)?)));
        let mut candidates: Vec<(PathBuf, Metadata)> = files.chain(blobs).collect();
        candidates.retain(|(path, metadata)| looks_like_model(path, metadata, self.limits));
        let has_config = is_present(folder, MODEL_CONFIG);
        if has_config && candidates.iter().any(|(path, metadata)| is_weights(path, metadata, self.limits)) {
            self.add(Artifact::Model(folder.to_path_buf()));
            return Owner::Artifact;
        }
        candidates.into_iter().for_each(|(path, _)| self.add(Artifact::File(path)));
        listing.links.iter().filter(|path| blob(path).is_none()).for_each(|path| self.link(path));
        Owner::Nobody
    }

    /// A blob of a download cache that is looked at through a link.
    fn is_linked_blob(&self, path: &Path) -> bool {
        !self.blobs.is_empty() && path.canonicalize().is_ok_and(|path| self.blobs.contains(&path))
    }

    /// A link in no adapter's folder: what it leads to inside of what is searched is found there.
    fn link(&mut self, path: &Path) {
        let target = std::fs::read_link(path).unwrap_or_default();
        let shown = shown(&target.to_string_lossy());
        let resolved = path.canonicalize().ok();
        let inside = |target: &PathBuf| self.roots.iter().find(|root| target.starts_with(root)).cloned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let message = match resolved.as_ref().map(|target| (target, inside(target))) {
            None => format!("a link to `{shown}`, which cannot be followed"),
            Some((_, None)) => format!("a link to `{shown}`, outside of what is scanned: it was not followed"),
            Some((target, Some(root))) if git::leads_into(target, &root) => {
                format!("a link to `{shown}`, which leads into Git's own folder; that is not entered")
            }
            Some((target, Some(_))) => {
                if blob(path).is_none()
                    && is_named_model(&name)
                    && !is_named_model(&target.to_string_lossy())
                    && target.is_file()
                {
                    self.add(Artifact::File(path.to_path_buf()));
                }
                return;
            }
        };
        let is_nobodys = resolved.as_ref().is_none_or(|target| !target.is_dir())
            && matches!(Kind::of_name(&name), Kind::Harmless | Kind::Script | Kind::Executable);
        let check = if is_nobodys { Check::NotEntered } else { Check::LinkOutside };
        let unread = Unread::link(&self.relative(path), path);
        self.seen.push(Aside { check, unread, place: shown, message });
    }

    /// Notes what was not entered, unless the scan of an artifact that it belongs to says so.
    fn aside(&mut self, owner: Owner, check: Check, path: &Path, kind: &'static str, message: impl Into<String>) {
        if owner == Owner::Nobody {
            let unread = Unread::new(&self.relative(path), kind, 0);
            self.seen.push(Aside { check, unread, place: String::new(), message: message.into() });
        }
    }

    /// A path relative to the one that was given.
    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.argument).unwrap_or(path).to_string_lossy().into_owned()
    }
}

/// What a link to a blob of a download cache leads to.
fn blob(path: &Path) -> Option<Metadata> {
    let folder = above(path).canonicalize().ok()?;
    let target = path
        .canonicalize()
        .ok()
        .filter(|target| cache::blobs_of(&folder).is_some_and(|blobs| cache::is_blob(target, &blobs)))?;
    std::fs::metadata(target).ok().filter(Metadata::is_file)
}

#[cfg(all(test, unix))]
mod tests;
