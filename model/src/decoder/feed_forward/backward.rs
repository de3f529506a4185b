//! The backward pass of a layer's feed-forward part. What was not saved is computed again, by the forward pass's own
//! parts.

use candle_core::{Result, Tensor};

use super::{FeedForward, Inner, gated, plain};
use crate::decoder::backward::Backward;
use crate::decoder::branches::Branches;
use crate::decoder::saved::SavedProduct;

impl FeedForward {
    /// Gradient of `x`, the stream before this part, through this part alone, where it is `wanted`.
    ///
    /// `gradient` is that of the stream after the layer, `saved` what the projections gave, if it was kept.
    pub(in crate::decoder) fn backward(
        &self,
        x: &Tensor,
        gradient: &[f32],
        wanted: bool,
        saved: Option<Vec<SavedProduct>>,
        backward: &mut Backward,
    ) -> Result<Option<Vec<f32>>> {
        let variant = backward.variant;
        let (projections, down) = (self.projections(), &self.down);
        let projections_wanted = wanted || projections.iter().any(|linear| linear.is_adapted(variant));
        if !projections_wanted && !down.is_adapted(variant) {
            return Ok(None);
        }
        let normal = self.norm.run(x, variant)?;
        let saved = saved.map_or_else(|| backward.run_all(projections, &normal), Ok)?;
        let mut gradient = gradient.to_vec();
        let inner_needed = self.post_norm.is_some() || down.is_adapted(variant);
        // A frozen down-projection needs no input in the backward pass, only a shape.
        let inner = if inner_needed {
            let projected: Vec<Branches> =
                saved.iter().map(|saved| Branches::shared(saved.output.clone(), 1)).collect();
            self.activated(&projected)?.model(0).clone()
        } else {
            normal.clone()
        };
        let result = backward.run(down, &inner, self.post_norm.is_some())?;
        if let (Some(norm), Some(result)) = (&self.post_norm, &result) {
            backward.norm(norm, &result.output, &mut gradient)?;
        }
        let inner_values = if projections_wanted { gradient.len() / down.outputs * down.inputs } else { 0 };
        let mut inner_gradient = vec![0.0; inner_values];
        let into = projections_wanted.then_some(&mut inner_gradient[..]);
        backward.linear(down, &inner, result.as_ref(), &mut gradient, into)?;
        drop((inner, result, gradient));
        if !projections_wanted {
            return Ok(None);
        }
        let gradients = self.activated_backward(&saved, inner_gradient)?;
        let pre_magnitudes: Vec<Option<Tensor>> = saved.into_iter().map(|saved| saved.pre_magnitude).collect();
        let mut total = vec![0.0; if wanted { x.elem_count() } else { 0 }];
        for ((linear, pre_magnitude), mut gradient) in projections.iter().zip(pre_magnitudes).zip(gradients) {
            let into = wanted.then_some(&mut total[..]);
            linear.backward(&normal, pre_magnitude.as_ref(), &mut gradient, variant, into, backward.modules)?;
        }
        if !wanted {
            return Ok(None);
        }
        backward.norm(&self.norm, x, &mut total)?;
        Ok(Some(total))
    }

    /// Gradients of the projections' results from that of what [`FeedForward::activated`] makes of them.
    fn activated_backward(&self, saved: &[SavedProduct], gradient: Vec<f32>) -> Result<Vec<Vec<f32>>> {
        let projected: Vec<&Tensor> = saved.iter().map(|saved| &saved.output).collect();
        match &self.inner {
            Inner::Gated(_) => gated::backward(self.activation, &projected, gradient, self.down.inputs),
            Inner::Plain(_) => plain::backward(self.activation, &projected, gradient),
        }
    }
}
