//! An adapter taken apart by layer and by kind of module, and how much of what it does each part does by itself.
//!
//! All shares are of D = Σ KL(adapted‖base) over the base's answers to some prompts. *Knock-in*: the part alone
//! restores 1 − Σ KL(adapted‖part)/D. *Knock-out*: without it Σ KL(adapted‖rest)/D is lost. *Patching*: the base with
//! the adapted model's state entering a layer, at the prompt's last position, restores 1 − Σ KL(adapted‖patched)/D.

use candle_core::Tensor;
use lcr_formats::adapter::AdapterConfig;
use lcr_formats::module::ModulePath;
use lcr_model::decoder::{BoundAdapter, Decoder, Hooks, ModelError, Site, with_values};

use super::pass::{Pair, Prompts, divergences};
use crate::AuditError;
use crate::evidence::streams::Row;

/// Models that are run together, beside the base and the adapted one: memory is theirs.
const TOGETHER: usize = 16;

/// A part of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All modules of one layer.
    Layer(usize),
    /// All modules outside the layers: embedding, last norm, head.
    Outside,
    /// All modules of one kind, such as `q_proj`.
    Kind(String),
}

impl Part {
    /// Whether a module is in it.
    pub fn holds(&self, path: &str) -> bool {
        let module = ModulePath::parse(path);
        match self {
            Self::Layer(layer) => module.layer == Some(*layer),
            Self::Outside => module.layer.is_none(),
            Self::Kind(kind) => module.kind == kind,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Layer(layer) => write!(f, "layer {layer}"),
            Self::Outside => f.write_str("outside the layers"),
            Self::Kind(kind) => f.write_str(kind),
        }
    }
}

/// What one part does.
#[derive(Debug, Clone, PartialEq)]
pub struct PartShare {
    /// The part.
    pub part: Part,
    /// Share that it restores alone.
    pub restored: f64,
    /// Share that is lost without it.
    pub lost: f64,
}

/// The parts of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct PartMap {
    /// By layer, in order, with what is outside them at the end.
    pub layers: Vec<PartShare>,
    /// By kind of module.
    pub kinds: Vec<PartShare>,
    /// Share that the adapted state at the prompt's end restores, by the layer that it enters, the last stream
    /// included.
    pub patched: Vec<f64>,
}

/// Module paths that an adapter changes.
fn changed(adapter: &BoundAdapter) -> Vec<&str> {
    let own = adapter.adapter();
    let whole = own.modules_to_save.keys().map(|name| name.strip_suffix(".weight").unwrap_or(name));
    let others = own.modules.keys().chain(own.embeddings.keys()).chain(own.biases.keys()).map(String::as_str);
    others.chain(whole).collect()
}

/// The layers that an adapter changes, and what is outside them, where it changes that.
pub fn layers_of(adapter: &BoundAdapter) -> Vec<Part> {
    let mut found: Vec<Option<usize>> =
        changed(adapter).into_iter().map(|path| ModulePath::parse(path).layer).collect();
    // None would come first.
    found.sort_by_key(|layer| layer.unwrap_or(usize::MAX));
    found.dedup();
    found.into_iter().map(|layer| layer.map_or(Part::Outside, Part::Layer)).collect()
}

/// The kinds of module that it changes.
pub fn kinds_of(adapter: &BoundAdapter) -> Vec<Part> {
    let mut found: Vec<&str> = changed(adapter).into_iter().map(|path| ModulePath::parse(path).kind).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|kind| Part::Kind(kind.to_owned())).collect()
}

/// The adapter with some of its modules only.
///
/// # Errors
/// As binding the adapter itself.
pub fn restricted(
    decoder: &Decoder,
    of: &BoundAdapter,
    keeps: impl Fn(&str) -> bool,
) -> Result<BoundAdapter, ModelError> {
    let mut adapter = of.adapter().clone();
    adapter.modules.retain(|path, _| keeps(path));
    adapter.embeddings.retain(|path, _| keeps(path));
    adapter.modules_to_save.retain(|name, _| keeps(name.strip_suffix(".weight").unwrap_or(name)));
    adapter.biases.retain(|path, _| keeps(path));
    adapter.bias_tensors.retain(|path, _| keeps(path));
    if let AdapterConfig::Peft(config) = &mut adapter.config {
        // What the file announces must be in it; of a part of it that does not hold.
        config.modules_to_save.clear();
    }
    decoder.bind(adapter)
}

/// A model to run: an adapter, or the base, which from a site on has the adapted model's rows.
struct Variant {
    adapter: Option<BoundAdapter>,
    from: Option<(usize, Rows)>,
}

/// The rows that are the adapted model's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    All,
    EndsOfPrompts,
}

impl Variant {
    fn of(adapter: BoundAdapter) -> Self {
        Self { adapter: Some(adapter), from: None }
    }
}

/// Takes an adapter apart; `None` where it moves none of the prompts.
///
/// # Errors
/// As reading the prompts.
pub fn map_parts(
    decoder: &Decoder,
    adapter: &BoundAdapter,
    prompts: &Prompts,
    report: &mut dyn FnMut(usize, usize),
) -> Result<Option<PartMap>, AuditError> {
    let (layers, kinds) = (layers_of(adapter), kinds_of(adapter));
    let mut variants = Vec::new();
    for part in layers.iter().chain(&kinds) {
        variants.push(Variant::of(restricted(decoder, adapter, |path| part.holds(path))?));
        variants.push(without(decoder, adapter, part)?);
    }
    let sites = 0..=decoder.layers().len();
    variants.extend(sites.map(|site| Variant { adapter: None, from: Some((site, Rows::EndsOfPrompts)) }));
    let Some(left) = left(decoder, adapter, &variants, prompts, report)? else { return Ok(None) };
    let (parts, patched) = left.split_at(2 * (layers.len() + kinds.len()));
    let mut shares = layers.iter().chain(&kinds).zip(parts.chunks_exact(2)).map(|(part, left)| PartShare {
        part: part.clone(),
        restored: 1.0 - left[0],
        lost: left[1],
    });
    Ok(Some(PartMap {
        layers: shares.by_ref().take(layers.len()).collect(),
        kinds: shares.collect(),
        patched: patched.iter().map(|left| 1.0 - left).collect(),
    }))
}

