//! `lcr-audit batch`: many adapters over one base, each base layer read once for all that go together; shards and
//! resuming.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_analysis::comparison::{CompareOptions, Phases, bytes_per_model};
use lcr_analysis::metrics::{self, Metric, Parameters};
use lcr_analysis::site::SiteOptions;
use lcr_documents::audit::{Asked, Audit, Depth};
use lcr_documents::paths::shown;
use lcr_documents::read::plain;
use lcr_documents::write::folder_within;
use lcr_gate::policy::Policy;
use lcr_gate::{PolicyPin, ProbesPin, Provenance, ScannedAdapter};
use lcr_scan::{Artifact, Limits, Scan, ScanOptions, discover, scan};
use rayon::prelude::*;

use crate::evidence::EvidenceArguments;
use crate::exit::Status;
use crate::gate::open_policy;
use crate::known_good::{KnownGood, KnownGoodArguments};
use crate::lines::BatchLine;
use crate::model::{DeviceArguments, Model, ProbeArguments};
use crate::outputs::{OutputArguments, refuse_inside};
use crate::provenance::{date_or_today, digest_of_prompts, pin_base, provenance, tool_digest};
use crate::results::{Earlier, Manifest, Results};
use crate::shard::Shard;
use crate::side_by_side::{Fitted, SideBySide};
use crate::terminal::Terminal;

/// Adapters of one pass, unless told otherwise: more of them hardly save anything, and a pass ends later.
const MOST_TOGETHER: usize = 16;
/// Bytes that the activations of one pass may take, unless told otherwise.
const ACTIVATION_BYTES: usize = 2 << 30;

