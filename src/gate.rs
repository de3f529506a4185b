//! `lcr-audit gate`: a policy's verdict on adapters: their files, and where the policy asks for that, what they do to the base.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_analysis::audit::Audit;
use lcr_analysis::comparison::CompareOptions;
use lcr_analysis::metric::Metric;
use lcr_analysis::site::SiteOptions;
use lcr_reports::gate::{Pins, ProbesPin, Subject};
use lcr_reports::policy::{CompareSection, Policy};
use lcr_scan::Artifact;

use crate::composition::{composition, digest_of_prompts};
use crate::exit::Status;
use crate::model::{Device, Model};
use crate::outputs::OutputArguments;
use crate::probes::{LoadedProbes, ProbeOptions, ProbeSource, load};
use crate::scan::ScanArguments;
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// The policy that is taken where none is named.
pub(crate) const POLICY_FILE: &str = "lcr-audit.toml";
/// Adapters that go through the base together.
const TOGETHER: usize = 8;
/// Tokens of a prompt that are read.
const MAX_TOKENS: usize = 512;

/// Arguments of `gate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit gate adapters/                                        by ./lcr-audit.toml
  lcr-audit gate --policy lcr-audit.toml --base models/Qwen3-4B adapters/
  lcr-audit gate adapters/ --write sarif=lcr-audit.sarif --write summary=\"$GITHUB_STEP_SUMMARY\"

Exit codes: 0 pass · 1 findings at or above the policy · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folders of adapters, folders of such folders, or files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Policy file [default: lcr-audit.toml in this folder, else the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    common: ScanArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let policy = open_policy(arguments.policy.as_deref())?;
    let base = arguments.common.base.as_deref();
    if base.is_none() && (policy.compare.required || policy.base.sha256.is_some()) {
        bail!("the policy {} asks for the base: give its folder with --base", policy.source);
    }
    let mut pins = arguments.common.pins(policy.compare.required || policy.base.sha256.is_some())?;
    let mut subjects = arguments.common.scan_all(&arguments.paths, terminal)?;
    if let (Some(base), true) = (base, policy.compare.required) {
        compare_all(base, &policy, &mut subjects, &mut pins, terminal)?;
    }
    let report = arguments.common.judge(subjects, &policy, pins)?;
    arguments.output.emit(&report, terminal)
}

/// The policy named, or the one in this folder, or the built-in one.
pub(crate) fn open_policy(named: Option<&Path>) -> Result<Policy> {
    Ok(match named {
        Some(path) => Policy::open(path)?,
        None if Path::new(POLICY_FILE).exists() => Policy::open(Path::new(POLICY_FILE))?,
        None => Policy::default(),
    })
}

/// Runs base and adapters side by side, some at a time; an adapter that cannot be run says so in its subject.
fn compare_all(
    base: &Path,
    policy: &Policy,
    subjects: &mut [(Artifact, Subject)],
    pins: &mut Pins,
    terminal: &Terminal,
) -> Result<()> {
    let section = &policy.compare;
    let model = Model::open(base, Device::Cpu)?;
    let probes = probes(section, &model)?;
    pins.probes = Some(ProbesPin { source: probes.source.clone(), sha256: digest_of_prompts(&probes.prompts)? });
    let options = options(section)?;
    let pinned = pins.base.clone().unwrap_or_default();
    let composition = composition(&pinned, &probes.prompts, Some(&policy.sha256))?;
    let pair = SideBySide { model: &model, probes: &probes, options, base: base.display().to_string(), composition };
    for group in subjects.chunks_mut(TOGETHER) {
        let mut fitted: Vec<(&mut Subject, Fitted)> = Vec::new();
        for (artifact, subject) in group {
            match fit(&model, artifact, subject, terminal) {
                Ok(adapter) => fitted.push((subject, adapter)),
                // What no adapter is expected in needs no comparison.
                Err(reason) => subject.not_compared = artifact.is_adapter().then_some(reason),
            }
        }
        let (mut subjects, adapters): (Vec<&mut Subject>, Vec<Fitted>) = fitted.into_iter().unzip();
        if adapters.is_empty() {
            continue;
        }
        match pair.audits(&adapters, terminal) {
            Ok((audits, _)) => {
                subjects.iter_mut().zip(audits).for_each(|(subject, audit): (_, Audit)| subject.audit = Some(audit));
            }
            // One bad adapter (activations that become infinite, say) must not hide the others.
            Err(_) => one_by_one(&pair, subjects, adapters, terminal),
        }
    }
    Ok(())
}

fn one_by_one(pair: &SideBySide, subjects: Vec<&mut Subject>, adapters: Vec<Fitted>, terminal: &Terminal) {
    for (subject, adapter) in subjects.into_iter().zip(adapters) {
        match pair.audits(std::slice::from_ref(&adapter), terminal) {
            Ok((audits, _)) => subject.audit = audits.into_iter().next(),
            Err(error) => subject.error = Some(format!("{error:#}")),
        }
    }
}

fn fit(model: &Model, artifact: &Artifact, subject: &Subject, terminal: &Terminal) -> Result<Fitted, String> {
    if subject.scan.adapter.is_none() {
        return Err("its files could not be read as an adapter".to_owned());
    }
    let variant = model.adapt(artifact.path(), terminal).map_err(|error| format!("{error:#}"))?;
    Ok(Fitted { path: subject.path.clone(), sha256: Some(subject.scan.sha256.clone()), variant })
}

fn probes(section: &CompareSection, model: &Model) -> Result<LoadedProbes> {
    let source = ProbeSource::parse(section.probes.as_deref().unwrap_or("general"))?;
    let config = model.decoder.config();
    let options = ProbeOptions {
        raw: false,
        max_prompts: section.max_prompts,
        max_tokens: MAX_TOKENS.min(config.max_positions),
        vocab_size: config.vocab_size,
    };
    load(&source, model.tokenizer.as_ref(), options)
}

/// The metrics that rules are made of, unless the policy names others.
fn options(section: &CompareSection) -> Result<CompareOptions> {
    let metrics = match &section.metrics {
        None => vec![Metric::Weights, Metric::Tokens],
        Some(names) => names
            .iter()
            .map(|name| name.parse::<Metric>().map_err(|error| anyhow::anyhow!("{error}")))
            .collect::<Result<Vec<Metric>>>()
            .context("compare.metrics of the policy")?,
    };
    Ok(CompareOptions {
        sites: SiteOptions { metrics, keep_sinks: false, subspace_dimensions: 10, seed: 0 },
        tracked: 0,
    })
}
