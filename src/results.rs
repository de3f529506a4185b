//! The folder of a batch: what it is made of, a line an adapter, how far the pass in progress has come; and shards merged.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_analysis::comparison::CompareOptions;
use lcr_analysis::standing::{Keeper, variants_of};
use lcr_reports::gate::{ArtifactReport, GateReport, Pins, digest_of_bytes};
use lcr_reports::html::{RankingEntry, ranking};
use lcr_reports::policy::Policy;
use serde::{Deserialize, Serialize};

use crate::batch::{Shard, report_of};
use crate::exit::Status;
use crate::gate::open_policy;
use crate::outputs::{OutputArguments, replace};
use crate::terminal::Terminal;

const MANIFEST: &str = "batch.json";
const LINES: &str = "results.jsonl";
const INDEX: &str = "index.html";
/// How far the pass in progress has come.
const STANDING: &str = "standing.safetensors";
/// The schema of [`Manifest`].
const SCHEMA: &str = "lcr-audit/batch/1";

/// What the results of a folder are made of. Another base, other probes or another policy are other results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    schema: String,
    tool: String,
    /// Digests of base, probes and policy.
    pins: Pins,
    /// Metrics and seed.
    options: String,
    shard: String,
    /// Adapters of all shards together.
    adapters: usize,
}

impl Manifest {
    pub(crate) fn new(pins: &Pins, policy: &Policy, options: &CompareOptions, shard: Shard, adapters: usize) -> Self {
        let mut pins = pins.clone();
        pins.policy.source.clone_from(&policy.source);
        pins.policy.sha256.clone_from(&policy.sha256);
        let mut metrics: Vec<String> = options.sites.metrics.iter().map(|metric| format!("{metric:?}")).collect();
        metrics.sort();
        let options = format!("metrics {}, seed {}", metrics.join("+").to_lowercase(), options.sites.seed);
        Self {
            schema: SCHEMA.to_owned(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            pins,
            options,
            shard: shard.to_string(),
            adapters,
        }
    }

    /// What makes results comparable: everything but the shard, the number of adapters, the day, and where things lay.
    fn essence(&self) -> Self {
        let mut essence = self.clone();
        essence.shard.clear();
        essence.adapters = 0;
        essence.pins.date.clear();
        essence.pins.tool = None;
        essence.pins.paths.clear();
        essence.pins.policy.source.clear();
        if let Some(probes) = &mut essence.pins.probes {
            probes.source.clear();
        }
        if let Some(base) = &mut essence.pins.base {
            base.path.clear();
        }
        essence
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs_err::read_to_string(&path)?;
        let manifest: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a batch's; give the folder that `batch --out` made", path.display()))?;
        if manifest.schema != SCHEMA {
            bail!("{} is written under schema `{}`, expected `{SCHEMA}`", path.display(), manifest.schema);
        }
        Ok(manifest)
    }
}

/// One adapter's result: a line of results.jsonl.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BatchLine {
    /// What the gate says.
    pub(crate) artifact: ArtifactReport,
    /// Its line in the ranking.
    pub(crate) ranking: RankingEntry,
}

/// The results of a batch, in memory and in their folder.
#[derive(Debug)]
pub(crate) struct Results {
    folder: PathBuf,
    manifest: Manifest,
    lines: BTreeMap<String, BatchLine>,
}

impl Results {
    /// Opens a folder, new or of an earlier run of the same batch.
    pub(crate) fn open(folder: &Path, manifest: Manifest) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        let mut lines = BTreeMap::new();
        if folder.join(MANIFEST).exists() {
            let known = Manifest::read(folder)?;
            if known.essence() != manifest.essence() {
                bail!(
                    "{} holds results of another batch (base, probes, policy, metrics or version differ): choose another --out, or \
                     remove the folder",
                    folder.display()
                );
            }
            lines = read_lines(&folder.join(LINES))?;
        }
        replace(&folder.join(MANIFEST), serde_json::to_string_pretty(&manifest)?.as_bytes())?;
        let results = Self { folder: folder.to_owned(), manifest, lines };
        // A line that was cut by a kill goes here, so that the next one does not continue it.
        results.rewrite()?;
        Ok(results)
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Forgets adapters that are no longer there, and those whose bytes are others now.
    pub(crate) fn keep_only(&mut self, digests: &BTreeMap<String, String>) {
        self.lines.retain(|path, line| digests.get(path) == Some(&line.artifact.sha256));
    }

