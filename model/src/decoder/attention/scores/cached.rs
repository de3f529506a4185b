//! Attention of new tokens to themselves and to the cached ones before them.
//!
//! A task is one key head of one sequence with all the query heads that read it, so each key and value is loaded once.
//! Few queries, as in decoding, go through the table's blocks where they lie; many, as in a prompt, have them gathered
//! first, which is little beside their product.

use std::ops::Range;

use candle_core::{Result, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::{AttentionShape, QUERY_BLOCK, Sequence};
use crate::decoder::cache::{Cache, Kept};
use crate::decoder::cpu_slices::{matrix, with_values};
use crate::decoder::kernels::{SkinnyRows, StoredRows, gemv, gemv_t};
use crate::decoder::linear::{Matrix, SERIAL_OPERATIONS, multiply};

/// Up to this many rows of queries read the blocks where they lie.
const STREAMED_QUERIES: usize = 16;

/// Where the keys and values of a layer are.
#[derive(Clone, Copy)]
struct Source<'a> {
    cache: &'a Cache,
    layer: usize,
}

/// The queries of one sequence that read one key head.
struct Task<'a> {
    index: usize,
    sequence: &'a Sequence,
    /// Counted from the sequence's first new token.
    queries: Range<usize>,
    kv_head: usize,
    /// `[queries, query heads of the key head, head_dim]`.
    out: &'a mut [f32],
}

/// Memory that one thread uses again.
#[derive(Default)]
struct Room {
    scores: Vec<f32>,
    gathered: Vec<f32>,
}

impl AttentionShape {
    /// Attention of the new tokens of all sequences, whose keys and values `cache` already holds: queries and result
    /// are `[new tokens, heads · head_dim]`.
    pub(in crate::decoder::attention) fn apply_cached(
        &self,
        queries: &Tensor,
        cache: &Cache,
        layer: usize,
        sequences: &[Sequence],
    ) -> Result<Tensor> {
        let device = queries.device();
        if device.is_cpu() {
            let source = Source { cache, layer };
            let out = with_values(queries, |queries| self.cached_on_host(queries, source, sequences))?;
            return matrix(out, self.query_width());
        }
        let keys = cache.gather(layer, Kept::Keys, device)?;
        self.composed(queries, &keys, &cache.gather(layer, Kept::Values, device)?, sequences)
    }

