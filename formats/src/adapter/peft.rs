//! The layout of PEFT: `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! Keys are `base_model.model.<module>.lora_A.weight` (rank × inputs), `.lora_B.weight` (outputs × rank),
//! `.lora_B.bias`, `.lora_magnitude_vector` (outputs; with or without `.weight`), `.lora_embedding_A` (rank × tokens)
//! and `_B` (width × rank), and for modules saved whole `<module>.weight`. Where the name of the adapter stands after
//! the marker, as in a running model, a note says what loaders make of that. Whatever does not read as one of these is
//! refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::config::PeftConfig;
use super::error::AdapterError;
use super::files::{self, Selection, matrix, vector};
use super::notes::{marked_whole, names_in_keys};
use super::{
    Adapter, AdapterConfig, EmbeddingLowRank, Format, LowRank, Note, NoteKind, Origin, ReplacedWeight, ScalingRule,
};
use crate::checkpoint::Weight;

/// What PEFT puts before the path of a module.
pub(crate) const PREFIX: &str = "base_model.model.";

/// Place of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Down,
    Up,
    UpBias,
    Magnitude,
    EmbeddingDown,
    EmbeddingUp,
    /// The module's own weight (or any other parameter but the bias), with the name of the parameter kept in the key.
    Whole(bool),
    Bias,
}

/// What a key says.
struct Key {
    /// The module in the base; for whole tensors, the tensor.
    name: String,
    part: Part,
    /// The adapter's name, where it stands in the key.
    adapter: Option<String>,
}

/// The tensors of a file in their places.
#[derive(Default)]
struct Parts<'a> {
    /// By module (for whole tensors: by tensor name) and place.
    places: BTreeMap<String, BTreeMap<Part, &'a Weight>>,
    /// Names of adapters that stand in keys, with the first key of each.
    adapters: BTreeMap<String, String>,
    /// The first key that has `modules_to_save` in its path, as in a running model, without a name after it.
    saved: Option<String>,
}

/// Reads a PEFT adapter whose files were found.
pub(crate) fn open(
    config: &PeftConfig,
    tensors: &Path,
    selection: Option<&Selection>,
) -> Result<Adapter, AdapterError> {
    let source = files::open_tensors(tensors, selection)?;
    let parts = sort_tensors(&source.chosen)?;
    let mut adapter = Adapter {
        path: tensors.to_path_buf(),
        format: Format::Peft,
        tensors_in_file: source.file.tensors().len(),
        bytes: source.bytes,
        parameters: source.parameters,
        sha256: source.sha256,
        config_sha256: String::new(),
        modules: BTreeMap::new(),
        embeddings: BTreeMap::new(),
        modules_to_save: BTreeMap::new(),
        biases: BTreeMap::new(),
        bias_tensors: BTreeMap::new(),
        notes: notes(config),
        config: AdapterConfig::Peft(Box::new(config.clone())),
    };
    adapter.notes.extend(names_in_keys(&parts.adapters));
    adapter.notes.extend(parts.saved.as_deref().map(marked_whole));
    for (name, places) in &parts.places {
        place(&mut adapter, config, name, places)?;
    }
    check_whole(&mut adapter, config)?;
    adapter.note_modules();
    Ok(adapter)
}

fn notes(config: &PeftConfig) -> Vec<Note> {
    let mut notes = Vec::new();
    if config.changes_base() {
        let text = format!(
            "init_lora_weights is `{}`: the tensors are relative to a base changed by that initialisation",
            config.initialization
        );
        notes.push(Note { kind: NoteKind::BaseChanged, text });
    }
    if config.initialization == "false" {
        let text =
            "init_lora_weights is false: modules targeted without tensors would start at random in PEFT".to_owned();
        notes.push(Note { kind: NoteKind::Initialization, text });
    }
    notes
}

