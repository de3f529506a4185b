//! Log-probabilities of chosen tokens, and the gradient of a weighted sum of them: what a training step differentiates.
//!
//! [`Trace::forward`] runs examples laid one after another through the decoder and keeps two small tensors per layer;
//! [`Trace::backward`] walks back, one layer at a time, down to the lowest that carries an adapter. Logits exist for a
//! chunk of target rows at a time: only where a token is a target, and in the backward pass only where it carries
//! weight. A loss enters as one coefficient per target, the derivative of the loss by −ln p.

mod divergence;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Tensor};
use lcr_model::decoder::{
    BoundAdapter, Branches, Decoder, HeadPass, Hooks, Layer, ModelError, SavedActivations, Saving, with_values,
};
use rayon::prelude::*;

pub use self::divergence::{Divergence, divergence};
pub use lcr_model::decoder::ModuleGradient;

/// Bytes of products that are saved for the backward pass in place of being computed again: those of the upper layers,
/// as many as fit.
const KEPT_BYTES: usize = 384 << 20;
/// Bytes of logits that exist at a time.
const LOGIT_BYTES: usize = 96 << 20;

/// A sequence of tokens with the positions whose next-token log-probabilities matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// All its tokens, the context included.
    pub tokens: Vec<u32>,
    /// Positions t of *predicted* tokens, from 1 on, ascending: each is predicted from the tokens before it.
    pub targets: Vec<usize>,
}

impl Example {
    /// Tokens that run: the last target itself is predicted, never read.
    fn length(&self) -> usize {
        self.targets.last().copied().unwrap_or(0)
    }
}

/// Gradients of an adapter, by the module's path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdapterGradient {
    /// One entry for every low-rank module of the adapter, zero where the loss does not reach.
    pub modules: BTreeMap<String, ModuleGradient>,
}

impl AdapterGradient {
    /// Zeros in the shapes of a variant's adapter.
    pub fn zero(variant: &BoundAdapter) -> Self {
        let modules = &variant.adapter().modules;
        Self { modules: modules.iter().map(|(path, module)| (path.clone(), ModuleGradient::zero(module))).collect() }
    }

    /// Adds another gradient of the same adapter.
    pub fn add(&mut self, other: &Self) {
        for (path, part) in &other.modules {
            match self.modules.get_mut(path) {
                Some(total) => total.add(part),
                None => {
                    self.modules.insert(path.clone(), part.clone());
                }
            }
        }
    }

    /// Multiplies by a factor.
    pub fn scale(&mut self, factor: f32) {
        self.modules.values_mut().for_each(|module| module.scale(factor));
    }

    /// Its tensors in the order of
    /// [`TrainableAdapter::parameters_mut`](crate::adapter::TrainableAdapter::parameters_mut): modules by path, of each
    /// A, B and then m where there is one.
    pub fn slices(&self) -> impl Iterator<Item = &[f32]> {
        self.modules.values().flat_map(ModuleGradient::slices)
    }

    /// The same, to be changed.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.modules.values_mut().flat_map(ModuleGradient::slices_mut)
    }

    /// √Σ g² over all tensors.
    pub fn norm(&self) -> f64 {
        self.slices().flatten().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    }
}

/// Examples laid one after another: which row of the last stream predicts which token.
struct Rows {
    /// Tokens that run, of all examples.
    tokens: Vec<u32>,
    /// Tokens that run, of each example.
    lengths: Vec<usize>,
    targets: Vec<Target>,
    /// Targets of each example.
    counts: Vec<usize>,
}

/// One target.
struct Target {
    row: usize,
    token: usize,
}

