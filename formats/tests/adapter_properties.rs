//! Laws that hold for every adapter: files of noise are refused and never panic; spectra are functions of the product
//! BA.

mod adapter_support;

use adapter_support::{counted, dense, factors, key, low_rank, merge, peft_config, safetensors, write_adapter};
use lcr_formats::adapter::{Adapter, AdapterError, LowRank, ModuleKind, TargetModule};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Opens a folder with these two files.
fn open(config: &[u8], tensors: &[u8]) -> Result<Adapter, AdapterError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), tensors).unwrap();
    Adapter::open(folder.path())
}

/// Any JSON, not too deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        r"[a-z\.\*\(\)\[\]\\\+\?\|\^\$\{\},0-9]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z_]{0,8}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields that the reader looks at.
const FIELDS: [&str; 16] = [
    "peft_type",
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "bias",
    "use_dora",
    "use_rslora",
    "init_lora_weights",
    "lora_parameters",
    "num_layers",
];

fn modules() -> Vec<TargetModule> {
    vec![TargetModule { path: adapter_support::MODULE.to_owned(), inputs: 6, outputs: 4, kind: ModuleKind::Linear }]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_for_tensors_never_panics(tensors in proptest::collection::vec(any::<u8>(), 0..300)) {
        let config = peft_config(&json!({})).to_string();
        prop_assert!(open(config.as_bytes(), &tensors).is_err());
    }

    #[test]
    fn noise_for_a_config_never_panics(config in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open(&config, &safetensors(&factors())).is_err());
    }

    #[test]
    fn odd_values_in_a_config_never_panic(changes in proptest::collection::vec((0..FIELDS.len(), any_json()), 1..4)) {
        let mut config = peft_config(&json!({}));
        for (field, value) in changes {
            merge(&mut config, &json!({ FIELDS[field]: value }));
        }
        let folder = write_adapter(&config, &factors());
        if let Ok(adapter) = Adapter::open(folder.path()) {
            let _ = adapter.bind(&modules(), &|_| None);
            let _ = adapter.summary();
        }
    }

    #[test]
    fn odd_keys_never_panic(name in r"(base_model\.model\.)?([a-z0-9]{0,3}|lora_[AB]|lora_magnitude_vector|weight|bias|base_layer|modules_to_save|\.){0,8}") {
        let mut tensors = factors();
        tensors.push(counted(&name, &[4]));
        let folder = write_adapter(&peft_config(&json!({})), &tensors);
        if let Ok(adapter) = Adapter::open(folder.path()) {
            prop_assert_eq!(adapter.modules_to_save.len() + adapter.biases.len(), 1);
            let _ = adapter.bind(&modules(), &|_| None);
        }
    }
}

/// A module of small random shape.
fn any_module() -> impl Strategy<Value = LowRank> {
    (1_usize..9, 1_usize..5, 1_usize..9).prop_flat_map(|(outputs, rank, inputs)| {
        let values = |length| proptest::collection::vec(-1.0_f32..1.0, length);
        (values(outputs * rank), values(rank * inputs), 0.1_f64..4.0).prop_map(move |(lora_b, lora_a, scale)| {
            let mut module = low_rank(outputs, rank, inputs, lora_b, lora_a);
            module.scale = scale;
            module
        })
    })
}

