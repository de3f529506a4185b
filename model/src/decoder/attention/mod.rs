//! The attention part of a layer: norm, projections, norms of the heads, rotation, attention itself, output, post-norm.

mod backward;
mod scores;

use candle_core::Result;
use lcr_formats::checkpoint::CheckpointError;
use lcr_formats::config::{Config, ProjectionNames, Rope};

pub use self::scores::{AttentionShape, Pattern, Sequence};
use super::batch::ForwardBatch;
use super::bound_adapter::BoundAdapter;
use super::branches::Branches;
use super::cache::Cache;
use super::linear::Linear;
use super::norm::NormModule;
use super::saved::Saver;
use super::{ModelError, Names};
use crate::decoder::hooks::{Hooks, Site};

/// Query, key and value projections: apart, or fused into one product.
#[derive(Debug)]
enum Projections {
    Apart(Box<[Linear; 3]>),
    Fused(Linear),
}

/// A layer's attention, from the stream to what is added to it.
#[derive(Debug)]
pub(super) struct Attention {
    shape: AttentionShape,
    rope: Option<Rope>,
    norm: NormModule,
    projections: Projections,
    query_norm: Option<NormModule>,
    key_norm: Option<NormModule>,
    output: Linear,
    post_norm: Option<NormModule>,
}

impl Attention {
    /// That of the layer `index`.
    pub(super) fn open(names: &Names, config: &Config, index: usize) -> std::result::Result<Self, CheckpointError> {
        let layout = &config.family.layout;
        let width = config.width;
        let (query_width, key_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let norm = |name: &str, width: usize| names.norm(layout.in_layer(index, name), config.norm, width);
        let linear = |name: &str, inputs: usize, outputs: usize, bias: bool| {
            names.linear(layout.in_layer(index, name), inputs, outputs, bias, layout.transposed)
        };
        let projections = match layout.projections {
            ProjectionNames::Fused(fused) => {
                Projections::Fused(linear(fused, width, query_width + 2 * key_width, config.qkv_bias)?)
            }
            ProjectionNames::Apart([query, key, value]) => Projections::Apart(Box::new([
                linear(query, width, query_width, config.qkv_bias)?,
                linear(key, width, key_width, config.qkv_bias)?,
                linear(value, width, key_width, config.qkv_bias)?,
            ])),
        };
        let head_norm = |which: usize| layout.head_norms.map(|names| norm(names[which], config.head_dim)).transpose();
        let kind = config.layers[index];
        Ok(Self {
            shape: AttentionShape {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                scale: config.attention_scale,
                softcap: config.attention_softcap,
                window: kind.window,
            },
            rope: kind.rope,
            norm: norm(layout.input_norm, width)?,
            projections,
            query_norm: head_norm(0)?,
            key_norm: head_norm(1)?,
            output: linear(layout.output, query_width, width, config.output_bias)?,
            post_norm: layout.post_attention_norm.map(|name| norm(name, width)).transpose()?,
        })
    }

    /// How it attends.
    pub(super) fn shape(&self) -> &AttentionShape {
        &self.shape
    }

    /// The linear modules that read the norm.
    pub(super) fn projections(&self) -> &[Linear] {
        match &self.projections {
            Projections::Apart(parts) => parts.as_slice(),
            Projections::Fused(fused) => std::slice::from_ref(fused),
        }
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.projections().iter().chain([&self.output])
    }

    pub(super) fn norms(&self) -> impl Iterator<Item = &NormModule> {
        let optional = [&self.query_norm, &self.key_norm, &self.post_norm];
        std::iter::once(&self.norm).chain(optional.into_iter().filter_map(Option::as_ref))
    }

    /// What attention adds to `stream` in the layer `index`, after any post-norm; with a `cache`, of one model and its
    /// new tokens alone.
    pub(super) fn forward(
        &self,
        index: usize,
        stream: &Branches,
        batch: &ForwardBatch,
        cache: Option<&mut Cache>,
        hooks: &mut Hooks,
        saver: &mut Saver,
    ) -> std::result::Result<Branches, ModelError> {
        let variants = &batch.variants;
        let [query, key, value] =
            self.split(self.project(&self.norm.forward(stream, variants)?, variants, saver)?)?;
        let [query, key] = self.rotated([query, key], batch)?;
        let query = hooks.through(Site::Query(index), query)?;
        let key = hooks.through(Site::Key(index), key)?;
        let value = hooks.through(Site::Value(index), value)?;
        let attended = match cache {
            None => Branches::zip([&query, &key, &value], |[query, key, value]| {
                self.shape.apply(query, key, value, &batch.sequences)
            })?,
            Some(cache) => {
                cache.store(index, key.model(0), value.model(0), &batch.sequences)?;
                query.map(|query| self.shape.apply_cached(query, cache, index, &batch.sequences))?
            }
        };
        drop((query, key, value));
        let added = self.output.forward(&attended, variants, &mut Saver::default())?;
        Ok(match &self.post_norm {
            Some(norm) => norm.forward(&added, variants)?,
            None => added,
        })
    }

    /// The results of all projections of `x`, the normed stream.
    fn project(&self, x: &Branches, variants: &[Option<&BoundAdapter>], saver: &mut Saver) -> Result<Vec<Branches>> {
        self.projections().iter().map(|linear| linear.forward(x, variants, saver)).collect()
    }

    /// Queries, keys and values as projected.
    fn split(&self, projected: Vec<Branches>) -> Result<[Branches; 3]> {
        let fused = match <[Branches; 3]>::try_from(projected) {
            Ok(apart) => return Ok(apart),
            Err(fused) => fused,
        };
        let all = fused.first().ok_or_else(|| candle_core::Error::Msg("a layer without projections".into()))?;
        let (queries, keys) = (self.shape.query_width(), self.shape.key_width());
        let part = |start: usize, length: usize| all.map(|rows| rows.narrow(1, start, length)?.contiguous());
        Ok([part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?])
    }

    /// Queries and keys behind the norms of the heads and the rotation.
    fn rotated(&self, projected: [Branches; 2], batch: &ForwardBatch) -> Result<[Branches; 2]> {
        let [mut query, mut key] = projected;
        if let Some(norm) = &self.query_norm {
            query = norm.forward(&query, &batch.variants)?;
        }
        if let Some(norm) = &self.key_norm {
            key = norm.forward(&key, &batch.variants)?;
        }
        if let Some(rotation) = self.rope.as_ref().and_then(|rope| batch.rotation(rope)) {
            query = query.map(|rows| rotation.apply(rows, self.shape.head_dim))?;
            key = key.map(|rows| rotation.apply(rows, self.shape.head_dim))?;
        }
        Ok([query, key])
    }
}