/// Gives every tensor of the file its place, or refuses it.
fn sort_tensors(tensors: &[Weight]) -> Result<Parts<'_>, AdapterError> {
    let mut parts = Parts::default();
    for tensor in tensors {
        let Key { name, part, adapter } = parse_key(tensor)?;
        if let Some(adapter) = adapter {
            parts.adapters.entry(adapter).or_insert_with(|| tensor.name().to_owned());
        } else if tensor.name().contains(".modules_to_save.") {
            parts.saved.get_or_insert_with(|| tensor.name().to_owned());
        }
        let places = parts.places.entry(name.clone()).or_default();
        // A whole tensor may be written in two ways; they are one place.
        let taken = match part {
            Part::Whole(_) => places.get(&Part::Whole(true)).or(places.get(&Part::Whole(false))),
            _ => places.get(&part),
        };
        if let Some(first) = taken {
            return Err(AdapterError::Duplicate {
                path: tensor.path().to_path_buf(),
                module: name,
                first: first.name().to_owned(),
                second: tensor.name().to_owned(),
            });
        }
        places.insert(part, tensor);
    }
    Ok(parts)
}

/// Reads a key.
fn parse_key(tensor: &Weight) -> Result<Key, AdapterError> {
    let refuse = |reason: &str| AdapterError::Tensor {
        path: tensor.path().to_path_buf(),
        tensor: tensor.name().to_owned(),
        reason: reason.to_owned(),
    };
    let Some(key) = tensor.name().strip_prefix(PREFIX) else {
        return Err(refuse(
            "the name does not begin with `base_model.model.`, so PEFT would ignore it. Rename it, or save the adapter \
             with PEFT",
        ));
    };
    let segments: Vec<&str> = key.split('.').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err(refuse("the name has an empty part between its dots. Save the adapter with PEFT"));
    }
    let marker = segments.iter().position(|segment| is_marker(segment));
    let Some(marker) = marker else {
        let (name, part) = match segments.as_slice() {
            [] | [_] => return Err(refuse("the name has no module. Save the adapter with PEFT")),
            [.., "bias"] => (super::module_of(key).to_owned(), Part::Bias),
            _ => (key.to_owned(), Part::Whole(false)),
        };
        return Ok(Key { name, part, adapter: None });
    };
    let module = segments.get(..marker).unwrap_or(&[]).join(".");
    let rest = segments.get(marker..).unwrap_or(&[]);
    if module.is_empty() {
        return Err(refuse("the name has no module. Save the adapter with PEFT"));
    }
    if let ["modules_to_save" | "original_module", inside @ ..] = rest
        && inside.iter().any(|segment| segment.starts_with("lora_") || *segment == "base_layer")
    {
        return Err(AdapterError::BothLists {
            path: tensor.path().to_path_buf(),
            tensor: tensor.name().to_owned(),
            module,
        });
    }
    parse_marked(&module, rest).ok_or_else(|| refuse(refusal_of_marker(rest)))
}

/// Whether a segment of a key ends the module's path. `base_layer` may also be an ordinary name, but not in a decoder.
fn is_marker(segment: &str) -> bool {
    segment.starts_with("lora_")
        || ["base_layer", "modules_to_save", "original_module", "token_adapter"].contains(&segment)
}

/// The part of a key from its marker on.
fn parse_marked(module: &str, rest: &[&str]) -> Option<Key> {
    let key = |part: Part, adapter: Option<&str>| {
        Some(Key { name: module.to_owned(), part, adapter: adapter.map(str::to_owned) })
    };
    let whole = |parameter: &str, base_layer: bool, adapter: Option<&str>| {
        if parameter == "bias" {
            return key(Part::Bias, adapter);
        }
        let name = format!("{module}.{parameter}");
        Some(Key { name, part: Part::Whole(base_layer), adapter: adapter.map(str::to_owned) })
    };
    match *rest {
        ["lora_A", "weight"] => key(Part::Down, None),
        ["lora_A", adapter, "weight"] => key(Part::Down, Some(adapter)),
        ["lora_B", "weight"] => key(Part::Up, None),
        ["lora_B", adapter, "weight"] => key(Part::Up, Some(adapter)),
        ["lora_B", "bias"] => key(Part::UpBias, None),
        ["lora_B", adapter, "bias"] => key(Part::UpBias, Some(adapter)),
        ["lora_magnitude_vector"] | ["lora_magnitude_vector", "weight"] => key(Part::Magnitude, None),
        ["lora_magnitude_vector", adapter] | ["lora_magnitude_vector", adapter, "weight"] => {
            key(Part::Magnitude, Some(adapter))
        }
        ["lora_embedding_A"] => key(Part::EmbeddingDown, None),
        ["lora_embedding_A", adapter] => key(Part::EmbeddingDown, Some(adapter)),
        ["lora_embedding_B"] => key(Part::EmbeddingUp, None),
        ["lora_embedding_B", adapter] => key(Part::EmbeddingUp, Some(adapter)),
        ["base_layer", parameter] => whole(parameter, true, None),
        // PEFT saves such a module without the marker; a note says so.
        ["modules_to_save", parameter] => whole(parameter, false, None),
        ["modules_to_save", adapter, parameter] => whole(parameter, false, Some(adapter)),
        _ => None,
    }
}

