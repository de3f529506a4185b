//! The pickles that trainers leave beside an adapter: arguments, optimizer, schedule, random numbers.
//!
//! They import more than tensors need, and loading them runs what they import as any pickle does. What they import is
//! known, and so is how: a class of settings is made empty and given a dictionary, a choice is looked up by its value,
//! an array is put together from bytes. A file is recognised by all of it together, and its name decides only which of
//! the two sets it is held against. One import, one call or one argument of another kind, and it is a pickle like any
//! other.

use super::safe::{is_number_type, is_storage};
use super::walk::{Value, Walker};
use super::{PickleFile, TORCH_PICKLES};

/// What a file's name lets expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// No trainer's file.
    Nothing,
    /// The arguments of a trainer.
    Arguments,
    /// Tensors, arrays and numbers: an optimizer, a schedule, random numbers.
    State,
}

impl Expected {
    /// By the name of the file.
    pub(crate) fn of_name(name: &str) -> Self {
        let base = name.rsplit('/').next().unwrap_or(name);
        let Some((stem, extension)) = base.rsplit_once('.') else { return Self::Nothing };
        // One for each process or model: `rng_state_0.pth`, `optimizer_1.bin`.
        let (kind, number) = stem.rsplit_once('_').unwrap_or((stem, ""));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        match (if is_number { kind } else { stem }, extension) {
            ("training_args", "bin") => Self::Arguments,
            ("optimizer" | "scheduler" | "scaler", "pt" | "bin") | ("rng_state", "pth") | ("random_states", "pkl") => {
                Self::State
            }
            _ => Self::Nothing,
        }
    }
}

/// How something is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// REDUCE: with the arguments given.
    Reduce,
    /// NEWOBJ: made without being initialised.
    New,
}

/// What is said of a trainer's file that holds what such files hold; `None` where it is anything else.
pub(super) fn message(expected: Expected, read: &PickleFile) -> Option<String> {
    let is_expected: fn(&str, &str) -> bool = match expected {
        Expected::Nothing => return None,
        Expected::Arguments => {
            |module, name| is_settings(module, name) || is_choice(module, name) || is_value(module, name)
        }
        Expected::State => |module, name| is_tensor_part(module, name) || is_value(module, name),
    };
    let content = &read.content;
    let is_whole = read.fault.is_none() && (read.trailing == 0 || read.pickles == TORCH_PICKLES) && read.pickles > 0;
    let is_usual = content.unresolved.is_empty() && content.odd.is_none();
    let all_expected = content.imports.iter().all(|import| is_expected(&import.module, &import.name));
    if !(is_whole && is_usual && all_expected) {
        return None;
    }
    let what = match expected {
        Expected::Arguments => "The arguments of a trainer",
        _ => "The state of a trainer",
    };
    Some(format!(
        "{what}, as training libraries save it: a pickle whose {} imports and {} calls are those of such files and no \
         others. Using the adapter needs none of it",
        content.imports.len(),
        content.calls
    ))
}

/// Classes of settings: made without arguments, then given their fields.
fn is_settings(module: &str, name: &str) -> bool {
    match module {
        "transformers.training_args" | "llamafactory.hparams.training_args" => name == "TrainingArguments",
        "transformers.training_args_seq2seq" => name == "Seq2SeqTrainingArguments",
        "transformers.trainer_pt_utils" => name == "AcceleratorConfig",
        "sentence_transformers.training_args" => name == "SentenceTransformerTrainingArguments",
        "axolotl.core.training_args" | "axolotl.core.trainer_builder" => {
            is_word(name)
                && name.starts_with("Axolotl")
                && (name.ends_with("TrainingArguments") || name.ends_with("Config"))
        }
        "transformers.generation.configuration_utils" => name == "GenerationConfig",
        "transformers.utils.quantization_config" => name == "BitsAndBytesConfig",
        "transformers.deepspeed" | "transformers.integrations.deepspeed" | "accelerate.utils.deepspeed" => {
            matches!(name, "HfTrainerDeepSpeedConfig" | "HfDeepSpeedConfig")
        }
        "accelerate.state" => matches!(name, "PartialState" | "AcceleratorState" | "GradientState"),
        "accelerate.parallelism_config" => name == "ParallelismConfig",
        "accelerate.utils.dataclasses" => [
            "AutocastKwargs",
            "DataLoaderConfiguration",
            "DeepSpeedPlugin",
            "DistributedDataParallelKwargs",
            "FullyShardedDataParallelPlugin",
            "GradScalerKwargs",
            "GradientAccumulationPlugin",
            "InitProcessGroupKwargs",
            "ProjectConfiguration",
            "TorchDynamoPlugin",
        ]
        .contains(&name),
        _ => is_trl(module) && is_word(name) && name.ends_with("Config"),
    }
}

