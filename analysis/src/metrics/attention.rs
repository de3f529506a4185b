//! Jensen–Shannon divergence between two models' attention patterns, head by head.
//!
//! Patterns are recomputed from the tapped queries and keys, a block of queries at a time, and dropped.

use lcr_documents::audit::{AttentionChange, AttentionJs};
use lcr_model::decoder::{AttentionShape, Pattern, Sequence};

use super::descriptor::{Entry, Metric, Number, Reads, Runs, Unit};
use crate::statistics::jensen_shannon_term;

/// Queries of one block.
const QUERY_BLOCK: usize = 64;

/// `attention`.
pub static METRIC: Metric = Metric {
    name: "attention",
    runs: Runs::ByDefault,
    reads: Reads::QueriesAndKeys,
    entries: &[Entry {
        heading: "`attention.js.{mean,max,head}`",
        definition: "
At `attn_out` sites. Jensen–Shannon divergence between the two models' attention rows, the patterns recomputed from the
queries and keys (after q/k-norm and rotary where the model has them): mean over heads and rows, largest of any row,
mean by head. ln 2 = 0.693.
Rows that see one key only, the first of each sequence, are left out; sinks are not, for a row is a query's distribution
and not a state.",
        blind_to: "
Blind to the values: a head may look where it looked and copy something else. Blind to anything that cancels in QKᵀ.",
        chance: "",
        trap: "
Trap: most heads rest on the first token most of the time. The mean then hides a head that changed on three words; read
`max` and `head`.",
        numbers: &[
            Number::new("attention.js.mean", "Mean over heads and rows.", Unit::Nats, "0 to ln 2").more_change(0.0),
            Number::new("attention.js.max", "Largest of any row of any head.", Unit::Nats, "0 to ln 2")
                .more_change(0.0),
            Number::new("attention.js.head", "Mean over rows, by head.", Unit::Nats, "0 to ln 2").more_change(0.0),
        ],
        glossary: &[],
    }],
    references: &[
        "Lin 1991. Divergence measures based on the Shannon entropy. IEEE Transactions on Information Theory 37.",
    ],
};

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiples of 1/`denominator` around zero, each exact in f32.
    fn numbers(count: usize, [factor, offset, modulus, denominator]: [i32; 4]) -> Vec<f32> {
        let number = |at: i32| ((at * factor + offset) % modulus - modulus / 2) as f32 / denominator as f32;
        (0..count as i32).map(number).collect()
    }

    fn plus(left: &[f32], right: &[f32]) -> Vec<f32> {
        left.iter().zip(right).map(|(a, b)| a + b).collect()
    }

    fn shape(heads: usize, kv_heads: usize, head_dim: usize, scale: f32) -> AttentionShape {
        AttentionShape { heads, kv_heads, head_dim, scale, softcap: None, window: None }
    }

    /// The same numbers through `scipy.special.softmax` under a causal mask and `scipy.spatial.distance.jensenshannon`
    /// squared, the first row of each sequence left out, in f64.
    #[test]
    fn grouped_heads_over_two_sequences_diverge_as_scipy_has_it() {
        let queries = numbers(8 * 4 * 3, [37, 11, 19, 8]);
        let keys = numbers(8 * 2 * 3, [31, 5, 17, 8]);
        let moved_queries = plus(&queries, &numbers(8 * 4 * 3, [23, 0, 7, 4]));
        let moved_keys = plus(&keys, &numbers(8 * 2 * 3, [29, 1, 5, 4]));
        let found = divergence(
            &shape(4, 2, 3, 0.5),
            &Sequence::consecutive(&[5, 3]),
            QueriesAndKeys { queries: &queries, keys: &keys },
            QueriesAndKeys { queries: &moved_queries, keys: &moved_keys },
        )
        .js;
        let heads = [0.019_383_663_78, 0.009_925_671_522, 0.001_859_928_802, 0.004_906_690_935];
        let expected = heads.into_iter().chain([0.009_018_988_760, 0.046_856_930_77]);
        for (found, expected) in found.head.iter().chain([&found.mean, &found.max]).zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
        }
    }

    /// A query that sees t + 1 equal keys, and the first of them three times as well: 1/(t+1) against 3/(t+3) and
    /// 1/(t+3). Three blocks of queries, the last of them short.
    #[test]
    fn rows_of_every_block_count_once() {
        const TOKENS: usize = 130;
        let (still, looking) = (vec![0.0; TOKENS], vec![1.0; TOKENS]);
        let mut keys = vec![0.0; TOKENS];
        keys[0] = 3.0_f32.ln();
        let found = divergence(
            &shape(1, 1, 1, 1.0),
            &Sequence::consecutive(&[TOKENS]),
            QueriesAndKeys { queries: &still, keys: &keys },
            QueriesAndKeys { queries: &looking, keys: &keys },
        )
        .js;
        let rows: Vec<f64> = (1..TOKENS)
            .map(|row| {
                let (all, seen) = (row as f64 + 1.0, row as f64 + 3.0);
                let half = |p: f64, q: f64| {
                    let middle = f64::midpoint(p, q);
                    0.5 * (p * (p / middle).ln() + q * (q / middle).ln())
                };
                half(1.0 / all, 3.0 / seen) + row as f64 * half(1.0 / all, 1.0 / seen)
            })
            .collect();
        let mean = rows.iter().sum::<f64>() / rows.len() as f64;
        let max = rows.iter().copied().fold(0.0, f64::max);
        assert!((found.mean / mean - 1.0).abs() < 1e-5, "{} {mean}", found.mean);
        assert!((found.max / max - 1.0).abs() < 1e-5, "{} {max}", found.max);
        assert_eq!(found.head, [found.mean]);
    }
}