impl Rows {
    fn new(decoder: &Decoder, examples: &[Example]) -> Result<Self, ModelError> {
        let all: Vec<Vec<u32>> = examples.iter().map(|example| example.tokens.clone()).collect();
        decoder.check_prompts(&all)?;
        let mut rows = Self { tokens: Vec::new(), lengths: Vec::new(), targets: Vec::new(), counts: Vec::new() };
        for (index, example) in examples.iter().enumerate() {
            let mut earlier = 0;
            for &target in &example.targets {
                let length = example.tokens.len();
                let (Some(token), true) = (example.tokens.get(target), target > earlier) else {
                    return Err(ModelError::Target { example: index, target, length });
                };
                rows.targets.push(Target { row: rows.tokens.len() + target - 1, token: *token as usize });
                earlier = target;
            }
            rows.tokens.extend(example.tokens.iter().take(example.length()));
            rows.lengths.push(example.length());
            rows.counts.push(example.targets.len());
        }
        Ok(rows)
    }

    fn positions(&self) -> Vec<usize> {
        self.lengths.iter().flat_map(|length| 0..*length).collect()
    }

    /// The rows of the last stream that predict the targets, `[targets, width]`.
    fn gather(&self, stream: &Tensor) -> Result<Tensor, ModelError> {
        let width = stream.dim(1)?;
        let values = with_values(stream, |values| {
            let rows =
                self.targets.iter().filter_map(|target| values.get(target.row * width..(target.row + 1) * width));
            rows.flatten().copied().collect::<Vec<f32>>()
        })?;
        Ok(Tensor::from_vec(values, (self.targets.len(), width), &Device::Cpu)?)
    }

    /// Lengths without the examples that have no target: they have no row.
    fn nonempty_lengths(&self) -> Vec<usize> {
        self.lengths.iter().copied().filter(|length| *length > 0).collect()
    }

    /// The logit of a target's token.
    fn logit(&self, target: usize, logits: &[f32]) -> f32 {
        self.targets.get(target).and_then(|target| logits.get(target.token)).copied().unwrap_or(f32::NAN)
    }

    /// Example of each target, and its index there.
    fn places(&self) -> Vec<(usize, usize)> {
        self.counts
            .iter()
            .enumerate()
            .flat_map(|(example, count)| (0..*count).map(move |index| (example, index)))
            .collect()
    }

    /// Coefficients of all targets, one after another.
    fn flattened(&self, coefficients: &[Vec<f64>]) -> Result<Vec<f64>, ModelError> {
        for example in 0..self.counts.len().max(coefficients.len()) {
            let targets = self.counts.get(example).copied().unwrap_or(0);
            let found = coefficients.get(example).map_or(0, Vec::len);
            if targets != found {
                return Err(ModelError::Coefficients { example, targets, found });
            }
        }
        Ok(coefficients.concat())
    }

    /// The rows that any chosen target depends on: of each example, those up to its last chosen one.
    fn spans(&self, chosen: &[usize]) -> Vec<Range<usize>> {
        let mut chosen = chosen.iter().map(|target| self.targets[*target].row).peekable();
        let mut spans = Vec::new();
        let mut start = 0;
        for length in &self.lengths {
            let end = start + length;
            let mut last = None;
            while let Some(row) = chosen.next_if(|row| *row < end) {
                last = Some(row);
            }
            spans.extend(last.map(|last| start..last + 1));
            start = end;
        }
        spans
    }

    /// The gradients of chosen targets' rows in their places among the rows of `spans`, zeros elsewhere.
    fn scatter(&self, chosen: &[usize], spans: &[Range<usize>], values: &[f32], width: usize) -> Vec<f32> {
        let mut out = vec![0.0; spans.iter().map(Range::len).sum::<usize>() * width];
        let mut chosen = chosen.iter().zip(values.chunks_exact(width)).peekable();
        let mut before = 0;
        for span in spans {
            while let Some((target, values)) = chosen.next_if(|(target, _)| self.targets[**target].row < span.end) {
                let place = (before + self.targets[*target].row - span.start) * width;
                out[place..place + width].copy_from_slice(values);
            }
            before += span.len();
        }
        out
    }

