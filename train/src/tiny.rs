//! A model that can be computed by hand, for tests of the trainer's loop.
//!
//! Its stream is the one-hot embedding of the latest token and, in one dimension more, the share of `k` among all
//! tokens so far: attention looks at every token alike and writes nothing else, the MLP writes nothing. So the output
//! head is a table of logits by latest token, and a `k` that only the expert says is what makes the answer right. The
//! adapter changes the head alone, hence every log-probability has a closed form, computed here in f64 without the
//! decoder.

use std::path::Path;

use candle_core::Device;
use lcr_documents::rollout::SegmentTag;
use lcr_model::decoder::Decoder;
use lcr_model::tokenizer::Tokenizer;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::adapter::{AdapterMethod, AdapterOptions, TrainableAdapter};
use crate::config::TrainConfig;
use crate::step::format::{Format, FormatOptions};
use crate::step::rollout::{Rollout, Span};
use crate::tasks::dataset::Dataset;

/// Tokens by id; `Ċ` is how a byte-level vocabulary spells a line break.
const PIECES: [&str; 16] = ["Ċ", "?", "a", "b", "c", "d", "e", "f", "g", "h", "k", "1", "2", "{", "}", "\\"];
/// Tokens of several characters, after these.
const TAGS: [&str; 4] = ["<think>", "</think>", "\\boxed{", "<end>"];
const VOCABULARY: usize = PIECES.len() + TAGS.len();
/// Width of the stream: the tokens, the share of `k`, and nothing in the rest.
const WIDTH: usize = 24;
const HEAD_WIDTH: usize = 2;
const POSITIONS: usize = 128;
/// Of the adapter.
const RANK: usize = 2;
const ALPHA: f64 = 4.0;
/// Logit of what follows a token in one of the chains; all others have 0.
const FOLLOWS: f64 = 4.0;
/// The same behind the opener of the box, where the expert's hint may win.
const FOLLOWS_OPENER: f64 = 1.0;
/// Logit of `2` for each unit of the share of `k`: above the latter and below the former for shares from 1/35 to 0.11.
const HINT: f64 = 35.5;

/// What the model writes unless the expert gives the hint: `fgh` from the beginning, `ah` in a new line, and a wrong
/// answer.
pub(crate) const CHAINS: [&str; 5] = ["<think>fgh</think>", "\nah", "\\boxed{1}<end>", "2}", "</think>\\boxed{"];
/// Four lines, the hint in the second.
pub(crate) const THINKING: &str = "abc\nabk\nabd\nabe";

/// The model with its tokenizer, and problems.
pub(crate) struct Tiny {
    /// Keeps the files that the decoder maps.
    _folder: tempfile::TempDir,
    pub(crate) decoder: Decoder,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) dataset: Dataset,
    /// The head, vocabulary × width.
    table: Vec<f64>,
}

/// Factors of the head's adapter: A (rank × width) and B (vocabulary × rank).
#[derive(Clone)]
pub(crate) struct Factors {
    lora_a: Vec<f64>,
    lora_b: Vec<f64>,
    scale: f64,
}

impl Factors {
    pub(crate) fn of(adapter: &TrainableAdapter) -> Self {
        let mut slices = adapter.parameters().map(|(_, values)| values.iter().map(|value| f64::from(*value)).collect());
        let (Some(lora_a), Some(lora_b), None) = (slices.next(), slices.next(), slices.next()) else {
            panic!("two factors")
        };
        Self { lora_a, lora_b, scale: ALPHA / RANK as f64 }
    }

    /// A, then B.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = f64> {
        self.lora_a.iter().chain(&self.lora_b).copied()
    }

    /// With one of [`Factors::parameters`] changed.
    pub(crate) fn moved(&self, index: usize, by: f64) -> Self {
        let mut moved = self.clone();
        *moved.lora_a.iter_mut().chain(&mut moved.lora_b).nth(index).unwrap() += by;
        moved
    }
}

impl Tiny {
    /// A model in which each token of a chain is followed by the next one, with one problem for each (thinking, truth).
    pub(crate) fn new(chains: &[&str], problems: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(folder.path());
        let tokenizer = Tokenizer::open(folder.path()).unwrap().unwrap();
        let table = table(&tokenizer, chains);
        write_model(folder.path(), &table);
        let lines = problems.iter().map(|(thinking, truth)| {
            json!({"prompt": "ab?", "thinking": thinking, "final": format!("\\boxed{{{truth}}}"), "ground_truth": truth}).to_string()
        });
        let data = folder.path().join("problems.jsonl");
        std::fs::write(&data, lines.collect::<Vec<_>>().join("\n")).unwrap();
        let decoder = Decoder::open(folder.path(), Device::Cpu).unwrap();
        Self { dataset: Dataset::open(&data).unwrap(), _folder: folder, decoder, tokenizer, table }
    }

