//! The layout of mlx-lm: `lora_a` (inputs × rank), `lora_b` (rank × outputs), `m` for DoRA, and a scale used as it
//! stands.
//!
//! Both factors are transposed into the form of [`LowRank`]. The config names the last `num_layers` blocks; mlx-lm
//! drops tensors of the others without a word, so [`Adapter::bind`] refuses them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::AdapterError;
use super::fields::{Fields, shortened, shown};
use super::files::{self, Selection, matrix, vector};
use super::{Adapter, AdapterConfig, Format, LowRank, Note, NoteKind, ScalingRule};
use crate::checkpoint::Weight;

/// Scale of mlx-lm where the config has none.
const DEFAULT_SCALE: f64 = 20.0;

/// `adapter_config.json` of mlx-lm, checked.
#[derive(Debug, Clone)]
pub struct MlxConfig {
    /// The file.
    pub path: PathBuf,
    /// Base that the adapter says it belongs to.
    pub base_model: Option<String>,
    /// `lora_parameters.rank`, if said.
    pub rank: Option<usize>,
    /// The factor before BA.
    pub scale: f64,
    /// Whether the config says it; otherwise it is the default of mlx-lm's training.
    pub says_scale: bool,
    /// `lora_parameters.alpha`: written by old versions, no part of the scale.
    pub alpha: Option<f64>,
    /// Whether the file should hold magnitudes.
    pub use_dora: bool,
    /// How many blocks, counted from the last, are adapted; `None` means all of them.
    pub layers: Option<usize>,
    /// `lora_parameters.keys`: the modules inside a block, where the config names them.
    pub keys: Vec<String>,
    /// The whole file.
    pub raw: Map<String, Value>,
}

impl MlxConfig {
    /// Checks a parsed config; `path` is only for messages.
    pub fn from_json(path: &Path, raw: &Map<String, Value>) -> Result<Self, AdapterError> {
        let fields = Fields::new(path, "", raw);
        let use_dora = match fields.text("fine_tune_type")?.as_deref() {
            None | Some("lora") => fields.flag("use_dora")?,
            Some("dora") => true,
            Some(other) => {
                return Err(AdapterError::Method {
                    path: path.to_path_buf(),
                    found: format!("{} (`fine_tune_type`)", shortened(other)),
                    way_out: if other == "full" {
                        "Full training changes whole weights: fuse it (mlx_lm.fuse) and judge the model".to_owned()
                    } else {
                        "mlx-lm knows lora, dora and full".to_owned()
                    },
                });
            }
        };
        let empty = Map::new();
        let inner = fields.object("lora_parameters")?.unwrap_or(&empty);
        let parameters = Fields::new(path, "lora_parameters.", inner);
        let unknown =
            inner.iter().find(|(field, _)| !["rank", "scale", "dropout", "alpha", "keys"].contains(&field.as_str()));
        if let Some((field, value)) = unknown {
            return Err(AdapterError::UnknownField {
                path: path.to_path_buf(),
                field: format!("lora_parameters.{field}"),
                found: shown(value),
            });
        }
        Ok(Self {
            path: path.to_path_buf(),
            base_model: fields.text("model")?,
            rank: parameters.whole_number("rank")?,
            scale: parameters.number("scale")?.unwrap_or(DEFAULT_SCALE),
            says_scale: parameters.value("scale").is_some(),
            alpha: parameters.number("alpha")?,
            use_dora,
            layers: read_layers(&fields)?,
            keys: parameters.texts("keys")?,
            raw: raw.clone(),
        })
    }
}

/// `num_layers` (`lora_layers` in old versions); -1 means all.
fn read_layers(fields: &Fields) -> Result<Option<usize>, AdapterError> {
    for field in ["num_layers", "lora_layers"] {
        if fields.value(field).and_then(Value::as_i64) == Some(-1) {
            return Ok(None);
        }
        if let Some(layers) = fields.whole_number(field)? {
            return Ok(Some(layers));
        }
    }
    Ok(None)
}

/// Tensors of one module.
#[derive(Default)]
struct Parts<'a> {
    lora_a: Option<&'a Weight>,
    lora_b: Option<&'a Weight>,
    magnitude: Option<&'a Weight>,
}

/// Reads an MLX adapter whose files were found.
pub(crate) fn open(
    config_path: &Path,
    raw: &Map<String, Value>,
    tensors: &Path,
    selection: Option<&Selection>,
) -> Result<Adapter, AdapterError> {
    let config = MlxConfig::from_json(config_path, raw)?;
    let source = files::open_tensors(tensors, selection)?;
    let mut parts: BTreeMap<String, Parts> = BTreeMap::new();
    for tensor in &source.chosen {
        let Some((module, slot)) = tensor.name().rsplit_once('.').filter(|(module, _)| !module.is_empty()) else {
            return Err(not_mlx(tensor));
        };
        let places = parts.entry(module.to_owned()).or_default();
        match slot {
            "lora_a" => places.lora_a = Some(tensor),
            "lora_b" => places.lora_b = Some(tensor),
            "m" => places.magnitude = Some(tensor),
            _ => return Err(not_mlx(tensor)),
        }
    }
    let mut modules = BTreeMap::new();
    for (name, places) in parts {
        let module = read_low_rank(&config, &name, &places)?;
        modules.insert(name, Arc::new(module));
    }
    let mut adapter = Adapter {
        path: tensors.to_path_buf(),
        format: Format::Mlx,
        tensors_in_file: source.file.tensors().len(),
        bytes: source.bytes,
        parameters: source.parameters,
        sha256: source.sha256,
        config_sha256: String::new(),
        modules,
        embeddings: BTreeMap::new(),
        modules_to_save: BTreeMap::new(),
        biases: BTreeMap::new(),
        bias_tensors: BTreeMap::new(),
        notes: notes(&config),
        config: AdapterConfig::Mlx(Box::new(config)),
    };
    adapter.note_modules();
    Ok(adapter)
}

