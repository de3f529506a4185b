//! One scan: a folder's files, looked at one after another, then the adapter that they make up.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter::{self, AdapterSummary as Summary};
use crate::archive;
use crate::base_name;
use crate::bookkeeping;
use crate::check::{Check, Observation};
use crate::digest;
use crate::discover::{Artifact, Aside, is_adapter_folder};
use crate::files::{FileRecord, Found, Unread, is_deceptive_name, read, read_up_to};
use crate::json;
use crate::kind::{Kind, is_text};
use crate::likeness::is_named_model;
use crate::limits::Limits;
use crate::pickle::{self, Expected, Glance};
use crate::statistics::{Heads, WeightStatistics};
use crate::template;
use crate::tokenizer;
use crate::training;
use crate::walk::{Walked, walk};
use crate::yaml;

pub use crate::adapter::AdapterSummary;

/// What a scan is made with.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Folder of the base, whose tokenizer and template the adapter's are held against, and whose config says how many
    /// heads its attention has. Its weights are not read.
    pub base: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

/// What the files of one adapter hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scan {
    /// Every file, those that were not read without a digest.
    pub files: Vec<FileRecord>,
    /// SHA-256 over the lines `<sha256>  <path>` of all files, sorted by path; of what was not read the lines are
    /// `unread <kind> <bytes> <link target>  <path>`.
    pub sha256: String,
    /// The adapter, where it could be read.
    pub adapter: Option<Summary>,
    /// What its weights are like, where they could be read.
    pub weights: WeightStatistics,
    /// Everything worth a rule's attention, in the order of files.
    pub observations: Vec<Observation>,
}

impl Scan {
    /// Whether what an observation is about was not read: no digest covers its bytes, so that nobody can accept them.
    pub fn is_unread(&self, seen: &Observation) -> bool {
        let has_digest = |record: &FileRecord| record.path == seen.file && !record.sha256.is_empty();
        seen.check.is_unread() || (seen.check == Check::BeyondLimits && !self.files.iter().any(has_digest))
    }
}

/// Scans one artifact. Whatever is wrong with the files is an observation, never an error.
pub fn scan(artifact: &Artifact, options: &ScanOptions) -> Scan {
    let root = artifact.path();
    let mut found = Vec::new();
    deceptive_path(artifact, &mut found);
    let limits = &limits_of(artifact, &options.limits);
    let walked = walked(artifact, limits, &mut found);
    let files = &walked.files;
    // A config or tensors that were not read here must not be read by the adapter's reader either.
    let mut sound = !found.iter().any(|seen| is_of_adapter(&seen.file));
    sound &= observe_files(files, limits, &mut found);
    let base_templates = options.base.as_deref().map(|base| base_templates(base, limits));
    template::observe(&template::collect(files, limits, &mut found), base_templates.as_deref(), limits, &mut found);
    tokenizer::observe(files, options.base.as_deref(), limits, &mut found);
    let understood = match artifact {
        // The adapter is read whole only where the strict reader had nothing against any of its tensor files.
        Artifact::Adapter(folder) if sound => {
            let name_of = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().replace('\\', "/");
            let digest_of = |path: &Path| {
                let name = name_of(path);
                files.iter().find(|file| file.record.path == name).map(|file| file.record.sha256.clone())
            };
            let heads = options.base.as_deref().and_then(|base| Heads::of_base(base, limits));
            adapter::Reader { root: folder, name_of: &name_of, digest_of: &digest_of, heads, limits }
                .observe(&mut found)
        }
        Artifact::Adapter(_) | Artifact::Around(_) => None,
        Artifact::Model(_) => {
            let message = "a whole model: its files were looked at, what the model does is no adapter's matter";
            found.push(Observation::new(Check::WholeModel, "", message));
            None
        }
        Artifact::File(_) => {
            let lone = files.first().and_then(|file| lone_file(file, &found));
            found.extend(lone);
            None
        }
    };
    let (adapter, weights) = match understood {
        Some(read) => {
            leftover(root, files, &read.files, limits, &mut found);
            (Some(read.summary), read.weights)
        }
        None => (None, WeightStatistics::default()),
    };
    if let Some(adapter) = &adapter {
        base_name::observe(adapter, options.base.as_deref(), &mut found);
    }
    found.sort_by(|left, right| (&left.file, left.check, &left.place).cmp(&(&right.file, right.check, &right.place)));
    found.dedup();
    Scan { sha256: digest::of_folder(&walked), files: walked.records(), adapter, weights, observations: found }
}

/// The files of an artifact, and what of it was not read.
fn walked(artifact: &Artifact, limits: &Limits, found: &mut Vec<Observation>) -> Walked {
    if let Artifact::Around(around) = artifact {
        found.extend(around.seen.iter().map(Aside::observation));
        let unread = around.seen.iter().filter(|aside| aside.check != Check::GitFolder);
        let mut unread: Vec<Unread> = unread.map(|aside| aside.unread.clone()).collect();
        unread.sort();
        return Walked { files: Vec::new(), unread };
    }
    let root = artifact.path();
    // Adapters further down are artifacts of their own.
    walk(root, limits, &|relative| is_adapter_folder(&root.join(relative)), found)
}

