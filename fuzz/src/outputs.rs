//! What must hold of everything that is written of a gate's report, whatever strangers' text stands in it.

use lcr_gate::{GateReport, badge, junit, sarif, step_summary, table, to_string};

/// Tags of the JUnit report.
const TAGS: [&str; 12] = [
    "?xml ",
    "testsuites>",
    "testsuite ",
    "properties>",
    "property ",
    "testcase ",
    "failure ",
    "error ",
    "skipped ",
    "system-out>",
    "system-err>",
    "/",
];

/// Writes every output of a report and checks it.
pub fn check(report: &GateReport) {
    let text = to_string(report).expect("a report can be written");
    let back: GateReport = serde_json::from_str(&text).expect("a report can be read back");
    assert_eq!(*report, back, "a report is not what was written of it");
    let log = sarif(report).expect("SARIF can be written");
    let log: serde_json::Value = serde_json::from_str(&log).expect("SARIF is JSON");
    let results = log.pointer("/runs/0/results").and_then(|results| results.as_array());
    assert!(results.is_some(), "SARIF without results");
    let badge: serde_json::Value = serde_json::from_str(&badge(report)).expect("a badge is JSON");
    assert!(badge.get("message").is_some(), "a badge without a message");
    check_xml(&junit(report).expect("JUnit can be written"));
    for width in [0, 80, 200] {
        only_shown("the table", &table(report, false, width));
    }
    only_shown("the summary", &step_summary(report));
}

/// No tag but our own, no character that XML forbids.
fn check_xml(text: &str) {
    only_shown("the JUnit report", text);
    assert!(!text.contains(['\u{fffe}', '\u{ffff}']), "a character that no XML may hold");
    for rest in text.split('<').skip(1) {
        assert!(TAGS.iter().any(|tag| rest.starts_with(tag)), "a tag of a stranger: {rest}");
    }
    assert_eq!(text.matches("<testsuite ").count(), text.matches("</testsuite>").count(), "suites that do not close");
}

/// No character that would move the cursor.
fn only_shown(what: &str, text: &str) {
    let hidden = text.chars().find(|character| character.is_control() && *character != '\n');
    assert!(hidden.is_none(), "{what} holds {hidden:?}");
}
