//! Formats that are not read are named, with the way out; none of them is asked for a config that it does not have.

mod adapter_support;

use std::path::Path;

use adapter_support::{Tensor, counted, factors, key, peft_config, safetensors, variant, with, write_adapter};
use lcr_formats::adapter::{Adapter, NoteKind, foreign_format};
use serde_json::{Value, json};

/// What opening says.
fn message(path: &Path) -> (String, String) {
    let error = Adapter::open(path).map(|_| ()).unwrap_err();
    (variant(&error), error.to_string())
}

fn pair(down: &str, up: &str) -> Vec<u8> {
    safetensors(&[counted(down, &[2, 6]), counted(up, &[4, 2])])
}

fn gguf(kind: &str) -> Vec<u8> {
    let mut bytes =
        b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x0c\0\0\0\0\0\0\0general.type\x08\0\0\0".to_vec();
    bytes.extend((kind.len() as u64).to_le_bytes());
    bytes.extend(kind.as_bytes());
    bytes
}

fn npz() -> Vec<u8> {
    let name = b"model.layers.0.self_attn.q_proj.lora_a.npy";
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.resize(26, 0);
    bytes.extend((name.len() as u16).to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(name);
    bytes
}

/// Files in formats that are not read: name, content, what the refusal must say.
fn foreign() -> Vec<(&'static str, Vec<u8>, [&'static str; 2])> {
    let kohya = "lora_unet_down_blocks_0_attentions_0_proj_in";
    let encoder = "lora_te1_text_model_encoder_layers_0_mlp_fc1";
    let diffusers = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
    let flux = "transformer.single_transformer_blocks.0.attn.to_q";
    let down_up = |module: &str| pair(&format!("{module}.lora_down.weight"), &format!("{module}.lora_up.weight"));
    vec![
        ("style.safetensors", down_up(kohya), ["image model", "kohya"]),
        ("encoder.safetensors", down_up(encoder), ["image model", "text models"]),
        ("lycoris.safetensors", pair("lora_unet_a.hada_w1_a", "lora_unet_a.hada_w1_b"), ["LyCORIS", "text models"]),
        (
            "pytorch_lora_weights.safetensors",
            pair(&format!("{diffusers}.lora.down.weight"), &format!("{diffusers}.lora.up.weight")),
            ["diffusers", "text models"],
        ),
        (
            "flux.safetensors",
            pair(&format!("{flux}.lora_A.weight"), &format!("{flux}.lora_B.weight")),
            ["diffusers", "text models"],
        ),
        ("plain.safetensors", down_up("model.layers.0.q_proj"), ["lora_down and lora_up", "lora_A.weight for down"]),
        ("adapters.safetensors", pair("model.q_proj.A", "model.q_proj.B"), ["mlx-vlm", "lora_parameters"]),
        ("lora.gguf", gguf("adapter"), ["LoRA in GGUF", "safetensors adapter that it was converted from"]),
        ("model.gguf", gguf("model"), ["model in GGUF", "not an adapter"]),
        ("ggml-adapter-model.bin", b"algg\x01\0\0\0".to_vec(), ["ggla", "safetensors adapter"]),
        ("adapters.npz", npz(), ["mlx-lm before 0.8", "save_file(dict(numpy.load("]),
        (
            "model.safetensors",
            pair("model.layers.0.self_attn.q_proj.weight", "lm_head.weight"),
            ["whole model", "not an adapter"],
        ),
        ("adapter_model.bin", pair(&key("lora_A.weight"), &key("lora_B.weight")), ["safetensors", "Rename it"]),
    ]
}

#[test]
fn a_folder_without_a_config_is_told_by_its_file() {
    for (name, content, named) in foreign() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), &content).unwrap();
        for path in [folder.path().to_path_buf(), folder.path().join(name)] {
            let (kind, text) = message(&path);
            assert_eq!(kind, "Foreign", "{name}: {text}");
            assert!(named.iter().all(|part| text.contains(part)) && text.contains(name), "{name}: {text}");
            assert!(!text.contains("Get the config") && !text.contains('\n'), "{text}");
        }
        assert!(foreign_format(&folder.path().join(name)).is_some(), "{name}");
    }
}

