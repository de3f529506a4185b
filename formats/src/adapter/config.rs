//! `adapter_config.json` of PEFT: every field known today, each either used, proved harmless, or refused by name.
//!
//! An ignored field is how an audit goes wrong without a word: the adapter computes one thing in PEFT and another here.
//! So a field that changes the mathematics in a way not implemented here is an error, and so is a field that nobody has
//! heard of, unless its value says nothing (null, false, empty).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::AdapterError;
use super::fields::{Fields, as_finite, as_size, is_active, shortened, shown};
use super::methods;
use super::patterns::{Budget, Pattern};
use super::targets::{Names, Selection};

/// Fields that this module reads.
const USED: [&str; 18] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_bias",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_dora",
    "use_rslora",
];

/// Fields that change nothing in what a finished adapter computes: they belong to training, to initialisation (which
/// `init_lora_weights` decides on) or to the loader.
const HARMLESS: [&str; 17] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    "inference_mode",
    "init_config",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "merge_weights",
    "modules_to_tie",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    "target_modules_to_tie",
];

/// Fields that change what the adapter computes in ways that are not implemented here.
const UNSUPPORTED: [&str; 14] = [
    "alora_invocation_tokens",
    "arrow_config",
    "enable_lora",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_mora",
    "use_qalora",
    "use_quanta",
    "velora_config",
];

/// Which biases of the base an adapter replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasMode {
    /// None.
    None,
    /// Every bias of the model.
    All,
    /// The biases of the adapted modules.
    LoraOnly,
}

/// `adapter_config.json` of PEFT, checked.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "the file has as many flags")]
pub struct PeftConfig {
    /// The file.
    pub path: PathBuf,
    /// Base that the adapter says it belongs to.
    pub base_model: Option<String>,
    /// `r`, where no pattern says otherwise.
    pub rank: usize,
    /// `lora_alpha`, where no pattern says otherwise.
    pub alpha: f64,
    /// alpha/√rank in place of alpha/rank.
    pub use_rslora: bool,
    /// Weight-decomposed: the file holds a magnitude per output.
    pub use_dora: bool,
    /// The base stores weights (inputs × outputs). Says nothing about the adapter's own tensors.
    pub fan_in_fan_out: bool,
    /// Which biases are replaced.
    pub bias: BiasMode,
    /// The up-projection has a bias of its own.
    pub lora_bias: bool,
    /// Names whose modules are saved whole.
    pub modules_to_save: Vec<String>,
    /// `init_lora_weights` as text: `true`, `gaussian`, `pissa`, …
    pub initialization: String,
    /// Adapters of tied modules are tied as well.
    pub ensure_weight_tying: bool,
    /// `target_modules`, for display.
    pub targets: Vec<String>,
    /// The whole file, in its order.
    pub raw: Map<String, Value>,
    pub(crate) selection: Selection,
    rank_patterns: Vec<(Pattern, usize)>,
    alpha_patterns: Vec<(Pattern, f64)>,
    /// What all patterns together may still cost.
    budget: Arc<Budget>,
}

