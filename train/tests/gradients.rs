//! Gradients against those of torch and peft (float64, `gradients.py`), against finite differences, and against each other.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use candle_core::Device;
use lcr_model::adapter::Adapter;
use lcr_model::checkpoint::SafetensorsFile;
use lcr_model::decoder::{Decoder, ModuleGradient, Variant};
use lcr_train::gradient::{AdapterGradient, Example, Trace};

const CASES: [&str; 14] = [
    "gemma2_lora",
    "gemma3_lora",
    "gpt2_lora",
    "llama3_lora_patterns",
    "mistral_dora_mlp",
    "phi3_lora",
    "qwen2_rslora_all",
    "qwen3_dora_faint",
    "qwen3_dora_magnitude_only",
    "qwen3_dora_qv",
    "qwen3_lora_one_direction",
    "qwen3_lora_qv",
    "qwen3_modules_to_save",
    "smollm3_lora",
];

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn golden(case: &str) -> PathBuf {
    here().join("../tests/golden").join(case)
}

fn open(case: &str) -> (Decoder, Variant) {
    let decoder = Decoder::open(&golden(case).join("base"), Device::Cpu).unwrap();
    let variant = decoder.bind(Adapter::open(&golden(case).join("adapter")).unwrap()).unwrap();
    (decoder, variant)
}

struct Fixture(SafetensorsFile);

impl Fixture {
    fn open(case: &str) -> Self {
        let path = here().join("tests/fixtures").join(format!("{case}.safetensors"));
        Self(SafetensorsFile::open(&path).unwrap())
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.0.tensors().iter().find(|tensor| tensor.name() == name).unwrap_or_else(|| panic!("{name}")).bytes()
    }

    fn whole(&self, name: &str) -> Vec<i64> {
        self.bytes(name).chunks_exact(8).map(|raw| i64::from_le_bytes(raw.try_into().unwrap())).collect()
    }

    fn wide(&self, name: &str) -> Vec<f64> {
        self.bytes(name).chunks_exact(8).map(|raw| f64::from_le_bytes(raw.try_into().unwrap())).collect()
    }

    fn examples(&self) -> Vec<Example> {
        (0..2)
            .map(|index| Example {
                tokens: self.whole(&format!("tokens.{index}")).iter().map(|token| *token as u32).collect(),
                targets: self.whole(&format!("targets.{index}")).iter().map(|target| *target as usize).collect(),
            })
            .collect()
    }

    fn of_examples(&self, name: &str) -> Vec<Vec<f64>> {
        (0..2).map(|index| self.wide(&format!("{name}.{index}"))).collect()
    }

    fn gradients(&self) -> Vec<(String, Vec<f32>)> {
        let named = self.0.tensors().iter().filter_map(|tensor| {
            Some((tensor.name().strip_prefix("gradient.base_model.model.")?.to_owned(), tensor.to_f32()))
        });
        named.collect()
    }
}

/// The tensor of a gradient under the name that PEFT gives it.
fn named<'a>(gradient: &'a AdapterGradient, name: &str) -> &'a [f32] {
    let module = |suffix: &str| name.strip_suffix(suffix).map(|path| &gradient.modules[path]);
    let found: Option<&Vec<f32>> = None
        .or(module(".lora_A.weight").map(|module: &ModuleGradient| &module.down))
        .or(module(".lora_B.weight").map(|module| &module.up))
        .or(module(".lora_magnitude_vector").and_then(|module| module.magnitude.as_ref()));
    found.unwrap_or_else(|| panic!("{name}"))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// ‖left − right‖/‖right‖; the bare norm of the left where the right is zero.
fn relative(left: &[f32], right: &[f32]) -> f64 {
    assert_eq!(left.len(), right.len());
    let size = norm(right.iter().map(|value| f64::from(*value)));
    let difference = norm(left.iter().zip(right).map(|(left, right)| f64::from(*left) - f64::from(*right)));
    if size > 0.0 { difference / size } else { difference }
}

#[test]
fn gradients_and_log_probabilities_are_those_of_peft() {
    let mut failures = Vec::new();
    for case in CASES {
        let ((decoder, variant), fixture) = (open(case), Fixture::open(case));
        let trace = Trace::forward(&decoder, &variant, &fixture.examples()).unwrap();
        let expected = fixture.of_examples("log_probabilities").concat();
        for (found, expected) in trace.log_probabilities().concat().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{case}: ln p {found}, expected {expected}");
        }
        let gradient = trace.backward(&fixture.of_examples("coefficients")).unwrap();
        let reference = fixture.gradients();
        assert_eq!(reference.len(), gradient.slices().count(), "{case}");
        for (name, expected) in reference {
            let difference = relative(named(&gradient, &name), &expected);
            if !(difference <= 1e-5) {
                failures.push(format!("{case} {name}: {difference:.2e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