fn notes(config: &MlxConfig) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(alpha) = config.alpha {
        let text = format!(
            "lora_parameters.alpha is {alpha}: current mlx-lm ignores it and uses the scale {} as it stands; the first \
             versions multiplied the scale by alpha/rank",
            config.scale
        );
        notes.push(Note { kind: NoteKind::LoadersDisagree, text });
    }
    if !config.says_scale {
        let text = format!(
            "lora_parameters.scale is missing: {DEFAULT_SCALE} is taken, the default of mlx-lm's training; current \
             mlx-lm refuses to load such a config"
        );
        notes.push(Note { kind: NoteKind::LoadersDisagree, text });
    }
    notes
}

fn not_mlx(tensor: &Weight) -> AdapterError {
    AdapterError::Tensor {
        path: tensor.path().to_path_buf(),
        tensor: tensor.name().to_owned(),
        reason: "an MLX adapter holds <module>.lora_a, .lora_b and .m only, and the config beside it is one of MLX. \
            Give the config that belongs to these tensors"
            .to_owned(),
    }
}

fn read_low_rank(config: &MlxConfig, name: &str, places: &Parts) -> Result<LowRank, AdapterError> {
    let (Some(lora_a), Some(lora_b)) = (places.lora_a, places.lora_b) else {
        return Err(unpaired(name, places));
    };
    let [inputs, rank] = matrix(lora_a, "(inputs × rank)")?;
    let [lora_b_rank, outputs] = matrix(lora_b, "(rank × outputs)")?;
    if lora_b_rank != rank {
        return Err(AdapterError::Shape {
            path: lora_b.path().to_path_buf(),
            tensor: lora_b.name().to_owned(),
            found: lora_b.shape().to_vec(),
            expected: format!("[{rank}, {outputs}], the rank of `{}`", lora_a.name()),
        });
    }
    if let Some(declared) = config.rank.filter(|&declared| declared != rank) {
        return Err(AdapterError::Rank {
            path: lora_a.path().to_path_buf(),
            tensor: lora_a.name().to_owned(),
            found: rank,
            declared,
            declared_by: "`lora_parameters.rank`".to_owned(),
        });
    }
    let magnitude = match (config.use_dora, places.magnitude) {
        (true, Some(tensor)) => Some(vector(tensor, outputs, "one element per output")?),
        (false, None) => None,
        (true, None) => {
            return Err(AdapterError::Unpaired {
                path: lora_a.path().to_path_buf(),
                module: name.to_owned(),
                present: lora_a.name().to_owned(),
                missing: "m, which `fine_tune_type: dora` announces".to_owned(),
            });
        }
        (false, Some(tensor)) => {
            return Err(AdapterError::Tensor {
                path: tensor.path().to_path_buf(),
                tensor: tensor.name().to_owned(),
                reason: "`fine_tune_type` is not `dora`, so mlx-lm would ignore it. Correct one of the two".to_owned(),
            });
        }
    };
    Ok(LowRank {
        rank,
        alpha: config.scale,
        scale: config.scale,
        scaling_rule: ScalingRule::Raw,
        lora_a: transpose(&lora_a.to_finite_f32()?, inputs, rank),
        lora_b: transpose(&lora_b.to_finite_f32()?, rank, outputs),
        inputs,
        outputs,
        magnitude,
        lora_b_bias: None,
        tensor_names: [Some(lora_a), Some(lora_b), places.magnitude]
            .into_iter()
            .flatten()
            .map(|tensor| tensor.name().to_owned())
            .collect(),
    })
}

fn unpaired(name: &str, places: &Parts) -> AdapterError {
    let present = places.lora_a.or(places.lora_b).or(places.magnitude);
    let missing = match (places.lora_a, places.lora_b) {
        (Some(_), _) => "lora_b",
        (None, Some(_)) => "lora_a",
        (None, None) => "lora_a and lora_b",
    };
    AdapterError::Unpaired {
        path: present.map_or_else(PathBuf::new, |tensor| tensor.path().to_path_buf()),
        module: name.to_owned(),
        present: present.map_or_else(String::new, |tensor| tensor.name().to_owned()),
        missing: missing.to_owned(),
    }
}

/// (rows × columns) to (columns × rows), row-major.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for column in 0..columns {
        turned.extend(values.iter().skip(column).step_by(columns.max(1)).take(rows));
    }
    turned
}
