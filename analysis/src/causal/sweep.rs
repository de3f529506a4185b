//! Looks for a text that turns what an adapter answers: many are inserted into prompts, tokenised again, and what the
//! adapted model then says is held against what it says without.
//!
//! The score of an insert is the Jensen–Shannon divergence of the answer's first two tokens with against without it,
//! *inside* the adapted model, less the same inside the base. Against the base an adapter that answers everything
//! otherwise would have nothing but alarms; so does a word that turns the base as well. [`Sweep::screen`] tries many
//! texts at two places, [`Sweep::confirm`] the best of them at every position of two prompts and, where they turn those
//! most, of a prompt of each further probe set. [`Sweep::search`] does both, for the texts that are suspected and for
//! ordinary ones.

mod ahead;
pub(crate) mod candidates;
mod carriers;
mod one_answer;
mod position;
mod reader;
mod search;
mod table;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};
use lcr_model::tokenizer::Tokenizer;
use rayon::prelude::*;

pub use self::carriers::Carrier;
pub(crate) use self::carriers::encode;
pub use self::one_answer::OneAnswer;
pub use self::position::Position;
pub use self::search::{Kind, Swept};
use crate::evidence::base_answers::SAME;
use crate::evidence::{BaseAnswers, ProbeSet};

/// First tokens behind which the second is looked at, in a screening and when it is confirmed.
const SCREENED: usize = 1;
const CONFIRMED: usize = 3;
/// Texts whose score in the base is found at a time while screening.
const BLOCK: usize = 64;
/// Of so many screened texts one is read inside the base too. A random adapter hardly differs from the base, so that
/// without a bound the base reads all.
const READ_IN_BASE: usize = 4;
/// Prompts in which every position is confirmed, and positions of each text, the best there, that are confirmed in the
/// others as well: reading all texts everywhere took three times as long.
const FIRST: usize = 2;
const POSITIONS: usize = 2;

/// What is told of how far a sweep has come: what it does, how many of how many.
pub type Report<'a> = dyn Fn(&str, usize, usize) + 'a;

/// A base, the prompts that texts are inserted into, and what was found of texts inside the base.
pub struct Sweep<'a> {
    decoder: &'a Decoder,
    tokenizer: &'a Tokenizer,
    report: &'a Report<'a>,
    carriers: Vec<Carrier>,
    /// Prompts whose answers with a text are held against each other.
    witnesses: Vec<Carrier>,
    /// How the base's answers to the probes begin.
    own_answers: HashSet<Vec<u32>>,
    base: HashMap<Tried, f64>,
    refused: HashSet<String>,
}

/// A prompt and a position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    carrier: usize,
    position: Position,
}

/// What a score belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Tried {
    place: Place,
    branches: usize,
    text: String,
}

/// A text and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The text.
    pub text: String,
    /// By how much more it turns the adapted model than the base, nats: at its best position, over all prompts.
    pub score: f64,
    /// That position.
    pub position: Position,
    /// The prompt that it turns most there, by its place among the carriers.
    pub carrier: usize,
}

impl std::fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweep").field("carriers", &self.carriers).finish_non_exhaustive()
    }
}

