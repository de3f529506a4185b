//! One decoder for all supported families, over several models at once, with hooks.
//!
//! A [`Decoder`] holds views of the weights and small vectors only. Its caller walks the layers: embed, then
//! [`Layer::forward`] for each, then [`Decoder::logits`] on as many rows as it likes, and may give a layer's pages back
//! when it is done. Several models run together as [`Branches`]; what distinguishes them is a [`BoundAdapter`] each.

mod attention;
mod backward;
mod batch;
mod bound_adapter;
mod branches;
mod cache;
mod cpu_slices;
mod embedding;
mod error;
mod feed_forward;
mod head;
pub mod hooks;
mod kernels;
mod layer;
mod linear;
mod norm;
mod rope;
mod saved;

use std::cell::Cell;
use std::path::Path;

use candle_core::Device;
use lcr_formats::adapter::{Adapter, Coverage, ModuleKind, TargetModule};
use lcr_formats::checkpoint::{Checkpoint, CheckpointError, Weight};
use lcr_formats::config::{Config, Norm};

pub use self::attention::{AttentionShape, Pattern, Sequence};
pub use self::backward::ModuleGradient;
pub use self::batch::ForwardBatch;
pub use self::bound_adapter::BoundAdapter;
use self::bound_adapter::ModuleId;
pub use self::branches::Branches;
pub use self::cache::Cache;
pub(crate) use self::cache::{BlockTable, CacheShape};
pub use self::cpu_slices::{with_all_values, with_values};
use self::embedding::Embedding;
pub use self::embedding::Input;
pub use self::error::ModelError;
pub use self::head::HeadPass;
pub use self::hooks::{Hooks, Replacement, Site, SiteKind, UnknownSite};
pub use self::layer::Layer;
use self::linear::Linear;
pub use self::linear::for_each_tile;
use self::norm::NormModule;
use self::saved::Saver;
pub use self::saved::{SavedActivations, Saving};

/// A model's files, ready to run.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    checkpoint: Checkpoint,
    device: Device,
    embedding: Embedding,
    layers: Vec<Layer>,
    final_norm: NormModule,
    head: Linear,
}

/// Finds tensors under the module paths that transformers uses, also in checkpoints saved without the model's prefix.
pub(crate) struct Names<'a> {
    checkpoint: &'a Checkpoint,
    /// The body's path, as in [`Layout::body`](lcr_formats::config::Layout).
    body: &'static str,
    /// Modules that got a number so far.
    modules: Cell<usize>,
}

impl<'a> Names<'a> {
    fn new(checkpoint: &'a Checkpoint, body: &'static str) -> Self {
        Self { checkpoint, body, modules: Cell::new(0) }
    }

    /// The number of the next module.
    fn next_id(&self) -> ModuleId {
        ModuleId(self.modules.replace(self.modules.get() + 1))
    }

    fn stored<'n>(&self, name: &'n str) -> &'n str {
        match name.strip_prefix(self.body).and_then(|rest| rest.strip_prefix('.')) {
            Some(bare) if self.checkpoint.find(name).is_none() && self.checkpoint.find(bare).is_some() => bare,
            _ => name,
        }
    }

    fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight, CheckpointError> {
        self.checkpoint.get(self.stored(name), shape)
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, CheckpointError> {
        self.weight(name, &[length])?.to_finite_f32()
    }

    fn norm(&self, path: String, kind: Norm, width: usize) -> Result<NormModule, CheckpointError> {
        let gain = self.vector(&format!("{path}.weight"), width)?;
        let bias = match kind {
            Norm::Layer { .. } => Some(self.vector(&format!("{path}.bias"), width)?),
            Norm::Rms { .. } => None,
        };
        Ok(NormModule::new(self.next_id(), path, kind, gain, bias))
    }

    fn linear(
        &self,
        path: String,
        inputs: usize,
        outputs: usize,
        bias: bool,
        transposed: bool,
    ) -> Result<Linear, CheckpointError> {
        let shape = if transposed { [inputs, outputs] } else { [outputs, inputs] };
        let weight = self.weight(&format!("{path}.weight"), &shape)?;
        let bias = if bias { Some(self.vector(&format!("{path}.bias"), outputs)?) } else { None };
        Ok(Linear { id: self.next_id(), path, weight, transposed, inputs, outputs, bias })
    }
}

