//! From numbers to evidence: the same numbers of the base against itself, of random adapters as large as this one, and
//! of other prompts.
//!
//! [`gather`] makes what every question at depth `standard` rests on in one pass: base, adapter and random adapters led
//! through the base's own answers to every probe set.

pub mod base_answers;
pub mod chance;
mod floor;
pub mod forced;
pub mod probe_set;
pub mod random;
pub mod rotation;
pub mod streams;

use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};

pub use self::base_answers::BaseAnswers;
pub use self::forced::{AnswerDivergence, Forced};
pub use self::probe_set::{ProbeSet, PromptId};
use self::random::random_adapter;
use crate::AuditError;

/// How evidence is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceOptions {
    /// Tokens of each of the base's answers, at most.
    pub answer_tokens: usize,
    /// Random adapters.
    pub random: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        Self { answer_tokens: 24, random: 5, seed: 0 }
    }
}

/// How far the gathering has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvidenceProgress {
    /// A random adapter was drawn: how many of how many.
    Random(usize, usize),
    /// A layer was run: how many of how many.
    Layers(usize, usize),
}

/// What was gathered about one adapter; by default nothing, which is what questions about the weights alone need.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Random adapters of its size.
    pub random: Vec<BoundAdapter>,
    /// Random adapters that were left out because the model computes numbers with them that are not finite.
    pub overflowed: usize,
    /// Base, adapter (the first model) and random adapters on the base's answers.
    pub forced: Forced,
}

/// Lets the base answer every prompt of the answered sets, and measures what arithmetic alone moves. `stops` end an
/// answer; `report` is told how many prompts of how many are answered.
///
/// # Errors
/// As reading the prompts.
pub fn let_answer(
    decoder: &Decoder,
    sets: &[ProbeSet],
    stops: &[u32],
    most: usize,
    report: &mut dyn FnMut(usize, usize),
) -> Result<BaseAnswers, AuditError> {
    let (answers, stepwise) = BaseAnswers::decode(decoder, sets, stops, most, report)?;
    let floor = floor::floor(decoder, sets, &answers, &stepwise)?;
    Ok(BaseAnswers { floor, ..answers })
}

/// Gathers evidence about `adapter` on the answers that the base gave to the sets.
///
/// # Errors
/// As reading the prompts.
pub fn gather(
    decoder: &Decoder,
    adapter: &BoundAdapter,
    sets: &[ProbeSet],
    base: &BaseAnswers,
    options: EvidenceOptions,
    report: &mut dyn FnMut(EvidenceProgress),
) -> Result<Evidence, AuditError> {
    let mut random = Vec::with_capacity(options.random);
    for draw in 0..options.random {
        random.push(random_adapter(decoder, adapter, options.seed.wrapping_add(draw as u64))?);
        report(EvidenceProgress::Random(draw + 1, options.random));
    }
    let mut layers = |done, all| report(EvidenceProgress::Layers(done, all));
    let forced = loop {
        let models: Vec<&BoundAdapter> = std::iter::once(adapter).chain(&random).collect();
        match forced::forced_answers(decoder, &models, sets, base, &mut layers) {
            // Chance is told by those that can be run; the base and the adapter are none of them.
            Err(AuditError::Model(ModelError::Overflow { place, .. })) if place > 1 => drop(random.remove(place - 2)),
            found => break found?,
        }
    };
    Ok(Evidence { overflowed: options.random - random.len(), random, forced })
}
