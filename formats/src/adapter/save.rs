//! Writes an adapter in the layout of PEFT: what [`Adapter::open`] reads back is equal in every number.
//!
//! Each file is written beside its place and renamed, tensors first: a reader never sees half a file, and never a new
//! config over old tensors for longer than one rename.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

use super::error::AdapterError;
use super::files::{CONFIG_NAME, PEFT_TENSORS};
use super::peft::PREFIX;
use super::{Adapter, AdapterConfig, MlxConfig, Origin};

/// A tensor to be written: shape and little-endian bytes.
type Stored = (Vec<usize>, Vec<u8>);

fn stored(shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    (shape.to_vec(), bytes)
}

impl Adapter {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` (f32) into `folder`, which is made if it is
    /// missing.
    ///
    /// An MLX adapter is converted: factors transposed, `lora_alpha` = scale · rank, targets named one by one.
    pub fn save_peft(&self, folder: &Path) -> Result<(), AdapterError> {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let tensors = self.stored_tensors();
        let mut views = Vec::with_capacity(tensors.len());
        for (name, (shape, bytes)) in &tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|error| failed(folder, &error))?;
            views.push((name.as_str(), view));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let file = safetensors::serialize(views, Some(metadata)).map_err(|error| failed(folder, &error))?;
        write_aside(folder, PEFT_TENSORS, &file)?;
        let mut config = serde_json::to_vec_pretty(&self.peft_json()).map_err(|error| failed(folder, &error))?;
        config.push(b'\n');
        write_aside(folder, CONFIG_NAME, &config)
    }

    fn stored_tensors(&self) -> BTreeMap<String, Stored> {
        let mut tensors = BTreeMap::new();
        for (path, module) in &self.modules {
            let mut put = |name: &str, value: Stored| tensors.insert(format!("{PREFIX}{path}.{name}"), value);
            put("lora_A.weight", stored(&[module.rank, module.inputs], &module.lora_a));
            put("lora_B.weight", stored(&[module.outputs, module.rank], &module.lora_b));
            if let Some(magnitude) = &module.magnitude {
                put("lora_magnitude_vector", stored(&[module.outputs], magnitude));
            }
            if let Some(bias) = &module.lora_b_bias {
                put("lora_B.bias", stored(&[module.outputs], bias));
            }
        }
        for (path, module) in &self.embeddings {
            let mut put = |name: &str, value: Stored| tensors.insert(format!("{PREFIX}{path}.{name}"), value);
            put("lora_embedding_A", stored(&[module.rank, module.rows], &module.lora_a));
            put("lora_embedding_B", stored(&[module.width, module.rank], &module.lora_b));
        }
        for (name, whole) in &self.modules_to_save {
            let key = match (whole.origin, name.rsplit_once('.')) {
                (Origin::BaseLayer, Some((module, parameter))) => format!("{PREFIX}{module}.base_layer.{parameter}"),
                _ => format!("{PREFIX}{name}"),
            };
            tensors.insert(key, stored(&whole.shape, &whole.weight.to_f32()));
        }
        for (path, bias) in &self.biases {
            // PEFT keeps the bias of an adapted module on its base layer.
            let place = if self.modules.contains_key(path) { "base_layer.bias" } else { "bias" };
            tensors.insert(format!("{PREFIX}{path}.{place}"), stored(&[bias.len()], bias));
        }
        tensors
    }

    /// The config as PEFT has it.
    fn peft_json(&self) -> Map<String, Value> {
        match &self.config {
            AdapterConfig::Peft(config) => config.raw.clone(),
            AdapterConfig::Mlx(config) => self.converted_config(config),
        }
    }

    fn converted_config(&self, config: &MlxConfig) -> Map<String, Value> {
        let first = self.modules.values().next();
        let rank = first.map_or(1, |module| module.rank);
        let alpha = |rank: usize| json!(config.scale * rank as f64);
        let others = || self.modules.iter().filter(|(_, module)| module.rank != rank);
        let ranks: Map<String, Value> = others().map(|(path, module)| (literal(path), json!(module.rank))).collect();
        let alphas: Map<String, Value> = others().map(|(path, module)| (literal(path), alpha(module.rank))).collect();
        let fields = [
            ("base_model_name_or_path", json!(config.base_model)),
            ("bias", json!("none")),
            ("fan_in_fan_out", json!(false)),
            ("inference_mode", json!(true)),
            ("init_lora_weights", json!(true)),
            ("lora_alpha", alpha(rank)),
            ("lora_dropout", json!(0.0)),
            ("peft_type", json!("LORA")),
            ("r", json!(rank)),
            ("rank_pattern", Value::Object(ranks)),
            ("alpha_pattern", Value::Object(alphas)),
            ("target_modules", json!(self.modules.keys().collect::<Vec<_>>())),
            ("task_type", json!("CAUSAL_LM")),
            ("use_dora", json!(config.use_dora)),
            ("use_rslora", json!(false)),
        ];
        fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
    }
}

/// A path as a pattern that matches it alone.
fn literal(path: &str) -> String {
    path.replace('.', r"\.")
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> AdapterError {
    AdapterError::Write { path: path.to_path_buf(), reason: reason.to_string() }
}

fn write_aside(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), AdapterError> {
    let path = folder.join(name);
    lcr_documents::write::replace(&path, bytes).map_err(|error| failed(&path, &error))
}
