//! Adapters against numbers computed by others: NumPy on the factors of published adapters, and weights merged by PEFT.

mod adapter_support;

use std::path::Path;

use adapter_support::{data, dense, golden, modules_of};
use lcr_formats::adapter::{Adapter, AdapterError, Format, ModuleKind, Origin, ScalingRule, TargetModule};
use lcr_formats::checkpoint::SafetensorsFile;
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Compares norm, shape, rank and singular values of every module with a reference; returns the largest relative error.
fn compare(adapter: &Adapter, reference: &Value) -> f64 {
    let expected = reference.as_object().unwrap();
    assert_eq!(adapter.modules.len() + adapter.embeddings.len(), expected.len());
    let mut worst = 0.0_f64;
    for (path, expected) in expected {
        let module = match adapter.modules.get(path) {
            Some(module) => (**module).clone(),
            None => adapter.embeddings[path].as_low_rank(),
        };
        let mut shape = [module.outputs, module.inputs];
        if adapter.embeddings.contains_key(path) {
            shape.reverse();
        }
        assert_eq!(serde_json::json!(shape), expected["shape"], "{path}");
        assert_eq!(serde_json::json!(module.rank), expected["rank"], "{path}");
        let norm = expected["norm"].as_f64().unwrap();
        worst = worst.max((module.factored().frobenius_norm() - norm).abs() / norm);
        let values = module.factored().singular_values();
        let directions = module.factored().leading_directions(module.rank);
        for (index, value) in expected["singular_values"].as_array().unwrap().iter().enumerate() {
            worst = worst.max((values[index] - value.as_f64().unwrap()).abs() / norm);
            worst = worst.max((directions.values[index] - values[index]).abs() / norm);
        }
    }
    worst
}

#[test]
fn published_adapters_match_numpy() {
    let reference = json(&data("adapters/reference.json"));
    for name in ["niket-sharma", "wyek1n-mlx"] {
        let adapter = Adapter::open(&data("adapters").join(name)).unwrap();
        // The reference prints nine digits.
        let worst = compare(&adapter, &reference[name]);
        assert!(worst < 2e-9, "{name}: {worst:e}");
    }
}

#[test]
fn pattern_regex_and_embedding_adapters_match_what_peft_merged() {
    let reference = json(&data("adapters/reference.json"));
    let names = ["lora_layers_1_3", "lora_rank_pattern", "lora_regex", "lora_r4_embed", "lora_r8_mts_head"];
    for name in names {
        let name = format!("stories260K/{name}");
        let adapter = Adapter::open(&data("adapters").join(&name)).unwrap();
        let worst = compare(&adapter, &reference[&name]);
        assert!(worst < 1e-5, "{name}: {worst:e}");
    }
}

#[test]
fn scales_follow_patterns_and_rslora() {
    let patterns = Adapter::open(&data("adapters/stories260K/lora_rank_pattern")).unwrap();
    assert_eq!(patterns.ranks(), [2, 4, 8]);
    let scale = |path: &str| patterns.modules[path].scale;
    assert_eq!(scale("model.layers.0.self_attn.q_proj"), 4.0);
    assert_eq!(scale("model.layers.0.self_attn.v_proj"), 4.0);
    assert_eq!(scale("model.layers.1.self_attn.v_proj"), 2.0);
    let stabilised = Adapter::open(&data("adapters/stories260K/dora_rslora_r4_all")).unwrap();
    assert_eq!(stabilised.scales(), [4.0]);
    assert_eq!(stabilised.method(), "DoRA (rsLoRA scaling)");
    let module = &stabilised.modules["model.layers.0.mlp.down_proj"];
    assert_eq!(module.scaling_rule, ScalingRule::AlphaOverRootRank);
    assert_eq!(module.magnitude.as_ref().map(Vec::len), Some(64));
    let mlx = Adapter::open(&data("adapters/wyek1n-mlx")).unwrap();
    assert_eq!((mlx.format, mlx.scales()), (Format::Mlx, vec![10.0]));
}

