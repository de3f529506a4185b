//! Adapters of this one's size without its content: what any change so large would do.

use std::sync::Arc;

use lcr_formats::adapter::{Adapter, EmbeddingLowRank, LowRank, ReplacedWeight};
use lcr_formats::checkpoint::Weight;
use lcr_model::decoder::{BoundAdapter, Decoder, ModelError};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::causal::dose::with_ratios;

/// An adapter that changes the same modules by as much in random directions.
///
/// Every low-rank change keeps its singular values and gets random singular vectors; DoRA's ratios of new to old row
/// norms, biases' and whole tensors' changes are permuted and given random signs, which keeps a matrix's singular
/// values too. `seed` and the module's path decide each draw.
///
/// # Errors
/// As binding the adapter itself.
pub fn random_adapter(decoder: &Decoder, of: &BoundAdapter, seed: u64) -> Result<BoundAdapter, ModelError> {
    let own = of.adapter();
    let mut random = own.clone();
    random.modules = own
        .modules
        .iter()
        .map(|(path, module)| (path.clone(), Arc::new(random_module(module, &mut generator(seed, path)))))
        .collect();
    random.embeddings = own
        .embeddings
        .iter()
        .map(|(path, table)| (path.clone(), random_table(table, &mut generator(seed, path))))
        .collect();
    for (name, whole) in &mut random.modules_to_save {
        if let Some(weight) = decoder.tensor(name).and_then(|base| {
            let base = base.to_f32();
            let values = signed_permutation(&whole.shape, &base, &whole.weight.to_f32(), &mut generator(seed, name));
            whole.weight.with_values(&whole.shape, &values)
        }) {
            *whole = ReplacedWeight { weight, ..whole.clone() };
        }
    }
    for (path, bias) in &mut random.biases {
        let base = decoder.tensor(&format!("{path}.bias")).map_or_else(|| vec![0.0; bias.len()], Weight::to_f32);
        *bias = signed_permutation(&[bias.len()], &base, bias, &mut generator(seed, &format!("{path}.bias")));
    }
    let bound = decoder.bind(random)?;
    if own.modules.values().all(|module| module.magnitude.is_none()) {
        return Ok(bound);
    }
    decoder.bind(with_shuffled_ratios(decoder, of, &bound, seed))
}

/// Random draws of one module under one seed.
fn generator(seed: u64, path: &str) -> ChaCha8Rng {
    let mut state = seed ^ 0x6c63_722d_6e75_6c6c;
    for byte in path.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    ChaCha8Rng::seed_from_u64(state)
}

/// The module with random factors; a magnitude of ones stands where the ratio will be put in.
fn random_module(module: &LowRank, draw: &mut ChaCha8Rng) -> LowRank {
    let (lora_b, lora_a) = module.factored().random_like(draw);
    let magnitude = module.magnitude.as_ref().map(|own| vec![1.0; own.len()]);
    let lora_b_bias = module.lora_b_bias.as_ref().map(|bias| {
        let scaled: Vec<f32> = bias.iter().map(|value| (f64::from(*value) * module.scale) as f32).collect();
        signed_permutation(&[scaled.len()], &vec![0.0; scaled.len()], &scaled, draw)
    });
    LowRank { scale: 1.0, lora_a, lora_b, magnitude, lora_b_bias, ..module.clone() }
}

fn random_table(table: &EmbeddingLowRank, draw: &mut ChaCha8Rng) -> EmbeddingLowRank {
    // The module form is the transpose: its B is the table's, (width × rank), and its A, (rank × tokens).
    let (lora_b, lora_a) = table.as_low_rank().factored().random_like(draw);
    EmbeddingLowRank { scale: 1.0, lora_a, lora_b, ..table.clone() }
}

/// The adapter of `bound`, whose magnitudes are ones, with the ratios of `of` in another order: m'ᵢ = ratio_π(i)·n'ᵢ.
fn with_shuffled_ratios(decoder: &Decoder, of: &BoundAdapter, bound: &BoundAdapter, seed: u64) -> Adapter {
    let paths = bound.adapter().modules.keys();
    let ratios = paths.filter_map(|path| {
        let mut ratios: Vec<f64> = of.ratio_of(decoder, path)?.iter().map(|ratio| f64::from(*ratio)).collect();
        ratios.shuffle(&mut generator(seed, &format!("{path}.magnitude")));
        Some((path.clone(), ratios))
    });
    with_ratios(decoder, bound, &ratios.collect())
}

/// `base` plus the change that leads to `adapted`, its rows and columns in another order and with random signs.
///
/// A permutation with signs is orthogonal, so the change of a matrix keeps its singular values without being
/// decomposed.
fn signed_permutation(shape: &[usize], base: &[f32], adapted: &[f32], draw: &mut ChaCha8Rng) -> Vec<f32> {
    let columns = if shape.len() == 2 { shape[1].max(1) } else { 1 };
    let rows = base.len() / columns;
    let mut order = |count: usize| -> Vec<(usize, f32)> {
        let mut places: Vec<usize> = (0..count).collect();
        places.shuffle(draw);
        places.into_iter().map(|place| (place, if draw.random::<bool>() { 1.0 } else { -1.0 })).collect()
    };
    let (of_row, of_column) = (order(rows), order(columns));
    let mut values = base.to_vec();
    for (line, (row, row_sign)) in values.chunks_exact_mut(columns).zip(&of_row) {
        for (value, (column, column_sign)) in line.iter_mut().zip(&of_column) {
            let place = row * columns + column;
            *value += (adapted[place] - base[place]) * row_sign * column_sign;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes 3, 4 and 0 on a diagonal stay three numbers of that size, one in each row and column.
    #[test]
    fn a_permutation_with_signs_keeps_the_singular_values() {
        let base = [1.0_f32; 9];
        let mut adapted = base;
        (adapted[0], adapted[4]) = (4.0, 5.0);
        let found = signed_permutation(&[3, 3], &base, &adapted, &mut generator(1, "w"));
        let changes: Vec<f32> = found.iter().zip(&base).map(|(new, old)| new - old).collect();
        let mut sizes: Vec<f32> = changes.iter().map(|change| change.abs()).filter(|size| *size > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        assert_eq!(sizes, [3.0, 4.0]);
        let rows = changes.chunks(3).filter(|row| row.iter().any(|value| *value != 0.0)).count();
        assert_eq!(rows, 2);
    }
}
