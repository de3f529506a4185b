//! One layer: what attention and then the feed-forward part add to the stream.

use std::collections::BTreeMap;

use lcr_formats::checkpoint::CheckpointError;
use lcr_formats::config::Config;

use super::attention::{Attention, AttentionShape};
use super::backward::{Backward, ModuleGradient};
use super::batch::ForwardBatch;
use super::bound_adapter::BoundAdapter;
use super::branches::Branches;
use super::cache::Cache;
use super::cpu_slices::add;
use super::feed_forward::FeedForward;
use super::linear::Linear;
use super::norm::NormModule;
use super::saved::{SavedActivations, SavedProduct, Saver, Saving};
use super::{ModelError, Names};
use crate::decoder::hooks::{Hooks, Site};

/// One decoder layer.
#[derive(Debug)]
pub struct Layer {
    index: usize,
    attention: Attention,
    feed_forward: FeedForward,
}

impl Layer {
    pub(crate) fn open(names: &Names, config: &Config, index: usize) -> Result<Self, CheckpointError> {
        let attention = Attention::open(names, config, index)?;
        Ok(Self { index, attention, feed_forward: FeedForward::open(names, config, index)? })
    }

    /// How this layer attends.
    pub fn attention(&self) -> &AttentionShape {
        self.attention.shape()
    }

    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.attention.linears().chain(self.feed_forward.linears())
    }

    pub(crate) fn norms(&self) -> impl Iterator<Item = &NormModule> {
        self.attention.norms().chain(self.feed_forward.norms())
    }

    /// The stream after this layer, given the stream before it; with a `cache`, of one model and its new tokens alone.
    pub fn forward(
        &self,
        stream: &Branches,
        batch: &ForwardBatch,
        cache: Option<&mut Cache>,
        hooks: &mut Hooks,
    ) -> Result<Branches, ModelError> {
        self.run(stream, batch, cache, hooks, &mut Saver::default())
    }

    /// The same for the first and only model of `batch`, and what [`Layer::backward`] needs.
    pub fn forward_saving(
        &self,
        stream: &Branches,
        batch: &ForwardBatch,
        saving: Saving,
    ) -> Result<(Branches, SavedActivations), ModelError> {
        let mut saver = Saver::new(saving);
        let after = self.run(stream, batch, None, &mut Hooks::default(), &mut saver)?;
        Ok((after, saver.into_activations(stream.model(0).clone())?))
    }

    fn run(
        &self,
        stream: &Branches,
        batch: &ForwardBatch,
        cache: Option<&mut Cache>,
        hooks: &mut Hooks,
        saver: &mut Saver,
    ) -> Result<Branches, ModelError> {
        let replaced = hooks.visit(Site::Resid(self.index), stream)?;
        let stream = replaced.as_ref().unwrap_or(stream);
        let added = self.attention.forward(self.index, stream, batch, cache, hooks, saver)?;
        let added = hooks.through(Site::AttnOut(self.index), added)?;
        saver.attended(added.model(0));
        let stream = Branches::zip([stream, &added], |[stream, added]| add(stream, added))?;
        drop(added);
        let added = self.feed_forward.forward(&stream, &batch.variants, saver)?;
        let added = hooks.through(Site::MlpOut(self.index), added)?;
        Ok(Branches::zip([&stream, &added], |[stream, added]| add(stream, added))?)
    }

    /// Whether the variant adapts a linear module of this layer.
    pub fn is_adapted(&self, variant: &BoundAdapter) -> bool {
        self.linears().any(|linear| linear.is_adapted(Some(variant)))
    }

    /// Bytes of the products that [`Saving::Products`] keeps for each row, beside the two small tensors.
    pub fn saved_bytes(&self, variant: &BoundAdapter) -> usize {
        let values = |linear: &Linear| {
            linear.outputs * if linear.has_magnitude(Some(variant)) { 2 } else { 1 } * size_of::<f32>()
        };
        self.attention.projections().iter().chain(self.feed_forward.projections()).map(values).sum()
    }

    /// Adds the gradients of this layer's adapters to `modules` and returns that of the stream before it, where `below`
    /// says that somebody needs it.
    ///
    /// `gradient` is that of the stream after the layer, `[tokens, width]`. The model is the first of `batch`, whose
    /// sequences have no cache and are those of the rows in `saved`.
    pub fn backward(
        &self,
        saved: SavedActivations,
        batch: &ForwardBatch,
        gradient: Vec<f32>,
        below: bool,
        modules: &mut BTreeMap<String, ModuleGradient>,
    ) -> Result<Option<Vec<f32>>, ModelError> {
        let mut backward = Backward::new(batch, modules);
        let variant = backward.variant;
        let attention_wanted = below || self.attention.linears().any(|linear| linear.is_adapted(variant));
        let mut gradient = gradient;
        let SavedActivations { stream, attended, products } = saved;
        let (projections, ups) = self.apart(products);
        let middle = add(&stream, &attended)?;
        drop(attended);
        if let Some(inner) = self.feed_forward.backward(&middle, &gradient, attention_wanted, ups, &mut backward)? {
            add_to(&mut gradient, &inner);
        }
        drop(middle);
        if !attention_wanted {
            return Ok(None);
        }
        let inner = self.attention.backward(&stream, &gradient, below, projections, &mut backward)?;
        Ok(inner.map(|inner| {
            add_to(&mut gradient, &inner);
            gradient
        }))
    }

    /// Saved products of attention and of the feed-forward part.
    fn apart(&self, products: Option<Vec<SavedProduct>>) -> (Option<Vec<SavedProduct>>, Option<Vec<SavedProduct>>) {
        let Some(mut products) = products else { return (None, None) };
        let ups = products.split_off(self.attention.projections().len().min(products.len()));
        (Some(products), Some(ups))
    }

    /// Gives back the pages of this layer's weights.
    pub fn release(&self) {
        self.linears().for_each(|linear| linear.weight.release());
    }
}

/// target += part.
fn add_to(target: &mut [f32], part: &[f32]) {
    target.iter_mut().zip(part).for_each(|(target, part)| *target += part);
}
