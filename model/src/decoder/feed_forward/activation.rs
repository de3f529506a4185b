//! The element-wise functions of a feed-forward part, plain and gated (Shazeer 2020), and their gradients, in which
//! value and slope come from one evaluation of the exponential.

use candle_core::{D, Result, Tensor};
use lcr_formats::config::Activation;
use rayon::prelude::*;

use super::super::cpu_slices::{matrix, with_all_values, with_values};
use super::super::kernels::exponentials;

/// Values of one task.
const TASK_VALUES: usize = 1 << 14;

/// An [`Activation`] as it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::decoder) struct NonLinearity(pub(in crate::decoder) Activation);

impl NonLinearity {
    /// The function itself.
    pub(super) fn of(self, x: f32) -> f32 {
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
    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor> {
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
    pub(super) fn gated(self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
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
    pub(super) fn gated_fused(self, fused: &Tensor) -> Result<Tensor> {
        let half = fused.dim(D::Minus1)? / 2;
        self.gated(&fused.narrow(D::Minus1, 0, half)?, &fused.narrow(D::Minus1, half, half)?)
    }
}

impl NonLinearity {
    /// act(x) and act'(x).
    fn with_slope(self, x: f32) -> (f32, f32) {
        match self.0 {
            Activation::Silu => {
                let gate = 1.0 / (1.0 + (-x).exp());
                (x * gate, gate * (1.0 + x * (1.0 - gate)))
            }
            Activation::GeluTanh => {
                let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
                let tanh = (root * (x + 0.044_715 * x * x * x)).tanh();
                let inner = root * (1.0 + 3.0 * 0.044_715 * x * x);
                (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner)
            }
            Activation::GeluErf => {
                let x = f64::from(x);
                let mass = 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x * std::f64::consts::FRAC_1_SQRT_2));
                let density =
                    (-0.5 * x * x).exp() * 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
                ((x * mass) as f32, (mass + x * density) as f32)
            }
        }
    }

    /// `gradient` of act(x) becomes that of x, in place.
    pub(super) fn backward(self, x: &[f32], gradient: &mut [f32]) {
        gradient.par_chunks_mut(TASK_VALUES).zip(x.par_chunks(TASK_VALUES)).for_each(|(gradient, x)| {
            gradient.iter_mut().zip(x).for_each(|(gradient, x)| *gradient *= self.with_slope(*x).1);
        });
    }

    /// `gradient` of act(gate) ⊙ up becomes that of gate, in place; that of up is returned.
    pub(super) fn gated_backward(self, gate: &[f32], up: &[f32], gradient: &mut [f32]) -> Vec<f32> {
        let mut up_gradient = vec![0.0; gradient.len()];
        let outputs = gradient.par_chunks_mut(TASK_VALUES).zip(up_gradient.par_chunks_mut(TASK_VALUES));
        let inputs = gate.par_chunks(TASK_VALUES).zip(up.par_chunks(TASK_VALUES));
        outputs.zip(inputs).for_each(|((gradient, up_gradient), (gate, up))| {
            for ((gradient, up_gradient), (gate, up)) in gradient.iter_mut().zip(up_gradient).zip(gate.iter().zip(up)) {
                let (value, slope) = self.with_slope(*gate);
                (*gradient, *up_gradient) = (*gradient * up * slope, *gradient * value);
            }
        });
        up_gradient
    }

    /// The same where gate and up lie side by side, `[tokens, 2 · inner]`; `gradient` is `[tokens, inner]`, the result
    /// like `fused`.
    pub(super) fn fused_backward(self, fused: &[f32], gradient: &[f32], inner: usize) -> Vec<f32> {
        let mut out = vec![0.0; fused.len()];
        let rows = out.par_chunks_mut(2 * inner).zip(fused.par_chunks(2 * inner)).zip(gradient.par_chunks(inner));
        rows.for_each(|((out, fused), gradient)| {
            let ((gate_out, up_out), (gate, up)) = (out.split_at_mut(inner), fused.split_at(inner));
            for ((gate_out, up_out), ((gate, up), gradient)) in
                gate_out.iter_mut().zip(up_out).zip(gate.iter().zip(up).zip(gradient))
            {
                let (value, slope) = self.with_slope(*gate);
                (*gate_out, *up_out) = (gradient * up * slope, gradient * value);
            }
        });
        out
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

    #[test]
    fn values_are_those_of_the_forward_pass_and_slopes_their_differences() {
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf].map(NonLinearity) {
            for step in -60..60 {
                let x = step as f32 / 10.0;
                let (value, slope) = activation.with_slope(x);
                assert!((value - activation.of(x)).abs() < 1e-6, "{activation:?} {x}");
                let difference = (activation.of(x + 0.01) - activation.of(x - 0.01)) / 0.02;
                assert!((slope - difference).abs() < 2e-4, "{activation:?} {x}: {slope} {difference}");
            }
        }
    }
}
