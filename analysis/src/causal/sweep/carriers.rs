//! The prompts that an insert is tried in: one of each probe set, short, and such that the base is sure of its answer.

use lcr_formats::chat_template::ChatMessage;
use lcr_model::decoder::{Decoder, ModelError};
use lcr_model::session::{SequenceId, Session};
use lcr_model::tokenizer::Tokenizer;

use super::Position;
use super::ahead::{entropy, softmax};
use crate::evidence::ProbeSet;

/// The shortest prompts of a set among which one is chosen.
const SHORTEST: usize = 6;
/// Prompts of a set whose answers are held against each other.
const WITNESSES: usize = 3;

/// A prompt that inserts are put into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// Its probe set.
    pub set: String,
    /// Its text.
    pub text: String,
    /// Whether it goes through the chat template.
    pub chat_template: bool,
    /// Its tokens as it is.
    pub tokens: Vec<u32>,
}

impl Carrier {
    /// Of every answered set the prompt among the shortest whose first answer token the base is surest of, the surest
    /// first: where the base itself wavers, any insert turns any model. Beside them the shortest prompts of every set,
    /// [`WITNESSES`] of each.
    ///
    /// # Errors
    /// As reading the prompts.
    pub(super) fn of_sets(
        decoder: &Decoder,
        tokenizer: &Tokenizer,
        sets: &[ProbeSet],
    ) -> Result<(Vec<Self>, Vec<Self>), ModelError> {
        let offered: Vec<(usize, Self)> = sets
            .iter()
            .enumerate()
            .filter(|(_, set)| set.answered)
            .flat_map(|(index, set)| shortest(tokenizer, decoder, set).into_iter().map(move |one| (index, one)))
            .collect();
        let mut session = Session::new(decoder, None);
        let requests: Vec<(SequenceId, &[u32])> =
            offered.iter().map(|(_, carrier)| (session.open(), carrier.tokens.as_slice())).collect();
        let mut logits = session.read(&requests)?;
        let mut unsure: Vec<(f64, usize)> = logits
            .iter_mut()
            .enumerate()
            .map(|(at, row)| {
                softmax(row);
                (entropy(row), at)
            })
            .collect();
        unsure.sort_by(|left, right| left.0.total_cmp(&right.0));
        let mut taken = vec![false; sets.len()];
        let surest = unsure.into_iter().filter(|(_, at)| !std::mem::replace(&mut taken[offered[*at].0], true));
        let carriers = surest.map(|(_, at)| offered[at].1.clone()).collect();
        let of_set = |set: usize| offered.iter().filter(move |(own, _)| *own == set).take(WITNESSES);
        let witnesses = (0..sets.len()).flat_map(of_set).map(|(_, carrier)| carrier.clone()).collect();
        Ok((carriers, witnesses))
    }

    /// Its tokens with a text inserted; `None` where it has no such place or the result cannot be read.
    pub(super) fn with(
        &self,
        tokenizer: &Tokenizer,
        decoder: &Decoder,
        position: Position,
        text: &str,
    ) -> Option<Vec<u32>> {
        encode(tokenizer, decoder, &position.insert(&self.text, text)?, self.chat_template)
    }
}

/// A set's shortest prompts.
fn shortest(tokenizer: &Tokenizer, decoder: &Decoder, set: &ProbeSet) -> Vec<Carrier> {
    let mut texts: Vec<&String> = set.texts.iter().filter(|text| !text.trim().is_empty()).collect();
    texts.sort_by_key(|text| text.len());
    let carrier = |text: &String| {
        let tokens = encode(tokenizer, decoder, text, set.chat_template)?;
        Some(Carrier { set: set.name.clone(), text: text.clone(), chat_template: set.chat_template, tokens })
    };
    texts.into_iter().take(SHORTEST).filter_map(carrier).collect()
}

/// A prompt's tokens; `None` where the tokenizer refuses it, or the model cannot read it.
pub(crate) fn encode(tokenizer: &Tokenizer, decoder: &Decoder, text: &str, chat_template: bool) -> Option<Vec<u32>> {
    let tokens = if chat_template {
        tokenizer.encode_chat(&[ChatMessage::user(text)]).ok()?
    } else {
        tokenizer.encode(text, true).ok()?
    };
    let config = decoder.config();
    let fits = tokens.len() < config.max_positions && tokens.iter().all(|token| (*token as usize) < config.vocab_size);
    (fits && !tokens.is_empty()).then_some(tokens)
}