/// The bounds that hold for an artifact: whole models are longer than adapters, and nothing of them is kept.
fn limits_of(artifact: &Artifact, limits: &Limits) -> Limits {
    const SHARDS: u64 = 16;
    match artifact {
        Artifact::Model(_) => Limits { total_bytes: limits.total_bytes.saturating_mul(SHARDS), ..*limits },
        _ => *limits,
    }
}

/// The path of an artifact is shown everywhere: it must not read otherwise than it is.
fn deceptive_path(artifact: &Artifact, found: &mut Vec<Observation>) {
    let path = artifact.path();
    // The name of a lone file is looked at with the file.
    let shown = if matches!(artifact, Artifact::File(_)) { path.parent().unwrap_or(path) } else { path };
    if is_deceptive_name(shown) {
        let message = "the path of what is scanned holds control, invisible or text-direction characters, or is not \
            UTF-8: it reads otherwise than it is";
        found.push(Observation::new(Check::DeceptiveName, "", message));
    }
}

/// Whether a file is one that makes up an adapter.
fn is_of_adapter(name: &str) -> bool {
    name.ends_with("adapter_config.json") || Kind::of_name(name) == Kind::Safetensors
}

/// Tensor files that are no part of the adapter that was read, by name or content: a loader may take them, and nobody
/// has looked into them. What a trainer keeps of its steps is told by its tensors.
fn leftover(root: &Path, files: &[Found], read: &[String], limits: &Limits, found: &mut Vec<Observation>) {
    for file in files {
        let name = &file.record.path;
        let content = Kind::of_content(&file.prefix);
        let is_tensors =
            content == Some(Kind::Safetensors) || (content.is_none() && Kind::of_name(name) == Kind::Safetensors);
        if !is_tensors || read.contains(name) {
            continue;
        }
        let message =
            "tensors that are no part of the adapter that its config describes: what they hold was not looked at";
        let moments = || training::is_state_of(&file.path, read.iter().map(|name| root.join(name)), limits);
        found.push(if moments() {
            let message = "The state of a trainer: moments of the adapter's own tensors, in one dimension. Using the \
                adapter needs none of it";
            Observation::new(Check::TrainerState, name, message)
        } else {
            Observation::new(Check::UnanalysedTensor, name, message)
        });
    }
}

/// The digest that [`Scan::sha256`] gives, without looking into the files.
pub fn digest_of(artifact: &Artifact, limits: &Limits) -> String {
    digest::of_folder(&walked(artifact, &limits_of(artifact, limits), &mut Vec::new()))
}

/// What a model file is that stands in no adapter's folder; nothing where it is no model after all.
fn lone_file(file: &Found, found: &[Observation]) -> Option<Observation> {
    let name = file.record.path.as_str();
    let is_seen = |checks: &[Check]| found.iter().any(|seen| checks.contains(&seen.check));
    if is_seen(&[Check::TrainerState, Check::LfsPointer]) {
        return None;
    }
    let foreign = lcr_formats::adapter::foreign_format(&file.path);
    let by_content =
        matches!(Kind::of_content(&file.prefix), Some(Kind::Safetensors | Kind::Npy)) || is_seen(&[Check::Pickle]);
    if foreign.is_none() && !by_content && (!is_named_model(name) || Kind::of_name(name) == Kind::Pickle) {
        return None;
    }
    if let Some(refusal) = foreign {
        let message = adapter::without_folder(&refusal.to_string(), &file.path);
        return Some(Observation::new(Check::ForeignFormat, name, message));
    }
    let message = "no adapter_config.json stands beside this file: what its tensors would change is unknown";
    Some(Observation::new(Check::NoAdapter, name, message))
}

