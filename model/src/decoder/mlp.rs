//! The non-linearities of the MLP: gated (Shazeer 2020) with gate and up apart or fused, and plain.

use candle_core::{D, Result, Tensor};
use lcr_formats::config::Activation;
use rayon::prelude::*;

use super::host::{matrix, with_all_values, with_values};
use super::kernel::exponentials;

/// Values of one task.
const TASK_VALUES: usize = 1 << 14;

/// An [`Activation`] as it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NonLinearity(pub(crate) Activation);

impl NonLinearity {
    /// The function itself.
    pub(crate) fn of(self, x: f32) -> f32 {
        match self.0 {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
                0.5 * x * (1.0 + (root * (x + 0.044_715 * x * x * x)).tanh())
            }
            Activation::GeluErf => {
                let x64 = f64::from(x);
                (0.5 * x64 * (1.0 + candle_core::cpu::erf::erf_f64(x64 / std::f64::consts::SQRT_2))) as f32
            }
        }
    }

    fn composed(self, x: &Tensor) -> Result<Tensor> {
        match self.0 {
            Activation::Silu => x.silu(),
            Activation::GeluTanh => x.gelu(),
            Activation::GeluErf => x.gelu_erf(),
        }
    }

    /// act(x), element by element.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() {
            return self.composed(x);
        }
        let columns = x.dim(1)?;
        let values = with_values(x, |values| {
            let mut out = vec![0.0; values.len()];
            out.par_chunks_mut(TASK_VALUES).zip(values.par_chunks(TASK_VALUES)).for_each(|(out, values)| {
                out.iter_mut().zip(values).for_each(|(y, &value)| *y = self.of(value));
            });
            out
        })?;
        matrix(values, columns)
    }

    /// act(gate) ⊙ up, both `[tokens, intermediate]`.
    pub(crate) fn gated(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        if !gate.device().is_cpu() {
            return self.composed(gate)?.mul(up);
        }
        let columns = gate.dim(1)?;
        let values = with_all_values(&[gate, up], |all| {
            let mut out = vec![0.0; all[0].len()];
            let inputs = all[0].par_chunks(TASK_VALUES).zip(all[1].par_chunks(TASK_VALUES));
            out.par_chunks_mut(TASK_VALUES).zip(inputs).for_each(|(out, (gate, up))| {
                self.gate(out, gate, up);
            });
            out
        })?;
        matrix(values, columns)
    }

    fn gate(self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        if self.0 == Activation::Silu {
            out.copy_from_slice(gate);
            exponentials(out, -1.0, 0.0);
            out.iter_mut().zip(gate.iter().zip(up)).for_each(|(y, (gate, up))| *y = gate / (1.0 + *y) * up);
        } else {
            out.iter_mut().zip(gate.iter().zip(up)).for_each(|(y, (&gate, up))| *y = self.of(gate) * up);
        }
    }

    /// The same where one product gave gate and up side by side, `[tokens, 2 · intermediate]` (Phi-3).
    pub(crate) fn gated_fused(self, fused: &Tensor) -> Result<Tensor> {
        let half = fused.dim(D::Minus1)? / 2;
        self.gated(&fused.narrow(D::Minus1, 0, half)?, &fused.narrow(D::Minus1, half, half)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn gated_equals_the_function_times_the_other_half() {
        let x = Tensor::randn(0.0f32, 9.0, (7, 62), &Device::Cpu).unwrap();
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf].map(NonLinearity) {
            let found = with_values(&activation.gated_fused(&x).unwrap(), <[f32]>::to_vec).unwrap();
            let rows = x.to_vec2::<f32>().unwrap();
            let expected =
                rows.iter().flat_map(|row| row[..31].iter().zip(&row[31..]).map(|(x, y)| activation.of(*x) * y));
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
                    "{activation:?}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn host_functions_equal_those_of_tensors() {
        let x = Tensor::randn(0.0f32, 3.0, (40, 50), &Device::Cpu).unwrap();
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf].map(NonLinearity) {
            let difference = (activation.apply(&x).unwrap() - activation.composed(&x).unwrap()).unwrap();
            let largest = difference.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(largest < 2e-6, "{activation:?}: {largest}");
        }
    }
}