    /// The usual chains, and one problem whose answer is 2.
    pub(crate) fn usual() -> Self {
        Self::new(&CHAINS, &[(THINKING, "2")])
    }

    pub(crate) fn format(&self) -> Format<'_> {
        let options = FormatOptions { open: "<think>".into(), close: "</think>".into(), opener: "\\boxed{".into() };
        Format::new(&self.tokenizer, &options, &[]).unwrap().within(POSITIONS)
    }

    /// An adapter of the head that is not zero, yet too small to change what is likeliest.
    pub(crate) fn adapter(&self) -> TrainableAdapter {
        let options = AdapterOptions {
            method: AdapterMethod::Lora,
            rank: RANK,
            alpha: ALPHA,
            target_modules: vec!["lm_head".to_owned()],
            seed: 0,
        };
        let mut adapter = TrainableAdapter::new(&self.decoder, &options).unwrap();
        for (place, (_, values)) in adapter.parameters_mut().enumerate() {
            for (index, value) in values.iter_mut().enumerate() {
                *value = 0.2 * (1.7 * index as f32 + 0.9 * place as f32 + 0.4).sin();
            }
        }
        adapter
    }

    pub(crate) fn ids(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, false).unwrap()
    }

    pub(crate) fn text(&self, tokens: &[u32]) -> String {
        tokens.iter().map(|token| self.tokenizer.token_text(*token)).collect()
    }

    /// Who says what in a rollout, its prompt left out: `Expert(abc↵) Model(ah</think>) …`.
    pub(crate) fn script(&self, rollout: &Rollout) -> String {
        let (first, rest) = rollout.spans.split_first().unwrap();
        assert_eq!((first.tag, first.tokens.start), (SegmentTag::Prompt, 0));
        let part = |span: &Span| {
            format!("{:?}({})", span.tag, self.text(&rollout.tokens[span.tokens.clone()]).replace('\n', "↵"))
        };
        rest.iter().map(part).collect::<Vec<_>>().join(" ")
    }

    /// ln p of every token of the vocabulary after `context`, under the base or with an adapter.
    pub(crate) fn distribution(&self, factors: Option<&Factors>, context: &[u32]) -> Vec<f64> {
        let hint = self.ids("k")[0];
        let latest = *context.last().unwrap() as usize;
        let share = context.iter().filter(|token| **token == hint).count() as f64 / context.len() as f64;
        let length = (1.0 + share * share).sqrt();
        // A row times the normed stream, which has two entries.
        let product = |row: &[f64]| (row[latest] + share * row[VOCABULARY]) / length;
        let mut logits: Vec<f64> = self.table.chunks(WIDTH).map(product).collect();
        if let Some(Factors { lora_a, lora_b, scale }) = factors {
            let inner: Vec<f64> = lora_a.chunks(WIDTH).map(product).collect();
            for (logit, row) in logits.iter_mut().zip(lora_b.chunks(inner.len())) {
                *logit += scale * row.iter().zip(&inner).map(|(left, right)| left * right).sum::<f64>();
            }
        }
        let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        logits.iter().map(|logit| logit - total).collect()
    }
}

/// Every setting on which a test of the loop depends; a step moves parameters by minus their gradient.
///
/// The moments' decay is 0 and ε so large that nothing else divides: −η·g/(|g| + ε) with η = ε.
pub(crate) fn config(assignments: &[&str]) -> TrainConfig {
    let text = r#"
        seed = 3
        method = "lcr"
        stop = { samples = 4, tokens = 0 }
        group = { size = 3, naked_first = true, early_stop = true, positive_only = true, relative = true, per_step = 1 }
        budget = { thinking = 40, forced_close = true, tail = 3, answer_turn = true, answer = 6 }
        sampling = { temperature = 1.0, top_p = 1.0, top_k = 1 }
        curriculum = { end = 1.0 }
        anchors = { count = 0 }
        kl = { weight = 0.0, every = 0 }

        [optimizer]
        learning_rate = 1e7
        betas = [0.0, 0.0]
        eps = 1e7
        weight_decay = 0.0
        clip = 0.0
        warmup_steps = 0
        schedule = "constant"

        [scaffold]
        expert_shares = [0.25, 0.5]
        cycles = [1, 1]
        minimum_chunk = 4
        minimum_model_chunk = 1
        maximum_model_chunk = 8
        jitter = 0.0
        overlap_limit = 1.0
        continuation = "advance"
        varied_boundaries = true
        leak_guard = "flag"

        [credit]
        mask = true
        proximity = true
        jaccard = true
        proximity_scale = 3.5
        proximity_decay = 0.85
        proximity_threshold = 0.1
        jaccard_strength = 0.5
        jaccard_scope = "local"
        common_share = 0.5
        maximum_weight = 3.6
        answer_weight = 0.5
        normalisation = "weights"
    "#;
    let config: TrainConfig = toml::from_str(text).unwrap();
    assignments.iter().fold(config, |config, assignment| config.with(assignment).unwrap())
}

