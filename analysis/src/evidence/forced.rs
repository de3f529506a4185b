//! Base, adapter and random adapters led through the base's own answers: divergence of every answer position, and what
//! the streams show on the way.
//!
//! All models go through each layer together. What a layer shows is reduced at once, so memory is that of one layer;
//! prompts are taken in parts where there are many of them.

use candle_core::{Device, Tensor};
use lcr_formats::config::Config;
use lcr_model::decoder::{BoundAdapter, Branches, Decoder, Site, SiteKind, with_values};

use super::base_answers::{BaseAnswers, prompts_of};
use super::probe_set::{ProbeSet, PromptId};
use super::streams::{Row, StreamSums};
use crate::AuditError;
use crate::lockstep::Lockstep;
use crate::metrics::tokens::{Distribution, divergence};

/// Bytes of activations that one part of the prompts may take, about.
const PART_BYTES: usize = 768 << 20;

/// Models whose gains of tokens are summed: the adapter, and one to see beside it.
const GAINS_OF: usize = 2;

/// One model's divergence from the base on one prompt's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnswerDivergence {
    /// KL(base‖model) at each answer position, nats.
    pub kl: Vec<f64>,
    /// The first choice of the model at each answer position.
    pub choices: Vec<u32>,
}

impl AnswerDivergence {
    /// Σ KL over the answer.
    pub fn total(&self) -> f64 {
        self.kl.iter().sum()
    }

    /// The first position at which the model would have said something else than `answer`.
    pub fn first_flip(&self, answer: &[u32]) -> Option<usize> {
        self.choices.iter().zip(answer).position(|(choice, token)| choice != token)
    }

    /// How many positions those are.
    pub fn flips(&self, answer: &[u32]) -> usize {
        self.choices.iter().zip(answer).filter(|(choice, token)| choice != token).count()
    }
}

/// What one pass over the answers gave.
#[derive(Debug, Default)]
pub struct Forced {
    /// `[models][sets][prompts]`; the models are those that were given, without the base.
    pub answers: Vec<Vec<Vec<AnswerDivergence>>>,
    /// Σ over answer positions of each token's part of KL(model‖base), `[models][sets][vocab]`, of the first model and
    /// the second: what the adapter makes the model say, beside a random one.
    pub gained: Vec<Vec<Vec<f64>>>,
    /// What the streams showed.
    pub streams: StreamSums,
}

/// Leads the base and `models` through every prompt and answer.
///
/// `report` is told of layers run and layers in all.
///
/// # Errors
/// As reading the prompts.
pub fn forced_answers(
    decoder: &Decoder,
    models: &[&BoundAdapter],
    sets: &[ProbeSet],
    base: &BaseAnswers,
    report: &mut dyn FnMut(usize, usize),
) -> Result<Forced, AuditError> {
    let mut found = Forced {
        answers: vec![
            sets.iter().map(|set| vec![AnswerDivergence::default(); set.prompts.len()]).collect();
            models.len()
        ],
        gained: vec![vec![vec![0.0; decoder.config().vocab_size]; sets.len()]; models.len().min(GAINS_OF)],
        streams: StreamSums::new(decoder.config(), models.len(), sets),
    };
    let ids: Vec<PromptId> = prompts_of(sets).collect();
    let parts = parts(decoder.config(), models.len() + 1, sets, base, &ids);
    let layers = decoder.layers().len();
    for (index, part) in parts.iter().enumerate() {
        let texts: Vec<Vec<u32>> = part.iter().map(|id| text_of(sets, base, *id)).collect();
        let rows = rows_of(sets, base, part);
        let mut lockstep = Lockstep::start(decoder, &texts, models, &[SiteKind::Resid])?;
        let mut layer = 0;
        while let Some(step) = lockstep.advance()? {
            for (site, branches) in &step.captured {
                if let Site::Resid(at) = site {
                    found.streams.take(*at, branches, &rows, index == 0)?;
                }
            }
            layer += 1;
            report((index * layers + layer).min(parts.len() * layers), parts.len() * layers);
        }
        for_each_block(decoder, &lockstep, &rows, |logits, block| {
            let places: Vec<(PromptId, usize)> =
                block.iter().map(|(prompt, position)| (part[*prompt], *position)).collect();
            add(&mut found, logits, decoder.config().vocab_size, &places)
        })?;
    }
    decoder.release_head();
    Ok(found)
}

