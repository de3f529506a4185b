//! `lcr-audit compare`: base and adapters side by side, and the report.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use lcr_analysis::audit::{Audit, Level, Verdict};
use lcr_analysis::comparison::{CompareOptions, Phases};
use lcr_analysis::metric::Metric;
use lcr_analysis::site::SiteOptions;

use crate::bundled::Bundle;
use crate::composition::{composition, digest_of_adapter, pin_base};
use crate::exit::Status;
use crate::model::{DeviceArguments, Model, ProbeArguments};
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit compare                                        the bundled adapter on the bundled model
  lcr-audit compare models/Qwen3-4B my-adapter --out audit
  lcr-audit compare models/Qwen3-4B adapters/* --probes refusal
  lcr-audit compare models/Qwen3-4B my-adapter --metrics cka,procrustes,tokens

Writes report.json, index.html and figures/*.png into --out; with several adapters, a folder each and an index of them.")]
pub(crate) struct Arguments {
    /// Folder of the base model [default: the bundled model].
    #[arg(requires = "adapters")]
    base: Option<PathBuf>,
    /// Folders of the adapters, all compared in one pass [default: the bundled adapter].
    adapters: Vec<PathBuf>,
    /// Folder for the report.
    #[arg(long, value_name = "DIR", default_value = "audit")]
    out: PathBuf,
    /// Metrics to compute: cka, procrustes, knn, subspace, spectrum, drift, clusters, attention, tokens, trajectories,
    /// weights [default: all].
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    metrics: Vec<Metric>,
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
    let model = Model::open(&inputs.base, arguments.device.device)?;
    let fit = |folder: &PathBuf| {
        let sha256 = Some(digest_of_adapter(folder));
        Ok(Fitted { path: inputs.shown(folder), sha256, variant: model.adapt(folder, terminal)? })
    };
    let adapters = inputs.adapters.iter().map(fit).collect::<Result<Vec<Fitted>>>()?;
    let probes = arguments.probes.load(&model, terminal)?;
    let load = started.elapsed();
    let pair = SideBySide {
        model: &model,
        probes: &probes,
        options: arguments.options(),
        base: inputs.shown(&inputs.base),
        composition: composition(&pin_base(&inputs.base, true)?, &probes.prompts, None)?,
    };
    let (audits, phases) = pair.audits(&adapters, terminal)?;
    let writing = Instant::now();
    write(&arguments.out, &audits)?;
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
    Ok(if failed { Status::Failed } else { Status::Done })
}

impl Arguments {
    fn options(&self) -> CompareOptions {
        let all = || Metric::ALL.iter().map(|(metric, _)| *metric).collect();
        CompareOptions {
            sites: SiteOptions {
                metrics: if self.metrics.is_empty() { all() } else { self.metrics.clone() },
                keep_sinks: self.keep_sinks,
                subspace_dimensions: usize::from(self.subspace_dimensions),
                seed: self.seed,
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
fn write(out: &Path, audits: &[Audit]) -> Result<()> {
    if let [audit] = audits {
        lcr_reports::write_report(audit, out)?;
        return Ok(());
    }
    let names = folder_names(audits);
    for (audit, name) in audits.iter().zip(&names) {
        lcr_reports::write_report(audit, &out.join(name))?;
    }
    let entries: Vec<(&str, &Audit)> = names.iter().map(String::as_str).zip(audits).collect();
    lcr_reports::write_index(&entries, out)?;
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
        writeln!(text, "\n{} on {}", audit.adapter.path, audit.base.path)?;
        let heaviest = audit.weights.iter().max_by(|(_, left), (_, right)| {
            left.relative_norm.unwrap_or(0.0).total_cmp(&right.relative_norm.unwrap_or(0.0))
        });
        if let Some((name, change)) = heaviest {
            let size = change.relative_norm.unwrap_or(f64::NAN);
            writeln!(text, "  weights      {} changed, most ‖ΔW‖/‖W‖ {size:.2e} in {name}", audit.weights.len())?;
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
            writeln!(text, "  {level}  {}: {}", finding.rule, finding.message)?;
        }
        let verdict = match audit.verdict {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        writeln!(text, "  verdict      {verdict}")?;
    }
    writeln!(text, "\n{}", out.join("index.html").display())?;
    Ok(text)
}