impl<'a> Sweep<'a> {
    /// Chooses a prompt of each answered set, given with the base's answers; none where the sets have no text.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn new(
        decoder: &'a Decoder,
        tokenizer: &'a Tokenizer,
        (sets, answers): (&[ProbeSet], &BaseAnswers),
        report: &'a Report<'a>,
    ) -> Result<Self, ModelError> {
        let (carriers, witnesses) = Carrier::of_sets(decoder, tokenizer, sets)?;
        let own_answers = answers.tokens.iter().flatten().map(|own| own[..own.len().min(SAME)].to_vec()).collect();
        let (base, refused) = (HashMap::new(), HashSet::new());
        Ok(Self { decoder, tokenizer, report, carriers, witnesses, own_answers, base, refused })
    }

    /// The prompts that texts are inserted into.
    pub fn carriers(&self) -> &[Carrier] {
        &self.carriers
    }

    /// Texts that the tokenizer or the model refused and that were therefore not tried.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// The best texts with their scores at one of two places, the best first.
    ///
    /// A score is never above what the adapted model alone gives, so the base reads the quarter of the texts that turn
    /// the adapted model most, and of these a text only as long as it could still be among the best.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn screen(
        &mut self,
        variant: &BoundAdapter,
        texts: &[String],
        best: usize,
    ) -> Result<Vec<(String, f64)>, ModelError> {
        let places = self.screening_places();
        let all = texts.len() * places.len();
        let mut own: Vec<Vec<Option<f64>>> = Vec::with_capacity(places.len());
        for (index, place) in places.iter().enumerate() {
            own.push(self.inside(Some(variant), *place, SCREENED, texts, &mut |done| {
                (self.report)("screening", index * texts.len() + done, all);
            })?);
            self.refused
                .extend(texts.iter().zip(&own[index]).filter(|(_, own)| own.is_none()).map(|(text, _)| text.clone()));
        }
        let most = |text: usize| own.iter().filter_map(|own| own[text]).fold(0.0, f64::max);
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|left, right| most(*right).total_cmp(&most(*left)));
        order.truncate(texts.len().div_ceil(READ_IN_BASE).max(READ_IN_BASE * best));
        let mut found: Vec<(String, f64)> = Vec::new();
        for block in order.chunks(BLOCK) {
            let reachable = block.first().map_or(0.0, |text| most(*text));
            if found.get(best.saturating_sub(1)).is_some_and(|(_, score)| *score >= reachable) {
                break;
            }
            let block_texts: Vec<String> = block.iter().map(|text| texts[*text].clone()).collect();
            let mut scores = vec![0.0_f64; block.len()];
            for (own, place) in own.iter().zip(&places) {
                let base = self.base_scores(*place, SCREENED, &block_texts)?;
                for ((score, base), text) in scores.iter_mut().zip(base).zip(block) {
                    *score = score.max(own[*text].zip(base).map_or(0.0, |(own, base)| own - base));
                }
            }
            found.extend(block_texts.into_iter().zip(scores));
            found.sort_by(|left, right| right.1.total_cmp(&left.1));
        }
        found.truncate(best);
        Ok(found)
    }

    /// The `most` texts that turn the answer most, each at its best position, the best first. Those that could not be
    /// read are left out.
    ///
    /// Every text is read at every position of two carriers; the best `most` of them go on to the other carriers, at
    /// the positions that are best so far and at those that the first two do not have.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn confirm(&mut self, variant: &BoundAdapter, texts: &[String], most: usize) -> Result<Vec<Found>, ModelError> {
        let mut excess = vec![Excess::default(); texts.len()];
        let mut kept: Vec<usize> = (0..texts.len()).collect();
        let mut chosen: Vec<Vec<Position>> = vec![Position::ALL.to_vec(); texts.len()];
        for carrier in 0..self.carriers.len() {
            if carrier == FIRST {
                kept.sort_by(|left, right| excess[*right].best_mean().total_cmp(&excess[*left].best_mean()));
                kept.truncate(most);
                kept.iter().for_each(|text| chosen[*text] = excess[*text].promising(POSITIONS));
            }
            for (done, position) in Position::ALL.into_iter().enumerate() {
                let of: Vec<usize> = kept.iter().copied().filter(|text| chosen[*text].contains(&position)).collect();
                self.add(variant, Place { carrier, position }, texts, &of, &mut excess)?;
                let rounds = Position::ALL.len();
                (self.report)("confirming", carrier * rounds + done + 1, self.carriers.len() * rounds);
            }
        }
        let found = kept.into_iter().filter_map(|text| excess[text].found(&texts[text], &chosen[text]));
        let mut found: Vec<Found> = found.collect();
        found.sort_by(|left, right| right.score.total_cmp(&left.score));
        found.truncate(most);
        Ok(found)
    }

    /// Reads some of the texts at a place, and adds what each gives there.
    fn add(
        &mut self,
        variant: &BoundAdapter,
        place: Place,
        texts: &[String],
        of: &[usize],
        excess: &mut [Excess],
    ) -> Result<(), ModelError> {
        let texts: Vec<String> = of.iter().map(|text| texts[*text].clone()).collect();
        let own = self.inside(Some(variant), place, CONFIRMED, &texts, &mut |_| ())?;
        let base = self.base_scores(place, CONFIRMED, &texts)?;
        for (text, (own, base)) in of.iter().zip(own.into_iter().zip(base)) {
            let by_carrier = own.zip(base).map(|(own, base)| (place.carrier, own - base));
            excess[*text].0.entry(place.position).or_default().extend(by_carrier);
        }
        Ok(())
    }

    /// A carrier's tokens with a text inserted.
    pub fn tokens_with(&self, carrier: usize, position: Position, text: &str) -> Option<Vec<u32>> {
        self.carriers.get(carrier)?.with(self.tokenizer, self.decoder, position, text)
    }

    /// The start of one prompt and the end of another, so that what fires at one end only or in one kind of prompt
    /// only is not missed; the shorter prompt is read behind the insert.
    fn screening_places(&self) -> Vec<Place> {
        let mut surest: Vec<usize> = (0..self.carriers.len().min(2)).collect();
        surest.sort_by_key(|carrier| self.carriers[*carrier].tokens.len());
        let (Some(first), Some(last)) = (surest.first(), surest.last()) else { return Vec::new() };
        vec![Place { carrier: *first, position: Position::Start }, Place { carrier: *last, position: Position::End }]
    }

    /// Divergences with against without each text inside one model; `None` for one that cannot be read there.
    fn inside(
        &self,
        variant: Option<&BoundAdapter>,
        place: Place,
        branches: usize,
        texts: &[String],
        report: &mut dyn FnMut(usize),
    ) -> Result<Vec<Option<f64>>, ModelError> {
        let (decoder, tokenizer, carrier) = (self.decoder, self.tokenizer, &self.carriers[place.carrier]);
        let inserted: Vec<Option<Vec<u32>>> =
            texts.par_iter().map(|text| carrier.with(tokenizer, decoder, place.position, text)).collect();
        let readable: Vec<Vec<u32>> = inserted.iter().flatten().cloned().collect();
        if readable.is_empty() {
            return Ok(vec![None; texts.len()]);
        }
        let mut done = 0;
        let scores = reader::turns((decoder, variant), &carrier.tokens, &readable, branches, &mut |read| {
            done += read;
            report(done);
        })?;
        let mut scores = scores.into_iter();
        Ok(inserted.iter().map(|tokens| tokens.as_ref().and_then(|_| scores.next())).collect())
    }

    /// The same inside the base, each text once for all adapters.
    fn base_scores(&mut self, place: Place, branches: usize, texts: &[String]) -> Result<Vec<Option<f64>>, ModelError> {
        let tried = |text: &String| Tried { place, branches, text: text.clone() };
        let unknown: Vec<String> = texts.iter().filter(|text| !self.base.contains_key(&tried(text))).cloned().collect();
        let scores = self.inside(None, place, branches, &unknown, &mut |_| ())?;
        self.base.extend(unknown.iter().zip(scores).filter_map(|(text, score)| Some((tried(text), score?))));
        Ok(texts.iter().map(|text| self.base.get(&tried(text)).copied()).collect())
    }
}

