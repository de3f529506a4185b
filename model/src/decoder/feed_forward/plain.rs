//! act(up): one projection and a function of it (GPT-2).

use candle_core::{Result, Tensor};

use super::activation::NonLinearity;
use super::wrong_parts;
use crate::decoder::branches::Branches;
use crate::decoder::cpu_slices::with_values;
use crate::decoder::linear::Linear;

/// The projection.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) up: Linear,
}

impl Plain {
    pub(super) fn linears(&self) -> &[Linear] {
        std::slice::from_ref(&self.up)
    }
}

/// act(up) of every model, from the result of [`Plain::linears`].
pub(super) fn forward(activation: NonLinearity, projected: &[Branches]) -> Result<Branches> {
    let [up] = projected else { return Err(wrong_parts(projected.len())) };
    up.map(|rows| activation.apply(rows))
}

/// The gradient of that result from `gradient`, that of act(up).
pub(super) fn backward(activation: NonLinearity, projected: &[&Tensor], gradient: Vec<f32>) -> Result<Vec<Vec<f32>>> {
    let [up] = projected else { return Err(wrong_parts(projected.len())) };
    let mut gradient = gradient;
    with_values(up, |up| activation.backward(up, &mut gradient))?;
    Ok(vec![gradient])
}
