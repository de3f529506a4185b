//! `lcr-audit verify`: whether a report is what this program says of these files.
//!
//! Everything is done again (the files are scanned, the policy judges, the comparison is run) and the whole document
//! that comes of it is held against the report. Policy, baseline and day are taken from the command line or are the
//! defaults, never from the report: whoever wrote it would choose them. Paths that it names are taken as names, and
//! said.

#[cfg(feature = "models")]
mod audit;
mod gate;
mod named;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use lcr_documents::audit::SCHEMA;
use lcr_documents::characters::visible;
use lcr_gate::GATE_SCHEMA;
use lcr_gate::difference::{Comparison, Difference, Document, Numbers};
use serde::Serialize;
use serde_json::Value;

use crate::attestation;
use crate::exit::Status;
use crate::terminal::Terminal;

/// Differences of one part that are shown.
const SHOWN: usize = 5;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lcr-audit verify gate.json                                  by ./lcr-audit.toml or the built-in policy, as the gate \
  itself
  lcr-audit verify gate.json --policy lcr-audit.toml --baseline accepted.json --date 2026-11-29
  lcr-audit verify gate.json --base models/Qwen3-4B adapters/
  lcr-audit verify audit/report.json --base models/Qwen3-4B --adapter my-adapter
  lcr-audit verify gate.json --json | jq '.checks[] | select(.agrees | not)'

Does again what the report says was done, and compares the whole document. A comparison with the base is run again and \
  takes as long
as it took then; --files-only leaves it out, and what it measured is then not verified.

Exit codes: 0 everything agrees · 1 something differs · 2 it could not be verified in full · 3 wrong usage.")]
pub(crate) struct Arguments {
    /// report.json of `compare`, or the JSON of `scan`, `gate`, `batch` or `merge`.
    report: PathBuf,
    /// The paths that were looked through [default: those that the report names].
    paths: Vec<PathBuf>,
    /// Folder of the base [default: the one that the report names].
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Folder of the adapter, where the report is about one [default: the one that it names].
    #[arg(long, value_name = "DIR", conflicts_with = "paths")]
    adapter: Option<PathBuf>,
    /// Policy file [default: that of the command: lcr-audit.toml in this folder where it takes one, else the built-in
    /// policy].
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The baseline that was given [default: none].
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// The day of the report, YYYY-MM-DD [default: today, UTC].
    #[arg(long, value_name = "DAY")]
    date: Option<String>,
    /// Do not run the comparison with the base again.
    #[arg(long)]
    files_only: bool,
    /// The statement that `--attest` wrote of the same report: it is made again as well.
    #[arg(long, value_name = "FILE")]
    attestation: Option<PathBuf>,
}