    /// Query heads of one key head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    fn cached_on_host(&self, queries: &[f32], source: Source, sequences: &[Sequence]) -> Vec<f32> {
        let head_width = self.group() * self.head_dim;
        let mut out = vec![0.0; queries.len()];
        let mut tasks = Vec::new();
        let mut operations = 0;
        let mut rest = out.as_mut_slice();
        for (index, sequence) in sequences.iter().enumerate() {
            operations += queries.len() * sequence.keys.len();
            for start in (0..sequence.queries.len()).step_by(QUERY_BLOCK) {
                let block = start..(start + QUERY_BLOCK).min(sequence.queries.len());
                for kv_head in 0..self.kv_heads {
                    let (part, after) = rest.split_at_mut(block.len() * head_width);
                    rest = after;
                    tasks.push(Task { index, sequence, queries: block.clone(), kv_head, out: part });
                }
            }
        }
        let run = |room: &mut Room, mut task: Task| self.run(queries, source, &mut task, room);
        if operations <= SERIAL_OPERATIONS {
            let mut room = Room::default();
            tasks.into_iter().for_each(|task| run(&mut room, task));
        } else {
            tasks.into_par_iter().for_each_init(Room::default, run);
        }
        self.by_rows(out, sequences)
    }

    /// From the order of the tasks to that of the rows; with one query a sequence they are the same.
    fn by_rows(&self, by_tasks: Vec<f32>, sequences: &[Sequence]) -> Vec<f32> {
        if sequences.iter().all(|sequence| sequence.queries.len() == 1) {
            return by_tasks;
        }
        let head_width = self.group() * self.head_dim;
        let mut out = vec![0.0; by_tasks.len()];
        let mut heads = by_tasks.chunks_exact(head_width);
        for sequence in sequences {
            for start in sequence.queries.clone().step_by(QUERY_BLOCK) {
                let rows = start..(start + QUERY_BLOCK).min(sequence.queries.end);
                for kv_head in 0..self.kv_heads {
                    for (row, head) in rows.clone().zip(&mut heads) {
                        let first = row * self.query_width() + kv_head * head_width;
                        out[first..first + head_width].copy_from_slice(head);
                    }
                }
            }
        }
        out
    }

    fn run(&self, queries: &[f32], source: Source, task: &mut Task, room: &mut Room) {
        let past = task.sequence.past();
        let columns = self.first_key(past + task.queries.start)..past + task.queries.end;
        if task.queries.len() * self.group() <= STREAMED_QUERIES {
            self.stream(queries, source, task, columns, room);
        } else {
            self.gather(queries, source, task, columns, room);
        }
    }

    /// First query value of a row and head.
    fn query_start(&self, task: &Task, query: usize, head: usize) -> usize {
        (task.sequence.queries.start + query) * self.query_width() + head * self.head_dim
    }

    /// Keys of `columns` that a query sees, counted from the first of them.
    fn visible(&self, task: &Task, query: usize, columns: &Range<usize>) -> Range<usize> {
        let position = task.sequence.past() + query;
        self.first_key(position) - columns.start..position + 1 - columns.start
    }

    /// A few queries through the blocks where they lie.
    fn stream(&self, queries: &[f32], source: Source, task: &mut Task, columns: Range<usize>, room: &mut Room) {
        let group = self.group();
        let x = task.queries.clone().flat_map(|query| {
            let start = self.query_start(task, query, task.kv_head * group);
            queries[start..start + group * self.head_dim].chunks_exact(self.head_dim)
        });
        let pieces = |kept| source.cache.pieces(task.index, source.layer, kept, task.kv_head, columns.clone());
        let mut unused = Vec::new();
        let x = SkinnyRows::new(x.collect(), StoredRows::Values(&[]), &mut unused);
        room.scores.resize(task.queries.len() * group * columns.len(), 0.0);
        let mut first = 0;
        for keys in pieces(Kept::Keys) {
            let last = first + keys.len() / self.head_dim;
            let mut parts: Vec<&mut [f32]> =
                room.scores.chunks_exact_mut(columns.len()).map(|row| &mut row[first..last]).collect();
            gemv(StoredRows::Values(keys), &x, &mut parts);
            first = last;
        }
        let queries = task.queries.clone().flat_map(|query| std::iter::repeat_n(query, group));
        for (row, query) in room.scores.chunks_exact_mut(columns.len()).zip(queries) {
            row.iter_mut().for_each(|score| *score *= self.scale);
            self.normalise(row, self.visible(task, query, &columns));
        }
        task.out.fill(0.0);
        let mut out: Vec<&mut [f32]> = task.out.chunks_exact_mut(self.head_dim).collect();
        let mut first = 0;
        for values in pieces(Kept::Values) {
            let last = first + values.len() / self.head_dim;
            let factors: Vec<&[f32]> = room.scores.chunks_exact(columns.len()).map(|row| &row[first..last]).collect();
            gemv_t(StoredRows::Values(values), self.head_dim, 0, &factors, &mut out);
            first = last;
        }
    }

    /// Many queries, with the head's keys and then its values in one piece.
    fn gather(&self, queries: &[f32], source: Source, task: &mut Task, columns: Range<usize>, room: &mut Room) {
        let (group, count) = (self.group(), task.queries.len());
        let Room { scores, gathered } = room;
        let in_one_piece = |kept, gathered: &mut Vec<f32>| {
            gathered.clear();
            for piece in source.cache.pieces(task.index, source.layer, kept, task.kv_head, columns.clone()) {
                gathered.extend_from_slice(piece);
            }
        };
        scores.resize(group * count * columns.len(), 0.0);
        in_one_piece(Kept::Keys, gathered);
        for (offset, scores) in scores.chunks_exact_mut(count * columns.len()).enumerate() {
            let start = self.query_start(task, task.queries.start, task.kv_head * group + offset);
            let left = Matrix::strided(&queries[start..], count, self.head_dim, self.query_width());
            let right = Matrix::new(gathered, columns.len(), self.head_dim).transposed();
            multiply(scores, columns.len(), left, right, self.scale, false, Parallelism::None);
            for (row, query) in scores.chunks_exact_mut(columns.len()).zip(task.queries.clone()) {
                self.normalise(row, self.visible(task, query, &columns));
            }
        }
        in_one_piece(Kept::Values, gathered);
        for (offset, scores) in scores.chunks_exact(count * columns.len()).enumerate() {
            let left = Matrix::new(scores, count, columns.len());
            let right = Matrix::new(gathered, columns.len(), self.head_dim);
            let out = &mut task.out[offset * self.head_dim..];
            multiply(out, group * self.head_dim, left, right, 1.0, false, Parallelism::None);
        }
    }
}
