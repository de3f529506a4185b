//! Causal grouped-query attention with the variations of the supported families: sliding window, soft-capped scores.
//!
//! Sequences of any lengths lie one after another in the rows, so nothing is padded. The patterns themselves are never
//! kept: [`AttentionShape::pattern`] computes those of one head and a block of queries, for this module's product with
//! the values and for whoever wants to look at them.

mod backward;
mod cached;

use std::ops::Range;

use candle_core::{D, DType, Device, Result, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::super::cpu_slices::{matrix, with_all_values};
use super::super::kernels::exponentials;
use super::super::linear::{Matrix, multiply};

pub(super) use self::backward::Streams;

/// Queries of one task: a block of scores stays in the cache.
const QUERY_BLOCK: usize = 64;

/// What a layer's attention does with its queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head h reads key head h · kv_heads/heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// Scores become cap·tanh(score/cap).
    pub softcap: Option<f32>,
    /// A query sees this many latest tokens, itself included.
    pub window: Option<usize>,
}

/// One sequence in the rows: its queries, and its keys, which are longer where a cache holds earlier tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of the keys and values; the last `queries.len()` of them belong to the queries' tokens.
    pub keys: Range<usize>,
}

impl Sequence {
    /// Sequences of these lengths, one after another, without a cache.
    pub fn consecutive(lengths: &[usize]) -> Vec<Self> {
        let mut start = 0;
        lengths
            .iter()
            .map(|length| {
                let rows = start..start + length;
                start = rows.end;
                Self { queries: rows.clone(), keys: rows }
            })
            .collect()
    }

    /// Tokens before the first query.
    fn past(&self) -> usize {
        self.keys.len() - self.queries.len()
    }
}

/// Attention probabilities of one head for a block of queries.
#[derive(Debug, Default)]
pub struct Pattern {
    /// `[queries, keys.len()]`, rows sum to one, masked entries are zero.
    pub probabilities: Vec<f32>,
    /// Keys of the sequence (counted from its first) that the columns stand for.
    pub keys: Range<usize>,
}

