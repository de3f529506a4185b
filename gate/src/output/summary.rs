//! The report as a step summary of GitHub Actions: Markdown, the verdict first.
//!
//! Whatever came from a stranger is spelled in character references, so that it can be neither markup nor a link, a
//! mention or a formula: Markdown gives references no meaning but the character.

use std::fmt::Write;

use lcr_documents::number::plural;
use lcr_documents::text::{shortened, visible};

use crate::output::table::{Tally, objections, place, ranks, remainder, targets, totals, verdict_word};
use crate::report::{ArtifactReport, GateFinding, GateReport};
use crate::rules::rule;

/// Findings shown one by one. A step's summary may hold 1 MiB; what is cut here is in the report itself.
const MOST_FINDINGS: usize = 50;

/// Adapters in the table.
const MOST_ADAPTERS: usize = 200;

/// Longest message.
const LONGEST_TEXT: usize = 600;

/// Longest path or place.
const LONGEST_PATH: usize = 200;

/// The report as Markdown.
pub fn step_summary(report: &GateReport) -> String {
    let mut text = format!("## Adapter audit: {}\n\n{}.\n", verdict_word(report.verdict), totals(report));
    adapters(report, &mut text);
    findings(report, &mut text);
    let source = literal(&report.pins.policy.source, LONGEST_PATH);
    let _ =
        writeln!(text, "\nPolicy: <code>{source}</code>, held against the date {}.", literal(&report.pins.date, 40));
    text
}

/// The table of adapters, the failing ones first.
fn adapters(report: &GateReport, text: &mut String) {
    if report.artifacts.is_empty() {
        text.push_str("\nNo adapters were found.\n");
        return;
    }
    text.push_str("\n| adapter | verdict | deny | warn | rank | targets |\n|---|---|---:|---:|---|---|\n");
    let mut rows: Vec<&ArtifactReport> = report.artifacts.iter().collect();
    rows.sort_by_key(|artifact| std::cmp::Reverse(artifact.verdict));
    for artifact in rows.iter().take(MOST_ADAPTERS) {
        let tally = Tally::of(artifact.findings.iter());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            code(&artifact.path, LONGEST_PATH),
            verdict_word(artifact.verdict),
            tally.deny,
            tally.warn,
            ranks(artifact),
            literal(&targets(artifact), LONGEST_PATH),
        );
    }
    if let Some(more) = rows.len().checked_sub(MOST_ADAPTERS).filter(|more| *more > 0) {
        let _ = writeln!(text, "\n… and {} more, none of them with a worse verdict.", plural(more, "adapter"));
    }
}

/// The objections, grouped by adapter. The cap cuts the mildest of all adapters, not the adapters at the end.
fn findings(report: &GateReport, text: &mut String) {
    let groups = report.artifacts.iter().map(|artifact| &artifact.findings).chain([&report.policy_findings]);
    let mut shown: Vec<(usize, &GateFinding)> = groups
        .enumerate()
        .flat_map(|(group, findings)| objections(findings).into_iter().map(move |finding| (group, finding)))
        .collect();
    shown.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.level));
    let more = shown.len().saturating_sub(MOST_FINDINGS);
    shown.truncate(MOST_FINDINGS);
    let of_group = |wanted: usize| -> Vec<&GateFinding> {
        shown.iter().filter(|(group, _)| *group == wanted).map(|(_, finding)| *finding).collect()
    };
    for (index, artifact) in report.artifacts.iter().enumerate() {
        let of_this = of_group(index);
        if of_this.is_empty() && artifact.error.is_none() {
            continue;
        }
        let _ = writeln!(text, "\n### {}\n", code(&artifact.path, LONGEST_PATH));
        if let Some(error) = &artifact.error {
            let _ = writeln!(text, "Could not be analysed: {}\n", literal(error, LONGEST_TEXT));
        }
        group(&of_this, &artifact.findings, text);
    }
    let of_policy = of_group(report.artifacts.len());
    if !of_policy.is_empty() {
        text.push_str("\n### The policy itself\n\n");
        group(&of_policy, &report.policy_findings, text);
    }
    if more > 0 {
        let _ = writeln!(text, "\n… and {more} more, none of them worse than these; the report itself has all.");
    }
}

/// Some findings one by one, and in a line per kind what else there is.
fn group(shown: &[&GateFinding], all: &[GateFinding], text: &mut String) {
    for finding in shown {
        let _ = writeln!(
            text,
            "- **{}** {}, {}: {}",
            finding.level.name(),
            code(&finding.rule, LONGEST_PATH),
            code(&place(finding), LONGEST_PATH),
            literal(&finding.message, LONGEST_TEXT),
        );
        if let Some(entry) = rule(&finding.rule) {
            let advice = advice(entry.accept);
            let _ = writeln!(
                text,
                "\n  <details><summary>How to repair or accept it</summary>\n\n  {advice}\n\n  </details>\n"
            );
        }
    }
    for line in remainder(all) {
        let _ = writeln!(text, "- {}", literal(&line, LONGEST_TEXT));
    }
}

/// A stranger's text in the type of code.
fn code(text: &str, most: usize) -> String {
    format!("<code>{}</code>", literal(text, most))
}

/// The catalogue's advice: its back-quoted parts become code, everything else is literal.
fn advice(text: &str) -> String {
    let parts: Vec<String> = text.split('`').map(|part| literal(part, usize::MAX)).collect();
    // An odd back-quote closes nothing.
    if parts.len().is_multiple_of(2) {
        return literal(text, usize::MAX);
    }
    parts.iter().enumerate().fold(String::new(), |said, (index, part)| match index % 2 {
        1 => said + "<code>" + part + "</code>",
        _ => said + part,
    })
}

/// Text that Markdown and HTML leave as it is, on one line.
fn literal(text: &str, most: usize) -> String {
    let mut literal = String::with_capacity(text.len());
    for character in shortened(&visible(text), most).chars() {
        if character.is_ascii_punctuation() && !matches!(character, '-' | '/' | ',' | '(' | ')' | '=' | '%' | '+') {
            // Writing to a string cannot fail.
            let _ = write!(literal, "&#{};", u32::from(character));
        } else {
            literal.push(character);
        }
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_markup_survives() {
        let hostile = "a|b`c<script>[x](http://y) *z* _w_ @u #1 $m$ ~~\n# h \\";
        let literal = literal(hostile, 200);
        for character in ['|', '`', '<', '>', '[', ']', '*', '_', '@', '$', '~', '\\', '\n', ':', '.'] {
            assert!(!literal.contains(character), "{character} in {literal}");
        }
        assert!(literal.contains("a&#124;b&#96;c&#60;script&#62;"), "{literal}");
    }

    #[test]
    fn back_quotes_pair() {
        assert_eq!(advice("set `x` to 1"), "set <code>x</code> to 1");
        assert_eq!(advice("a ` b"), "a &#96; b");
    }
}