    pub(crate) fn knows(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    /// Adds a line; it is on the disk when this returns.
    pub(crate) fn add(&mut self, line: BatchLine) -> Result<()> {
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(self.folder.join(LINES))?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        self.lines.insert(line.artifact.path.clone(), line);
        Ok(())
    }

    /// Where a pass over some adapters, each named by its path and digest, keeps how far it has come.
    pub(crate) fn keeper(&self, adapters: Vec<String>, interval: Duration) -> Keeper {
        let path = self.folder.join(STANDING);
        Keeper { path, fingerprint: self.fingerprint(), variants: adapters, interval }
    }

    /// The adapters of a pass that was interrupted.
    pub(crate) fn interrupted(&self) -> Option<Vec<String>> {
        variants_of(&self.folder.join(STANDING), &self.fingerprint())
    }

    fn fingerprint(&self) -> String {
        digest_of_bytes(serde_json::to_string(&self.manifest.essence()).unwrap_or_default().as_bytes())
    }

    /// The pass is over.
    pub(crate) fn forget_standing(&self) {
        // That the file stays behind is no failure: its fingerprint fits no other pass.
        let _ = fs_err::remove_file(self.folder.join(STANDING));
    }

    fn rewrite(&self) -> Result<()> {
        let mut text = String::new();
        for line in self.lines.values() {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        replace(&self.folder.join(LINES), text.as_bytes())
    }

    /// Writes lines in order and the ranking, and gives the report over all.
    pub(crate) fn finish(self, folder: &Path, policy: &Policy, pins: Pins) -> Result<GateReport> {
        self.rewrite()?;
        let base = pins.base.as_ref().map(|base| base.path.clone());
        let mut entries: Vec<RankingEntry> = self.lines.values().map(|line| line.ranking.clone()).collect();
        RankingEntry::rank(&mut entries);
        let judge = if policy.source == "default" { "the built-in policy" } else { "the policy" };
        replace(&folder.join(INDEX), ranking(&entries, base.as_deref(), judge)?.as_bytes())?;
        let artifacts = self.lines.into_values().map(|line| line.artifact).collect();
        Ok(report_of(artifacts, policy, pins))
    }
}

/// The lines of a results.jsonl by the adapter's path. Only the last line may be cut, as a kill leaves it.
fn read_lines(path: &Path) -> Result<BTreeMap<String, BatchLine>> {
    let text = match fs_err::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut lines = BTreeMap::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str::<BatchLine>(line) {
            Ok(line) => {
                lines.insert(line.artifact.path.clone(), line);
            }
            Err(_) if !line.ends_with('\n') => break,
            Err(error) => bail!("{}, line {}: {error}", path.display(), index + 1),
        }
    }
    Ok(lines)
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit merge fleet/* --out fleet-report
  lcr-audit merge fleet/* --out fleet-report --write sarif=fleet.sarif

The shards must be of one base, one policy and the same probes and metrics, and all of them must be there.")]
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
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs `merge`.
pub(crate) fn merge(arguments: &MergeArguments, terminal: &Terminal) -> Result<Status> {
    let policy = open_policy(arguments.policy.as_deref())?;
    let mut merged: Option<Manifest> = None;
    let mut lines: BTreeMap<String, BatchLine> = BTreeMap::new();
    for folder in &arguments.shards {
        let manifest = Manifest::read(folder)?;
        if let Some(first) = &merged
            && (first.essence() != manifest.essence() || first.adapters != manifest.adapters)
        {
            bail!(
                "{} and {} are shards of different batches (base, probes, policy, metrics, version or adapters differ)",
                arguments.shards[0].display(),
                folder.display()
            );
        }
        for (path, mut line) in read_lines(&folder.join(LINES))? {
            line.ranking.folder = line.ranking.folder.map(|own| relative(&arguments.out, &folder.join(own)));
            if lines.insert(path.clone(), line).is_some() {
                bail!("{path} is in two of the shards: give each shard once");
            }
        }
        merged.get_or_insert(manifest);
    }
    let Some(manifest) = merged else { bail!("no shard was given") };
    if manifest.pins.policy.sha256 != policy.sha256 {
        bail!("the shards were judged by another policy: give it with --policy");
    }
    if lines.len() != manifest.adapters {
        bail!(
            "{} of {} adapters have a result: a shard is missing, or was interrupted (start it again, it goes on)",
            lines.len(),
            manifest.adapters
        );
    }
    let pins = manifest.pins.clone();
    fs_err::create_dir_all(&arguments.out)?;
    let merged = Manifest { shard: "1/1".to_owned(), ..manifest };
    replace(&arguments.out.join(MANIFEST), serde_json::to_string_pretty(&merged)?.as_bytes())?;
    let results = Results { folder: arguments.out.clone(), manifest: merged, lines };
    let report = results.finish(&arguments.out, &policy, pins)?;
    arguments.output.emit(&report, terminal)
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
