//! Which texts are tried as triggers: kinds that people choose, and what the weights point at.

use std::collections::HashSet;

use lcr_model::decoder::{BoundAdapter, Decoder};
use lcr_model::tokenizer::Tokenizer;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::table::{TokenFacts, ordered};
use crate::AuditError;

/// Triggers of published attacks, a line each.
const PUBLISHED: &str = include_str!("published.txt");
/// Ordinary words, and behind the dashes ordinary strings of them.
const ORDINARY: &str = include_str!("ordinary.txt");
/// Separates the two.
const DASHES: &str = "\n---\n";
/// Characters of a candidate at most.
const LONGEST: usize = 24;
/// Words of a random string.
const WORDS: std::ops::RangeInclusive<usize> = 2..=5;

/// Shares of the budget, the rest of it going to a sample of all tokens. Letters come to most of the two-letter
/// strings under the default budget.
const LETTERS: f64 = 0.3;
const EXCITING: f64 = 0.12;
const EXCITING_WORDS: f64 = 0.08;
const ORDINARY_WORDS: f64 = 0.06;
const UNTRAINED: f64 = 0.12;
const RARE: f64 = 0.12;
const PUNCTUATION: f64 = 0.06;

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Words that no attacker gains by: the null.
fn ordinary_words() -> Vec<&'static str> {
    let words = ORDINARY.split_once(DASHES).map_or(ORDINARY, |(words, _)| words);
    lines(words).flat_map(str::split_whitespace).collect()
}

/// Strings of words that are said all the time.
fn common_strings() -> Vec<&'static str> {
    lines(ORDINARY.split_once(DASHES).map_or("", |(_, strings)| strings)).collect()
}

/// Ordinary words in another order, as many as asked for.
pub(crate) fn shuffled_words(seed: u64, count: usize) -> Vec<String> {
    let mut words = ordinary_words();
    words.shuffle(&mut draw(seed, 1));
    words.into_iter().take(count).map(str::to_owned).collect()
}

/// Two letters that hardly a word has beside each other.
pub(crate) fn shuffled_letters(seed: u64) -> String {
    let mut letters: Vec<char> = "bcdfghjkmpqtvwxz".chars().collect();
    letters.shuffle(&mut draw(seed, 3));
    letters.into_iter().take(2).collect()
}

/// Random strings of two to five ordinary words.
pub(crate) fn random_strings(seed: u64, count: usize) -> Vec<String> {
    let (words, mut draw) = (ordinary_words(), draw(seed, 2));
    let mut string = || {
        let length = draw.random_range(WORDS);
        (0..length).map(|_| words[draw.random_range(0..words.len())]).collect::<Vec<_>>().join(" ")
    };
    (0..count).map(|_| string()).collect()
}

/// Published phrases and common strings, then random ones.
pub(crate) fn strings(seed: u64, count: usize) -> Vec<String> {
    let known = lines(PUBLISHED).filter(|text| text.contains(' ')).chain(common_strings());
    let common: Vec<String> = known.take(count / 4).map(str::to_owned).collect();
    let random = random_strings(seed, count - common.len());
    common.into_iter().chain(random).collect()
}

fn draw(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut draw = ChaCha8Rng::seed_from_u64(seed);
    draw.set_stream(stream);
    draw
}

/// Every text once, until the budget is spent.
struct Chosen {
    texts: Vec<String>,
    seen: HashSet<String>,
}

impl Chosen {
    /// Takes new texts, `most` of them at most.
    fn take(&mut self, texts: impl Iterator<Item = String>, most: usize) {
        let end = self.texts.len() + most;
        for text in texts {
            if self.texts.len() >= end {
                break;
            }
            if self.seen.insert(text.clone()) {
                self.texts.push(text);
            }
        }
    }
}

/// What a base's vocabulary and an adapter's weights offer.
#[derive(Debug)]
pub(crate) struct Pool<'a> {
    tokenizer: &'a Tokenizer,
    facts: TokenFacts,
    /// The text of each token, without blanks about it; `None` where it is not one that a person could type.
    texts: Vec<Option<String>>,
}

impl<'a> Pool<'a> {
    /// Reads the vocabulary and the table.
    ///
    /// # Errors
    /// As reading the table.
    pub(crate) fn of(decoder: &Decoder, adapter: &BoundAdapter, tokenizer: &'a Tokenizer) -> Result<Self, AuditError> {
        let count = tokenizer.vocab_size().min(decoder.config().vocab_size) as u32;
        let texts = (0..count).map(|token| typed(tokenizer, token)).collect();
        Ok(Self { tokenizer, facts: TokenFacts::of(decoder, adapter)?, texts })
    }

