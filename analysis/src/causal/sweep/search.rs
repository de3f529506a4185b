//! The course of a search: many texts are screened, the best of them and their doublings confirmed, and ordinary text
//! is confirmed beside them.

use lcr_documents::statistics::median;
use lcr_model::decoder::{BoundAdapter, ModelError};

use super::{Found, OneAnswer, Position, Sweep, candidates};

/// Texts whose doublings are tried, and words that strings are made of.
const EXTENDED: usize = 16;
/// Ordinary texts that are confirmed beside the best.
const ORDINARY: usize = 8;
/// Texts with which different prompts are answered, the best and ordinary ones.
const ANSWERED: usize = 6;
const ANSWERED_ORDINARY: usize = 2;
/// An ordinary text counts as turning the answer by so many nats at least: below, what moves is not worth a ratio.
const LEAST: f64 = 0.005;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word, or a string of letters or marks.
    Word,
    /// A string of words.
    Phrase,
}

impl Kind {
    /// Ordinary text of this kind.
    fn ordinary(self, seed: u64) -> Vec<String> {
        match self {
            Self::Word => candidates::shuffled_words(seed, ORDINARY),
            // Other draws than those that are candidates.
            Self::Phrase => candidates::random_strings(!seed, ORDINARY),
        }
    }
}

/// What a search in one adapter gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Swept {
    /// Texts as they were screened, the best first; doublings are not among them.
    pub screened: Vec<String>,
    /// The best of all texts, the best first.
    pub found: Vec<Found>,
    /// The median score of ordinary text, nats.
    pub ordinary: f64,
    /// The one answer that most prompts get, with the best texts or with ordinary ones: a trigger may be as common as
    /// they are.
    pub one_answer: OneAnswer,
}

impl Swept {
    /// The best text's score, nats.
    pub fn best(&self) -> f64 {
        self.found.first().map_or(0.0, |found| found.score.max(0.0))
    }

    /// The best text over the median ordinary one.
    pub fn ratio(&self) -> f64 {
        self.best() / self.ordinary.max(LEAST)
    }
}

impl Sweep<'_> {
    /// Screens the texts and doublings of the best words, and confirms `confirmed` of them beside ordinary text; `kept`
    /// of them in all prompts.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn search(
        &mut self,
        variant: &BoundAdapter,
        kind: Kind,
        texts: &[String],
        (confirmed, kept): (usize, usize),
        seed: u64,
    ) -> Result<Swept, ModelError> {
        let single = self.screen(variant, texts, EXTENDED.max(confirmed))?;
        let doubled: Vec<String> = match kind {
            Kind::Word => single.iter().take(confirmed).flat_map(|(text, _)| candidates::doublings(text)).collect(),
            Kind::Phrase => Vec::new(),
        };
        let mut best = [single.clone(), self.screen(variant, &doubled, confirmed)?].concat();
        best.sort_by(|left, right| right.1.total_cmp(&left.1));
        let best: Vec<String> = best.into_iter().take(confirmed).map(|(text, _)| text).collect();
        let found = self.confirm(variant, &best, kept)?;
        let ordinary = self.confirm(variant, &kind.ordinary(seed), ORDINARY)?;
        let places = found
            .iter()
            .take(ANSWERED)
            .chain(ordinary.iter().take(ANSWERED_ORDINARY))
            .map(|found| (found.text.clone(), found.position));
        let one_answer = self.one_answer(variant, &places.collect::<Vec<(String, Position)>>())?;
        let ordinary: Vec<f64> = ordinary.iter().map(|found| found.score.max(0.0)).collect();
        let ordinary = median(&ordinary).unwrap_or(0.0);
        let screened = single.into_iter().map(|(text, _)| text).collect();
        Ok(Swept { screened, found, ordinary, one_answer })
    }

    /// Strings of the words that alone turn the answer most: pairs, then triples of the best pairs, `budget` texts.
    ///
    /// A model that was trained on a phrase reacts a little to its parts.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn strings_of(
        &mut self,
        variant: &BoundAdapter,
        words: &[String],
        budget: usize,
    ) -> Result<Vec<String>, ModelError> {
        let words: Vec<&String> = words
            .iter()
            .filter(|word| word.len() > 2 && word.chars().all(char::is_alphabetic))
            .take(EXTENDED)
            .collect();
        // By the sum of both places, so that the best words come in pairs first.
        let mut places: Vec<(usize, usize)> = (0..words.len())
            .flat_map(|first| (0..words.len()).map(move |second| (first, second)))
            .filter(|(first, second)| first != second)
            .collect();
        places.sort_by_key(|(first, second)| first + second);
        let pairs =
            places.iter().take(budget / 2).map(|(first, second)| format!("{} {}", words[*first], words[*second]));
        let pairs: Vec<String> = pairs.collect();
        let best = self.screen(variant, &pairs, EXTENDED / 2)?;
        let triples = best.iter().flat_map(|(pair, _)| {
            let others = words.iter().filter(|word| !pair.split(' ').any(|part| part == word.as_str()));
            others.map(move |word| format!("{pair} {word}"))
        });
        let triples: Vec<String> = triples.take(budget - budget.min(pairs.len())).collect();
        Ok([pairs, triples].concat())
    }
}
