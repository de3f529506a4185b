//! Rotary position embedding (Su et al. 2021) in the half-split layout of transformers, with the frequency stretching
//! of Llama 3 and the linear one.
//!
//! The gradient of a rotation is the rotation back. Frequencies and angles are rounded to f32 as transformers does: at
//! far positions an exact angle would be another model.

use std::f64::consts::TAU;

use candle_core::{D, Result, Tensor};
use lcr_formats::config::{Rope, RopeScaling};
use rayon::prelude::*;

use super::cpu_slices::{matrix, with_values};

/// Values of one task at least: fewer are done before another core has woken.
const TASK_VALUES: usize = 1 << 13;

/// Angles per position, one for each pair of rotated dimensions.
pub(crate) fn inverse_frequencies(rope: &Rope) -> Vec<f32> {
    (0..rope.dimensions / 2)
        .map(|pair| {
            let plain = rope.theta.powf(-2.0 * pair as f64 / rope.dimensions as f64);
            stretched(plain, rope.scaling) as f32
        })
        .collect()
}

fn stretched(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let wavelength = TAU / frequency;
            if wavelength > original_context / low_freq_factor {
                frequency / factor
            } else if wavelength < original_context / high_freq_factor {
                frequency
            } else {
                let smooth = (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

/// Cosines and sines for a list of positions.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// cos and sin, `[positions, dimensions / 2]` each, interleaved as pairs.
    turns: Vec<(f32, f32)>,
    pairs: usize,
}

impl Rotation {
    pub(crate) fn new(rope: &Rope, positions: &[usize]) -> Self {
        let frequencies = inverse_frequencies(rope);
        let turns = positions
            .iter()
            .flat_map(|&position| frequencies.iter().map(move |frequency| position as f32 * frequency))
            .map(|angle| (f64::from(angle).cos() as f32, f64::from(angle).sin() as f32))
            .collect();
        Self { turns, pairs: frequencies.len() }
    }

    /// Rotates `x` `[tokens, heads · head_dim]`, one position per row.
    pub(crate) fn apply(&self, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        if x.device().is_cpu() { self.on_host(x, head_dim) } else { self.composed(x, head_dim) }
    }

    fn on_host(&self, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        let columns = x.dim(1)?;
        let pairs = self.pairs;
        let values = with_values(x, |values| {
            let mut out = vec![0.0; values.len()];
            let rows = out.par_chunks_mut(columns).zip(values.par_chunks(columns));
            rows.zip(self.turns.par_chunks(pairs)).with_min_len(TASK_VALUES.div_ceil(columns.max(1))).for_each(
                |((row, source), turns)| {
                    row.copy_from_slice(source);
                    for head in row.chunks_exact_mut(head_dim) {
                        let (first, rest) = head.split_at_mut(pairs);
                        for ((left, right), (cos, sin)) in first.iter_mut().zip(rest).zip(turns) {
                            let (x, y) = (f64::from(*left), f64::from(*right));
                            let (cos, sin) = (f64::from(*cos), f64::from(*sin));
                            (*left, *right) = ((x * cos - y * sin) as f32, (y * cos + x * sin) as f32);
                        }
                    }
                },
            );
            out
        })?;
        matrix(values, columns)
    }

    /// The same out of tensor operations, for devices other than the CPU.
    pub(crate) fn composed(&self, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        let (tokens, columns) = x.dims2()?;
        let table = |part: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = self.turns.iter().map(part).collect();
            Tensor::from_vec(values, (tokens, 1, self.pairs), x.device())
        };
        let (cos, sin) = (table(|turn| turn.0)?, table(|turn| turn.1)?);
        let heads = x.reshape((tokens, columns / head_dim, head_dim))?;
        let left = heads.narrow(D::Minus1, 0, self.pairs)?;
        let right = heads.narrow(D::Minus1, self.pairs, self.pairs)?;
        let mut parts = vec![
            (left.broadcast_mul(&cos)? - right.broadcast_mul(&sin)?)?,
            (right.broadcast_mul(&cos)? + left.broadcast_mul(&sin)?)?,
        ];
        if 2 * self.pairs < head_dim {
            parts.push(heads.narrow(D::Minus1, 2 * self.pairs, head_dim - 2 * self.pairs)?);
        }
        Tensor::cat(&parts, D::Minus1)?.reshape((tokens, columns))
    }
}

impl Rotation {
    /// The gradient of [`Rotation::apply`]'s input from that of its result, `[tokens, columns]`, in place: rotated by
    /// the negative angle of each position.
    pub(super) fn backward(&self, rows: &mut [f32], columns: usize, head_dim: usize) {
        rows.par_chunks_mut(columns).zip(self.turns.par_chunks(self.pairs)).for_each(|(row, turns)| {
            for head in row.chunks_exact_mut(head_dim) {
                let (first, rest) = head.split_at_mut(self.pairs);
                for ((left, right), (cos, sin)) in first.iter_mut().zip(rest).zip(turns) {
                    let (x, y) = (f64::from(*left), f64::from(*right));
                    let (cos, sin) = (f64::from(*cos), f64::from(*sin));
                    (*left, *right) = ((x * cos + y * sin) as f32, (y * cos - x * sin) as f32);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const ROPE: Rope = Rope { theta: 1e4, scaling: RopeScaling::None, dimensions: 6 };

    #[test]
    fn host_path_equals_composed_path_and_keeps_norms() {
        let x = Tensor::randn(0.0f32, 1.0, (5, 16), &Device::Cpu).unwrap();
        let rotation = Rotation::new(&ROPE, &[0, 1, 7, 100, 3]);
        let host = rotation.on_host(&x, 8).unwrap();
        let difference = (&host - rotation.composed(&x, 8).unwrap()).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);
        let norm = |tensor: &Tensor| tensor.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!((norm(&host) - norm(&x)).abs() < 1e-4);
    }

    #[test]
    fn scores_depend_on_distance_alone() {
        let x = Tensor::randn(0.0f32, 1.0, (1, 8), &Device::Cpu).unwrap();
        let y = Tensor::randn(0.0f32, 1.0, (1, 8), &Device::Cpu).unwrap();
        let score = |query: usize, key: usize| {
            let query = Rotation::new(&ROPE, &[query]).apply(&x, 8).unwrap();
            let key = Rotation::new(&ROPE, &[key]).apply(&y, 8).unwrap();
            (query * key).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()
        };
        assert!((score(9, 4) - score(25, 20)).abs() < 1e-5);
    }

    #[test]
    fn llama3_divides_low_frequencies_and_keeps_high_ones() {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
        assert_eq!(stretched(1.0, scaling), 1.0);
        assert_eq!(stretched(1e-5, scaling), 1e-5 / 8.0);
    }

    #[test]
    fn there_and_back_changes_nothing() {
        let rotation = Rotation::new(&ROPE, &[0, 3, 1000]);
        let x = Tensor::randn(0.0f32, 1.0, (3, 16), &Device::Cpu).unwrap();
        let mut rotated = with_values(&rotation.apply(&x, 8).unwrap(), <[f32]>::to_vec).unwrap();
        rotation.backward(&mut rotated, 16, 8);
        let before = with_values(&x, <[f32]>::to_vec).unwrap();
        assert!(rotated.iter().zip(&before).all(|(left, right)| (left - right).abs() < 1e-6));
    }
}
