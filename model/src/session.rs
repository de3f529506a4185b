//! Many sequences of one model, read together.
//!
//! Decoding is bound by reading the weights, so sequences that go on at the same time are given to one forward pass,
//! which reads each weight once for all of them. Sequences may have read different numbers of tokens and may read
//! different numbers of new ones: a prompt, an injected chunk and single tokens go through together. A fork shares
//! everything read so far. What a session computes equals, up to the order of sums in f32, one pass over each whole
//! sequence.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::decoder::{
    BlockTable, BoundAdapter, Branches, Cache, CacheShape, Decoder, ForwardBatch, Hooks, Input, ModelError, Sequence,
    with_values,
};

/// A sequence of a [`Session`]: valid in the session that gave it, until it is closed. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u64);

/// What one sequence has come to after a [`Session::step`]: all of its last token or vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Logits of the next token, `[vocab]`.
    pub logits: Vec<f32>,
    /// The stream after the last layer, `resid.N`, `[width]`.
    pub hidden: Vec<f32>,
    /// The same behind the final norm, `[width]`: what transformers calls the last hidden state, and Coconut reads
    /// next.
    pub normal: Vec<f32>,
}

/// The last rows of a pass, one per sequence.
struct LastRows {
    hidden: Branches,
    normal: Branches,
    logits: Branches,
}

/// Many sequences of one model, read together.
#[derive(Debug)]
pub struct Session<'a> {
    decoder: &'a Decoder,
    variant: Option<&'a BoundAdapter>,
    tables: BTreeMap<SequenceId, BlockTable>,
    next: u64,
}

impl<'a> Session<'a> {
    /// No sequences yet, of the base or of one of its variants.
    pub fn new(decoder: &'a Decoder, variant: Option<&'a BoundAdapter>) -> Self {
        Self { decoder, variant, tables: BTreeMap::new(), next: 0 }
    }

    /// An empty sequence.
    pub fn open(&mut self) -> SequenceId {
        self.insert(Some(BlockTable::default()))
    }

    /// A sequence that has read what `id` has, shares its keys and values without a copy, and parts from it here.
    ///
    /// The fork of a closed sequence is a closed one: [`Session::read`] refuses it.
    pub fn fork(&mut self, id: SequenceId) -> SequenceId {
        let table = self.tables.get(&id).cloned();
        self.insert(table)
    }

    /// Frees what no other sequence shares. Closing twice does nothing.
    pub fn close(&mut self, id: SequenceId) {
        self.tables.remove(&id);
    }

    /// Tokens read so far; none of a closed sequence.
    pub fn len(&self, id: SequenceId) -> usize {
        self.tables.get(&id).map_or(0, BlockTable::len)
    }

