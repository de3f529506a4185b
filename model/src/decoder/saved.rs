//! What a forward pass keeps for the backward pass: by default nothing.
//!
//! Two small tensors a layer are enough: the stream before it and what its attention added. From them the feed-forward
//! part is computed again without attention, and attention without its product with the values or its output
//! projection, unless one of these carries an adapter or a norm. With the results of the large products as well,
//! nothing large is computed again.

use std::ops::Range;

use candle_core::{Result, Tensor};

/// Result of a linear module, and what its backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct SavedProduct {
    /// y, `[tokens, outputs]`.
    pub(super) output: Tensor,
    /// u, before DoRA's magnitude, `[tokens, outputs]`; only where there is one.
    pub(super) pre_magnitude: Option<Tensor>,
}

/// How much is kept of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// The two small tensors.
    Inputs,
    /// The results of its large products as well.
    Products,
}

/// Collects what is kept while one layer runs for one model; the default keeps nothing.
#[derive(Debug, Default)]
pub(super) struct Saver {
    saving: Option<Saving>,
    attended: Option<Tensor>,
    products: Vec<SavedProduct>,
}

impl Saver {
    pub(super) fn new(saving: Saving) -> Self {
        Self { saving: Some(saving), ..Self::default() }
    }

    pub(super) fn keeps_products(&self) -> bool {
        self.saving == Some(Saving::Products)
    }

    /// Offers a linear module's result.
    pub(super) fn product(&mut self, product: impl FnOnce() -> SavedProduct) {
        if self.keeps_products() {
            self.products.push(product());
        }
    }

    /// Offers what attention adds to the stream.
    pub(super) fn attended(&mut self, rows: &Tensor) {
        if self.saving.is_some() {
            self.attended = Some(rows.clone());
        }
    }

    /// The products in the order in which they were computed.
    pub(super) fn into_products(self) -> Vec<SavedProduct> {
        self.products
    }

    /// All that was kept of the layer that `stream` entered.
    pub(super) fn into_activations(self, stream: Tensor) -> Result<SavedActivations> {
        let products = self.keeps_products().then_some(self.products);
        let attended = self.attended.ok_or_else(|| candle_core::Error::Msg("nothing was kept of a layer".into()))?;
        Ok(SavedActivations { stream, attended, products })
    }
}

/// What a forward pass has kept of one layer.
#[derive(Debug, Clone)]
pub struct SavedActivations {
    /// The stream before the layer, `[tokens, width]`.
    pub(super) stream: Tensor,
    /// What its attention added to the stream, after any post-norm, `[tokens, width]`.
    pub(super) attended: Tensor,
    /// Results of the linear modules that read a norm, in the order of the layer.
    pub(super) products: Option<Vec<SavedProduct>>,
}

impl SavedActivations {
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
        let rows = |saved: SavedProduct| {
            let pre_magnitude = saved.pre_magnitude.as_ref().map(some).transpose()?;
            Ok(SavedProduct { output: some(&saved.output)?, pre_magnitude })
        };
        let products = match self.products {
            Some(products) => Some(products.into_iter().map(rows).collect::<Result<Vec<SavedProduct>>>()?),
            None => None,
        };
        Ok(Self { stream: some(&self.stream)?, attended: some(&self.attended)?, products })
    }
}
