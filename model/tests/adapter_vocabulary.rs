//! Tables over a vocabulary of another size are compared with the base's by number: what both have is applied, what
//! only one of them has is said.

#[path = "../../formats/tests/adapter_support/mod.rs"]
mod adapter_support;

use std::path::{Path, PathBuf};

use adapter_support::{Tensor, peft_config, write_adapter};
use candle_core::Device;
use lcr_formats::adapter::Adapter;
use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, with_values};
use serde_json::{Value, json};

/// Rows and columns of the base's tables.
const ROWS: usize = 512;
const WIDTH: usize = 64;

fn base() -> Decoder {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundled/stories260K");
    Decoder::open(&folder, Device::Cpu).unwrap()
}

/// The first `rows` rows of the base's table, with fresh rows after its end.
fn table(decoder: &Decoder, name: &str, rows: usize) -> Vec<f32> {
    let mut values = decoder.tensor(name).unwrap().to_f32();
    values.resize(rows * WIDTH, 0.25);
    values
}

fn tensor(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor(format!("base_model.model.{name}"), "F32", shape.to_vec(), bytes)
}

fn half(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| (value.to_bits() >> 16).to_le_bytes()[..2].to_vec()).collect();
    Tensor(format!("base_model.model.{name}"), "BF16", shape.to_vec(), bytes)
}

fn bound(decoder: &Decoder, config: &Value, tensors: &[Tensor]) -> BoundAdapter {
    decoder.bind(Adapter::open(write_adapter(&peft_config(config), tensors).path()).unwrap()).unwrap()
}

/// Logits after each of some tokens.
fn logits(decoder: &Decoder, variant: Option<&BoundAdapter>) -> Vec<f32> {
    let tokens = [1, 403, 88, 27];
    let batch = decoder.batch(&[tokens.len()], vec![variant]);
    let stream = decoder.embed(&tokens, &[0, 1, 2, 3], &batch.variants).unwrap();
    let stream = decoder.forward(stream, &batch, None, &mut Hooks::default()).unwrap();
    with_values(decoder.logits(&stream, &batch.variants).unwrap().model(0), <[f32]>::to_vec).unwrap()
}

#[test]
fn whole_tables_with_fewer_or_more_rows() {
    let decoder = base();
    let unchanged = logits(&decoder, None);
    for rows in [1, 300, 510, 511, 513, 520, 1024] {
        let tables: Vec<Tensor> = ["model.embed_tokens.weight", "lm_head.weight"]
            .iter()
            .map(|name| tensor(name, &[rows, WIDTH], &table(&decoder, name, rows)))
            .collect();
        let variant = bound(&decoder, &json!({"modules_to_save": ["embed_tokens", "lm_head"]}), &tables);
        let coverage = variant.coverage();
        assert_eq!((coverage.tensors, coverage.applied, coverage.vocabulary.len()), (2, 2, 2));
        assert!(coverage.vocabulary.iter().all(|table| (table.base_rows, table.adapter_rows) == (ROWS, rows)));
        assert_eq!(coverage.common_tokens(), (rows < ROWS).then_some(rows));
        // The rows are the base's own, so nothing changes, whatever stands behind the base's last row.
        assert_eq!(logits(&decoder, Some(&variant)), unchanged, "{rows} rows");
        assert!(variant.is_zero_effect(&decoder));
    }
}

#[test]
fn rows_that_both_have_are_applied_and_no_others() {
    let decoder = base();
    let mut head = table(&decoder, "lm_head.weight", 510);
    head.iter_mut().for_each(|value| *value *= 2.0);
    for stored in [tensor("lm_head.weight", &[510, WIDTH], &head), half("lm_head.weight", &[510, WIDTH], &head)] {
        let rounded = stored.1 == "BF16";
        let variant = bound(&decoder, &json!({"modules_to_save": ["lm_head"]}), &[stored]);
        let (before, after) = (logits(&decoder, None), logits(&decoder, Some(&variant)));
        let rows = before.chunks_exact(ROWS).zip(after.chunks_exact(ROWS));
        for (before, after) in rows {
            assert_eq!(before[510..], after[510..]);
            let tolerance = if rounded { 0.5 } else { 1e-3 };
            assert!(
                before[..510].iter().zip(&after[..510]).all(|(before, after)| (2.0 * before - after).abs() < tolerance)
            );
        }
    }
}

#[test]
fn low_rank_changes_of_tables() {
    let decoder = base();
    let lora_a = |rows: usize| tensor("model.embed_tokens.lora_embedding_A", &[2, rows], &vec![0.5; 2 * rows]);
    let lora_b = || tensor("model.embed_tokens.lora_embedding_B", &[WIDTH, 2], &[0.5; 2 * WIDTH]);
    let config = json!({"target_modules": ["embed_tokens", "lm_head"]});
    let whole = logits(&decoder, Some(&bound(&decoder, &config, &[lora_a(ROWS), lora_b()])));
    assert_ne!(whole, logits(&decoder, None));
    for rows in [404, 510, 600] {
        let variant = bound(&decoder, &config, &[lora_a(rows), lora_b()]);
        assert_eq!(variant.coverage().vocabulary[0].adapter_rows, rows);
        assert_eq!(logits(&decoder, Some(&variant)), whole, "every token read is below {rows}");
    }
    let head = |rows: usize| {
        vec![
            tensor("lm_head.lora_A.weight", &[2, WIDTH], &[0.5; 2 * WIDTH]),
            tensor("lm_head.lora_B.weight", &[rows, 2], &vec![0.5; 2 * rows]),
        ]
    };
    let (before, whole) = (logits(&decoder, None), logits(&decoder, Some(&bound(&decoder, &config, &head(ROWS)))));
    let fewer = logits(&decoder, Some(&bound(&decoder, &config, &head(500))));
    for ((before, whole), fewer) in before.chunks(ROWS).zip(whole.chunks(ROWS)).zip(fewer.chunks(ROWS)) {
        assert_eq!((&fewer[..500], &fewer[500..]), (&whole[..500], &before[500..]));
    }
    assert_eq!(logits(&decoder, Some(&bound(&decoder, &config, &head(530)))), whole);
}

#[test]
fn a_magnitude_that_is_missing_is_the_bases_own() {
    let decoder = base();
    let head = decoder.tensor("lm_head.weight").unwrap().to_f32();
    let norms: Vec<f32> = head.chunks_exact(WIDTH).map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
    let tensors = [
        tensor("lm_head.lora_A.weight", &[2, WIDTH], &[0.5; 2 * WIDTH]),
        tensor("lm_head.lora_B.weight", &[400, 2], &[0.0; 800]),
        tensor("lm_head.lora_magnitude_vector", &[400], &norms[..400]),
    ];
    let variant = bound(&decoder, &json!({"target_modules": ["lm_head"], "use_dora": true}), &tensors);
    assert!(variant.is_zero_effect(&decoder));
}

#[test]
fn another_width_is_another_model() {
    let decoder = base();
    let named = |name: &str| tensor(name, &[510, 32], &vec![0.1; 510 * 32]);
    for name in ["lm_head.weight", "model.embed_tokens.weight"] {
        let folder =
            write_adapter(&peft_config(&json!({"modules_to_save": ["lm_head", "embed_tokens"]})), &[named(name)]);
        let error = decoder.bind(Adapter::open(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("[510, 32]") && error.contains("[512, 64]"), "{error}");
    }
}
