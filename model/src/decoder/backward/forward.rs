//! The forward pass of one model through one layer, keeping what the way back would otherwise compute again.
//!
//! It is the layer's own arithmetic, call by call, so that a layer whose products were kept and one that is recomputed give
//! the same gradient to the last bit.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::super::ModelError;
use super::super::host::add;
use super::super::lanes::Lanes;
use super::super::layer::{Layer, Mlp, NormModule, Pass, Projections};
use super::super::linear::Linear;
use super::super::variant::Variant;
use super::attention::Streams;
use super::linear::Kept;

/// What the forward pass keeps of a layer for the way back.
#[derive(Debug, Clone)]
pub struct LayerInput {
    /// The stream before the layer, `[tokens, width]`.
    pub(super) stream: Tensor,
    /// What its attention added to the stream, after any post-norm, `[tokens, width]`.
    pub(super) attended: Tensor,
    pub(super) products: Option<Products>,
}

/// Results of a layer's large products, as far as the way back reads them.
#[derive(Debug, Clone)]
pub(super) struct Products {
    pub(super) projections: Vec<Kept>,
    pub(super) ups: Vec<Kept>,
}

impl LayerInput {
    /// The stream before a layer and what its attention added to it ([`Site::AttnOut`]), `[tokens, width]` each.
    ///
    /// [`Site::AttnOut`]: super::super::Site::AttnOut
    pub fn new(stream: Tensor, attended: Tensor) -> Self {
        Self { stream, attended, products: None }
    }

    /// The rows of `spans`, one below another.
    pub fn rows(self, spans: &[Range<usize>]) -> Result<Self> {
        let kept: usize = spans.iter().map(Range::len).sum();
        if kept == self.stream.dim(0)? {
            return Ok(self);
        }
        let some = |tensor: &Tensor| {
            let parts = spans.iter().map(|span| tensor.narrow(0, span.start, span.len()));
            Tensor::cat(&parts.collect::<Result<Vec<Tensor>>>()?, 0)
        };
        let kept = |all: Vec<Kept>| {
            let rows = |kept: Kept| {
                Ok(Kept { output: some(&kept.output)?, undirected: kept.undirected.as_ref().map(some).transpose()? })
            };
            all.into_iter().map(rows).collect::<Result<Vec<Kept>>>()
        };
        let products = match self.products {
            Some(Products { projections, ups }) => Some(Products { projections: kept(projections)?, ups: kept(ups)? }),
            None => None,
        };
        Ok(Self { stream: some(&self.stream)?, attended: some(&self.attended)?, products })
    }
}

/// The variant whose way back is taken: that of the pass's first model.
pub(super) fn first_variant<'a>(pass: &Pass<'a>) -> Option<&'a Variant> {
    pass.variants.first().copied().flatten()
}

/// A norm's forward pass for one model.
pub(super) fn normalised(norm: &NormModule, x: &Tensor, variant: Option<&Variant>) -> Result<Tensor> {
    Ok(norm.forward(&Lanes::shared(x.clone(), 1), &[variant])?.model(0).clone())
}

/// Several linears on the same rows.
pub(super) fn run_all(linears: &[&Linear], x: &Tensor, variant: Option<&Variant>) -> Result<Vec<Kept>> {
    linears.iter().map(|linear| linear.run(x, variant)).collect()
}

impl Layer {
    /// The stream after this layer, of the first model of `pass`, and what [`Layer::backward`] needs, products included.
    pub fn forward_keeping(
        &self,
        stream: &Tensor,
        pass: &Pass,
    ) -> std::result::Result<(Tensor, LayerInput), ModelError> {
        let variant = first_variant(pass);
        let normal = normalised(&self.input_norm, stream, variant)?;
        let projections = run_all(&self.projection_linears(), &normal, variant)?;
        let Streams { queries, keys, values } = self.turned(&self.split(&projections)?, pass)?;
        let inner = self.attention.apply(&queries, &keys, &values, &pass.sequences)?;
        drop((queries, keys, values, normal));
        let attended = self.output.run(&inner, variant)?.output;
        let attended = match &self.post_attention_norm {
            Some(norm) => normalised(norm, &attended, variant)?,
            None => attended,
        };
        let middle = add(stream, &attended)?;
        let ups = run_all(&self.up_linears(), &normalised(&self.mlp_norm, &middle, variant)?, variant)?;
        let inner = self.activated(&ups.iter().map(|kept| &kept.output).collect::<Vec<&Tensor>>())?;
        let added = self.down_linear().run(&inner, variant)?.output;
        let added = match &self.post_mlp_norm {
            Some(norm) => normalised(norm, &added, variant)?,
            None => added,
        };
        let products = Some(Products { projections, ups });
        Ok((add(&middle, &added)?, LayerInput { stream: stream.clone(), attended, products }))
    }