/// A module of TRL that holds settings: `trl.trainer.sft_config`.
fn is_trl(module: &str) -> bool {
    let inner = module.strip_prefix("trl.trainer.").or_else(|| module.strip_prefix("trl.experimental."));
    inner.is_some_and(|inner| {
        (inner.ends_with("_config") || inner.ends_with("_configs"))
            && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
    })
}

fn is_word(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Enumerations: a member is looked up by its value.
fn is_choice(module: &str, name: &str) -> bool {
    let names: &[&str] = match module {
        "transformers.trainer_utils" => &[
            "EvaluationStrategy",
            "FSDPOption",
            "HPSearchBackend",
            "HubStrategy",
            "IntervalStrategy",
            "SaveStrategy",
            "SchedulerType",
            "ShardedDDPOption",
        ],
        "transformers.training_args" => &["OptimizerNames", "ParallelMode"],
        "transformers.debug_utils" => &["DebugOption"],
        "transformers.utils.quantization_config" => &["QuantizationMethod"],
        "transformers.utils.generic" => &["PaddingStrategy", "TensorType"],
        "sentence_transformers.training_args" => &["BatchSamplers", "MultiDatasetBatchSamplers"],
        "accelerate.utils.dataclasses" => &[
            "ComputeEnvironment",
            "CustomDtype",
            "DDPCommunicationHookType",
            "DistributedType",
            "DynamoBackend",
            "FP8BackendType",
            "LoggerType",
            "PrecisionType",
            "RNGType",
            "SageMakerDistributedType",
        ],
        "trl.trainer.dpo_config" => &["FDivergenceType"],
        // How one version of Python saves a member of an enumeration; what is looked up is judged with the call.
        "builtins" | "__builtin__" => &["getattr"],
        _ => &[],
    };
    names.contains(&name)
}

/// Small values of torch and of the language.
fn is_value(module: &str, name: &str) -> bool {
    match module {
        "torch" => matches!(name, "device" | "Size") || is_number_type(name),
        "collections" => name == "OrderedDict",
        "builtins" | "__builtin__" => matches!(name, "set" | "frozenset"),
        _ => false,
    }
}

/// What tensors and arrays of numbers are put together from.
fn is_tensor_part(module: &str, name: &str) -> bool {
    match module {
        "torch._utils" => matches!(name, "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_parameter"),
        "torch" | "torch.cuda" => is_storage(name),
        "torch.storage" => matches!(name, "TypedStorage" | "UntypedStorage"),
        "_codecs" => name == "encode",
        "numpy" => matches!(name, "ndarray" | "dtype"),
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "_reconstruct" | "scalar"),
        "numpy.core.numeric" | "numpy._core.numeric" => name == "_frombuffer",
        _ => false,
    }
}

