//! The badge: a JSON file that shields.io's endpoint badges read.

use lcr_documents::number::plural;

use crate::output::table::Tally;
use crate::report::GateReport;
use crate::verdict::GateVerdict;

/// The report as a badge, in the format of <https://shields.io/badges/endpoint-badge>.
pub fn badge(report: &GateReport) -> String {
    let tally = Tally::of(report.findings());
    let failing = report.findings().filter(|finding| finding.counts() && finding.level >= report.fail_on).count();
    let (message, colour) = match report.verdict {
        GateVerdict::Fail => (format!("fail: {}", plural(failing, "finding")), "red"),
        GateVerdict::Incomplete => ("incomplete".to_owned(), "orange"),
        // Green over nothing would promise what nobody looked at.
        GateVerdict::Pass if report.artifacts.is_empty() => ("no adapters".to_owned(), "lightgrey"),
        GateVerdict::Pass if tally.warn > 0 => (format!("pass, {}", plural(tally.warn, "warning")), "yellowgreen"),
        GateVerdict::Pass => ("pass".to_owned(), "brightgreen"),
    };
    let badge = serde_json::json!({
        "schemaVersion": 1,
        "label": "adapter audit",
        "message": message,
        "color": colour,
    });
    format!("{badge:#}\n")
}
