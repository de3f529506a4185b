//! Why an adapter was refused: one variant per reason, each naming the file, the tensor or key, what was found and what
//! to do about it.

use std::path::PathBuf;

use super::foreign::{is_image_module, is_of_senses};
use crate::checkpoint::CheckpointError;

/// Why an adapter was refused.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The tensor file itself is broken, or a tensor in it holds what no adapter may.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}. Check the path and its permissions")]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {reason}. Nothing that stood there before was changed")]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Nothing stands at the path.
    #[error("{path} does not exist. Give the folder of an adapter, or its .safetensors file")]
    NotFound {
        /// What was given.
        path: PathBuf,
    },
    /// No `adapter_config.json`.
    #[error("{folder} holds no adapter_config.json, which says how the tensors are scaled and where they go{hint}")]
    NoConfig {
        /// Folder searched.
        folder: PathBuf,
        /// What stands there instead, and what to do.
        hint: String,
    },
    /// A config, but no tensors.
    #[error(
        "{folder} holds adapter_config.json but neither adapter_model.safetensors (PEFT) nor adapters.safetensors \
         (MLX){hint}"
    )]
    NoTensors {
        /// Folder searched.
        folder: PathBuf,
        /// What stands there instead, and what to do.
        hint: String,
    },
    /// Only a pickle.
    #[error(
        "{path} is a pickle: opening one can run code, so it is never opened here. Convert it where that does no harm \
         (load the adapter with PEFT in a sandbox and call save_pretrained(folder, safe_serialization=True)) and give \
         the new folder"
    )]
    Pickle {
        /// The pickle.
        path: PathBuf,
    },
    /// An adapter, or what looks like one, in a format that is not read.
    #[error("{path} is {what}. {way_out}")]
    Foreign {
        /// File.
        path: PathBuf,
        /// The format.
        what: String,
        /// What can be done with it.
        way_out: String,
    },
    /// A large-file pointer stands in the place of the file.
    #[error("{path} is a Git LFS pointer, not the file: run `git lfs pull` (or download the file itself)")]
    LfsPointer {
        /// File.
        path: PathBuf,
    },
    /// Several checkpoints of a run and no final one.
    #[error("{folder} holds several checkpoints and no adapters.safetensors: {}. Give the file \
        you mean", .files.join(", "))]
    SeveralCheckpoints {
        /// Folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// The config is not JSON, or not an object.
    #[error("{path} is not a valid adapter config: {reason}")]
    ConfigSyntax {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A field of the config has a value that it cannot have.
    #[error("{path}: `{field}` is {found}: {reason}")]
    ConfigField {
        /// File.
        path: PathBuf,
        /// Field.
        field: String,
        /// Its value, shortened.
        found: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A field that changes the mathematics in a way not implemented here.
    #[error(
        "{path}: `{field}` is {found}: this changes what the adapter computes and is not supported. Merge or convert \
         the adapter to plain LoRA or DoRA with PEFT first"
    )]
    UnsupportedField {
        /// File.
        path: PathBuf,
        /// Field.
        field: String,
        /// Its value, shortened.
        found: String,
    },
    /// A field that nobody here has heard of, with a value that may matter.
    #[error(
        "{path}: `{field}` is {found}: this field is not known here, so what it changes cannot be audited. If it \
         changes nothing, remove it from a copy of the config"
    )]
    UnknownField {
        /// File.
        path: PathBuf,
        /// Field.
        field: String,
        /// Its value, shortened.
        found: String,
    },
    /// Another method than LoRA or DoRA.
    #[error("{path}: the method is {found}; LoRA and DoRA adapters (PEFT, MLX) can be read. {way_out}")]
    Method {
        /// File.
        path: PathBuf,
        /// What the config says.
        found: String,
        /// What can be done with such an adapter.
        way_out: String,
    },
    /// A regular expression that does not compile, or that takes too long.
    #[error("{path}: `{field}`: the pattern `{pattern}` {reason}")]
    Pattern {
        /// File.
        path: PathBuf,
        /// Field.
        field: String,
        /// Pattern, shortened.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file, or a module in it, beyond the bounds that it was to be read within.
    #[error("{path}{}: {reason}. What \
        it holds was not looked at", if .place.is_empty() { String::new() } else { format!(": \
        `{}`", .place) })]
    TooLarge {
        /// File.
        path: PathBuf,
        /// Module, where it is one; else empty.
        place: String,
        /// What is too large, and the bound.
        reason: String,
    },
    /// The patterns of a config cost more than all of one adapter may.
    #[error(
        "{path}: `{field}`: {reason}, more than is spent on one adapter: it was not read. Name the modules in full, or \
         write fewer and simpler patterns"
    )]
    PatternBudget {
        /// File.
        path: PathBuf,
        /// Field whose pattern was one too many.
        field: String,
        /// What took too long.
        reason: String,
    },
    /// No tensor at all.
    #[error(
        "{path} holds no tensor: an adapter without weights. Was it saved before training, or by the wrong process?"
    )]
    Empty {
        /// File.
        path: PathBuf,
    },
    /// A tensor whose name or place means nothing in this format.
    #[error("{path}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// One half of a pair.
    #[error("{path}: `{module}` has `{present}` but no {missing}. The file is incomplete: save the adapter again")]
    Unpaired {
        /// File.
        path: PathBuf,
        /// Module in the base.
        module: String,
        /// Tensor that is there.
        present: String,
        /// What is missing.
        missing: String,
    },
    /// A module that PEFT adapted and, around that, saved whole.
    #[error(
        "{path}: tensor `{tensor}` is a LoRA factor inside a saved copy of `{module}`: the module is both a target of \
         LoRA (target_modules) and saved whole (modules_to_save; for classifiers PEFT adds `classifier` and `score` to \
         it by itself), and PEFT loads only one of the two. Take `{module}` out of one of the lists, train again and \
         save"
    )]
    BothLists {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// Module of the base.
        module: String,
    },
    /// Two tensors that mean the same.
    #[error("{path}: tensors `{first}` and `{second}` are the same part of `{module}`: keep one")]
    Duplicate {
        /// File.
        path: PathBuf,
        /// Module or tensor in the base.
        module: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor of another shape than its partner or the base asks for.
    #[error("{path}: tensor `{tensor}` has shape {found:?}, expected {expected}")]
    Shape {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// What it should be, and why.
        expected: String,
    },
    /// The tensors have another rank than the config says.
    #[error(
        "{path}: tensor `{tensor}` has rank {found}, {declared_by} in adapter_config.json says {declared}. PEFT would \
         not load this: use the config that belongs to these tensors"
    )]
    Rank {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// Rank of the tensor.
        found: usize,
        /// Rank of the config.
        declared: usize,
        /// Field of the config.
        declared_by: String,
    },
    /// A tensor for a module that the base does not have.
    #[error(
        "{path}: tensor `{tensor}` belongs to `{module}`, which the base model does not have{}. PEFT would ignore it \
         without a word. {}", nearest_hint(.nearest.as_deref()), advice(.module)
    )]
    Unmatched {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// Module that it names.
        module: String,
        /// A module of the base with a similar name.
        nearest: Option<String>,
    },
    /// A tensor for a module that the config does not select.
    #[error(
        "{path}: tensor `{tensor}`: the config does not select `{module}` ({reason}), so the library that wrote it \
         would ignore the tensor without a word. Use the config that belongs to these tensors"
    )]
    NotTargeted {
        /// File.
        path: PathBuf,
        /// Tensor.
        tensor: String,
        /// Module of the base.
        module: String,
        /// Which rule leaves it out.
        reason: String,
    },
    /// A module that the config says is saved whole, without its tensor.
    #[error(
        "{path}: `modules_to_save` selects `{module}`, and the file has no `{tensor}`. PEFT would not load this: save \
         the adapter again"
    )]
    MissingWhole {
        /// File.
        path: PathBuf,
        /// Module of the base.
        module: String,
        /// Tensor that should be there.
        tensor: String,
    },
    /// The adapter is relative to a base that its initialisation changed.
    #[error(
        "{path}: `init_lora_weights` is `{initialization}`: that initialisation also changes the base's weights, so \
         these tensors are relative to a base that is not the published one. Convert with PEFT: \
         save_pretrained(folder, path_initial_model_for_weight_conversion=<the adapter as it was before training>), \
         which writes an ordinary LoRA of twice the rank (LoftQ cannot be converted: audit against the dequantised \
         base it was trained on, with init_lora_weights set to true)"
    )]
    BaseChanged {
        /// Config.
        path: PathBuf,
        /// The initialisation.
        initialization: String,
    },
}

/// What to do about a module that a base does not have, by what kind of module it is.
fn advice(module: &str) -> &'static str {
    if is_of_senses(module) {
        "It belongs to the part of a model that sees or hears, and this base is a text model: such an adapter can be \
         scanned and inspected, and only one of the text part alone can be compared"
    } else if is_image_module(module) {
        "It belongs to an image model: only adapters of text models can be compared"
    } else if module.split('.').any(|part| part == "language_model") {
        "`language_model` is how models with images name their text part: the adapter was trained on such a model, and \
         this base is a text model"
    } else {
        "Is this the base that the adapter was trained on?"
    }
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (nearest: `{name}`)"))
}
