//! The adapter itself: its tensor file read strictly, its config against its tensors, what it changes.

mod changes;
mod outliers;
mod refusal;
mod settings;
mod sizes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lcr_formats::adapter::{Adapter, AdapterConfig, AdapterError, AdapterParts, NoteKind, is_classification_head};
use lcr_formats::checkpoint::{Dtype, SafetensorsFile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::refusal::without_folder;
use self::refusal::{refused_adapter, refused_file};
use crate::check::{Check, Observation};
use crate::limits::Limits;
use crate::metadata;
use crate::statistics::{Gathering, Heads, WeightStatistics};

/// Bad tensors of a file that are listed.
const MOST_TENSORS: usize = 50;

/// Facts about an adapter that could be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdapterSummary {
    /// The tensor file, relative to the scanned folder.
    pub file: String,
    /// SHA-256 of the tensor file.
    pub sha256: String,
    /// `PEFT` or `MLX`.
    pub format: String,
    /// `LoRA` or `DoRA`, with rsLoRA scaling named where used.
    pub method: String,
    /// Base that the config names.
    pub base_model: Option<String>,
    /// Revision of that base, where the config names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Ranks found, ascending.
    pub ranks: Vec<usize>,
    /// Every scale in use with its reason.
    pub scales: Vec<String>,
    /// Kinds of module changed.
    pub targets: Vec<String>,
    /// Blocks touched.
    pub layers: Vec<usize>,
    /// Tensors in the file.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Whether the files alone prove that nothing changes.
    pub zero_effect: bool,
    /// Names of tensors that replace the base's whole.
    pub whole: Vec<String>,
}

/// Reads a safetensors file strictly and looks at every tensor in it; true where the header is sound.
pub(crate) fn observe_file(name: &str, path: &Path, limits: &Limits, found: &mut Vec<Observation>) -> bool {
    let file = match SafetensorsFile::open_within(path, limits.header_bytes) {
        Ok(file) => file,
        Err(error) => {
            found.push(refused_file(name, path, &error));
            return false;
        }
    };
    metadata::observe(name, file.metadata(), found);
    let mut listed = 0;
    for tensor in file.tensors() {
        let observation = if let Dtype::Other(..) = tensor.dtype() {
            let message =
                format!("stored as {}, which is not looked into: whatever it holds is not vouched for", tensor.dtype());
            Observation::new(Check::UnanalysedTensor, name, message)
        } else if let Some((index, value)) = tensor.first_non_finite() {
            let message = format!("element {index} is {value}: one such value turns every output into NaN");
            Observation::new(Check::NonFinite, name, message)
        } else {
            tensor.release();
            continue;
        };
        found.push(observation.at(crate::json::shown(tensor.name())));
        listed += 1;
        if listed == MOST_TENSORS {
            // A file with so many is refused as a whole; the rest of the list helps nobody.
            break;
        }
    }
    true
}

/// An adapter that was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) summary: AdapterSummary,
    pub(crate) weights: WeightStatistics,
    /// Names of the tensor files that were read.
    pub(crate) files: Vec<String>,
}

/// What an adapter is read with.
pub(crate) struct Reader<'a> {
    /// The adapter's folder, or its tensor file.
    pub(crate) root: &'a Path,
    /// The name of a file relative to the scanned folder.
    pub(crate) name_of: &'a dyn Fn(&Path) -> String,
    /// The digest of a file, where it is known.
    pub(crate) digest_of: &'a dyn Fn(&Path) -> Option<String>,
    /// How the base divides its attention, where that is known.
    pub(crate) heads: Option<Heads>,
    pub(crate) limits: &'a Limits,
}

