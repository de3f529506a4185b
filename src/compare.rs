//! `lcr-audit compare`: adapters' files scanned, base and adapters side by side, and the report on both.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use lcr_analysis::comparison::{CompareOptions, Phases};
use lcr_analysis::metrics::{self, Metric, Parameters};
use lcr_analysis::site::SiteOptions;
use lcr_documents::audit::{Answer, Asked, Audit, Depth, Judgement, Level, Stacked, Verdict};
use lcr_documents::characters::visible;
use lcr_gate::outcome;
use lcr_gate::policy::Policy;
use lcr_gate::{self as gate, BasePin, GateVerdict, Provenance, ScannedAdapter, judge, judge_audit};
use lcr_model::decoder::BoundAdapter;
use lcr_scan::{Artifact, Limits, Scan, ScanOptions, discover, scan};
use rayon::prelude::*;

use crate::bundled::Bundle;
use crate::evidence::EvidenceArguments;
use crate::exit::Status;
use crate::gate::open_policy;
use crate::known_good::{KnownGood, KnownGoodArguments};
use crate::model::{DeviceArguments, Model, ProbeArguments};
use crate::outputs::refuse_inside;
use crate::provenance::{date_or_today, pin_base, provenance};
use crate::side_by_side::{Fitted, SideBySide, same_bytes};
use crate::stack::Other;
use crate::terminal::Terminal;