/// A → MA, B → BM⁻¹ with M = a rotation in the first two inner directions times powers of two: nearly exact in f32.
fn rewritten(module: &LowRank, angle: f64, powers: &[i32]) -> LowRank {
    let mut other = module.clone();
    let (rank, inputs) = (module.rank, module.inputs);
    let size = |inner: usize| 2.0_f64.powi(powers[inner % powers.len()]);
    let rotate = |first: f64, second: f64, angle: f64| {
        (angle.cos() * first - angle.sin() * second, angle.sin() * first + angle.cos() * second)
    };
    for column in 0..inputs {
        let mut values: Vec<f64> = (0..rank).map(|inner| f64::from(module.lora_a[inner * inputs + column])).collect();
        if rank > 1 {
            (values[0], values[1]) = rotate(values[0], values[1], angle);
        }
        for (inner, value) in values.iter().enumerate() {
            other.lora_a[inner * inputs + column] = (value * size(inner)) as f32;
        }
    }
    for row in other.lora_b.chunks_mut(rank) {
        let mut values: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
        if rank > 1 {
            (values[0], values[1]) = rotate(values[0], values[1], angle);
        }
        for (inner, value) in row.iter_mut().enumerate() {
            *value = (values[inner] / size(inner)) as f32;
        }
    }
    other
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_factors_tell_what_the_product_is(module in any_module()) {
        let product = dense(&module);
        let size = product.iter().flatten().map(|value| value * value).sum::<f64>().sqrt();
        let tolerance = 1e-12 * size + 1e-300;
        prop_assert!((module.factored().frobenius_norm() - size).abs() <= tolerance);
        let values = module.factored().singular_values();
        let sum = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        prop_assert!((sum - size).abs() <= tolerance);
        // All directions together rebuild the product, but for those that are too small to have one.
        let directions = module.factored().leading_directions(module.rank);
        for (row, expected) in product.iter().enumerate() {
            for (column, expected) in expected.iter().enumerate() {
                let rebuilt: f64 = (0..directions.values.len())
                    .map(|index| directions.values[index] * directions.left[index][row] * directions.right[index][column])
                    .sum();
                prop_assert!((rebuilt - expected).abs() <= 1e-5 * size, "{rebuilt} {expected}");
            }
        }
    }

    #[test]
    fn rewriting_the_factors_moves_nothing(
        module in any_module(),
        angle in -3.0_f64..3.0,
        powers in proptest::collection::vec(-20_i32..20, 4),
    ) {
        let other = rewritten(&module, angle, &powers);
        let size = module.factored().frobenius_norm();
        // f32 rounding of the rewritten factors is what remains.
        let bound: f64 = 1e-5 * module.scale * (module.outputs * module.inputs * module.rank) as f64;
        prop_assert!((other.factored().frobenius_norm() - size).abs() <= bound);
        let (before, after) = (module.factored().singular_values(), other.factored().singular_values());
        for (before, after) in before.iter().zip(&after) {
            prop_assert!((before - after).abs() <= bound, "{before} {after}");
        }
        let (before, after) = (module.factored().leading_directions(1), other.factored().leading_directions(1));
        let gap = module.factored().singular_values();
        let stands_out = gap.len() < 2 || gap[0] > 2.0 * gap[1];
        if stands_out
            && gap[0] > 1e3 * bound
            && let ([left], [right]) = (&before.left[..], &after.left[..])
        {
            let cosine: f64 = left.iter().zip(right).map(|(one, other)| one * other).sum();
            prop_assert!(cosine.abs() > 0.99, "{cosine}");
        }
    }
}

#[test]
fn rank_deficient_and_extreme_factors() {
    // Two equal inner directions: rank 2 stored, rank 1 in effect.
    let module = low_rank(3, 2, 2, vec![1.0, 1.0, 2.0, 2.0, 2.0, 2.0], vec![3.0, 4.0, 3.0, 4.0]);
    let values = module.factored().singular_values();
    assert!((values[0] - 30.0).abs() < 1e-12 && values[1] < 1e-12, "{values:?}");
    assert_eq!(module.factored().leading_directions(2).values.len(), 1);
    let zero = low_rank(3, 2, 2, vec![0.0; 6], vec![1.0; 4]);
    assert_eq!(zero.factored().singular_values(), [0.0, 0.0]);
    assert_eq!(zero.factored().frobenius_norm(), 0.0);
    assert!(zero.factored().leading_directions(2).values.is_empty());
    for size in [1e-38_f32, 1e38] {
        let tiny = low_rank(2, 1, 2, vec![size, 0.0], vec![0.0, size]);
        let expected = f64::from(size) * f64::from(size);
        assert!((tiny.factored().frobenius_norm() / expected - 1.0).abs() < 1e-12);
        assert!((tiny.factored().singular_values()[0] / expected - 1.0).abs() < 1e-12);
    }
    // More inner directions than inputs or outputs.
    let wide = low_rank(1, 4, 1, vec![1.0; 4], vec![1.0; 4]);
    assert_eq!(wide.factored().singular_values(), [4.0]);
}

