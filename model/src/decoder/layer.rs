//! One layer: norm, attention, norm, MLP, each added to the stream.

use candle_core::{Result, Tensor};
use lcr_formats::checkpoint::CheckpointError;
use lcr_formats::config::{Config, Family, Norm, Rope};

use super::attention::{AttentionShape, Sequence};
use super::cache::Cache;
use super::host::add;
use super::lanes::Lanes;
use super::linear::Linear;
use super::mlp::NonLinearity;
use super::norm::NormParameters;
use super::rope::Rotation;
use super::variant::Variant;
use super::{ModelError, Names};
use crate::hooks::{Hooks, Site};

/// A normalisation with its path, so that an adapter can carry another one in its place.
#[derive(Debug)]
pub(crate) struct NormModule {
    pub(crate) path: String,
    pub(super) parameters: NormParameters,
}

impl NormModule {
    pub(crate) fn new(path: String, kind: Norm, gain: Vec<f32>, bias: Option<Vec<f32>>) -> Self {
        Self { path, parameters: NormParameters::new(kind, gain, bias) }
    }

    pub(crate) fn width(&self) -> usize {
        self.parameters.gain.len()
    }

    /// The parameters a variant has in place of the base's.
    pub(super) fn changed(&self, variant: Option<&Variant>) -> Option<NormParameters> {
        let variant = variant?;
        let gain = variant.whole_of(&self.path);
        let bias = variant.bias(&self.path);
        if gain.is_none() && bias.is_none() {
            return None;
        }
        let mut parameters = match gain {
            Some(gain) => NormParameters::new(self.parameters.kind, gain.to_f32(), self.parameters.bias.clone()),
            None => self.parameters.clone(),
        };
        if let Some(bias) = bias {
            parameters.bias = Some(bias.to_vec());
        }
        Some(parameters)
    }

    pub(crate) fn forward(&self, x: &Lanes, variants: &[Option<&Variant>]) -> Result<Lanes> {
        let changes: Vec<Option<NormParameters>> = variants.iter().map(|variant| self.changed(*variant)).collect();
        if changes.iter().all(Option::is_none) {
            return x.map(|rows| self.parameters.apply(rows));
        }
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut lanes: Vec<Option<usize>> = vec![None; x.tensors().len()];
        let mut of_model = Vec::with_capacity(variants.len());
        for (model, change) in changes.iter().enumerate() {
            let source = x.of_model()[model];
            let lane = match (change, lanes[source]) {
                (None, Some(lane)) => lane,
                (change, _) => {
                    let parameters = change.as_ref().unwrap_or(&self.parameters);
                    tensors.push(parameters.apply(x.model(model))?);
                    tensors.len() - 1
                }
            };
            if change.is_none() {
                lanes[source] = Some(lane);
            }
            of_model.push(lane);
        }
        Ok(Lanes::new(tensors, of_model))
    }
}

/// Query, key and value projections: apart, or fused into one product.
#[derive(Debug)]
pub(super) enum Projections {
    Apart(Box<[Linear; 3]>),
    Fused(Linear),
}

/// The MLP of a family.
#[derive(Debug)]
pub(super) enum Mlp {
    /// down(act(gate) ⊙ up).
    Gated { gate: Linear, up: Linear, down: Linear },
    /// The same with gate and up in one product.
    GatedFused { gate_up: Linear, down: Linear },
    /// down(act(up)).
    Plain { up: Linear, down: Linear },
}

/// One decoder layer.
#[derive(Debug)]
pub struct Layer {
    index: usize,
    pub(super) attention: AttentionShape,
    pub(super) rope: Option<Rope>,
    pub(super) activation: NonLinearity,
    pub(super) input_norm: NormModule,
    pub(super) projections: Projections,
    pub(super) query_norm: Option<NormModule>,
    pub(super) key_norm: Option<NormModule>,
    pub(super) output: Linear,
    pub(super) post_attention_norm: Option<NormModule>,
    pub(super) mlp_norm: NormModule,
    pub(super) mlp: Mlp,
    pub(super) post_mlp_norm: Option<NormModule>,
}

/// What is the same for every layer of one forward pass.
#[derive(Debug)]
pub struct Pass<'a> {
    /// The sequences in the rows.
    pub sequences: Vec<Sequence>,
    /// The adapter of each model, if it has one.
    pub variants: Vec<Option<&'a Variant>>,
    rotations: Vec<(Rope, Rotation)>,
}

impl<'a> Pass<'a> {
    /// `positions` are those of the rows in their sequences.
    pub fn new(
        config: &Config,
        sequences: Vec<Sequence>,
        positions: &[usize],
        variants: Vec<Option<&'a Variant>>,
    ) -> Self {
        let mut rotations: Vec<(Rope, Rotation)> = Vec::new();
        for rope in config.layers.iter().filter_map(|layer| layer.rope) {
            if !rotations.iter().any(|(known, _)| *known == rope) {
                rotations.push((rope, Rotation::new(&rope, positions)));
            }
        }
        Self { sequences, variants, rotations }
    }