fn refusal_of_marker(rest: &[&str]) -> &'static str {
    match rest.first().copied() {
        Some("token_adapter") => "single trained tokens (`trainable_token_indices`) are not supported",
        Some("original_module") => {
            "a copy of the base's module, which PEFT ignores. Save the adapter with a current PEFT"
        }
        Some("base_layer") => {
            "an adapter around another adapter is not supported. Merge one of them into the base first"
        }
        _ => {
            "this is not a tensor of LoRA or DoRA (lora_A, lora_B, lora_magnitude_vector, lora_embedding_A, \
             lora_embedding_B)"
        }
    }
}

/// Reads the tensors of one module, or one whole tensor.
fn place(
    adapter: &mut Adapter,
    config: &PeftConfig,
    name: &str,
    places: &BTreeMap<Part, &Weight>,
) -> Result<(), AdapterError> {
    let get = |part: Part| places.get(&part).copied();
    if let Some(tensor) = get(Part::Bias) {
        let length = tensor.len();
        let values = vector(tensor, length, "a bias")?;
        adapter.biases.insert(name.to_owned(), values);
        adapter.bias_tensors.insert(name.to_owned(), tensor.name().to_owned());
    }
    for base_layer in [false, true] {
        if let Some(tensor) = get(Part::Whole(base_layer)) {
            adapter.modules_to_save.insert(name.to_owned(), read_whole(config, name, tensor, base_layer)?);
        }
    }
    if let Some(embedding) = read_embedding(config, name, places)? {
        adapter.embeddings.insert(name.to_owned(), embedding);
    } else if let Some(module) = read_low_rank(config, name, places)? {
        adapter.modules.insert(name.to_owned(), Arc::new(module));
    }
    Ok(())
}

fn read_whole(
    config: &PeftConfig,
    name: &str,
    tensor: &Weight,
    base_layer: bool,
) -> Result<ReplacedWeight, AdapterError> {
    tensor.check_finite()?;
    Ok(ReplacedWeight {
        shape: tensor.shape().to_vec(),
        weight: tensor.clone(),
        origin: if base_layer { Origin::BaseLayer } else { Origin::ModuleToSave },
        declared: config.saves_whole(super::module_of(name))?,
        tensor_name: tensor.name().to_owned(),
    })
}

/// Checks the rank of a factor against the config and gives alpha, scale and rule.
fn scaling(
    config: &PeftConfig,
    module: &str,
    tensor: &Weight,
    rank: usize,
) -> Result<(f64, f64, ScalingRule), AdapterError> {
    let (declared, declared_by) = config.rank_of(module)?;
    if rank != declared {
        return Err(AdapterError::Rank {
            path: tensor.path().to_path_buf(),
            tensor: tensor.name().to_owned(),
            found: rank,
            declared,
            declared_by,
        });
    }
    let (alpha, _) = config.alpha_of(module)?;
    let rule = if config.use_rslora { ScalingRule::AlphaOverRootRank } else { ScalingRule::AlphaOverRank };
    Ok((alpha, rule.scale(alpha, rank), rule))
}

/// Both factors of a pair, or neither; one alone is an error.
fn pair<'a>(
    module: &str,
    lora_a: Option<&'a Weight>,
    lora_b: Option<&'a Weight>,
    names: [&str; 2],
) -> Result<Option<(&'a Weight, &'a Weight)>, AdapterError> {
    let (present, missing) = match (lora_a, lora_b) {
        (Some(lora_a), Some(lora_b)) => return Ok(Some((lora_a, lora_b))),
        (None, None) => return Ok(None),
        (Some(lora_a), None) => (lora_a, names[1]),
        (None, Some(lora_b)) => (lora_b, names[0]),
    };
    Err(AdapterError::Unpaired {
        path: present.path().to_path_buf(),
        module: module.to_owned(),
        present: present.name().to_owned(),
        missing: missing.to_owned(),
    })
}

