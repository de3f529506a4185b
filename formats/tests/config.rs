//! Configs of published models are read as their authors meant them; what cannot be computed is refused by name; noise
//! never panics.

use std::path::{Path, PathBuf};

use lcr_formats::config::{Activation, Config, ConfigError, Norm, Rope, RopeScaling};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/configs/{name}.json"))
}

/// The config of a published model as JSON.
fn published(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path_of(name)).unwrap()).unwrap()
}

fn parse(config: &Value) -> Result<Config, ConfigError> {
    Config::parse(Path::new("config.json"), config.to_string().as_bytes())
}

/// A published config with a key set.
fn with(name: &str, key: &str, value: Value) -> Result<Config, ConfigError> {
    let mut config = published(name);
    config[key] = value;
    parse(&config)
}

const LLAMA3: RopeScaling =
    RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };

/// What a model is: family, layers, width, heads, key-value heads, head width, θ, scaling, window, tied head, q/k/v
/// bias.
type Facts = (&'static str, usize, usize, usize, usize, usize, f64, RopeScaling, Option<usize>, bool, bool);

/// Reads a model whose layers are all of one kind.
fn facts(name: &str) -> Facts {
    let config = parse(&published(name)).unwrap();
    let first = config.layers[0];
    assert!(config.layers.iter().all(|layer| *layer == first), "{name}: layers differ");
    let rope = first.rope.unwrap();
    assert_eq!(rope.dimensions, config.head_dim, "{name}: whole heads are rotated");
    (
        config.family.model_type,
        config.layers.len(),
        config.width,
        config.heads,
        config.kv_heads,
        config.head_dim,
        rope.theta,
        rope.scaling,
        first.window,
        config.tied_head,
        config.qkv_bias,
    )
}

#[test]
fn published_models_of_one_kind_of_layer_are_read() {
    use RopeScaling::None as Plain;
    let expected: [(&str, Facts); 10] = [
        ("Llama-3.2-1B", ("llama", 16, 2048, 32, 8, 64, 5e5, LLAMA3, None, true, false)),
        ("Mistral-7B-v0.1", ("mistral", 32, 4096, 32, 8, 128, 1e4, Plain, Some(4096), false, false)),
        ("Qwen2.5-0.5B-Instruct", ("qwen2", 24, 896, 14, 2, 64, 1e6, Plain, None, true, true)),
        ("Qwen2.5-1.5B-Instruct", ("qwen2", 28, 1536, 12, 2, 128, 1e6, Plain, None, true, true)),
        ("Qwen3-0.6B", ("qwen3", 28, 1024, 16, 8, 128, 1e6, Plain, None, true, false)),
        ("Qwen3-1.7B", ("qwen3", 28, 2048, 16, 8, 128, 1e6, Plain, None, true, false)),
        ("Qwen3-4B", ("qwen3", 36, 2560, 32, 8, 128, 1e6, Plain, None, true, false)),
        ("SmolLM2-135M", ("llama", 30, 576, 9, 3, 64, 1e5, Plain, None, true, false)),
        ("SmolLM2-360M-Instruct", ("llama", 32, 960, 15, 5, 64, 1e5, Plain, None, true, false)),
        ("TinyLlama-1.1B-Chat-v1.0", ("llama", 22, 2048, 32, 4, 64, 1e4, Plain, None, false, false)),
    ];
    for (name, facts_of_card) in expected {
        assert_eq!(facts(name), facts_of_card, "{name}");
    }
}

#[test]
fn gemma_alternates_local_and_global_layers() {
    let config = parse(&published("gemma-3-270m-it")).unwrap();
    assert_eq!((config.family.model_type, config.layers.len(), config.head_dim), ("gemma3_text", 18, 256));
    assert!(config.tied_head);
    assert_eq!((config.embedding_scale, config.attention_scale), (640_f32.sqrt(), 1.0 / 16.0));
    let rope = |theta| Some(Rope { theta, scaling: RopeScaling::None, dimensions: 256 });
    for (index, layer) in config.layers.iter().enumerate() {
        let global = [5, 11, 17].contains(&index);
        assert_eq!(layer.window, (!global).then_some(512), "layer {index}");
        assert_eq!(layer.rope, rope(if global { 1e6 } else { 1e4 }), "layer {index}");
    }
}

#[test]
fn gpt2_has_learned_positions_and_no_rotation() {
    let config = parse(&published("gpt2")).unwrap();
    assert_eq!((config.family.model_type, config.layers.len(), config.head_dim), ("gpt2", 12, 64));
    assert_eq!((config.width, config.intermediate, config.max_positions), (768, 3072, 1024));
    assert!(config.tied_head);
    assert!(config.layers.iter().all(|layer| layer.rope.is_none() && layer.window.is_none()));
}

#[test]
fn every_file_is_named_in_a_test() {
    let read = std::fs::read_dir(path_of("gpt2").parent().unwrap()).unwrap();
    let files = read.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "json"));
    assert_eq!(files.count(), 13);
}

#[test]
fn an_unsupported_family_is_named_with_the_supported_ones() {
    let error = parse(&published("Ministral3-3B-like")).unwrap_err().to_string();
    assert!(error.contains("`mistral3`") && error.contains("qwen3") && error.contains("gemma3_text"), "{error}");
}

#[test]
fn an_unknown_key_is_named_with_its_value() {
    let error = with("Qwen3-0.6B", "attention_twist", json!(0.25)).unwrap_err();
    assert!(matches!(&error, ConfigError::Unknown { key, .. } if key == "attention_twist"), "{error}");
    assert!(error.to_string().contains("`attention_twist` = 0.25"), "{error}");
}

