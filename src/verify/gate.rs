//! A gate's report, made again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lcr_documents::characters::visible;
use lcr_gate::policy::Policy;
use lcr_gate::rules::{NOT_COMPARED, Rule, WAIVER_STALE, rule};
use lcr_gate::{GateFinding, GateReport, sort};
use serde_json::Value;

use super::named::Named;
use super::{Again, Arguments, Parts};
use crate::gate::open_policy;
use crate::judged::{Renamed, ScanArguments, judged};
use crate::provenance::date_or_today;
use crate::question::Question;
use crate::terminal::Terminal;

/// Commands whose policy is `./lcr-audit.toml` where none is named.
const BY_FOLDER: [&str; 2] = ["gate", "batch"];

/// Makes the report again.
pub(super) fn again(arguments: &Arguments, reported: &Value, terminal: &Terminal) -> Result<Again> {
    let name = arguments.report.display();
    let report: GateReport =
        serde_json::from_value(reported.clone()).with_context(|| format!("{name} is no report of this program"))?;
    let command = report.pins.command.as_str();
    if command != "scan" && !BY_FOLDER.contains(&command) {
        bail!("{name} does not say which command wrote it, so it cannot be made again: it is of an earlier version");
    }
    let mut names = Names { by_name: Vec::new(), hints: Vec::new() };
    let policy = names.policy(arguments, &report)?;
    let base = names.base(arguments, &report)?;
    let (paths, renamed) = names.paths(arguments, &report)?;
    let date = names.date(arguments, &report, &policy)?;
    if arguments.baseline.is_none() && report.pins.baseline.is_some() {
        names.hint("baseline", "the report was made with a baseline: give the one that you trust with --baseline FILE");
    }
    names.hint("program", "the report was made by another build of the program: verify it with that one");
    let common = ScanArguments {
        base: base.as_ref().map(|base| base.path.clone()),
        baseline: arguments.baseline.clone(),
        statistics: report.pins.statistics,
        date: Some(date),
    };
    let question = asked(&report, &policy)?;
    let (question, left_out) = match question {
        Some(_) if arguments.files_only => {
            (None, vec!["the comparison with the base: without --files-only it is run again".to_owned()])
        }
        question => (question, Vec::new()),
    };
    let mut found = judged(&paths, &renamed, &policy, &common, command, question.as_ref(), terminal)?;
    if !left_out.is_empty() {
        take_comparison_from(&mut found, &report);
    }
    if command == "batch" {
        // As a batch itself: no single adapter can say that no other needed a waiver.
        found.policy_findings.retain(|finding| finding.rule != WAIVER_STALE.code);
        found.conclude();
    }
    found.pins.paths.clone_from(&report.pins.paths);
    if let (Some(found), Some(reported)) = (&mut found.pins.base, &report.pins.base) {
        found.path.clone_from(&reported.path);
    }
    let asks_for_base = policy.asks_for_comparison() || policy.base.sha256.is_some();
    let mut found: Value = serde_json::from_str(&lcr_gate::to_string(&found)?)?;
    if base.is_none() && command != "scan" && asks_for_base {
        // No gate would have written this: without a base it refuses to begin.
        if let Some(pin) = found.pointer_mut("/pins/base") {
            *pin = "one that the policy asks for".into();
        }
    }
    Ok(Again { found, by_name: names.by_name, left_out, hints: names.hints })
}

/// What was asked of the models, if they were compared: by `gate` what the policy says, by a batch what its report
/// pins.
fn asked(report: &GateReport, policy: &Policy) -> Result<Option<Question>> {
    match report.pins.command.as_str() {
        "scan" => Ok(None),
        "gate" => policy.asks_for_comparison().then(|| Question::of_policy(policy)).transpose(),
        _ => {
            let (Some(asked), Some(probes)) = (&report.pins.asked, &report.pins.probes) else {
                bail!("the report does not say what was asked of the models: it is of an earlier version");
            };
            Question::of_report(asked, &probes.source, policy).map(Some)
        }
    }
}

/// Puts what a comparison found, as the report says, into what was found, where the comparison is not run again.
fn take_comparison_from(found: &mut GateReport, reported: &GateReport) {
    found.pins.probes.clone_from(&reported.pins.probes);
    found.pins.asked.clone_from(&reported.pins.asked);
    for artifact in &mut found.artifacts {
        let Some(same) = reported.artifacts.iter().find(|other| other.path == artifact.path) else { continue };
        artifact.compared = same.compared;
        artifact.error.clone_from(&same.error);
        let of_comparison = same.findings.iter().filter(|finding| is_of_comparison(finding)).cloned();
        artifact.findings.retain(|finding| !is_of_comparison(finding));
        artifact.findings.extend(of_comparison);
        sort(&mut artifact.findings);
    }
    found.conclude();
}

fn is_of_comparison(finding: &GateFinding) -> bool {
    let is_of_audit = rule(&finding.rule).is_some_and(Rule::is_of_comparison) || finding.rule == NOT_COMPARED.code;
    finding.file.is_empty() && is_of_audit
}

/// What is taken from the report, and what to say of it.
struct Names {
    by_name: Vec<String>,
    hints: Vec<(&'static str, String)>,
}

impl Names {
    fn hint(&mut self, part: &'static str, text: &str) {
        self.hints.push((part, text.to_owned()));
    }