/// Arguments of `batch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit batch models/Qwen3-0.6B adapters/ --out fleet
  lcr-audit batch models/Qwen3-0.6B adapters/ --out fleet/3 --shard 3/8     one of eight machines
  lcr-audit merge fleet/* --out fleet-report                                what they found, together

Started again with the same arguments it goes on where it was stopped. Writes results.jsonl (one line per adapter), \
    index.html (a
ranking) and a report an adapter under reports/. One batch at a time may write into a folder.

Exit codes: 0 pass · 1 findings at or above the policy · 2 something could not be analysed · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// Folder of the base model.
    base: PathBuf,
    /// Folders of adapters, or folders of such folders.
    #[arg(required = true)]
    adapters: Vec<PathBuf>,
    /// Folder for the results.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Policy file [default: lcr-audit.toml in this folder, else the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Take the i-th of n shares of the adapters.
    #[arg(long, value_name = "i/n", default_value = "1/1")]
    shard: Shard,
    /// Adapters that go through the base together: more is faster, and takes memory for their activations [default: up
    /// to 16, as many as take about 2 GiB].
    #[arg(long, alias = "together", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    adapters_per_pass: Option<u16>,
    /// Seconds between two savings of how far a pass has come.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    save_every: f64,
    /// Metrics to compute, as in `compare` [default: all].
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    metrics: Vec<&'static Metric>,
    /// Write no pages and figures, only each adapter's report.json, results.jsonl and the ranking.
    #[arg(long)]
    no_reports: bool,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Day that the expiry of waivers is held against, YYYY-MM-DD [default: today, UTC].
    #[arg(long, value_name = "DAY")]
    date: Option<String>,
    #[command(flatten)]
    evidence: EvidenceArguments,
    #[command(flatten)]
    known_good: KnownGoodArguments,
    #[command(flatten)]
    probes: ProbeArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let policy = open_policy(arguments.policy.as_deref())?;
    refuse_inside(&arguments.adapters, [arguments.out.as_path()])?;
    arguments.output.refuse_inside(&arguments.adapters)?;
    let model = Model::open(&arguments.base, arguments.device.device)?;
    let probes = arguments.probes.load(&model, terminal)?;
    let options = arguments.options();
    let known_good = arguments.known_good.find(&policy)?;
    let usual = KnownGood::usual_depth(known_good.as_ref(), Depth::Quick);
    let asked = arguments.evidence.asked(&arguments.base, &arguments.probes, &options, usual)?;
    let asked = Asked { profile: known_good.as_ref().map(KnownGood::pin), ..asked };
    let mut pins = arguments.pins(&probes.source, &probes.prompts, &policy)?;
    pins.asked = Some(asked.clone());
    let everything = discover(&arguments.adapters, &Limits::default())?;
    let list = everything.iter().map(|artifact| shown(artifact.path())).collect();
    let roots = arguments.adapters.iter().map(|root| shown(root)).collect();
    let manifest = Manifest::new(&pins, &options, arguments.shard, list, roots);
    let (mut results, earlier) = Results::open(&arguments.out, manifest)?;
    let provenance = provenance(&pins.base.clone().unwrap_or_default(), &probes.prompts, Some(&policy.sha256))?;
    let base = arguments.base.display().to_string();
    let pair = SideBySide {
        known_good,
        base_cache: arguments.evidence.base_cache.clone(),
        ..SideBySide::new((&model, &probes), options, base, asked, provenance)
    };
    pair.refuse_other_profile()?;
    let batch = Batch { arguments, policy: &policy, pins: &pins, pair, terminal };
    let share = everything.into_iter().enumerate();
    let share = share.filter(|(place, _)| arguments.shard.takes(*place));
    let mut waiting = batch.scanned(share.map(|(_, artifact)| artifact).collect());
    results.take_share(waiting.iter().map(|(_, subject)| (subject.path.clone(), subject.scan.sha256.clone())))?;
    batch.keep(earlier, &waiting, &mut results)?;
    batch.rest(&mut waiting, &mut results)?;
    let report = results.finish(&policy, pins)?;
    arguments.output.emit(&report, terminal)
}

/// Seconds from the command line.
fn seconds(text: &str) -> Result<f64, String> {
    let known = text.parse().ok().filter(|seconds: &f64| Duration::try_from_secs_f64(*seconds).is_ok());
    known.ok_or_else(|| "a number of seconds is needed, such as 10 or 0.5".to_owned())
}

impl Arguments {
    fn save_every(&self) -> Duration {
        Duration::try_from_secs_f64(self.save_every).unwrap_or(Duration::MAX)
    }

    fn options(&self) -> CompareOptions {
        CompareOptions {
            sites: SiteOptions {
                metrics: if self.metrics.is_empty() { metrics::defaults() } else { self.metrics.clone() },
                keep_sinks: false,
                parameters: Parameters { subspace_dimensions: 10, seed: self.seed },
            },
            tracked: 16,
        }
    }

    fn pins(&self, source: &str, prompts: &[Vec<u32>], policy: &Policy) -> Result<Provenance> {
        Ok(Provenance {
            policy: PolicyPin { source: policy.source.clone(), sha256: policy.sha256.clone() },
            base: Some(pin_base(&self.base, true)?),
            probes: Some(ProbesPin { source: source.to_owned(), sha256: digest_of_prompts(prompts)? }),
            date: date_or_today(self.date.as_deref())?,
            tool: tool_digest(),
            command: "batch".to_owned(),
            paths: self.adapters.iter().map(|path| path.display().to_string()).collect(),
            ..Provenance::default()
        })
    }
}

/// An adapter's files, and what a scan of them said.
type Scanned = (Artifact, ScannedAdapter);

/// Takes out the adapters of the pass that was interrupted, those that have a result already among them: only together
/// can they go on from where it stood. None where one of them is gone or all have their result.
fn interrupted(waiting: &mut Vec<Scanned>, results: &Results) -> Vec<Scanned> {
    let names = results.interrupted().unwrap_or_default();
    let place = |name: &String| waiting.iter().position(|(_, subject)| name_in_pass(subject) == *name);
    let Some(places) = names.iter().map(place).collect::<Option<Vec<usize>>>() else { return Vec::new() };
    if places.iter().all(|place| results.knows(&waiting[*place].1.path)) {
        return Vec::new();
    }
    let mut taken: Vec<Option<Scanned>> = waiting.drain(..).map(Some).collect();
    let group = places.into_iter().filter_map(|place| taken[place].take()).collect();
    waiting.extend(taken.into_iter().flatten());
    group
}

/// How the standing of a pass names an adapter: the same path with the same bytes.
fn name_in_pass(subject: &ScannedAdapter) -> String {
    format!("{}  {}", subject.scan.sha256, subject.path)
}

/// What all groups of a batch share.
struct Batch<'a> {
    arguments: &'a Arguments,
    policy: &'a Policy,
    pins: &'a Provenance,
    pair: SideBySide<'a>,
    terminal: &'a Terminal,
}

impl Batch<'_> {
    /// Every adapter of the share, scanned.
    fn scanned(&self, share: Vec<Artifact>) -> Vec<Scanned> {
        let options = ScanOptions { base: Some(self.arguments.base.clone()), limits: Limits::default() };
        let (progress, count) = (Mutex::new((self.terminal.progress(), 0_usize)), share.len());
        let scanned = share.into_par_iter().map(|artifact| {
            let (path, found) = (shown(artifact.path()), scan(&artifact, &options));
            if let Ok(mut progress) = progress.lock() {
                progress.1 += 1;
                let done = progress.1;
                progress.0.update("scan", done, count);
            }
            (artifact, ScannedAdapter { path, scan: found, audit: None, not_compared: None, error: None })
        });
        scanned.collect()
    }

    /// Keeps what an earlier run found, of every adapter that is the same to the byte and whose line fits what was seen
    /// of it.
    fn keep(&self, earlier: Earlier, scanned: &[Scanned], results: &mut Results) -> Result<()> {
        let Earlier { pins, mut lines } = earlier;
        for (_, subject) in scanned {
            let Some(line) = lines.remove(&subject.path) else { continue };
            // That an adapter cannot be compared is found out anew and not believed.
            if line.artifact.sha256 != subject.scan.sha256 || line.evidence.report.is_none() {
                continue;
            }
            match self.again(&line, &pins, &subject.scan) {
                Ok(line) => results.keep(line),
                Err(reason) => self.terminal.note(&format!(
                    "{}: its line in {} is not kept, it is computed again: {reason:#}",
                    subject.path,
                    results.lines_file().display()
                )),
            }
        }
        results.rewrite()
    }

    /// The line as it is now: an earlier one on the same bytes, judged again from a scan and from its stored report.
    fn again(&self, line: &BatchLine, earlier: &Provenance, scan: &Scan) -> Result<BatchLine> {
        let page = !self.arguments.no_reports;
        let subject = || line.subject(scan.clone(), &self.arguments.out, self.pins);
        // By the day on which it was judged; waivers that expired since are no misfit.
        let (then, _) = BatchLine::of(subject()?, page, self.policy, earlier)?;
        if let Some(difference) = line.difference(&then) {
            bail!(difference);
        }
        let (now, audit) = BatchLine::of(subject()?, page, self.policy, self.pins)?;
        if let Some(audit) = audit
            && !self.is_written(&audit, &now)?
        {
            self.write_report(&audit, &now)?;
        }
        Ok(now)
    }

    /// Everything that has no line yet, a group at a time; first the group that an earlier run was at.
    fn rest(&self, waiting: &mut Vec<Scanned>, results: &mut Results) -> Result<()> {
        let count = waiting.len();
        if !results.is_empty() {
            self.terminal.note(&format!("{} of {count} adapters are done already", results.len()));
        }
        let per_pass = self.arguments.adapters_per_pass.map_or_else(|| self.that_fit(), usize::from);
        let mut group = interrupted(waiting, results);
        waiting.retain(|(_, subject)| !results.knows(&subject.path));
        loop {
            if group.is_empty() {
                group = waiting.drain(..waiting.len().min(per_pass)).collect();
            }
            if group.is_empty() {
                return Ok(());
            }
            let timings = self.group(std::mem::take(&mut group), results)?;
            self.terminal.note(&format!("{} of {count} adapters · {timings}", results.len()));
        }
    }

    /// Adapters whose activations fit into memory together, by what each holds at once: see [`compare_resumable`].
    ///
    /// [`compare_resumable`]: lcr_analysis::comparison::compare_resumable
    fn that_fit(&self) -> usize {
        let tokens = self.pair.probes.prompts.iter().map(Vec::len).sum();
        let each = bytes_per_model(self.pair.model.decoder.config(), tokens);
        (ACTIVATION_BYTES / each.max(1)).clamp(1, MOST_TOGETHER)
    }

    /// Some adapters through the base together; their results are written one by one. Says where the time went.
    fn group(&self, group: Vec<Scanned>, results: &mut Results) -> Result<Phases> {
        let mut fitted: Vec<(ScannedAdapter, Fitted)> = Vec::new();
        for (artifact, mut subject) in group {
            match Fitted::scanned(self.pair.model, &artifact, &subject, self.terminal) {
                Ok(adapter) => fitted.push((subject, adapter)),
                Err(reason) => {
                    subject.not_compared = artifact.is_adapter().then_some(reason);
                    self.record(subject, results)?;
                }
            }
        }
        let (subjects, adapters): (Vec<ScannedAdapter>, Vec<Fitted>) = fitted.into_iter().unzip();
        if adapters.is_empty() {
            return Ok(Phases::default());
        }
        let file = results.resume_file(subjects.iter().map(name_in_pass).collect(), self.arguments.save_every());
        let compared = self.pair.audits_kept(&adapters, Some(&file), self.terminal);
        let phases = if let Ok((audits, phases)) = compared {
            for (mut subject, audit) in subjects.into_iter().zip(audits) {
                if results.knows(&subject.path) {
                    continue;
                }
                subject.audit = Some(audit);
                self.record(subject, results)?;
            }
            phases
        } else {
            // One adapter whose activations overflow, say, must not cost the others their result; of a base that
            // changed there is none.
            self.pair.refuse_changed_base()?;
            self.one_by_one(subjects, adapters, results)?
        };
        results.forget_standing()?;
        Ok(phases)
    }

    fn one_by_one(
        &self,
        subjects: Vec<ScannedAdapter>,
        adapters: Vec<Fitted>,
        results: &mut Results,
    ) -> Result<Phases> {
        let mut total = Phases::default();
        for (mut subject, adapter) in subjects.into_iter().zip(adapters) {
            if results.knows(&subject.path) {
                continue;
            }
            match self.pair.audits(std::slice::from_ref(&adapter), self.terminal) {
                Ok((audits, phases)) => {
                    subject.audit = audits.into_iter().next();
                    total += phases;
                }
                Err(error) => subject.error = Some(format!("{error:#}")),
            }
            self.record(subject, results)?;
        }
        Ok(total)
    }

    /// Judges one adapter and writes its report and its line.
    fn record(&self, subject: ScannedAdapter, results: &mut Results) -> Result<()> {
        if let Some(reason) = &subject.not_compared {
            self.terminal.warn(&format!("{}: {reason}", subject.path));
        }
        let (line, audit) = BatchLine::of(subject, !self.arguments.no_reports, self.policy, self.pins)?;
        if let Some(audit) = audit {
            self.write_report(&audit, &line)?;
        }
        results.add(line)
    }

    /// Writes the adapter's own report, or its numbers alone.
    fn write_report(&self, audit: &Audit, line: &BatchLine) -> Result<()> {
        let own = line.report_folder();
        let context = || format!("cannot write {}", self.arguments.out.join(&own).display());
        let folder = folder_within(&self.arguments.out, Path::new(&own)).with_context(context)?;
        if self.arguments.no_reports {
            lcr_documents::audit::json::write(audit, &folder.join("report.json")).with_context(context)?;
        } else {
            lcr_reports::write_report(audit, &folder).with_context(context)?;
        }
        Ok(())
    }

    /// Whether the adapter's report stands there as it would be written now.
    fn is_written(&self, audit: &Audit, line: &BatchLine) -> Result<bool> {
        let folder = self.arguments.out.join(line.report_folder());
        let stands = |name: &str, content: String| plain(&folder.join(name)).ok() == Some(content.into_bytes());
        Ok(stands("report.json", lcr_documents::audit::json::to_string(audit)?)
            && (self.arguments.no_reports || stands("index.html", lcr_reports::html::page(audit)?)))
    }
}
