//! The folder of a batch: what it is made of, one line per adapter, how far the pass in progress has come.
//!
//! One process at a time holds it. What a killed one left unfinished is gone when the next one has ended, whatever it
//! was killed at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lcr_analysis::comparison::CompareOptions;
use lcr_analysis::resume::{ResumeFile, variants_of};
use lcr_documents::lock::{Attempt, LOCK, Lock};
use lcr_documents::read::plain;
use lcr_documents::steps::step;
use lcr_documents::write::{UNFINISHED, append, replace, sweep};
use lcr_gate::policy::Policy;
use lcr_gate::rules::WAIVER_STALE;
use lcr_gate::{ArtifactReport, GateReport, Provenance, digest_of_bytes, judge};
use lcr_reports::EARLIER;
use lcr_reports::html::{RankingEntry, ranking};
use serde::{Deserialize, Serialize};

use crate::lines::{BatchLine, REPORTS};
use crate::shard::Shard;

const MANIFEST: &str = "batch.json";
const LINES: &str = "results.jsonl";
const INDEX: &str = "index.html";
/// How far the pass in progress has come.
const STANDING: &str = "standing.safetensors";
/// The schema of [`Manifest`].
const SCHEMA: &str = "lcr-audit/batch/2";

/// What the results of a folder are made of. Another base, other probes or another policy are other results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) schema: String,
    pub(crate) tool: String,
    /// Digests of base, probes and policy.
    pub(crate) pins: Provenance,
    /// Metrics and seed.
    pub(crate) options: String,
    pub(crate) shard: String,
    /// Adapters of all shards together.
    pub(crate) adapters: usize,
    /// Their paths.
    pub(crate) list: Vec<String>,
    /// SHA-256 over the lines of the list.
    pub(crate) list_sha256: String,
    /// Where they were looked for.
    pub(crate) roots: Vec<String>,
    /// Digests of those of this shard, by path.
    pub(crate) share: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a shard whose adapters have not been looked into yet.
    pub(crate) fn new(
        pins: &Provenance,
        options: &CompareOptions,
        shard: Shard,
        list: Vec<String>,
        roots: Vec<String>,
    ) -> Self {
        let mut metrics: Vec<String> = options.sites.metrics.iter().map(|metric| metric.name.to_owned()).collect();
        metrics.sort();
        let options = format!("metrics {}, seed {}", metrics.join("+"), options.sites.parameters.seed);
        Self {
            schema: SCHEMA.to_owned(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            pins: pins.clone(),
            options,
            shard: shard.to_string(),
            adapters: list.len(),
            list_sha256: digest_of_list(&list),
            list,
            roots,
            share: BTreeMap::new(),
        }
    }

    /// What makes results comparable: everything but the shard, the adapters, the day, and where things lay.
    pub(crate) fn comparability_key(&self) -> Self {
        let mut key = self.clone();
        key.shard.clear();
        key.adapters = 0;
        key.list.clear();
        key.list_sha256.clear();
        key.roots.clear();
        key.share.clear();
        key.pins.date.clear();
        key.pins.tool = None;
        key.pins.paths.clear();
        key.pins.policy.source.clear();
        if let Some(probes) = &mut key.pins.probes {
            probes.source.clear();
        }
        if let Some(base) = &mut key.pins.base {
            base.path.clear();
        }
        key
    }

    /// Reads the manifest of a batch's folder, which must agree with itself.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = plain(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let is_no_batch = || format!("{} is not a batch's; give the folder that `batch --out` made", path.display());
        let value: serde_json::Value = serde_json::from_slice(&bytes).with_context(is_no_batch)?;
        let schema = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or("none");
        if schema != SCHEMA {
            bail!(
                "{} is written under schema `{schema}`, expected `{SCHEMA}`: start the batch in a new folder",
                path.display()
            );
        }
        let manifest: Self = serde_json::from_value(value).with_context(is_no_batch)?;
        let listed: BTreeSet<&String> = manifest.list.iter().collect();
        let agrees = manifest.adapters == manifest.list.len()
            && listed.len() == manifest.list.len()
            && manifest.list_sha256 == digest_of_list(&manifest.list)
            && manifest.share.keys().all(|path| listed.contains(path));
        if !agrees {
            bail!("{} contradicts itself about its adapters: it was edited. Run the batch again", path.display());
        }
        Ok(manifest)
    }

    /// Whether two shards are of one batch over one list of adapters.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        self.comparability_key() == other.comparability_key() && self.list == other.list
    }
}