/// What came of doing it again.
struct Again {
    /// The document.
    found: Value,
    /// What was taken from the report, and for what.
    by_name: Vec<String>,
    /// What was not done again.
    left_out: Vec<String>,
    /// What to do where a part differs, by the part.
    hints: Vec<(&'static str, String)>,
}

/// One part of the report.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    agrees: bool,
    /// The first difference.
    reported: String,
    found: String,
    differences: Vec<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// The outcome, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Verification {
    /// Nothing differs. What was not recomputed is no part of that.
    agrees: bool,
    /// Nothing was left out.
    complete: bool,
    checks: Vec<Check>,
    /// Places that the report named and the command line did not.
    by_name: Vec<String>,
    not_recomputed: Vec<String>,
    /// Numbers that are equal but for rounding.
    rounded: usize,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Status> {
    let text = fs_err::read_to_string(&arguments.report)?;
    let reported = match serde_json::from_str::<Document>(&text) {
        Ok(Document(value)) => value,
        // Readers would not agree on what it says, whatever that is.
        Err(error) if error.to_string().contains("stands twice") => {
            bail!("{} is no report of this program: {error}", arguments.report.display())
        }
        Err(_) => bail!("{} is no report of this program", arguments.report.display()),
    };
    let (again, numbers, parts): (Again, Numbers, fn(Value) -> Parts) = match reported
        .get("schema")
        .and_then(Value::as_str)
    {
        Some(GATE_SCHEMA) => (gate::again(arguments, &reported, terminal)?, Numbers::Exact, gate::parts),
        #[cfg(feature = "models")]
        Some(SCHEMA) => (audit::again(arguments, &reported, terminal)?, Numbers::Rounded, audit::parts),
        #[cfg(not(feature = "models"))]
        Some(SCHEMA) => bail!("{} is of a comparison, but {}", arguments.report.display(), crate::question::REFUSAL),
        _ => bail!("{} is no report of this program", arguments.report.display()),
    };
    let mut verification = held_against(reported, again, numbers, parts);
    if let Some(file) = &arguments.attestation {
        let check = attested(arguments, file)?;
        verification.agrees &= check.agrees;
        verification.checks.push(check);
    }
    if terminal.json() {
        terminal.document(&verification)?;
    } else {
        terminal.result(&table(&verification)?)?;
    }
    Ok(match (verification.agrees, verification.complete) {
        (false, _) => Status::Failed,
        (true, false) => Status::Broken,
        (true, true) => Status::Done,
    })
}

impl Check {
    fn new(what: String, differences: Vec<Difference>, hint: Option<String>) -> Self {
        let first = differences.first();
        let text = |of: fn(&Difference) -> &String| first.map(of).cloned().unwrap_or_default();
        let (reported, found) = (text(|first| &first.reported), text(|first| &first.found));
        Self { agrees: differences.is_empty(), reported, found, hint, what, differences }
    }
}

/// The statement that was made of the report against the one that is made of it now, and of the base's files as they
/// are.
fn attested(arguments: &Arguments, file: &Path) -> Result<Check> {
    let Ok(Document(reported)) = serde_json::from_str(&fs_err::read_to_string(file)?) else {
        bail!("{} is no statement of this program", file.display())
    };
    let report = lcr_gate::read(&arguments.report)?;
    let found = attestation::again(&report, arguments.base.as_deref())?;
    let mut comparison = Comparison::new(Numbers::Exact);
    comparison.compare("statement", &reported, &found);
    Ok(Check::new("attestation".to_owned(), comparison.differences, None))
}

/// A document in parts, by what a person calls them: each with its path and its content.
type Parts = BTreeMap<String, (String, Value)>;

/// The report against what was found, part by part.
fn held_against(reported: Value, again: Again, numbers: Numbers, parts: fn(Value) -> Parts) -> Verification {
    let Again { found, by_name, left_out, hints } = again;
    let (mut reported, found) = (parts(reported), parts(found));
    let mut rounded = 0;
    let mut checks = Vec::new();
    let mut check = |what: String, differences: Vec<Difference>| {
        let differs = !differences.is_empty();
        let hint = hints.iter().find(|(part, _)| *part == what && differs).map(|(_, hint)| hint.clone());
        checks.push(Check::new(what, differences, hint));
    };
    for (what, (path, found)) in found {
        let mut comparison = Comparison::new(numbers);
        match reported.remove(&what) {
            Some((_, reported)) => comparison.compare(&path, &reported, &found),
            None => comparison.missing(&path, None, Some(&found)),
        }
        rounded += comparison.rounded;
        check(what, comparison.differences);
    }
    for (what, (path, reported)) in reported {
        let mut comparison = Comparison::new(numbers);
        comparison.missing(&path, Some(&reported), None);
        check(what, comparison.differences);
    }
    let agrees = checks.iter().all(|check| check.agrees);
    Verification { agrees, complete: left_out.is_empty(), checks, by_name, not_recomputed: left_out, rounded }
}

fn table(verification: &Verification) -> Result<String> {
    let mut text = String::new();
    for check in &verification.checks {
        if check.agrees {
            writeln!(text, "  agrees   {}", visible(&check.what))?;
            continue;
        }
        writeln!(text, "  DIFFERS  {}", visible(&check.what))?;
        for difference in check.differences.iter().take(SHOWN) {
            let Difference { path, reported, found } = difference;
            writeln!(text, "           {path}\n             reported {reported}\n             found    {found}")?;
        }
        if check.differences.len() > SHOWN {
            writeln!(text, "           and {} more", check.differences.len() - SHOWN)?;
        }
        if let Some(hint) = &check.hint {
            writeln!(text, "           {hint}")?;
        }
    }
    for name in &verification.by_name {
        writeln!(text, "  by name  {name}")?;
    }
    for part in &verification.not_recomputed {
        writeln!(text, "  NOT RECOMPUTED  {part}")?;
    }
    if verification.rounded > 0 {
        writeln!(text, "  {} numbers differ in their last digits, as another processor's may", verification.rounded)?;
    }
    let outcome = match (verification.agrees, verification.complete) {
        (false, _) => "the report is not what this program says of these files",
        (true, false) => "what was recomputed agrees; what was not stands above",
        (true, true) => "everything agrees",
    };
    writeln!(text, "{outcome}")?;
    Ok(text)
}
