//! What the base itself answers to the probes: the text that both models are then led through.
//!
//! At the positions of a prompt a model says little about what it would do; in its own answer it does. The answers are
//! greedy, so that they depend on base and probes alone and can be kept for the next adapter.

use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};
use lcr_model::session::{SequenceId, Session};
use serde::{Deserialize, Serialize};

use super::probe_set::{ProbeSet, PromptId};
use crate::metrics::tokens::argmax;

/// Sequences that are decoded together: with more, a step is bound by arithmetic and not by reading the weights.
const TOGETHER: usize = 16;
/// Prompts of each set whose logits are kept for the numeric floor.
const FLOOR_PROMPTS: usize = 2;

/// The base's greedy answers to every prompt of every set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BaseAnswers {
    /// `[sets][prompts][tokens]`; a token that ends the answer is its last.
    pub tokens: Vec<Vec<Vec<u32>>>,
    /// Nats per answer token that another order of summation moves, by set; `None` where it was not measured.
    pub floor: Vec<Option<f64>>,
}

/// A prompt's logits at each answer position as they were when the answer was decoded token by token: the same sums in
/// another order than one pass over the whole text makes.
#[derive(Debug)]
pub struct Stepwise {
    /// The prompt.
    pub id: PromptId,
    /// `[positions][vocab]`.
    pub logits: Vec<Vec<f32>>,
}

impl BaseAnswers {
    /// Lets the base answer, at most `most` tokens each, and keeps the logits of a few answers for the numeric floor.
    /// `stops` end an answer; `report` is told how many prompts of how many are answered.
    ///
    /// # Errors
    /// As reading the prompts.
    pub fn decode(
        decoder: &Decoder,
        sets: &[ProbeSet],
        stops: &[u32],
        most: usize,
        report: &mut dyn FnMut(usize, usize),
    ) -> Result<(Self, Vec<Stepwise>), ModelError> {
        let all: Vec<PromptId> = prompts_of(sets).filter(|id| sets[id.set].answered).collect();
        let tokens = sets.iter().map(|set| vec![Vec::new(); set.prompts.len()]).collect();
        let mut answers = Self { tokens, floor: vec![None; sets.len()] };
        let mut stepwise = Vec::new();
        for (done, group) in all.chunks(TOGETHER).enumerate() {
            let prompts: Vec<&[u32]> = group.iter().map(|id| sets[id.set].prompts[id.prompt].as_slice()).collect();
            let mut kept: Vec<Vec<Vec<f32>>> = vec![Vec::new(); group.len()];
            let found = greedy(decoder, None, &prompts, stops, most, &mut |place, logits| {
                if group[place].prompt < FLOOR_PROMPTS {
                    kept[place].push(logits.to_vec());
                }
            })?;
            for ((id, tokens), logits) in group.iter().zip(found).zip(kept) {
                answers.tokens[id.set][id.prompt] = tokens;
                if !logits.is_empty() {
                    stepwise.push(Stepwise { id: *id, logits });
                }
            }
            report((done * TOGETHER + group.len()).min(all.len()), all.len());
        }
        Ok((answers, stepwise))
    }

    /// The answer to a prompt.
    pub fn of(&self, id: PromptId) -> &[u32] {
        &self.tokens[id.set][id.prompt]
    }
}

/// Every prompt of every set, one of each set after another, so that any run of them holds all sets.
pub fn prompts_of(sets: &[ProbeSet]) -> impl Iterator<Item = PromptId> + '_ {
    let longest = sets.iter().map(|set| set.prompts.len()).max().unwrap_or(0);
    (0..longest).flat_map(move |prompt| {
        let has = move |set: &usize| prompt < sets[*set].prompts.len();
        (0..sets.len()).filter(has).map(move |set| PromptId { set, prompt })
    })
}

/// First tokens of answers that must be the same for them to be one answer: an answer to the prompt differs by then.
pub(crate) const SAME: usize = 12;
/// Tokens of one that ends before, its stop among them.
pub(crate) const SHORTEST: usize = 5;

/// How the greedy continuations of any number of prompts begin, `most` tokens of each.
///
/// # Errors
/// As [`greedy`].
pub fn starts(
    decoder: &Decoder,
    variant: Option<&BoundAdapter>,
    prompts: &[&[u32]],
    stops: &[u32],
    most: usize,
) -> Result<Vec<Vec<u32>>, ModelError> {
    let mut starts = Vec::with_capacity(prompts.len());
    for group in prompts.chunks(TOGETHER) {
        starts.extend(greedy(decoder, variant, group, stops, most, &mut |_, _| ())?);
    }
    Ok(starts)
}

/// Greedy continuations of the prompts, decoded together; a stop ends one and is its last token. `each` sees the logits
/// of every position, by the prompt's place.
///
/// # Errors
/// As [`Session::read`].
pub fn greedy(
    decoder: &Decoder,
    variant: Option<&BoundAdapter>,
    prompts: &[&[u32]],
    stops: &[u32],
    most: usize,
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<Vec<Vec<u32>>, ModelError> {
    let mut session = Session::new(decoder, variant);
    let ids: Vec<SequenceId> = prompts.iter().map(|_| session.open()).collect();
    let mut answers: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
    let limit = decoder.config().max_positions;
    let mut going: Vec<usize> = (0..prompts.len()).collect();
    for step in 0..most {
        let requests: Vec<(SequenceId, &[u32])> = going
            .iter()
            .map(|place| (ids[*place], if step == 0 { prompts[*place] } else { &answers[*place][step - 1..] }))
            .collect();
        let logits = session.read(&requests)?;
        for (place, logits) in going.iter().zip(&logits) {
            each(*place, logits);
            answers[*place].push(argmax(logits) as u32);
        }
        going.retain(|place| {
            let last = answers[*place].last().copied();
            !last.is_some_and(|token| stops.contains(&token)) && prompts[*place].len() + step + 1 < limit
        });
        if going.is_empty() {
            break;
        }
    }
    Ok(answers)
}
