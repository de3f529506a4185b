//! Each kind of tensor, honest and absurd, through a whole scan.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::check::{Check, Observation};
use crate::discover::Artifact;
use crate::scan::{Scan, ScanOptions, scan};
use crate::tensor_kind::TensorKind;

const WIDTH: usize = 64;
const RANK: usize = 4;
const MODULE: &str = "base_model.model.model.layers.0.self_attn.q_proj";

/// An adapter of one module, before it is written.
struct Made {
    config: Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

fn sound() -> Made {
    let config = json!({
        "peft_type": "LORA", "base_model_name_or_path": "none", "r": RANK, "lora_alpha": 2 * RANK,
        "target_modules": ["q_proj"], "bias": "none", "init_lora_weights": true,
    });
    let mut made = Made { config, tensors: BTreeMap::new() };
    made.set(&format!("{MODULE}.lora_A.weight"), &[RANK, WIDTH], noise(1, RANK * WIDTH, 0.1));
    made.set(&format!("{MODULE}.lora_B.weight"), &[WIDTH, RANK], noise(2, RANK * WIDTH, 0.1));
    made
}

impl Made {
    fn set(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.tensors.insert(name.to_owned(), (shape.to_vec(), values));
    }

    /// The same with numbers of a tensor multiplied.
    fn times(mut self, name: &str, factor: f32) -> Self {
        for (_, (_, values)) in self.tensors.iter_mut().filter(|(own, _)| own.contains(name)) {
            values.iter_mut().for_each(|value| *value *= factor);
        }
        self
    }

    fn configured(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    fn write(&self, folder: &Path, tensors: &str) {
        std::fs::write(folder.join("adapter_config.json"), self.config.to_string()).expect("written");
        let bytes: BTreeMap<&String, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, (_, values))| (name, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = self.tensors.iter().map(|(name, (shape, _))| {
            (name, TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).expect("a tensor"))
        });
        let file = safetensors::serialize(views, None).expect("a file");
        std::fs::write(folder.join(tensors), file).expect("written");
    }

    fn scan(&self) -> Scan {
        let folder = tempfile::tempdir().expect("a folder");
        self.write(folder.path(), "adapter_model.safetensors");
        scan(&Artifact::Adapter(folder.path().to_owned()), &ScanOptions::default())
    }

    /// What one check measured.
    fn measured(&self, check: Check) -> Option<f64> {
        observation(&self.scan(), check).map(|seen| seen.measured.unwrap_or(f64::INFINITY))
    }
}

fn observation(scan: &Scan, check: Check) -> Option<&Observation> {
    scan.observations.iter().find(|seen| seen.check == check)
}

/// Numbers that look random and are the same everywhere, of this standard deviation.
fn noise(seed: u64, count: usize, deviation: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| deviation * (0..12).map(|_| next()).sum::<f32>()).collect()
}

/// A table whose rows share directions, as those of trained models do.
fn table(rows: usize, columns: usize) -> Vec<f32> {
    let common = noise(31, 3 * columns, 1.0);
    let weights = noise(32, 3 * rows, 0.2);
    let own = noise(33, rows * columns, 0.1);
    let entry = |row: usize, column: usize| {
        (0..3).map(|at| (0.2 + weights[3 * row + at]) * common[at * columns + column]).sum::<f32>()
            + own[row * columns + column]
    };
    (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(row, column)| entry(row, column))
        .collect()
}

