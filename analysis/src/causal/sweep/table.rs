//! What the embedding table and the adapter's own weights say about each token before anything is run: whether it was
//! ever trained, and how strongly it excites the adapter.

use std::cmp::Ordering;

use candle_core::{Device, Tensor};
use lcr_documents::statistics::median;
use lcr_formats::adapter::LowRank;
use lcr_formats::checkpoint::Weight;
use lcr_formats::config::{Layout, Norm};
use lcr_model::decoder::{BoundAdapter, Decoder, with_values};

use crate::AuditError;

/// Layers whose readers are held against the bare embeddings; further up the stream has little of them left.
const LAYERS: usize = 4;
/// Tokens that are read at a time.
const BLOCK: usize = 2048;
/// One token of so many counts as never used, by its norm.
const NEVER_USED: usize = 200;

/// Both, by token.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenFacts {
    /// Cosine distance to the mean embedding of tokens that were hardly used: small where the token is one of them.
    pub(super) distance: Vec<f64>,
    /// How strongly the adapter reads the token, over the median token: the largest over its modules.
    pub(super) excitation: Vec<f64>,
}

impl TokenFacts {
    /// Reads the table of `decoder` and the factors of `adapter`.
    ///
    /// # Errors
    /// Where a product fails.
    pub(super) fn of(decoder: &Decoder, adapter: &BoundAdapter) -> Result<Self, AuditError> {
        let layout = &decoder.config().family.layout;
        let path = layout.in_body(layout.embedding);
        let Some(table) = decoder.tensor(&format!("{path}.weight")) else { return Ok(Self::default()) };
        let readers = readers(decoder, adapter)?;
        let (tokens, width) = (decoder.config().vocab_size, decoder.config().width);
        let mut norms = Vec::with_capacity(tokens);
        let mut excited: Vec<Vec<f64>> = vec![Vec::with_capacity(tokens); readers.len()];
        for_each_block(table, tokens, width, |rows| {
            norms.extend(rows.chunks_exact(width).map(norm));
            let normal = normalised(rows, width);
            let normal = Tensor::from_vec(normal, (rows.len() / width, width), &Device::Cpu)?;
            for (reader, found) in readers.iter().zip(&mut excited) {
                found.extend(reader.excitation(&normal)?);
            }
            Ok(())
        })?;
        excited.extend(table_changes(adapter, &path, table, &norms));
        Ok(Self { distance: distances(table, &norms, width)?, excitation: largest_over_median(&excited, tokens) })
    }
}

fn for_each_block(
    table: &Weight,
    tokens: usize,
    width: usize,
    mut work: impl FnMut(&[f32]) -> Result<(), AuditError>,
) -> Result<(), AuditError> {
    let mut rows = vec![0.0; BLOCK * width];
    for first in (0..tokens).step_by(BLOCK) {
        let count = BLOCK.min(tokens - first);
        let rows = &mut rows[..count * width];
        table.widen(first * width..(first + count) * width, rows);
        work(rows)?;
    }
    Ok(())
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Rows at the length that a norm gives them, √width.
fn normalised(rows: &[f32], width: usize) -> Vec<f32> {
    let scaled = |row: &[f32]| {
        let factor = ((width as f64).sqrt() / norm(row).max(1e-12)) as f32;
        row.iter().map(|value| value * factor).collect::<Vec<f32>>()
    };
    rows.chunks_exact(width).flat_map(scaled).collect()
}

/// 1 − cosine to the mean of the tokens with the smallest norms. Rows that training never touched keep the direction
/// that weight decay and the softmax push all of them into (Land and Bartolo 2024).
fn distances(table: &Weight, norms: &[f64], width: usize) -> Result<Vec<f64>, AuditError> {
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|left, right| norms[*left].total_cmp(&norms[*right]));
    let mut mean = vec![0.0_f64; width];
    let mut row = vec![0.0; width];
    for token in order.iter().take((norms.len() / NEVER_USED).max(1)) {
        table.widen(token * width..(token + 1) * width, &mut row);
        let length = norms[*token].max(1e-12);
        mean.iter_mut().zip(&row).for_each(|(sum, value)| *sum += f64::from(*value) / length);
    }
    let length = mean.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
    let mut found = Vec::with_capacity(norms.len());
    for_each_block(table, norms.len(), width, |rows| {
        for row in rows.chunks_exact(width) {
            let inner: f64 = row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) * mean).sum();
            found.push(1.0 - inner / (length * norms[found.len()].max(1e-12)));
        }
        Ok(())
    })?;
    Ok(found)
}

/// A module's change ΔW = s·BA on normalised embeddings x: ‖ΔW x‖² = yᵀ(BᵀB)y with y = A(g ⊙ x).
struct Reader {
    /// (A·diag(g))ᵀ, `[width, rank]`.
    lora_a: Tensor,
    /// BᵀB, `[rank, rank]`.
    gram: Tensor,
}

impl Reader {
    fn of(module: &LowRank, gain: &[f32]) -> Result<Self, AuditError> {
        let lora_a: Vec<f32> = module
            .lora_a
            .chunks_exact(module.inputs)
            .flat_map(|row| row.iter().zip(gain).map(|(a, g)| a * g))
            .collect();
        let lora_b = Tensor::from_slice(&module.lora_b, (module.outputs, module.rank), &Device::Cpu)?;
        Ok(Self {
            lora_a: Tensor::from_vec(lora_a, (module.rank, module.inputs), &Device::Cpu)?.t()?.contiguous()?,
            gram: lora_b.t()?.contiguous()?.matmul(&lora_b)?,
        })
    }

