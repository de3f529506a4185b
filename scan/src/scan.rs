//! One scan: a folder's files, looked at one after another, then the adapter that they make up.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter::{self, AdapterSummary as Summary};
use crate::archive;
use crate::check::{Check, Observation};
use crate::digest;
use crate::discover::{Artifact, is_adapter_folder, is_model_file};
use crate::files::{FileRecord, Found, read, read_up_to, walk};
use crate::json;
use crate::kind::{Kind, is_text};
use crate::limits::Limits;
use crate::pickle::{self, Glance};
use crate::statistics::{Heads, WeightStatistics};
use crate::template;
use crate::tokenizer;

pub use crate::adapter::AdapterSummary;

/// What a scan is made with.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Folder of the base, whose tokenizer and template the adapter's are held against, and whose config says how many heads
    /// its attention has. Its weights are not read.
    pub base: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

/// What the files of one adapter hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scan {
    /// Every file read.
    pub files: Vec<FileRecord>,
    /// SHA-256 over the lines `<sha256>  <path>` of all files, sorted by path.
    pub sha256: String,
    /// The adapter, where it could be read.
    pub adapter: Option<Summary>,
    /// What its weights are like, where they could be read.
    pub weights: WeightStatistics,
    /// Everything worth a rule's attention, in the order of files.
    pub observations: Vec<Observation>,
}

/// Scans one artifact. Whatever is wrong with the files is an observation, never an error.
pub fn scan(artifact: &Artifact, options: &ScanOptions) -> Scan {
    let root = artifact.path();
    let limits = &options.limits;
    let mut found = Vec::new();
    // Adapters further down are artifacts of their own.
    let files = walk(root, limits, &|relative| is_other_adapter(root, relative), &mut found);
    // A config or tensors that were not read here must not be read by the adapter's reader either.
    let mut sound = !found.iter().any(|seen| is_of_adapter(&seen.file));
    sound &= observe_files(&files, limits, &mut found);
    let base_templates = options.base.as_deref().map(|base| base_templates(base, limits));
    template::observe(&template::collect(&files, limits, &mut found), base_templates.as_deref(), limits, &mut found);
    tokenizer::observe(&files, options.base.as_deref(), limits, &mut found);
    let understood = match artifact {
        // The adapter is read whole only where the strict reader had nothing against any of its tensor files.
        Artifact::Adapter(folder) if sound => {
            let name_of = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().replace('\\', "/");
            let digest_of = |path: &Path| {
                let name = name_of(path);
                files.iter().find(|file| file.record.path == name).map(|file| file.record.sha256.clone())
            };
            let heads = options.base.as_deref().and_then(|base| Heads::of_base(base, limits));
            adapter::observe(folder, &name_of, &digest_of, heads, limits, &mut found)
        }
        Artifact::Adapter(_) => None,
        Artifact::File(path) => {
            let name = files.first().map(|file| file.record.path.clone()).unwrap_or_default();
            found.extend(lone_file(path, &name));
            None
        }
    };
    let (adapter, weights) = match understood {
        Some(read) => {
            leftover(&files, &read.files, &mut found);
            (Some(read.summary), read.weights)
        }
        None => (None, WeightStatistics::default()),
    };
    let files: Vec<FileRecord> = files.into_iter().map(|file| file.record).collect();
    found.sort_by(|left, right| (&left.file, left.check, &left.place).cmp(&(&right.file, right.check, &right.place)));
    found.dedup();
    Scan { sha256: digest::of_records(&files), files, adapter, weights, observations: found }
}

/// Whether a folder below the scanned one is an artifact of its own; one in a hidden folder is not looked for elsewhere.
fn is_other_adapter(root: &Path, relative: &str) -> bool {
    let is_hidden = relative.split('/').any(|part| part.starts_with('.'));
    !is_hidden && is_adapter_folder(&root.join(relative))
}

/// Whether a file is one that makes up an adapter.
fn is_of_adapter(name: &str) -> bool {
    name.ends_with("adapter_config.json") || Kind::of_name(name) == Kind::Safetensors
}