/// The templates of the base's folder; of its files, only those that hold any are read.
fn base_templates(base: &Path, limits: &Limits) -> Vec<template::Template> {
    const MOST: usize = 64;
    let named = std::fs::read_dir(base.join(template::FOLDER)).into_iter().flatten().flatten().take(MOST);
    let mut names: Vec<String> =
        named.map(|entry| format!("{}/{}", template::FOLDER, entry.file_name().to_string_lossy())).collect();
    names.sort();
    let files: Vec<Found> = template::FILES
        .iter()
        .map(|name| (*name).to_owned())
        .chain(names.into_iter().filter(|name| Kind::of_name(name) == Kind::Template))
        .filter_map(|name| {
            let path = base.join(&name);
            let bytes = std::fs::metadata(&path).ok()?.len();
            read(name, path, bytes, limits).ok()
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

/// What stands behind a beginning of another kind: an archive at the end, or a pickle whose first opcode takes the
/// beginning for a number or a text. True where it is a pickle and nothing else that is read.
fn observe_hidden(file: &Found, kind: Kind, limits: &Limits, found: &mut Vec<Observation>) -> bool {
    let name = file.record.path.as_str();
    if file.ends_like_archive && kind != Kind::Archive {
        let message = "an archive stands at its end: readers of archives begin there, whatever comes before";
        found.push(Observation::new(Check::DisguisedFile, name, message));
        archive::observe_end(name, &file.path, found);
    }
    if matches!(kind, Kind::Archive | Kind::Executable | Kind::LfsPointer | Kind::Empty | Kind::Npy) {
        return false;
    }
    let is_pickle = match pickle::glance_at(&file.path, &file.prefix, file.record.bytes, limits) {
        Ok(Glance::Pickle) => true,
        Ok(Glance::Other) => false,
        Ok(Glance::Cut) => {
            let message = "may be a pickle further on than is read of one";
            found.push(Observation::new(Check::BeyondLimits, name, message));
            false
        }
        Err(error) => {
            found.push(unreadable(name, &error));
            false
        }
    };
    if is_pickle && kind == Kind::Safetensors {
        found.push(Observation::new(Check::DisguisedFile, name, "tensors that are a pickle as well"));
        observe_pickle(file, limits, found);
    }
    is_pickle && kind != Kind::Safetensors
}

fn unreadable(name: &str, error: &std::io::Error) -> Observation {
    Observation::new(Check::Unreadable, name, format!("cannot be read: {error}"))
}

fn observe_pickle(file: &Found, limits: &Limits, found: &mut Vec<Observation>) {
    let name = file.record.path.as_str();
    match read_up_to(&file.path, limits.pickle_bytes) {
        Ok(bytes) => pickle::observe(name, &bytes, Expected::of_name(name), found),
        Err(error) => found.push(unreadable(name, &error)),
    }
}

/// The kind of a file, by content before name; a name alone makes no pickle of what no loader could load as one.
fn kind_of(file: &Found, limits: &Limits, found: &mut Vec<Observation>) -> Kind {
    let name = file.record.path.as_str();
    let named = Kind::of_name(name);
    let content = Kind::of_content(&file.prefix);
    let may_be_pickle = matches!(named, Kind::Pickle | Kind::Npy);
    let stream = || (may_be_pickle && archive::begins_like_stream(&file.prefix)).then_some(Kind::Archive);
    let kind = content.or_else(stream).unwrap_or(named);
    if observe_hidden(file, kind, limits, found) {
        return Kind::Pickle;
    }
    if content.is_none() && bookkeeping::is_known(name, &file.prefix, file.record.bytes) {
        return Kind::Harmless;
    }
    if content.is_some() || kind != named || !may_be_pickle {
        return kind;
    }
    match read_up_to(&file.path, limits.pickle_bytes) {
        Ok(bytes) if pickle::loads(&bytes, file.record.bytes) => Kind::Pickle,
        Ok(_) => Kind::Unknown,
        Err(error) => {
            found.push(unreadable(name, &error));
            Kind::Unknown
        }
    }
}

/// Looks at one file by its kind; false where it is a tensor file that the strict reader refused.
fn observe_file(file: &Found, limits: &Limits, found: &mut Vec<Observation>) -> bool {
    let name = file.record.path.as_str();
    let named = Kind::of_name(name);
    let kind = kind_of(file, limits, found);
    disguise(name, named, kind, &file.prefix, found);
    match kind {
        Kind::Safetensors => return adapter::observe_file(name, &file.path, limits, found),
        Kind::Pickle => observe_pickle(file, limits, found),
        Kind::Npy => match read_up_to(&file.path, limits.pickle_bytes) {
            Ok(bytes) => archive::observe_npy(name, &bytes, found),
            Err(error) => found.push(unreadable(name, &error)),
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
            let message = match named {
                Kind::Pickle | Kind::Npy => {
                    "named like a file of weights, and neither a pickle, an archive nor tensors: a file of a kind that \
                     is not looked into"
                }
                _ => "a file of a kind that is not looked into",
            };
            found.push(Observation::new(Check::UnknownFile, name, message));
        }
        Kind::Harmless if yaml::is_named(name) => yaml::observe(name, &file.path, limits, found),
        // What a tokenizer's files hold is looked at together.
        Kind::Template | Kind::Tokenizer | Kind::Harmless | Kind::Empty => {}
    }
    true
}

/// A name that promises something else than the content.
fn disguise(name: &str, named: Kind, kind: Kind, prefix: &[u8], found: &mut Vec<Observation>) {
    // Torch's newer checkpoints are zip archives under a pickle's name, and archives of arrays are zip too.
    let ordinary = named == kind
        || named == Kind::Unknown
        || (named == Kind::Pickle && kind == Kind::Archive)
        || (matches!(named, Kind::Pickle | Kind::Npy) && kind == Kind::Unknown)
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