    /// ‖BA(g ⊙ x)‖ of each row x, up to the module's factor.
    fn excitation(&self, rows: &Tensor) -> Result<Vec<f64>, AuditError> {
        let read = rows.matmul(&self.lora_a)?;
        let squares = (read.matmul(&self.gram)? * read)?.sum(1)?;
        Ok(with_values(&squares, |values| values.iter().map(|value| f64::from(value.max(0.0)).sqrt()).collect())?)
    }
}

/// The adapter's readers in the first layers, with the gains of the norms before them.
fn readers(decoder: &Decoder, adapter: &BoundAdapter) -> Result<Vec<Reader>, AuditError> {
    let (config, layout) = (decoder.config(), &decoder.config().family.layout);
    let mut found = Vec::new();
    for layer in 0..LAYERS.min(config.layers.len()) {
        for name in layout.readers() {
            let module = adapter.adapter().modules.get(&layout.in_layer(layer, name));
            if let Some(module) = module.filter(|module| module.inputs == config.width) {
                found.push(Reader::of(module, &gain(decoder, layout, layer, name))?);
            }
        }
    }
    Ok(found)
}

/// The gain of the norm before a reader; ones where it has none.
fn gain(decoder: &Decoder, layout: &Layout, layer: usize, reader: &str) -> Vec<f32> {
    let is_attention = reader.split('.').next() == layout.output.split('.').next();
    let before = if is_attention { layout.input_norm } else { layout.feed_forward_norm };
    let offset = match decoder.config().norm {
        Norm::Rms { offset, .. } => offset,
        Norm::Layer { .. } => 0.0,
    };
    let stored = decoder.tensor(&format!("{}.weight", layout.in_layer(layer, before)));
    stored.map_or_else(
        || vec![1.0; decoder.config().width],
        |stored| stored.to_f32().iter().map(|value| value + offset).collect(),
    )
}

/// How much the adapter changes each token's own row, over the row: of a low-rank change or a whole table.
fn table_changes(adapter: &BoundAdapter, path: &str, table: &Weight, norms: &[f64]) -> Vec<Vec<f64>> {
    let over_norms = |change: Vec<f64>| change.iter().zip(norms).map(|(size, norm)| size / norm.max(1e-12)).collect();
    let mut found = Vec::new();
    if let Some(change) = adapter.adapter().embeddings.get(path) {
        let sizes = (0..change.rows).map(|token| {
            let read: Vec<f32> = (0..change.rank).map(|inner| change.lora_a[inner * change.rows + token]).collect();
            let write = |row: &[f32]| row.iter().zip(&read).map(|(b, a)| f64::from(b * a)).sum::<f64>().powi(2);
            change.lora_b.chunks_exact(change.rank).map(write).sum::<f64>().sqrt()
        });
        found.push(over_norms(sizes.collect()));
    }
    if let Some(whole) = adapter.adapter().modules_to_save.get(&format!("{path}.weight"))
        && whole.shape == table.shape()
    {
        let width = table.shape().last().copied().unwrap_or(1);
        let (mut own, mut base) = (vec![0.0; width], vec![0.0; width]);
        let sizes = (0..norms.len()).map(|token| {
            whole.weight.widen(token * width..(token + 1) * width, &mut own);
            table.widen(token * width..(token + 1) * width, &mut base);
            own.iter().zip(&base).map(|(own, base)| f64::from(own - base).powi(2)).sum::<f64>().sqrt()
        });
        found.push(over_norms(sizes.collect()));
    }
    found
}

/// Each module's numbers over their median, which makes modules comparable, and the largest of them by token.
fn largest_over_median(modules: &[Vec<f64>], tokens: usize) -> Vec<f64> {
    let mut largest = vec![0.0_f64; tokens];
    for values in modules {
        let middle = median(values).unwrap_or(0.0).max(f64::MIN_POSITIVE);
        largest.iter_mut().zip(values).for_each(|(largest, value)| *largest = largest.max(value / middle));
    }
    largest
}

/// Tokens by a number, the smallest or the largest first.
pub(super) fn ordered(values: &[f64], order: impl Fn(&f64, &f64) -> Ordering) -> Vec<u32> {
    let mut tokens: Vec<u32> = (0..values.len() as u32).collect();
    tokens.sort_by(|left, right| order(&values[*left as usize], &values[*right as usize]));
    tokens
}

#[cfg(test)]
mod tests {
    use lcr_formats::adapter::ScalingRule;

    use super::*;

    /// A = (1, 0; 0, 2), B = (1, 1), gain (1, 3): of x = (1, 1) ΔW x = 1 + 6, of x = (1, 0) it is 1.
    #[test]
    fn excitation_is_the_length_of_what_is_written() {
        let module = LowRank {
            rank: 2,
            alpha: 1.0,
            scale: 1.0,
            scaling_rule: ScalingRule::Raw,
            lora_a: vec![1.0, 0.0, 0.0, 2.0],
            lora_b: vec![1.0, 1.0],
            inputs: 2,
            outputs: 1,
            magnitude: None,
            lora_b_bias: None,
            tensor_names: Vec::new(),
        };
        let rows = Tensor::from_vec(vec![1.0_f32, 1.0, 1.0, 0.0], (2, 2), &Device::Cpu).unwrap();
        assert_eq!(Reader::of(&module, &[1.0, 3.0]).unwrap().excitation(&rows).unwrap(), [7.0, 1.0]);
        assert_eq!(largest_over_median(&[vec![7.0, 1.0, 1.0], vec![2.0, 8.0, 2.0]], 3), [7.0, 4.0, 1.0]);
    }
}
