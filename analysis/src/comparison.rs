//! The whole comparison: weights, then one walk of base and variants through the layers, then the output distributions.
//!
//! Sites are collected until there is work for every core, measured in parallel, and dropped; what stays is the report.

use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use indexmap::IndexMap;
use lcr_documents::audit::{AttentionChange, Coherence, SiteChange, TokenChange, Trajectories, WeightChange};
use lcr_formats::config::Config;
use lcr_model::decoder::{AttentionShape, BoundAdapter, Branches, Decoder, Sequence, Site, SiteKind, with_all_values};
use rayon::prelude::*;

use crate::AuditError;
use crate::linalg::NoConvergence;
use crate::lockstep::{Lockstep, Step};
use crate::logits::{Lens, Outputs};
use crate::metrics::attention::{self, QueriesAndKeys};
use crate::metrics::coherence::coherence;
use crate::metrics::tokens::{self, Place, Vocabulary};
use crate::metrics::trajectories::{self, TrackedTokens, tracked_places};
use crate::metrics::{Metric, weights};
use crate::resume::{Found, ResumeFile, ResumeState, Saver};
use crate::site::{SiteOptions, SiteResult, compare_site};
use crate::weights::{ChangedTensor, Measured, changed_tensors, natural_key};

/// Sites are measured when this many per thread are waiting: an even load for every core.
const WAITING_PER_THREAD: usize = 3;

/// What to compare and how.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// What to measure at every site, and which metrics at all.
    pub sites: SiteOptions,
    /// Tokens followed through the layers.
    pub tracked: usize,
}

/// Seconds spent, by phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    /// Layers and output head.
    pub forward: Duration,
    /// Activations to numbers.
    pub metrics: Duration,
    /// Changes of the weights.
    pub weights: Duration,
}

impl std::ops::AddAssign for Phases {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.metrics += other.metrics;
        self.weights += other.weights;
    }
}

impl std::fmt::Display for Phases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { forward, metrics, weights } = self;
        let [weights, forward, metrics] = [weights, forward, metrics].map(Duration::as_secs_f64);
        write!(f, "weights {weights:.1} s · forward {forward:.1} s · metrics {metrics:.1} s")
    }
}

/// How far a comparison has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A changed tensor was measured: how many of how many.
    Weights(usize, usize),
    /// A layer was run and measured: how many of how many.
    Layers(usize, usize),
    /// Output distributions were compared: rows of rows.
    Outputs(usize, usize),
}

/// What was found of one variant.
#[derive(Debug)]
pub struct Comparison {
    /// Changes of the weights, by tensor.
    pub weights: IndexMap<String, WeightChange>,
    /// Changes of the activations, by site.
    pub layers: IndexMap<String, SiteChange>,
    /// Sinks left out, by site.
    pub sinks: IndexMap<String, usize>,
    /// Next-token distributions.
    pub tokens: Option<TokenChange>,
    /// Tracked tokens.
    pub trajectories: Option<Trajectories>,
    /// Whether modules agree on a direction.
    pub coherence: Coherence,
}

/// Compares every variant with the base over the same prompts, in one pass. The second value says where the time went.
///
/// `report` is told of progress, from this thread.
pub fn compare(
    decoder: &Decoder,
    variants: &[&BoundAdapter],
    prompts: &[Vec<u32>],
    vocabulary: &dyn Vocabulary,
    options: &CompareOptions,
    report: &mut dyn FnMut(Progress),
) -> Result<(Vec<Comparison>, Phases), AuditError> {
    compare_resumable(decoder, variants, prompts, vocabulary, options, None, report)
}