    /// Whether no sequence is open.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    fn insert(&mut self, table: Option<BlockTable>) -> SequenceId {
        let id = SequenceId(self.next);
        self.next += 1;
        if let Some(table) = table {
            self.tables.insert(id, table);
        }
        id
    }

    /// Feeds each sequence its tokens, one or many, in one forward pass; returns the logits `[vocab]` after the last
    /// token of each, in the order of the requests.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn read(&mut self, requests: &[(SequenceId, &[u32])]) -> Result<Vec<Vec<f32>>, ModelError> {
        let inputs: Vec<_> = requests.iter().map(|(id, tokens)| (*id, Input::Tokens(tokens))).collect();
        match self.run(&inputs)? {
            Some(last) => host_rows(&last.logits),
            None => Ok(Vec::new()),
        }
    }

    /// Feeds each sequence tokens or vectors, one or many, in one forward pass; returns what each has come to, in the
    /// order of the requests.
    ///
    /// # Errors
    /// For a sequence that is closed or named twice, a request without tokens, a token outside the vocabulary (`prompt`
    /// is the request's index, `position` that in the sequence), vectors that are not finite rows of the model's width,
    /// a sequence that would become longer than the model has positions, or a tensor operation that failed. After an
    /// error all sequences are as they were.
    pub fn step(&mut self, requests: &[(SequenceId, Input)]) -> Result<Vec<Step>, ModelError> {
        let Some(last) = self.run(requests)? else { return Ok(Vec::new()) };
        let parts = host_rows(&last.logits)?.into_iter().zip(host_rows(&last.hidden)?).zip(host_rows(&last.normal)?);
        Ok(parts.map(|((logits, hidden), normal)| Step { logits, hidden, normal }).collect())
    }

    /// One pass over all requests; `None` where there are none.
    fn run(&mut self, requests: &[(SequenceId, Input)]) -> Result<Option<LastRows>, ModelError> {
        self.check(requests)?;
        if requests.is_empty() {
            return Ok(None);
        }
        let width = self.decoder.config().width;
        let counts: Vec<usize> = requests.iter().map(|(_, input)| input.rows(width)).collect();
        let tables = requests.iter().filter_map(|(id, _)| self.tables.remove(id)).collect();
        let mut cache = Cache::new(CacheShape::of(self.decoder.config()), tables, &counts);
        // On a thread of the pool: coming from outside, each of the hundreds of small parallel products of a pass would
        // have to wake it.
        let result = rayon::scope(|_| self.forward(requests, &counts, &mut cache));
        let tables = if result.is_ok() { cache.into_tables() } else { cache.undo(&counts) };
        self.tables.extend(requests.iter().map(|(id, _)| *id).zip(tables));
        result.map(Some)
    }

    /// Refuses requests that cannot be read.
    fn check(&self, requests: &[(SequenceId, Input)]) -> Result<(), ModelError> {
        let config = self.decoder.config();
        for (request, (id, input)) in requests.iter().enumerate() {
            let Some(table) = self.tables.get(id) else { return Err(ModelError::ClosedSequence { request }) };
            if let Some(first) = requests[..request].iter().position(|(earlier, _)| earlier == id) {
                return Err(ModelError::RepeatedSequence { first, second: request });
            }
            if let Input::Vectors(values) = input {
                check_vectors(request, values, config.width)?;
            }
            let rows = input.rows(config.width);
            if rows == 0 {
                return Err(ModelError::NothingToRead { request });
            }
            let length = table.len() + rows;
            if length > config.max_positions {
                return Err(ModelError::TooLong { prompt: request, length, limit: config.max_positions });
            }
            let Input::Tokens(tokens) = input else { continue };
            if let Some(index) = tokens.iter().position(|token| *token as usize >= config.vocab_size) {
                return Err(ModelError::Token {
                    token: tokens[index],
                    prompt: request,
                    position: table.len() + index,
                    vocab_size: config.vocab_size,
                });
            }
        }
        Ok(())
    }

    fn forward(
        &self,
        requests: &[(SequenceId, Input)],
        counts: &[usize],
        cache: &mut Cache,
    ) -> Result<LastRows, ModelError> {
        let inputs: Vec<Input> = requests.iter().map(|(_, input)| *input).collect();
        let (mut query, mut key) = (0, 0);
        let mut positions = Vec::with_capacity(counts.iter().sum());
        let mut sequences = Vec::with_capacity(requests.len());
        for (count, length) in counts.iter().zip(cache.lengths()) {
            sequences.push(Sequence { queries: query..query + count, keys: key..key + length });
            positions.extend(length - count..length);
            query += count;
            key += length;
        }
        let last: Vec<u32> = sequences.iter().map(|sequence| sequence.queries.end as u32 - 1).collect();
        let batch = ForwardBatch::new(self.decoder.config(), sequences, &positions, vec![self.variant]);
        let stream = self.decoder.embed_inputs(&inputs, &positions, &batch.variants)?;
        let stream = self.decoder.forward(stream, &batch, Some(cache), &mut Hooks::default())?;
        let hidden = if last.len() == positions.len() { stream } else { select(&stream, &last)? };
        let normal = self.decoder.final_normal(&hidden, &batch.variants)?;
        let logits = self.decoder.logits_of_normal(&normal, &batch.variants)?;
        Ok(LastRows { hidden, normal, logits })
    }
}

fn check_vectors(request: usize, values: &[f32], width: usize) -> Result<(), ModelError> {
    if !values.len().is_multiple_of(width) {
        return Err(ModelError::VectorWidth { request, values: values.len(), width });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(ModelError::VectorNotFinite { request, vector: index / width }),
        None => Ok(()),
    }
}

/// The only model's rows.
fn host_rows(rows: &Branches) -> Result<Vec<Vec<f32>>, ModelError> {
    let host = rows.model(0).to_device(&Device::Cpu)?;
    let width = host.dim(1)?;
    Ok(with_values(&host, |values| values.chunks_exact(width).map(<[f32]>::to_vec).collect())?)
}

/// Some of the rows.
fn select(stream: &Branches, rows: &[u32]) -> candle_core::Result<Branches> {
    stream.map(|values| values.index_select(&Tensor::from_slice(rows, rows.len(), values.device())?, 0))
}
