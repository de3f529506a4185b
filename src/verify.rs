//! `lcr-audit verify`: whether a report still speaks of these files, and whether its verdict follows from what it holds.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_analysis::audit::{Audit, SCHEMA};
use lcr_reports::gate::{
    self, ArtifactReport, BaselineState, GATE_SCHEMA, GateReport, GateVerdict, Pins, Subject, judge, judge_audit,
};
use lcr_reports::policy::catalogue::rule;
use lcr_reports::policy::{DEFAULT_POLICY, Policy, Stage};
use lcr_scan::{Artifact, Limits, ScanOptions, discover, scan};
use serde::Serialize;

use crate::compare::scan_adapter;
use crate::composition::pin_base;
use crate::exit::Status;
use crate::terminal::Terminal;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit verify gate.json                                  against the paths that the report names
  lcr-audit verify audit/report.json --base models/Qwen3-4B --adapter my-adapter
  lcr-audit verify gate.json --json | jq '.checks[] | select(.agrees | not)'

Recomputes every digest that the report pins and the verdict from its findings; the files are scanned again. What a comparison
measured is not run again.

Exit codes: 0 everything agrees · 1 something differs · 2 it could not be verified · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// report.json of `compare`, or the JSON of `scan`, `gate`, `batch` or `merge`.
    report: PathBuf,
    /// Folder of the base [default: the one that the report names].
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Folder of the adapter, where the report is about one [default: the one that it names].
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Policy file [default: the one that the report names].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// One thing that was recomputed.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    reported: String,
    found: String,
    agrees: bool,
}

impl Check {
    fn new(what: impl Into<String>, reported: impl Into<String>, found: impl Into<String>) -> Self {
        let (reported, found) = (reported.into(), found.into());
        Self { what: what.into(), agrees: reported == found, reported, found }
    }

    /// A digest that the report may not pin: then there is nothing to hold against.
    fn digest(
        what: &str,
        reported: Option<&String>,
        found: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<Option<Self>> {
        let Some(reported) = reported else { return Ok(None) };
        Ok(Some(Self::new(what, reported.clone(), found()?.unwrap_or_else(|| "nothing".to_owned()))))
    }
}

/// The outcome, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Verification {
    agrees: bool,
    checks: Vec<Check>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let text = fs_err::read_to_string(&arguments.report)?;
    let schema = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| value.get("schema").and_then(|schema| schema.as_str().map(str::to_owned)));
    let checks = match schema.as_deref() {
        Some(GATE_SCHEMA) => verify_gate(arguments, &gate::read(&arguments.report)?)?,
        Some(SCHEMA) => verify_audit(arguments, &lcr_reports::json::read(&arguments.report)?)?,
        _ => bail!("{} is no report of this program", arguments.report.display()),
    };
    let verification = Verification { agrees: checks.iter().all(|check| check.agrees), checks };
    if terminal.json() {
        terminal.document(&verification)?;
    } else {
        terminal.result(&table(&verification)?)?;
    }
    Ok(if verification.agrees { Status::Done } else { Status::Failed })
}

fn table(verification: &Verification) -> Result<String> {
    let mut text = String::new();
    for check in &verification.checks {
        if check.agrees {
            writeln!(text, "  agrees   {}", check.what)?;
        } else {
            writeln!(
                text,
                "  DIFFERS  {}\n           reported {}\n           found    {}",
                check.what, check.reported, check.found
            )?;
        }
    }
    let verdict = if verification.agrees { "everything agrees" } else { "the report does not speak of these files" };
    writeln!(text, "{verdict}")?;
    Ok(text)
}

/// The digests of a base against what a report pins of it.
fn base_checks(folder: &Path, pinned: [Option<&String>; 3]) -> Result<Vec<Check>> {
    let found = pin_base(folder, pinned[0].is_some())?;
    let checks = [
        Check::digest("base", pinned[0], || Ok(found.sha256.clone()))?,
        Check::digest("tokenizer of the base", pinned[1], || Ok(found.tokenizer.clone()))?,
        Check::digest("chat template of the base", pinned[2], || Ok(found.template.clone()))?,
    ];
    Ok(checks.into_iter().flatten().collect())
}

fn verify_audit(arguments: &Arguments, audit: &Audit) -> Result<Vec<Check>> {
    let Some(composition) = &audit.composition else { bail!("the report pins nothing: it is of an earlier version") };
    let is_bundled = audit.base.path.starts_with("bundled:");
    if is_bundled && arguments.base.is_none() {
        bail!(
            "the report is about the bundled model: give the folders with --base bundled/nano --adapter bundled/nano-lcr"
        );
    }
    let base = arguments.base.clone().unwrap_or_else(|| PathBuf::from(&audit.base.path));
    let mut checks =
        base_checks(&base, [composition.base.as_ref(), composition.tokenizer.as_ref(), composition.template.as_ref()])?;
    let adapter = arguments.adapter.clone().unwrap_or_else(|| PathBuf::from(&audit.adapter.path));
    if !adapter.exists() {
        bail!("{} does not exist: say with --adapter where the adapter is", adapter.display());
    }
    let policy = match (&arguments.policy, &composition.policy) {
        (Some(path), _) => Policy::open(path)?,
        (None, None) => Policy::default(),
        (None, Some(_)) => bail!("a policy gave the verdict: say with --policy where it is"),
    };
    checks.extend(Check::digest("policy", composition.policy.as_ref(), || Ok(Some(policy.sha256.clone())))?);
    let scanned = scan_adapter(&adapter, &base);
    checks.extend(Check::digest("adapter", composition.adapter.as_ref(), || Ok(Some(scanned.sha256.clone())))?);
    let mut again = audit.clone();
    let pins = Pins {
        base: Some(pin_base(&base, true)?),
        date: composition.date.clone().unwrap_or_default(),
        ..Pins::default()
    };
    judge_audit(&mut again, scanned, &policy, pins);
    checks.extend([
        Check::new("version of the program", &audit.tool.version, env!("CARGO_PKG_VERSION")),
        Check::new("verdict from numbers and files", outcome(audit), outcome(&again)),
        Check::new("findings from numbers and files", codes(audit), codes(&again)),
        Check::new("what was checked", format!("{:?}", audit.checked), format!("{:?}", again.checked)),
        Check::new("sizes beside their limits", format!("{:?}", audit.sizes), format!("{:?}", again.sizes)),
    ]);
    Ok(checks)
}

