//! What a comparison asks of the models: which prompts they read, and what is measured. A report keeps it, so that it
//! can be asked again.

mod gate;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lcr_analysis::comparison::CompareOptions;
use lcr_analysis::metrics::{Metric, Parameters, UnknownMetric};
use lcr_analysis::site::SiteOptions;
use lcr_documents::audit::{Asked, Depth};
use lcr_gate::policy::Policy;

use crate::known_good::KnownGood;
use crate::model::{Model, ProbeArguments};
use crate::probe_sets::pins;
use crate::probes::{LoadedProbes, ProbeOptions, ProbeSource, load};

/// Tokens of a prompt that `gate` reads.
const MAX_TOKENS: usize = 512;
/// Dimensions of the subspaces that `gate` and `batch` compare.
const DIMENSIONS: usize = 10;
/// Texts that are tried as triggers, unless told otherwise.
pub(crate) const SWEEP_BUDGET: usize = 2000;

/// Prompts, and what is measured on them.
#[derive(Debug)]
pub(crate) struct Question {
    source: ProbeSource,
    pub(crate) asked: Asked,
    /// Folder in which the base's answers are kept, if they are.
    base_cache: Option<PathBuf>,
    /// What adapters are held against.
    pub(crate) known_good: Option<KnownGood>,
}

impl Question {
    /// What a policy asks: the metrics that rules are made of, unless it names others.
    pub(crate) fn of_policy(policy: &Policy) -> Result<Self> {
        let section = &policy.compare;
        let known_good = KnownGood::of_policy(policy)?;
        let source = ProbeSource::parse(section.probes.as_deref().unwrap_or("general"))?;
        let mut metrics = section.metrics.clone().unwrap_or_else(|| ["tokens", "weights"].map(str::to_owned).to_vec());
        metrics.sort();
        let asked = Asked {
            metrics,
            max_prompts: section.max_prompts,
            max_tokens: MAX_TOKENS,
            tokens: false,
            raw: false,
            keep_sinks: false,
            subspace_dimensions: DIMENSIONS,
            tracked: 0,
            seed: 0,
            depth: section.depth.unwrap_or(KnownGood::usual_depth(known_good.as_ref(), Depth::Quick)),
            sweep_budget: SWEEP_BUDGET,
            sets: pins(policy.probe_sets().iter().map(|(name, path)| (name.as_str(), path.as_path())))
                .context("compare.probe_sets of the policy")?,
            stack: Vec::new(),
            profile: known_good.as_ref().map(KnownGood::pin),
        };
        let question = Self { source, asked, base_cache: None, known_good };
        question.options().context("compare.metrics of the policy")?;
        Ok(question)
    }

    /// What a report says was asked, on the probes that it names; a profile is held against by the policy's rate.
    pub(crate) fn of_report(asked: &Asked, source: &str, policy: &Policy) -> Result<Self> {
        let source =
            if asked.tokens { ProbeSource::Tokens(PathBuf::from(source)) } else { ProbeSource::parse(source)? };
        let known_good = KnownGood::reopen(asked.profile.as_ref(), policy.profile.rate)?;
        Ok(Self { source, asked: asked.clone(), base_cache: None, known_good })
    }

    /// The same, with the base's answers kept in a folder.
    pub(crate) fn with_base_cache(self, folder: Option<&Path>) -> Self {
        Self { base_cache: folder.map(Path::to_owned), ..self }
    }

    /// Reads the probes for a model.
    pub(crate) fn probes(&self, model: &Model) -> Result<LoadedProbes> {
        let (asked, config) = (&self.asked, model.decoder.config());
        let max_tokens = if asked.tokens { usize::MAX } else { asked.max_tokens.min(config.max_positions) };
        let (max_prompts, vocab_size) = (asked.max_prompts, config.vocab_size);
        let options = ProbeOptions { no_chat_template: asked.raw, max_prompts, max_tokens, vocab_size };
        load(&self.source, model.tokenizer.as_ref(), options)
    }

    /// What is measured.
    pub(crate) fn options(&self) -> Result<CompareOptions> {
        let metrics = self.asked.metrics.iter().map(|name| name.parse::<&'static Metric>());
        Ok(CompareOptions {
            sites: SiteOptions {
                metrics: metrics.collect::<Result<Vec<&'static Metric>, UnknownMetric>>()?,
                keep_sinks: self.asked.keep_sinks,
                parameters: Parameters { subspace_dimensions: self.asked.subspace_dimensions, seed: self.asked.seed },
            },
            tracked: self.asked.tracked,
        })
    }
}

/// What the command line asks, for the report.
pub(crate) fn asked(probes: &ProbeArguments, options: &CompareOptions, depth: Depth, sweep_budget: usize) -> Asked {
    let mut metrics: Vec<String> = options.sites.metrics.iter().map(ToString::to_string).collect();
    metrics.sort();
    metrics.dedup();
    Asked {
        metrics,
        max_prompts: probes.max_prompts,
        max_tokens: probes.max_tokens,
        tokens: probes.tokens.is_some(),
        raw: probes.no_chat_template,
        keep_sinks: options.sites.keep_sinks,
        subspace_dimensions: options.sites.parameters.subspace_dimensions,
        tracked: options.tracked,
        seed: options.sites.parameters.seed,
        depth,
        sweep_budget,
        sets: Vec::new(),
        stack: Vec::new(),
        profile: None,
    }
}