/// Tensor files that are no part of the adapter that was read: a loader may take them, and nobody has looked into them.
fn leftover(files: &[Found], read: &[String], found: &mut Vec<Observation>) {
    for file in files {
        let kind = Kind::of_content(&file.prefix).unwrap_or(Kind::Unknown);
        if kind == Kind::Safetensors && !read.contains(&file.record.path) {
            let message =
                "tensors that are no part of the adapter that its config describes: what they hold was not looked at";
            found.push(Observation::new(Check::UnanalysedTensor, &file.record.path, message));
        }
    }
}

/// The digest that [`Scan::sha256`] gives, without looking into the files.
pub fn digest_of(artifact: &Artifact, limits: &Limits) -> String {
    let root = artifact.path();
    let files = walk(root, limits, &|relative| is_other_adapter(root, relative), &mut Vec::new());
    digest::of_records(&files.into_iter().map(|file| file.record).collect::<Vec<FileRecord>>())
}

/// What a model file is that stands in no adapter's folder.
fn lone_file(path: &Path, name: &str) -> Option<Observation> {
    if !is_model_file(path) {
        return None;
    }
    let beside = |other: &str| path.parent().is_some_and(|folder| folder.join(other).is_file());
    if beside("config.json") {
        let message =
            "weights of a whole model: only the file format was looked at, what the model does is no adapter's matter";
        return Some(Observation::new(Check::WholeModel, name, message));
    }
    let message = "no adapter_config.json stands beside this file: what its tensors would change is unknown";
    Some(Observation::new(Check::NoAdapter, name, message))
}

/// The templates of the base's folder; of its files, only those that hold any are read.
fn base_templates(base: &Path, limits: &Limits) -> Vec<template::Template> {
    let files: Vec<Found> = template::FILES
        .iter()
        .map(|name| (name, base.join(name)))
        .filter_map(|(name, path)| {
            let bytes = std::fs::metadata(&path).ok()?.len();
            read((*name).to_owned(), path, bytes, limits).ok()
        })
        .collect();
    template::collect(&files, limits, &mut Vec::new())
}

/// Looks at every file; false where one is a tensor file that the strict reader refused.
///
/// A content that has several names is looked at once for each kind that the names promise.
fn observe_files(files: &[Found], limits: &Limits, found: &mut Vec<Observation>) -> bool {
    let mut known: Vec<(usize, Kind, &str, bool, Vec<Observation>)> = Vec::new();
    let mut sound = true;
    for file in files {
        let name = file.record.path.as_str();
        let Some(content) = file.shared else {
            sound &= observe_file(file, limits, found);
            continue;
        };
        let named = Kind::of_name(name);
        if let Some((.., first, was_sound, seen)) = known.iter().find(|known| (known.0, known.1) == (content, named)) {
            found.extend(seen.iter().map(|seen| renamed(seen, first, name)));
            sound &= was_sound;
            continue;
        }
        let before = found.len();
        let is_sound = observe_file(file, limits, found);
        known.push((content, named, name, is_sound, found.get(before..).unwrap_or_default().to_vec()));
        sound &= is_sound;
    }
    sound
}

/// An observation about a file, or a member of it, under another name of the same content.
fn renamed(observation: &Observation, from: &str, to: &str) -> Observation {
    let member = observation.file.strip_prefix(from).unwrap_or_default();
    Observation { file: format!("{to}{member}"), ..observation.clone() }
}

/// What stands behind a beginning of another kind: an archive at the end, or a pickle whose first opcode takes the beginning for a number
/// or a text. True where it is a pickle and nothing else that is read.
fn observe_hidden(file: &Found, kind: Kind, limits: &Limits, found: &mut Vec<Observation>) -> bool {
    let name = file.record.path.as_str();
    if file.ends_like_archive && kind != Kind::Archive {
        let message = "an archive stands at its end: readers of archives begin there, whatever comes before";
        found.push(Observation::new(Check::DisguisedFile, name, message));
        archive::observe_end(name, &file.path, found);
    }
    if !matches!(kind, Kind::Harmless | Kind::Template | Kind::Safetensors) {
        return false;
    }
    let is_whole = file.record.bytes <= file.prefix.len() as u64;
    let is_pickle = match pickle::glance(&file.prefix, is_whole) {
        Glance::Pickle => true,
        Glance::Other => false,
        Glance::Cut => match read_up_to(&file.path, limits.pickle_bytes) {
            Ok(bytes) => {
                let is_whole = (bytes.len() as u64) < limits.pickle_bytes;
                let seen = pickle::glance(&bytes, is_whole);
                if seen == Glance::Cut {
                    let message = "may be a pickle further on than is read of one";
                    found.push(Observation::new(Check::BeyondLimits, name, message));
                }
                seen == Glance::Pickle
            }
            Err(error) => {
                found.push(Observation::new(Check::Unreadable, name, format!("cannot be read: {error}")));
                false
            }
        },
    };
    if is_pickle && kind == Kind::Safetensors {
        found.push(Observation::new(Check::DisguisedFile, name, "tensors that are a pickle as well"));
        observe_pickle(file, limits, found);
    }
    is_pickle && kind != Kind::Safetensors
}

