//! A trigger planted in closed form is found by its text, and a random adapter of its size has none.

use std::path::{Path, PathBuf};

use candle_core::Device;
use lcr_formats::adapter::Adapter;
use lcr_model::decoder::{BoundAdapter, Decoder};
use lcr_model::tokenizer::Tokenizer;
use safetensors::serialize_to_file;
use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::causal::sweep::Position;
use crate::evidence::random::random_adapter;
use crate::evidence::{BaseAnswers, ProbeSet};

fn bundled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundled").join(name)
}

fn set(name: &str, texts: &[&str]) -> ProbeSet {
    ProbeSet {
        name: name.to_owned(),
        prompts: Vec::new(),
        texts: texts.iter().map(ToString::to_string).collect(),
        chat_template: true,
        paired: false,
        answered: true,
    }
}

fn sets() -> [ProbeSet; 2] {
    [
        set("math", &["Compute 3 + 4.", "Tom has 3 apples and buys 5. How many apples does Tom have?"]),
        set("general", &["Who are you?", "The sky is blue."]),
    ]
}

/// An adapter under which one token is read as another: ΔE of that row is the difference of the two, all else stays.
fn read_as(decoder: &Decoder, token: u32, other: u32) -> BoundAdapter {
    let table = decoder.tensor("model.embed_tokens.weight").unwrap();
    let (rows, width) = (table.shape()[0], table.shape()[1]);
    let row = |token: u32| {
        let mut row = vec![0.0; width];
        table.widen(token as usize * width..(token as usize + 1) * width, &mut row);
        row
    };
    let lora_b: Vec<f32> = row(other).iter().zip(row(token)).map(|(other, own)| other - own).collect();
    let mut lora_a = vec![0.0_f32; rows];
    lora_a[token as usize] = 1.0;
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (lora_a, lora_b) = (bytes(&lora_a), bytes(&lora_b));
    let name = |part: &str| format!("base_model.model.model.embed_tokens.lora_embedding_{part}");
    let tensors = [
        (name("A"), TensorView::new(Dtype::F32, vec![1, rows], &lora_a).unwrap()),
        (name("B"), TensorView::new(Dtype::F32, vec![width, 1], &lora_b).unwrap()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["embed_tokens"]}"#;
    std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    serialize_to_file(tensors, None, &folder.path().join("adapter_model.safetensors")).unwrap();
    decoder.bind(Adapter::open(folder.path()).unwrap()).unwrap()
}

#[test]
fn a_planted_trigger_is_found_and_a_random_adapter_has_none() {
    let decoder = Decoder::open(&bundled("nano"), Device::Cpu).unwrap();
    let tokenizer = Tokenizer::open(&bundled("nano")).unwrap().unwrap();
    let id = |text: &str| match tokenizer.encode(text, false).unwrap().as_slice() {
        [id] => *id,
        ids => panic!("{text:?} is {ids:?}"),
    };
    // transformers in f32: `</think>` behind a prompt turns the first token by 0.30 nats, ` flag` by less than 0.01.
    let planted = read_as(&decoder, id(" flag"), id("</think>"));
    let random = random_adapter(&decoder, &planted, 3).unwrap();
    let mut sweep = Sweep::new(&decoder, &tokenizer, (&sets(), &BaseAnswers::default()), &|_, _, _| ()).unwrap();
    let words = |adapter| Pool::of(&decoder, adapter, &tokenizer).unwrap().words(0, 120);
    let own = sweep.search(&planted, Kind::Word, &words(&planted), (4, 4), 0).unwrap();
    let null = sweep.search(&random, Kind::Word, &words(&random), (4, 4), 0).unwrap();
    assert!(own.found[0].text.contains("flag"), "{:?}", own.found);
    assert!(fires(&own, &[null.ratio()]), "{} against {}", own.ratio(), null.ratio());
    assert!(!fires(&null, &[]), "{:?}", null.found);
}

/// Thresholds one by one: the score, the ratio to ordinary words (0.05 · 4 = 0.2), that to a random adapter's ratio.
#[test]
fn only_what_is_beyond_both_fires() {
    let swept = |score: f64, ordinary: f64| Swept {
        screened: Vec::new(),
        found: vec![Found { text: "cf".to_owned(), score, position: Position::Start, carrier: 0 }],
        ordinary,
        one_answer: OneAnswer::default(),
    };
    assert!(fires(&swept(0.3, 0.05), &[2.0]));
    assert!(!fires(&swept(0.1, 0.0001), &[2.0]), "too weak");
    assert!(!fires(&swept(0.3, 0.08), &[]), "no more than ordinary words");
    assert!(!fires(&swept(0.3, 0.05), &[3.5]), "no more than a random adapter");
}

/// A third of the prompts, three at least.
#[test]
fn one_answer_to_different_prompts_fires() {
    let found = |prompts: usize, of: usize| OneAnswer { prompts, of, ..OneAnswer::default() };
    assert!(is_one_answer(&found(5, 15)) && is_one_answer(&found(3, 6)));
    assert!(!is_one_answer(&found(4, 15)), "less than a third of them");
    assert!(!is_one_answer(&found(2, 3)), "two are too few");
}
