//! The way back through the decoder: one layer at a time, computed again from its input, for one variant.
//!
//! A forward pass keeps two small tensors per layer ([`LayerInput`]): the stream before it and what its attention added. From
//! them the MLP is recomputed without attention, and attention without its product with the values or its output
//! projection, unless one of these carries an adapter or a norm. Where there is memory it keeps the products as well, and
//! nothing large is recomputed. Only adapters have gradients; a frozen weight passes the gradient of its input on, and where
//! nobody below needs that it is not computed.
//!
//! Everything runs on the CPU; the large products are those of the forward pass, panel by panel of the stored weight.

mod attention;
mod forward;
mod head;
mod linear;
mod mlp;
mod norm;
mod rope;

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use lcr_formats::adapter::LowRank;

use self::attention::Streams;
pub use self::forward::LayerInput;
use self::forward::{first_variant, normalised, run_all};
pub use self::head::HeadPass;
use self::linear::Kept;
use super::ModelError;
use super::host::{add, with_all_values, with_values};
use super::layer::{Layer, Mlp, NormModule, Pass, Projections};
use super::linear::Linear;
use super::variant::Variant;

/// Gradient of one module's adapter, shaped like the tensors of [`LowRank`].
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleGradient {
    /// Of A, (rank × inputs).
    pub down: Vec<f32>,
    /// Of B, (outputs × rank).
    pub up: Vec<f32>,
    /// Of DoRA's m, (outputs).
    pub magnitude: Option<Vec<f32>>,
}

impl ModuleGradient {
    /// Zeros in the shapes of a module.
    pub fn zero(low_rank: &LowRank) -> Self {
        let zeros = |values: &Vec<f32>| vec![0.0; values.len()];
        Self { down: zeros(&low_rank.down), up: zeros(&low_rank.up), magnitude: low_rank.magnitude.as_ref().map(zeros) }
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
        [Some(&self.down), Some(&self.up), self.magnitude.as_ref()].into_iter().flatten().map(Vec::as_slice)
    }

    /// The same, to be changed.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        [Some(&mut self.down), Some(&mut self.up), self.magnitude.as_mut()].into_iter().flatten().map(Vec::as_mut_slice)
    }
}

/// Gradients by the module's path.
type Modules = BTreeMap<String, ModuleGradient>;

/// The model whose way back this is: the pass's first.
struct Way<'a> {
    pass: &'a Pass<'a>,
    variant: Option<&'a Variant>,
    modules: &'a mut Modules,
}

impl Way<'_> {
    fn norm_backward(&self, norm: &NormModule, x: &Tensor, gradient: &mut [f32]) -> Result<()> {
        with_values(x, |x| norm.backward(x, gradient, self.variant))
    }

    /// A linear's forward pass; `None` where neither its result nor what its way back needs is asked for.
    fn run(&self, linear: &Linear, x: &Tensor, wanted: bool) -> Result<Option<Kept>> {
        if wanted || linear.has_magnitude(self.variant) { linear.run(x, self.variant).map(Some) } else { Ok(None) }
    }

    fn linear_backward(
        &mut self,
        linear: &Linear,
        x: &Tensor,
        kept: Option<&Kept>,
        gradient: &mut [f32],
        into: Option<&mut [f32]>,
    ) -> Result<()> {
        let undirected = kept.and_then(|kept| kept.undirected.as_ref());
        linear.backward(x, undirected, gradient, self.variant, into, self.modules)
    }
}

impl Layer {
    /// Whether the variant adapts a linear module of this layer.
    pub fn is_adapted(&self, variant: &Variant) -> bool {
        self.linears().any(|linear| linear.is_adapted(Some(variant)))
    }

    /// Adds the gradients of this layer's adapters to `modules` and returns that of the stream before it, where `below`
    /// says that somebody needs it.
    ///
    /// `gradient` is that of the stream after the layer, `[tokens, width]`. The model is the first of `pass`, whose
    /// sequences have no cache and are those of the rows in `input`.
    pub fn backward(
        &self,
        input: LayerInput,
        pass: &Pass,
        gradient: Vec<f32>,
        below: bool,
        modules: &mut Modules,
    ) -> std::result::Result<Option<Vec<f32>>, ModelError> {
        let variant = first_variant(pass);
        let mut way = Way { pass, variant, modules };
        let attention_linears = self.projection_linears().into_iter().chain([&self.output]);
        let attention_wanted = below || attention_linears.into_iter().any(|linear| linear.is_adapted(variant));
        let mut gradient = gradient;
        let LayerInput { stream, attended, products } = input;
        let (projections, ups) = products.map_or((None, None), |kept| (Some(kept.projections), Some(kept.ups)));
        let middle = add(&stream, &attended)?;
        drop(attended);
        if let Some(inner) = self.mlp_backward(&middle, &gradient, attention_wanted, ups, &mut way)? {
            add_to(&mut gradient, &inner);
        }
        drop(middle);
        if !attention_wanted {
            return Ok(None);
        }
        let inner = self.attention_backward(&stream, &gradient, below, projections, &mut way)?;
        Ok(inner.map(|inner| {
            add_to(&mut gradient, &inner);
            gradient
        }))
    }