/// The same, with how far it has come kept in a file: a run that was killed goes on from there.
pub fn compare_resumable(
    decoder: &Decoder,
    variants: &[&BoundAdapter],
    prompts: &[Vec<u32>],
    vocabulary: &dyn Vocabulary,
    options: &CompareOptions,
    file: Option<&ResumeFile>,
    report: &mut dyn FnMut(Progress),
) -> Result<(Vec<Comparison>, Phases), AuditError> {
    if prompts.iter().all(|prompt| prompt.len() < 2) {
        return Err(AuditError::NoProbes);
    }
    // Decompositions run one on each core; inside one, threads would only wait for each other.
    faer::set_global_parallelism(faer::Par::Seq);
    let mut run = Run::new(decoder, variants, prompts, options);
    let mut saver = Saver::new(file);
    let mut lockstep = Lockstep::start(decoder, prompts, variants, &run.kinds())?;
    if let Some(state) = saver.resume() {
        run.resume(state, &mut lockstep);
    }
    run.measure_weights(&mut saver, report)?;
    run.walk(&mut lockstep, &mut saver, report)?;
    run.outputs(&lockstep, &mut saver, report)?;
    run.trajectories(&lockstep, &mut saver)?;
    saver.settle(|| run.resume_state(Some(lockstep.standing())))?;
    decoder.release_head();
    let phases = run.phases;
    Ok((run.finish(vocabulary)?, phases))
}

/// Bytes of activations that a comparison holds at once for each model that reads so many tokens, about: its stream,
/// and what is tapped in the layers that wait to be measured together.
pub fn bytes_per_model(config: &Config, tokens: usize) -> usize {
    let tapped = 3 * config.width + (config.heads + config.kv_heads) * config.head_dim;
    let jobs_per_layer = 4;
    let layers = (WAITING_PER_THREAD * rayon::current_num_threads()).div_ceil(jobs_per_layer);
    tokens * 4 * (config.width + layers * tapped)
}

/// Every changed tensor with the variants that change it, in the order of layers.
fn changed_by_name<'a>(
    decoder: &'a Decoder,
    variants: &'a [&'a BoundAdapter],
) -> Vec<(String, Vec<(usize, ChangedTensor<'a>)>)> {
    let mut names: IndexMap<String, Vec<(usize, ChangedTensor)>> = IndexMap::new();
    for (index, variant) in variants.iter().enumerate() {
        for tensor in changed_tensors(decoder, variant) {
            names.entry(tensor.name.clone()).or_default().push((index, tensor));
        }
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_cached_key(|(name, _)| natural_key(name));
    names
}

/// Activations that wait for their turn to be measured.
enum Job<'a> {
    Site(Site, Branches),
    Attention { layer: usize, shape: &'a AttentionShape, queries: Branches, keys: Branches },
}

enum JobResult {
    Site(Site, Vec<SiteResult>),
    Attention(usize, Vec<AttentionChange>),
}

struct Run<'a> {
    decoder: &'a Decoder,
    variants: &'a [&'a BoundAdapter],
    prompts: &'a [Vec<u32>],
    options: &'a CompareOptions,
    places: Vec<Place>,
    /// Rows of the tracked places.
    tracked_rows: Vec<u32>,
    /// Streams of the tracked places, by site.
    tracked: Vec<Branches>,
    found: Vec<Comparison>,
    /// Changed tensors measured, by variant, and how many names of them.
    measured: Vec<Vec<(String, Measured)>>,
    weights: usize,
    outputs: Outputs,
    lens: Lens,
    phases: Phases,
}