    pub(super) fn rotation(&self, rope: &Rope) -> Option<&Rotation> {
        self.rotations.iter().find(|(known, _)| known == rope).map(|(_, rotation)| rotation)
    }
}

impl Layer {
    pub(crate) fn open(names: &Names, config: &Config, index: usize) -> std::result::Result<Self, CheckpointError> {
        let family = config.family;
        let gpt2 = family == Family::Gpt2;
        let prefix = if gpt2 { format!("transformer.h.{index}") } else { format!("model.layers.{index}") };
        let (width, inner) = (config.width, config.intermediate);
        let (query_width, key_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let norm = |name: &str| names.norm(format!("{prefix}.{name}"), config.norm, width);
        let head_norm = |name: &str| names.norm(format!("{prefix}.self_attn.{name}"), config.norm, config.head_dim);
        let linear = |name: &str, inputs: usize, outputs: usize, bias: bool| {
            names.linear(format!("{prefix}.{name}"), inputs, outputs, bias, family)
        };
        let projections = match family {
            Family::Gpt2 => Projections::Fused(linear("attn.c_attn", width, 3 * width, true)?),
            Family::Phi3 => {
                Projections::Fused(linear("self_attn.qkv_proj", width, query_width + 2 * key_width, config.qkv_bias)?)
            }
            _ => Projections::Apart(Box::new([
                linear("self_attn.q_proj", width, query_width, config.qkv_bias)?,
                linear("self_attn.k_proj", width, key_width, config.qkv_bias)?,
                linear("self_attn.v_proj", width, key_width, config.qkv_bias)?,
            ])),
        };
        let mlp = match family {
            Family::Gpt2 => Mlp::Plain {
                up: linear("mlp.c_fc", width, inner, true)?,
                down: linear("mlp.c_proj", inner, width, true)?,
            },
            Family::Phi3 => Mlp::GatedFused {
                gate_up: linear("mlp.gate_up_proj", width, 2 * inner, config.mlp_bias)?,
                down: linear("mlp.down_proj", inner, width, config.mlp_bias)?,
            },
            _ => Mlp::Gated {
                gate: linear("mlp.gate_proj", width, inner, config.mlp_bias)?,
                up: linear("mlp.up_proj", width, inner, config.mlp_bias)?,
                down: linear("mlp.down_proj", inner, width, config.mlp_bias)?,
            },
        };
        let heads_normed = matches!(family, Family::Qwen3 | Family::Gemma3);
        let post_normed = matches!(family, Family::Gemma2 | Family::Gemma3);
        let kind = config.layers[index];
        Ok(Self {
            index,
            attention: AttentionShape {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                scale: config.attention_scale,
                softcap: config.attention_softcap,
                window: kind.window,
            },
            rope: kind.rope,
            activation: NonLinearity(config.activation),
            input_norm: norm(if gpt2 { "ln_1" } else { "input_layernorm" })?,
            projections,
            query_norm: if heads_normed { Some(head_norm("q_norm")?) } else { None },
            key_norm: if heads_normed { Some(head_norm("k_norm")?) } else { None },
            output: linear(
                if gpt2 { "attn.c_proj" } else { "self_attn.o_proj" },
                query_width,
                width,
                config.output_bias,
            )?,
            post_attention_norm: if post_normed { Some(norm("post_attention_layernorm")?) } else { None },
            mlp_norm: norm(match family {
                Family::Gpt2 => "ln_2",
                Family::Gemma2 | Family::Gemma3 => "pre_feedforward_layernorm",
                _ => "post_attention_layernorm",
            })?,
            mlp,
            post_mlp_norm: if post_normed { Some(norm("post_feedforward_layernorm")?) } else { None },
        })
    }

    /// How this layer attends.
    pub fn attention(&self) -> &AttentionShape {
        &self.attention
    }

    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        let projections: Vec<&Linear> = match &self.projections {
            Projections::Apart(parts) => parts.iter().collect(),
            Projections::Fused(fused) => vec![fused],
        };
        let mlp = match &self.mlp {
            Mlp::Gated { gate, up, down } => vec![gate, up, down],
            Mlp::GatedFused { gate_up, down } => vec![gate_up, down],
            Mlp::Plain { up, down } => vec![up, down],
        };
        projections.into_iter().chain(std::iter::once(&self.output)).chain(mlp)
    }

