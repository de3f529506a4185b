//! The backward pass through the decoder: one layer at a time, computed again from what was saved of it, for one
//! variant.
//!
//! Each part of a layer has its own, beside its forward pass, which it calls for what was not saved. Only adapters have
//! gradients; a frozen weight passes the gradient of its input on, and where nobody below needs that it is not
//! computed.
//!
//! Everything runs on the CPU; the large products are those of the forward pass, tile by tile of the stored weight.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use lcr_formats::adapter::LowRank;

use super::batch::ForwardBatch;
use super::bound_adapter::BoundAdapter;
use super::cpu_slices::with_values;
use super::linear::Linear;
use super::norm::NormModule;
use super::saved::SavedProduct;

/// Gradient of one module's adapter, shaped like the tensors of [`LowRank`].
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleGradient {
    /// Of A, (rank × inputs).
    pub lora_a: Vec<f32>,
    /// Of B, (outputs × rank).
    pub lora_b: Vec<f32>,
    /// Of DoRA's m, (outputs).
    pub magnitude: Option<Vec<f32>>,
}

impl ModuleGradient {
    /// Zeros in the shapes of a module.
    pub fn zero(low_rank: &LowRank) -> Self {
        let zeros = |values: &Vec<f32>| vec![0.0; values.len()];
        Self {
            lora_a: zeros(&low_rank.lora_a),
            lora_b: zeros(&low_rank.lora_b),
            magnitude: low_rank.magnitude.as_ref().map(zeros),
        }
    }

    /// Adds another gradient of the same module.
    pub fn add(&mut self, other: &Self) {
        for (total, part) in self.slices_mut().zip(other.slices()) {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
    }

    /// Multiplies by a factor.
    pub fn scale(&mut self, factor: f32) {
        self.slices_mut().flatten().for_each(|value| *value *= factor);
    }

    /// Its tensors: A, B, then m where there is one.
    pub fn slices(&self) -> impl Iterator<Item = &[f32]> {
        [Some(&self.lora_a), Some(&self.lora_b), self.magnitude.as_ref()].into_iter().flatten().map(Vec::as_slice)
    }

    /// The same, to be changed.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        [Some(&mut self.lora_a), Some(&mut self.lora_b), self.magnitude.as_mut()]
            .into_iter()
            .flatten()
            .map(Vec::as_mut_slice)
    }
}

/// A layer's backward pass: of the first model of the forward pass, into gradients by the module's path.
pub(super) struct Backward<'a> {
    pub(super) batch: &'a ForwardBatch<'a>,
    pub(super) variant: Option<&'a BoundAdapter>,
    pub(super) modules: &'a mut BTreeMap<String, ModuleGradient>,
}

impl<'a> Backward<'a> {
    pub(super) fn new(batch: &'a ForwardBatch<'a>, modules: &'a mut BTreeMap<String, ModuleGradient>) -> Self {
        Self { batch, variant: batch.variants.first().copied().flatten(), modules }
    }

    /// `gradient` of a norm's result becomes that of its input `x`.
    pub(super) fn norm(&self, norm: &NormModule, x: &Tensor, gradient: &mut [f32]) -> Result<()> {
        with_values(x, |x| norm.backward(x, gradient, self.variant))
    }

    /// Several linears on the same rows.
    pub(super) fn run_all(&self, linears: &[Linear], x: &Tensor) -> Result<Vec<SavedProduct>> {
        linears.iter().map(|linear| linear.run(x, self.variant)).collect()
    }

    /// A linear's forward pass; `None` where neither its result nor what its backward pass needs is asked for.
    pub(super) fn run(&self, linear: &Linear, x: &Tensor, wanted: bool) -> Result<Option<SavedProduct>> {
        if wanted || linear.has_magnitude(self.variant) { linear.run(x, self.variant).map(Some) } else { Ok(None) }
    }

    /// A linear's backward pass, as [`Linear::backward`].
    pub(super) fn linear(
        &mut self,
        linear: &Linear,
        x: &Tensor,
        saved: Option<&SavedProduct>,
        gradient: &mut [f32],
        into: Option<&mut [f32]>,
    ) -> Result<()> {
        let pre_magnitude = saved.and_then(|saved| saved.pre_magnitude.as_ref());
        linear.backward(x, pre_magnitude, gradient, self.variant, into, self.modules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_add_and_scale() {
        let one = ModuleGradient { lora_a: vec![1.0, 2.0], lora_b: vec![3.0], magnitude: Some(vec![4.0]) };
        let mut sum = one.clone();
        sum.add(&one);
        sum.scale(0.5);
        assert_eq!(sum, one);
    }
}
