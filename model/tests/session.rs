//! Reading sequences piece by piece, in batches and with forks, equals one pass over each whole sequence.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use lcr_formats::adapter::Adapter;
use lcr_model::decoder::{BoundAdapter, Branches, Decoder, Hooks, Input, ModelError, with_values};
use lcr_model::session::{SequenceId, Session, Step};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// Golden models of every family, each with its adapter.
fn cases() -> Vec<(String, Decoder, BoundAdapter)> {
    let mut cases: Vec<_> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("base/config.json").exists())
        .map(|path| {
            let decoder = Decoder::open(&path.join("base"), Device::Cpu).unwrap();
            let variant = decoder.bind(Adapter::open(&path.join("adapter")).unwrap()).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), decoder, variant)
        })
        .collect();
    cases.sort_by(|left, right| left.0.cmp(&right.0));
    assert!(cases.len() >= 14, "{} golden models", cases.len());
    cases
}

fn tokens(seed: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|index| (index * index * 31 + index * 17 + seed * 41) % 97).collect()
}

/// Logits after the last token, by one pass over all layers without a cache.
fn whole_pass(decoder: &Decoder, variant: Option<&BoundAdapter>, tokens: &[u32]) -> Vec<f32> {
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let batch = decoder.batch(&[tokens.len()], vec![variant]);
    let stream = decoder.embed(tokens, &positions, &batch.variants).unwrap();
    let stream = decoder.forward(stream, &batch, None, &mut Hooks::default()).unwrap();
    let logits = decoder.logits(&stream, &batch.variants).unwrap();
    with_values(logits.model(0), |values| values[(tokens.len() - 1) * decoder.config().vocab_size..].to_vec()).unwrap()
}

/// A session beside the tokens that each of its sequences has read.
struct Checked<'a> {
    name: &'a str,
    decoder: &'a Decoder,
    variant: Option<&'a BoundAdapter>,
    session: Session<'a>,
    read: Vec<(SequenceId, Vec<u32>)>,
}

impl<'a> Checked<'a> {
    fn new(name: &'a str, decoder: &'a Decoder, variant: Option<&'a BoundAdapter>) -> Self {
        Self { name, decoder, variant, session: Session::new(decoder, variant), read: Vec::new() }
    }

    fn open(&mut self) -> usize {
        let id = self.session.open();
        self.read.push((id, Vec::new()));
        self.read.len() - 1
    }

    fn fork(&mut self, sequence: usize) -> usize {
        let (id, tokens) = self.read[sequence].clone();
        let id = self.session.fork(id);
        self.read.push((id, tokens));
        self.read.len() - 1
    }

    fn close(&mut self, sequence: usize) {
        self.session.close(self.read[sequence].0);
    }

    fn read(&mut self, requests: &[(usize, Vec<u32>)]) {
        let asked: Vec<(SequenceId, &[u32])> =
            requests.iter().map(|(sequence, tokens)| (self.read[*sequence].0, &tokens[..])).collect();
        let logits = self.session.read(&asked).unwrap();
        assert_eq!(logits.len(), requests.len());
        for ((sequence, new), logits) in requests.iter().zip(logits) {
            let (id, tokens) = &mut self.read[*sequence];
            tokens.extend(new);
            assert_eq!(self.session.len(*id), tokens.len());
            let expected = whole_pass(self.decoder, self.variant, tokens);
            let largest = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
            for (token, (value, expected)) in logits.iter().zip(&expected).enumerate() {
                let error = (value - expected).abs() / largest;
                assert!(error < 1e-5, "{}, {} tokens, logit {token}: {value} and {expected}", self.name, tokens.len());
            }
        }
    }
}

#[test]
fn pieces_batches_and_forks_equal_whole_passes_in_every_family() {
    for (name, decoder, variant) in &cases() {
        for variant in [None, Some(variant)] {
            let mut checked = Checked::new(name, decoder, variant);
            let (first, second) = (checked.open(), checked.open());
            // A long prompt (many queries), one token and a chunk beside each other; windows are 6 tokens.
            checked.read(&[(first, tokens(1, 41)), (second, tokens(2, 3))]);
            checked.read(&[(second, tokens(3, 1)), (first, tokens(4, 1))]);
            let third = checked.fork(first);
            checked.read(&[(first, tokens(5, 7)), (second, tokens(6, 30)), (third, tokens(7, 1))]);
            let fourth = checked.fork(third);
            for step in 0..4 {
                let all = [first, second, third, fourth];
                let requests: Vec<_> =
                    all.iter().map(|&sequence| (sequence, tokens(9 * step + sequence as u32, 1))).collect();
                checked.read(&requests);
            }
            // What is left of a fork goes on in the blocks that it now holds alone.
            checked.close(first);
            checked.close(third);
            checked.read(&[(fourth, tokens(20, 20)), (second, tokens(21, 2))]);
        }
    }
}