#[test]
fn a_config_beside_such_a_file_changes_nothing() {
    let mlx = json!({"lora_layers": 5, "lora_parameters": {"rank": 2, "scale": 10.0}});
    for config in [peft_config(&json!({})), mlx] {
        for (name, content, named) in foreign() {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
            std::fs::write(folder.path().join(name), &content).unwrap();
            let (kind, text) = message(folder.path());
            assert_eq!(kind, "Foreign", "{name}: {text}");
            assert!(named.iter().all(|part| text.contains(part)), "{name}: {text}");
        }
    }
}

#[test]
fn under_the_name_that_peft_gives_a_format_is_still_told() {
    for (name, content, named) in foreign().into_iter().filter(|(name, ..)| name.ends_with(".safetensors")) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), peft_config(&json!({})).to_string()).unwrap();
        std::fs::write(folder.path().join("adapter_model.safetensors"), &content).unwrap();
        let (kind, text) = message(folder.path());
        assert_eq!(kind, "Foreign", "{name}: {text}");
        assert!(named.iter().all(|part| text.contains(part)), "{name}: {text}");
    }
}

#[test]
fn formats_that_are_read_are_asked_for_what_they_lack() {
    let tensors = factors();
    let mlx = [counted("model.layers.0.q_proj.lora_a", &[6, 2]), counted("model.layers.0.q_proj.lora_b", &[2, 4])];
    for tensors in [&tensors[..], &mlx[..]] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("adapter_model.safetensors");
        std::fs::write(&file, safetensors(tensors)).unwrap();
        let (kind, text) = message(folder.path());
        assert_eq!(kind, "NoConfig", "{text}");
        assert!(text.contains("Get the config that belongs to the tensors"), "{text}");
        assert!(foreign_format(&file).is_none());
    }
    // What a trainer leaves behind is not the adapter.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_config.json"), peft_config(&json!({})).to_string()).unwrap();
    std::fs::write(folder.path().join("training_args.bin"), b"\x80\x02}.").unwrap();
    assert_eq!(message(folder.path()).0, "NoTensors");
    std::fs::write(folder.path().join("adapter_model.bin"), b"\x80\x02}.").unwrap();
    assert_eq!(message(folder.path()).0, "Pickle");
    std::fs::write(folder.path().join("adapter_model.bin"), b"version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert_eq!(message(folder.path()).0, "LfsPointer");
}

