//! Gradients of attention: the probabilities of one head and a block of queries are computed again, used and dropped.
//!
//! With P = softmax(S), S = cap·tanh(s·qkᵀ/cap) and O = PV: dV = PᵀdO, dP = dO·Vᵀ, dS = P⊙(dP − Σ_j P⊙dP), through the
//! cap times 1 − (S/cap)², then dQ = s·dS·K and dK = s·dSᵀQ. One task owns a sequence and a key head, with every query
//! head that reads it: no two tasks write to one place, and each sums in one order.

use gemm::Parallelism;
use rayon::prelude::*;

use super::{AttentionShape, Pattern, QUERY_BLOCK, Sequence};
use crate::decoder::linear::{Matrix, multiply};

/// What goes into attention, `[tokens, heads · head_dim]` and twice `[tokens, kv_heads · head_dim]`, and gradients of
/// it.
#[derive(Debug)]
pub(in crate::decoder::attention) struct Streams<T> {
    pub(in crate::decoder::attention) queries: T,
    pub(in crate::decoder::attention) keys: T,
    pub(in crate::decoder::attention) values: T,
}

/// Gradients of one sequence and key head, rows of the sequence one after another.
struct Part {
    /// `[rows, group · head_dim]`.
    queries: Vec<f32>,
    /// `[rows, head_dim]`.
    keys: Vec<f32>,
    /// `[rows, head_dim]`.
    values: Vec<f32>,
}

/// Memory of one task, reused over its blocks.
#[derive(Default)]
struct Scratch {
    pattern: Pattern,
    /// dP, then dS, `[block, keys]`.
    slopes: Vec<f32>,
    /// Scores before the cap, where there is one.
    scores: Vec<f32>,
}

impl AttentionShape {
    /// Gradients of queries, keys and values from `gradient`, that of the result, `[tokens, heads · head_dim]`.
    ///
    /// `sequences` hold no cached keys: the rows of queries and keys are the same.
    pub(in crate::decoder::attention) fn backward(
        &self,
        inputs: &Streams<&[f32]>,
        sequences: &[Sequence],
        gradient: &[f32],
    ) -> Streams<Vec<f32>> {
        let tasks: Vec<(&Sequence, usize)> =
            sequences.iter().flat_map(|sequence| (0..self.kv_heads).map(move |head| (sequence, head))).collect();
        let parts: Vec<Part> = tasks
            .par_iter()
            .map_init(Scratch::default, |scratch, (sequence, head)| {
                self.part(inputs, sequence, *head, gradient, scratch)
            })
            .collect();
        let mut out = Streams {
            queries: vec![0.0; inputs.queries.len()],
            keys: vec![0.0; inputs.keys.len()],
            values: vec![0.0; inputs.values.len()],
        };
        for ((sequence, head), part) in tasks.into_iter().zip(parts) {
            let (first, dimension) = (sequence.queries.start, self.head_dim);
            scatter(&mut out.queries, self.query_width(), first, head, &part.queries, dimension * self.group());
            scatter(&mut out.keys, self.key_width(), first, head, &part.keys, dimension);
            scatter(&mut out.values, self.key_width(), first, head, &part.values, dimension);
        }
        out
    }

    fn part(
        &self,
        inputs: &Streams<&[f32]>,
        sequence: &Sequence,
        key_head: usize,
        gradient: &[f32],
        scratch: &mut Scratch,
    ) -> Part {
        let (rows, dimension, group) = (sequence.queries.len(), self.head_dim, self.group());
        let mut part = Part {
            queries: vec![0.0; rows * dimension * group],
            keys: vec![0.0; rows * dimension],
            values: vec![0.0; rows * dimension],
        };
        let (query_width, key_width) = (self.query_width(), self.key_width());
        let single = |out: &mut [f32], stride: usize, left: Matrix, right: Matrix, scale: f32, accumulate: bool| {
            multiply(out, stride, left, right, scale, accumulate, Parallelism::None);
        };
        for inner in 0..group {
            let head = key_head * group + inner;
            for start in (0..rows).step_by(QUERY_BLOCK) {
                let block = start..(start + QUERY_BLOCK).min(rows);
                let Scratch { pattern, slopes, scores } = scratch;
                self.pattern(inputs.queries, inputs.keys, sequence, head, block.clone(), pattern);
                let (count, columns) = (block.len(), pattern.keys.len());
                let row_start = (sequence.queries.start + start) * query_width + head * dimension;
                let block_of = |values| Matrix::strided(values, count, dimension, query_width);
                let key_start = (sequence.keys.start + pattern.keys.start) * key_width + key_head * dimension;
                let keys_of = |values| Matrix::strided(values, columns, dimension, key_width);
                let (queries, outputs) = (block_of(&inputs.queries[row_start..]), block_of(&gradient[row_start..]));
                let (keys, values) = (keys_of(&inputs.keys[key_start..]), keys_of(&inputs.values[key_start..]));
                let probabilities = Matrix::new(&pattern.probabilities[..count * columns], count, columns);
                let own = pattern.keys.start * dimension;
                single(&mut part.values[own..], dimension, probabilities.transposed(), outputs, 1.0, true);
                slopes.resize(count * columns, 0.0);
                single(slopes, columns, outputs, values.transposed(), 1.0, false);
                through_softmax(slopes, probabilities.values, columns);
                if let Some(cap) = self.softcap {
                    scores.resize(count * columns, 0.0);
                    single(scores, columns, queries, keys.transposed(), self.scale, false);
                    for (slope, score) in slopes.iter_mut().zip(&*scores) {
                        *slope *= 1.0 - (score / cap).tanh().powi(2);
                    }
                }
                let slopes = Matrix::new(slopes, count, columns);
                let place = &mut part.queries[start * dimension * group + inner * dimension..];
                single(place, dimension * group, slopes, keys, self.scale, false);
                single(&mut part.keys[own..], dimension, slopes.transposed(), queries, self.scale, true);
            }
        }
        part
    }
}

/// dP becomes P⊙(dP − Σ_j P⊙dP), row by row.
fn through_softmax(slopes: &mut [f32], probabilities: &[f32], columns: usize) {
    for (slopes, probabilities) in slopes.chunks_exact_mut(columns).zip(probabilities.chunks_exact(columns)) {
        let mean: f64 = slopes.iter().zip(probabilities).map(|(slope, p)| f64::from(*slope) * f64::from(*p)).sum();
        for (slope, p) in slopes.iter_mut().zip(probabilities) {
            *slope = (f64::from(*p) * (f64::from(*slope) - mean)) as f32;
        }
    }
}

/// Puts the rows of `part`, `[rows, columns]`, at their sequence's rows and their head's columns.
fn scatter(out: &mut [f32], width: usize, first: usize, head: usize, part: &[f32], columns: usize) {
    for (row, values) in part.chunks_exact(columns).enumerate() {
        let start = (first + row) * width + head * columns;
        out[start..start + columns].copy_from_slice(values);
    }
}