/// W' of a module: W + s·BA, its rows set to the magnitudes where there are any.
fn merged(module: &lcr_formats::adapter::LowRank, base: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut weight = dense(module);
    for (row, (changed, before)) in weight.iter_mut().zip(base).enumerate() {
        for (value, old) in changed.iter_mut().zip(before) {
            *value += old;
        }
        if let Some(magnitude) = &module.magnitude {
            let norm = changed.iter().map(|value| value * value).sum::<f64>().sqrt();
            for value in changed.iter_mut() {
                *value *= f64::from(magnitude[row]) / norm;
            }
        }
    }
    weight
}

/// A stored matrix as rows, transposed where the layer stores (inputs × outputs).
fn rows(file: &SafetensorsFile, name: &str, transposed: bool) -> Vec<Vec<f64>> {
    let tensor = file.tensors().iter().find(|tensor| tensor.name() == name).unwrap();
    let (values, width) = (tensor.to_f32(), tensor.shape()[1]);
    let stored: Vec<Vec<f64>> =
        values.chunks(width).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect();
    if transposed { (0..width).map(|column| stored.iter().map(|row| row[column]).collect()).collect() } else { stored }
}

fn check_golden(folder: &Path) -> f64 {
    let adapter = Adapter::open(&folder.join("adapter")).unwrap();
    let base = SafetensorsFile::open(&folder.join("base/model.safetensors")).unwrap();
    let expected = SafetensorsFile::open(&folder.join("expected.safetensors")).unwrap();
    let modules = modules_of(&folder.join("base"));
    let shape = |name: &str| {
        let found = base.tensors().iter().find(|tensor| tensor.name() == name);
        found.map(|tensor| tensor.shape().to_vec())
    };
    let coverage = adapter.bind(&modules, &shape).unwrap();
    assert_eq!(coverage.tensors, coverage.applied);
    assert_eq!(coverage.targeted_without_tensors, Vec::<String>::new());
    let mut worst = 0.0_f64;
    let mut seen = 0;
    for tensor in expected.tensors() {
        let Some(name) = tensor.name().strip_prefix("merged.") else {
            continue;
        };
        seen += 1;
        if let Some(whole) = adapter.modules_to_save.get(name) {
            assert_eq!(whole.weight.to_f32(), tensor.to_f32());
            continue;
        }
        let path = name.strip_suffix(".weight").unwrap();
        let kind = modules.iter().find(|module| module.path == path).unwrap().kind;
        let transposed = kind == ModuleKind::Conv1d;
        let ours = merged(&adapter.modules[path], &rows(&base, name, transposed));
        let theirs = rows(&expected, tensor.name(), transposed);
        for (our, their) in ours.iter().flatten().zip(theirs.iter().flatten()) {
            worst = worst.max((our - their).abs());
        }
    }
    assert_eq!(seen, adapter.modules.len() + adapter.modules_to_save.len());
    worst
}

#[test]
fn golden_adapters_merge_to_what_peft_merges() {
    let mut folders: Vec<_> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("adapter").is_dir())
        .collect();
    folders.sort();
    assert_eq!(folders.len(), 15);
    for folder in folders {
        let worst = check_golden(&folder);
        assert!(worst < 1e-5, "{}: {worst:e}", folder.display());
    }
}

#[test]
fn whole_tensors_embeddings_and_biases_keep_their_places() {
    let norms = Adapter::open(&data("adapters/stories260K/lora_r8_mts_head")).unwrap();
    assert_eq!(norms.modules_to_save.len(), 11);
    // PEFT compares ends of names: `norm` takes `input_layernorm` too.
    assert!(norms.modules_to_save.values().all(|whole| whole.declared && whole.origin == Origin::ModuleToSave));
    let table = Adapter::open(&data("adapters/stories260K/lora_r4_embed")).unwrap();
    let embedding = &table.embeddings["model.embed_tokens"];
    assert_eq!((embedding.rows, embedding.width, embedding.rank), (512, 64, 4));
    assert_eq!(table.modules_to_save["model.embed_tokens.weight"].origin, Origin::BaseLayer);
    let lora_b_bias = Adapter::open(&data("adapters/stories260K/lora_bias_only")).unwrap();
    assert!(
        lora_b_bias.modules.values().all(|module| module.lora_b_bias.as_ref().is_some_and(|bias| bias.len() == 64))
    );
    let some = Adapter::open(&data("adapters/gpt2_bias_lora_only")).unwrap();
    assert_eq!((some.modules.len(), some.biases.len()), (4, 4));
    assert_eq!(some.biases["transformer.h.0.attn.c_attn"].len(), 96);
    let all = Adapter::open(&data("adapters/gpt2_bias_all")).unwrap();
    assert_eq!(all.tensors_in_file, 2 * all.modules.len() + all.biases.len());
    assert!(all.biases.contains_key("transformer.ln_f"));
}

