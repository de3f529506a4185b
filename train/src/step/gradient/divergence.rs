//! How far the adapted model has moved from its base on some tokens: exact Kullback-Leibler divergence over the
//! vocabulary.
//!
//! Both models run in one pass and share every row up to the first adapted layer.

use candle_core::{Device, Tensor};
use lcr_model::decoder::{BoundAdapter, Branches, Decoder, Hooks, ModelError, with_all_values};
use rayon::prelude::*;

use super::{Example, Rows, Softmax, check_finite, chunk_rows};

/// Two models on the same targets, by example.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// ln p of each target under the adapted model.
    pub policy: Vec<Vec<f64>>,
    /// ln p of each target under the base.
    pub reference: Vec<Vec<f64>>,
    /// KL(policy‖base) = Σ p (ln p − ln q) over the vocabulary, nats, of the distribution that each target was
    /// predicted from.
    pub divergence: Vec<Vec<f64>>,
}

/// Log-probabilities of the targets under a variant and its base, and the divergence between the two.
pub fn divergence(decoder: &Decoder, variant: &BoundAdapter, examples: &[Example]) -> Result<Divergence, ModelError> {
    let rows = Rows::new(decoder, examples)?;
    let mut found = Vec::with_capacity(rows.targets.len());
    if !rows.targets.is_empty() {
        let batch = decoder.batch(&rows.nonempty_lengths(), vec![None, Some(variant)]);
        let mut stream = decoder.embed(&rows.tokens, &rows.positions(), &batch.variants)?;
        let mut hooks = Hooks::default();
        for (index, layer) in decoder.layers().iter().enumerate() {
            stream = layer.forward(&stream, &batch, None, &mut hooks)?;
            check_finite(decoder, index, &stream, &["the base", "the adapted model"])?;
        }
        let tensors = stream.tensors().iter().map(|branch| rows.gather(branch)).collect::<Result<Vec<Tensor>, _>>()?;
        let width = decoder.config().width;
        let count = chunk_rows(decoder.config().vocab_size, 2);
        for first in (0..rows.targets.len()).step_by(count) {
            let count = count.min(rows.targets.len() - first);
            let chunk = |branch: &Tensor| branch.narrow(0, first, count)?.reshape((count, width));
            let branches = stream.with_tensors(tensors.iter().map(chunk).collect::<Result<_, _>>()?);
            let logits = decoder.logits(&branches, &batch.variants)?;
            found.extend(compare(&logits, &rows, first)?);
        }
    }
    let by_example = |value: fn(&[f64; 3]) -> f64| rows.by_example(&found.iter().map(value).collect::<Vec<f64>>());
    Ok(Divergence {
        policy: by_example(|values| values[0]),
        reference: by_example(|values| values[1]),
        divergence: by_example(|values| values[2]),
    })
}

/// ln p, ln q and KL of each row of logits; `first` is the target of the first row.
fn compare(logits: &Branches, rows: &Rows, first: usize) -> Result<Vec<[f64; 3]>, ModelError> {
    let same = logits.same(0, 1);
    let tensors = [logits.model(0).to_device(&Device::Cpu)?, logits.model(1).to_device(&Device::Cpu)?];
    let columns = tensors[0].dim(1)?.max(1);
    Ok(with_all_values(&[&tensors[0], &tensors[1]], |values| {
        let pairs = values[0].par_chunks_exact(columns).zip(values[1].par_chunks_exact(columns)).enumerate();
        pairs
            .map(|(row, (base, policy))| {
                let (reference, own) = (Softmax::of(base), Softmax::of(policy));
                let target = first + row;
                let divergence = if same { 0.0 } else { kullback_leibler(policy, &own, base, &reference) };
                [
                    own.log_probability(rows.logit(target, policy)),
                    reference.log_probability(rows.logit(target, base)),
                    divergence,
                ]
            })
            .collect()
    })?)
}

/// Σ p (ln p − ln q); a token without mass adds nothing.
fn kullback_leibler(policy: &[f32], own: &Softmax, base: &[f32], reference: &Softmax) -> f64 {
    let terms = policy.iter().zip(base).map(|(p, q)| {
        let (p, q) = (own.log_probability(*p), reference.log_probability(*q));
        let mass = p.exp();
        if mass > 0.0 { mass * (p - q) } else { 0.0 }
    });
    terms.sum::<f64>().max(0.0)
}