fn read_low_rank(
    config: &PeftConfig,
    name: &str,
    places: &BTreeMap<Part, &Weight>,
) -> Result<Option<LowRank>, AdapterError> {
    let get = |part: Part| places.get(&part).copied();
    let extra = get(Part::Magnitude).or(get(Part::UpBias));
    let Some((lora_a, lora_b)) = pair(name, get(Part::Down), get(Part::Up), ["lora_A", "lora_B"])? else {
        return match extra {
            None => Ok(None),
            Some(extra) => Err(AdapterError::Unpaired {
                path: extra.path().to_path_buf(),
                module: name.to_owned(),
                present: extra.name().to_owned(),
                missing: "lora_A and lora_B".to_owned(),
            }),
        };
    };
    let [rank, inputs] = matrix(lora_a, "(rank × inputs)")?;
    let [outputs, lora_b_rank] = matrix(lora_b, "(outputs × rank)")?;
    if lora_b_rank != rank {
        return Err(AdapterError::Shape {
            path: lora_b.path().to_path_buf(),
            tensor: lora_b.name().to_owned(),
            found: lora_b.shape().to_vec(),
            expected: format!("[{outputs}, {rank}], the rank of `{}`", lora_a.name()),
        });
    }
    let (alpha, scale, scaling_rule) = scaling(config, name, lora_a, rank)?;
    let magnitude =
        declared_vector(config.use_dora, "use_dora", get(Part::Magnitude), "lora_magnitude_vector", (name, lora_b))?;
    let lora_b_bias = declared_vector(config.lora_bias, "lora_bias", get(Part::UpBias), "lora_B bias", (name, lora_b))?;
    Ok(Some(LowRank {
        rank,
        alpha,
        scale,
        scaling_rule,
        lora_a: lora_a.to_finite_f32()?,
        lora_b: lora_b.to_finite_f32()?,
        inputs,
        outputs,
        magnitude,
        lora_b_bias,
        tensor_names: [Some(lora_a), Some(lora_b), get(Part::Magnitude), get(Part::UpBias)]
            .into_iter()
            .flatten()
            .map(|tensor| tensor.name().to_owned())
            .collect(),
    }))
}

/// A vector over the outputs of a module's `up` that must be there exactly when the config says so.
fn declared_vector(
    declared: bool,
    field: &str,
    found: Option<&Weight>,
    what: &str,
    (module, lora_b): (&str, &Weight),
) -> Result<Option<Vec<f32>>, AdapterError> {
    let outputs = lora_b.shape().first().copied().unwrap_or(0);
    match (declared, found) {
        (true, Some(tensor)) => vector(tensor, outputs, "one element per output").map(Some),
        (false, None) => Ok(None),
        (true, None) => Err(AdapterError::Unpaired {
            path: lora_b.path().to_path_buf(),
            module: module.to_owned(),
            present: lora_b.name().to_owned(),
            missing: format!("{what}, which `{field}: true` announces"),
        }),
        (false, Some(tensor)) => Err(AdapterError::Tensor {
            path: tensor.path().to_path_buf(),
            tensor: tensor.name().to_owned(),
            reason: format!(
                "`{field}` is not true in adapter_config.json, so PEFT would ignore it. Correct one of the two"
            ),
        }),
    }
}