    /// Values of all targets, by example.
    fn by_example(&self, values: &[f64]) -> Vec<Vec<f64>> {
        let mut rest = values;
        let mut split = |count: &usize| {
            let (own, after) = rest.split_at(*count);
            rest = after;
            own.to_vec()
        };
        self.counts.iter().map(&mut split).collect()
    }
}

/// Rows whose logits exist at a time, in `branches` models.
fn chunk_rows(vocabulary: usize, branches: usize) -> usize {
    (LOGIT_BYTES / size_of::<f32>() / vocabulary.max(1) / branches).max(1)
}

/// A row's softmax: ln Σ exp, the largest logit kept apart so that nothing overflows.
#[derive(Debug, Clone, Copy, Default)]
struct Softmax {
    largest: f32,
    /// ln Σ exp(logit − largest).
    log_total: f64,
    /// −Σ p ln p.
    entropy: f64,
}

impl Softmax {
    fn of(logits: &[f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut total, mut moment) = (0.0, 0.0);
        for logit in logits {
            let shifted = logit - largest;
            let mass = f64::from(shifted.exp());
            total += mass;
            moment += if mass > 0.0 { mass * f64::from(shifted) } else { 0.0 };
        }
        Self { largest, log_total: total.ln(), entropy: total.ln() - moment / total }
    }

    fn log_probability(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.largest) - self.log_total
    }
}

/// Products of the head become logits.
fn cap(row: &mut [f32], softcap: Option<f32>) {
    if let Some(cap) = softcap {
        row.iter_mut().for_each(|value| *value = cap * (*value / cap).tanh());
    }
}

/// Logits become the gradient of −coefficient · ln p(token) by the products under them.
fn differentiate(row: &mut [f32], token: usize, softmax: &Softmax, coefficient: f64, softcap: Option<f32>) {
    let factor = (coefficient * (-softmax.log_total).exp()) as f32;
    for (index, value) in row.iter_mut().enumerate() {
        let (logit, mass) = (*value, (*value - softmax.largest).exp() * factor);
        let slope = if index == token { mass - coefficient as f32 } else { mass };
        *value = slope * softcap.map_or(1.0, |cap| 1.0 - (logit / cap).powi(2));
    }
}

/// A forward pass of one variant over some examples, with what its backward pass needs.
pub struct Trace<'a> {
    decoder: &'a Decoder,
    variant: &'a BoundAdapter,
    rows: Rows,
    /// Layers from the lowest adapted one up.
    layers: Vec<(&'a Layer, SavedActivations)>,
    /// The rows of the last stream that predict the targets, `[targets, width]`.
    last: Tensor,
    softmaxes: Vec<Softmax>,
    log_probabilities: Vec<Vec<f64>>,
    entropies: Vec<Vec<f64>>,
}

impl std::fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lengths, targets) = (&self.rows.lengths, &self.rows.counts);
        f.debug_struct("Trace").field("lengths", lengths).field("targets", targets).finish_non_exhaustive()
    }
}

impl<'a> Trace<'a> {
    /// Runs the examples, laid one after another; tokens after an example's last target are not run.
    ///
    /// Fails on tokens outside the vocabulary, on targets that do not exist, and where numbers overflow.
    pub fn forward(decoder: &'a Decoder, variant: &'a BoundAdapter, examples: &[Example]) -> Result<Self, ModelError> {
        let mut trace = Self::run(decoder, variant, examples, KEPT_BYTES)?;
        let softcap = decoder.config().final_softcap;
        let mut found = Vec::with_capacity(trace.rows.targets.len());
        let all: Vec<usize> = (0..trace.rows.targets.len()).collect();
        let score = |target: usize, logits: &mut [f32]| {
            cap(logits, softcap);
            let softmax = Softmax::of(logits);
            (softmax, softmax.log_probability(trace.rows.logit(target, logits)))
        };
        trace.for_each_chunk(&all, score, |_, _, _, results| {
            found.extend(results);
            Ok(())
        })?;
        trace.remember(&found);
        Ok(trace)
    }

