//! Gradients of the MLP's non-linearities: value and slope come from one evaluation of the exponential.

use lcr_formats::config::Activation;
use rayon::prelude::*;

use super::super::mlp::NonLinearity;

/// Values of one task.
const TASK_VALUES: usize = 1 << 14;

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

    /// The same where gate and up lie side by side, `[tokens, 2 · inner]`; `gradient` is `[tokens, inner]`, the result like
    /// `fused`.
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
    use super::*;

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