/// Verdict and judgement of an audit as one text.
fn outcome(audit: &Audit) -> String {
    format!("{:?}, {:?}", audit.verdict, audit.judgement)
}

/// Findings of an audit as one text.
fn codes(audit: &Audit) -> String {
    let codes: Vec<String> = audit
        .findings
        .iter()
        .map(|finding| format!("{:?} {} at {}:{}", finding.level, finding.rule, finding.file, finding.location))
        .collect();
    codes.join(", ")
}

fn verify_gate(arguments: &Arguments, report: &GateReport) -> Result<Vec<Check>> {
    let mut checks = vec![
        Check::new("version of the program", &report.tool.version, env!("CARGO_PKG_VERSION")),
        Check::new("verdict from the findings", format!("{:?}", report.verdict), format!("{:?}", report.concluded())),
    ];
    for artifact in &report.artifacts {
        let incomplete = artifact.error.is_some();
        let again = GateVerdict::of(report.fail_on, artifact.findings.iter(), incomplete);
        checks.push(Check::new(
            format!("verdict on {}", artifact.path),
            format!("{:?}", artifact.verdict),
            format!("{again:?}"),
        ));
    }
    if report.pins.baseline.is_none() {
        // Without a baseline nothing can be known already.
        let known = report.findings().filter(|finding| finding.state != BaselineState::New).count();
        checks.push(Check::new("findings that a baseline knows", known.to_string(), "0"));
    }
    let policy = policy(arguments, report)?;
    checks.push(Check::new("level that fails", report.fail_on.name(), policy.fail_on.name()));
    checks.push(Check::new("policy", &report.pins.policy.sha256, &policy.sha256));
    let base = arguments.base.clone().or_else(|| report.pins.base.as_ref().map(|base| PathBuf::from(&base.path)));
    if let (Some(folder), Some(pinned)) = (&base, &report.pins.base) {
        let pinned = [pinned.sha256.as_ref(), pinned.tokenizer.as_ref(), pinned.template.as_ref()];
        checks.extend(base_checks(folder, pinned)?);
    }
    if arguments.adapter.is_some() && report.artifacts.len() != 1 {
        bail!("--adapter is for reports about one adapter, this one is about {}", report.artifacts.len());
    }
    let options = ScanOptions { base, limits: Limits::default() };
    for artifact in &report.artifacts {
        let folder = arguments.adapter.clone().unwrap_or_else(|| PathBuf::from(&artifact.path));
        checks.extend(artifact_checks(&folder, artifact, &options, &policy, &report.pins)?);
    }
    Ok(checks)
}

/// The policy that the report was judged by.
fn policy(arguments: &Arguments, report: &GateReport) -> Result<Policy> {
    let source = &report.pins.policy.source;
    Ok(match (&arguments.policy, source.as_str()) {
        (Some(path), _) => Policy::open(path)?,
        (None, "default") => Policy::parse("default", DEFAULT_POLICY)?,
        (None, path) => Policy::open(Path::new(path)).context("say with --policy where the policy is")?,
    })
}

/// The adapter's digest, and what a scan says of it now.
fn artifact_checks(
    folder: &Path,
    reported: &ArtifactReport,
    options: &ScanOptions,
    policy: &Policy,
    pins: &Pins,
) -> Result<Vec<Check>> {
    let artifacts = discover(&[folder.to_owned()], &options.limits)?;
    let is_it = |artifact: &&Artifact| artifact.path() == folder;
    let Some(artifact) = artifacts.iter().find(is_it).or(artifacts.first()) else {
        bail!("{} holds no adapter any more", folder.display());
    };
    let found = scan(artifact, options);
    let digest = Check::new(format!("adapter {}", reported.path), &reported.sha256, &found.sha256);
    let subject = Subject { path: reported.path.clone(), scan: found, audit: None, not_compared: None, error: None };
    let again = judge(vec![subject], policy, pins.clone());
    let of_files = |artifacts: &[ArtifactReport]| -> String {
        let findings = artifacts.iter().flat_map(|artifact| &artifact.findings);
        let codes: BTreeSet<String> = findings
            .filter(|finding| {
                rule(&finding.rule).is_some_and(|rule| matches!(rule.stage, Stage::Files | Stage::Adapter))
            })
            // The same codes come from a comparison, which is not run again, without a file.
            .filter(|finding| !finding.file.is_empty())
            .map(|finding| {
                let waived = if finding.waiver.is_some() { ", waived" } else { "" };
                format!("{} {} at {}:{}{waived}", finding.level.name(), finding.rule, finding.file, finding.location)
            })
            .collect();
        codes.into_iter().collect::<Vec<String>>().join(", ")
    };
    let findings = Check::new(
        format!("findings of {}", reported.path),
        of_files(std::slice::from_ref(reported)),
        of_files(&again.artifacts),
    );
    Ok(vec![digest, findings])
}
