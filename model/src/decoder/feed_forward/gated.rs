//! act(gate) ⊙ up (Shazeer 2020), the two projections apart or fused into one product (Phi-3).

use candle_core::{Result, Tensor};

use super::activation::NonLinearity;
use super::wrong_parts;
use crate::decoder::branches::Branches;
use crate::decoder::cpu_slices::with_all_values;
use crate::decoder::linear::Linear;

/// The projections of the gate and of what it lets through.
#[derive(Debug)]
pub(super) enum Gated {
    /// Gate and up.
    Apart(Box<[Linear; 2]>),
    /// Both in one, gate first, `2 · intermediate` outputs.
    Fused(Linear),
}

impl Gated {
    pub(super) fn linears(&self) -> &[Linear] {
        match self {
            Self::Apart(parts) => parts.as_slice(),
            Self::Fused(fused) => std::slice::from_ref(fused),
        }
    }
}

/// act(gate) ⊙ up of every model, from the results of [`Gated::linears`].
pub(super) fn forward(activation: NonLinearity, projected: &[Branches]) -> Result<Branches> {
    match projected {
        [gate, up] => Branches::zip([gate, up], |[gate, up]| activation.gated(gate, up)),
        [fused] => fused.map(|fused| activation.gated_fused(fused)),
        others => Err(wrong_parts(others.len())),
    }
}

/// Gradients of those results from `gradient`, that of act(gate) ⊙ up, `[tokens, inner]`.
pub(super) fn backward(
    activation: NonLinearity,
    projected: &[&Tensor],
    gradient: Vec<f32>,
    inner: usize,
) -> Result<Vec<Vec<f32>>> {
    let mut gradient = gradient;
    with_all_values(projected, |values| match values {
        [gate, up] => {
            let up = activation.gated_backward(gate, up, &mut gradient);
            Ok(vec![gradient, up])
        }
        [fused] => Ok(vec![activation.fused_backward(fused, &gradient, inner)]),
        others => Err(wrong_parts(others.len())),
    })?
}
