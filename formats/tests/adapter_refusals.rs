//! What is not a sound adapter is refused, with the reason by name: each row breaks one thing of a sound one.

mod adapter_support;

use std::path::Path;

use adapter_support::{
    MODULE, Tensor, counted, data, factors, key, merge, peft_config, safetensors, variant, with, write_adapter,
};
use lcr_formats::adapter::{Adapter, AdapterError, PeftConfig};
use lcr_formats::checkpoint::CheckpointError;
use serde_json::{Value, json};

/// Opens, and asserts the variant and what the message names.
fn refused(folder: &Path, expected: &str, named: &[&str]) {
    let error = Adapter::open(folder).map(|_| ()).unwrap_err();
    assert_eq!(variant(&error), expected, "{error}");
    for part in named {
        assert!(error.to_string().contains(part), "`{part}` is missing in: {error}");
    }
}

#[test]
fn a_sound_adapter_is_read() {
    let folder = write_adapter(&peft_config(&json!({})), &factors());
    let adapter = Adapter::open(folder.path()).unwrap();
    assert_eq!(adapter.modules[MODULE].scale, 2.0);
    assert_eq!(adapter.parameters, 20);
    assert_eq!(adapter.sha256.len(), 64);
    let file = folder.path().join("adapter_model.safetensors");
    assert_eq!(Adapter::open(&file).unwrap().sha256, adapter.sha256);
}

#[test]
fn oddities_found_in_the_wild() {
    let odd = |name: &str| data("oddities").join(name);
    refused(&odd("dora_config_only"), "NoTensors", &["adapter_config.json", "not published"]);
    refused(&odd("pickle"), "Pickle", &["adapter_model.bin", "can run code", "save_pretrained"]);
    refused(&odd("lfs_tensors"), "LfsPointer", &["adapter_model.safetensors", "git lfs pull"]);
    refused(&odd("lfs_config"), "LfsPointer", &["adapter_config.json", "git lfs pull"]);
    refused(&odd("whole_model"), "NoConfig", &["whole model"]);
    refused(&odd("missing"), "NotFound", &["missing"]);
    refused(&odd("pickle/adapter_model.bin"), "Pickle", &["adapter_model.bin"]);
}

#[test]
fn configs_that_say_what_is_not_supported() {
    let rows: &[(Value, &str, &[&str])] = &[
        (json!({"peft_type": "IA3"}), "Method", &["IA3"]),
        (json!({"peft_type": null}), "ConfigField", &["peft_type", "\"LORA\""]),
        (json!({"r": 0}), "ConfigField", &["`r` is 0"]),
        (json!({"r": -1}), "ConfigField", &["`r` is -1"]),
        (json!({"r": 1e30}), "ConfigField", &["`r`"]),
        (json!({"lora_alpha": null}), "ConfigField", &["lora_alpha"]),
        (json!({"lora_alpha": "x"}), "ConfigField", &["lora_alpha", "\"x\""]),
        (json!({"bias": "some"}), "ConfigField", &["bias"]),
        (json!({"use_dora": 1}), "ConfigField", &["use_dora"]),
        (json!({"target_modules": null}), "ConfigField", &["target_modules"]),
        (json!({"target_modules": [1]}), "ConfigField", &["target_modules"]),
        (json!({"target_modules": "(q"}), "Pattern", &["target_modules", "`(q`"]),
        (json!({"target_modules": "a)|(b"}), "Pattern", &["target_modules"]),
        (json!({"target_modules": "x{,3}"}), "Pattern", &["{0,"]),
        (json!({"exclude_modules": "["}), "Pattern", &["exclude_modules"]),
        (json!({"rank_pattern": {"*": 4}}), "Pattern", &["rank_pattern", "`*`"]),
        (json!({"rank_pattern": {"x": 0}}), "ConfigField", &["rank_pattern.x"]),
        (json!({"alpha_pattern": {"x": null}}), "ConfigField", &["alpha_pattern.x"]),
        (json!({"alpha_pattern": [1]}), "ConfigField", &["alpha_pattern"]),
        (json!({"layers_pattern": "layers"}), "ConfigField", &["layers_to_transform"]),
        (json!({"target_modules": "q", "layers_to_transform": [0]}), "ConfigField", &["layers_to_transform"]),
        (json!({"lora_bias": true, "use_dora": true}), "ConfigField", &["lora_bias"]),
        (json!({"target_parameters": ["experts.up"]}), "UnsupportedField", &["target_parameters"]),
        (json!({"trainable_token_indices": [1]}), "UnsupportedField", &["trainable_token_indices"]),
        (json!({"layer_replication": [[0, 2]]}), "UnsupportedField", &["layer_replication"]),
        (json!({"alora_invocation_tokens": [1]}), "UnsupportedField", &["alora_invocation_tokens"]),
        (json!({"use_qalora": true}), "UnsupportedField", &["use_qalora"]),
        (json!({"use_bdlora": {"nblocks": 2}}), "UnsupportedField", &["use_bdlora"]),
        (json!({"kasa_config": {"beta": 1}}), "UnsupportedField", &["kasa_config"]),
        (json!({"enable_lora": [true, false]}), "UnsupportedField", &["enable_lora"]),
        (json!({"megatron_config": {"a": 1}}), "UnsupportedField", &["megatron_config"]),
        (json!({"use_new_trick": true}), "UnknownField", &["use_new_trick"]),
        (json!({"gamma": 0}), "UnknownField", &["gamma"]),
    ];
    for (changes, expected, named) in rows {
        let folder = write_adapter(&peft_config(changes), &factors());
        refused(folder.path(), expected, named);
    }
    let harmless = json!({"use_new_trick": null, "x": false, "y": "", "z": [], "w": {}, "kasa_config": null,
        "lora_dropout": 0.1, "task_type": "CAUSAL_LM", "inference_mode": true, "qalora_group_size": 16});
    let folder = write_adapter(&peft_config(&harmless), &factors());
    assert!(Adapter::open(folder.path()).is_ok());
}

