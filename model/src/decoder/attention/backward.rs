//! The backward pass of a layer's attention part. What was not saved is computed again, by the forward pass's own
//! parts.

use candle_core::{Result, Tensor};

use super::scores::Streams;
use super::{Attention, Projections};
use crate::decoder::backward::Backward;
use crate::decoder::branches::Branches;
use crate::decoder::cpu_slices::with_all_values;
use crate::decoder::saved::SavedProduct;

impl Attention {
    /// Gradient of `x`, the stream before the layer, through attention alone, where it is `wanted`.
    ///
    /// `gradient` is that of the stream after attention, `saved` what the projections gave, if it was kept.
    pub(in crate::decoder) fn backward(
        &self,
        x: &Tensor,
        gradient: &[f32],
        wanted: bool,
        saved: Option<Vec<SavedProduct>>,
        backward: &mut Backward,
    ) -> Result<Option<Vec<f32>>> {
        let variant = backward.variant;
        let projections = self.projections();
        let projections_wanted = wanted || projections.iter().any(|linear| linear.is_adapted(variant));
        let normal = self.norm.run(x, variant)?;
        let saved = saved.map_or_else(|| backward.run_all(projections, &normal), Ok)?;
        let raw = self.split(saved.iter().map(|saved| Branches::shared(saved.output.clone(), 1)).collect())?;
        let [raw_query, raw_key, values] = raw.map(|rows| rows.model(0).clone());
        let rotated = [&raw_query, &raw_key].map(|rows| Branches::shared(rows.clone(), 1));
        let [queries, keys] = self.rotated(rotated, backward.batch)?.map(|rows| rows.model(0).clone());
        let output_needed = self.post_norm.is_some() || self.output.is_adapted(variant);
        let attended = if output_needed {
            self.shape.apply(&queries, &keys, &values, &backward.batch.sequences)?
        } else {
            normal.clone()
        };
        let mut gradient = gradient.to_vec();
        let result = backward.run(&self.output, &attended, self.post_norm.is_some())?;
        if let (Some(norm), Some(result)) = (&self.post_norm, &result) {
            backward.norm(norm, &result.output, &mut gradient)?;
        }
        let width = self.shape.query_width();
        let mut inner = vec![0.0; if projections_wanted { gradient.len() / self.output.outputs * width } else { 0 }];
        let into = projections_wanted.then_some(&mut inner[..]);
        backward.linear(&self.output, &attended, result.as_ref(), &mut gradient, into)?;
        drop((attended, result, gradient));
        if !projections_wanted {
            return Ok(None);
        }
        let gradients = with_all_values(&[&queries, &keys, &values], |all| {
            let inputs = Streams { queries: all[0], keys: all[1], values: all[2] };
            self.shape.backward(&inputs, &backward.batch.sequences, &inner)
        })?;
        drop((queries, keys, values, inner));
        let gradients = self.rotated_backward(gradients, [&raw_query, &raw_key], backward)?;
        drop((raw_query, raw_key));
        let mut total = vec![0.0; if wanted { x.elem_count() } else { 0 }];
        for ((linear, saved), mut gradient) in projections.iter().zip(&saved).zip(self.join(gradients)) {
            let into = wanted.then_some(&mut total[..]);
            if wanted || linear.is_adapted(variant) {
                backward.linear(linear, &normal, Some(saved), &mut gradient, into)?;
            }
        }
        if !wanted {
            return Ok(None);
        }
        backward.norm(&self.norm, x, &mut total)?;
        Ok(Some(total))
    }

    /// The inverse of [`Attention::split`], for gradients: one for each projection.
    fn join(&self, parts: Streams<Vec<f32>>) -> Vec<Vec<f32>> {
        let Streams { queries, keys, values } = parts;
        if let Projections::Apart(_) = self.projections {
            return vec![queries, keys, values];
        }
        let (query_width, key_width) = (self.shape.query_width(), self.shape.key_width());
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

    /// Gradients of the projections' results from those of what [`Attention::rotated`] makes of them.
    fn rotated_backward(
        &self,
        gradients: Streams<Vec<f32>>,
        [raw_query, raw_key]: [&Tensor; 2],
        backward: &Backward,
    ) -> Result<Streams<Vec<f32>>> {
        let Streams { mut queries, mut keys, values } = gradients;
        if let Some(rotation) = self.rope.as_ref().and_then(|rope| backward.batch.rotation(rope)) {
            rotation.backward(&mut queries, self.shape.query_width(), self.shape.head_dim);
            rotation.backward(&mut keys, self.shape.key_width(), self.shape.head_dim);
        }
        if let Some(norm) = &self.query_norm {
            backward.norm(norm, raw_query, &mut queries)?;
        }
        if let Some(norm) = &self.key_norm {
            backward.norm(norm, raw_key, &mut keys)?;
        }
        Ok(Streams { queries, keys, values })
    }
}