fn observe_pickle(file: &Found, limits: &Limits, found: &mut Vec<Observation>) {
    let name = file.record.path.as_str();
    match read_up_to(&file.path, limits.pickle_bytes) {
        Ok(bytes) => pickle::observe(name, &bytes, found),
        Err(error) => found.push(Observation::new(Check::Unreadable, name, format!("cannot be read: {error}"))),
    }
}

/// Looks at one file by its kind; false where it is a tensor file that the strict reader refused.
fn observe_file(file: &Found, limits: &Limits, found: &mut Vec<Observation>) -> bool {
    let name = file.record.path.as_str();
    let named = Kind::of_name(name);
    let mut kind = Kind::of_content(&file.prefix).unwrap_or(named);
    if observe_hidden(file, kind, limits, found) {
        kind = Kind::Pickle;
    }
    disguise(name, named, kind, &file.prefix, found);
    match kind {
        Kind::Safetensors => return adapter::observe_file(name, &file.path, limits, found),
        Kind::Pickle => observe_pickle(file, limits, found),
        Kind::Npy => match read_up_to(&file.path, limits.pickle_bytes) {
            Ok(bytes) => archive::observe_npy(name, &bytes, found),
            Err(error) => found.push(Observation::new(Check::Unreadable, name, format!("cannot be read: {error}"))),
        },
        Kind::Archive => archive::observe(name, &file.path, &file.prefix, found),
        Kind::Executable => {
            found.push(Observation::new(
                Check::Executable,
                name,
                "machine code or bytecode: nothing that an adapter needs",
            ));
        }
        Kind::Script => {
            found.push(Observation::new(Check::Script, name, "a program: a loader that trusts the folder may run it"));
        }
        Kind::Json => json::observe(name, &file.path, limits, found),
        Kind::LfsPointer => {
            let message = "a pointer of Git's large-file storage, not the file: run `git lfs pull`";
            found.push(Observation::new(Check::LfsPointer, name, message));
        }
        Kind::Empty if named == Kind::Safetensors => return adapter::observe_file(name, &file.path, limits, found),
        Kind::Unknown => {
            let message = "a file of a kind that is not looked into";
            found.push(Observation::new(Check::UnknownFile, name, message));
        }
        Kind::Template | Kind::Harmless | Kind::Empty => {}
    }
    true
}

/// A name that promises something else than the content.
fn disguise(name: &str, named: Kind, kind: Kind, prefix: &[u8], found: &mut Vec<Observation>) {
    // Torch's newer checkpoints are zip archives under a pickle's name, and archives of arrays are zip too.
    let ordinary = named == kind
        || named == Kind::Unknown
        || (named == Kind::Pickle && kind == Kind::Archive)
        || matches!(kind, Kind::Empty | Kind::LfsPointer);
    let is_text_kind = matches!(named, Kind::Json | Kind::Template | Kind::Harmless | Kind::Script);
    let what = match kind {
        Kind::Safetensors => "a safetensors file",
        Kind::Pickle => "a pickle",
        Kind::Npy => "an array of numpy",
        Kind::Archive => "an archive",
        Kind::Executable => "machine code",
        Kind::Script => "a program",
        _ => "text or a picture",
    };
    if !ordinary {
        let message = format!("the name promises another kind of file, the content is {what}");
        found.push(Observation::new(Check::DisguisedFile, name, message));
    } else if is_text_kind && kind == named && !is_text(prefix) && !crate::kind::is_picture(prefix) {
        let message = "the name promises text, the content is none";
        found.push(Observation::new(Check::DisguisedFile, name, message));
    }
}