#[test]
fn tensors_that_contradict_each_other_or_the_config() {
    let own = key;
    let none = json!({});
    let (other_rank, pattern) = (json!({"r": 4}), json!({"rank_pattern": {"q_proj": 3}}));
    let (dora, biased) = (json!({"use_dora": true}), json!({"lora_bias": true}));
    let down = || counted(&own("lora_A.weight"), &[2, 6]);
    let up = || counted(&own("lora_B.weight"), &[4, 2]);
    let rows: Vec<(&Value, Vec<Tensor>, &str, &str)> = vec![
        (&none, vec![], "Empty", "no tensor"),
        (&none, vec![down()], "Unpaired", "lora_B"),
        (&none, vec![up()], "Unpaired", "lora_A"),
        (&none, vec![down(), counted(&own("lora_B.weight"), &[4, 3])], "Shape", "[4, 3]"),
        (&none, vec![down(), counted(&own("lora_B.weight"), &[8])], "Shape", "two dimensions"),
        (&none, vec![counted(&own("lora_A.weight"), &[0, 6]), up()], "Tensor", "no element"),
        (&other_rank, factors(), "Rank", "`r` in adapter_config.json says 4"),
        (&pattern, factors(), "Rank", "rank_pattern `q_proj`"),
        (&none, with(vec![counted(&own("lora_A.default.weight"), &[2, 6])]), "Duplicate", "lora_A.default.weight"),
        (&none, with(vec![counted(&own("lora_magnitude_vector"), &[4])]), "Tensor", "use_dora"),
        (&none, with(vec![counted(&own("lora_B.bias"), &[4])]), "Tensor", "lora_bias"),
        (&dora, factors(), "Unpaired", "lora_magnitude_vector"),
        (&biased, factors(), "Unpaired", "lora_B bias"),
        (&dora, with(vec![counted(&own("lora_magnitude_vector"), &[6])]), "Shape", "expected [4]"),
        (&dora, vec![counted(&own("lora_magnitude_vector"), &[4])], "Unpaired", "lora_A and lora_B"),
        (&none, with(vec![counted("model.norm.weight", &[4])]), "Tensor", "base_model.model."),
        (&none, with(vec![counted("base_model.model.weight", &[4])]), "Tensor", "no module"),
        (&none, with(vec![counted("base_model.model.lora_A.weight", &[4])]), "Tensor", "no module"),
        (&none, with(vec![counted("base_model.model.a..b", &[4])]), "Tensor", "empty part"),
        (&none, with(vec![counted(&own("lora_diag"), &[2])]), "Tensor", "not a tensor of LoRA"),
        (&none, with(vec![counted(&own("base_layer.lora_A.weight"), &[2, 6])]), "Tensor", "another adapter"),
        (&none, with(vec![counted(&own("original_module.weight"), &[2])]), "Tensor", "PEFT ignores"),
        (&none, with(vec![counted(&own("token_adapter.x"), &[2])]), "Tensor", "trainable_token_indices"),
        (&none, with(vec![counted(&own("weight"), &[4, 6])]), "Tensor", "PEFT would ignore it"),
        (&none, with(vec![counted("base_model.model.a.base_layer.weight", &[4])]), "Tensor", "no low-rank part"),
        (&none, with(vec![counted("base_model.model.e.lora_embedding_A", &[2, 9])]), "Unpaired", "lora_embedding_B"),
    ];
    for (changes, tensors, expected, named) in rows {
        let folder = write_adapter(&peft_config(changes), &tensors);
        refused(folder.path(), expected, &[named, "adapter_model.safetensors"]);
    }
}