    /// ln p of each target, by example (natural logarithm, temperature 1).
    pub fn log_probabilities(&self) -> &[Vec<f64>] {
        &self.log_probabilities
    }

    /// Entropy of the distribution that each target was predicted from, nats, by example.
    pub fn entropies(&self) -> &[Vec<f64>] {
        &self.entropies
    }

    /// Gradient of Σ c·(−ln p) over targets, `coefficients` holding c by example and target.
    pub fn backward(self, coefficients: &[Vec<f64>]) -> Result<AdapterGradient, ModelError> {
        let coefficients = self.rows.flattened(coefficients)?;
        let chosen: Vec<usize> = (0..coefficients.len()).filter(|target| coefficients[*target] != 0.0).collect();
        let mut gradient = HeadGradient::new(self.variant);
        let softcap = self.decoder.config().final_softcap;
        let differentiated = |target: usize, logits: &mut [f32]| {
            cap(logits, softcap);
            let token = self.rows.targets[target].token;
            differentiate(logits, token, &self.softmaxes[target], coefficients[target], softcap);
        };
        self.for_each_chunk(&chosen, differentiated, |targets, stream, pass, _| {
            gradient.take(&self, targets, stream, &pass)
        })?;
        self.walk_back(gradient)
    }

    /// Forward and backward pass in one, where the coefficient of a target follows from its own ln p and entropy.
    ///
    /// `coefficient` gets example, target, ln p and entropy. Against [`Trace::forward`] and [`Trace::backward`] it
    /// spares one of three products with the head.
    pub fn gradient(
        decoder: &'a Decoder,
        variant: &'a BoundAdapter,
        examples: &[Example],
        coefficient: impl Fn(usize, usize, f64, f64) -> f64 + Sync,
    ) -> Result<Scored, ModelError> {
        let mut trace = Self::run(decoder, variant, examples, KEPT_BYTES)?;
        let softcap = decoder.config().final_softcap;
        let all: Vec<usize> = (0..trace.rows.targets.len()).collect();
        let places = trace.rows.places();
        let mut gradient = HeadGradient::new(variant);
        let mut found = Vec::with_capacity(all.len());
        let score = |target: usize, logits: &mut [f32]| {
            cap(logits, softcap);
            let softmax = Softmax::of(logits);
            let log_probability = softmax.log_probability(trace.rows.logit(target, logits));
            let (example, index) = places[target];
            let factor = coefficient(example, index, log_probability, softmax.entropy);
            if factor != 0.0 {
                differentiate(logits, trace.rows.targets[target].token, &softmax, factor, softcap);
            }
            (softmax, log_probability, factor)
        };
        trace.for_each_chunk(&all, score, |targets, stream, pass, results| {
            let weighted: Vec<usize> = (0..results.len()).filter(|row| results[*row].2 != 0.0).collect();
            found.extend(results.into_iter().map(|(softmax, log_probability, _)| (softmax, log_probability)));
            if weighted.is_empty() {
                return Ok(());
            }
            let targets: Vec<usize> = weighted.iter().map(|row| targets[*row]).collect();
            gradient.take(&trace, &targets, &selected(stream, &weighted)?, &pass.keep(&weighted)?)
        })?;
        trace.remember(&found);
        let (log_probabilities, entropies) = (trace.log_probabilities.clone(), trace.entropies.clone());
        Ok(Scored { log_probabilities, entropies, gradient: trace.walk_back(gradient)? })
    }