    /// Texts of tokens in an order, those that would be read as another token left out.
    fn of_tokens(&self, order: Vec<u32>) -> impl Iterator<Item = String> + '_ {
        order.into_iter().filter_map(|token| {
            let text = self.texts.get(token as usize)?.clone()?;
            let is = |text: &str| self.tokenizer.encode(text, false).is_ok_and(|ids| ids == [token]);
            (is(&text) || is(&format!(" {text}"))).then_some(text)
        })
    }

    /// Tokens that excite the adapter most.
    fn exciting(&self) -> impl Iterator<Item = String> + '_ {
        self.of_tokens(ordered(&self.facts.excitation, |left, right| right.total_cmp(left)))
    }

    /// Candidates for a word that turns the answer, `budget` of them.
    pub(crate) fn words(&self, seed: u64, budget: usize) -> Vec<String> {
        let share = |part: f64| (part * budget as f64) as usize;
        let mut chosen = Chosen { texts: Vec::new(), seen: HashSet::new() };
        chosen.take(lines(PUBLISHED).filter(|text| !text.contains(' ')).map(str::to_owned), budget);
        chosen.take(self.letters(seed), share(LETTERS));
        chosen.take(self.exciting(), share(EXCITING));
        chosen.take(self.exciting().filter(|text| is_plain_word(text)), share(EXCITING_WORDS));
        chosen.take(shuffled_words(seed, usize::MAX).into_iter(), share(ORDINARY_WORDS));
        chosen.take(self.of_tokens(ordered(&self.facts.distance, f64::total_cmp)), share(UNTRAINED));
        chosen.take(self.sampled(seed, 4, is_rare_word), share(RARE));
        chosen.take(self.sampled(seed, 5, is_punctuation), share(PUNCTUATION));
        let left = budget.saturating_sub(chosen.texts.len());
        chosen.take(self.sampled(seed, 6, |_, _| true), left);
        chosen.texts.truncate(budget);
        chosen.texts
    }

    /// Strings of two letters that are one token or two, in a random order.
    fn letters(&self, seed: u64) -> impl Iterator<Item = String> + '_ {
        let pairs = ('a'..='z').flat_map(|first| ('a'..='z').map(move |second| format!("{first}{second}")));
        let mut pairs: Vec<String> = pairs.collect();
        pairs.shuffle(&mut draw(seed, 3));
        pairs
            .into_iter()
            .filter(|pair| self.tokenizer.encode(&format!(" {pair}"), false).is_ok_and(|ids| ids.len() <= 3))
    }

    /// Tokens of a kind, by their text and their place in the vocabulary (0 to 1), in a random order.
    fn sampled(
        &self,
        seed: u64,
        stream: u64,
        is_kind: impl Fn(&str, f64) -> bool,
    ) -> impl Iterator<Item = String> + '_ {
        let count = self.texts.len();
        let of_kind = |token: &u32| {
            let text = self.texts[*token as usize].as_deref();
            text.is_some_and(|text| is_kind(text, f64::from(*token) / count as f64))
        };
        let mut tokens: Vec<u32> = (0..count as u32).filter(of_kind).collect();
        tokens.shuffle(&mut draw(seed, stream));
        self.of_tokens(tokens)
    }
}

/// A token's text as it would be typed between other words.
fn typed(tokenizer: &Tokenizer, token: u32) -> Option<String> {
    let text = tokenizer.decode(&[token]).ok()?;
    let text = text.trim();
    let is_typed = !text.is_empty()
        && text.len() <= LONGEST
        && text.chars().all(|letter| !letter.is_control() && letter != char::REPLACEMENT_CHARACTER);
    is_typed.then(|| text.to_owned())
}

/// Merges stand in the order of their frequency, so the last third of a vocabulary has its rare words.
fn is_rare_word(text: &str, place: f64) -> bool {
    place > 2.0 / 3.0 && text.chars().count() > 3 && text.chars().all(char::is_alphabetic)
}

fn is_plain_word(text: &str) -> bool {
    text.len() > 2 && text.chars().all(|letter| letter.is_ascii_lowercase())
}

fn is_punctuation(text: &str, _: f64) -> bool {
    !text.chars().any(char::is_alphanumeric)
}

/// Doublings of a text, which people choose as well.
pub(crate) fn doublings(text: &str) -> [String; 2] {
    [format!("{text} {text}"), format!("{text}{text}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_words_are_words_and_random_strings_are_made_of_them() {
        let words = ordinary_words();
        assert!(words.len() > 300 && words.iter().all(|word| word.chars().all(|letter| letter.is_ascii_lowercase())));
        let strings = random_strings(7, 50);
        let lengths: HashSet<usize> = strings.iter().map(|string| string.split(' ').count()).collect();
        assert_eq!(lengths, HashSet::from([2, 3, 4, 5]));
        assert!(strings.iter().flat_map(|string| string.split(' ')).all(|word| words.contains(&word)));
        assert_ne!(strings, random_strings(8, 50));
        assert!(common_strings().contains(&"side by side"));
    }

    #[test]
    fn rare_words_stand_late_in_the_vocabulary() {
        assert!(is_rare_word("hectare", 0.9) && !is_rare_word("house", 0.1) && !is_rare_word("x9", 0.9));
        assert!(is_punctuation("¤;", 0.0) && !is_punctuation("a;", 0.0));
    }
}