impl PeftConfig {
    /// Checks a parsed `adapter_config.json`; `path` is only for messages.
    pub fn from_json(path: &Path, raw: &Map<String, Value>) -> Result<Self, AdapterError> {
        let fields = Fields::new(path, "", raw);
        check_method(path, &fields)?;
        check_other_fields(path, raw)?;
        let rank = fields
            .whole_number("r")?
            .filter(|&rank| rank > 0)
            .ok_or_else(|| fields.wrong("r", "a rank of 1 or more is needed"))?;
        let alpha = fields
            .number("lora_alpha")?
            .ok_or_else(|| fields.wrong("lora_alpha", "a number is needed: without it the scale is unknown"))?;
        let modules_to_save = fields.texts("modules_to_save")?;
        let budget = Arc::default();
        let selection = read_selection(path, &fields, &modules_to_save, &budget)?;
        let config = Self {
            path: path.to_path_buf(),
            base_model: fields.text("base_model_name_or_path")?,
            rank,
            alpha,
            use_rslora: fields.flag("use_rslora")?,
            use_dora: fields.flag("use_dora")?,
            fan_in_fan_out: fields.flag("fan_in_fan_out")?,
            bias: read_bias(&fields)?,
            lora_bias: fields.flag("lora_bias")?,
            modules_to_save,
            initialization: read_initialization(&fields)?,
            ensure_weight_tying: fields.flag("ensure_weight_tying")?,
            targets: fields.texts("target_modules")?,
            selection,
            rank_patterns: read_patterns(path, &fields, &budget, "rank_pattern", |value| {
                as_size(value).filter(|&rank| rank > 0)
            })?,
            alpha_patterns: read_patterns(path, &fields, &budget, "alpha_pattern", as_finite)?,
            raw: raw.clone(),
            budget,
        };
        if config.lora_bias && config.use_dora {
            return Err(Fields::new(path, "", &config.raw).wrong("lora_bias", "PEFT forbids it together with use_dora"));
        }
        Ok(config)
    }

    /// Rank declared for a module, and the field that declares it.
    pub(crate) fn rank_of(&self, module: &str) -> Result<(usize, String), AdapterError> {
        for (pattern, rank) in &self.rank_patterns {
            if pattern.matches(module)? {
                return Ok((*rank, format!("rank_pattern `{}`", pattern.source())));
            }
        }
        Ok((self.rank, "`r`".to_owned()))
    }

    /// Alpha declared for a module, and the field that declares it.
    pub(crate) fn alpha_of(&self, module: &str) -> Result<(f64, String), AdapterError> {
        for (pattern, alpha) in &self.alpha_patterns {
            if pattern.matches(module)? {
                return Ok((*alpha, format!("alpha_pattern `{}`", pattern.source())));
            }
        }
        Ok((self.alpha, "`lora_alpha`".to_owned()))
    }

    /// Whether `modules_to_save` names a module. PEFT compares ends of names without asking for a dot, so `norm` also
    /// takes `input_layernorm`; a name may also stand for a module that encloses this one.
    pub fn saves_whole(&self, module: &str) -> Result<bool, AdapterError> {
        let ends_of_modules = || module.match_indices('.').map(|(end, _)| end).chain([module.len()]);
        let comparisons = ends_of_modules().count() * self.modules_to_save.len();
        self.budget.charge(&self.path, "modules_to_save", comparisons as u64)?;
        Ok(ends_of_modules()
            .filter_map(|end| module.get(..end))
            .any(|enclosing| self.modules_to_save.iter().any(|name| enclosing.ends_with(name.as_str()))))
    }

    /// Whether the initialisation changed the base's weights, so that the tensors are relative to another base.
    pub fn changes_base(&self) -> bool {
        let name = self.initialization.to_lowercase();
        name.starts_with("pissa") || ["olora", "corda", "loftq", "lora_ga"].contains(&name.as_str())
    }
}

fn check_method(path: &Path, fields: &Fields) -> Result<(), AdapterError> {
    match fields.text("peft_type")? {
        Some(method) if method == "LORA" => Ok(()),
        Some(method) => Err(AdapterError::Method {
            path: path.to_path_buf(),
            found: format!("{} (`peft_type`)", shortened(&method)),
            way_out: methods::way_out(&method).to_owned(),
        }),
        None => Err(fields.wrong(
            "peft_type",
            "PEFT itself cannot load a config without it. If this is a LoRA adapter, add \"peft_type\": \"LORA\"",
        )),
    }
}

/// Refuses what is not implemented and what is not known.
fn check_other_fields(path: &Path, raw: &Map<String, Value>) -> Result<(), AdapterError> {
    for (field, value) in raw {
        let name = field.as_str();
        if USED.contains(&name) || HARMLESS.contains(&name) || !is_active(value) {
            continue;
        }
        let (path, field, found) = (path.to_path_buf(), field.clone(), shown(value));
        return Err(if UNSUPPORTED.contains(&name) {
            AdapterError::UnsupportedField { path, field, found }
        } else {
            AdapterError::UnknownField { path, field, found }
        });
    }
    Ok(())
}