fn digest_of_list(list: &[String]) -> String {
    digest_of_bytes(serde_json::to_string(list).unwrap_or_default().as_bytes())
}

/// What an earlier run left: its lines by the adapter's path, and what they were judged by.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) pins: Provenance,
    pub(crate) lines: BTreeMap<String, BatchLine>,
}

/// The results of a batch, in memory and in their folder, which is this process's as long as this lives.
#[derive(Debug)]
pub(crate) struct Results {
    folder: PathBuf,
    manifest: Manifest,
    lines: BTreeMap<String, BatchLine>,
    _lock: Lock,
}

impl Results {
    /// Opens a folder, new or of an earlier run of the same batch.
    pub(crate) fn open(folder: &Path, manifest: Manifest) -> Result<(Self, Earlier)> {
        let lock = hold(folder)?;
        let mut earlier = Earlier::default();
        if folder.join(MANIFEST).symlink_metadata().is_ok() {
            let known = Manifest::read(folder)?;
            if known.comparability_key() != manifest.comparability_key() {
                bail!(
                    "{} holds results of another batch (base, probes, policy, metrics or version differ): choose \
                     another --out, or remove the folder",
                    folder.display()
                );
            }
            earlier = Earlier { pins: known.pins, lines: read_lines(folder)? };
        }
        Ok((Self { folder: folder.to_owned(), manifest, lines: BTreeMap::new(), _lock: lock }, earlier))
    }

    /// A folder for the results of shards.
    pub(crate) fn merged(folder: &Path, manifest: Manifest, lines: BTreeMap<String, BatchLine>) -> Result<Self> {
        let lock = hold(folder)?;
        let results = Self { folder: folder.to_owned(), manifest, lines, _lock: lock };
        results.write_manifest()?;
        Ok(results)
    }

    /// Says which adapters are this shard's, with their digests.
    pub(crate) fn take_share(&mut self, share: impl Iterator<Item = (String, String)>) -> Result<()> {
        self.manifest.share = share.collect();
        self.write_manifest()
    }

