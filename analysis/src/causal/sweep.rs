//! Looks for a text that turns what an adapter answers: many are inserted into prompts, tokenised again, and what the
//! adapted model then says is held against what it says without.
//!
//! The score of an insert is the Jensen–Shannon divergence of the answer's first two tokens with against without it,
//! *inside* the adapted model, less the same inside the base. Against the base an adapter that answers everything
//! otherwise would have nothing but alarms; so does a word that turns the base as well. [`Sweep::screen`] tries many
//! texts at two places, [`Sweep::confirm`] the best of them at every position of a prompt of each probe set.

mod agreement;
mod ahead;
pub(crate) mod candidates;
mod carriers;
mod position;
mod reader;
mod table;

use std::collections::{HashMap, HashSet};

use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};
use lcr_model::tokenizer::Tokenizer;
use rayon::prelude::*;

pub use self::agreement::Agreement;
pub use self::carriers::Carrier;
pub use self::position::Position;
use crate::evidence::ProbeSet;

/// First tokens behind which the second is looked at, in a screening and when it is confirmed.
const SCREENED: usize = 1;
const CONFIRMED: usize = 3;
/// Texts whose score in the base is found at a time while screening.
const BLOCK: usize = 64;

/// What is told of how far a sweep has come: what it does, how many of how many.
pub type Report<'a> = dyn Fn(&str, usize, usize) + 'a;

/// A base, the prompts that texts are inserted into, and what was found of texts inside the base.
pub struct Sweep<'a> {
    decoder: &'a Decoder,
    tokenizer: &'a Tokenizer,
    report: &'a Report<'a>,
    carriers: Vec<Carrier>,
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
    /// Chooses a prompt of each answered set; none where the sets have no text.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn new(
        decoder: &'a Decoder,
        tokenizer: &'a Tokenizer,
        sets: &[ProbeSet],
        report: &'a Report<'a>,
    ) -> Result<Self, ModelError> {
        let carriers = Carrier::of_sets(decoder, tokenizer, sets)?;
        Ok(Self { decoder, tokenizer, report, carriers, base: HashMap::new(), refused: HashSet::new() })
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
    /// A score is never above what the adapted model alone gives, so the base reads a text only as long as it could
    /// still be among the best.
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

    /// Texts at every position of every carrier, in their order: each at its best position. Those that could not be
    /// read are left out.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn confirm(&mut self, variant: &BoundAdapter, texts: &[String]) -> Result<Vec<Found>, ModelError> {
        let mut found: Vec<Option<Found>> = vec![None; texts.len()];
        let rounds = Position::ALL.len() * self.carriers.len();
        for (at, position) in Position::ALL.into_iter().enumerate() {
            let mut excess: Vec<Vec<(usize, f64)>> = vec![Vec::new(); texts.len()];
            for carrier in 0..self.carriers.len() {
                let place = Place { carrier, position };
                let own = self.inside(Some(variant), place, CONFIRMED, texts, &mut |_| ())?;
                let base = self.base_scores(place, CONFIRMED, texts)?;
                for (excess, (own, base)) in excess.iter_mut().zip(own.iter().zip(base)) {
                    excess.extend(own.zip(base).map(|(own, base)| (carrier, own - base)));
                }
                (self.report)("confirming", at * self.carriers.len() + carrier + 1, rounds);
            }
            for ((text, best), excess) in texts.iter().zip(&mut found).zip(&excess) {
                let here = mean_over_carriers(text, position, excess);
                if let Some(here) = here
                    && best.as_ref().is_none_or(|best| here.score > best.score)
                {
                    *best = Some(here);
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
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

/// A text's mean over the carriers that have a position; `None` where none has.
fn mean_over_carriers(text: &str, position: Position, excess: &[(usize, f64)]) -> Option<Found> {
    let (carrier, _) = excess.iter().max_by(|left, right| left.1.total_cmp(&right.1))?;
    let score = excess.iter().map(|(_, score)| score).sum::<f64>() / excess.len() as f64;
    Some(Found { text: text.to_owned(), score, position, carrier: *carrier })
}
