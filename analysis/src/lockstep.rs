//! Base and variants through the layers together, one layer at a time.
//!
//! The caller asks for one layer after another and gets what was captured there; after each layer its weights' pages
//! and the activations it does not keep are gone, so memory is that of one layer and the streams, whatever the depth.

use lcr_model::decoder::{
    AttentionShape, BoundAdapter, Branches, Decoder, ForwardBatch, Hooks, ModelError, Sequence, Site, SiteKind,
    with_values,
};

/// Bytes of logits that stand in memory at once, of all models together.
const LOGIT_BYTES: usize = 96 << 20;
/// Rows of them that each model has at least: every block reads and widens the whole output head.
const LOGIT_ROWS: usize = 32;

/// What one step of the walk gave.
#[derive(Debug)]
pub struct Step<'a> {
    /// Activations at the sites asked for.
    pub captured: Vec<(Site, Branches)>,
    /// The layer's attention; `None` for the step after the last layer, which captures the final stream.
    pub attention: Option<&'a AttentionShape>,
}

/// A batch of prompts on its way through base (model 0) and variants (models 1, 2, …).
#[derive(Debug)]
pub struct Lockstep<'a> {
    decoder: &'a Decoder,
    batch: ForwardBatch<'a>,
    stream: Branches,
    hooks: Hooks<'a>,
    next: usize,
}

impl<'a> Lockstep<'a> {
    /// Embeds the prompts; `sites` are those that each step will capture.
    pub fn start(
        decoder: &'a Decoder,
        prompts: &[Vec<u32>],
        variants: &[&'a BoundAdapter],
        sites: &[SiteKind],
    ) -> Result<Self, ModelError> {
        let models = std::iter::once(None).chain(variants.iter().copied().map(Some)).collect();
        Self::of_models(decoder, prompts, models, Hooks::new(sites))
    }

    /// The same with any models, of which `None` is the base, as often as it is wanted: what `hooks` puts in its place
    /// makes it another.
    pub fn of_models(
        decoder: &'a Decoder,
        prompts: &[Vec<u32>],
        models: Vec<Option<&'a BoundAdapter>>,
        hooks: Hooks<'a>,
    ) -> Result<Self, ModelError> {
        decoder.check_prompts(prompts)?;
        hooks.check(decoder.layers().len())?;
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let batch = decoder.batch(&lengths, models);
        let tokens = prompts.concat();
        let positions: Vec<usize> = lengths.iter().flat_map(|length| 0..*length).collect();
        let stream = decoder.embed(&tokens, &positions, &batch.variants)?;
        Ok(Self { decoder, batch, stream, hooks, next: 0 })
    }

    /// The next layer and the stream that enters it.
    pub fn standing(&self) -> (usize, &Branches) {
        (self.next, &self.stream)
    }

    /// Goes on from an earlier [`Lockstep::standing`] of the same prompts and variants, the end of the walk included;
    /// false where it cannot be one.
    pub fn resume(&mut self, next: usize, stream: Branches) -> bool {
        let fits = stream.of_model().len() == self.stream.of_model().len()
            && stream.tensors().iter().all(|branch| branch.shape() == self.stream.model(0).shape())
            && next <= self.decoder.layers().len() + 2;
        if fits {
            (self.next, self.stream) = (next, stream);
        }
        fits
    }

    /// The sequences in the rows.
    pub fn sequences(&self) -> &[Sequence] {
        &self.batch.sequences
    }

    /// Runs the next layer; after the last, captures the final stream once; then `None`.
    pub fn advance(&mut self) -> Result<Option<Step<'a>>, ModelError> {
        let layers = self.decoder.layers();
        let index = self.next;
        self.next += 1;
        let Some(layer) = layers.get(index) else {
            if index > layers.len() {
                return Ok(None);
            }
            self.stream = self.hooks.through(Site::Resid(index), self.stream.clone())?;
            return Ok(Some(Step { captured: self.hooks.take(), attention: None }));
        };
        self.stream = layer.forward(&self.stream, &self.batch, None, &mut self.hooks)?;
        self.refuse_overflow(index)?;
        layer.release();
        Ok(Some(Step { captured: self.hooks.take(), attention: Some(layer.attention()) }))
    }

    /// NaN and infinity end the run here, with the weight that caused them named.
    fn refuse_overflow(&self, layer: usize) -> Result<(), ModelError> {
        for (branch, rows) in self.stream.tensors().iter().enumerate() {
            let host = rows.to_device(&candle_core::Device::Cpu)?;
            if !with_values(&host, |values| values.iter().all(|value| value.is_finite()))? {
                let model = self.stream.of_model().iter().position(|of| *of == branch).unwrap_or(0);
                let name = match self.batch.variants.get(model) {
                    Some(Some(variant)) => format!("adapter {}", variant.adapter().path.display()),
                    _ => "the base".to_owned(),
                };
                return Err(self.decoder.explain_overflow(layer, &name, model));
            }
        }
        Ok(())
    }

    /// Rows of logits that stand in memory at once, of each model.
    pub fn rows_of_logits(&self) -> usize {
        let models = self.stream.of_model().len().max(1);
        (LOGIT_BYTES / 4 / self.decoder.config().vocab_size / models).max(LOGIT_ROWS)
    }

    /// Logits of a block of rows of the final stream, `[rows, vocab]` for every model.
    pub fn logits(&self, first: usize, rows: usize) -> Result<Branches, ModelError> {
        let block = self.stream.map(|branch| branch.narrow(0, first, rows))?;
        self.decoder.logits(&block, &self.batch.variants)
    }

    /// Logit lens: the model's own final norm and unembedding on any rows, one tensor `[rows, width]` a model.
    pub fn lens(&self, rows: &Branches) -> Result<Branches, ModelError> {
        self.decoder.logits(rows, &self.batch.variants)
    }
}