/// A sound adapter with a tensor of a kind in it, whose numbers are multiplied.
fn of(kind: TensorKind, factor: f32) -> Made {
    let mut made = sound();
    let whole = |mut made: Made, module: &str, shape: [usize; 2]| {
        made.config["modules_to_save"] = json!([module.rsplit('.').next()]);
        made.set(&format!("base_model.model.{module}.weight"), &shape, table(shape[0], shape[1]));
        made.times(module, factor)
    };
    match kind {
        TensorKind::LowRank => made.times("lora_B", factor),
        TensorKind::EmbeddingLowRank => {
            made.config["target_modules"] = json!(["q_proj", "embed_tokens"]);
            let name = |side: &str| format!("base_model.model.model.embed_tokens.lora_embedding_{side}");
            made.set(&name("A"), &[RANK, 300], noise(5, RANK * 300, 0.1));
            made.set(&name("B"), &[WIDTH, RANK], noise(6, RANK * WIDTH, 0.1));
            made.times("lora_embedding_B", factor)
        }
        TensorKind::Magnitude => {
            made.config["use_dora"] = json!(true);
            let values = (0..WIDTH).map(|row| 1.0 + 0.01 * row as f32).collect();
            made.set(&format!("{MODULE}.lora_magnitude_vector"), &[WIDTH], values);
            made.times("magnitude", factor)
        }
        TensorKind::LowRankBias => {
            made.config["lora_bias"] = json!(true);
            made.set(&format!("{MODULE}.lora_B.bias"), &[WIDTH], noise(7, WIDTH, 0.1));
            made.times("lora_B.bias", factor)
        }
        TensorKind::Bias => {
            made.config["bias"] = json!("all");
            made.set(&format!("{}.bias", MODULE.replace("q_proj", "k_proj")), &[WIDTH], noise(7, WIDTH, 1.0));
            made.times("k_proj.bias", factor)
        }
        TensorKind::Norm => {
            made.config["modules_to_save"] = json!(["model.norm"]);
            made.set("base_model.model.model.norm.weight", &[WIDTH], vec![1.3; WIDTH]);
            made.times("norm", factor)
        }
        TensorKind::Head => whole(made, "lm_head", [300, WIDTH]),
        TensorKind::Embedding => whole(made, "model.embed_tokens", [300, WIDTH]),
        TensorKind::Router => whole(made, "model.layers.0.mlp.gate", [8, WIDTH]),
        TensorKind::Classifier => whole(made, "score", [3, WIDTH]),
        TensorKind::Other => whole(made, "model.layers.0.self_attn.k_proj", [32, WIDTH]),
        TensorKind::Unknown => {
            made.set("base_model.model.model.layers.0.self_attn.q_proj.lora_E", &[RANK], vec![factor; RANK]);
            made
        }
    }
}

/// Limits of the catalogue, which this crate does not know.
fn is_beyond(seen: &Observation) -> bool {
    let limit = match seen.check {
        Check::ChangeSize => 10.0,
        Check::TensorSize => 100.0,
        Check::WholeOutlier | Check::BiasOutlier | Check::MagnitudeOutlier => 50.0,
        Check::Overflow => 65504.0,
        Check::UntrainedTensor => 0.9,
        Check::ConfigMismatch | Check::UnanalysedTensor | Check::DeadRows | Check::FlippedRows => return true,
        _ => return false,
    };
    seen.measured.is_none_or(|measured| measured > limit)
}

#[test]
fn every_kind_is_left_alone_where_it_is_honest_and_found_where_it_is_absurd() {
    for kind in TensorKind::ALL {
        let found = |factor: f32| {
            let scan = of(kind, factor).scan();
            let own = scan.observations.into_iter().filter(is_beyond);
            own.filter(|seen| kind.judged_by().contains(&seen.check)).collect::<Vec<Observation>>()
        };
        if kind != TensorKind::Unknown {
            assert!(found(1.0).is_empty(), "{kind:?}: {:?}", found(1.0));
        }
        for factor in [1e4, 1e30, -1e6] {
            assert!(!found(factor).is_empty(), "{kind:?} times {factor}");
        }
    }
}

#[test]
fn a_change_is_measured_by_what_it_adds() {
    let made = sound();
    let norm = made.scan().weights.modules.values().next().expect("one").norm;
    let measured = made.measured(Check::ChangeSize).expect("measured");
    assert!((measured - norm / 8.0).abs() < 1e-9, "{measured}");
    // Where one row holds it all, a tenth of that row counts.
    let mut single = sound();
    let mut up = vec![0.0; WIDTH * RANK];
    up[..RANK].copy_from_slice(&[1e3; RANK]);
    single.set(&format!("{MODULE}.lora_B.weight"), &[WIDTH, RANK], up);
    let norm = single.scan().weights.modules.values().next().expect("one").norm;
    let measured = single.measured(Check::ChangeSize).expect("measured");
    assert!((measured - norm / 8.0).abs() < 1e-6 * measured, "{measured} of {norm}");
}