    /// Gradient of `x`, the stream before the MLP, through the MLP alone, where it is `wanted`.
    fn mlp_backward(
        &self,
        x: &Tensor,
        gradient: &[f32],
        wanted: bool,
        kept: Option<Vec<Kept>>,
        way: &mut Way,
    ) -> Result<Option<Vec<f32>>> {
        let variant = way.variant;
        let (ups, down) = (self.up_linears(), self.down_linear());
        let ups_wanted = wanted || ups.iter().any(|linear| linear.is_adapted(variant));
        if !ups_wanted && !down.is_adapted(variant) {
            return Ok(None);
        }
        let normal = normalised(&self.mlp_norm, x, variant)?;
        let kept = kept.map_or_else(|| run_all(&ups, &normal, variant), Ok)?;
        let outputs: Vec<&Tensor> = kept.iter().map(|kept| &kept.output).collect();
        let mut gradient = gradient.to_vec();
        let inner_needed = self.post_mlp_norm.is_some() || down.is_adapted(variant);
        // A frozen down-projection needs no input on the way back, only a shape.
        let inner = if inner_needed { self.activated(&outputs)? } else { normal.clone() };
        let result = way.run(down, &inner, self.post_mlp_norm.is_some())?;
        if let (Some(norm), Some(result)) = (&self.post_mlp_norm, &result) {
            way.norm_backward(norm, &result.output, &mut gradient)?;
        }
        let mut inner_gradient = vec![0.0; if ups_wanted { gradient.len() / down.outputs * down.inputs } else { 0 }];
        let into = ups_wanted.then_some(&mut inner_gradient[..]);
        way.linear_backward(down, &inner, result.as_ref(), &mut gradient, into)?;
        drop((inner, result, gradient));
        if !ups_wanted {
            return Ok(None);
        }
        let gradients = self.activation_backward(&outputs, inner_gradient, down.inputs)?;
        drop(outputs);
        let undirected: Vec<Option<Tensor>> = kept.into_iter().map(|kept| kept.undirected).collect();
        let mut total = vec![0.0; if wanted { x.elem_count() } else { 0 }];
        for ((linear, undirected), mut gradient) in ups.into_iter().zip(undirected).zip(gradients) {
            let into = wanted.then_some(&mut total[..]);
            linear.backward(&normal, undirected.as_ref(), &mut gradient, variant, into, way.modules)?;
        }
        if !wanted {
            return Ok(None);
        }
        way.norm_backward(&self.mlp_norm, x, &mut total)?;
        Ok(Some(total))
    }

    /// Gradients of the up-projections' results from that of what [`Layer::activated`] makes of them.
    fn activation_backward(&self, outputs: &[&Tensor], gradient: Vec<f32>, inner: usize) -> Result<Vec<Vec<f32>>> {
        let mut gradient = gradient;
        with_all_values(outputs, |values| match (&self.mlp, values) {
            (Mlp::Gated { .. }, [gate, up]) => {
                let up = self.activation.gated_backward(gate, up, &mut gradient);
                vec![gradient, up]
            }
            (Mlp::GatedFused { .. }, [fused]) => vec![self.activation.fused_backward(fused, &gradient, inner)],
            (_, values) => {
                values.iter().take(1).for_each(|up| self.activation.backward(up, &mut gradient));
                vec![gradient]
            }
        })
    }

