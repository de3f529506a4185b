//! Adapters' files scanned, held against the base where that is asked, and judged: what `scan`, `gate` and
//! `verify` share.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use clap::Args;
use lcr_documents::paths::shown;
use lcr_gate::policy::Policy;
use lcr_gate::{Baseline, GateReport, Provenance, ScannedAdapter, apply_baseline, judge};
use lcr_scan::{Artifact, Limits, ScanOptions, WeightStatistics, discover, scan};
use rayon::prelude::*;

use crate::provenance::{begin_tool_digest, date_or_today, pin_base, tool_digest};
use crate::question::Question;
use crate::terminal::Terminal;

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

/// Scans, compares where that is asked, and judges: the report of a command, as the command makes it and as `verify`
/// does again.
pub(crate) fn judged(
    paths: &[PathBuf],
    renamed: &Renamed,
    policy: &Policy,
    common: &ScanArguments,
    command: &str,
    question: Option<&Question>,
    terminal: &Terminal,
) -> Result<GateReport> {
    let asks_for_base = policy.asks_for_comparison() || policy.base.sha256.is_some();
    // Of a base that is run the weights are digested once it is open: see `Question::compare`.
    let is_run = common.base.is_some() && question.is_some();
    let mut pins = common.pins(!is_run && command != "scan" && (command != "gate" || asks_for_base))?;
    command.clone_into(&mut pins.command);
    pins.paths = paths.iter().map(|path| path.display().to_string()).collect();
    let mut subjects = common.scan_all(paths, terminal)?;
    for (artifact, subject) in &mut subjects {
        if let Some(name) = renamed.of(artifact.path()) {
            subject.path = name;
        }
    }
    if let (Some(base), Some(question)) = (&common.base, question) {
        question.compare(base, policy, &mut subjects, &mut pins, terminal)?;
    }
    common.judge(subjects, policy, pins)
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