    pub(crate) fn norms(&self) -> impl Iterator<Item = &NormModule> {
        [
            Some(&self.input_norm),
            self.query_norm.as_ref(),
            self.key_norm.as_ref(),
            self.post_attention_norm.as_ref(),
            Some(&self.mlp_norm),
            self.post_mlp_norm.as_ref(),
        ]
        .into_iter()
        .flatten()
    }

    /// The stream after this layer, given the stream before it; with a `cache`, of one model and its new tokens alone.
    pub fn forward(
        &self,
        stream: &Lanes,
        pass: &Pass,
        cache: Option<&mut Cache>,
        hooks: &mut Hooks,
    ) -> std::result::Result<Lanes, ModelError> {
        let variants = &pass.variants;
        let replaced = hooks.visit(Site::Resid(self.index), stream)?;
        let stream = replaced.as_ref().unwrap_or(stream);
        let attended = self.attend(&self.input_norm.forward(stream, variants)?, pass, cache, hooks)?;
        let added = match &self.post_attention_norm {
            Some(norm) => norm.forward(&attended, variants)?,
            None => attended,
        };
        let added = hooks.through(Site::AttnOut(self.index), added)?;
        let stream = Lanes::zip([stream, &added], |[stream, added]| add(stream, added))?;
        let inner = self.feed_forward(&self.mlp_norm.forward(&stream, variants)?, variants)?;
        let added = match &self.post_mlp_norm {
            Some(norm) => norm.forward(&inner, variants)?,
            None => inner,
        };
        let added = hooks.through(Site::MlpOut(self.index), added)?;
        Ok(Lanes::zip([&stream, &added], |[stream, added]| add(stream, added))?)
    }

    /// Queries, keys and values before norms and rotation.
    fn project(&self, x: &Lanes, variants: &[Option<&Variant>]) -> Result<[Lanes; 3]> {
        match &self.projections {
            Projections::Apart(parts) => {
                let [query, key, value] = parts.as_ref();
                Ok([query.forward(x, variants)?, key.forward(x, variants)?, value.forward(x, variants)?])
            }
            Projections::Fused(fused) => {
                let all = fused.forward(x, variants)?;
                let query = self.attention.heads * self.attention.head_dim;
                let key = self.attention.kv_heads * self.attention.head_dim;
                let part = |start: usize, length: usize| all.map(|rows| rows.narrow(1, start, length)?.contiguous());
                Ok([part(0, query)?, part(query, key)?, part(query + key, key)?])
            }
        }
    }

    fn attend(
        &self,
        x: &Lanes,
        pass: &Pass,
        cache: Option<&mut Cache>,
        hooks: &mut Hooks,
    ) -> std::result::Result<Lanes, ModelError> {
        let [mut query, mut key, value] = self.project(x, &pass.variants)?;
        if let Some(norm) = &self.query_norm {
            query = norm.forward(&query, &pass.variants)?;
        }
        if let Some(norm) = &self.key_norm {
            key = norm.forward(&key, &pass.variants)?;
        }
        if let Some(rotation) = self.rope.as_ref().and_then(|rope| pass.rotation(rope)) {
            query = query.map(|rows| rotation.apply(rows, self.attention.head_dim))?;
            key = key.map(|rows| rotation.apply(rows, self.attention.head_dim))?;
        }
        let query = hooks.through(Site::Query(self.index), query)?;
        let key = hooks.through(Site::Key(self.index), key)?;
        let value = hooks.through(Site::Value(self.index), value)?;
        let attended = match cache {
            None => Lanes::zip([&query, &key, &value], |[query, key, value]| {
                self.attention.apply(query, key, value, &pass.sequences)
            })?,
            Some(cache) => {
                cache.store(self.index, key.model(0), value.model(0), &pass.sequences)?;
                query.map(|query| self.attention.apply_cached(query, cache, self.index, &pass.sequences))?
            }
        };
        Ok(self.output.forward(&attended, &pass.variants)?)
    }

    fn feed_forward(&self, x: &Lanes, variants: &[Option<&Variant>]) -> Result<Lanes> {
        let (inner, down) = match &self.mlp {
            Mlp::Gated { gate, up, down } => {
                let (gate, up) = (gate.forward(x, variants)?, up.forward(x, variants)?);
                (Lanes::zip([&gate, &up], |[gate, up]| self.activation.gated(gate, up))?, down)
            }
            Mlp::GatedFused { gate_up, down } => {
                (gate_up.forward(x, variants)?.map(|fused| self.activation.gated_fused(fused))?, down)
            }
            Mlp::Plain { up, down } => (up.forward(x, variants)?.map(|rows| self.activation.apply(rows))?, down),
        };
        down.forward(&inner, variants)
    }

    /// Gives back the pages of this layer's weights.
    pub fn release(&self) {
        self.linears().for_each(|linear| linear.weight.release());
    }
}