impl Reader<'_> {
    /// Reads the adapter, a few modules at a time, and says what it changes.
    ///
    /// Numbered checkpoints of the same run are scanned as what they are: whoever loads one of them loads what is read
    /// here. What is changed is what any of them changes; the rest of the summary is that of the last step.
    pub(crate) fn observe(&self, found: &mut Vec<Observation>) -> Option<Read> {
        let (mut reads, files) = match AdapterParts::find(self.root, self.limits.of_adapters(), self.digest_of) {
            Ok(parts) => {
                let beside = parts.checkpoints();
                (vec![self.observe_parts(&parts, found)?], beside)
            }
            Err(AdapterError::SeveralCheckpoints { folder, mut files }) => {
                files.reverse();
                (Vec::new(), files.iter().map(|file| folder.join(file)).collect::<Vec<PathBuf>>())
            }
            Err(error) => {
                found.extend(refused_adapter(self.root, &error, found));
                return None;
            }
        };
        for file in files {
            match AdapterParts::find(&file, self.limits.of_adapters(), self.digest_of) {
                Ok(parts) => reads.extend(self.observe_parts(&parts, found)),
                Err(error) => found.extend(refused_adapter(self.root, &error, found)),
            }
        }
        let mut reads = reads.into_iter();
        let mut last = reads.next()?;
        for read in reads {
            join(&mut last.summary.targets, read.summary.targets);
            join(&mut last.summary.whole, read.summary.whole);
            last.files.extend(read.files);
        }
        Some(last)
    }

    /// One tensor file.
    fn observe_parts(&self, parts: &AdapterParts, found: &mut Vec<Observation>) -> Option<Read> {
        let name = (self.name_of)(parts.tensors());
        let mut reading = Reading { gathering: Gathering::of(self.heads), ..Reading::default() };
        for part in parts.parts() {
            if part.elements > self.limits.elements {
                let message = format!(
                    "{} elements in one module, more than the {} that are measured: what it changes was not looked at",
                    part.elements, self.limits.elements
                );
                found.push(Observation::new(Check::BeyondLimits, &name, message).at(crate::json::shown(&part.first)));
                continue;
            }
            match parts.read(part) {
                Ok(adapter) => reading.add(&adapter, &name, self.limits, found),
                Err(error) => {
                    found.extend(refused_adapter(self.root, &error, found));
                    return None;
                }
            }
        }
        reading.finish(name, found)
    }
}

/// What is known of an adapter after some of its parts.
#[derive(Default)]
struct Reading {
    gathering: Gathering,
    summary: Option<AdapterSummary>,
    /// The config, once.
    config: Option<AdapterConfig>,
    /// Last parts of all changed modules' paths, and the paths themselves.
    changed: BTreeSet<String>,
    /// Largest factor before BA, and its module; the lowest likewise.
    scale: Option<(String, f64)>,
    lowest: Option<(String, f64)>,
    /// Whether anything was seen that is more than nothing.
    is_something: bool,
    biases: Vec<String>,
    /// What the reader noted, once of each kind.
    notes: BTreeMap<NoteKind, String>,
}

impl Reading {
    fn add(&mut self, adapter: &Adapter, name: &str, limits: &Limits, found: &mut Vec<Observation>) {
        let modules = adapter.modules.iter().map(|(path, module)| (path, module.scale, module.rank));
        let embeddings = adapter.embeddings.iter().map(|(path, module)| (path, module.scale, module.rank));
        let mut beyond = false;
        for (path, scale, rank) in modules.chain(embeddings) {
            beyond |= rank > limits.rank;
            // `q_proj` and `self_attn.q_proj` are both ways to name the module that a config may use.
            let ends = path.match_indices('.').map(|(at, _)| &path[at + 1..]);
            self.changed.extend(std::iter::once(path.as_str()).chain(ends).map(str::to_owned));
            if self.scale.as_ref().is_none_or(|(_, most)| scale.abs() > most.abs()) {
                self.scale = Some((path.clone(), scale));
            }
            if self.lowest.as_ref().is_none_or(|(_, least)| scale < *least) {
                self.lowest = Some((path.clone(), scale));
            }
        }
        if beyond {
            let rank = adapter.ranks().last().copied().unwrap_or(0);
            let message = format!("rank {rank}, beyond the {} up to which a change is decomposed", limits.rank);
            found.push(Observation::new(Check::BeyondLimits, name, message).measured(rank as f64));
            self.is_something = true;
        } else {
            let reach = self.gathering.add(adapter);
            self.is_something |= !sizes::vanishes(adapter, reach);
        }
        self.biases.extend(adapter.biases.keys().filter(|path| !is_classification_head(path)).cloned());
        for note in &adapter.notes {
            self.notes.entry(note.kind).or_insert_with(|| crate::json::one_line(&note.text));
        }
        changes::observe(adapter, name, found);
        let own = summary(adapter, name);
        self.summary = Some(match self.summary.take() {
            Some(known) => merged(known, own),
            None => own,
        });
        self.config.get_or_insert_with(|| adapter.config.clone());
    }