fn read_bias(fields: &Fields) -> Result<BiasMode, AdapterError> {
    match fields.text("bias")?.as_deref() {
        None | Some("none") => Ok(BiasMode::None),
        Some("all") => Ok(BiasMode::All),
        Some("lora_only") => Ok(BiasMode::LoraOnly),
        Some(_) => Err(fields.wrong("bias", "`none`, `all` or `lora_only` is needed")),
    }
}

fn read_initialization(fields: &Fields) -> Result<String, AdapterError> {
    match fields.value("init_lora_weights") {
        None => Ok("true".to_owned()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        Some(Value::String(name)) => Ok(name.clone()),
        Some(_) => Err(fields.wrong("init_lora_weights", "true, false or a name is needed")),
    }
}

fn read_names(
    path: &Path,
    fields: &Fields,
    field: &'static str,
    budget: &Arc<Budget>,
) -> Result<Option<Names>, AdapterError> {
    match fields.value(field) {
        None => Ok(None),
        Some(Value::String(text)) if text.to_lowercase() == "all-linear" && field == "target_modules" => {
            Ok(Some(Names::AllLinear))
        }
        Some(Value::String(text)) => Ok(Some(Names::Pattern(Box::new(Pattern::full(path, field, text, budget)?)))),
        Some(_) => Ok(Some(Names::List(fields.texts(field)?))),
    }
}

fn read_selection(
    path: &Path,
    fields: &Fields,
    modules_to_save: &[String],
    budget: &Arc<Budget>,
) -> Result<Selection, AdapterError> {
    let target = read_names(path, fields, "target_modules", budget)?.ok_or_else(|| {
        fields.wrong(
            "target_modules",
            "PEFT would choose modules by the model's architecture, differently from version to version. Name them",
        )
    })?;
    let exclude = read_names(path, fields, "exclude_modules", budget)?
        .filter(|names| !matches!(names, Names::Pattern(pattern) if pattern.source().is_empty()));
    let layers = fields.indices("layers_to_transform")?;
    let layers_pattern = fields.texts("layers_pattern")?;
    let listed = matches!(target, Names::List(_));
    if !listed && fields.value("layers_to_transform").is_some() {
        return Err(fields.wrong("layers_to_transform", "PEFT allows it only with a list in target_modules"));
    }
    if !listed && fields.value("layers_pattern").is_some() {
        return Err(fields.wrong("layers_pattern", "PEFT allows it only with a list in target_modules"));
    }
    if !layers_pattern.is_empty() && fields.value("layers_to_transform").is_none() {
        return Err(fields.wrong("layers_pattern", "PEFT asks for layers_to_transform beside it"));
    }
    Selection::new(path, target, exclude, modules_to_save, layers, &layers_pattern, budget)
}

/// Patterns of one field; real configs have one a module at most.
const MAX_PATTERNS: usize = 1024;

/// An object of patterns, kept in the order of the file: the first that matches decides.
fn read_patterns<T>(
    path: &Path,
    fields: &Fields,
    budget: &Arc<Budget>,
    field: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Pattern, T)>, AdapterError> {
    let Some(map) = fields.object(field)? else {
        return Ok(Vec::new());
    };
    if map.len() > MAX_PATTERNS {
        return Err(AdapterError::ConfigField {
            path: path.to_path_buf(),
            field: field.to_owned(),
            found: format!("{} patterns", map.len()),
            reason: format!("at most {MAX_PATTERNS} are read: each is a regular expression of its own"),
        });
    }
    map.iter()
        .map(|(key, value)| {
            let number = read(value).ok_or_else(|| AdapterError::ConfigField {
                path: path.to_path_buf(),
                field: format!("{field}.{key}"),
                found: shown(value),
                reason: "a number in the range of its field is needed".to_owned(),
            })?;
            Ok((Pattern::tail(path, field, key, budget)?, number))
        })
        .collect()
}