    /// The layers alone; the results of large products are saved up to `saved_bytes`.
    fn run(
        decoder: &'a Decoder,
        variant: &'a BoundAdapter,
        examples: &[Example],
        saved_bytes: usize,
    ) -> Result<Self, ModelError> {
        let rows = Rows::new(decoder, examples)?;
        let width = decoder.config().width;
        let last = Tensor::from_vec(Vec::<f32>::new(), (0, width), &Device::Cpu)?;
        let mut trace = Self {
            decoder,
            variant,
            rows,
            layers: Vec::new(),
            last,
            softmaxes: Vec::new(),
            log_probabilities: Vec::new(),
            entropies: Vec::new(),
        };
        if trace.rows.targets.is_empty() {
            return Ok(trace);
        }
        let batch = decoder.batch(&trace.rows.nonempty_lengths(), vec![Some(variant)]);
        let positions = trace.rows.positions();
        let lowest = decoder.layers().iter().position(|layer| layer.is_adapted(variant));
        let first_saved = first_saved(decoder, variant, lowest, positions.len(), saved_bytes);
        let mut stream = decoder.embed(&trace.rows.tokens, &positions, &batch.variants)?;
        for (index, layer) in decoder.layers().iter().enumerate() {
            if lowest.is_some_and(|lowest| index >= lowest) {
                let saving = if index >= first_saved { Saving::Products } else { Saving::Inputs };
                let (after, saved) = layer.forward_saving(&stream, &batch, saving)?;
                trace.layers.push((layer, saved));
                stream = after;
            } else {
                stream = layer.forward(&stream, &batch, None, &mut Hooks::default())?;
            }
            check_finite(decoder, index, &stream, &["the adapted model"])?;
            layer.release();
        }
        trace.last = trace.rows.gather(stream.model(0))?;
        Ok(trace)
    }

    /// Runs the head on some targets, a chunk of them at a time: `visit` gets each target with its row of products, and
    /// `finish` the chunk's targets, rows of the stream, pass and what `visit` returned.
    fn for_each_chunk<R: Send>(
        &self,
        targets: &[usize],
        visit: impl Fn(usize, &mut [f32]) -> R + Sync,
        mut finish: impl FnMut(&[usize], &Tensor, HeadPass, Vec<R>) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        for chunk in targets.chunks(chunk_rows(self.decoder.config().vocab_size, 1)) {
            let stream = selected(&self.last, chunk)?;
            let pass = self.decoder.head_forward(&stream, Some(self.variant))?;
            let results = pass.map_rows(|row, products| visit(chunk[row], products))?;
            finish(chunk, &stream, pass, results)?;
        }
        Ok(())
    }

    fn remember(&mut self, found: &[(Softmax, f64)]) {
        let by_example =
            |value: fn(&(Softmax, f64)) -> f64| self.rows.by_example(&found.iter().map(value).collect::<Vec<f64>>());
        self.log_probabilities = by_example(|(_, log_probability)| *log_probability);
        self.entropies = by_example(|(softmax, _)| softmax.entropy);
        self.softmaxes = found.iter().map(|(softmax, _)| *softmax).collect();
    }

    /// From the last stream down to the lowest adapted layer.
    fn walk_back(self, head: HeadGradient) -> Result<AdapterGradient, ModelError> {
        let HeadGradient { chosen, values, mut modules } = head;
        let spans = self.rows.spans(&chosen);
        let lengths: Vec<usize> = spans.iter().map(Range::len).collect();
        let batch = self.decoder.batch(&lengths, vec![Some(self.variant)]);
        let mut gradient =
            (!chosen.is_empty()).then(|| self.rows.scatter(&chosen, &spans, &values, self.decoder.config().width));
        drop(values);
        for (index, (layer, saved)) in self.layers.into_iter().enumerate().rev() {
            let Some(above) = gradient.take() else { break };
            gradient = layer.backward(saved.rows(&spans)?, &batch, above, index > 0, &mut modules)?;
            layer.release();
        }
        Ok(AdapterGradient { modules })
    }
}

/// What [`Trace::gradient`] finds.
#[derive(Debug, Clone)]
pub struct Scored {
    /// ln p of each target, by example.
    pub log_probabilities: Vec<Vec<f64>>,
    /// Entropy of the distribution that each target was predicted from, nats, by example.
    pub entropies: Vec<Vec<f64>>,
    /// Gradient of Σ c·(−ln p).
    pub gradient: AdapterGradient,
}