impl Decoder {
    /// Opens the model in `folder`; every tensor that the forward pass needs is found and its shape checked here.
    pub fn open(folder: &Path, device: Device) -> Result<Self, ModelError> {
        let checkpoint = Checkpoint::open(folder)?;
        let config = Config::open(folder)?;
        let layout = &config.family.layout;
        let names = Names::new(&checkpoint, layout.body);
        let (token_path, norm_path) = (layout.in_body(layout.embedding), layout.in_body(layout.final_norm));
        let tokens = names.weight(&format!("{token_path}.weight"), &[config.vocab_size, config.width])?;
        let table = |name: &str| {
            names.weight(&format!("{}.weight", layout.in_body(name)), &[config.max_positions, config.width])
        };
        let positions = layout.positions.map(table).transpose()?;
        let layers =
            (0..config.layers.len()).map(|index| Layer::open(&names, &config, index)).collect::<Result<_, _>>()?;
        let final_norm = names.norm(norm_path, config.norm, config.width)?;
        let weight = if config.tied_head {
            tokens.clone()
        } else {
            checkpoint.get("lm_head.weight", &[config.vocab_size, config.width])?
        };
        let head = Linear {
            id: names.next_id(),
            path: "lm_head".to_owned(),
            weight,
            transposed: false,
            inputs: config.width,
            outputs: config.vocab_size,
            bias: None,
        };
        let embedding = Embedding { id: names.next_id(), path: token_path, tokens, positions };
        Ok(Self { config, checkpoint, device, embedding, layers, final_norm, head })
    }

    /// Its config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The module that an adapter may change, by its path: weight, whether it is stored `[inputs, outputs]`.
    pub fn linear_weight(&self, path: &str) -> Option<(&Weight, bool)> {
        self.linear(path).map(|linear| (&linear.weight, linear.transposed))
    }

    pub(crate) fn linear(&self, path: &str) -> Option<&Linear> {
        self.linears().find(|linear| linear.path == path)
    }