#[test]
fn numbers_beyond_float16_and_float32_are_found_wherever_they_arise() {
    let overflow = |made: &Made| made.measured(Check::Overflow).expect("measured");
    assert!(overflow(&sound()) < 10.0);
    assert!(overflow(&sound().configured("lora_alpha", json!(1e39))) > 1e37);
    assert!(overflow(&sound().configured("lora_alpha", json!(1e300))) > 1e200);
    // BA leaves float32 on the way, whatever the factor makes of it.
    let hidden = sound().times("lora_A", 1e20).times("lora_B", 1e20).configured("lora_alpha", json!(1e-40));
    assert!(overflow(&hidden) > 1e38, "{}", overflow(&hidden));
    let largest = sound().times("lora", 1e38);
    assert!(overflow(&largest) > 1e70);
    assert!(overflow(&of(TensorKind::Magnitude, 1e5)) > 65504.0);
    assert!(overflow(&of(TensorKind::LowRankBias, 1e6)) > 65504.0);
}

#[test]
fn what_is_too_small_for_the_numbers_is_nothing() {
    assert_eq!(sound().measured(Check::ZeroEffect), None);
    assert_eq!(sound().times("lora", 1e-12).measured(Check::ZeroEffect), None);
    assert!(sound().times("lora_B", 1e-39).measured(Check::ZeroEffect).is_some());
    assert!(sound().times("lora", 1e-20).measured(Check::ZeroEffect).is_some());
    assert!(sound().configured("lora_alpha", json!(0)).measured(Check::ZeroEffect).is_some());
    assert_eq!(of(TensorKind::Norm, 1.0).times("lora_B", 1e-39).measured(Check::ZeroEffect), None);
}

#[test]
fn a_bias_of_b_is_held_against_the_rows_that_it_joins() {
    let of = |factor: f32| of(TensorKind::LowRankBias, factor).measured(Check::BiasOutlier);
    assert_eq!(of(0.1), None, "too small to ask");
    let ratio = of(100.0).expect("measured");
    assert!(ratio > 50.0, "{ratio}");
    // A change as large as its bias is in proportion, and another rule's matter.
    let both = super::tests::of(TensorKind::LowRankBias, 100.0).times("lora_A", 1e3);
    assert!(both.measured(Check::BiasOutlier).expect("measured") < 1.0);
    assert!(both.measured(Check::ChangeSize).expect("measured") > 10.0);
    let nothing = super::tests::of(TensorKind::LowRankBias, 100.0).times("lora_A", 0.0);
    assert_eq!(nothing.measured(Check::BiasOutlier), Some(f64::INFINITY));
}

#[test]
fn a_head_of_noise_is_told_from_a_trained_one() {
    let head = |rows: usize, columns: usize, values: Vec<f32>| {
        let mut made = of(TensorKind::Head, 1.0);
        made.set("base_model.model.lm_head.weight", &[rows, columns], values);
        made.measured(Check::UntrainedTensor)
    };
    let trained = head(300, 64, table(300, 64)).expect("judged");
    assert!(trained < 0.3, "{trained}");
    for (seed, deviation) in [(41, 1.0), (42, 0.02), (43, 50.0)] {
        let random = head(896, 128, noise(seed, 896 * 128, deviation)).expect("judged");
        assert!(random > 0.95, "{random}");
    }
    // Other sizes of rows and columns make noise no less so.
    let mut scaled = noise(44, 896 * 128, 0.02);
    scaled.iter_mut().enumerate().for_each(|(at, value)| *value *= ((1 + at % 128) * (1 + at / 128 % 7)) as f32);
    assert!(head(896, 128, scaled).expect("judged") > 0.9);
    // Nothing, and the same for every token.
    assert_eq!(head(300, 64, vec![0.0; 300 * 64]), Some(1.0));
    assert_eq!(head(300, 64, noise(45, 64, 1.0).repeat(300)), Some(1.0));
    // Too small to tell.
    assert_eq!(head(97, 32, noise(46, 97 * 32, 0.2)), None);
}

#[test]
fn settings_that_training_does_not_leave_are_found() {
    let of = |value: Value| sound().configured("init_lora_weights", value).scan();
    for harmless in [json!(true), json!(false), json!("gaussian"), json!("eva"), json!("orthogonal"), Value::Null] {
        let scan = of(harmless.clone());
        assert_eq!(observation(&scan, Check::UnknownInitialization), None, "{harmless}");
        assert_eq!(observation(&scan, Check::BaseChanged), None, "{harmless}");
    }
    for changing in ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"] {
        let scan = of(json!(changing));
        assert!(observation(&scan, Check::BaseChanged).is_some(), "{changing}");
        assert_eq!(observation(&scan, Check::UnknownInitialization), None, "{changing}");
    }
    assert!(observation(&of(json!("pizza")), Check::UnknownInitialization).is_some());
    assert!(sound().configured("lora_alpha", json!(-8)).measured(Check::NegativeScale).is_some());
    assert!(sound().configured("alpha_pattern", json!({ "q_proj": -1 })).measured(Check::NegativeScale).is_some());
    assert_eq!(sound().measured(Check::NegativeScale), None);
}

