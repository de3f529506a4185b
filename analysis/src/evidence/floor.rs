//! What arithmetic alone moves: the base against itself with another order of summation.

use lcr_model::decoder::{Decoder, with_values};

use super::base_answers::{BaseAnswers, Stepwise};
use super::forced::{for_each_block, rows_of, text_of};
use super::probe_set::{ProbeSet, PromptId};
use crate::AuditError;
use crate::lockstep::Lockstep;
use crate::metrics::tokens::{Distribution, divergence};

/// KL between the base's logits of one pass over whole answers and those of decoding token by token, mean per answer
/// position, by set; `None` for a set that no logits were kept of.
///
/// # Errors
/// As reading the prompts.
pub(super) fn floor(
    decoder: &Decoder,
    sets: &[ProbeSet],
    answers: &BaseAnswers,
    stepwise: &[Stepwise],
) -> Result<Vec<Option<f64>>, AuditError> {
    let mut sums = vec![(0.0, 0_usize); sets.len()];
    let ids: Vec<PromptId> = stepwise.iter().map(|kept| kept.id).collect();
    if ids.is_empty() {
        return Ok(vec![None; sets.len()]);
    }
    let texts: Vec<Vec<u32>> = ids.iter().map(|id| text_of(sets, answers, *id)).collect();
    let rows = rows_of(sets, answers, &ids);
    let mut lockstep = Lockstep::start(decoder, &texts, &[], &[])?;
    while lockstep.advance()?.is_some() {}
    let vocab_size = decoder.config().vocab_size;
    for_each_block(decoder, &lockstep, &rows, |logits, places| {
        with_values(logits.model(0), |values| {
            for ((prompt, position), row) in places.iter().zip(values.chunks_exact(vocab_size)) {
                let kept = &stepwise[*prompt];
                if let Some(logits) = kept.logits.get(*position) {
                    let (sum, count) = &mut sums[kept.id.set];
                    *sum += divergence(&Distribution::new(row), &Distribution::new(logits)).kl;
                    *count += 1;
                }
            }
        })?;
        Ok(())
    })?;
    decoder.release_head();
    Ok(sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect())
}
