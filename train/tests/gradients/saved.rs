//! Saved adapters against what peft makes of them: fixtures of `gradients.py --loads`.

use std::path::{Path, PathBuf};

use lcr_formats::checkpoint::SafetensorsFile;
use lcr_model::decoder::Decoder;
use lcr_train::adapter::{AdapterMethod, AdapterOptions, TrainableAdapter};

use crate::{Fixture, disturbed, here, logits, open, relative};

/// The same tensors under the same names, up to rounding: they were written on another machine.
#[track_caller]
fn assert_same_tensors(found: &SafetensorsFile, expected: &SafetensorsFile) {
    let names = |file: &SafetensorsFile| -> Vec<(String, Vec<usize>)> {
        let mut names: Vec<_> =
            file.tensors().iter().map(|tensor| (tensor.name().to_owned(), tensor.shape().to_vec())).collect();
        names.sort();
        names
    };
    assert_eq!(names(found), names(expected));
    for tensor in expected.tensors() {
        let own = found.tensors().iter().find(|own| own.name() == tensor.name()).unwrap();
        let difference = relative(&own.to_f32(), &tensor.to_f32());
        assert!(difference < 1e-6, "{}: {difference:e}", tensor.name());
    }
}

/// Leaves adapters in the target's `tmp/saved` for `gradients.py --loads`: of each case a fresh one and one that has
/// moved.
fn save_adapters() -> Vec<(Decoder, &'static str, PathBuf)> {
    let cases = [
        ("qwen3_dora_qv", AdapterMethod::Dora),
        ("gpt2_lora", AdapterMethod::Dora),
        ("phi3_lora", AdapterMethod::Rslora),
    ];
    let mut saved = Vec::new();
    for (case, method) in cases {
        for name in ["fresh", "moved"] {
            let (decoder, _) = open(case);
            let target_modules = vec!["all-linear".to_owned()];
            let options = AdapterOptions { method, rank: 2, alpha: 4.0, target_modules, seed: 0 };
            let mut adapter = match name {
                "fresh" => TrainableAdapter::new(&decoder, &options).unwrap(),
                _ => disturbed(&decoder, method, &["all-linear"]),
            };
            adapter.name_base(case);
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("saved").join(format!("{case}-{name}"));
            adapter.save(&folder).unwrap();
            saved.push((decoder, name, folder));
        }
    }
    saved
}

fn largest_difference(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f64::max)
}

/// What is saved is what peft was given when `gradients.py --loads` wrote the fixtures, and means the same to both.
#[test]
fn peft_reads_what_is_saved_as_it_is_meant() {
    for (decoder, name, saved) in save_adapters() {
        let kept = here().join("tests/fixtures/saved").join(saved.file_name().unwrap());
        let config = |folder: &Path| std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
        assert_eq!(config(&saved), config(&kept), "{}", kept.display());
        let tensors = |folder: &Path| SafetensorsFile::open(&folder.join("adapter_model.safetensors")).unwrap();
        assert_same_tensors(&tensors(&saved), &tensors(&kept));
        let peft = Fixture(SafetensorsFile::open(&kept.join("logits.safetensors")).unwrap());
        let tokens: Vec<u32> = peft.whole("input_ids").iter().map(|token| *token as u32).collect();
        let expected = peft.single("logits");
        let read = TrainableAdapter::open(&decoder, &kept).unwrap();
        let own = logits(&decoder, Some(&read.variant(&decoder)), &tokens).concat();
        let base = logits(&decoder, None, &tokens).concat();
        let difference = largest_difference(&own, &expected);
        assert!(difference < 2e-5, "{}: {difference:e}", kept.display());
        let change = largest_difference(&base, &expected);
        assert_eq!(change < 2e-5, name == "fresh", "{}: {change:e}", kept.display());
    }
}
