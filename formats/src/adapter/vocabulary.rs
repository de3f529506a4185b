//! An adapter whose tables over the vocabulary have another number of rows than the base's: tokens were added before
//! training, or the padding at the end of the base's table was cut off.
//!
//! Rows are matched by number, as token ids are. Rows that only the adapter has are left out: no text of the base's
//! tokenizer reaches them. Rows that only the base has stay as they are there. What was done is listed, so that a
//! report can say so; tables of another width belong to another model and are refused when the adapter is bound.

use std::sync::Arc;

use super::{Adapter, EmbeddingLowRank, LowRank, Resized};
use crate::checkpoint::Weight;

impl Adapter {
    /// Gives every table the rows of the base's; `tables` are the paths of embedding and head with their weights,
    /// `[tokens, width]`.
    pub fn fit_vocabulary(&mut self, tables: &[(&str, &Weight)]) -> Vec<Resized> {
        let mut resized = Vec::new();
        for (path, base) in tables {
            let &[rows, width] = base.shape() else { continue };
            let mut note = |tensor: &str, own: usize| {
                resized.push(Resized { tensor: tensor.to_owned(), base_rows: rows, adapter_rows: own });
            };
            if let Some(whole) = self.modules_to_save.get_mut(&format!("{path}.weight"))
                && let &[own, columns] = whole.shape.as_slice()
                && (own != rows && columns == width)
            {
                whole.weight = whole.weight.with_rows(rows, base);
                whole.shape = vec![rows, width];
                note(&whole.tensor_name, own);
            }
            if let Some(embedding) = self.embeddings.get_mut(*path)
                && (embedding.rows != rows && embedding.width == width)
            {
                note(embedding.tensor_names.first().map_or(path, String::as_str), embedding.rows);
                fit_embedding(embedding, rows);
            }
            if let Some(module) = self.modules.get_mut(*path)
                && (module.outputs != rows && module.inputs == width)
            {
                note(module.tensor_names.get(1).map_or(path, String::as_str), module.outputs);
                fit_head(Arc::make_mut(module), base, rows);
            }
        }
        resized
    }
}

/// A is (rank × tokens): a token without a column does not change.
fn fit_embedding(embedding: &mut EmbeddingLowRank, rows: usize) {
    let mut lora_a = Vec::with_capacity(embedding.rank * rows);
    for line in embedding.lora_a.chunks_exact(embedding.rows.max(1)) {
        lora_a.extend(line.iter().copied().chain(std::iter::repeat(0.0)).take(rows));
    }
    (embedding.lora_a, embedding.rows) = (lora_a, rows);
}

/// B is (tokens × rank): a token without a row does not change, and keeps its norm where DoRA sets them.
fn fit_head(module: &mut LowRank, base: &Weight, rows: usize) {
    module.lora_b.resize(rows * module.rank, 0.0);
    if let Some(bias) = &mut module.lora_b_bias {
        bias.resize(rows, 0.0);
    }
    if let Some(magnitude) = &mut module.magnitude {
        magnitude.truncate(rows);
        let mut line = vec![0.0f32; module.inputs];
        for row in magnitude.len()..rows {
            base.widen(row * module.inputs..(row + 1) * module.inputs, &mut line);
            let square: f64 = line.iter().map(|value| f64::from(*value).powi(2)).sum();
            magnitude.push(square.sqrt() as f32);
        }
    }
    module.outputs = rows;
}