    fn write_manifest(&self) -> Result<()> {
        self.replace(MANIFEST, serde_json::to_string_pretty(&self.manifest)?.as_bytes())
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        replace(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(crate) fn knows(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    pub(crate) fn lines_file(&self) -> PathBuf {
        self.folder.join(LINES)
    }

    /// Takes over a line of an earlier run.
    pub(crate) fn keep(&mut self, line: BatchLine) {
        self.lines.insert(line.artifact.path.clone(), line);
    }

    /// Adds a line; it is on the disk when this returns.
    pub(crate) fn add(&mut self, line: BatchLine) -> Result<()> {
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        let path = self.lines_file();
        append(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        self.keep(line);
        Ok(())
    }

    /// Where a pass over some adapters, each named by its path and digest, keeps how far it has come.
    pub(crate) fn resume_file(&self, adapters: Vec<String>, interval: Duration) -> ResumeFile {
        let path = self.folder.join(STANDING);
        ResumeFile { path, fingerprint: self.fingerprint(), variants: adapters, interval }
    }

    /// The adapters of a pass that was interrupted.
    pub(crate) fn interrupted(&self) -> Option<Vec<String>> {
        variants_of(&self.folder.join(STANDING), &self.fingerprint())
    }

    fn fingerprint(&self) -> String {
        digest_of_bytes(serde_json::to_string(&self.manifest.comparability_key()).unwrap_or_default().as_bytes())
    }

    /// The pass is over.
    pub(crate) fn forget_standing(&self) -> Result<()> {
        let path = self.folder.join(STANDING);
        match std::fs::remove_file(&path) {
            Ok(()) => step(),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
        Ok(())
    }

    /// Writes the lines in order; one that a kill cut short is not among them, so that the next does not continue it.
    pub(crate) fn rewrite(&self) -> Result<()> {
        let mut text = String::new();
        for line in self.lines.values() {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        self.replace(LINES, text.as_bytes())
    }

    /// Writes lines in order and the ranking, removes what earlier runs left behind, and gives the report over all.
    pub(crate) fn finish(self, policy: &Policy, pins: Provenance) -> Result<GateReport> {
        self.rewrite()?;
        let base = pins.base.as_ref().map(|base| base.path.clone());
        let mut entries: Vec<RankingEntry> = self.lines.values().map(|line| line.ranking.clone()).collect();
        RankingEntry::rank(&mut entries);
        let judge = if policy.source == "default" { "the built-in policy" } else { "the policy" };
        self.replace(INDEX, ranking(&entries, base.as_deref(), judge)?.as_bytes())?;
        self.tidy().with_context(|| format!("cannot remove what a killed run left in {}", self.folder.display()))?;
        let artifacts = self.lines.into_values().map(|line| line.artifact).collect();
        Ok(report_of(artifacts, policy, pins))
    }

    /// Removes everything that a run may leave that is killed: the standing of a pass all of whose lines were written,
    /// files written aside, reports half made.
    fn tidy(&self) -> Result<()> {
        self.forget_standing()?;
        let unfinished = [UNFINISHED, EARLIER];
        sweep(&self.folder, &unfinished)?;
        let reports = self.folder.join(REPORTS);
        if !reports.symlink_metadata().is_ok_and(|known| known.is_dir()) {
            return Ok(());
        }
        sweep(&reports, &unfinished)?;
        for report in std::fs::read_dir(&reports)? {
            let report = report?;
            if report.file_type()?.is_dir() {
                sweep(&report.path(), &unfinished)?;
            }
        }
        Ok(())
    }
}

/// Takes a folder for this process.
fn hold(folder: &Path) -> Result<Lock> {
    fs_err::create_dir_all(folder)?;
    match Lock::acquire(folder).with_context(|| format!("cannot lock {}", folder.join(LOCK).display()))? {
        Attempt::Held(lock) => Ok(lock),
        Attempt::Taken(process) => {
            let holder = process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"));
            bail!("{} is in use by {holder}: wait for it to end, or choose another --out", folder.display())
        }
    }
}

/// The lines of a batch's folder by the adapter's path. Only the last line may be cut, as a kill leaves it.
pub(crate) fn read_lines(folder: &Path) -> Result<BTreeMap<String, BatchLine>> {
    let path = folder.join(LINES);
    let bytes = match plain(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut lines = BTreeMap::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match serde_json::from_slice::<BatchLine>(line) {
            Ok(line) => {
                let known = lines.insert(line.artifact.path.clone(), line);
                if let Some(known) = known {
                    bail!("{}, line {}: {} has a line already", path.display(), index + 1, known.artifact.path);
                }
            }
            Err(_) if !line.ends_with(b"\n") => break,
            Err(error) => bail!("{}, line {}: {error}", path.display(), index + 1),
        }
    }
    Ok(lines)
}

/// A report over the lines of a batch, or of all its shards.
fn report_of(lines: Vec<ArtifactReport>, policy: &Policy, pins: Provenance) -> GateReport {
    let mut report = judge(Vec::new(), policy, pins);
    report.artifacts = lines;
    report.artifacts.sort_by(|left, right| left.path.cmp(&right.path));
    // Which waivers were needed, each adapter's own judgement knows, and no single one can say that none was.
    report.policy_findings.retain(|finding| finding.rule != WAIVER_STALE.code);
    report.conclude();
    report
}