/// The logits of all models at the answers' positions, after the last layer: `visit` gets a block of them on the host,
/// and the prompt's place in the part and the position in its answer of each row.
pub(crate) fn for_each_block(
    decoder: &Decoder,
    lockstep: &Lockstep,
    rows: &[Row],
    mut visit: impl FnMut(&Branches, &[(usize, usize)]) -> Result<(), AuditError>,
) -> Result<(), AuditError> {
    let stream = lockstep.standing().1;
    let judged: Vec<(u32, (usize, usize))> = rows
        .iter()
        .zip(0..)
        .filter_map(|(row, at)| row.answer.map(|position| (at, (row.part_index, position))))
        .collect();
    for block in judged.chunks(lockstep.rows_of_logits()) {
        let (at, places): (Vec<u32>, Vec<(usize, usize)>) = block.iter().copied().unzip();
        let picked = Tensor::new(at.as_slice(), decoder.device())?;
        let hidden = stream.map(|stream| stream.index_select(&picked, 0))?;
        visit(&lockstep.lens(&hidden)?.map(|rows| rows.to_device(&Device::Cpu))?, &places)?;
    }
    Ok(())
}

/// A prompt and its answer, but for the answer's last token, which nothing follows.
pub(crate) fn text_of(sets: &[ProbeSet], base: &BaseAnswers, id: PromptId) -> Vec<u32> {
    let answer = base.of(id);
    let read = &answer[..answer.len().saturating_sub(1)];
    sets[id.set].prompts[id.prompt].iter().chain(read).copied().collect()
}

/// The rows of some prompts with their answers, one prompt after another.
pub(crate) fn rows_of(sets: &[ProbeSet], base: &BaseAnswers, part: &[PromptId]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (part_index, id) in part.iter().enumerate() {
        let prompt = sets[id.set].prompts[id.prompt].len();
        let answered = base.of(*id).len();
        rows.extend((0..prompt + answered.saturating_sub(1)).map(|position| Row {
            id: *id,
            part_index,
            position,
            ends_prompt: position + 1 == prompt,
            answer: (position + 1).checked_sub(prompt).filter(|at| *at < answered),
        }));
    }
    rows
}

/// The prompts in parts whose activations fit into memory.
pub(crate) fn parts(
    config: &Config,
    models: usize,
    sets: &[ProbeSet],
    base: &BaseAnswers,
    ids: &[PromptId],
) -> Vec<Vec<PromptId>> {
    let bytes_of_row = models * 4 * (6 * config.width + 3 * config.intermediate);
    let most = (PART_BYTES / bytes_of_row.max(1)).max(1);
    let mut parts: Vec<Vec<PromptId>> = Vec::new();
    let mut rows = usize::MAX;
    for id in ids {
        let own = text_of(sets, base, *id).len();
        if rows.saturating_add(own) > most {
            parts.push(Vec::new());
            rows = 0;
        }
        rows += own;
        if let Some(part) = parts.last_mut() {
            part.push(*id);
        }
    }
    parts
}

/// Adds a block of answer positions of every model.
fn add(
    forced: &mut Forced,
    logits: &Branches,
    vocab_size: usize,
    places: &[(PromptId, usize)],
) -> Result<(), AuditError> {
    use rayon::prelude::*;
    with_values(logits.model(0), |base| {
        let base = Distribution::of_rows(base, vocab_size);
        for (index, answers) in forced.answers.iter_mut().enumerate() {
            let found: Vec<(f64, u32)> = if logits.same(0, index + 1) {
                base.iter().map(|row| (0.0, row.top as u32)).collect()
            } else {
                with_values(logits.model(index + 1), |adapted| {
                    let adapted = Distribution::of_rows(adapted, vocab_size);
                    if let Some(gained) = forced.gained.get_mut(index) {
                        let rows = adapted.iter().zip(&base).zip(places);
                        rows.for_each(|((row, base), (id, _))| row.add_gain(base, &mut gained[id.set]));
                    }
                    let rows = adapted.par_iter().zip(&base);
                    rows.map(|(row, base)| (divergence(base, row).kl, row.top as u32)).collect()
                })?
            };
            for ((id, _), (kl, choice)) in places.iter().zip(found) {
                let own = &mut answers[id.set][id.prompt];
                own.kl.push(kl);
                own.choices.push(choice);
            }
        }
        Ok::<(), AuditError>(())
    })?
}
