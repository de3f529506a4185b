//! Gradients of RMSNorm and LayerNorm, row by row, with the sums over a row in f64.
//!
//! RMSNorm y = x·r·g with r = (mean x² + eps)^−½: dx = r(g⊙dy) − x·r³·mean(x⊙g⊙dy).
//! LayerNorm y = x̂⊙g + b with x̂ = (x − μ)r: dx = r(g⊙dy − mean(g⊙dy) − x̂·mean(x̂⊙g⊙dy)).

use lcr_formats::config::Norm;
use rayon::prelude::*;

use super::super::bound_adapter::BoundAdapter;
use super::{NormModule, NormParameters};

/// Rows of one task.
const TASK_ROWS: usize = 16;

impl NormModule {
    /// Turns the gradient of this norm's output into that of its input `x`, in place.
    pub(in crate::decoder) fn backward(&self, x: &[f32], gradient: &mut [f32], variant: Option<&BoundAdapter>) {
        match self.changed(variant) {
            Some(changed) => changed.backward(x, gradient),
            None => self.parameters.backward(x, gradient),
        }
    }
}

impl NormParameters {
    /// The same for one set of parameters; groups of `gain.len()` values are rows, or the heads inside rows.
    fn backward(&self, x: &[f32], gradient: &mut [f32]) {
        let width = self.gain.len().max(1);
        gradient.par_chunks_mut(TASK_ROWS * width).zip(x.par_chunks(TASK_ROWS * width)).for_each(|(gradient, x)| {
            for (gradient, row) in gradient.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                match self.kind {
                    Norm::Rms { eps, .. } => self.rms_backward(row, gradient, f64::from(eps)),
                    Norm::Layer { eps } => self.layer_backward(row, gradient, f64::from(eps)),
                }
            }
        });
    }

    fn rms_backward(&self, row: &[f32], gradient: &mut [f32], eps: f64) {
        let width = row.len() as f64;
        let (mut squares, mut products) = (0.0, 0.0);
        for ((x, dy), gain) in row.iter().zip(&*gradient).zip(&self.gain) {
            let x = f64::from(*x);
            squares += x * x;
            products += x * f64::from(*dy) * f64::from(*gain);
        }
        let scale = (squares / width + eps).sqrt().recip();
        let pull = scale.powi(3) * products / width;
        for ((x, dy), gain) in row.iter().zip(gradient).zip(&self.gain) {
            *dy = (scale * f64::from(*gain) * f64::from(*dy) - pull * f64::from(*x)) as f32;
        }
    }

    fn layer_backward(&self, row: &[f32], gradient: &mut [f32], eps: f64) {
        let width = row.len() as f64;
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width;
        let (mut squares, mut sum, mut products) = (0.0, 0.0, 0.0);
        for ((x, dy), gain) in row.iter().zip(&*gradient).zip(&self.gain) {
            let (centred, dy) = (f64::from(*x) - mean, f64::from(*dy) * f64::from(*gain));
            squares += centred * centred;
            sum += dy;
            products += centred * dy;
        }
        let scale = (squares / width + eps).sqrt().recip();
        let (shift, pull) = (scale * sum / width, scale.powi(3) * products / width);
        for ((x, dy), gain) in row.iter().zip(gradient).zip(&self.gain) {
            let centred = f64::from(*x) - mean;
            *dy = (scale * f64::from(*gain) * f64::from(*dy) - shift - pull * centred) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of Σ c·norm(x) in f64.
    fn difference(norm: &NormParameters, x: &[f64], c: &[f64], column: usize) -> f64 {
        let value = |x: &[f64]| -> f64 {
            let width = x.len() as f64;
            let (mean, eps) = match norm.kind {
                Norm::Rms { eps, .. } => (0.0, eps),
                Norm::Layer { eps } => (x.iter().sum::<f64>() / width, eps),
            };
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width;
            let scale = (variance + f64::from(eps)).sqrt().recip();
            x.iter().zip(c).zip(&norm.gain).map(|((x, c), gain)| c * (x - mean) * scale * f64::from(*gain)).sum()
        };
        let step = 1e-5;
        let mut moved = x.to_vec();
        moved[column] += step;
        let above = value(&moved);
        moved[column] -= 2.0 * step;
        (above - value(&moved)) / (2.0 * step)
    }

    #[test]
    fn gradients_equal_differences() {
        let x = [0.5_f32, -1.25, 2.0, 0.125, -0.75];
        let c = [1.0_f32, -2.0, 0.5, 3.0, -0.25];
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        for kind in [Norm::Rms { eps: 1e-3, offset: 0.0 }, Norm::Layer { eps: 1e-3 }] {
            let norm = NormParameters { kind, gain: vec![1.0, 0.5, -2.0, 1.5, 0.75], bias: None };
            let mut gradient = c;
            norm.backward(&x, &mut gradient);
            for (column, found) in gradient.iter().enumerate() {
                let expected = difference(&norm, &wide(&x), &wide(&c), column);
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{kind:?} {column}: {found} {expected}");
            }
        }
    }
}
