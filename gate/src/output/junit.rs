//! The report as JUnit XML, which most CI systems show as test results: an adapter is a suite, a finding that fails
//! the gate is a failed test.
//!
//! The attributes that the schema asks for and a gate does not have are fixed: durations are 0 and the host is
//! `localhost`, so that the same adapters under the same policy give the same file. Writing to a string cannot fail,
//! so what `write!` returns is dropped.

use std::fmt::Write;

use lcr_documents::DocumentError;
use lcr_documents::text::{escape, shortened, visible};

use crate::output::table::place;
use crate::report::{ArtifactReport, GateFinding, GateReport};
use crate::rules::Severity;

/// Longest message; whoever needs the rest finds it in the JSON.
const LONGEST_TEXT: usize = 4000;

/// Day that stands where the report names none.
const NO_DAY: &str = "1970-01-01";

/// The report as JUnit XML, valid under the schema of Apache Ant's results.
pub fn junit(report: &GateReport) -> Result<String, DocumentError> {
    let mut suites: Vec<Suite> = report.artifacts.iter().map(|artifact| Suite::of_artifact(artifact, report)).collect();
    if !report.policy_findings.is_empty() {
        suites.push(Suite::of_policy(report));
    }
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let day = if is_day(&report.pins.date) { &report.pins.date } else { NO_DAY };
    for (id, suite) in suites.iter().enumerate() {
        suite.write(id, day, &mut text);
    }
    text.push_str("</testsuites>\n");
    Ok(text)
}

/// What becomes of one test.
enum Outcome {
    Passed,
    Failed { message: String, kind: &'static str, text: String },
    Error { message: String },
    Skipped { message: String },
}

/// One test.
struct Case {
    name: String,
    outcome: Outcome,
}

/// The tests of one artifact.
struct Suite {
    name: String,
    properties: Vec<(&'static str, String)>,
    cases: Vec<Case>,
    /// Findings below the level that fails the gate, a line each.
    output: String,
    /// Why the artifact could not be analysed.
    error: String,
}

impl Suite {
    fn of_artifact(artifact: &ArtifactReport, report: &GateReport) -> Self {
        let mut properties = common_properties(report);
        properties.push(("sha256", artifact.sha256.clone()));
        properties.push(("compared", artifact.compared.to_string()));
        if let Some(adapter) = &artifact.adapter {
            properties.push(("format", adapter.format.clone()));
            properties.push(("method", adapter.method.clone()));
        }
        let mut suite = Self::of_findings(&artifact.path, properties, &artifact.findings, report.fail_on);
        if let Some(error) = &artifact.error {
            suite.error = prose(error);
            suite.cases.push(Case { name: "analysis".to_owned(), outcome: Outcome::Error { message: prose(error) } });
        }
        suite.or_passed()
    }

    fn of_policy(report: &GateReport) -> Self {
        let properties = common_properties(report);
        Self::of_findings("policy", properties, &report.policy_findings, report.fail_on).or_passed()
    }

    fn of_findings(
        name: &str,
        properties: Vec<(&'static str, String)>,
        findings: &[GateFinding],
        fail_on: Severity,
    ) -> Self {
        let (judged, shown): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.level >= fail_on);
        let cases = judged.into_iter().map(|finding| Case { name: case_name(finding), outcome: outcome(finding) });
        let mut output = String::new();
        for finding in shown {
            let standing = standing(finding).map(|standing| format!(" ({standing})")).unwrap_or_default();
            let _ = writeln!(
                output,
                "{}: {}: {}{standing}",
                finding.level.name(),
                case_name(finding),
                prose(&finding.message)
            );
        }
        Self { name: name.to_owned(), properties, cases: cases.collect(), output, error: String::new() }
    }

    /// A suite in which nothing went wrong says so by one test that passed.
    fn or_passed(mut self) -> Self {
        let is_bad = |case: &Case| matches!(case.outcome, Outcome::Failed { .. } | Outcome::Error { .. });
        if !self.cases.iter().any(is_bad) {
            self.cases.insert(0, Case { name: "policy".to_owned(), outcome: Outcome::Passed });
        }
        self
    }

    /// How many cases came out so.
    fn number(&self, is: fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|case| is(&case.outcome)).count()
    }