    /// The policy of the command line, or that which the command takes by itself.
    fn policy(&mut self, arguments: &Arguments, report: &GateReport) -> Result<Policy> {
        let named = visible(&report.pins.policy.source);
        let Some(path) = &arguments.policy else {
            let by_folder = BY_FOLDER.contains(&report.pins.command.as_str());
            let policy = if by_folder { open_policy(None)? } else { Policy::default() };
            let text = format!(
                "this was judged by {}, and the report names `{named}`: give the policy that you trust with --policy \
                 FILE",
                policy.source
            );
            self.hint("policy", &text);
            return Ok(policy);
        };
        let mut policy = Policy::open(path)?;
        if policy.source != report.pins.policy.source {
            self.by_name.push(format!("policy {}, which the report calls `{named}`", policy.source));
            policy.source.clone_from(&report.pins.policy.source);
        }
        Ok(policy)
    }

    fn base(&mut self, arguments: &Arguments, report: &GateReport) -> Result<Option<Named>> {
        let named = report.pins.base.as_ref().map(|base| base.path.as_str());
        if let Some(path) = &arguments.base {
            let given = path.display().to_string();
            if let Some(named) = named.filter(|named| *named != given) {
                self.by_name.push(format!("base {given}, which the report calls `{}`", visible(named)));
            }
            return Ok(Some(Named::here(path.clone())));
        }
        let Some(named) = named else { return Ok(None) };
        self.by_name.push(format!("base `{}`, as the report names it", visible(named)));
        Named::open(named).map(Some)
    }

    fn paths(&mut self, arguments: &Arguments, report: &GateReport) -> Result<(Vec<PathBuf>, Renamed)> {
        let named = &report.pins.paths;
        let given: Vec<PathBuf> = arguments.paths.iter().chain(&arguments.adapter).cloned().collect();
        if given.is_empty() && named.is_empty() {
            bail!("the report names no paths: give those that were looked through");
        }
        if given.is_empty() {
            let list: Vec<String> = named.iter().map(|path| format!("`{}`", visible(path))).collect();
            self.by_name.push(format!("paths {}, as the report names them", list.join(", ")));
            return Ok((named.iter().map(PathBuf::from).collect(), Renamed::default()));
        }
        if given.len() != named.len() {
            bail!(
                "the report is about {} paths, {} are given: give one for each, in their order",
                named.len(),
                given.len()
            );
        }
        let mut renamed = Renamed::default();
        for (path, name) in given.iter().zip(named) {
            let own = path.display().to_string();
            if own != *name {
                self.by_name.push(format!("path {own}, which the report calls `{}`", visible(name)));
            }
            renamed.add(path, Path::new(name));
        }
        Ok((given, renamed))
    }

    /// The day that waivers are held against.
    fn date(&mut self, arguments: &Arguments, report: &GateReport, policy: &Policy) -> Result<String> {
        let named = &report.pins.date;
        if let Some(day) = &arguments.date {
            return date_or_today(Some(day));
        }
        let today = date_or_today(None)?;
        let is_day = date_or_today(Some(named)).is_ok_and(|day| day == *named);
        // Nothing else depends on the day.
        if is_day && *named != today && policy.waivers.is_empty() {
            self.by_name
                .push(format!("the day {named}, as the report names it; without waivers nothing depends on it"));
            return Ok(named.clone());
        }
        self.hint("day", "waivers were held against today: give the day of the report with --date, if you know it");
        Ok(today)
    }
}

/// The report in parts: what is pinned one by one, and of each adapter its facts, its findings and its verdict.
pub(super) fn parts(document: Value) -> Parts {
    let mut parts = Parts::new();
    let Value::Object(fields) = document else { return parts };
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("pins", Value::Object(pins)) => {
                for (pin, value) in pins {
                    let what = match pin.as_str() {
                        "tool" => "program",
                        "date" => "day",
                        "asked" => "what was asked of the models",
                        pin => pin,
                    };
                    parts.insert(what.to_owned(), (format!("pins.{pin}"), value));
                }
            }
            ("artifacts", Value::Array(artifacts)) => of_artifacts(artifacts, &mut parts),
            (_, value) => {
                let what = match key.as_str() {
                    "tool" => "version of the program",
                    "fail_on" => "level that fails",
                    "policy_findings" => "findings about the policy",
                    "absent" => "findings that are gone",
                    key => key,
                };
                parts.insert(what.to_owned(), (key.clone(), value));
            }
        }
    }
    parts
}

fn of_artifacts(artifacts: Vec<Value>, parts: &mut Parts) {
    let mut names = Vec::new();
    for (index, mut artifact) in artifacts.into_iter().enumerate() {
        let name = artifact.get("path").and_then(Value::as_str).map_or_else(|| format!("#{index}"), visible);
        let path = format!("artifacts[{name}]");
        // One that stands twice is another than the first.
        let turn = names.iter().filter(|known| **known == name).count();
        let shown = if turn == 0 { name.clone() } else { format!("{name} ({})", turn + 1) };
        names.push(name);
        if let Some(fields) = artifact.as_object_mut() {
            for (key, what) in [("findings", "findings of"), ("verdict", "verdict on")] {
                if let Some(value) = fields.shift_remove(key) {
                    parts.insert(format!("{what} {shown}"), (format!("{path}.{key}"), value));
                }
            }
        }
        parts.insert(format!("adapter {shown}"), (path, artifact));
    }
    parts.insert("adapters".to_owned(), ("artifacts".to_owned(), names.into()));
}