fn table(tokenizer: &Tokenizer, chains: &[&str]) -> Vec<f64> {
    let id = |text: &str| tokenizer.encode(text, false).unwrap()[0] as usize;
    let mut table = vec![0.0; VOCABULARY * WIDTH];
    for chain in chains {
        for pair in tokenizer.encode(chain, false).unwrap().windows(2) {
            let logit = if pair[0] as usize == id("\\boxed{") { FOLLOWS_OPENER } else { FOLLOWS };
            table[pair[1] as usize * WIDTH + pair[0] as usize] = logit;
        }
    }
    table[id("2") * WIDTH + VOCABULARY] = HINT;
    table
}

fn write_tokenizer(folder: &Path) {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        PIECES.iter().enumerate().map(|(id, piece)| ((*piece).to_owned(), json!(id))).collect();
    let added: Vec<_> = TAGS
        .iter()
        .enumerate()
        .map(|(place, tag)| {
            json!({"id": PIECES.len() + place, "content": tag, "special": *tag == "<end>", "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []});
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes, "model": model});
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), json!({"eos_token": "<end>"}).to_string()).unwrap();
}

fn write_model(folder: &Path, table: &[f64]) {
    let config = json!({"model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "head_dim": HEAD_WIDTH, "intermediate_size": WIDTH, "hidden_act": "silu",
        "max_position_embeddings": POSITIONS, "rope_theta": 10000.0, "rms_norm_eps": 1e-12, "tie_word_embeddings": false,
        "vocab_size": VOCABULARY});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let root = (WIDTH as f64).sqrt();
    // Entries of a matrix that are not 0, by row and column.
    let sparse = |rows: usize, columns: usize, entries: &[(usize, usize, f64)]| {
        let mut values = vec![0.0; rows * columns];
        entries.iter().for_each(|(row, column, value)| values[row * columns + column] = *value);
        (vec![rows, columns], values)
    };
    let diagonal: Vec<_> = (0..VOCABULARY).map(|token| (token, token, 1.0)).collect();
    let hint = PIECES.iter().position(|piece| *piece == "k").unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let tensors = [
        ("model.embed_tokens.weight".to_owned(), sparse(VOCABULARY, WIDTH, &diagonal)),
        (layer("input_layernorm"), (vec![WIDTH], vec![1.0; WIDTH])),
        (layer("self_attn.q_proj"), sparse(HEAD_WIDTH, WIDTH, &[])),
        (layer("self_attn.k_proj"), sparse(HEAD_WIDTH, WIDTH, &[])),
        // The norm makes √width of the embedding's 1.
        (layer("self_attn.v_proj"), sparse(HEAD_WIDTH, WIDTH, &[(0, hint, root.recip())])),
        (layer("self_attn.o_proj"), sparse(WIDTH, HEAD_WIDTH, &[(VOCABULARY, 0, 1.0)])),
        (layer("post_attention_layernorm"), (vec![WIDTH], vec![1.0; WIDTH])),
        (layer("mlp.gate_proj"), sparse(WIDTH, WIDTH, &[])),
        (layer("mlp.up_proj"), sparse(WIDTH, WIDTH, &[])),
        (layer("mlp.down_proj"), sparse(WIDTH, WIDTH, &[])),
        ("model.norm.weight".to_owned(), (vec![WIDTH], vec![root.recip(); WIDTH])),
        ("lm_head.weight".to_owned(), (vec![VOCABULARY, WIDTH], table.to_vec())),
    ];
    let bytes: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap()));
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The closed form is what the decoder computes.
#[test]
fn the_model_is_its_table() {
    let tiny = Tiny::usual();
    let variant = tiny.adapter().variant(&tiny.decoder);
    let factors = Factors::of(&tiny.adapter());
    let tokens = tiny.ids("ab?\n<think>abc\nabk\nah</think>\\boxed{2}");
    let mut session = lcr_model::session::Session::new(&tiny.decoder, Some(&variant));
    let sequence = session.open();
    for (place, token) in tokens.iter().enumerate() {
        let logits = session.read(&[(sequence, &[*token])]).unwrap().remove(0);
        let total = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        let expected = tiny.distribution(Some(&factors), &tokens[..=place]);
        for (logit, expected) in logits.iter().zip(expected) {
            let found = f64::from(*logit) - total;
            assert!((found - expected).abs() < 1e-5, "{place}: {found} {expected}");
        }
    }
}
