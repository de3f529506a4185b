//! Jensen–Shannon divergence between two models' attention patterns, head by head.
//!
//! Patterns are recomputed from the tapped queries and keys, a block of queries at a time, and dropped.

use lcr_model::decoder::{AttentionShape, Pattern, Sequence};

use crate::audit::{AttentionChange, AttentionJs};
use crate::spectrum::jensen_shannon_term;

/// Queries of one block.
const QUERY_BLOCK: usize = 64;

/// Queries and keys of one model at one layer, `[tokens, heads · head_dim]` and `[tokens, kv_heads · head_dim]`.
#[derive(Debug, Clone, Copy)]
pub struct QueriesAndKeys<'a> {
    /// Queries.
    pub queries: &'a [f32],
    /// Keys.
    pub keys: &'a [f32],
}

/// Divergences over all rows that see more than one key: a sequence's first token can only look at itself.
pub fn divergence(
    shape: &AttentionShape,
    sequences: &[Sequence],
    base: QueriesAndKeys,
    adapted: QueriesAndKeys,
) -> AttentionChange {
    let mut head = vec![0.0; shape.heads];
    let mut largest: f64 = 0.0;
    let mut rows = 0;
    let (mut base_pattern, mut adapted_pattern) = (Pattern::default(), Pattern::default());
    for sequence in sequences {
        rows += sequence.queries.len().saturating_sub(1);
        for start in (0..sequence.queries.len()).step_by(QUERY_BLOCK) {
            let block = start..(start + QUERY_BLOCK).min(sequence.queries.len());
            for (index, sum) in head.iter_mut().enumerate() {
                shape.pattern(base.queries, base.keys, sequence, index, block.clone(), &mut base_pattern);
                shape.pattern(adapted.queries, adapted.keys, sequence, index, block.clone(), &mut adapted_pattern);
                let columns = base_pattern.keys.len();
                let both = base_pattern
                    .probabilities
                    .chunks_exact(columns)
                    .zip(adapted_pattern.probabilities.chunks_exact(columns));
                for (base_row, adapted_row) in both {
                    let js: f64 = base_row
                        .iter()
                        .zip(adapted_row)
                        .map(|(p, q)| jensen_shannon_term(f64::from(*p), f64::from(*q)))
                        .sum();
                    *sum += js;
                    largest = largest.max(js);
                }
            }
        }
    }
    head.iter_mut().for_each(|sum| *sum /= rows.max(1) as f64);
    let mean = head.iter().sum::<f64>() / head.len().max(1) as f64;
    AttentionChange { js: AttentionJs { mean, max: largest, head } }
}

/// No divergence, for layers whose queries and keys the adapter leaves alone.
pub fn unchanged(shape: &AttentionShape) -> AttentionChange {
    AttentionChange { js: AttentionJs { mean: 0.0, max: 0.0, head: vec![0.0; shape.heads] } }
}