impl<'a> Run<'a> {
    fn new(
        decoder: &'a Decoder,
        variants: &'a [&'a BoundAdapter],
        prompts: &'a [Vec<u32>],
        options: &'a CompareOptions,
    ) -> Self {
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let sequences = Sequence::consecutive(&lengths);
        let places = tracked_places(&lengths, options.tracked);
        let row = |place: &Place| (sequences[place.prompt].queries.start + place.position) as u32;
        let found = variants
            .iter()
            .map(|_| Comparison {
                weights: IndexMap::new(),
                layers: IndexMap::new(),
                sinks: IndexMap::new(),
                tokens: None,
                trajectories: None,
                coherence: Coherence::default(),
            })
            .collect();
        let tracked_rows = places.iter().map(row).collect();
        let (tracked, phases) = (Vec::new(), Phases::default());
        let measured = variants.iter().map(|_| Vec::new()).collect();
        let (outputs, lens) = (Outputs::new(variants.len()), Lens::default());
        Self {
            decoder,
            variants,
            prompts,
            options,
            places,
            tracked_rows,
            tracked,
            found,
            measured,
            weights: 0,
            outputs,
            lens,
            phases,
        }
    }

    /// Takes over what an earlier run found, where it fits this one.
    fn resume(&mut self, state: ResumeState, lockstep: &mut Lockstep) {
        let models = self.variants.len();
        let fits = state.outputs.fits(models) && state.lens.fits(models, state.tracked.len());
        if state.measured.len() != models || state.found.len() != models || !fits {
            return;
        }
        if let Some((next, stream)) = state.walk
            && !lockstep.resume(next, stream)
        {
            return;
        }
        (self.weights, self.measured, self.tracked) = (state.weights, state.measured, state.tracked);
        (self.outputs, self.lens) = (state.outputs, state.lens);
        for (found, known) in self.found.iter_mut().zip(state.found) {
            (found.layers, found.sinks) = (known.layers, known.sinks);
        }
    }

    fn resume_state(&self, walk: Option<(usize, &Branches)>) -> ResumeState {
        let found = self.found.iter().map(|found| Found { layers: found.layers.clone(), sinks: found.sinks.clone() });
        ResumeState {
            weights: self.weights,
            measured: self.measured.clone(),
            found: found.collect(),
            walk: walk.map(|(next, stream)| (next, stream.clone())),
            tracked: self.tracked.clone(),
            outputs: self.outputs.clone(),
            lens: self.lens.clone(),
        }
    }

    fn wants(&self, metric: &Metric) -> bool {
        self.options.sites.metrics.contains(&metric)
    }

    fn kinds(&self) -> Vec<SiteKind> {
        let mut kinds = vec![SiteKind::Resid, SiteKind::AttnOut, SiteKind::MlpOut];
        if self.wants(&attention::METRIC) {
            kinds.extend([SiteKind::Query, SiteKind::Key]);
        }
        kinds
    }

    fn measure_weights(&mut self, saver: &mut Saver, report: &mut dyn FnMut(Progress)) -> Result<(), AuditError> {
        if !self.wants(&weights::METRIC) {
            return Ok(());
        }
        let started = Instant::now();
        let names = changed_by_name(self.decoder, self.variants);
        for group in names.get(self.weights..).unwrap_or(&[]).chunks(rayon::current_num_threads().max(1)) {
            // One weight's own decomposition serves every variant that changes it.
            let results: Vec<Result<Vec<(usize, Measured)>, NoConvergence>> = group
                .par_iter()
                .map(|(_, changes)| {
                    let mut base = None;
                    changes.iter().map(|(variant, tensor)| Ok((*variant, tensor.measure(&mut base)?))).collect()
                })
                .collect();
            for ((name, _), results) in group.iter().zip(results) {
                for (variant, result) in results? {
                    self.measured[variant].push((name.clone(), result));
                }
            }
            self.weights += group.len();
            report(Progress::Weights(self.weights, names.len()));
            self.decoder.release_layers();
            saver.offer(|| self.resume_state(None))?;
        }
        for (found, measured) in self.found.iter_mut().zip(&self.measured) {
            found.coherence = coherence(measured, self.decoder.config().width);
            found.weights = measured.iter().map(|(name, measured)| (name.clone(), measured.change.clone())).collect();
        }
        self.decoder.release_head();
        self.phases.weights = started.elapsed();
        Ok(())
    }

    /// All layers, measured in batches.
    fn walk(
        &mut self,
        lockstep: &mut Lockstep<'a>,
        saver: &mut Saver,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), AuditError> {
        let layers = self.decoder.layers().len();
        let enough = WAITING_PER_THREAD * rayon::current_num_threads();
        let mut waiting = Vec::new();
        let mut done = lockstep.standing().0;
        loop {
            let started = Instant::now();
            let step = lockstep.advance()?;
            self.phases.forward += started.elapsed();
            let Some(step) = step else { break };
            waiting.extend(self.jobs(step, done)?);
            done += 1;
            if waiting.len() >= enough || done > layers {
                self.measure(std::mem::take(&mut waiting), lockstep.sequences())?;
                saver.offer(|| self.resume_state(Some(lockstep.standing())))?;
            }
            report(Progress::Layers(done.min(layers), layers));
        }
        self.measure(waiting, lockstep.sequences())?;
        for found in &mut self.found {
            found.layers.sort_by(|left, _, right, _| site_order(left).cmp(&site_order(right)));
        }
        Ok(())
    }

    /// The work that one step of the walk gives.
    fn jobs(&mut self, step: Step<'a>, layer: usize) -> Result<Vec<Job<'a>>, AuditError> {
        let (mut jobs, mut queries, mut keys) = (Vec::new(), None, None);
        for (site, branches) in step.captured {
            match site.kind() {
                SiteKind::Query => queries = Some(branches),
                SiteKind::Key => keys = Some(branches),
                _ => {
                    if site.kind() == SiteKind::Resid && self.wants(&trajectories::METRIC) {
                        self.track(&branches)?;
                    }
                    jobs.push(Job::Site(site, branches));
                }
            }
        }
        if let (Some(queries), Some(keys), Some(shape)) = (queries, keys, step.attention) {
            jobs.push(Job::Attention { layer, shape, queries, keys });
        }
        Ok(jobs)
    }

    /// Keeps the tracked rows of a stream.
    fn track(&mut self, branches: &Branches) -> Result<(), AuditError> {
        let rows = Tensor::new(self.tracked_rows.as_slice(), self.decoder.device())?;
        self.tracked.push(branches.map(|branch| branch.index_select(&rows, 0))?);
        Ok(())
    }

    fn measure(&mut self, jobs: Vec<Job>, sequences: &[Sequence]) -> Result<(), AuditError> {
        let started = Instant::now();
        let options = &self.options.sites;
        let results: Vec<Result<JobResult, AuditError>> =
            jobs.into_par_iter().with_max_len(1).map(|job| job.run(sequences, options)).collect();
        for result in results {
            match result? {
                JobResult::Site(site, results) => {
                    for (found, result) in self.found.iter_mut().zip(results) {
                        if result.sinks > 0 {
                            found.sinks.insert(site.to_string(), result.sinks);
                        }
                        let entry = found.layers.entry(site.to_string());
                        // Attention of the same layer may have come first.
                        let attention = match &entry {
                            indexmap::map::Entry::Occupied(known) => known.get().attention.clone(),
                            indexmap::map::Entry::Vacant(_) => None,
                        };
                        entry.insert_entry(SiteChange { attention, ..result.change });
                    }
                }
                JobResult::Attention(layer, changes) => {
                    for (found, change) in self.found.iter_mut().zip(changes) {
                        if let Some(entry) = found.layers.get_mut(&Site::AttnOut(layer).to_string()) {
                            entry.attention = Some(change);
                        }
                    }
                }
            }
        }
        self.phases.metrics += started.elapsed();
        Ok(())
    }

    /// Next-token distributions, a block of rows at a time.
    fn outputs(
        &mut self,
        lockstep: &Lockstep,
        saver: &mut Saver,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), AuditError> {
        if !self.wants(&tokens::METRIC) {
            return Ok(());
        }
        let places: Vec<Option<Place>> = self
            .prompts
            .iter()
            .enumerate()
            .flat_map(|(prompt, tokens)| {
                (0..tokens.len()).map(move |position| (position > 0).then_some(Place { prompt, position }))
            })
            .collect();
        while self.outputs.rows < places.len() {
            let first = self.outputs.rows;
            let count = lockstep.rows_of_logits().min(places.len() - first);
            let started = Instant::now();
            let logits = lockstep.logits(first, count)?.map(|rows| rows.to_device(&Device::Cpu))?;
            self.phases.forward += started.elapsed();
            let started = Instant::now();
            self.outputs.add(&logits, self.decoder.config().vocab_size, &places[first..first + count])?;
            self.phases.metrics += started.elapsed();
            report(Progress::Outputs(first + count, places.len()));
            saver.offer(|| self.resume_state(Some(lockstep.standing())))?;
        }
        Ok(())
    }

    /// The logit lens on the tracked tokens at every site, several sites in one product.
    fn trajectories(&mut self, lockstep: &Lockstep, saver: &mut Saver) -> Result<(), AuditError> {
        if !self.wants(&trajectories::METRIC) || self.places.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let sites_at_once = (lockstep.rows_of_logits() / self.places.len()).clamp(1, self.tracked.len());
        // From the last site backwards: every site is ranked by the final top token.
        while let Some(block) = self.lens.next_block(sites_at_once, self.tracked.len()) {
            let stacked = Branches::stack(&self.tracked[block.clone()])?;
            let logits = lockstep.lens(&stacked)?.map(|rows| rows.to_device(&Device::Cpu))?;
            self.lens.add(&logits, self.decoder.config().vocab_size, block, self.places.len())?;
            saver.offer(|| self.resume_state(Some(lockstep.standing())))?;
        }
        self.phases.metrics += started.elapsed();
        Ok(())
    }

    /// What was found of every variant.
    fn finish(mut self, vocabulary: &dyn Vocabulary) -> Result<Vec<Comparison>, AuditError> {
        let tokens: Vec<u32> = self.places.iter().map(|place| self.prompts[place.prompt][place.position]).collect();
        let base = self.states(0)?;
        for index in 0..self.variants.len() {
            let trajectories = match &self.lens.readings(index) {
                Some(readings) => {
                    let (places, adapted) = (&self.places, &self.states(index + 1)?);
                    Some(
                        TrackedTokens { places, tokens: &tokens, base: &base, adapted, readings }
                            .summary(vocabulary)?,
                    )
                }
                None => None,
            };
            let tokens = self.wants(&tokens::METRIC).then(|| self.outputs.summary(index, vocabulary));
            let found = &mut self.found[index];
            (found.tokens, found.trajectories) = (tokens, trajectories);
        }
        Ok(self.found)
    }

    /// Streams of the tracked tokens of one model, `[sites][tokens][width]`.
    fn states(&self, model: usize) -> Result<Vec<Vec<Vec<f32>>>, AuditError> {
        let rows = |branches: &Branches| Ok(branches.model(model).to_device(&Device::Cpu)?.to_vec2::<f32>()?);
        self.tracked.iter().map(rows).collect()
    }
}