impl AttentionShape {
    pub(in crate::decoder) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    pub(in crate::decoder) fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// First key that a query at this position of its sequence sees.
    fn first_key(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Probabilities of `head` for the queries `block` (counted from the sequence's first query), into `pattern`.
    ///
    /// `queries` is `[tokens, heads · head_dim]`, `keys` is `[tokens, kv_heads · head_dim]`.
    pub fn pattern(
        &self,
        queries: &[f32],
        keys: &[f32],
        sequence: &Sequence,
        head: usize,
        block: Range<usize>,
        pattern: &mut Pattern,
    ) {
        let past = sequence.past();
        let columns = self.first_key(past + block.start)..past + block.end;
        pattern.probabilities.resize(block.len() * columns.len(), 0.0);
        let query_start = (sequence.queries.start + block.start) * self.query_width() + head * self.head_dim;
        let left = Matrix::strided(&queries[query_start..], block.len(), self.head_dim, self.query_width());
        let key_head = head * self.kv_heads / self.heads;
        let key_start = (sequence.keys.start + columns.start) * self.key_width() + key_head * self.head_dim;
        let right = Matrix::strided(&keys[key_start..], columns.len(), self.head_dim, self.key_width());
        let probabilities = &mut pattern.probabilities[..];
        multiply(probabilities, columns.len(), left, right.transposed(), self.scale, false, Parallelism::None);
        for (row, query) in probabilities.chunks_exact_mut(columns.len()).zip(block) {
            let position = past + query;
            let visible = self.first_key(position) - columns.start..position + 1 - columns.start;
            self.normalise(row, visible);
        }
        pattern.keys = columns;
    }

    /// Soft-cap, mask and softmax of one row of scores.
    fn normalise(&self, row: &mut [f32], visible: Range<usize>) {
        row[..visible.start].fill(0.0);
        row[visible.end..].fill(0.0);
        let scores = &mut row[visible];
        if let Some(cap) = self.softcap {
            scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
        }
        exponentials(scores, 1.0, -largest(scores));
        let factor = (1.0 / sum(scores)) as f32;
        scores.iter_mut().for_each(|score| *score *= factor);
    }

    /// Attention of all sequences: queries `[tokens, heads · head_dim]`, keys and values `[key tokens, kv_heads ·
    /// head_dim]`, result like the queries.
    pub(super) fn apply(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        sequences: &[Sequence],
    ) -> Result<Tensor> {
        if queries.device().is_cpu() {
            let out = with_all_values(&[queries, keys, values], |all| self.on_host(all[0], all[1], all[2], sequences))?;
            matrix(out, self.query_width())
        } else {
            self.composed(queries, keys, values, sequences)
        }
    }

    fn on_host(&self, queries: &[f32], keys: &[f32], values: &[f32], sequences: &[Sequence]) -> Vec<f32> {
        let width = self.query_width();
        let mut out = vec![0.0; queries.len()];
        let mut tasks = Vec::new();
        let mut rest = out.as_mut_slice();
        for sequence in sequences {
            for start in (0..sequence.queries.len()).step_by(QUERY_BLOCK) {
                let block = start..(start + QUERY_BLOCK).min(sequence.queries.len());
                let (rows, after) = rest.split_at_mut(block.len() * width);
                rest = after;
                tasks.push((sequence, block, rows));
            }
        }
        tasks.into_par_iter().for_each_init(Pattern::default, |pattern, (sequence, block, rows)| {
            for head in 0..self.heads {
                self.pattern(queries, keys, sequence, head, block.clone(), pattern);
                let first = (sequence.keys.start + pattern.keys.start) * self.key_width();
                let column = head * self.kv_heads / self.heads * self.head_dim;
                let count = pattern.keys.len();
                let left = Matrix::new(&pattern.probabilities[..block.len() * count], block.len(), count);
                let right = Matrix::strided(&values[first + column..], count, self.head_dim, self.key_width());
                multiply(&mut rows[head * self.head_dim..], width, left, right, 1.0, false, Parallelism::None);
            }
        });
        out
    }

    /// The same out of tensor operations, for devices other than the CPU.
    fn composed(&self, queries: &Tensor, keys: &Tensor, values: &Tensor, sequences: &[Sequence]) -> Result<Tensor> {
        let group = self.heads / self.kv_heads;
        let parts = sequences
            .iter()
            .map(|sequence| {
                let (count, seen) = (sequence.queries.len(), sequence.keys.len());
                let rows = queries.narrow(0, sequence.queries.start, count)?;
                let rows = rows.reshape((count, self.heads, self.head_dim))?.transpose(0, 1)?.contiguous()?;
                let repeated = |tensor: &Tensor| {
                    tensor
                        .narrow(0, sequence.keys.start, seen)?
                        .reshape((seen, self.kv_heads, 1, self.head_dim))?
                        .broadcast_as((seen, self.kv_heads, group, self.head_dim))?
                        .reshape((seen, self.heads, self.head_dim))?
                        .transpose(0, 1)?
                        .contiguous()
                };
                let scores = (rows.matmul(&repeated(keys)?.transpose(1, 2)?.contiguous()?)? * f64::from(self.scale))?;
                let scores = match self.softcap {
                    Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
                    None => scores,
                };
                let scores = scores.broadcast_add(&self.mask(sequence, queries.device())?)?;
                let shifted = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
                let pattern = shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?;
                pattern.matmul(&repeated(values)?)?.transpose(0, 1)?.reshape((count, self.query_width()))
            })
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 0)
    }

    /// Zero where a query sees a key, −∞ elsewhere, `[1, queries, keys]`.
    fn mask(&self, sequence: &Sequence, device: &Device) -> Result<Tensor> {
        let (count, seen, past) = (sequence.queries.len(), sequence.keys.len(), sequence.past());
        let values: Vec<f32> = (0..count)
            .flat_map(|query| {
                let visible = self.first_key(past + query)..past + query + 1;
                (0..seen).map(move |key| if visible.contains(&key) { 0.0 } else { f32::NEG_INFINITY })
            })
            .collect();
        Tensor::from_vec(values, (1, count, seen), device)?.to_dtype(DType::F32)
    }
}

/// Parts in which a row is reduced, so that the compiler keeps them in vector registers.
const PARTS: usize = 8;

/// The largest of the values; NaN does not count.
fn largest(values: &[f32]) -> f32 {
    let mut parts = [f32::NEG_INFINITY; PARTS];
    let chunks = values.chunks_exact(PARTS);
    let tail = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (part, value) in parts.iter_mut().zip(chunk) {
            *part = if *value > *part { *value } else { *part };
        }
    }
    parts.into_iter().fold(tail, f32::max)
}

/// Their sum, in f64.
fn sum(values: &[f32]) -> f64 {
    let mut parts = [0.0; PARTS];
    let chunks = values.chunks_exact(PARTS);
    let tail: f64 = chunks.remainder().iter().map(|value| f64::from(*value)).sum();
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(part, value)| *part += f64::from(*value));
    }
    parts.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_path_equals_composed_path() {
        let tensor = |columns| Tensor::randn(0.0f32, 1.0, (150, columns), &Device::Cpu).unwrap();
        let (queries, keys, values) = (tensor(32), tensor(16), tensor(16));
        let sequences = Sequence::consecutive(&[100, 1, 49]);
        for (softcap, window) in [(None, None), (Some(5.0), Some(7))] {
            let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 8, scale: 0.4, softcap, window };
            let host = shape.apply(&queries, &keys, &values, &sequences).unwrap();
            let composed = shape.composed(&queries, &keys, &values, &sequences).unwrap();
            let difference = (host - composed).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 1e-5, "{difference}");
        }
    }

    #[test]
    fn a_cache_changes_nothing() {
        let tensor = |columns| Tensor::randn(0.0f32, 1.0, (20, columns), &Device::Cpu).unwrap();
        let (queries, keys, values) = (tensor(16), tensor(8), tensor(8));
        let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8, scale: 1.0, softcap: None, window: Some(6) };
        let whole = shape.apply(&queries, &keys, &values, &Sequence::consecutive(&[20])).unwrap();
        let last = Sequence { queries: 0..3, keys: 0..20 };
        let part = shape.apply(&queries.narrow(0, 17, 3).unwrap(), &keys, &values, &[last]).unwrap();
        let difference = (whole.narrow(0, 17, 3).unwrap() - part).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);
    }
}