    fn write(&self, id: usize, day: &str, xml: &mut String) {
        let name = token(&self.name);
        let _ = write!(
            xml,
            "  <testsuite id=\"{id}\" package=\"adapters\" name=\"{name}\" timestamp=\"{day}T00:00:00\" \
             hostname=\"localhost\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"0\">\n    \
             <properties>\n",
            self.cases.len(),
            self.number(|outcome| matches!(outcome, Outcome::Failed { .. })),
            self.number(|outcome| matches!(outcome, Outcome::Error { .. })),
            self.number(|outcome| matches!(outcome, Outcome::Skipped { .. })),
        );
        for (property, value) in &self.properties {
            let _ = writeln!(xml, "      <property name=\"{property}\" value=\"{}\"/>", xml_text(&visible(value)));
        }
        xml.push_str("    </properties>\n");
        for case in &self.cases {
            case.write(&name, xml);
        }
        let _ = writeln!(xml, "    <system-out>{}</system-out>", xml_text(&self.output));
        let _ = writeln!(xml, "    <system-err>{}</system-err>\n  </testsuite>", xml_text(&self.error));
    }
}

impl Case {
    /// `class` is already safe.
    fn write(&self, class: &str, xml: &mut String) {
        let _ = write!(xml, "    <testcase name=\"{}\" classname=\"{class}\" time=\"0\"", token(&self.name));
        let inner = match &self.outcome {
            Outcome::Passed => {
                xml.push_str("/>\n");
                return;
            }
            Outcome::Failed { message, kind, text } => {
                let (message, kind, text) = (xml_text(message), xml_text(kind), xml_text(text));
                format!("<failure message=\"{message}\" type=\"{kind}\">{text}</failure>")
            }
            Outcome::Error { message } => format!("<error message=\"{}\" type=\"analysis\"/>", xml_text(message)),
            Outcome::Skipped { message } => format!("<skipped message=\"{}\"/>", xml_text(message)),
        };
        let _ = writeln!(xml, ">\n      {inner}\n    </testcase>");
    }
}

/// What every suite was made with.
fn common_properties(report: &GateReport) -> Vec<(&'static str, String)> {
    vec![
        ("tool", format!("{} {}", report.tool.name, report.tool.version)),
        ("policy", report.pins.policy.source.clone()),
        ("policy.sha256", report.pins.policy.sha256.clone()),
        ("fail-on", report.fail_on.name().to_owned()),
    ]
}

/// Rule and place: the same finding has the same name in every run.
fn case_name(finding: &GateFinding) -> String {
    format!("{}: {}", visible(&finding.rule), place(finding))
}

/// What a finding at or above the level that fails the gate amounts to.
fn outcome(finding: &GateFinding) -> Outcome {
    match standing(finding) {
        Some(message) => Outcome::Skipped { message },
        None => Outcome::Failed {
            message: prose(&finding.message),
            kind: finding.level.name(),
            text: failure_text(finding),
        },
    }
}

/// Why a finding does not count, where it does not.
fn standing(finding: &GateFinding) -> Option<String> {
    match &finding.waiver {
        Some(waiver) => Some(prose(&format!("waived by {} until {}: {}", waiver.owner, waiver.expires, waiver.reason))),
        None if !finding.counts() => Some("in the baseline".to_owned()),
        None => None,
    }
}

/// All that is known of a finding, a line each.
fn failure_text(finding: &GateFinding) -> String {
    let mut text =
        format!("{}\nrule: {}\nplace: {}\n", prose(&finding.message), visible(&finding.rule), place(finding));
    for (name, number) in [("measured", finding.measured), ("limit", finding.limit)] {
        if let Some(number) = number {
            let _ = writeln!(text, "{name}: {number}");
        }
    }
    text + &format!("sha256: {}\nfingerprint: {}", visible(&finding.sha256), visible(&finding.fingerprint))
}

/// A message by someone else, visible and of bounded length.
fn prose(text: &str) -> String {
    shortened(&visible(text), LONGEST_TEXT)
}

/// Text that may stand in a value or between tags.
///
/// Two characters that `visible` leaves alone may not be in an XML document at all, not even escaped.
fn xml_text(text: &str) -> String {
    escape(&text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"))
}

/// A name: never empty, and with single blanks, since a reader that follows the schema would drop the others.
fn token(text: &str) -> String {
    let words: Vec<String> = visible(text).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if words.is_empty() { "unnamed".to_owned() } else { xml_text(&shortened(&words.join(" "), LONGEST_TEXT)) }
}

/// Whether this is a day that exists, as YYYY-MM-DD.
fn is_day(date: &str) -> bool {
    let digits = |part: &str, length: usize| {
        (part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse::<u32>().ok())
            .flatten()
    };
    let mut parts = date.split('-');
    let (Some(year), Some(month), Some(day), None) = (
        parts.next().and_then(|part| digits(part, 4)),
        parts.next().and_then(|part| digits(part, 2)),
        parts.next().and_then(|part| digits(part, 2)),
        parts.next(),
    ) else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    year > 0 && (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_exist() {
        for day in ["2026-02-28", "2024-02-29", "2000-02-29", "2026-12-31"] {
            assert!(is_day(day), "{day}");
        }
        for day in ["", "2026-02-29", "1900-02-29", "2026-13-01", "2026-00-01", "2026-1-1", "0000-01-01", "2026-01-01Z"]
        {
            assert!(!is_day(day), "{day}");
        }
    }

    #[test]
    fn a_name_is_never_empty() {
        assert_eq!(token("  "), "unnamed");
        assert_eq!(token(" a  <b> "), "a &lt;b&gt;");
    }
}
