//! What enters the first layer: tokens' embeddings, or vectors in their place, with positions where they are learned.

use candle_core::{Result, Tensor};
use lcr_formats::adapter::EmbeddingLowRank;
use lcr_formats::checkpoint::Weight;

use super::bound_adapter::{BoundAdapter, ModuleId};
use super::branches::Branches;
use super::cpu_slices::matrix;
use super::{Decoder, ModelError};

/// Token embeddings, and learned positions where the family has them.
#[derive(Debug)]
pub(super) struct Embedding {
    pub(super) id: ModuleId,
    pub(super) path: String,
    pub(super) tokens: Weight,
    pub(super) positions: Option<Weight>,
}

/// What a sequence reads next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input<'a> {
    /// Tokens by their ids.
    Tokens(&'a [u32]),
    /// Rows `[count, width]` in place of embeddings, as continuous thoughts are (Hao et al. 2024): behind the family's
    /// factor on embeddings, before learned positions. An adapter's change of the embedding is one of tokens and does
    /// not touch them.
    Vectors(&'a [f32]),
}

impl Input<'_> {
    /// Rows of a stream of this width.
    pub(crate) fn rows(self, width: usize) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Vectors(values) => values.len() / width.max(1),
        }
    }
}

impl Decoder {
    /// `resid.0` of every model, `[tokens, width]`; `positions` are those of the tokens in their sequences.
    ///
    /// Tokens and positions must have passed [`Decoder::check_prompts`].
    pub fn embed(
        &self,
        tokens: &[u32],
        positions: &[usize],
        variants: &[Option<&BoundAdapter>],
    ) -> std::result::Result<Branches, ModelError> {
        self.embed_inputs(&[Input::Tokens(tokens)], positions, variants)
    }

    /// The same for tokens and vectors, one input after another; vectors must be finite and in whole rows.
    pub fn embed_inputs(
        &self,
        inputs: &[Input],
        positions: &[usize],
        variants: &[Option<&BoundAdapter>],
    ) -> std::result::Result<Branches, ModelError> {
        let base = self.embed_rows(&self.embedding.tokens, inputs, positions)?;
        let mut tensors = Vec::new();
        let mut of_model = vec![0; variants.len()];
        let mut shared = None;
        for (model, variant) in variants.iter().enumerate() {
            let low_rank = variant.and_then(|variant| variant.embedding(&self.embedding.path));
            let whole = variant.and_then(|variant| variant.module(self.embedding.id)?.replaced());
            let own = match (low_rank, whole) {
                (None, None) => None,
                (_, Some(weight)) => Some(self.embed_rows(weight, inputs, positions)?),
                (Some(_), None) => Some(base.clone()),
            };
            let Some(mut rows) = own else {
                of_model[model] = *shared.get_or_insert_with(|| {
                    tensors.push(base.clone());
                    tensors.len() - 1
                });
                continue;
            };
            if let Some(low_rank) = low_rank {
                self.add_embedding_changes(low_rank, inputs, &mut rows);
            }
            tensors.push(rows);
            of_model[model] = tensors.len() - 1;
        }
        let width = self.config.width;
        let tensors = tensors
            .into_iter()
            .map(|rows| matrix(rows, width)?.to_device(&self.device))
            .collect::<Result<Vec<Tensor>>>()?;
        Ok(Branches::new(tensors, of_model))
    }

    fn embed_rows(
        &self,
        weight: &Weight,
        inputs: &[Input],
        positions: &[usize],
    ) -> std::result::Result<Vec<f32>, ModelError> {
        let width = self.config.width;
        let mut rows = vec![0.0; positions.len() * width];
        let mut rest = rows.as_mut_slice();
        for input in inputs {
            let (own, after) = rest.split_at_mut(input.rows(width) * width);
            rest = after;
            match input {
                Input::Vectors(values) => own.copy_from_slice(&values[..own.len()]),
                Input::Tokens(tokens) => self.embed_tokens(weight, tokens, own)?,
            }
        }
        if let Some(learned) = &self.embedding.positions {
            add_positions(learned, positions, width, &mut rows)?;
        }
        Ok(rows)
    }

    fn embed_tokens(&self, weight: &Weight, tokens: &[u32], rows: &mut [f32]) -> std::result::Result<(), ModelError> {
        let width = self.config.width;
        for (row, &token) in rows.chunks_exact_mut(width).zip(tokens) {
            let start = token as usize * width;
            weight.widen(start..start + width, row);
            row.iter_mut().for_each(|value| *value *= self.config.embedding_scale);
            if !row.iter().all(|value| value.is_finite()) {
                weight.to_finite_f32()?;
                return Err(ModelError::Overflow { model: format!("token {token}"), place: 0, layer: 0 });
            }
        }
        Ok(())
    }

    /// Each token's part of a low-rank change of the embedding.
    fn add_embedding_changes(&self, low_rank: &EmbeddingLowRank, inputs: &[Input], rows: &mut [f32]) {
        let width = self.config.width;
        let mut rest = rows;
        for input in inputs {
            let (own, after) = rest.split_at_mut(input.rows(width) * width);
            rest = after;
            if let Input::Tokens(tokens) = input {
                for (row, &token) in own.chunks_exact_mut(width).zip(*tokens) {
                    add_embedding_change(low_rank, token as usize, self.config.embedding_scale, row);
                }
            }
        }
    }
}

/// row += the learned vector of its position.
fn add_positions(
    learned: &Weight,
    positions: &[usize],
    width: usize,
    rows: &mut [f32],
) -> std::result::Result<(), ModelError> {
    let mut shift = vec![0.0; width];
    for (row, &position) in rows.chunks_exact_mut(width).zip(positions) {
        learned.widen(position * width..(position + 1) * width, &mut shift);
        row.iter_mut().zip(&shift).for_each(|(value, shift)| *value += shift);
        if !row.iter().all(|value| value.is_finite()) {
            learned.to_finite_f32()?;
            return Err(ModelError::Overflow { model: format!("position {position}"), place: 0, layer: 0 });
        }
    }
    Ok(())
}

/// row += scale · s · (BA)ᵀ of one token.
fn add_embedding_change(low_rank: &EmbeddingLowRank, token: usize, scale: f32, row: &mut [f32]) {
    let factor = low_rank.scale as f32 * scale;
    for inner in 0..low_rank.rank {
        let lora_a = low_rank.lora_a[inner * low_rank.rows + token] * factor;
        for (value, lora_b) in row.iter_mut().zip(low_rank.lora_b.chunks_exact(low_rank.rank)) {
            *value += lora_a * lora_b[inner];
        }
    }
}