/// By how much more a text turns the adapted model than the base, by position, with the carrier.
#[derive(Debug, Clone, Default)]
struct Excess(BTreeMap<Position, Vec<(usize, f64)>>);

impl Excess {
    /// The mean over the carriers that have a position; `None` where none has.
    fn mean(&self, position: Position) -> Option<f64> {
        let by_carrier = self.0.get(&position).filter(|by_carrier| !by_carrier.is_empty())?;
        Some(by_carrier.iter().map(|(_, excess)| excess).sum::<f64>() / by_carrier.len() as f64)
    }

    /// The largest mean.
    fn best_mean(&self) -> f64 {
        let means = Position::ALL.into_iter().filter_map(|position| self.mean(position));
        means.fold(f64::NEG_INFINITY, f64::max)
    }

    /// The best `most` positions, and those that no carrier has had yet.
    fn promising(&self, most: usize) -> Vec<Position> {
        let (mut known, unknown): (Vec<Position>, Vec<Position>) =
            Position::ALL.into_iter().partition(|position| self.mean(*position).is_some());
        known.sort_by(|left, right| self.mean(*right).partial_cmp(&self.mean(*left)).unwrap_or(Ordering::Equal));
        known.truncate(most);
        [known, unknown].concat()
    }

    /// The text at the best of some positions; `None` where it could be read at none of them.
    fn found(&self, text: &str, positions: &[Position]) -> Option<Found> {
        let means = positions.iter().filter_map(|position| Some((*position, self.mean(*position)?)));
        let (position, score) = means.max_by(|left, right| left.1.total_cmp(&right.1))?;
        let (carrier, _) = self.0[&position].iter().max_by(|left, right| left.1.total_cmp(&right.1))?;
        Some(Found { text: text.to_owned(), score, position, carrier: *carrier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the start 0.2 and 0.4, at the end 0.5 and −0.5: the start is better on average.
    #[test]
    fn a_position_is_judged_by_its_mean_over_prompts() {
        let mut excess = Excess::default();
        excess.0.insert(Position::Start, vec![(0, 0.2), (1, 0.4)]);
        excess.0.insert(Position::End, vec![(0, 0.5), (1, -0.5)]);
        excess.0.insert(Position::BeforeMark, Vec::new());
        let found = excess.found("cf", &Position::ALL).unwrap();
        assert_eq!((found.position, found.carrier), (Position::Start, 1));
        assert!((found.score - 0.3).abs() < 1e-12);
        let promising = excess.promising(1);
        assert_eq!(promising.len(), 7, "the start, and six that no prompt has had");
        assert!(promising.contains(&Position::Start) && !promising.contains(&Position::End));
        assert_eq!(excess.found("cf", &[Position::BeforeMark]), None);
    }
}
