//! `config.json`: which family a model is of, its shapes, and every setting that changes its mathematics.
//!
//! Both spellings of the rotary settings are read: `rope_theta` with `rope_scaling`, and `rope_parameters` of
//! transformers 5. A key that is neither used here nor known to be without effect on the forward pass is an error that
//! names it: a setting that is ignored in silence makes every later number wrong.

mod error;

use std::path::Path;

use serde_json::{Map, Value};

pub use self::error::ConfigError;

/// Largest size of any one dimension that is believed; beyond it the file is not a model's.
const LARGEST_SIZE: u64 = 1 << 24;
/// Most layers that are believed.
const MOST_LAYERS: u64 = 4096;

/// Families of decoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 and 3, SmolLM2, TinyLlama.
    Llama,
    /// Mistral 7B and its kin.
    Mistral,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3.
    Qwen3,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text.
    Gemma3,
    /// Phi-3.
    Phi3,
    /// SmolLM3.
    SmolLm3,
    /// GPT-2.
    Gpt2,
}

impl Family {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Llama, "llama"),
        (Self::Mistral, "mistral"),
        (Self::Qwen2, "qwen2"),
        (Self::Qwen3, "qwen3"),
        (Self::Gemma2, "gemma2"),
        (Self::Gemma3, "gemma3_text"),
        (Self::Phi3, "phi3"),
        (Self::SmolLm3, "smollm3"),
        (Self::Gpt2, "gpt2"),
    ];

    fn names() -> String {
        Self::ALL.map(|(_, name)| name).join(", ")
    }

    /// `model_type` of config.json.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(family, _)| *family == self).map_or("", |(_, name)| name)
    }

    /// Whether config.json may leave `tie_word_embeddings` out to mean "tied".
    fn ties_by_default(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3 | Self::SmolLm3 | Self::Gpt2)
    }

    /// Whether the RMSNorm gain is stored minus one.
    fn norm_offset(self) -> f32 {
        if matches!(self, Self::Gemma2 | Self::Gemma3) { 1.0 } else { 0.0 }
    }
}

/// Normalisation of the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// x/√(mean x² + eps) · (gain + offset).
    Rms {
        /// Added to the mean square.
        eps: f32,
        /// Added to the stored gain.
        offset: f32,
    },
    /// (x − mean)/√(variance + eps) · gain + bias.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
}

/// Non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·sigmoid(x).
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
}

/// How rotary frequencies are stretched beyond the trained context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths longer than context/this are divided.
        low_freq_factor: f64,
        /// Wavelengths shorter than context/this are kept.
        high_freq_factor: f64,
        /// Context of the original training.
        original_context: f64,
    },
}

/// Rotary position embedding of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Stretching.
    pub scaling: RopeScaling,
    /// Leading dimensions of each head that are rotated.
    pub dimensions: usize,
}

/// What distinguishes one layer of a model from another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerKind {
    /// A query sees this many latest tokens, itself included; all where `None`.
    pub window: Option<usize>,
    /// Rotary embedding, if the layer has one.
    pub rope: Option<Rope>,
}

/// Everything config.json says about the forward pass.
#[expect(clippy::struct_excessive_bools, reason = "config.json has that many switches")]
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Family.
    pub family: Family,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the MLP.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence that positions exist for.
    pub max_positions: usize,
    /// Normalisation.
    pub norm: Norm,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// Factor on q·k.
    pub attention_scale: f32,
    /// Scores become cap·tanh(score/cap).
    pub attention_softcap: Option<f32>,
    /// Logits become cap·tanh(logit/cap).
    pub final_softcap: Option<f32>,
    /// Factor on the embeddings.
    pub embedding_scale: f32,
    /// Whether the output head is the embedding matrix.
    pub tied_head: bool,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have a bias.
    pub mlp_bias: bool,
    /// One entry per layer.
    pub layers: Vec<LayerKind>,
    /// End-of-sequence tokens.
    pub eos: Vec<u32>,
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn open(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        Self::parse(&path, &text)
    }

    /// Reads the text of a config.json; `path` is for error messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ConfigError> {
        let json = |reason: String| ConfigError::Json { path: path.to_path_buf(), reason };
        let value: Value = serde_json::from_slice(text).map_err(|error| json(error.to_string()))?;
        let Value::Object(keys) = value else { return Err(json("another JSON value stands there".to_owned())) };
        let mut keys = Keys { path, keys };
        let model_type = keys.string("model_type")?.unwrap_or_default();
        let family = Family::ALL
            .iter()
            .find(|(_, name)| *name == model_type)
            .map(|(family, _)| *family)
            .ok_or(ConfigError::Family { path: path.to_path_buf(), model_type })?;
        let config = if family == Family::Gpt2 { gpt2(&mut keys)? } else { rotary_family(family, &mut keys)? };
        keys.refuse_leftovers()?;
        Ok(config)
    }
}

