//! The keys of a config.json, each taken once: what is left at the end is unknown, and refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Activation, ConfigError};

/// Largest size of any one dimension that is believed; beyond it the file is not a model's.
const LARGEST_SIZE: u64 = 1 << 24;
/// Most layers that are believed.
const MOST_LAYERS: u64 = 4096;

/// The keys of a config that nobody has read yet.
pub(crate) struct Keys<'a> {
    pub(crate) path: &'a Path,
    pub(crate) keys: Map<String, Value>,
}

impl Keys<'_> {
    pub(crate) fn wrong(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Key { path: self.path.to_path_buf(), key: key.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unsupported(&self, key: &str, value: &Value) -> ConfigError {
        ConfigError::Unsupported { path: self.path.to_path_buf(), key: key.to_owned(), value: value.to_string() }
    }

    /// Whether a key stands in the file, null included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Takes a key; JSON null counts as absent, as it does in transformers.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.shift_remove(key).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, format!("expected a string, found {other}"))),
        }
    }

    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(key, format!("expected true or false, found {other}"))),
        }
    }

    pub(crate) fn optional_size(&mut self, key: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.wrong(key, format!("expected a whole number in 1..={LARGEST_SIZE}, found {value}"))),
        }
    }

    pub(crate) fn size(&mut self, key: &str) -> Result<usize, ConfigError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// A number of layers.
    pub(crate) fn layers(&mut self, key: &str) -> Result<usize, ConfigError> {
        let layers = self.size(key)?;
        if layers as u64 > MOST_LAYERS {
            return Err(self.wrong(key, format!("{layers} layers; at most {MOST_LAYERS} are believed")));
        }
        Ok(layers)
    }

    /// Width of a head where no key says it: that of the stream shared out among the heads.
    pub(crate) fn divided(&self, key: &str, width: usize, heads: usize) -> Result<usize, ConfigError> {
        if width.is_multiple_of(heads) {
            Ok(width / heads)
        } else {
            Err(self.wrong(key, format!("{width} is not a multiple of {heads} heads")))
        }
    }

    pub(crate) fn optional_number(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.wrong(key, format!("expected a positive number, found {value}"))),
        }
    }

    pub(crate) fn number(&mut self, key: &str, default: f64) -> Result<f64, ConfigError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// Refuses a setting that changes the mathematics unless it is off.
    pub(crate) fn must_be_off(&mut self, key: &str) -> Result<(), ConfigError> {
        match self.take(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(other) => Err(self.unsupported(key, &other)),
        }
    }

    pub(crate) fn tokens(&mut self, key: &str) -> Vec<u32> {
        let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        match self.take(key) {
            Some(Value::Array(list)) => list.iter().filter_map(token).collect(),
            Some(value) => token(&value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    pub(crate) fn activation(&mut self, keys: &[&str], default: Activation) -> Result<Activation, ConfigError> {
        let mut found = default;
        for key in keys {
            if let Some(name) = self.string(key)? {
                found = match name.as_str() {
                    "silu" | "swish" => Activation::Silu,
                    "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
                    "gelu" => Activation::GeluErf,
                    _ => return Err(self.unsupported(key, &Value::String(name))),
                };
            }
        }
        Ok(found)
    }

    /// Everything left must be known to be without effect, or switched off.
    pub(crate) fn refuse_leftovers(self) -> Result<(), ConfigError> {
        for (key, value) in self.keys {
            let off = match &value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(items) => items.is_empty(),
                _ => false,
            };
            if !off && !WITHOUT_EFFECT.contains(&key.as_str()) {
                return Err(ConfigError::Unknown { path: self.path.to_path_buf(), key, value: value.to_string() });
            }
        }
        Ok(())
    }
}

/// Keys that say nothing about the forward pass of an evaluation.
const WITHOUT_EFFECT: [&str; 58] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "_sliding_window_pattern",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "dtype",
    "embd_pdrop",
    "finetuning_task",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "max_window_layers",
    "min_length",
    "n_ctx",
    "no_repeat_ngram_size",
    "num_beams",
    "num_return_sequences",
    "output_past",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "router_aux_loss_coef",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "use_mamba_kernels",
    "original_max_position_embeddings",
];