impl Job<'_> {
    fn run(self, sequences: &[Sequence], options: &SiteOptions) -> Result<JobResult, AuditError> {
        match self {
            Self::Site(site, branches) => Ok(JobResult::Site(site, compare_site(site, &branches, sequences, options)?)),
            Self::Attention { layer, shape, queries, keys } => {
                let (queries, keys) =
                    (queries.map(|rows| rows.to_device(&Device::Cpu))?, keys.map(|rows| rows.to_device(&Device::Cpu))?);
                let changes = (1..queries.of_model().len())
                    .map(|model| {
                        if queries.same(0, model) && keys.same(0, model) {
                            return Ok(attention::unchanged(shape));
                        }
                        let tensors = [queries.model(0), keys.model(0), queries.model(model), keys.model(model)];
                        Ok(with_all_values(&tensors, |all| {
                            let base = QueriesAndKeys { queries: all[0], keys: all[1] };
                            let adapted = QueriesAndKeys { queries: all[2], keys: all[3] };
                            attention::divergence(shape, sequences, base, adapted)
                        })?)
                    })
                    .collect::<Result<_, AuditError>>()?;
                Ok(JobResult::Attention(layer, changes))
            }
        }
    }
}

/// `resid.l`, `attn_out.l`, `mlp_out.l`, layer by layer.
fn site_order(name: &str) -> (usize, usize) {
    let (kind, layer) = name.split_once('.').unwrap_or((name, "0"));
    let rank = ["resid", "attn_out", "mlp_out"].iter().position(|known| *known == kind).unwrap_or(3);
    (layer.parse().unwrap_or(usize::MAX), rank)
}