#[test]
fn twenty_sequences_go_through_the_wide_product_and_equal_whole_passes() {
    for (name, decoder, variant) in &cases() {
        let mut checked = Checked::new(name, decoder, Some(variant));
        let first = checked.open();
        checked.read(&[(first, tokens(1, 33))]);
        let all: Vec<usize> = (0..20).map(|_| checked.fork(first)).collect();
        for step in 0..2 {
            checked.read(&all.iter().map(|&one| (one, tokens(step + one as u32, 1))).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_changes_nothing() {
    let (name, decoder, _) = &cases()[0];
    let limit = decoder.config().max_positions;
    let vocab_size = decoder.config().vocab_size;
    let mut checked = Checked::new(name, decoder, None);
    let (first, second) = (checked.open(), checked.open());
    checked.read(&[(first, tokens(1, 5)), (second, tokens(2, 4))]);
    let (one, two) = (checked.read[first].0, checked.read[second].0);
    let session = &mut checked.session;
    let long = vec![0; limit - 3];
    assert!(
        matches!(session.read(&[(one, &[1]), (two, &long)]), Err(ModelError::TooLong { prompt: 1, length, .. }) if length == limit + 1)
    );
    let unknown = vocab_size as u32;
    let error = session.read(&[(one, &[1, unknown])]);
    assert!(matches!(error, Err(ModelError::Token { token, prompt: 0, position: 6, .. }) if token == unknown));
    assert!(matches!(
        session.read(&[(one, &[1]), (one, &[2])]),
        Err(ModelError::RepeatedSequence { first: 0, second: 1 })
    ));
    assert!(matches!(session.read(&[(one, &[1]), (two, &[])]), Err(ModelError::NothingToRead { request: 1 })));
    let closed = session.fork(two);
    session.close(closed);
    session.close(closed);
    assert_eq!(session.len(closed), 0);
    assert!(matches!(session.read(&[(closed, &[1])]), Err(ModelError::ClosedSequence { request: 0 })));
    let of_closed = session.fork(closed);
    assert!(matches!(session.read(&[(of_closed, &[1])]), Err(ModelError::ClosedSequence { request: 0 })));
    assert!(session.read(&[]).unwrap().is_empty());
    checked.read(&[(second, tokens(3, 2)), (first, tokens(4, 1))]);
}

/// The rows that `tokens` enter with, before learned positions.
fn embeddings(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let config = decoder.config();
    let names = ["model.embed_tokens.weight", "transformer.wte.weight"];
    let table = names.iter().find_map(|name| decoder.tensor(name)).unwrap().to_f32();
    let row = |token: &u32| table[*token as usize * config.width..][..config.width].to_vec();
    tokens.iter().flat_map(row).map(|value| value * config.embedding_scale).collect()
}

#[test]
fn vectors_equal_the_tokens_whose_embeddings_they_are() {
    for (name, decoder, variant) in &cases() {
        // An adapter's own embeddings are those of tokens alone.
        let own = &variant.adapter().embeddings;
        let whole = variant.adapter().modules_to_save.keys().any(|name| name.contains("embed") || name.contains("wte"));
        let variant = (own.is_empty() && !whole).then_some(variant);
        let mut session = Session::new(decoder, variant);
        let first = session.open();
        for (round, count) in [(0, 5), (1, 1), (2, 3)] {
            let chunk = tokens(round, count);
            let rows = embeddings(decoder, &chunk);
            let twin = session.fork(first);
            let by_tokens = session.step(&[(first, Input::Tokens(&chunk))]).unwrap();
            assert_eq!(session.step(&[(twin, Input::Vectors(&rows))]).unwrap(), by_tokens, "{name}");
            session.close(twin);
        }
    }
}

#[test]
fn a_step_gives_the_states_that_its_logits_follow_from() {
    for (name, decoder, variant) in &cases() {
        let mut session = Session::new(decoder, Some(variant));
        let id = session.open();
        let read = tokens(3, 7);
        let Step { logits, hidden, normal } = session.step(&[(id, Input::Tokens(&read))]).unwrap().remove(0);
        let width = decoder.config().width;
        assert_eq!((hidden.len(), normal.len()), (width, width));
        let rows = Tensor::from_vec(hidden, (1, width), &Device::Cpu).unwrap();
        let variants = [Some(variant)];
        let found = decoder.final_normal(&Branches::shared(rows, 1), &variants).unwrap();
        assert_eq!(with_values(found.model(0), <[f32]>::to_vec).unwrap(), normal, "{name}");
        let found = decoder.logits_of_normal(&found, &variants).unwrap();
        assert_eq!(with_values(found.model(0), <[f32]>::to_vec).unwrap(), logits, "{name}");
        // A thought: the last state is read in the place of a token.
        let thought = session.step(&[(id, Input::Vectors(&normal))]).unwrap().remove(0);
        assert!(thought.logits.iter().all(|value| value.is_finite()) && thought.logits != logits, "{name}");
        assert_eq!(session.len(id), 8);
    }
}

#[test]
fn vectors_that_are_no_rows_are_refused() {
    let (_, decoder, _) = &cases()[0];
    let width = decoder.config().width;
    let mut session = Session::new(decoder, None);
    let id = session.open();
    let short = vec![0.0; 2 * width - 1];
    let error = session.step(&[(id, Input::Vectors(&short))]).unwrap_err();
    assert!(
        matches!(error, ModelError::VectorWidth { request: 0, values, width: found } if values == 2 * width - 1 && found == width)
    );
    let mut wrong = vec![0.0; 2 * width];
    wrong[width] = f32::NAN;
    let error = session.step(&[(id, Input::Vectors(&wrong))]).unwrap_err();
    assert!(matches!(error, ModelError::VectorNotFinite { request: 0, vector: 1 }));
    assert!(matches!(session.step(&[(id, Input::Vectors(&[]))]), Err(ModelError::NothingToRead { request: 0 })));
    let limit = decoder.config().max_positions;
    let long = vec![0.0; (limit + 1) * width];
    assert!(matches!(session.step(&[(id, Input::Vectors(&long))]), Err(ModelError::TooLong { .. })));
    assert_eq!(session.len(id), 0);
}