impl Walker<'_> {
    /// Whether a call is one by which trainers' files are put together.
    pub(super) fn is_usual_call(&self, how: How, called: Value, arguments: Value) -> bool {
        let (Value::Global(Some(import)), Some(arguments)) = (called, self.items(arguments)) else { return false };
        let Some((module, name)) = self.name_of(import) else { return false };
        if how == How::New {
            return is_settings(module, name) && arguments.is_empty();
        }
        if is_choice(module, name) && name != "getattr" {
            return matches!(arguments, [Value::Text { .. } | Value::Number(_)]);
        }
        match (name, arguments) {
            ("getattr", [Value::Global(Some(class)), member]) => self.is_member(*class, *member),
            ("OrderedDict", [])
            | ("set" | "frozenset", [_])
            | ("Size", [Value::Tuple { .. } | Value::Opaque])
            | ("device", [Value::Text { .. }] | [Value::Text { .. }, Value::Number(_)]) => true,
            ("_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_parameter", [_, _, _, ..]) => {
                module == "torch._utils"
            }
            ("encode", [Value::Text { .. }, encoding]) => {
                self.text(*encoding).is_some_and(|encoding| matches!(encoding.as_str(), "latin1" | "latin-1"))
            }
            ("dtype", [code, _, _]) => self.text(*code).is_some_and(|code| is_number_code(&code)),
            ("_reconstruct", [array, shape, bytes]) => {
                self.is_import(*array, "ndarray") && self.is_empty_shape(*shape) && self.is_bytes(*bytes)
            }
            ("scalar", [kind, bytes]) | ("_frombuffer", [bytes, kind, ..]) => {
                self.is_made(*kind, "dtype") && self.is_bytes(*bytes)
            }
            _ => false,
        }
    }

    /// Whether an object is given what such files give it.
    pub(super) fn is_usual_state(&self, object: Value, state: Value) -> bool {
        let Value::Made(import) = object else { return false };
        let Some((module, name)) = self.name_of(import) else { return false };
        let items = self.items(state);
        match name {
            // Version, byte order, no fields, no sizes and no flags of its own: a type of numbers.
            "dtype" => matches!(
                items,
                Some([
                    Value::Number(_),
                    Value::Text { .. },
                    Value::Opaque,
                    Value::Opaque,
                    Value::Opaque,
                    Value::Number(-1),
                    Value::Number(-1),
                    Value::Number(0)
                ])
            ),
            "_reconstruct" => matches!(items, Some([Value::Number(_), Value::Tuple { .. }, kind, _, bytes])
                if self.is_made(*kind, "dtype") && self.is_bytes(*bytes)),
            _ => matches!(state, Value::Mapping) && (is_settings(module, name) || name == "OrderedDict"),
        }
    }

    /// Whether things may be put into an object: into lists and dictionaries, not into what was imported or made.
    pub(super) fn takes_items(&self, object: Value, keyed: bool) -> bool {
        match object {
            Value::Opaque | Value::Mapping => true,
            Value::Made(_) => keyed && self.is_made(object, "OrderedDict"),
            _ => false,
        }
    }

    /// The name of a member of an enumeration, which is in capitals.
    fn is_member(&self, class: u32, member: Value) -> bool {
        let is_capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let of_choice = self.name_of(class).is_some_and(|(module, name)| is_choice(module, name) && name != "getattr");
        let named = self.text(member);
        of_choice && named.is_some_and(|name| !name.starts_with('_') && name.bytes().all(is_capital))
    }

    fn is_import(&self, value: Value, expected: &str) -> bool {
        matches!(value, Value::Global(Some(import)) if self.name_of(import).is_some_and(|(_, name)| name == expected))
    }

    fn is_made(&self, value: Value, expected: &str) -> bool {
        matches!(value, Value::Made(import) if self.name_of(import).is_some_and(|(_, name)| name == expected))
    }

    /// Bytes as they are, or as protocols 0 to 2 write them.
    fn is_bytes(&self, value: Value) -> bool {
        matches!(value, Value::Text { .. }) || self.is_made(value, "encode")
    }

    fn is_empty_shape(&self, value: Value) -> bool {
        matches!(self.items(value), Some([Value::Number(0)]))
    }
}

/// A type of numbers as numpy writes it: `f8`, `u4`, `b1`.
fn is_number_code(code: &str) -> bool {
    let Some((kind, size)) = code.split_at_checked(1) else { return false };
    matches!(kind, "b" | "i" | "u" | "f" | "c") && matches!(size, "1" | "2" | "4" | "8" | "16")
}
