//! The adapter itself: its tensor file read strictly, its config against its tensors, what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lcr_model::adapter::{
    Adapter, AdapterConfig, AdapterError, AdapterParts, NoteKind, PeftConfig, is_classification_head,
};
use lcr_model::checkpoint::{CheckpointError, Dtype, SafetensorsFile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Check, Observation};
use crate::limits::Limits;
use crate::metadata;
use crate::statistics::{Gathering, Heads, WeightStatistics};

/// Bad tensors of a file that are listed.
const MOST_TENSORS: usize = 50;
/// Share of the median magnitude below which a row counts as gone.
const GONE: f64 = 1e-3;

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

/// Reads the adapter at `root` (a folder, or a tensor file), a few modules at a time, and says what it changes.
///
/// `name_of` gives the name of a file relative to the scanned folder, `digest_of` its digest; `heads` is how the base divides its
/// attention, where that is known.
pub(crate) fn observe(
    root: &Path,
    name_of: &dyn Fn(&Path) -> String,
    digest_of: &dyn Fn(&Path) -> Option<String>,
    heads: Option<Heads>,
    limits: &Limits,
    found: &mut Vec<Observation>,
) -> Option<Read> {
    let parts = match AdapterParts::find(root, limits.elements, digest_of) {
        Ok(parts) => parts,
        // Checkpoints of a run and no final file: whoever loads one of them loads what is read here.
        Err(AdapterError::SeveralCheckpoints { folder, files }) => {
            let each = files.iter().map(|file| observe(&folder.join(file), name_of, digest_of, heads, limits, found));
            let each: Vec<Option<Read>> = each.collect();
            let files = each.iter().flatten().flat_map(|read| read.files.clone()).collect();
            return each.into_iter().flatten().last().map(|read| Read { files, ..read });
        }
        Err(error) => {
            found.extend(refused_adapter(root, &error, found));
            return None;
        }
    };
    let name = name_of(parts.tensors());
    let mut reading = Reading { gathering: Gathering::of(heads), ..Reading::default() };
    for part in parts.parts() {
        if part.elements > limits.elements {
            let message = format!(
                "{} elements in one module, more than the {} that are measured: what it changes was not looked at",
                part.elements, limits.elements
            );
            found.push(Observation::new(Check::BeyondLimits, &name, message).at(crate::json::shown(&part.first)));
            continue;
        }
        match parts.read(part) {
            Ok(adapter) => reading.add(&adapter, &name, limits, found),
            Err(error) => {
                found.extend(refused_adapter(root, &error, found));
                return None;
            }
        }
    }
    reading.finish(name, found)
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
    /// Largest factor before BA, and its module.
    scale: Option<(String, f64)>,
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
        }
        if beyond {
            let rank = adapter.ranks().last().copied().unwrap_or(0);
            let message = format!("rank {rank}, beyond the {} up to which a change is decomposed", limits.rank);
            found.push(Observation::new(Check::BeyondLimits, name, message).measured(rank as f64));
        } else {
            self.gathering.add(adapter);
        }
        self.biases.extend(adapter.biases.keys().cloned());
        for note in &adapter.notes {
            self.notes.entry(note.kind).or_insert_with(|| crate::json::one_line(&note.text));
        }
        observe_changes(adapter, name, found);
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
            observe_config(config, &self.changed, &name, found);
        }
        if summary.zero_effect {
            found.push(at(Check::ZeroEffect, "every change in the file is zero: this adapter does nothing".to_owned()));
        }
        if let Some(rank) = summary.ranks.last() {
            found.push(at(Check::Rank, format!("the largest rank is {rank}")).measured(*rank as f64));
        }
        if let Some((path, scale)) = &self.scale {
            let observation = at(Check::Scale, format!("the largest factor before BA is {scale}"));
            found.push(observation.at(crate::json::shown(path)).measured(scale.abs()));
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
        observe_weights(&weights, &name, found);
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
        whole: shown(adapter.whole.keys().cloned().collect()),
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
    fn join<T: Ord>(left: &mut Vec<T>, right: Vec<T>) {
        left.extend(right);
        left.sort();
        left.dedup();
    }
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

/// What a refusal of the file format is called.
fn refused_file(name: &str, path: &Path, error: &CheckpointError) -> Observation {
    let (check, place) = match error {
        CheckpointError::Io { .. } | CheckpointError::NotAFolder { .. } => (Check::Unreadable, String::new()),
        CheckpointError::LfsPointer { .. } => (Check::LfsPointer, String::new()),
        CheckpointError::Truncated { .. } => (Check::Truncated, String::new()),
        CheckpointError::HeaderTooLarge { .. } => (Check::HeaderSize, "bytes 0..8".to_owned()),
        CheckpointError::Header { end, .. } => (Check::HeaderSyntax, format!("bytes 8..{end}")),
        CheckpointError::Overlap { second, .. } => (Check::OverlappingTensors, second.clone()),
        CheckpointError::Unclaimed { start, end, .. } => (Check::UnclaimedBytes, format!("data bytes {start}..{end}")),
        CheckpointError::NotFloat { tensor, .. } => (Check::UnanalysedTensor, tensor.clone()),
        CheckpointError::NonFinite { tensor, .. } => (Check::NonFinite, tensor.clone()),
        CheckpointError::Tensor { tensor, .. } | CheckpointError::Shape { tensor, .. } => {
            (Check::TensorLayout, tensor.clone())
        }
        CheckpointError::NoWeights { .. } | CheckpointError::Index { .. } | CheckpointError::Missing { .. } => {
            (Check::NoAdapter, String::new())
        }
    };
    Observation::new(check, name, without_folder(&error.to_string(), path)).at(crate::json::shown(&place))
}

/// What a refusal of the adapter is called; `None` where the reason was seen already.
fn refused_adapter(root: &Path, error: &AdapterError, seen: &[Observation]) -> Option<Observation> {
    let (check, path) = match error {
        AdapterError::Tensors(inner) => {
            let message = refused_file("", root, inner);
            let known = seen.iter().any(|seen| seen.check == message.check && seen.place == message.place);
            return (!known).then_some(message);
        }
        AdapterError::Read { path, .. } | AdapterError::Write { path, .. } => (Check::Unreadable, path),
        AdapterError::NotFound { path } | AdapterError::NoConfig { folder: path, .. } => (Check::NoAdapter, path),
        AdapterError::NoTensors { folder: path, .. } | AdapterError::SeveralCheckpoints { folder: path, .. } => {
            (Check::NoAdapter, path)
        }
        AdapterError::Foreign { path, .. } => (Check::ForeignFormat, path),
        AdapterError::Pickle { path } => (Check::UnanalysedTensor, path),
        AdapterError::LfsPointer { path } => (Check::LfsPointer, path),
        AdapterError::ConfigSyntax { path, .. }
        | AdapterError::ConfigField { path, .. }
        | AdapterError::Pattern { path, .. } => (Check::ConfigSyntax, path),
        AdapterError::UnsupportedField { path, .. }
        | AdapterError::UnknownField { path, .. }
        | AdapterError::Method { path, .. } => (Check::ConfigUnsupported, path),
        AdapterError::Empty { path }
        | AdapterError::Tensor { path, .. }
        | AdapterError::Unpaired { path, .. }
        | AdapterError::BothLists { path, .. }
        | AdapterError::Duplicate { path, .. }
        | AdapterError::Shape { path, .. }
        | AdapterError::Rank { path, .. }
        | AdapterError::Unmatched { path, .. }
        | AdapterError::NotTargeted { path, .. }
        | AdapterError::MissingWhole { path, .. } => (Check::ConfigMismatch, path),
        AdapterError::BaseChanged { path, .. } => (Check::BaseChanged, path),
    };
    let file = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let known = seen.iter().any(|seen| seen.check == check && seen.file == file);
    (!known).then(|| Observation::new(check, &file, without_folder(&error.to_string(), root)))
}

/// A message without the folder that was scanned, which differs between machines.
pub(crate) fn without_folder(message: &str, path: &Path) -> String {
    let folder = format!("{}/", path.display());
    let parent = path.parent().map(|parent| format!("{}/", parent.display())).filter(|parent| parent.len() > 1);
    let mut text = message.replace(&folder, "");
    if let Some(parent) = parent {
        text = text.replace(&parent, "");
    }
    crate::json::one_line(&text)
}

fn observe_config(config: &PeftConfig, changed: &BTreeSet<String>, name: &str, found: &mut Vec<Observation>) {
    if config.changes_base() {
        let message = format!(
            "`init_lora_weights` is `{}`, which also changes the base: these tensors are relative to a model that nobody published",
            crate::json::shown(&config.initialization)
        );
        found.push(Observation::new(Check::BaseChanged, name, message));
    }
    let listed = config.raw.get("target_modules").and_then(|targets| targets.as_array());
    let targets = listed.into_iter().flatten().filter_map(|target| target.as_str());
    let missing: Vec<&str> = targets.filter(|target| !changed.contains(*target)).collect();
    if let Some(first) = missing.first() {
        let named: Vec<String> =
            missing.iter().take(8).map(|target| format!("`{}`", crate::json::shown(target))).collect();
        let message = format!(
            "the config targets {} names to which no tensor belongs ({}): what was published is not all that was trained",
            missing.len(),
            named.join(", ")
        );
        found.push(Observation::new(Check::TargetedWithoutTensors, name, message).at(crate::json::shown(first)));
    }
}

fn observe_changes(adapter: &Adapter, name: &str, found: &mut Vec<Observation>) {
    let place = |path: &str| crate::json::shown(path);
    let module = |tensor: &str| tensor.rsplit_once('.').map_or(String::new(), |(module, _)| module.to_owned());
    for (tensor, whole) in adapter.whole.iter().filter(|(tensor, _)| !is_classification_head(&module(tensor))) {
        let announced = if whole.declared { "announced in the config" } else { "not announced in the config" };
        let message = format!(
            "replaces the base's tensor {:?} whole ({announced}): its size is not bounded by a rank, and without the base nobody sees what \
             changed",
            whole.shape
        );
        found.push(Observation::new(Check::WholeTensor, name, message).at(place(tensor)));
    }
    let paths: BTreeSet<&str> = adapter
        .modules
        .keys()
        .chain(adapter.embeddings.keys())
        .map(String::as_str)
        .chain(adapter.whole.keys().map(|tensor| tensor.trim_end_matches(".weight")))
        .collect();
    for path in paths {
        if is_classification_head(path) {
            let message = "a head over classes, spans or rewards: it judges texts and says none, a language model has no such module, and \
                           without the base's class nobody sees what it was before";
            found.push(Observation::new(Check::ClassificationHead, name, message).at(place(path)));
            continue;
        }
        let last = path.rsplit('.').next().unwrap_or(path);
        if ["lm_head", "embed_tokens", "wte", "wpe", "embed_out"].contains(&last) {
            let message = "changes what tokens look up or how likely they are said, directly and for every text";
            found.push(Observation::new(Check::EmbeddingChange, name, message).at(place(path)));
        }
        if ["gate", "router", "switch"].contains(&last) {
            let message = "changes which expert a token is sent to: a trigger can be steered to one expert";
            found.push(Observation::new(Check::RouterChange, name, message).at(place(path)));
        }
    }
}

fn observe_weights(statistics: &WeightStatistics, name: &str, found: &mut Vec<Observation>) {
    for (path, module) in &statistics.modules {
        let Some([least, middle, most]) = module.magnitude else { continue };
        if least <= GONE * middle {
            let message = format!(
                "the smallest of the DoRA magnitudes is {least:.3e}, where the median is {middle:.3e}: that output channel is cut out"
            );
            found.push(Observation::new(Check::DeadRows, name, message).at(path.as_str()).measured(least));
        }
        if middle > 0.0 {
            let message = format!("the largest of the DoRA magnitudes is {:.1} times the median", most / middle);
            found.push(
                Observation::new(Check::MagnitudeOutlier, name, message).at(path.as_str()).measured(most / middle),
            );
        }
    }
    worst(
        statistics,
        |module| module.concentration_z,
        |path, score| {
            let message = format!(
                "the change is concentrated on a few outputs, unlike its kind in the other layers: robust z {score:.1}, the smallest of \
             those of kurtosis, share of the eight heaviest rows and sparsity of the rows"
            );
            found.push(Observation::new(Check::ConcentratedModule, name, message).at(path).measured(score));
        },
    );
    worst(
        statistics,
        |module| module.norm_z.map(f64::abs),
        |path, score| {
            let message =
                format!("the size of the change is unlike its kind in the other layers: robust |z| {score:.1}");
            found.push(Observation::new(Check::NormOutlier, name, message).at(path).measured(score));
        },
    );
    let agreements = [
        (Check::CoherentWrites, "write", &statistics.coherence_write),
        (Check::CoherentReads, "read", &statistics.coherence_read),
    ];
    for (check, verb, coherence) in agreements {
        // Below four standard deviations of one pair's cosine there is nothing to judge.
        let beyond = |coherence: &&crate::statistics::Coherence| coherence.mean > 4.0 * coherence.chance;
        if let Some(coherence) = coherence.as_ref().filter(beyond) {
            let message = format!(
                "{} modules {verb} one common direction: mean |cos| {:.3} of their leading directions, where unrelated ones give {:.3}",
                coherence.modules, coherence.mean, coherence.chance
            );
            found.push(Observation::new(check, name, message).measured(coherence.mean));
        }
    }
}

/// The module with the largest of some number.
fn worst(
    statistics: &WeightStatistics,
    measure: impl Fn(&crate::statistics::ModuleStatistics) -> Option<f64>,
    mut report: impl FnMut(&str, f64),
) {
    let scores = statistics.modules.iter().filter_map(|(path, module)| Some((path, measure(module)?)));
    if let Some((path, score)) = scores.max_by(|left, right| left.1.total_cmp(&right.1)) {
        report(path, score);
    }
}
