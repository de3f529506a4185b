//! The feed-forward part of a layer: norm, projections, an element-wise function of theirs, the projection back, post-norm.

mod activation;
mod backward;
mod gated;
mod plain;

use candle_core::Result;
use lcr_formats::checkpoint::CheckpointError;
use lcr_formats::config::{Config, Family};

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
    /// That of a layer whose modules' paths begin with `prefix`.
    pub(super) fn open(names: &Names, config: &Config, prefix: &str) -> std::result::Result<Self, CheckpointError> {
        let family = config.family;
        let (width, inner) = (config.width, config.intermediate);
        let norm = |name: &str| names.norm(format!("{prefix}.{name}"), config.norm, width);
        let linear = |name: &str, inputs: usize, outputs: usize, bias: bool| {
            names.linear(format!("{prefix}.{name}"), inputs, outputs, bias, family)
        };
        let first_norm = norm(match family {
            Family::Gpt2 => "ln_2",
            Family::Gemma2 | Family::Gemma3 => "pre_feedforward_layernorm",
            _ => "post_attention_layernorm",
        })?;
        let (up, down) = match family {
            Family::Gpt2 => (
                Inner::Plain(Plain { up: linear("mlp.c_fc", width, inner, true)? }),
                linear("mlp.c_proj", inner, width, true)?,
            ),
            Family::Phi3 => (
                Inner::Gated(Gated::Fused(linear("mlp.gate_up_proj", width, 2 * inner, config.mlp_bias)?)),
                linear("mlp.down_proj", inner, width, config.mlp_bias)?,
            ),
            _ => (
                Inner::Gated(Gated::Apart(Box::new([
                    linear("mlp.gate_proj", width, inner, config.mlp_bias)?,
                    linear("mlp.up_proj", width, inner, config.mlp_bias)?,
                ]))),
                linear("mlp.down_proj", inner, width, config.mlp_bias)?,
            ),
        };
        let post_normed = matches!(family, Family::Gemma2 | Family::Gemma3);
        Ok(Self {
            norm: first_norm,
            inner: up,
            activation: NonLinearity(config.activation),
            down,
            post_norm: if post_normed { Some(norm("post_feedforward_layernorm")?) } else { None },
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