/// The share that some layers restore together, for each of several choices; `None` where nothing moves.
///
/// # Errors
/// As reading the prompts.
pub fn restored_together(
    decoder: &Decoder,
    adapter: &BoundAdapter,
    choices: &[&[Part]],
    prompts: &Prompts,
    report: &mut dyn FnMut(usize, usize),
) -> Result<Option<Vec<f64>>, AuditError> {
    let variants = choices.iter().map(|parts| {
        let kept = restricted(decoder, adapter, |path| parts.iter().any(|part| part.holds(path)))?;
        Ok(Variant::of(kept))
    });
    let left = left(decoder, adapter, &variants.collect::<Result<Vec<_>, ModelError>>()?, prompts, report)?;
    Ok(left.map(|left| left.iter().map(|left| 1.0 - left).collect()))
}

/// The adapted model without a part. Up to the layer that is left out it is the adapted model, whose rows it takes over
/// there, so that nothing is computed twice.
fn without(decoder: &Decoder, adapter: &BoundAdapter, part: &Part) -> Result<Variant, ModelError> {
    let Part::Layer(layer) = part else {
        return Ok(Variant::of(restricted(decoder, adapter, |path| !part.holds(path))?));
    };
    let behind = restricted(decoder, adapter, |path| ModulePath::parse(path).layer.is_none_or(|other| other > *layer))?;
    Ok(Variant { adapter: Some(behind), from: Some((*layer, Rows::All)) })
}

/// Σ KL(adapted‖variant)/Σ KL(adapted‖base) of every variant; `None` where the adapter moves nothing.
fn left(
    decoder: &Decoder,
    adapter: &BoundAdapter,
    variants: &[Variant],
    prompts: &Prompts,
    report: &mut dyn FnMut(usize, usize),
) -> Result<Option<Vec<f64>>, AuditError> {
    let groups = variants.len().div_ceil(TOGETHER);
    let mut found = Vec::with_capacity(variants.len());
    for (index, group) in variants.chunks(TOGETHER).enumerate() {
        let models: Vec<Option<&BoundAdapter>> =
            [None, Some(adapter)].into_iter().chain(group.iter().map(|variant| variant.adapter.as_ref())).collect();
        let pairs: Vec<Pair> = std::iter::once(0).chain(2..models.len()).map(|to| Pair { of: 1, to }).collect();
        let starts: Vec<Option<(usize, Rows)>> = group.iter().map(|variant| variant.from).collect();
        let mut report = |done: usize, all: usize| report(index * all + done, groups * all);
        let apart = divergences(decoder, &models, &pairs, prompts, |rows| taking_over(&starts, rows), &mut report)?;
        let sums: Vec<f64> = apart.iter().map(|prompts| prompts.iter().sum()).collect();
        let Some((whole, left)) = sums.split_first().filter(|(whole, _)| **whole > 0.0) else { return Ok(None) };
        found.extend(left.iter().map(|left| left / whole));
    }
    Ok(Some(found))
}

/// Gives models 2, 3, … the adapted model's rows at their sites. Model 1 is asked first, so its rows are known.
fn taking_over<'h>(starts: &[Option<(usize, Rows)>], rows: &[Row]) -> Hooks<'h> {
    let mut sites: Vec<Site> = starts.iter().flatten().map(|(site, _)| Site::Resid(*site)).collect();
    sites.sort_unstable();
    sites.dedup();
    let starts = starts.to_vec();
    let ends: Vec<usize> = rows.iter().enumerate().filter(|(_, row)| row.ends_prompt).map(|(at, _)| at).collect();
    let mut adapted: Option<Tensor> = None;
    Hooks::default().replace(&sites, move |site, model, own| {
        if model == 1 {
            adapted = Some(own.clone());
        }
        let start = model.checked_sub(2).and_then(|index| starts.get(index).copied().flatten());
        match (start.filter(|(start, _)| Site::Resid(*start) == site), &adapted) {
            (Some((_, Rows::All)), Some(adapted)) => Ok(Some(adapted.clone())),
            (Some((_, Rows::EndsOfPrompts)), Some(adapted)) => patched(own, adapted, &ends).map(Some),
            _ => Ok(None),
        }
    })
}

/// `own` with some rows of `adapted`.
fn patched(own: &Tensor, adapted: &Tensor, rows: &[usize]) -> candle_core::Result<Tensor> {
    let (shape, width) = (own.shape().clone(), own.dim(1)?);
    let host = |tensor: &Tensor| with_values(&tensor.to_device(&candle_core::Device::Cpu)?, <[f32]>::to_vec);
    let (mut values, adapted) = (host(own)?, host(adapted)?);
    for row in rows {
        let of = row * width..(row + 1) * width;
        values[of.clone()].copy_from_slice(&adapted[of]);
    }
    Tensor::from_vec(values, shape, own.device())
}