#[test]
fn saving_and_opening_changes_no_number() {
    let names = [
        "stories260K/dora_r8_attn",
        "stories260K/lora_bias_only",
        "stories260K/lora_r4_embed",
        "stories260K/lora_r8_mts_head",
        "stories260K/lora_rank_pattern",
        "gpt2_bias_lora_only",
        "gpt2_bias_all",
    ];
    for name in names {
        let adapter = Adapter::open(&data("adapters").join(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        adapter.save_peft(folder.path()).unwrap();
        let again = Adapter::open(folder.path()).unwrap();
        assert_eq!(adapter.modules, again.modules, "{name}");
        assert_eq!(adapter.embeddings, again.embeddings, "{name}");
        let values = |adapter: &Adapter| -> Vec<(String, Vec<f32>)> {
            adapter.modules_to_save.iter().map(|(name, whole)| (name.clone(), whole.weight.to_f32())).collect()
        };
        assert_eq!(values(&adapter), values(&again), "{name}");
        assert_eq!(adapter.biases, again.biases, "{name}");
        assert_eq!(adapter.tensors_in_file, again.tensors_in_file, "{name}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left behind");
    }
}

#[test]
fn mlx_adapters_become_peft_adapters() {
    let adapter = Adapter::open(&data("adapters/wyek1n-mlx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    adapter.save_peft(folder.path()).unwrap();
    let again = Adapter::open(folder.path()).unwrap();
    assert_eq!((again.format, again.method()), (Format::Peft, "LoRA".to_owned()));
    for (path, module) in &adapter.modules {
        let converted = &again.modules[path];
        assert_eq!(module.scale, converted.scale);
        assert_eq!((&module.lora_a, &module.lora_b), (&converted.lora_a, &converted.lora_b));
    }
}

/// The 24 blocks that the MLX adapter was made for.
fn qwen_modules(layers: usize) -> Vec<TargetModule> {
    (0..layers)
        .flat_map(|layer| [("q_proj", 896, layer), ("v_proj", 128, layer)])
        .map(|(name, outputs, layer)| TargetModule {
            path: format!("model.layers.{layer}.self_attn.{name}"),
            inputs: 896,
            outputs,
            kind: ModuleKind::Linear,
        })
        .collect()
}

#[test]
fn mlx_adapters_bind_to_the_last_blocks_only() {
    let adapter = Adapter::open(&data("adapters/wyek1n-mlx")).unwrap();
    let coverage = adapter.bind(&qwen_modules(24), &|_| None).unwrap();
    assert_eq!((coverage.tensors, coverage.applied), (16, 16));
    let error = adapter.bind(&qwen_modules(26), &|_| None).unwrap_err();
    assert!(matches!(error, AdapterError::NotTargeted { .. }), "{error}");
    let error = adapter.bind(&qwen_modules(20), &|_| None).unwrap_err();
    assert!(matches!(error, AdapterError::Unmatched { .. }), "{error}");
    assert!(error.to_string().contains("nearest: `model.layers."), "{error}");
}

#[test]
fn the_summary_says_the_scale_and_why() {
    let summary = Adapter::open(&data("adapters/stories260K/dora_r8_attn")).unwrap().summary();
    assert_eq!(summary.scales, ["alpha 16 / rank 8 = 2"]);
    assert_eq!(summary.targets, ["k_proj", "o_proj", "q_proj", "v_proj"]);
    assert_eq!(summary.layers, [0, 1, 2, 3, 4]);
    assert!(!summary.zero_effect);
    let module = &summary.modules["model.layers.0.self_attn.q_proj"];
    let [smallest, mean, largest] = module.magnitude.unwrap();
    assert!(smallest <= mean && mean <= largest);
    let text = serde_json::to_string(&summary).unwrap();
    assert!(text.contains("\"scaling_rule\":\"alpha_over_rank\""), "{text}");
}
