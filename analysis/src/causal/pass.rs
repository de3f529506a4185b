//! Several models through the base's answers together, and how far any two of them are apart there.

use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, with_values};
use rayon::prelude::*;

use crate::AuditError;
use crate::evidence::forced::{for_each_block, parts, rows_of, text_of};
use crate::evidence::streams::Row;
use crate::evidence::{BaseAnswers, Forced, ProbeSet, PromptId};
use crate::lockstep::Lockstep;
use crate::metrics::tokens::{Distribution, divergence};

/// Some prompts with the base's answers.
#[derive(Debug, Clone)]
pub struct Prompts<'a> {
    /// The sets that they are of.
    pub sets: &'a [ProbeSet],
    /// The base's answers to them.
    pub base: &'a BaseAnswers,
    /// Which prompts.
    pub ids: Vec<PromptId>,
}

impl<'a> Prompts<'a> {
    /// The first `most` of every set that was answered, one of each set after another.
    pub fn of_each(sets: &'a [ProbeSet], base: &'a BaseAnswers, most: usize) -> Self {
        let answered = |id: &PromptId| id.prompt < most && !base.of(*id).is_empty();
        let ids = crate::evidence::base_answers::prompts_of(sets).filter(answered).collect();
        Self { sets, base, ids }
    }

    /// Every prompt of some sets that was answered, one of each set after another.
    pub fn of_sets(sets: &'a [ProbeSet], base: &'a BaseAnswers, wanted: &[usize]) -> Self {
        let mut all = Self::of_each(sets, base, usize::MAX);
        all.ids.retain(|id| wanted.contains(&id.set));
        all
    }

    /// The mean per answer token over the prompts of a set, of sums over the answer of each prompt.
    pub fn mean_of(&self, sums: &[f64], set: usize) -> f64 {
        let own = self.ids.iter().zip(sums).filter(|(id, _)| id.set == set);
        let add = |(sum, tokens), (id, own): (&PromptId, &f64)| (sum + own, tokens + self.base.of(*id).len());
        let (sum, tokens) = own.fold((0.0, 0), add);
        sum / tokens.max(1) as f64
    }

    /// The `most` that the first model of `forced` moved most.
    pub fn moved_most(sets: &'a [ProbeSet], base: &'a BaseAnswers, forced: &Forced, most: usize) -> Self {
        let mut all = Self::of_each(sets, base, usize::MAX);
        let moved = |id: &PromptId| forced.answers[0][id.set][id.prompt].total();
        all.ids.sort_by(|left, right| moved(right).total_cmp(&moved(left)));
        all.ids.truncate(most);
        all
    }

    /// Tokens of all their answers.
    pub fn answer_tokens(&self) -> usize {
        self.ids.iter().map(|id| self.base.of(*id).len()).sum()
    }
}

/// Two models by their place in the pass, for KL(of‖to).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Whose distribution is expected.
    pub of: usize,
    /// Whose stands in for it.
    pub to: usize,
}

/// Σ KL over the answer, `[pairs][prompts]`, of models led through the base's answers; `None` is the base, and `hooks`
/// makes something else of it, given the rows of a pass.
///
/// # Errors
/// As reading the prompts.
pub fn divergences<'a>(
    decoder: &'a Decoder,
    models: &[Option<&'a BoundAdapter>],
    pairs: &[Pair],
    prompts: &Prompts,
    hooks: impl Fn(&[Row]) -> Hooks<'a>,
    report: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<f64>>, AuditError> {
    let Prompts { sets, base, ids } = prompts;
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); pairs.len()];
    let (parts, layers) = (parts(decoder.config(), models.len(), sets, base, ids), decoder.layers().len());
    for (index, part) in parts.iter().enumerate() {
        let texts: Vec<Vec<u32>> = part.iter().map(|id| text_of(sets, base, *id)).collect();
        let rows = rows_of(sets, base, part);
        let mut lockstep = Lockstep::of_models(decoder, &texts, models.to_vec(), hooks(&rows))?;
        let mut layer = 0;
        while lockstep.advance()?.is_some() {
            layer += 1;
            report((index * layers + layer).min(parts.len() * layers), parts.len() * layers);
        }
        let mut sums = vec![vec![0.0; part.len()]; pairs.len()];
        for_each_block(decoder, &lockstep, &rows, |logits, block| {
            let size = decoder.config().vocab_size;
            for (sums, pair) in sums.iter_mut().zip(pairs).filter(|(_, pair)| !logits.same(pair.of, pair.to)) {
                let apart = with_values(logits.model(pair.of), |of| {
                    with_values(logits.model(pair.to), |to| kl_of_rows(of, to, size))
                })??;
                block.iter().zip(apart).for_each(|((prompt, _), kl)| sums[*prompt] += kl);
            }
            Ok(())
        })?;
        found.iter_mut().zip(sums).for_each(|(found, sums)| found.extend(sums));
    }
    decoder.release_head();
    Ok(found)
}

/// KL of every row of one model's logits to the other's.
fn kl_of_rows(of: &[f32], to: &[f32], vocab_size: usize) -> Vec<f64> {
    let rows = of.par_chunks_exact(vocab_size).zip(to.par_chunks_exact(vocab_size));
    rows.map(|(of, to)| divergence(&Distribution::new(of), &Distribution::new(to)).kl).collect()
}