    /// What only all parts together say.
    fn finish(self, name: String, found: &mut Vec<Observation>) -> Option<Read> {
        let summary = self.summary?;
        let at = |check, message: String| Observation::new(check, &name, message);
        if let Some(AdapterConfig::Peft(config)) = &self.config {
            settings::observe(config, &self.changed, &name, found);
        }
        if summary.zero_effect {
            found.push(at(Check::ZeroEffect, "every change in the file is zero: this adapter does nothing".to_owned()));
        } else if !self.is_something {
            let message = "every change is below the smallest normal number of float32 and bfloat16 (1.2e-38): where \
                smaller ones are taken for zero, as on most accelerators, this adapter does nothing";
            found.push(at(Check::ZeroEffect, message.to_owned()));
        }
        if let Some(rank) = summary.ranks.last() {
            found.push(at(Check::Rank, format!("the largest rank is {rank}")).measured(*rank as f64));
        }
        if let Some((path, scale)) = &self.scale {
            let observation = at(Check::Scale, format!("the largest factor before BA is {scale}"));
            found.push(observation.at(crate::json::shown(path)).measured(scale.abs()));
        }
        if let Some((path, scale)) = self.lowest.as_ref().filter(|(_, scale)| *scale < 0.0) {
            let message = format!("the factor before BA is {scale}: training never turns the sign of what it learns");
            found.push(at(Check::NegativeScale, message).at(crate::json::shown(path)));
        }
        if let Some(path) = self.biases.first() {
            let message =
                format!("replaces {} biases of the base; such a change is the same for every text", self.biases.len());
            found.push(at(Check::BiasChange, message).at(crate::json::shown(path)));
        }
        for (kind, text) in self.notes {
            let check = match kind {
                NoteKind::AdapterNameInKeys => Check::AdapterNameInKeys,
                NoteKind::LoadersDisagree => Check::LoadersDisagree,
                // The others are observed where the config and the changes are, or say what only a comparison needs.
                _ => continue,
            };
            found.push(Observation::new(check, &name, text));
        }
        let weights = self.gathering.finish();
        sizes::observe(&weights, &name, found);
        outliers::observe(&weights, &name, found);
        Some(Read { summary, weights, files: vec![name] })
    }
}

fn summary(adapter: &Adapter, file: &str) -> AdapterSummary {
    let shown = |texts: Vec<String>| texts.iter().map(|text| crate::json::shown(text)).collect::<Vec<String>>();
    AdapterSummary {
        file: file.to_owned(),
        sha256: adapter.sha256.clone(),
        format: adapter.format.name().to_owned(),
        method: adapter.method(),
        base_model: adapter.base_model().map(crate::json::shown),
        revision: revision(&adapter.config),
        ranks: adapter.ranks(),
        scales: adapter.scale_reasons(),
        targets: shown(adapter.target_names()),
        layers: adapter.layers_touched(),
        tensors: adapter.tensors_in_file,
        parameters: adapter.parameters,
        zero_effect: adapter.is_zero_effect(),
        whole: shown(adapter.modules_to_save.keys().cloned().collect()),
    }
}

/// The revision of the base that a config names; loaders pass it on as it is.
fn revision(config: &AdapterConfig) -> Option<String> {
    let AdapterConfig::Peft(config) = config else { return None };
    match config.raw.get("revision")? {
        serde_json::Value::Null => None,
        serde_json::Value::String(name) => Some(crate::json::shown(name)),
        other => Some(crate::json::shown(&other.to_string())),
    }
}

/// Two parts of one adapter as one.
fn merged(mut left: AdapterSummary, right: AdapterSummary) -> AdapterSummary {
    join(&mut left.ranks, right.ranks);
    join(&mut left.scales, right.scales);
    join(&mut left.targets, right.targets);
    join(&mut left.layers, right.layers);
    join(&mut left.whole, right.whole);
    // A part that adapts nothing with a magnitude says plain LoRA.
    if right.method.len() > left.method.len() || right.method.starts_with("DoRA") {
        left.method = right.method;
    }
    left.zero_effect &= right.zero_effect;
    left
}

fn join<T: Ord>(left: &mut Vec<T>, right: Vec<T>) {
    left.extend(right);
    left.sort();
    left.dedup();
}
