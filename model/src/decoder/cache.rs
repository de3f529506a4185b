//! Keys and values of sequences that are read piece by piece.
//!
//! A sequence's keys and values lie in a table of blocks. Forking copies the table's pointers, so that what was read so
//! far is held once however many sequences go on from it; a sequence writes only into a last block that it alone holds
//! and starts another otherwise. Nothing that is in a block is ever moved.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use lcr_formats::config::Config;

use super::attention::Sequence;
use super::cpu_slices::{matrix, with_all_values};

/// Tokens that a block has room for.
const BLOCK_TOKENS: usize = 32;

/// What a block holds of each token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheShape {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl CacheShape {
    pub(crate) fn of(config: &Config) -> Self {
        Self { layers: config.layers.len(), kv_heads: config.kv_heads, head_dim: config.head_dim }
    }

    /// Values of one head of one layer: its keys, or its values.
    fn head_values(self) -> usize {
        BLOCK_TOKENS * self.head_dim
    }
}

/// Keys and values of some tokens.
#[derive(Debug)]
struct Block {
    /// How many of its places are taken.
    tokens: usize,
    /// `[layers, keys and values, kv_heads, BLOCK_TOKENS, head_dim]`: what one task of attention reads lies together.
    values: Vec<f32>,
}

/// The blocks of one sequence. A clone shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockTable {
    blocks: Vec<Arc<Block>>,
    tokens: usize,
}

/// What is kept of a token's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Keys, after norm and rotation.
    Keys,
    /// Values.
    Values,
}

impl BlockTable {
    /// Tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens
    }

    /// Makes places for `count` tokens after the present ones; they count from now on.
    fn extend(&mut self, shape: CacheShape, count: usize) {
        self.tokens += count;
        let mut left = count;
        if let Some(last) = self.blocks.last_mut().and_then(Arc::get_mut) {
            let taken = left.min(BLOCK_TOKENS - last.tokens);
            last.tokens += taken;
            left -= taken;
        }
        while left > 0 {
            let tokens = left.min(BLOCK_TOKENS);
            let values = vec![0.0; shape.layers * 2 * shape.kv_heads * shape.head_values()];
            self.blocks.push(Arc::new(Block { tokens, values }));
            left -= tokens;
        }
    }

    /// Takes back the last [`BlockTable::extend`].
    fn shorten(&mut self, count: usize) {
        self.tokens -= count;
        let mut left = count;
        while left > 0 {
            let Some(last) = self.blocks.last_mut().and_then(Arc::get_mut) else { return };
            let taken = left.min(last.tokens);
            last.tokens -= taken;
            left -= taken;
            if last.tokens == 0 {
                self.blocks.pop();
            }
        }
    }

    /// The blocks that hold these tokens, with the index of a block's first token among `tokens` and its places.
    fn places(&self, tokens: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut end = 0;
        self.blocks.iter().enumerate().filter_map(move |(index, block)| {
            let start = end;
            end += block.tokens;
            let first = tokens.start.max(start);
            let last = tokens.end.min(end);
            (first < last).then(|| (index, first - start..last - start))
        })
    }
}

/// The sequences of one forward pass with their keys and values; the new tokens' places are made, layers fill them.
#[derive(Debug)]
pub struct Cache {
    shape: CacheShape,
    tables: Vec<BlockTable>,
}

impl Cache {
    /// Sequences in the order of the pass, each longer by as many tokens as it is about to read.
    pub(crate) fn new(shape: CacheShape, mut tables: Vec<BlockTable>, counts: &[usize]) -> Self {
        tables.iter_mut().zip(counts).for_each(|(table, count)| table.extend(shape, *count));
        Self { shape, tables }
    }

    /// Tokens of each sequence, the new ones included.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.tables.iter().map(BlockTable::len)
    }

    /// The sequences after the pass.
    pub(crate) fn into_tables(self) -> Vec<BlockTable> {
        self.tables
    }

    /// The sequences as they were before a pass that failed.
    pub(crate) fn undo(mut self, counts: &[usize]) -> Vec<BlockTable> {
        self.tables.iter_mut().zip(counts).for_each(|(table, count)| table.shorten(*count));
        self.tables
    }

    /// Where the block's keys or values of one head begin.
    fn start(&self, layer: usize, kept: Kept, head: usize) -> usize {
        ((layer * 2 + usize::from(kept == Kept::Values)) * self.shape.kv_heads + head) * self.shape.head_values()
    }

    /// Puts a layer's keys and values of the new tokens, `[tokens, kv_heads · head_dim]`, into their places.
    pub(crate) fn store(&mut self, layer: usize, keys: &Tensor, values: &Tensor, sequences: &[Sequence]) -> Result<()> {
        let (keys, values) = (keys.to_device(&Device::Cpu)?, values.to_device(&Device::Cpu)?);
        with_all_values(&[&keys, &values], |both| {
            for (kept, rows) in [Kept::Keys, Kept::Values].into_iter().zip(both) {
                for (index, sequence) in sequences.iter().enumerate() {
                    self.store_rows(layer, kept, index, rows, sequence);
                }
            }
        })
    }

    fn store_rows(&mut self, layer: usize, kept: Kept, index: usize, rows: &[f32], sequence: &Sequence) {
        let CacheShape { kv_heads, head_dim, .. } = self.shape;
        let starts: Vec<usize> = (0..kv_heads).map(|head| self.start(layer, kept, head)).collect();
        let Some(table) = self.tables.get_mut(index) else { return };
        let places: Vec<_> = table.places(table.tokens - sequence.queries.len()..table.tokens).collect();
        let mut rows = rows.chunks_exact(kv_heads * head_dim).skip(sequence.queries.start);
        for (block, places) in places {
            // New tokens lie in blocks that no other sequence holds: `extend` saw to that.
            let Some(block) = table.blocks.get_mut(block).and_then(Arc::get_mut) else { return };
            for (place, row) in places.zip(&mut rows) {
                for (start, head) in starts.iter().zip(row.chunks_exact(head_dim)) {
                    let first = start + place * head_dim;
                    block.values[first..first + head_dim].copy_from_slice(head);
                }
            }
        }
    }

    /// Keys or values of one head of `tokens` of a sequence, `[some of the tokens, head_dim]` each time.
    pub(crate) fn pieces(
        &self,
        sequence: usize,
        layer: usize,
        kept: Kept,
        head: usize,
        tokens: Range<usize>,
    ) -> impl Iterator<Item = &[f32]> {
        let start = self.start(layer, kept, head);
        let width = self.shape.head_dim;
        let table = &self.tables[sequence];
        table.places(tokens).map(move |(block, places)| {
            &table.blocks[block].values[start + places.start * width..start + places.end * width]
        })
    }

    /// Keys or values of all sequences one after another, `[tokens, kv_heads · head_dim]`.
    pub(crate) fn gather(&self, layer: usize, kept: Kept, device: &Device) -> Result<Tensor> {
        let CacheShape { kv_heads, head_dim, .. } = self.shape;
        let width = kv_heads * head_dim;
        let mut all = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            let mut rows = vec![0.0; table.tokens * width];
            for head in 0..kv_heads {
                let values = self.pieces(index, layer, kept, head, 0..table.tokens).flatten();
                let places =
                    rows.chunks_exact_mut(width).flat_map(|row| &mut row[head * head_dim..(head + 1) * head_dim]);
                places.zip(values).for_each(|(place, value)| *place = *value);
            }
            all.extend(rows);
        }
        matrix(all, width)?.to_device(device)
    }
}