    /// Gradient of `x`, the stream before the layer, through attention alone, where it is `wanted`.
    fn attention_backward(
        &self,
        x: &Tensor,
        gradient: &[f32],
        wanted: bool,
        kept: Option<Vec<Kept>>,
        way: &mut Way,
    ) -> Result<Option<Vec<f32>>> {
        let variant = way.variant;
        let projections = self.projection_linears();
        let projections_wanted = wanted || projections.iter().any(|linear| linear.is_adapted(variant));
        let normal = normalised(&self.input_norm, x, variant)?;
        let kept = kept.map_or_else(|| run_all(&projections, &normal, variant), Ok)?;
        let raw = self.split(&kept)?;
        let turned = self.turned(&raw, way.pass)?;
        let output_needed = self.post_attention_norm.is_some() || self.output.is_adapted(variant);
        let attended = if output_needed {
            self.attention.apply(&turned.queries, &turned.keys, &turned.values, &way.pass.sequences)?
        } else {
            normal.clone()
        };
        let mut gradient = gradient.to_vec();
        let result = way.run(&self.output, &attended, self.post_attention_norm.is_some())?;
        if let (Some(norm), Some(result)) = (&self.post_attention_norm, &result) {
            way.norm_backward(norm, &result.output, &mut gradient)?;
        }
        let width = self.attention.query_width();
        let mut inner = vec![0.0; if projections_wanted { gradient.len() / self.output.outputs * width } else { 0 }];
        let into = projections_wanted.then_some(&mut inner[..]);
        way.linear_backward(&self.output, &attended, result.as_ref(), &mut gradient, into)?;
        drop((attended, result, gradient));
        if !projections_wanted {
            return Ok(None);
        }
        let gradients = with_all_values(&[&turned.queries, &turned.keys, &turned.values], |all| {
            let inputs = Streams { queries: all[0], keys: all[1], values: all[2] };
            self.attention.backward(&inputs, &way.pass.sequences, &inner)
        })?;
        drop((turned, inner));
        let gradients = self.turn_back(gradients, &raw, way)?;
        drop(raw);
        let mut total = vec![0.0; if wanted { x.elem_count() } else { 0 }];
        for ((linear, kept), mut gradient) in projections.into_iter().zip(&kept).zip(self.join(gradients)) {
            let into = wanted.then_some(&mut total[..]);
            if wanted || linear.is_adapted(variant) {
                way.linear_backward(linear, &normal, Some(kept), &mut gradient, into)?;
            }
        }
        if !wanted {
            return Ok(None);
        }
        way.norm_backward(&self.input_norm, x, &mut total)?;
        Ok(Some(total))
    }

    /// The inverse of [`Layer::split`], for gradients: one for each projection.
    fn join(&self, parts: Streams<Vec<f32>>) -> Vec<Vec<f32>> {
        let Streams { queries, keys, values } = parts;
        if let Projections::Apart(_) = self.projections {
            return vec![queries, keys, values];
        }
        let (query_width, key_width) = (self.attention.query_width(), self.attention.key_width());
        let mut fused = Vec::with_capacity(queries.len() + keys.len() + values.len());
        let rows =
            queries.chunks_exact(query_width).zip(keys.chunks_exact(key_width).zip(values.chunks_exact(key_width)));
        for (query, (key, value)) in rows {
            fused.extend_from_slice(query);
            fused.extend_from_slice(key);
            fused.extend_from_slice(value);
        }
        vec![fused]
    }

    /// Gradients of the projections' results from those of what [`Layer::turned`] makes of them.
    fn turn_back(&self, gradients: Streams<Vec<f32>>, raw: &Streams<Tensor>, way: &Way) -> Result<Streams<Vec<f32>>> {
        let Streams { mut queries, mut keys, values } = gradients;
        if let Some(rotation) = self.rope.as_ref().and_then(|rope| way.pass.rotation(rope)) {
            rotation.turn_back(&mut queries, self.attention.query_width(), self.attention.head_dim);
            rotation.turn_back(&mut keys, self.attention.key_width(), self.attention.head_dim);
        }
        if let Some(norm) = &self.query_norm {
            way.norm_backward(norm, &raw.queries, &mut queries)?;
        }
        if let Some(norm) = &self.key_norm {
            way.norm_backward(norm, &raw.keys, &mut keys)?;
        }
        Ok(Streams { queries, keys, values })
    }
}

/// target += part.
fn add_to(target: &mut [f32], part: &[f32]) {
    target.iter_mut().zip(part).for_each(|(target, part)| *target += part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_add_and_scale() {
        let one = ModuleGradient { down: vec![1.0, 2.0], up: vec![3.0], magnitude: Some(vec![4.0]) };
        let mut sum = one.clone();
        sum.add(&one);
        sum.scale(0.5);
        assert_eq!(sum, one);
    }
}