#[test]
fn hostile_patterns_end_soon() {
    let long = format!("model.layers.0.self_attn.{}q_proj", "a".repeat(2000));
    for pattern in [
        r"(a+)+b",
        r"((a*)*)*\1b",
        r"(.*)*(?=x)y",
        r"(?:.*?){50}\1(z)",
        r"((a{0,50}){0,50}){0,50}b",
        r"(?=(a+))\1*\1*\1*b",
        &"(".repeat(5000),
        &"a".repeat(100_000),
    ] {
        let config = peft_config(&json!({"target_modules": pattern, "rank_pattern": {pattern: 2}}));
        let module = format!("base_model.model.{long}");
        let tensors = [
            counted(&format!("{module}.lora_A.weight"), &[2, 6]),
            counted(&format!("{module}.lora_B.weight"), &[4, 2]),
        ];
        let folder = write_adapter(&config, &tensors);
        let target = TargetModule { path: long.clone(), inputs: 6, outputs: 4, kind: ModuleKind::Linear };
        let result = Adapter::open(folder.path()).and_then(|adapter| adapter.bind(&[target], &|_| None));
        let error = result.unwrap_err();
        let is_expected = matches!(
            error,
            AdapterError::Pattern { .. } | AdapterError::PatternBudget { .. } | AdapterError::NotTargeted { .. }
        );
        assert!(is_expected, "{error}");
    }
}

/// Whether PEFT would put an adapter on the module, by plain string work: the slow and obvious reading of its rules for
/// lists, with layers and exclusions.
fn selected_slowly(path: &str, targets: &[String], exclude: &[String], layers: Option<usize>) -> bool {
    let hits = |entries: &[String]| entries.iter().any(|entry| path == entry || path.ends_with(&format!(".{entry}")));
    if hits(exclude) || !hits(targets) {
        return false;
    }
    if targets.iter().any(|entry| path == entry) {
        return true;
    }
    let segments: Vec<&str> = path.split('.').collect();
    // The first number that has two segments before it and one behind.
    let index = (2..segments.len().saturating_sub(1)).find_map(|place| segments[place].parse::<usize>().ok());
    layers.is_none_or(|layer| index == Some(layer))
}

/// A path of short segments, numbers among them.
fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![Just("q"), Just("v"), Just("qv"), Just("layers"), Just("0"), Just("1"), Just("m")];
    proptest::collection::vec(segment, 1..6).prop_map(|segments| segments.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn selection_agrees_with_the_obvious_reading(
        path in any_path(),
        targets in proptest::collection::vec(any_path(), 1..4),
        exclude in proptest::collection::vec(any_path(), 0..2),
        layers in proptest::option::of(0_usize..2),
    ) {
        let config = peft_config(&json!({
            "target_modules": targets, "exclude_modules": exclude, "layers_to_transform": layers
        }));
        let tensors = [
            counted(&format!("base_model.model.{path}.lora_A.weight"), &[2, 6]),
            counted(&format!("base_model.model.{path}.lora_B.weight"), &[4, 2]),
        ];
        let folder = write_adapter(&config, &tensors);
        let target = TargetModule { path: path.clone(), inputs: 6, outputs: 4, kind: ModuleKind::Linear };
        let bound = Adapter::open(folder.path()).unwrap().bind(&[target], &|_| None);
        prop_assert_eq!(bound.is_ok(), selected_slowly(&path, &targets, &exclude, layers), "{:?}", bound);
    }

    #[test]
    fn the_first_pattern_that_fits_gives_the_alpha(path in any_path(), keys in proptest::collection::vec(any_path(), 0..4)) {
        // Keys without special characters: a key fits the whole path, or its end after a dot ("." fits any character).
        let fits = |key: &String| {
            path.char_indices()
                .map(|(start, _)| start)
                .filter(|&start| start == 0 || path[..start].ends_with('.'))
                .any(|start| {
                    let rest = &path[start..];
                    rest.len() == key.len() && rest.chars().zip(key.chars()).all(|(one, other)| other == '.' || one == other)
                })
        };
        // A repeated key keeps its first place and its last value, as in Python.
        let mut patterns = serde_json::Map::new();
        for (index, pattern) in keys.iter().enumerate() {
            patterns.insert(pattern.clone(), json!(10 + index));
        }
        let expected = patterns
            .iter()
            .find(|(pattern, _)| fits(pattern))
            .map_or(4.0, |(_, alpha)| alpha.as_f64().unwrap());
        let config = peft_config(&json!({"alpha_pattern": patterns}));
        let tensors = [
            counted(&format!("base_model.model.{path}.lora_A.weight"), &[2, 6]),
            counted(&format!("base_model.model.{path}.lora_B.weight"), &[4, 2]),
        ];
        let adapter = Adapter::open(write_adapter(&config, &tensors).path()).unwrap();
        prop_assert_eq!(adapter.modules[&path].alpha, expected);
    }
}

#[test]
fn the_key_of_the_fixture_is_what_it_says() {
    assert_eq!(key("lora_A.weight"), "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
}