#[test]
fn elements_that_are_no_weights() {
    for (dtype, bytes, expected) in [
        ("F32", f32::NAN.to_le_bytes().repeat(12), "NonFinite"),
        ("F16", [0x00, 0x7c].repeat(12), "NonFinite"),
        ("BF16", [0x80, 0xff].repeat(12), "NonFinite"),
        ("I32", vec![0; 48], "NotFloat"),
        ("F64", vec![0; 96], "NotFloat"),
        ("F8_E4M3", vec![0; 12], "NotFloat"),
    ] {
        let mut tensors = factors();
        tensors[0] = Tensor(key("lora_A.weight"), dtype, vec![2, 6], bytes);
        let folder = write_adapter(&peft_config(&json!({})), &tensors);
        refused(folder.path(), expected, &["lora_A.weight", "adapter_model.safetensors"]);
    }
}

#[test]
fn spellings_of_keys_that_peft_has_used() {
    let spelled = |parts: [&str; 3]| {
        let shapes: [&[usize]; 3] = [&[2, 6], &[4, 2], &[4]];
        parts.into_iter().zip(shapes).map(|(part, shape)| counted(&key(part), shape)).collect::<Vec<_>>()
    };
    for parts in [
        ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"],
        ["lora_A.default.weight", "lora_B.default.weight", "lora_magnitude_vector.default"],
        ["lora_A.mine.weight", "lora_B.mine.weight", "lora_magnitude_vector.mine.weight"],
        ["lora_A.weight", "lora_B.weight", "lora_magnitude_vector.weight"],
    ] {
        let folder = write_adapter(&peft_config(&json!({"use_dora": true})), &spelled(parts));
        let adapter = Adapter::open(folder.path()).unwrap();
        assert_eq!(adapter.modules[MODULE].magnitude.as_ref().map(Vec::len), Some(4));
    }
    for shape in [[4, 1], [1, 4]] {
        let tensors = with(vec![counted(&key("lora_magnitude_vector"), &shape)]);
        let folder = write_adapter(&peft_config(&json!({"use_dora": true})), &tensors);
        assert!(Adapter::open(folder.path()).is_ok());
    }
    for name in ["lm_head.weight", "lm_head.modules_to_save.weight", "lm_head.modules_to_save.default.weight"] {
        let tensors = with(vec![counted(&format!("base_model.model.{name}"), &[9, 6])]);
        let folder = write_adapter(&peft_config(&json!({"modules_to_save": ["lm_head"]})), &tensors);
        let adapter = Adapter::open(folder.path()).unwrap();
        assert!(adapter.modules_to_save["lm_head.weight"].declared);
    }
}

