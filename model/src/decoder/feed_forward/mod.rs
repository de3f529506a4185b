//! The feed-forward part of a layer: norm, projections, an element-wise function of theirs, the projection back,
//! post-norm.

mod activation;
mod backward;
mod gated;
mod plain;

use candle_core::Result;
use lcr_formats::checkpoint::CheckpointError;
use lcr_formats::config::{Config, FeedForwardNames};

use self::activation::NonLinearity;
use self::gated::Gated;
use self::plain::Plain;
use super::Names;
use super::bound_adapter::BoundAdapter;
use super::branches::Branches;
use super::linear::Linear;
use super::norm::NormModule;
use super::saved::Saver;

/// What stands between the norm and the projection back.
#[derive(Debug)]
enum Inner {
    Gated(Gated),
    Plain(Plain),
}

/// A layer's feed-forward part, from the stream to what is added to it.
#[derive(Debug)]
pub(super) struct FeedForward {
    norm: NormModule,
    inner: Inner,
    activation: NonLinearity,
    down: Linear,
    post_norm: Option<NormModule>,
}

impl FeedForward {
    /// That of the layer `index`.
    pub(super) fn open(names: &Names, config: &Config, index: usize) -> std::result::Result<Self, CheckpointError> {
        let layout = &config.family.layout;
        let (width, middle, bias) = (config.width, config.intermediate, config.mlp_bias);
        let norm = |name: &str| names.norm(layout.in_layer(index, name), config.norm, width);
        let linear = |name: &str, inputs: usize, outputs: usize| {
            names.linear(layout.in_layer(index, name), inputs, outputs, bias, layout.transposed)
        };
        let (inner, down) = match layout.feed_forward {
            FeedForwardNames::Plain { up, down } => (Inner::Plain(Plain { up: linear(up, width, middle)? }), down),
            FeedForwardNames::GatedFused { gate_up, down } => {
                (Inner::Gated(Gated::Fused(linear(gate_up, width, 2 * middle)?)), down)
            }
            FeedForwardNames::Gated { gate, up, down } => {
                let both = [linear(gate, width, middle)?, linear(up, width, middle)?];
                (Inner::Gated(Gated::Apart(Box::new(both))), down)
            }
        };
        Ok(Self {
            norm: norm(layout.feed_forward_norm)?,
            inner,
            activation: NonLinearity(config.activation),
            down: linear(down, middle, width)?,
            post_norm: layout.post_feed_forward_norm.map(norm).transpose()?,
        })
    }

    /// The linear modules that read the norm.
    pub(super) fn projections(&self) -> &[Linear] {
        match &self.inner {
            Inner::Gated(gated) => gated.linears(),
            Inner::Plain(plain) => plain.linears(),
        }
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.projections().iter().chain([&self.down])
    }

    pub(super) fn norms(&self) -> impl Iterator<Item = &NormModule> {
        std::iter::once(&self.norm).chain(&self.post_norm)
    }

    /// What this part adds to `stream`, after any post-norm.
    pub(super) fn forward(
        &self,
        stream: &Branches,
        variants: &[Option<&BoundAdapter>],
        saver: &mut Saver,
    ) -> Result<Branches> {
        let normal = self.norm.forward(stream, variants)?;
        let projected: Vec<Branches> =
            self.projections().iter().map(|linear| linear.forward(&normal, variants, saver)).collect::<Result<_>>()?;
        drop(normal);
        let inner = self.activated(&projected)?;
        drop(projected);
        let added = self.down.forward(&inner, variants, &mut Saver::default())?;
        match &self.post_norm {
            Some(norm) => norm.forward(&added, variants),
            None => Ok(added),
        }
    }

    /// What the projection back reads, from the results of the others.
    fn activated(&self, projected: &[Branches]) -> Result<Branches> {
        match &self.inner {
            Inner::Gated(_) => gated::forward(self.activation, projected),
            Inner::Plain(_) => plain::forward(self.activation, projected),
        }
    }
}

/// A part of another make than its projections: a bug of this module.
fn wrong_parts(count: usize) -> candle_core::Error {
    candle_core::Error::Msg(format!("{count} projections in a feed-forward part"))
}