fn read_embedding(
    config: &PeftConfig,
    name: &str,
    places: &BTreeMap<Part, &Weight>,
) -> Result<Option<EmbeddingLowRank>, AdapterError> {
    let get = |part: Part| places.get(&part).copied();
    let names = ["lora_embedding_A", "lora_embedding_B"];
    let Some((lora_a, lora_b)) = pair(name, get(Part::EmbeddingDown), get(Part::EmbeddingUp), names)? else {
        return Ok(None);
    };
    let clash = [Part::Down, Part::Up, Part::UpBias, Part::Magnitude].into_iter().find_map(get);
    if let Some(clash) = clash {
        return Err(AdapterError::Tensor {
            path: clash.path().to_path_buf(),
            tensor: clash.name().to_owned(),
            reason: "an embedding can carry lora_embedding_A and _B only (DoRA on embeddings is not supported)"
                .to_owned(),
        });
    }
    let [rank, rows] = matrix(lora_a, "(rank × tokens)")?;
    let [width, lora_b_rank] = matrix(lora_b, "(width × rank)")?;
    if lora_b_rank != rank {
        return Err(AdapterError::Shape {
            path: lora_b.path().to_path_buf(),
            tensor: lora_b.name().to_owned(),
            found: lora_b.shape().to_vec(),
            expected: format!("[{width}, {rank}], the rank of `{}`", lora_a.name()),
        });
    }
    if config.use_dora {
        return Err(AdapterError::UnsupportedField {
            path: config.path.clone(),
            field: "use_dora".to_owned(),
            found: format!("true for the embedding `{name}`"),
        });
    }
    let (alpha, scale, scaling_rule) = scaling(config, name, lora_a, rank)?;
    Ok(Some(EmbeddingLowRank {
        rank,
        alpha,
        scale,
        scaling_rule,
        lora_a: lora_a.to_finite_f32()?,
        lora_b: lora_b.to_finite_f32()?,
        rows,
        width,
        tensor_names: vec![lora_a.name().to_owned(), lora_b.name().to_owned()],
    }))
}

/// Checks whole tensors and biases against the low-rank parts: PEFT loads some of them, drops others.
fn check_whole(adapter: &mut Adapter, config: &PeftConfig) -> Result<(), AdapterError> {
    let path = adapter.path.clone();
    for (name, whole) in &mut adapter.modules_to_save {
        let module = super::module_of(name);
        let adapted = adapter.modules.contains_key(module) || adapter.embeddings.contains_key(module);
        let reason = match (whole.origin, adapted) {
            (Origin::ModuleToSave, true) => {
                "its module also has a low-rank part, so PEFT would ignore it: the module is both a target of LoRA \
                 (target_modules) and saved whole (modules_to_save; for classifiers PEFT adds `classifier` and `score` \
                 by itself). Keep one of the two"
            }
            (Origin::BaseLayer, false) => {
                "a `base_layer` of a module that has no low-rank part, so PEFT would ignore it. Remove it"
            }
            _ => {
                // PEFT itself stores an adapted embedding's base beside it.
                whole.declared |= whole.origin == Origin::BaseLayer && adapter.embeddings.contains_key(module);
                continue;
            }
        };
        return Err(AdapterError::Tensor { path, tensor: whole.tensor_name.clone(), reason: reason.to_owned() });
    }
    let undeclared: Vec<&str> =
        adapter.modules_to_save.iter().filter(|(_, whole)| !whole.declared).map(|(name, _)| name.as_str()).collect();
    if !undeclared.is_empty() {
        let text = format!(
            "whole tensors that modules_to_save does not announce, which PEFT loads over the base without a word: {}",
            undeclared.join(", ")
        );
        adapter.notes.push(Note { kind: NoteKind::UndeclaredWhole, text });
    }
    let old_biases: Vec<&str> = adapter
        .bias_tensors
        .iter()
        .filter(|(module, tensor)| adapter.modules.contains_key(*module) && !tensor.contains(".base_layer."))
        .map(|(_, tensor)| tensor.as_str())
        .collect();
    if !old_biases.is_empty() {
        let text = format!(
            "biases of adapted modules in the spelling of old PEFT versions, applied here; current ones drop them \
             without a word: {}",
            old_biases.join(", ")
        );
        adapter.notes.push(Note { kind: NoteKind::LoadersDisagree, text });
    }
    if config.ensure_weight_tying && !(adapter.modules_to_save.is_empty() && adapter.embeddings.is_empty()) {
        return Err(AdapterError::UnsupportedField {
            path: config.path.clone(),
            field: "ensure_weight_tying".to_owned(),
            found: "true, with embeddings or whole tensors in the file".to_owned(),
        });
    }
    Ok(())
}
