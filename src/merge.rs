//! `lcr-audit merge`: the shards of a batch put together.
//!
//! Shards come from other machines, and whoever passed them on may have edited them. Every adapter of the list has
//! exactly one line, and every line is judged again from what was seen: from a scan where the adapters and the base are
//! at hand, otherwise from the observations in the line, and from the stored report of its comparison. A line that says
//! anything else ends the merge. What cannot be known of adapters that are not here stands in LIMITS.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_documents::paths::shown;
use lcr_gate::Provenance;
use lcr_gate::policy::Policy;
use lcr_scan::{Artifact, Limits, Scan, ScanOptions, discover, scan};
use rayon::prelude::*;

use crate::exit::Status;
use crate::gate::open_policy;
use crate::lines::BatchLine;
use crate::outputs::OutputArguments;
use crate::provenance::pin_base;
use crate::results::{Manifest, Results, read_lines};
use crate::terminal::Terminal;

/// Arguments of `merge`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit merge fleet/* --out fleet-report
  lcr-audit merge fleet/* --out fleet-report --write sarif=fleet.sarif
  lcr-audit merge fleet/* --out fleet-report --adapters adapters/      nothing may be missing that stands there

The shards must be of one base, one policy and the same probes and metrics, and all of them must be there, whole. \
    Where the adapters
and the base are at hand they are scanned again.")]
pub(crate) struct MergeArguments {
    /// Folders that `batch --shard` wrote.
    #[arg(required = true)]
    shards: Vec<PathBuf>,
    /// Folder for the merged results.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The policy that the shards were judged by [default: lcr-audit.toml in this folder, else the built-in policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where the adapters are, as the shards were given it: all that stand there must have a result [default: where the
    /// shards found them, if that is here].
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "no_scan")]
    adapters: Vec<PathBuf>,
    /// Folder of the base [default: where the shards found it, if that is here].
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Do not scan the adapters again: faster, and whatever the shards say of the files is believed.
    #[arg(long)]
    no_scan: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// A shard's folder with what stands in it.
struct ShardFolder<'a> {
    folder: &'a Path,
    manifest: Manifest,
    lines: BTreeMap<String, BatchLine>,
}

/// Runs the command.
pub(crate) fn run(arguments: &MergeArguments, terminal: &Terminal) -> Result<Status> {
    let policy = open_policy(arguments.policy.as_deref())?;
    let shards = arguments.shards.iter().map(|folder| open(folder)).collect::<Result<Vec<ShardFolder>>>()?;
    let Some(first) = shards.first() else { bail!("no shard was given") };
    refuse_strangers(&shards)?;
    if first.manifest.pins.policy.sha256 != policy.sha256 {
        bail!("the shards were judged by another policy: give it with --policy");
    }
    refuse_incomplete(&shards)?;
    let mut pins = first.manifest.pins.clone();
    // Waivers hold up to a day; the latest on which a shard was judged counts.
    let dates = shards.iter().map(|shard| shard.manifest.pins.date.as_str());
    dates.max().unwrap_or_default().clone_into(&mut pins.date);
    let at_hand = arguments.at_hand(&first.manifest, terminal)?;
    let scans = scans(&at_hand, terminal);
    let manifest = Manifest { shard: "1/1".to_owned(), pins: pins.clone(), ..first.manifest.clone() };
    let mut lines = BTreeMap::new();
    let mut share = BTreeMap::new();
    for shard in &shards {
        for (path, line) in &shard.lines {
            let again = judged_again(shard, line, scans.get(path), &policy, &pins, &arguments.out)
                .with_context(|| format!("{}: the line on {path} is not sound", shard.folder.display()))?;
            share.insert(path.clone(), line.artifact.sha256.clone());
            lines.insert(path.clone(), again);
        }
    }
    let results = Results::merged(&arguments.out, Manifest { share, ..manifest }, lines)?;
    let report = results.finish(&policy, pins)?;
    arguments.output.emit(&report, terminal)
}

fn open(folder: &Path) -> Result<ShardFolder<'_>> {
    let manifest = Manifest::read(folder)?;
    let lines = read_lines(folder)?;
    for (path, line) in &lines {
        if manifest.share.get(path) != Some(&line.artifact.sha256) {
            bail!(
                "{} has a line on {path} that is not of its share, or on other bytes: run the shard again",
                folder.display()
            );
        }
    }
    Ok(ShardFolder { folder, manifest, lines })
}

/// Shards of different batches do not go together.
fn refuse_strangers(shards: &[ShardFolder]) -> Result<()> {
    let Some((first, others)) = shards.split_first() else { return Ok(()) };
    match others.iter().find(|other| !first.manifest.fits(&other.manifest)) {
        None => Ok(()),
        Some(other) => bail!(
            "{} and {} are shards of different batches (base, probes, policy, metrics, version or adapters differ)",
            first.folder.display(),
            other.folder.display()
        ),
    }
}

/// Every adapter of the list has exactly one line.
fn refuse_incomplete(shards: &[ShardFolder]) -> Result<()> {
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    if let Some(twice) = shards.iter().flat_map(|shard| shard.lines.keys()).find(|path| !seen.insert(path)) {
        bail!("{twice} is in two of the shards: give each shard once");
    }
    let list = shards.first().map(|shard| shard.manifest.list.as_slice()).unwrap_or_default();
    if let Some(missing) = list.iter().find(|path| !seen.contains(path)) {
        bail!(
            "{} of {} adapters have a result, {missing} has none: a shard is missing, or was interrupted (start it \
             again, it goes on)",
            seen.len(),
            list.len()
        );
    }
    Ok(())
}

/// The adapters that are here, with what a scan of them needs.
#[derive(Default)]
struct AtHand {
    artifacts: Vec<Artifact>,
    options: ScanOptions,
}

impl MergeArguments {
    /// Finds the adapters where they should be: all that stand there are on the list, and all of the list are there.
    fn at_hand(&self, manifest: &Manifest, terminal: &Terminal) -> Result<AtHand> {
        let unseen = |reason: &str| {
            terminal.warn(&format!("{reason}: what the shards say of the adapters' files is believed"));
            Ok(AtHand::default())
        };
        if self.no_scan {
            return Ok(AtHand::default());
        }
        let roots = if self.adapters.is_empty() {
            manifest.roots.iter().map(PathBuf::from).collect()
        } else {
            self.adapters.clone()
        };
        if self.adapters.is_empty() && roots.iter().any(|root| root.symlink_metadata().is_err()) {
            return unseen("the adapters are not here");
        }
        let limits = Limits::default();
        let artifacts = discover(&roots, &limits)?;
        let found: BTreeSet<String> = artifacts.iter().map(|artifact| shown(artifact.path())).collect();
        let listed: BTreeSet<String> = manifest.list.iter().cloned().collect();
        let advice = "run the shards again, or give --no-scan to merge what they saw";
        if let Some(new) = found.difference(&listed).next() {
            bail!("{new} is in no shard: {advice}");
        }
        if let Some(gone) = listed.difference(&found).next() {
            bail!("{gone} is in the shards and no longer here: {advice}");
        }
        let Some(base) = self.base(manifest)? else { return unseen("the base is not here (--base)") };
        Ok(AtHand { artifacts, options: ScanOptions { base: Some(base), limits } })
    }

    /// The folder of the base, which must be the one that the shards had as far as a scan looks into it.
    fn base(&self, manifest: &Manifest) -> Result<Option<PathBuf>> {
        let Some(pinned) = &manifest.pins.base else { return Ok(None) };
        let folder = match &self.base {
            Some(folder) => folder.clone(),
            None if Path::new(&pinned.path).is_dir() => PathBuf::from(&pinned.path),
            None => return Ok(None),
        };
        let found = pin_base(&folder, false)?;
        if (&found.tokenizer, &found.template) != (&pinned.tokenizer, &pinned.template) {
            bail!(
                "{} is not the base of the shards: its tokenizer or template is another. Give theirs with --base",
                folder.display()
            );
        }
        Ok(Some(folder))
    }
}

/// Scans of the adapters that are here, by path.
fn scans(at_hand: &AtHand, terminal: &Terminal) -> BTreeMap<String, Scan> {
    let (progress, count) = (std::sync::Mutex::new((terminal.progress(), 0_usize)), at_hand.artifacts.len());
    let scanned = at_hand.artifacts.par_iter().map(|artifact| {
        let found = scan(artifact, &at_hand.options);
        if let Ok(mut progress) = progress.lock() {
            progress.1 += 1;
            let done = progress.1;
            progress.0.update("scan", done, count);
        }
        (shown(artifact.path()), found)
    });
    scanned.collect()
}

/// A line as it follows from what was seen; an error where the line says something else.
fn judged_again(
    shard: &ShardFolder,
    line: &BatchLine,
    scanned: Option<&Scan>,
    policy: &Policy,
    pins: &Provenance,
    out: &Path,
) -> Result<BatchLine> {
    if let Some(found) = scanned.filter(|found| found.sha256 != line.artifact.sha256) {
        bail!(
            "the adapter is another now (SHA-256 {}, the shard saw {}): run the shard again, or give --no-scan to \
             merge what it saw",
            found.sha256,
            line.artifact.sha256
        );
    }
    let scan = || scanned.cloned().unwrap_or_else(|| line.scan());
    let subject = || line.subject(scan(), shard.folder, pins);
    let page = line.ranking.folder.is_some();
    let (then, _) = BatchLine::of(subject()?, page, policy, &shard.manifest.pins)?;
    if let Some(difference) = line.difference(&then) {
        bail!("{difference}; run the shard again");
    }
    let (mut again, _) = BatchLine::of(subject()?, page, policy, pins)?;
    // Reports stay as the shards wrote them.
    again.evidence.report.clone_from(&line.evidence.report);
    let own = shard.folder.join(line.report_folder());
    let is_there = again.ranking.folder.is_some() && own.join("index.html").is_file();
    again.ranking.folder = is_there.then(|| relative(out, &own));
    Ok(again)
}

/// A path as seen from a folder.
fn relative(from: &Path, to: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (from, to) = (absolute(from), absolute(to));
    let shared = from.components().zip(to.components()).take_while(|(left, right)| left == right).count();
    let up = from.components().skip(shared).map(|_| "..".to_owned());
    let down = to.components().skip(shared).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<String>>().join("/")
}