#[test]
fn a_classifier_is_no_head_over_tokens_and_a_large_one_is() {
    assert_eq!(of(TensorKind::Classifier, 1.0).measured(Check::EmbeddingChange), None);
    assert_eq!(of(TensorKind::Classifier, 1.0).measured(Check::WholeTensor), None);
    assert!(of(TensorKind::Classifier, 1.0).measured(Check::ClassificationHead).is_some());
    let mut large = sound();
    large.set("base_model.model.score.weight", &[5000, 8], noise(9, 40_000, 0.1));
    assert!(large.measured(Check::EmbeddingChange).is_some());
}

#[test]
fn patterns_beyond_the_budget_are_one_finding() {
    let mut patterns = serde_json::Map::new();
    (0..1024).for_each(|at| drop(patterns.insert(format!("m.\\d+.(a|a){{11}}(?=x)z{at}"), json!(RANK))));
    let mut made = sound().configured("rank_pattern", Value::Object(patterns));
    for layer in 0..40 {
        let module = format!("base_model.model.m.{layer}.{}.q_proj", "a".repeat(11));
        made.set(&format!("{module}.lora_A.weight"), &[RANK, 2], vec![0.1; 2 * RANK]);
        made.set(&format!("{module}.lora_B.weight"), &[2, RANK], vec![0.1; 2 * RANK]);
    }
    let scan = made.scan();
    let beyond = scan.observations.iter().filter(|seen| seen.check == Check::BeyondLimits).count();
    assert_eq!((beyond, scan.adapter.is_none()), (1, true), "{:?}", scan.observations);
}

/// An adapter as mlx-lm writes it, that changes one kind of module.
fn mlx(kind: &str, seed: u64) -> Made {
    let config = json!({
        "fine_tune_type": "lora", "num_layers": 4, "model": "none",
        "lora_parameters": { "rank": RANK, "scale": 2.0, "dropout": 0.0 },
    });
    let mut made = Made { config, tensors: BTreeMap::new() };
    made.set(&format!("model.layers.0.{kind}.lora_a"), &[WIDTH, RANK], noise(seed, WIDTH * RANK, 0.1));
    made.set(&format!("model.layers.0.{kind}.lora_b"), &[RANK, WIDTH], noise(seed + 1, WIDTH * RANK, 0.1));
    made
}

#[test]
fn checkpoints_of_a_run_are_all_scanned() {
    for last in ["adapters.safetensors", "0000300_adapters.safetensors"] {
        let folder = tempfile::tempdir().expect("a folder");
        mlx("mlp.down_proj", 3).times("lora_b", 1e6).write(folder.path(), "0000100_adapters.safetensors");
        mlx("self_attn.v_proj", 5).times("lora_b", 0.0).write(folder.path(), "0000200_adapters.safetensors");
        mlx("self_attn.q_proj", 7).write(folder.path(), last);
        let scan = scan(&Artifact::Adapter(folder.path().to_owned()), &ScanOptions::default());
        let adapter = scan.adapter.as_ref().expect("read");
        assert_eq!((adapter.file.as_str(), adapter.zero_effect), (last, false));
        assert_eq!(adapter.targets, ["down_proj", "q_proj", "v_proj"]);
        let at = |check| {
            let files = scan.observations.iter().filter(move |seen| seen.check == check && is_beyond(seen));
            files.map(|seen| seen.file.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(at(Check::ChangeSize), ["0000100_adapters.safetensors"]);
        assert!(observation(&scan, Check::ZeroEffect).is_some_and(|seen| seen.file == "0000200_adapters.safetensors"));
        assert!(at(Check::UnanalysedTensor).is_empty());
    }
    // What is no checkpoint is none, whatever its config.
    let folder = tempfile::tempdir().expect("a folder");
    mlx("self_attn.q_proj", 7).write(folder.path(), "adapters.safetensors");
    mlx("self_attn.q_proj", 7).write(folder.path(), "old_adapters.safetensors");
    let scan = scan(&Artifact::Adapter(folder.path().to_owned()), &ScanOptions::default());
    assert!(observation(&scan, Check::UnanalysedTensor).is_some_and(|seen| seen.file == "old_adapters.safetensors"));
}