#[test]
fn folders_with_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mlx = json!({"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 3.0}, "num_layers": 4});
    let tensors = [
        counted("model.layers.0.self_attn.q_proj.lora_a", &[6, 2]),
        counted("model.layers.0.self_attn.q_proj.lora_b", &[2, 4]),
    ];
    std::fs::write(path.join("adapter_config.json"), mlx.to_string()).unwrap();
    for name in ["0000100_adapters.safetensors", "0000200_adapters.safetensors"] {
        std::fs::write(path.join(name), safetensors(&tensors)).unwrap();
    }
    refused(path, "SeveralCheckpoints", &["0000100_adapters.safetensors", "0000200_adapters.safetensors"]);
    assert!(Adapter::open(&path.join("0000200_adapters.safetensors")).is_ok());
    std::fs::write(path.join("adapters.safetensors"), safetensors(&tensors)).unwrap();
    let adapter = Adapter::open(path).unwrap();
    assert!(adapter.path.ends_with("adapters.safetensors") && adapter.scales() == [3.0]);
    // A pickle beside tensors is left alone.
    std::fs::write(path.join("adapter_model.bin"), b"not opened").unwrap();
    assert!(Adapter::open(path).is_ok());
    let above = tempfile::tempdir().unwrap();
    std::fs::create_dir(above.path().join("mine")).unwrap();
    std::fs::write(above.path().join("mine/adapter_config.json"), "{}").unwrap();
    refused(above.path(), "NoConfig", &["mine"]);
}

#[test]
fn mlx_adapters_that_are_broken() {
    let sound = json!({"fine_tune_type": "lora", "lora_parameters": {"rank": 2}, "num_layers": -1});
    let (a, b) = (|| counted("m.0.q.lora_a", &[6, 2]), || counted("m.0.q.lora_b", &[2, 4]));
    let rows: Vec<(Value, Vec<Tensor>, &str, &str)> = vec![
        (json!({"fine_tune_type": "full"}), vec![a(), b()], "Method", "full"),
        (json!({"fine_tune_type": "dora"}), vec![a(), b()], "Unpaired", "m, which"),
        (json!({"lora_parameters": {"rank": 4}}), vec![a(), b()], "Rank", "says 4"),
        (json!({"lora_parameters": {"beta": 4}}), vec![a(), b()], "UnknownField", "lora_parameters.beta"),
        (json!({}), vec![a()], "Unpaired", "lora_b"),
        (json!({}), vec![b()], "Unpaired", "lora_a"),
        (json!({}), vec![a(), counted("m.0.q.lora_b", &[3, 4])], "Shape", "[3, 4]"),
        (json!({}), vec![a(), b(), counted("m.0.q.m", &[4])], "Tensor", "fine_tune_type"),
        (json!({}), factors(), "Tensor", "lora_A.weight"),
    ];
    for (changes, tensors, expected, named) in rows {
        let mut config = sound.clone();
        merge(&mut config, &changes);
        let folder = write_adapter(&config, &tensors);
        refused(folder.path(), expected, &[named]);
    }
    let folder = write_adapter(&sound, &[a(), b()]);
    assert_eq!(Adapter::open(folder.path()).unwrap().scales(), [20.0], "the default of mlx-lm");
}

#[test]
fn zero_effect_is_proved_by_the_files_alone() {
    let zero = |name: &str, shape: Vec<usize>| {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        Tensor(name.to_owned(), "F32", shape, bytes)
    };
    let effect = |config: &Value, tensors: &[Tensor]| {
        Adapter::open(write_adapter(config, tensors).path()).unwrap().is_zero_effect()
    };
    let plain = peft_config(&json!({}));
    let fresh = || vec![counted(&key("lora_A.weight"), &[2, 6]), zero(&key("lora_B.weight"), vec![4, 2])];
    assert!(effect(&plain, &fresh()));
    assert!(!effect(&plain, &factors()));
    assert!(effect(&peft_config(&json!({"lora_alpha": 0})), &factors()), "a scale of zero");
    let magnitudes = fresh().into_iter().chain([counted(&key("lora_magnitude_vector"), &[4])]);
    assert!(!effect(&peft_config(&json!({"use_dora": true})), &magnitudes.collect::<Vec<_>>()));
    let whole = fresh().into_iter().chain([counted("base_model.model.model.norm.weight", &[6])]);
    assert!(!effect(&plain, &whole.collect::<Vec<_>>()));
}

#[test]
fn configs_of_the_peft_project_are_read_or_refused_by_name() {
    let configs: Vec<Value> =
        serde_json::from_slice(&std::fs::read(data("adapters/peft_configs.json")).unwrap()).unwrap();
    let mut read = 0;
    for config in &configs {
        let map = config.as_object().unwrap();
        match PeftConfig::from_json(Path::new("adapter_config.json"), map) {
            Ok(_) => read += 1,
            Err(error) => {
                let method = config["peft_type"].as_str().unwrap();
                let named = match &error {
                    AdapterError::Method { found, .. } => found.contains(method),
                    AdapterError::UnsupportedField { field, .. } | AdapterError::ConfigField { field, .. } => {
                        config.get(field).is_some()
                    }
                    _ => false,
                };
                assert!(named, "{error}");
            }
        }
    }
    assert_eq!((configs.len(), read), (99, 5));
}

#[test]
fn broken_tensor_files_are_named() {
    let folder = write_adapter(&peft_config(&json!({})), &factors());
    let file = folder.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    let error = Adapter::open(folder.path()).unwrap_err();
    assert!(matches!(&error, AdapterError::Tensors(CheckpointError::Truncated { .. })), "{error}");
    for (config, expected) in [("", "ConfigSyntax"), ("[]", "ConfigSyntax"), ("{\"r\": NaN}", "ConfigSyntax")] {
        std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
        refused(folder.path(), expected, &["adapter_config.json"]);
    }
}