    /// Bytes of the products that [`Layer::forward_keeping`] keeps for each row, beside the two small tensors.
    pub fn kept_bytes(&self, variant: &Variant) -> usize {
        let values = |linear: &Linear| {
            linear.outputs * if linear.has_magnitude(Some(variant)) { 2 } else { 1 } * size_of::<f32>()
        };
        self.projection_linears().into_iter().chain(self.up_linears()).map(values).sum()
    }

    pub(super) fn projection_linears(&self) -> Vec<&Linear> {
        match &self.projections {
            Projections::Apart(parts) => parts.iter().collect(),
            Projections::Fused(fused) => vec![fused],
        }
    }

    /// The linears that read the MLP's input.
    pub(super) fn up_linears(&self) -> Vec<&Linear> {
        match &self.mlp {
            Mlp::Gated { gate, up, .. } => vec![gate, up],
            Mlp::GatedFused { gate_up, .. } => vec![gate_up],
            Mlp::Plain { up, .. } => vec![up],
        }
    }

    /// The linear that gives the MLP's result.
    pub(super) fn down_linear(&self) -> &Linear {
        let (Mlp::Gated { down, .. } | Mlp::GatedFused { down, .. } | Mlp::Plain { down, .. }) = &self.mlp;
        down
    }

    /// What the down-projection reads.
    pub(super) fn activated(&self, outputs: &[&Tensor]) -> Result<Tensor> {
        match (&self.mlp, outputs) {
            (Mlp::Gated { .. }, [gate, up]) => self.activation.gated(gate, up),
            (Mlp::GatedFused { .. }, [fused]) => self.activation.gated_fused(fused),
            (_, [up, ..]) => self.activation.apply(up),
            (_, []) => Err(candle_core::Error::Msg("an MLP without a projection".into())),
        }
    }

    /// Queries, keys and values as projected.
    pub(super) fn split(&self, kept: &[Kept]) -> Result<Streams<Tensor>> {
        let (queries, keys) = (self.attention.query_width(), self.attention.key_width());
        match kept {
            [query, key, value] => {
                Ok(Streams { queries: query.output.clone(), keys: key.output.clone(), values: value.output.clone() })
            }
            [fused, ..] => {
                let part = |start: usize, length: usize| fused.output.narrow(1, start, length)?.contiguous();
                Ok(Streams {
                    queries: part(0, queries)?,
                    keys: part(queries, keys)?,
                    values: part(queries + keys, keys)?,
                })
            }
            [] => Err(candle_core::Error::Msg("a layer without projections".into())),
        }
    }

    /// Norms of the heads and rotation.
    pub(super) fn turned(&self, raw: &Streams<Tensor>, pass: &Pass) -> Result<Streams<Tensor>> {
        let variant = first_variant(pass);
        let turn = |norm: &Option<NormModule>, rows: &Tensor| {
            let rows = match norm {
                Some(norm) => normalised(norm, rows, variant)?,
                None => rows.clone(),
            };
            match self.rope.as_ref().and_then(|rope| pass.rotation(rope)) {
                Some(rotation) => rotation.apply(&rows, self.attention.head_dim),
                None => Ok(rows),
            }
        };
        Ok(Streams {
            queries: turn(&self.query_norm, &raw.queries)?,
            keys: turn(&self.key_norm, &raw.keys)?,
            values: raw.values.clone(),
        })
    }
}