#[test]
fn settings_that_change_the_mathematics_are_refused_by_name() {
    for (key, value, named) in [
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "yarn"),
        ("hidden_act", json!("relu"), "relu"),
        ("layer_types", json!(vec!["linear_attention"; 28]), "linear_attention"),
        ("quantization_config", json!({"bits": 4}), "quantization_config"),
        ("hidden_size", json!(-1), "hidden_size"),
        ("num_hidden_layers", json!(1_000_000), "num_hidden_layers"),
        ("num_key_value_heads", json!(5), "num_key_value_heads"),
        ("head_dim", json!("wide"), "head_dim"),
    ] {
        let mut config = published("Qwen3-0.6B");
        config.as_object_mut().unwrap().remove("rope_parameters");
        config[key] = value;
        let error = parse(&config).unwrap_err().to_string();
        assert!(error.contains(named), "{key}: {error}");
    }
}

/// transformers 5 gathers the rotary settings under `rope_parameters`; both spellings mean one model.
#[test]
fn both_rotary_spellings_are_one_model() {
    for name in ["Llama-3.2-1B", "Qwen3-4B", "SmolLM2-135M", "Mistral-7B-v0.1"] {
        let old = published(name);
        let mut new = old.as_object().unwrap().clone();
        let theta = new.remove("rope_theta").unwrap();
        let mut parameters = match new.remove("rope_scaling") {
            Some(Value::Object(scaling)) => scaling,
            _ => json!({"rope_type": "default"}).as_object().unwrap().clone(),
        };
        parameters.insert("rope_theta".to_owned(), theta);
        new.insert("rope_parameters".to_owned(), Value::Object(parameters));
        assert_eq!(parse(&Value::Object(new)).unwrap(), parse(&old).unwrap(), "{name}");
    }
    let mut new = published("gemma-3-270m-it");
    let fields = new.as_object_mut().unwrap();
    let (global, local) = (fields.remove("rope_theta").unwrap(), fields.remove("rope_local_base_freq").unwrap());
    fields.insert(
        "rope_parameters".to_owned(),
        json!({
            "full_attention": {"rope_type": "default", "rope_theta": global},
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        }),
    );
    assert_eq!(parse(&new).unwrap(), parse(&published("gemma-3-270m-it")).unwrap());
}

#[test]
fn a_missing_file_says_what_belongs_there() {
    let folder = tempfile::tempdir().unwrap();
    let error = Config::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}

/// Any JSON, not too deep, with the numbers that break readers.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..70).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(0.0), Just(-1.0), Just(1e308), Just(5e-324)].prop_map(Value::from),
        prop_oneof![Just("default"), Just("linear"), Just("llama3"), Just("full_attention"), Just("silu"), Just("")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z_]{0,8}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A published config with some of its keys dropped or overwritten.
fn mutilated() -> impl Strategy<Value = Value> {
    let names = ["Llama-3.2-1B", "Mistral-7B-v0.1", "Qwen3-0.6B", "gemma-3-270m-it", "gpt2"];
    let edit = (any::<prop::sample::Index>(), proptest::option::of(any_json()));
    (prop::sample::select(names.to_vec()), proptest::collection::vec(edit, 1..5)).prop_map(|(name, edits)| {
        let mut fields: Map<String, Value> = published(name).as_object().unwrap().clone();
        for (place, value) in edits {
            let keys: Vec<String> = fields.keys().filter(|key| *key != "model_type").cloned().collect();
            let key = place.get(&keys).clone();
            match value {
                Some(value) => fields.insert(key, value),
                None => fields.remove(&key),
            };
        }
        Value::Object(fields)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: prop::test_runner::RngSeed::Fixed(0),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Config::parse(Path::new("config.json"), &bytes).is_err());
    }

    #[test]
    fn random_json_is_refused(value in any_json()) {
        prop_assert!(parse(&value).is_err());
    }

    /// What is accepted in spite of the damage can be computed with.
    #[test]
    fn mutilated_configs_are_refused_or_usable(value in mutilated()) {
        if let Ok(config) = parse(&value) {
            prop_assert!(config.heads > 0 && config.head_dim > 0 && config.heads % config.kv_heads == 0);
            prop_assert!(config.attention_scale.is_finite() && config.embedding_scale.is_finite());
            for rope in config.layers.iter().filter_map(|layer| layer.rope) {
                prop_assert!(rope.theta.is_finite() && rope.dimensions % 2 == 0 && rope.dimensions <= config.head_dim);
            }
        }
    }
}

/// Gemma's first configs say `gelu`, and transformers computes its approximation for them; heads are of 256 where
/// nothing is said.
#[test]
fn gemma_means_the_approximation_by_gelu() {
    let mut config = json!({
        "model_type": "gemma", "vocab_size": 97, "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
        "num_attention_heads": 8, "num_key_value_heads": 1, "hidden_act": "gelu", "hidden_activation": null,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    });
    let read = parse(&config).unwrap();
    assert_eq!((read.activation, read.head_dim, read.tied_head), (Activation::GeluTanh, 256, true));
    assert_eq!((read.norm, read.embedding_scale), (Norm::Rms { eps: 1e-6, offset: 1.0 }, 2048_f32.sqrt()));
    assert_eq!((read.attention_scale, read.attention_softcap), (1.0 / 16.0, None));
    config["hidden_activation"] = json!("gelu");
    assert!(matches!(parse(&config), Err(ConfigError::Unsupported { key, .. }) if key == "hidden_activation"));
    config["hidden_activation"] = json!("gelu_pytorch_tanh");
    assert!(parse(&config).is_ok());
}