/// What the head's backward pass has found so far.
struct HeadGradient {
    /// Targets with a coefficient, ascending.
    chosen: Vec<usize>,
    /// Gradients of the rows that predict them, `[chosen, width]`.
    values: Vec<f32>,
    modules: BTreeMap<String, ModuleGradient>,
}

impl HeadGradient {
    fn new(variant: &BoundAdapter) -> Self {
        Self { chosen: Vec::new(), values: Vec::new(), modules: AdapterGradient::zero(variant).modules }
    }

    /// Goes back through the head's pass over some targets' rows of the last stream.
    fn take(&mut self, trace: &Trace, targets: &[usize], stream: &Tensor, pass: &HeadPass) -> Result<(), ModelError> {
        let part = trace.decoder.head_backward(stream, pass, Some(trace.variant), &mut self.modules)?;
        self.chosen.extend(targets);
        self.values.extend(part);
        Ok(())
    }
}

/// Some rows of a matrix.
fn selected(matrix: &Tensor, rows: &[usize]) -> Result<Tensor, ModelError> {
    if rows.len() == matrix.dim(0)? {
        return Ok(matrix.clone());
    }
    let indices: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
    Ok(matrix.index_select(&Tensor::new(indices.as_slice(), &Device::Cpu)?, 0)?)
}

/// The lowest layer whose products are saved, so that those of it and all above take `bytes` at most.
fn first_saved(decoder: &Decoder, variant: &BoundAdapter, lowest: Option<usize>, rows: usize, bytes: usize) -> usize {
    let layers = decoder.layers();
    let mut left = bytes;
    let mut first = layers.len();
    while let Some(layer) = first.checked_sub(1).filter(|below| lowest.is_some_and(|lowest| *below >= lowest)) {
        let needed = layers[layer].saved_bytes(variant).saturating_mul(rows);
        if needed > left {
            break;
        }
        left -= needed;
        first = layer;
    }
    first
}

/// Refuses a stream that is no longer finite, in the name of the first model that it is of.
fn check_finite(decoder: &Decoder, layer: usize, stream: &Branches, models: &[&str]) -> Result<(), ModelError> {
    for (model, name) in models.iter().enumerate() {
        if !with_values(stream.model(model), |values| {
            values.par_chunks(1 << 16).all(|part| part.iter().all(|value| value.is_finite()))
        })? {
            return Err(decoder.explain_overflow(layer, name, model));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lcr_formats::adapter::Adapter;

    use super::*;

    #[test]
    fn products_that_are_kept_and_those_computed_again_give_the_same_gradient() {
        for case in ["gemma2_lora", "gpt2_lora", "mistral_dora_mlp", "phi3_lora", "qwen3_dora_qv"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(case);
            let decoder = Decoder::open(&folder.join("base"), Device::Cpu).unwrap();
            let variant = decoder.bind(Adapter::open(&folder.join("adapter")).unwrap()).unwrap();
            let example =
                |length: u32| Example { tokens: (0..length).collect(), targets: (1..length as usize).collect() };
            let examples = [example(21), example(9)];
            let coefficients = [vec![0.5; 20], [vec![-1.0; 4], vec![0.0; 4]].concat()];
            let layer = decoder.layers().last().unwrap().saved_bytes(&variant) * 28;
            let gradients = [0, 2 * layer, usize::MAX].map(|saved_bytes| {
                let mut trace = Trace::run(&decoder, &variant, &examples, saved_bytes).unwrap();
                let found: Vec<(Softmax, f64)> = vec![(Softmax::default(), 0.0); trace.rows.targets.len()];
                trace.remember(&found);
                trace.backward(&coefficients).unwrap()
            });
            assert!(gradients[0].norm() > 0.0, "{case}");
            assert_eq!(gradients[0], gradients[1], "{case}");
            assert_eq!(gradients[0], gradients[2], "{case}");
        }
    }
}