    /// A tensor of the base under its module's name, whatever prefix the file uses.
    pub fn tensor(&self, name: &str) -> Option<&Weight> {
        let names = Names::new(&self.checkpoint, self.config.family.layout.body);
        if name == "lm_head.weight" {
            return Some(&self.head.weight);
        }
        self.checkpoint.find(names.stored(name))
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears).chain(std::iter::once(&self.head))
    }

    fn all_norms(&self) -> impl Iterator<Item = &NormModule> {
        self.layers.iter().flat_map(Layer::norms).chain(std::iter::once(&self.final_norm))
    }

    /// Number and path of every module that an adapter may change.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (ModuleId, &str)> {
        let linears = self.linears().map(|linear| (linear.id, linear.path.as_str()));
        let norms = self.all_norms().map(|norm| (norm.id, norm.path.as_str()));
        linears.chain(norms).chain([(self.embedding.id, self.embedding.path.as_str())])
    }

    /// Every module that an adapter may change.
    pub fn target_modules(&self) -> Vec<TargetModule> {
        let mut modules: Vec<TargetModule> = self
            .linears()
            .map(|linear| TargetModule {
                path: linear.path.clone(),
                inputs: linear.inputs,
                outputs: linear.outputs,
                kind: if linear.path == "lm_head" {
                    ModuleKind::Head
                } else if linear.transposed {
                    ModuleKind::Conv1d
                } else {
                    ModuleKind::Linear
                },
            })
            .collect();
        modules.extend(self.all_norms().map(|norm| TargetModule {
            path: norm.path.clone(),
            inputs: norm.width(),
            outputs: norm.width(),
            kind: ModuleKind::Norm,
        }));
        modules.push(TargetModule {
            path: self.embedding.path.clone(),
            inputs: self.config.vocab_size,
            outputs: self.config.width,
            kind: ModuleKind::Embedding,
        });
        modules
    }

    /// Fits an adapter to this model: every tensor of it finds its module and its shape, or this is an error.
    ///
    /// Two things differ and are said in the coverage: tables over a vocabulary of another size get the rows of the
    /// base's, and a classification head is set aside.
    pub fn bind(&self, mut adapter: Adapter) -> Result<BoundAdapter, ModelError> {
        let shape = |name: &str| self.tensor(name).map(|weight| weight.shape().to_vec());
        let modules = self.target_modules();
        let tables =
            [(self.embedding.path.as_str(), &self.embedding.tokens), (self.head.path.as_str(), &self.head.weight)];
        let vocabulary = adapter.fit_vocabulary(&tables);
        let coverage = Coverage { vocabulary, ..adapter.bind(&modules, &shape)? };
        Ok(BoundAdapter::new(self, adapter.without_heads(&modules), coverage))
    }

    /// Adapters of this model as one that does what all of them do, each as strong as it is; `None` of none.
    ///
    /// # Errors
    /// Where two change a module in ways that have no sum: see [`Adapter::beside`].
    pub fn stack(&self, parts: &[&BoundAdapter]) -> Result<Option<BoundAdapter>, ModelError> {
        let Some((first, others)) = parts.split_first() else { return Ok(None) };
        let (mut adapter, mut coverage) = (first.adapter().clone(), first.coverage().clone());
        for other in others {
            adapter = adapter.beside(other.adapter())?;
            coverage = coverage.beside(other.coverage());
        }
        // Each was fitted to this model by itself, by its own config, which says nothing about the others.
        Ok(Some(BoundAdapter::new(self, adapter, coverage)))
    }

    /// What the decoder needs to know of a batch of prompts, laid one after another.
    pub fn batch<'a>(&self, lengths: &[usize], variants: Vec<Option<&'a BoundAdapter>>) -> ForwardBatch<'a> {
        let positions: Vec<usize> = lengths.iter().flat_map(|length| 0..*length).collect();
        ForwardBatch::new(&self.config, Sequence::consecutive(lengths), &positions, variants)
    }

    /// Refuses prompts that this model cannot read.
    pub fn check_prompts(&self, prompts: &[Vec<u32>]) -> Result<(), ModelError> {
        let vocab_size = self.config.vocab_size;
        for (prompt, tokens) in prompts.iter().enumerate() {
            if tokens.len() > self.config.max_positions {
                let limit = self.config.max_positions;
                return Err(ModelError::TooLong { prompt, length: tokens.len(), limit });
            }
            if let Some(position) = tokens.iter().position(|token| *token as usize >= vocab_size) {
                return Err(ModelError::Token { token: tokens[position], prompt, position, vocab_size });
            }
        }
        Ok(())
    }

    /// The stream after all layers, given that of [`Decoder::embed`]; with a `cache`, of one model and its new tokens
    /// alone.
    pub fn forward(
        &self,
        stream: Branches,
        batch: &ForwardBatch,
        mut cache: Option<&mut Cache>,
        hooks: &mut Hooks,
    ) -> Result<Branches, ModelError> {
        hooks.check(self.layers.len())?;
        let mut stream = stream;
        for layer in &self.layers {
            stream = layer.forward(&stream, batch, cache.as_deref_mut(), hooks)?;
        }
        hooks.through(Site::Resid(self.layers.len()), stream)
    }

    /// Final norm, output head and soft-cap on rows of the last stream (or, as the logit lens, of any): `[rows,
    /// vocab]`.
    pub fn logits(&self, stream: &Branches, variants: &[Option<&BoundAdapter>]) -> Result<Branches, ModelError> {
        self.logits_of_normal(&self.final_normal(stream, variants)?, variants)
    }

    /// Final norm on rows of the last stream: `[rows, width]`.
    pub fn final_normal(&self, stream: &Branches, variants: &[Option<&BoundAdapter>]) -> Result<Branches, ModelError> {
        Ok(self.final_norm.forward(stream, variants)?)
    }

    /// Output head and soft-cap on rows behind the final norm: `[rows, vocab]`.
    pub fn logits_of_normal(
        &self,
        normal: &Branches,
        variants: &[Option<&BoundAdapter>],
    ) -> Result<Branches, ModelError> {
        let logits = self.head.forward(normal, variants, &mut Saver::default())?;
        Ok(match self.config.final_softcap {
            Some(cap) => logits.map(|rows| (rows / f64::from(cap))?.tanh()? * f64::from(cap))?,
            None => logits,
        })
    }

    /// Gives back the pages of all layers.
    pub fn release_layers(&self) {
        self.layers.iter().for_each(Layer::release);
    }

    /// Gives back the pages of the embeddings and the head.
    pub fn release_head(&self) {
        self.embedding.tokens.release();
        self.head.weight.release();
    }

    /// Names the weight that made a layer's output NaN or infinite, or says that none did; `place` is that of the model
    /// among those that were run together.
    pub fn explain_overflow(&self, layer: usize, model: &str, place: usize) -> ModelError {
        let weights = self.layers.get(layer).into_iter().flat_map(Layer::linears).map(|linear| &linear.weight);
        for weight in weights {
            if let Err(error) = weight.to_finite_f32() {
                return error.into();
            }
        }
        ModelError::Overflow { model: model.to_owned(), place, layer }
    }
}
