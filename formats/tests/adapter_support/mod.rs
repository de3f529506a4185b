//! What the adapter tests share: folders, files written by hand, and bases described from their tensors.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it, and none exports it")]

use std::path::{Path, PathBuf};

use lcr_formats::adapter::{AdapterError, LowRank, ModuleKind, ScalingRule, TargetModule};
use lcr_formats::checkpoint::SafetensorsFile;
use serde_json::{Value, json};

/// A folder of test data.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// The golden cases, where they are.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// A tensor for a hand-written file: name, dtype, shape, bytes.
pub struct Tensor(pub String, pub &'static str, pub Vec<usize>, pub Vec<u8>);

/// An f32 tensor whose elements count up in small steps.
pub fn counted(name: &str, shape: &[usize]) -> Tensor {
    let length = shape.iter().product::<usize>();
    let bytes = (0..length).flat_map(|index| ((index % 17) as f32 * 0.125 - 1.0).to_le_bytes()).collect();
    Tensor(name.to_owned(), "F32", shape.to_vec(), bytes)
}

/// A safetensors file, byte by byte.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut body: Vec<u8> = Vec::new();
    for Tensor(name, dtype, shape, bytes) in tensors {
        let start = body.len();
        body.extend(bytes);
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, body.len()]}));
    }
    let header = serde_json::to_vec(&Value::Object(header)).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(body);
    file
}

/// A PEFT config for rank 2 on `q_proj`, with `changes` made to it.
pub fn peft_config(changes: &Value) -> Value {
    let mut config = json!({
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"
    });
    merge(&mut config, changes);
    config
}

/// Sets the fields of `changes` in `config`.
pub fn merge(config: &mut Value, changes: &Value) {
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
}

/// Path of the one module of the hand-written adapters.
pub const MODULE: &str = "model.layers.0.self_attn.q_proj";

/// The tensor of that module in PEFT's spelling.
pub fn key(part: &str) -> String {
    format!("base_model.model.{MODULE}.{part}")
}

/// A (2 × 6) and B (4 × 2) for it.
pub fn factors() -> Vec<Tensor> {
    vec![counted(&key("lora_A.weight"), &[2, 6]), counted(&key("lora_B.weight"), &[4, 2])]
}

/// Writes an adapter into a fresh folder.
pub fn write_adapter(config: &Value, tensors: &[Tensor]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), safetensors(tensors)).unwrap();
    folder
}

/// Modules of the checkpoint in `folder`, read off its tensors' names and shapes.
pub fn modules_of(folder: &Path) -> Vec<TargetModule> {
    let file = SafetensorsFile::open(&folder.join("model.safetensors")).unwrap();
    let mut modules = Vec::new();
    for tensor in file.tensors() {
        let Some(path) = tensor.name().strip_suffix(".weight") else {
            continue;
        };
        let conv = path.contains(".attn.c_") || path.contains(".mlp.c_");
        let (kind, inputs, outputs) = match *tensor.shape() {
            [width] => (ModuleKind::Norm, width, width),
            [rows, columns] if path.ends_with("embed_tokens") || path.ends_with("wte") || path.ends_with("wpe") => {
                (ModuleKind::Embedding, rows, columns)
            }
            [inputs, outputs] if conv => (ModuleKind::Conv1d, inputs, outputs),
            [outputs, inputs] if path == "lm_head" => (ModuleKind::Head, inputs, outputs),
            [outputs, inputs] => (ModuleKind::Linear, inputs, outputs),
            _ => continue,
        };
        modules.push(TargetModule { path: path.to_owned(), inputs, outputs, kind });
    }
    modules
}

/// s·BA, (outputs × inputs), multiplied out in f64.
pub fn dense(module: &LowRank) -> Vec<Vec<f64>> {
    (0..module.outputs)
        .map(|row| {
            (0..module.inputs)
                .map(|column| {
                    let products = (0..module.rank).map(|inner| {
                        f64::from(module.lora_b[row * module.rank + inner])
                            * f64::from(module.lora_a[inner * module.inputs + column])
                    });
                    module.scale * products.sum::<f64>()
                })
                .collect()
        })
        .collect()
}

/// A module from its factors.
pub fn low_rank(outputs: usize, rank: usize, inputs: usize, lora_b: Vec<f32>, lora_a: Vec<f32>) -> LowRank {
    LowRank {
        rank,
        alpha: rank as f64,
        scale: 1.0,
        scaling_rule: ScalingRule::AlphaOverRank,
        lora_a,
        lora_b,
        inputs,
        outputs,
        magnitude: None,
        lora_b_bias: None,
        tensor_names: Vec::new(),
    }
}

/// Name of an error's variant.
pub fn variant(error: &AdapterError) -> String {
    let text = match error {
        AdapterError::Tensors(inner) => format!("{inner:?}"),
        other => format!("{other:?}"),
    };
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

/// The sound tensors, and these.
pub fn with(extra: Vec<Tensor>) -> Vec<Tensor> {
    factors().into_iter().chain(extra).collect()
}
