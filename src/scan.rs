//! `lcr-audit scan`: adapters' files alone, without a base's weights and without running anything.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use clap::Args;
use lcr_documents::paths::shown;
use lcr_gate::policy::Policy;
use lcr_gate::{Baseline, GateReport, Provenance, ScannedAdapter, apply_baseline, judge};
use lcr_scan::{Artifact, Limits, ScanOptions, WeightStatistics, discover, scan};
use rayon::prelude::*;

use crate::exit::Status;
use crate::gate::judged;
use crate::outputs::OutputArguments;
use crate::provenance::{begin_tool_digest, date_or_today, pin_base, tool_digest};
use crate::terminal::Terminal;

/// Arguments of `scan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit scan my-adapter
  lcr-audit scan adapters/ --write sarif=lcr-audit.sarif --write junit=lcr-audit.xml
  lcr-audit scan adapters/ --base models/Qwen3-4B       hold templates and tokenizers against the base's
  lcr-audit scan adapters/ --baseline accepted.json     only what is new
  lcr-audit scan my-adapter --json --statistics         the numbers of every module as well

Exit codes: 0 pass · 1 findings at or above the policy · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folders of adapters, folders of such folders, or files.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Policy file [default: the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    common: ScanArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What `scan` and `gate` have in common.
#[derive(Debug, Args)]
pub(crate) struct ScanArguments {
    /// Folder of the base model.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
    /// An earlier report as JSON: what it holds, on the same bytes, does not fail the gate again.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Put what the weights of every module are like into the JSON: norms, ranks, concentration, what is least like its
    /// kind.
    #[arg(long)]
    pub(crate) statistics: bool,
    /// Day that the expiry of waivers is held against, YYYY-MM-DD [default: today, UTC].
    #[arg(long, value_name = "DAY")]
    pub(crate) date: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let policy = match &arguments.policy {
        Some(path) => Policy::open(path)?,
        None => Policy::default(),
    };
    arguments.output.refuse_inside(&arguments.paths)?;
    let renamed = Renamed::default();
    let report = judged(&arguments.paths, &renamed, &policy, &arguments.common, "scan", None, terminal)?;
    arguments.output.emit(&report, terminal)
}

/// Paths that a report calls by another name than the one that is read: where things were moved since.
#[derive(Debug, Default)]
pub(crate) struct Renamed(Vec<(PathBuf, PathBuf)>);

impl Renamed {
    /// What lies under `path` is called by `name`.
    pub(crate) fn add(&mut self, path: &Path, name: &Path) {
        let plain = |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
        if plain(path) != plain(name) {
            self.0.push((plain(path), name.to_owned()));
        }
    }

    /// The other name of a path, if it has one.
    pub(crate) fn of(&self, path: &Path) -> Option<String> {
        let renamed = self.0.iter().find_map(|(from, name)| {
            let below = path.strip_prefix(from).ok()?;
            let name: PathBuf = name.components().filter(|part| *part != Component::CurDir).collect();
            Some(if below.as_os_str().is_empty() { name } else { name.join(below) })
        });
        renamed.map(|name| name.display().to_string())
    }
}

impl ScanArguments {
    /// Scans everything under the paths, in parallel, in the order of paths.
    pub(crate) fn scan_all(&self, paths: &[PathBuf], terminal: &Terminal) -> Result<Vec<(Artifact, ScannedAdapter)>> {
        begin_tool_digest();
        let options = ScanOptions { base: self.base.clone(), limits: Limits::default() };
        let artifacts = discover(paths, &options.limits)?;
        let progress = std::sync::Mutex::new((terminal.progress(), 0_usize));
        let count = artifacts.len();
        let subjects = artifacts.into_par_iter().map(|artifact| {
            let subject = ScannedAdapter {
                path: shown(artifact.path()),
                scan: scan(&artifact, &options),
                audit: None,
                not_compared: None,
                error: None,
            };
            if let Ok(mut progress) = progress.lock() {
                progress.1 += 1;
                let done = progress.1;
                progress.0.update("scan", done, count);
            }
            (artifact, subject)
        });
        Ok(subjects.collect())
    }

    /// Digests of what the verdict rests on; those of the base's weights only where they are needed.
    pub(crate) fn pins(&self, weights: bool) -> Result<Provenance> {
        let base = self.base.as_deref().map(|folder| pin_base(folder, weights)).transpose()?;
        Ok(Provenance {
            base,
            date: date_or_today(self.date.as_deref())?,
            tool: tool_digest(),
            statistics: self.statistics,
            ..Provenance::default()
        })
    }

    /// What a policy makes of it all, less what the baseline knows.
    pub(crate) fn judge(
        &self,
        scanned: Vec<(Artifact, ScannedAdapter)>,
        policy: &Policy,
        pins: Provenance,
    ) -> Result<GateReport> {
        let subjects: Vec<ScannedAdapter> = scanned.into_iter().map(|(_, subject)| subject).collect();
        let weights = |subject: &ScannedAdapter| (subject.path.clone(), subject.scan.weights.clone());
        let mut statistics: BTreeMap<String, WeightStatistics> =
            if self.statistics { subjects.iter().map(weights).collect() } else { BTreeMap::new() };
        let mut report = judge(subjects, policy, pins);
        for artifact in &mut report.artifacts {
            artifact.statistics = statistics.remove(&artifact.path);
        }
        if let Some(path) = &self.baseline {
            apply_baseline(&mut report, Baseline::open(path)?);
        }
        Ok(report)
    }
}