/// How the built-in policy names itself.
pub(crate) const BUILT_IN: &str = "default";

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit compare                                        the bundled adapter on the bundled model
  lcr-audit compare models/Qwen3-4B my-adapter --out audit
  lcr-audit compare models/Qwen3-4B adapters/* --probes refusal
  lcr-audit compare models/Qwen3-4B my-adapter --metrics cka,procrustes,tokens
  lcr-audit compare models/Qwen3-4B my-adapter --depth deep --base-cache ~/.cache/lcr-audit
  lcr-audit compare models/Qwen3-4B my-adapter --stack style,persona=0.5
  lcr-audit compare models/Qwen3-4B my-adapter --policy lcr-audit.toml

Scans the adapters' files as `scan` does, runs base and adapters side by side, and judges both by the policy. Writes \
    report.json, index.html and figures/*.png into --out; with several adapters, a folder each and an index of them.

Exit codes: 0 nothing fails · 1 a finding fails the policy · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folder of the base model [default: the bundled model].
    #[arg(requires = "adapters")]
    base: Option<PathBuf>,
    /// Folders of the adapters, all compared in one pass [default: the bundled adapter].
    adapters: Vec<PathBuf>,
    /// Folder for the report.
    #[arg(long, value_name = "DIR", default_value = "audit")]
    out: PathBuf,
    /// Policy file [default: lcr-audit.toml in this folder, else the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Day that the expiry of waivers is held against, YYYY-MM-DD [default: today, UTC].
    #[arg(long, value_name = "DAY")]
    date: Option<String>,
    /// Adapters that are used together with this one: what they do together that none does alone is a question of its
    /// own. A weight stands behind the path, as in other=0.5.
    #[arg(long, value_delimiter = ',', value_name = "OTHER[=WEIGHT]")]
    stack: Vec<Other>,
    #[command(flatten)]
    evidence: EvidenceArguments,
    #[command(flatten)]
    known_good: KnownGoodArguments,
    #[arg(long, value_delimiter = ',', value_name = "LIST", help = metrics::help())]
    metrics: Vec<&'static Metric>,
    /// Keep tokens whose norm exceeds ten times the median; they own every flattened measure.
    #[arg(long)]
    keep_sinks: bool,
    /// Dimensions of the subspaces compared.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=512))]
    subspace_dimensions: u16,
    /// Tokens followed through the layers.
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    tracked: usize,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    probes: ProbeArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let started = Instant::now();
    let inputs = Inputs::find(arguments)?;
    refuse_unwritable(&arguments.out)?;
    refuse_inside(&inputs.adapters, [arguments.out.as_path()])?;
    let policy = open_policy(arguments.policy.as_deref())?;
    let model = Model::open(&inputs.base, arguments.device.device)?;
    let base = BasePin { path: inputs.shown(&inputs.base), ..pin_base(&inputs.base, true)? };
    let pins =
        Provenance { base: Some(base), date: date_or_today(arguments.date.as_deref())?, ..Provenance::default() };
    let scanned = Scanned { policy: &policy, pins: &pins, scans: inputs.scans() };
    let mut adapters = Vec::new();
    for (folder, scan) in inputs.adapters.iter().zip(&scanned.scans) {
        match model.adapt(folder, terminal) {
            Ok(variant) => {
                if let Err(changed) = same_bytes(variant.adapter(), folder, &scan.files) {
                    return scanned.refused(anyhow::anyhow!(changed), &inputs, terminal);
                }
                let sha256 = Some(scan.sha256.clone());
                adapters.push(Fitted { path: inputs.shown(folder), sha256, variant });
            }
            Err(error) => return scanned.refused(error, &inputs, terminal),
        }
    }
    let (stacked, stack) = match arguments.stack_beside(&adapters, &model, terminal) {
        Ok(opened) => opened,
        Err(error) => return scanned.refused(error, &inputs, terminal),
    };
    let probes = arguments.probes.load(&model, terminal)?;
    let load = started.elapsed();
    // The built-in policy belongs to the version of the program and is not pinned by itself.
    let pinned = (policy.source != BUILT_IN).then_some(policy.sha256.as_str());
    let options = arguments.options();
    let known_good = arguments.known_good.find(&policy)?;
    let asked = arguments.evidence.asked(&inputs.base, &arguments.probes, &options, Depth::Standard)?;
    let asked = Asked { stack: stacked, profile: known_good.as_ref().map(KnownGood::pin), ..asked };
    let provenance = provenance(&pins.base.clone().unwrap_or_default(), &probes.prompts, pinned)?;
    let pair = SideBySide {
        stack,
        known_good,
        base_cache: arguments.evidence.base_cache.clone(),
        ..SideBySide::new((&model, &probes), options, inputs.shown(&inputs.base), asked, provenance)
    };
    let (mut audits, phases) = match pair.audits(&adapters, terminal) {
        Ok(compared) => compared,
        Err(error) => return scanned.refused(error, &inputs, terminal),
    };
    for (audit, scan) in audits.iter_mut().zip(scanned.scans) {
        judge_audit(audit, scan, &policy, pins.clone());
    }
    let writing = Instant::now();
    write(&arguments.out, &audits, &policy)?;
    terminal.note(&timings(load, &phases, writing.elapsed()));
    if terminal.json() {
        match audits.as_slice() {
            [one] => terminal.document(one)?,
            many => terminal.document(&many)?,
        }
    } else {
        terminal.result(&summary(&audits, &arguments.out)?)?;
    }
    let failed = audits.iter().any(|audit| audit.verdict == Verdict::Fail);
    let is_complete = audits.iter().all(|audit| audit.unanswered.is_empty());
    Ok(match (failed, is_complete) {
        (true, _) => Status::Failed,
        (false, true) => Status::Done,
        (false, false) => Status::Verdict(GateVerdict::Incomplete),
    })
}

/// What the files of an adapter hold, its templates and tokenizer held against the base's.
pub(crate) fn scan_adapter(path: &Path, base: &Path) -> Scan {
    let artifact = if path.is_dir() { Artifact::Adapter(path.to_owned()) } else { Artifact::File(path.to_owned()) };
    scan(&artifact, &ScanOptions { base: Some(base.to_owned()), limits: Limits::default() })
}

/// The adapters' files, and what they are judged by.
struct Scanned<'a> {
    policy: &'a Policy,
    pins: &'a Provenance,
    /// In the order of the adapters.
    scans: Vec<Scan>,
}

impl Scanned<'_> {
    /// Adapters that could not be compared. Where files alone fail the policy, that is the answer, and not only that
    /// one of them cannot be run.
    fn refused(self, error: anyhow::Error, inputs: &Inputs, terminal: &Terminal) -> Result<Status> {
        let is_adapter = |folder: &PathBuf| {
            let found = discover(std::slice::from_ref(folder), &Limits::default()).unwrap_or_default();
            found.iter().any(Artifact::is_adapter)
        };
        let subject = |(folder, scan): (&PathBuf, Scan)| ScannedAdapter {
            path: inputs.shown(folder),
            scan,
            audit: None,
            not_compared: None,
            error: None,
        };
        let adapters = inputs.adapters.iter().zip(self.scans).filter(|(folder, _)| is_adapter(folder));
        let report = judge(adapters.map(subject).collect(), self.policy, self.pins.clone());
        if report.verdict != GateVerdict::Fail {
            return Err(error);
        }
        terminal.error(&error);
        if terminal.json() {
            terminal.document(&report)?;
        } else {
            terminal.result(&gate::table(&report, terminal.colour(), terminal.width()))?;
        }
        Ok(Status::Verdict(report.verdict))
    }
}

impl Arguments {
    /// Opens the adapters of `--stack`; what has no sum with one of `adapters` is refused before anything is run.
    fn stack_beside(
        &self,
        adapters: &[Fitted],
        model: &Model,
        terminal: &Terminal,
    ) -> Result<(Vec<Stacked>, Vec<BoundAdapter>)> {
        let opened = self.stack.iter().map(|other| other.open(model, terminal)).collect::<Result<Vec<_>>>()?;
        let (stacked, stack): (Vec<Stacked>, Vec<BoundAdapter>) = opened.into_iter().unzip();
        for adapter in adapters {
            model.decoder.stack(&std::iter::once(&adapter.variant).chain(&stack).collect::<Vec<_>>())?;
        }
        Ok((stacked, stack))
    }

    fn options(&self) -> CompareOptions {
        CompareOptions {
            sites: SiteOptions {
                metrics: if self.metrics.is_empty() { metrics::defaults() } else { self.metrics.clone() },
                keep_sinks: self.keep_sinks,
                parameters: Parameters { subspace_dimensions: usize::from(self.subspace_dimensions), seed: self.seed },
            },
            tracked: self.tracked,
        }
    }
}

/// Folders to read, the bundled ones included.
struct Inputs {
    base: PathBuf,
    adapters: Vec<PathBuf>,
    bundle: Option<Bundle>,
}

impl Inputs {
    fn find(arguments: &Arguments) -> Result<Self> {
        if let Some(base) = &arguments.base {
            return Ok(Self { base: base.clone(), adapters: arguments.adapters.clone(), bundle: None });
        }
        let bundle = Bundle::unpack()?;
        Ok(Self { base: bundle.base(), adapters: vec![bundle.adapter()], bundle: Some(bundle) })
    }

    /// What the adapters' files hold, their templates and tokenizers held against the base's.
    fn scans(&self) -> Vec<Scan> {
        self.adapters.par_iter().map(|adapter| scan_adapter(adapter, &self.base)).collect()
    }

    fn shown(&self, path: &Path) -> String {
        if self.bundle.is_some() { Bundle::shown(path) } else { path.display().to_string() }
    }
}

/// An hour of work must not end at a folder that cannot be written: this is found out first, without touching it.
fn refuse_unwritable(out: &Path) -> Result<()> {
    let existing = out.ancestors().find(|folder| folder.exists() || folder.as_os_str().is_empty());
    let existing = match existing {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    tempfile::tempfile_in(existing)
        .with_context(|| format!("cannot write the report into {}: choose another folder with --out", out.display()))?;
    Ok(())
}

/// One report in the folder itself, several in a folder each with an index over them.
fn write(out: &Path, audits: &[Audit], policy: &Policy) -> Result<()> {
    if let [audit] = audits {
        lcr_reports::write_report(audit, out)?;
        return Ok(());
    }
    let names = folder_names(audits);
    for (audit, name) in audits.iter().zip(&names) {
        lcr_reports::write_report(audit, &out.join(name))?;
    }
    let entries: Vec<(&str, &Audit)> = names.iter().map(String::as_str).zip(audits).collect();
    let judge = if policy.source == BUILT_IN { "the built-in policy" } else { policy.source.as_str() };
    lcr_reports::write_index(&entries, judge, out)?;
    Ok(())
}

/// The adapters' names, told apart by a number where two are equal.
fn folder_names(audits: &[Audit]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for audit in audits {
        let mut name = audit.adapter.name.clone();
        let mut number = 2;
        while names.contains(&name) {
            name = format!("{}-{number}", audit.adapter.name);
            number += 1;
        }
        names.push(name);
    }
    names
}

fn timings(load: Duration, phases: &Phases, report: Duration) -> String {
    format!("load {:.1} s · {phases} · report {:.1} s", load.as_secs_f64(), report.as_secs_f64())
}

/// What a person reads at the end.
fn summary(audits: &[Audit], out: &Path) -> Result<String> {
    let mut text = String::new();
    for audit in audits {
        writeln!(text, "\n{} on {}", visible(&audit.adapter.path), visible(&audit.base.path))?;
        writeln!(text, "  {}", visible(&outcome::trained_on(audit)))?;
        for (name, question) in audit.questions.iter().filter(|(_, question)| question.answer != Answer::NotAsked) {
            let answer = question.answer.as_str();
            writeln!(text, "  {answer:<11} {} ({name}): {}", question.asks, visible(&question.why))?;
        }
        let heaviest = audit.weights.iter().max_by(|(_, left), (_, right)| {
            left.relative_norm.unwrap_or(0.0).total_cmp(&right.relative_norm.unwrap_or(0.0))
        });
        if let Some((name, change)) = heaviest {
            let size = change.relative_norm.unwrap_or(f64::NAN);
            writeln!(
                text,
                "  weights      {} changed, most ‖ΔW‖/‖W‖ {size:.2e} in {}",
                audit.weights.len(),
                visible(name)
            )?;
        }
        if let Some((site, change)) = audit.layers.iter().rfind(|(site, _)| site.starts_with("resid.")) {
            let (change, distance) = (change.relative_change, change.cosine.one_minus_mean);
            writeln!(text, "  last stream  {site}: relative change {change:.2e}, 1 − cosine {distance:.2e}")?;
        }
        if let Some(tokens) = &audit.tokens {
            writeln!(
                text,
                "  next token   KL {:.2e} nats mean, {:.2e} at most; top token differs at {:.1} % of {} positions",
                tokens.kl.mean,
                tokens.kl.max,
                100.0 * tokens.top1_flip_rate,
                tokens.positions
            )?;
        }
        for finding in &audit.findings {
            let level = match finding.level {
                Level::Note => "note",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            let file = if finding.file.is_empty() { String::new() } else { format!("{}: ", finding.file) };
            writeln!(text, "  {level}  {}: {}", finding.rule, visible(&format!("{file}{}", finding.message)))?;
        }
        let parts = audit.checked.iter().flat_map(outcome::checked_in_words);
        let parts: Vec<String> = parts.map(|(part, words)| format!("{part}: {words}")).collect();
        writeln!(text, "  {}", parts.join(" · "))?;
        writeln!(text, "  verdict      {}", verdict(audit))?;
    }
    writeln!(text, "\n{}", visible(&out.join("index.html").display().to_string()))?;
    Ok(text)
}

/// The verdict in a few words, with what it speaks for.
fn verdict(audit: &Audit) -> String {
    match audit.outcome() {
        Judgement::NoObjection => format!("{} to {}", outcome::label(Judgement::NoObjection), outcome::scope(audit)),
        Judgement::LargeChangeNotJudged => {
            format!("{}: {}", outcome::label(Judgement::LargeChangeNotJudged), outcome::beyond_limits(audit))
        }
        Judgement::Fail => outcome::label(Judgement::Fail).to_uppercase(),
        Judgement::Warn => outcome::label(Judgement::Warn).to_owned(),
    }
}