#[test]
fn a_config_of_mlx_vlm_is_not_one_of_peft() {
    let tensors = [counted("language_model.q_proj.A", &[6, 2]), counted("language_model.q_proj.B", &[2, 4])];
    let configs = [
        json!({"rank": 2, "alpha": 16, "dropout": 0.0}),
        json!({"rank": 2, "alpha": 0.1}),
        json!({"rank": 2}),
        json!({"rank": 2, "dropout": 0.1, "model": "some/model"}),
    ];
    for config in configs {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        std::fs::write(folder.path().join("adapters.safetensors"), safetensors(&tensors)).unwrap();
        let (kind, text) = message(folder.path());
        assert_eq!(kind, "Foreign", "{text}");
        assert!(text.contains("mlx-vlm") && !text.contains("peft_type"), "{text}");
    }
    let folder = write_adapter(&json!({"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}), &factors());
    assert!(message(folder.path()).1.contains("\"peft_type\": \"LORA\""));
}

#[test]
fn methods_of_peft_are_named_with_the_way_out() {
    let rows: [(&str, &str); 16] = [
        ("LOHA", "peft.convert_to_lora"),
        ("LOKR", "peft.convert_to_lora"),
        ("VERA", "peft.convert_to_lora"),
        ("FOURIERFT", "peft.convert_to_lora"),
        ("IA3", "merge_and_unload"),
        ("ADALORA", "merge_and_unload"),
        ("OFT", "merge_and_unload"),
        ("BOFT", "merge_and_unload"),
        ("HRA", "merge_and_unload"),
        ("PREFIX_TUNING", "changes no weight"),
        ("PROMPT_TUNING", "changes no weight"),
        ("P_TUNING", "changes no weight"),
        ("XLORA", "learned gate"),
        ("TRAINABLE_TOKENS", "rows of the embedding"),
        ("lora", "in capitals"),
        ("MYLORA", "known to PEFT"),
    ];
    for (method, way_out) in rows {
        let folder = write_adapter(&peft_config(&json!({"peft_type": method})), &factors());
        let (kind, text) = message(folder.path());
        assert_eq!(kind, "Method", "{text}");
        assert!(text.contains(method) && text.contains(way_out), "{text}");
    }
}

#[test]
fn names_of_adapters_in_keys_are_said() {
    let spelled = |parts: &[&str]| -> Vec<Tensor> {
        let shapes: [&[usize]; 3] = [&[2, 6], &[4, 2], &[4]];
        parts.iter().zip(shapes).map(|(part, shape)| counted(&key(part), shape)).collect()
    };
    let notes = |config: &Value, tensors: &[Tensor]| -> Vec<String> {
        let adapter = Adapter::open(write_adapter(config, tensors).path()).unwrap();
        let notes = adapter.notes.into_iter().filter(|note| note.kind == NoteKind::AdapterNameInKeys);
        notes.map(|note| note.text).collect()
    };
    let (plain, dora) = (peft_config(&json!({})), peft_config(&json!({"use_dora": true})));
    let named = [
        (&plain, spelled(&["lora_A.default.weight", "lora_B.default.weight"]), "`default`"),
        (&plain, spelled(&["lora_A.my_adapter.weight", "lora_B.my_adapter.weight"]), "`my_adapter`"),
        (&plain, spelled(&["lora_A.weight", "lora_B.policy.weight"]), "`policy`"),
        (&plain, spelled(&["lora_A.weight.weight", "lora_B.weight.weight"]), "`weight`"),
        (&dora, spelled(&["lora_A.weight", "lora_B.weight", "lora_magnitude_vector.default"]), "`default`"),
        (&dora, spelled(&["lora_A.weight", "lora_B.weight", "lora_magnitude_vector.x.weight"]), "`x`"),
    ];
    for (config, tensors, name) in named {
        let notes = notes(config, &tensors);
        assert_eq!(notes.len(), 1, "{name}");
        assert!(notes[0].contains(name) && notes[0].contains("vLLM refuses"), "{}", notes[0]);
    }
    let embedding =
        ["lora_embedding_A.default", "lora_embedding_B.default"].map(|part| format!("base_model.model.e.{part}"));
    let tensors = with(vec![counted(&embedding[0], &[2, 9]), counted(&embedding[1], &[6, 2])]);
    assert_eq!(notes(&peft_config(&json!({"target_modules": ["q_proj", "e"]})), &tensors).len(), 1);
    let whole = with(vec![counted("base_model.model.lm_head.modules_to_save.default.weight", &[9, 6])]);
    assert_eq!(notes(&peft_config(&json!({"modules_to_save": ["lm_head"]})), &whole).len(), 1);
    let marked = with(vec![counted("base_model.model.lm_head.modules_to_save.weight", &[9, 6])]);
    let unnamed = peft_config(&json!({"modules_to_save": ["lm_head"]}));
    assert!(notes(&unnamed, &marked).is_empty());
    let adapter = Adapter::open(write_adapter(&unnamed, &marked).path()).unwrap();
    let disagreement = adapter.notes.iter().find(|note| note.kind == NoteKind::LoadersDisagree).unwrap();
    assert!(disagreement.text.contains("lm_head.modules_to_save.weight"), "{disagreement}");
    assert_eq!(adapter.modules_to_save["lm_head.weight"].shape, [9, 6]);
    for (config, tensors) in [
        (&plain, factors()),
        (&dora, spelled(&["lora_A.weight", "lora_B.weight", "lora_magnitude_vector"])),
        (&dora, spelled(&["lora_A.weight", "lora_B.weight", "lora_magnitude_vector.weight"])),
        (&plain, with(vec![counted("base_model.model.lm_head.weight", &[9, 6])])),
    ] {
        assert!(notes(config, &tensors).is_empty());
    }
}

#[test]
fn a_module_in_both_lists_is_named_as_the_cause() {
    let inside = |part: &str, shape: &[usize]| counted(&format!("base_model.model.classifier.{part}"), shape);
    let lora = || vec![inside("lora_A.weight", &[2, 6]), inside("lora_B.weight", &[4, 2])];
    let wrapped: [Tensor; 5] = [
        inside("modules_to_save.lora_A.weight", &[2, 6]),
        inside("original_module.lora_B.weight", &[4, 2]),
        inside("modules_to_save.default.lora_A.default.weight", &[2, 6]),
        inside("modules_to_save.base_layer.weight", &[4, 6]),
        inside("original_module.base_layer.bias", &[4]),
    ];
    let config = peft_config(&json!({"target_modules": "classifier", "task_type": "SEQ_CLS"}));
    for tensor in wrapped {
        let name = tensor.0.clone();
        let folder = write_adapter(&config, &lora().into_iter().chain([tensor]).collect::<Vec<_>>());
        let (kind, text) = message(folder.path());
        assert_eq!(kind, "BothLists", "{text}");
        for part in [name.as_str(), "`classifier`", "target_modules", "modules_to_save", "LoRA factor"] {
            assert!(text.contains(part), "`{part}` is missing in: {text}");
        }
        assert!(!text.contains("the same part"), "{text}");
    }
    let folder = write_adapter(&config, &lora().into_iter().chain([inside("weight", &[4, 6])]).collect::<Vec<_>>());
    let (_, text) = message(folder.path());
    assert!(text.contains("target_modules") && text.contains("modules_to_save"), "{text}");
}

#[test]
fn what_loaders_of_mlx_ignore_is_noted() {
    let notes = |parameters: Value| -> Vec<String> {
        let config = json!({"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": parameters});
        let tensors = [counted("m.0.q.lora_a", &[6, 2]), counted("m.0.q.lora_b", &[2, 4])];
        let adapter = Adapter::open(write_adapter(&config, &tensors).path()).unwrap();
        assert!(adapter.notes.iter().all(|note| note.kind == NoteKind::LoadersDisagree));
        adapter.notes.into_iter().map(|note| note.text).collect()
    };
    assert!(notes(json!({"rank": 2, "scale": 10.0, "dropout": 0.0})).is_empty());
    let alpha = notes(json!({"rank": 2, "scale": 10.0, "alpha": 16}));
    assert!(
        matches!(alpha.as_slice(), [one] if one.contains("alpha is 16") && one.contains("ignores it")),
        "{alpha:?}"
    );
    let none = notes(json!({"rank": 2}));
    assert!(matches!(none.as_slice(), [one] if one.contains("scale is missing") && one.contains("20")), "{none:?}");
    assert_eq!(notes(json!({"rank": 2, "alpha": 16})).len(), 2);
}

#[test]
fn parts_of_other_models_are_noted() {
    let kinds = |module: &str| -> Vec<NoteKind> {
        let named = |part: &str, shape: &[usize]| counted(&format!("base_model.model.{module}.{part}"), shape);
        let tensors = [named("lora_A.weight", &[2, 6]), named("lora_B.weight", &[4, 2])];
        let adapter = Adapter::open(write_adapter(&peft_config(&json!({})), &tensors).path()).unwrap();
        adapter.notes.into_iter().map(|note| note.kind).collect()
    };
    assert_eq!(kinds("model.vision_tower.layers.0.q_proj"), [NoteKind::Senses]);
    assert_eq!(kinds("model.visual.blocks.0.attn.qkv"), [NoteKind::Senses]);
    assert_eq!(kinds("score"), [NoteKind::ClassificationHead]);
    assert_eq!(kinds("classifier.out_proj"), [NoteKind::ClassificationHead]);
    assert_eq!(kinds("model.layers.0.self_attn.q_proj"), []);
}