/// The keys of a config that nobody has read yet.
struct Keys<'a> {
    path: &'a Path,
    keys: Map<String, Value>,
}

impl Keys<'_> {
    fn wrong(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Key { path: self.path.to_path_buf(), key: key.to_owned(), reason: reason.into() }
    }

    fn unsupported(&self, key: &str, value: &Value) -> ConfigError {
        ConfigError::Unsupported { path: self.path.to_path_buf(), key: key.to_owned(), value: value.to_string() }
    }

    /// Takes a key; JSON null counts as absent, as it does in transformers.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.keys.shift_remove(key).filter(|value| !value.is_null())
    }

    fn string(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, format!("expected a string, found {other}"))),
        }
    }

    fn flag(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(key, format!("expected true or false, found {other}"))),
        }
    }

    fn optional_size(&mut self, key: &str) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.wrong(key, format!("expected a whole number in 1..={LARGEST_SIZE}, found {value}"))),
        }
    }

    fn size(&mut self, key: &str) -> Result<usize, ConfigError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn optional_number(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.wrong(key, format!("expected a positive number, found {value}"))),
        }
    }

    fn number(&mut self, key: &str, default: f64) -> Result<f64, ConfigError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// Refuses a setting that changes the mathematics unless it is off.
    fn must_be_off(&mut self, key: &str) -> Result<(), ConfigError> {
        match self.take(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(other) => Err(self.unsupported(key, &other)),
        }
    }

    fn tokens(&mut self, key: &str) -> Vec<u32> {
        let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        match self.take(key) {
            Some(Value::Array(list)) => list.iter().filter_map(token).collect(),
            Some(value) => token(&value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn activation(&mut self, keys: &[&str], default: Activation) -> Result<Activation, ConfigError> {
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
    fn refuse_leftovers(self) -> Result<(), ConfigError> {
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

fn gpt2(keys: &mut Keys) -> Result<Config, ConfigError> {
    let width = keys.size("n_embd")?;
    let heads = keys.size("n_head")?;
    let head_dim = divided(keys, "n_embd", width, heads)?;
    let layers = keys.size("n_layer")?;
    bound_layers(keys, "n_layer", layers)?;
    for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
        keys.must_be_off(key)?;
    }
    let scaled = keys.flag("scale_attn_weights", true)?;
    Ok(Config {
        family: Family::Gpt2,
        vocab_size: keys.size("vocab_size")?,
        width,
        intermediate: keys.optional_size("n_inner")?.unwrap_or(4 * width),
        heads,
        kv_heads: heads,
        head_dim,
        max_positions: keys.size("n_positions")?,
        norm: Norm::Layer { eps: keys.number("layer_norm_epsilon", 1e-5)? as f32 },
        activation: keys.activation(&["activation_function"], Activation::GeluTanh)?,
        attention_scale: if scaled { (head_dim as f32).powf(-0.5) } else { 1.0 },
        attention_softcap: None,
        final_softcap: None,
        embedding_scale: 1.0,
        tied_head: keys.flag("tie_word_embeddings", true)?,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        layers: vec![LayerKind { window: None, rope: None }; layers],
        eos: keys.tokens("eos_token_id"),
    })
}

fn rotary_family(family: Family, keys: &mut Keys) -> Result<Config, ConfigError> {
    let width = keys.size("hidden_size")?;
    let heads = keys.size("num_attention_heads")?;
    let kv_heads = keys.optional_size("num_key_value_heads")?.unwrap_or(heads);
    if heads % kv_heads != 0 {
        return Err(keys.wrong("num_key_value_heads", format!("{kv_heads} does not divide {heads} query heads")));
    }
    let head_dim = match keys.optional_size("head_dim")? {
        Some(size) => size,
        None => divided(keys, "hidden_size", width, heads)?,
    };
    for key in ["use_bidirectional_attention", "quantization_config"] {
        keys.must_be_off(key)?;
    }
    let attention_bias = keys.flag("attention_bias", false)?;
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    let query_scalar = if gemma { keys.number("query_pre_attn_scalar", 256.0)? } else { head_dim as f64 };
    let layers = layer_kinds(family, keys, head_dim)?;
    Ok(Config {
        family,
        vocab_size: keys.size("vocab_size")?,
        width,
        intermediate: keys.size("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        max_positions: keys.optional_size("max_position_embeddings")?.unwrap_or(usize::MAX),
        norm: Norm::Rms { eps: keys.number("rms_norm_eps", 1e-6)? as f32, offset: family.norm_offset() },
        activation: keys.activation(
            &["hidden_act", "hidden_activation"],
            if gemma { Activation::GeluTanh } else { Activation::Silu },
        )?,
        attention_scale: query_scalar.powf(-0.5) as f32,
        attention_softcap: if gemma {
            keys.optional_number("attn_logit_softcapping")?.map(|cap| cap as f32)
        } else {
            None
        },
        final_softcap: if gemma {
            keys.optional_number("final_logit_softcapping")?.map(|cap| cap as f32)
        } else {
            None
        },
        embedding_scale: if gemma { (width as f32).sqrt() } else { 1.0 },
        tied_head: keys.flag("tie_word_embeddings", family.ties_by_default())?,
        qkv_bias: attention_bias || family == Family::Qwen2,
        output_bias: attention_bias,
        mlp_bias: keys.flag("mlp_bias", false)?,
        layers,
        eos: keys.tokens("eos_token_id"),
    })
}

fn divided(keys: &Keys, key: &str, width: usize, heads: usize) -> Result<usize, ConfigError> {
    if width.is_multiple_of(heads) {
        Ok(width / heads)
    } else {
        Err(keys.wrong(key, format!("{width} is not a multiple of {heads} heads")))
    }
}

fn bound_layers(keys: &Keys, key: &str, layers: usize) -> Result<(), ConfigError> {
    if layers as u64 > MOST_LAYERS {
        return Err(keys.wrong(key, format!("{layers} layers; at most {MOST_LAYERS} are believed")));
    }
    Ok(())
}

/// Window and rotary embedding of every layer.
fn layer_kinds(family: Family, keys: &mut Keys, head_dim: usize) -> Result<Vec<LayerKind>, ConfigError> {
    let count = keys.size("num_hidden_layers")?;
    bound_layers(keys, "num_hidden_layers", count)?;
    let sliding = sliding_layers(family, keys, count)?;
    let rotated = rotated_layers(family, keys, count)?;
    let (global, local) = ropes(family, keys, head_dim)?;
    Ok((0..count)
        .map(|layer| LayerKind {
            window: sliding[layer],
            rope: rotated[layer].then_some(if sliding[layer].is_some() { local } else { global }),
        })
        .collect())
}

/// The attention window of every layer, as transformers derives it for each family.
fn sliding_layers(family: Family, keys: &mut Keys, count: usize) -> Result<Vec<Option<usize>>, ConfigError> {
    // An absent key means Mistral's own window, an explicit null means none.
    let unsaid = family == Family::Mistral && !keys.keys.contains_key("sliding_window");
    let window = keys.optional_size("sliding_window")?.or(unsaid.then_some(4096));
    let opt_in = matches!(family, Family::Qwen2 | Family::Qwen3 | Family::SmolLm3);
    let enabled = keys.flag("use_sliding_window", !opt_in)?;
    let pattern = keys.optional_size("sliding_window_pattern")?;
    let first_windowed = keys.optional_size("max_window_layers")?.unwrap_or(28);
    if let Some(types) = keys.take("layer_types") {
        return layer_types(keys, &types, window.filter(|_| enabled), count);
    }
    let is_sliding = |layer: usize| match family {
        Family::Mistral | Family::Phi3 => true,
        Family::Gemma2 => layer.is_multiple_of(2),
        Family::Gemma3 => !(layer + 1).is_multiple_of(pattern.unwrap_or(6)),
        Family::Qwen2 | Family::Qwen3 => enabled && layer >= first_windowed,
        Family::Llama | Family::SmolLm3 | Family::Gpt2 => false,
    };
    let window = match family {
        Family::Gemma2 | Family::Gemma3 => Some(window.unwrap_or(4096)),
        _ => window,
    };
    Ok((0..count).map(|layer| window.filter(|_| is_sliding(layer))).collect())
}

fn layer_types(
    keys: &Keys,
    types: &Value,
    window: Option<usize>,
    count: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let list = types.as_array().filter(|list| list.len() == count);
    let list = list.ok_or_else(|| keys.wrong("layer_types", format!("expected a list of {count} names")))?;
    list.iter()
        .map(|name| match name.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => match window {
                Some(window) => Ok(Some(window)),
                None => Err(keys.wrong("layer_types", "names sliding_attention, but sliding_window is not set")),
            },
            _ => Err(keys.unsupported("layer_types", name)),
        })
        .collect()
}

/// Which layers have a rotary embedding: all, except where SmolLM3 leaves it out.
fn rotated_layers(family: Family, keys: &mut Keys, count: usize) -> Result<Vec<bool>, ConfigError> {
    if family != Family::SmolLm3 {
        return Ok(vec![true; count]);
    }
    let interval = keys.optional_size("no_rope_layer_interval")?.unwrap_or(4);
    match keys.take("no_rope_layers") {
        None => Ok((0..count).map(|layer| !(layer + 1).is_multiple_of(interval)).collect()),
        Some(Value::Array(list)) if list.len() == count => {
            Ok(list.iter().map(|flag| flag.as_u64() != Some(0)).collect())
        }
        Some(_) => Err(keys.wrong("no_rope_layers", format!("expected a list of {count} zeros and ones"))),
    }
}

/// Rotary embeddings of the layers with full and with sliding attention.
fn ropes(family: Family, keys: &mut Keys, head_dim: usize) -> Result<(Rope, Rope), ConfigError> {
    let default_theta = match family {
        Family::Gemma3 => 1e6,
        Family::SmolLm3 => 2e6,
        _ => 1e4,
    };
    let theta = keys.number("rope_theta", default_theta)?;
    let local_theta = keys.number("rope_local_base_freq", 1e4)?;
    let partial = keys.number("partial_rotary_factor", 1.0)?;
    let scaling = keys.take("rope_scaling");
    if let Some(Value::Object(parameters)) = keys.take("rope_parameters") {
        if let (Some(full), Some(sliding)) = (parameters.get("full_attention"), parameters.get("sliding_attention")) {
            let (full, sliding) = (full.clone(), sliding.clone());
            return Ok((
                rope(keys, "rope_parameters.full_attention", Some(full), theta, partial, head_dim)?,
                rope(keys, "rope_parameters.sliding_attention", Some(sliding), local_theta, partial, head_dim)?,
            ));
        }
        let one = rope(keys, "rope_parameters", Some(Value::Object(parameters)), theta, partial, head_dim)?;
        return Ok((one, one));
    }
    let global = rope(keys, "rope_scaling", scaling, theta, partial, head_dim)?;
    // Gemma 3's local layers keep the original context, so nothing stretches their frequencies.
    let local = match family {
        Family::Gemma3 => rope(keys, "rope_scaling", None, local_theta, partial, head_dim)?,
        _ => global,
    };
    Ok((global, local))
}

fn rope(
    keys: &Keys,
    key: &str,
    settings: Option<Value>,
    theta: f64,
    partial: f64,
    head_dim: usize,
) -> Result<Rope, ConfigError> {
    let settings = match settings {
        None => Map::new(),
        Some(Value::Object(settings)) => settings,
        Some(other) => return Err(keys.wrong(key, format!("expected an object, found {other}"))),
    };
    let mut own = Keys { path: keys.path, keys: settings };
    let kind = own.string("rope_type")?.or(own.string("type")?).unwrap_or_else(|| "default".to_owned());
    own.take("type");
    let theta = own.number("rope_theta", theta)?;
    let partial = own.number("partial_rotary_factor", partial)?;
    let scaling = match kind.as_str() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: required(&mut own, key, "factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: required(&mut own, key, "factor")?,
            low_freq_factor: required(&mut own, key, "low_freq_factor")?,
            high_freq_factor: required(&mut own, key, "high_freq_factor")?,
            original_context: required(&mut own, key, "original_max_position_embeddings")?,
        },
        _ => return Err(keys.unsupported(&format!("{key}.rope_type"), &Value::String(kind))),
    };
    own.refuse_leftovers()?;
    let dimensions = (head_dim as f64 * partial) as usize;
    if partial > 1.0 || !dimensions.is_multiple_of(2) || dimensions == 0 {
        return Err(keys.wrong(key, format!("{dimensions} of {head_dim} dimensions cannot be rotated")));
    }
    Ok(Rope { theta, scaling, dimensions })
}

fn required(own: &mut Keys, parent: &str, key: &str) -> Result<f64, ConfigError> {
    own.optional_number(key)?.ok_or_else(|| own.wrong(&format!("{parent}.{key}"), "is missing"))
}
