//! What arithmetic alone moves: the base against itself with another order of summation.

use lcr_model::decoder::{Decoder, with_values};

use super::base_answers::{BaseAnswers, Stepwise};
use super::forced::{for_each_block, parts, rows_of, text_of};
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
    let vocab_size = decoder.config().vocab_size;
    for part in parts(decoder.config(), 1, sets, answers, &ids) {
        let texts: Vec<Vec<u32>> = part.iter().map(|id| text_of(sets, answers, *id)).collect();
        let rows = rows_of(sets, answers, &part);
        let mut lockstep = Lockstep::start(decoder, &texts, &[], &[])?;
        while lockstep.advance()?.is_some() {}
        for_each_block(decoder, &lockstep, &rows, |logits, places| {
            with_values(logits.model(0), |values| {
                for ((prompt, position), row) in places.iter().zip(values.chunks_exact(vocab_size)) {
                    let kept = stepwise.iter().find(|kept| kept.id == part[*prompt]);
                    if let Some(logits) = kept.and_then(|kept| kept.logits.get(*position)) {
                        let (sum, count) = &mut sums[part[*prompt].set];
                        *sum += divergence(&Distribution::new(row), &Distribution::new(logits)).kl;
                        *count += 1;
                    }
                }
            })?;
            Ok(())
        })?;
    }
    decoder.release_head();
    Ok(sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect())
}
