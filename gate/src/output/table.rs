//! The terminal's text: what a person reads who runs the gate by hand.
//!
//! Every word of meaning is there without colour; colour only repeats it. Text by strangers cannot move the cursor,
//! end a line or turn the direction of reading.

use std::collections::{BTreeMap, HashSet};

use lcr_documents::number::{bytes, count, plural};
use lcr_documents::text::{shortened, visible};

use crate::report::{ArtifactReport, BaselineState, GateFinding, GateReport};
use crate::rules::{Severity, rule};
use crate::verdict::GateVerdict;

/// Narrower than this, a table is unreadable however it is wrapped.
const NARROWEST: usize = 40;

/// Longest text of one finding; whoever needs the rest finds it in the JSON.
const LONGEST_TEXT: usize = 2000;

/// Targets named before the rest is counted.
const TARGETS_NAMED: usize = 8;

/// Where the text of a finding begins, below its level.
const TEXT_INDENT: usize = 8;

/// How many findings there are of which kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// That count, at level deny.
    pub(super) deny: usize,
    /// That count, at level warn.
    pub(super) warn: usize,
    /// That count, at level allow.
    pub(super) allow: usize,
    /// Covered by a waiver.
    pub(super) waived: usize,
    /// In the baseline, and not waived.
    pub(super) unchanged: usize,
}

impl Tally {
    /// Counts findings.
    pub(super) fn of<'a>(findings: impl Iterator<Item = &'a GateFinding>) -> Self {
        let mut tally = Self::default();
        for finding in findings {
            let slot = match finding.level {
                _ if finding.waiver.is_some() => &mut tally.waived,
                _ if !finding.counts() => &mut tally.unchanged,
                Severity::Deny => &mut tally.deny,
                Severity::Warn => &mut tally.warn,
                Severity::Allow => &mut tally.allow,
            };
            *slot += 1;
        }
        tally
    }

    /// `2 deny, 1 warn, 3 allowed, 1 waived, 1 in the baseline`; the last three only where there are any.
    pub(super) fn in_words(self) -> String {
        let mut words = vec![format!("{} deny", self.deny), format!("{} warn", self.warn)];
        let rest = [(self.allow, "allowed"), (self.waived, "waived"), (self.unchanged, "in the baseline")];
        words.extend(rest.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")));
        words.join(", ")
    }
}

/// A verdict as it is shown.
pub(super) fn verdict_word(verdict: GateVerdict) -> &'static str {
    match verdict {
        GateVerdict::Pass => "PASS",
        GateVerdict::Incomplete => "INCOMPLETE",
        GateVerdict::Fail => "FAIL",
    }
}

/// File and place of a finding, with nothing in it that hides or moves text.
pub(super) fn place(finding: &GateFinding) -> String {
    let place = match (finding.file.as_str(), finding.location.as_str()) {
        ("", "") => return "the whole".to_owned(),
        (file, "") => visible(file),
        ("", location) => visible(location),
        (file, location) => format!("{}: {}", visible(file), visible(location)),
    };
    shortened(&place, LONGEST_TEXT)
}

/// The findings that count and are not merely allowed, worst first.
pub(super) fn objections<'a>(findings: impl IntoIterator<Item = &'a GateFinding>) -> Vec<&'a GateFinding> {
    let mut objections: Vec<&GateFinding> =
        findings.into_iter().filter(|finding| finding.counts() && finding.level > Severity::Allow).collect();
    objections.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    objections
}

/// What lies beside the objections, a line each: allowed, waived, in the baseline.
pub(super) fn remainder(findings: &[GateFinding]) -> Vec<String> {
    let allowed = findings.iter().filter(|finding| finding.counts() && finding.level == Severity::Allow);
    let waived = findings.iter().filter(|finding| finding.waiver.is_some());
    let unchanged = findings.iter().filter(|finding| finding.waiver.is_none() && finding.state != BaselineState::New);
    let kinds = [("allowed", codes(allowed)), ("waived", codes(waived)), ("in the baseline", codes(unchanged))];
    let spoken = kinds.iter().filter(|(_, (number, _))| *number > 0);
    spoken.map(|(word, (number, codes))| format!("{} {word}: {codes}", count(*number as u64))).collect()
}

/// How many findings, and their codes, each once.
fn codes<'a>(findings: impl Iterator<Item = &'a GateFinding>) -> (usize, String) {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        *numbers.entry(&finding.rule).or_default() += 1;
    }
    let named = numbers.iter().map(|(code, number)| match number {
        1 => visible(code),
        several => format!("{} ({several})", visible(code)),
    });
    (numbers.values().sum(), named.collect::<Vec<_>>().join(", "))
}

/// `8`, or `8–64`; nothing where no adapter could be read.
pub(super) fn ranks(artifact: &ArtifactReport) -> String {
    let ranks = artifact.adapter.as_ref().map(|adapter| adapter.ranks.as_slice()).unwrap_or_default();
    match (ranks.iter().min(), ranks.iter().max()) {
        (Some(least), Some(most)) if least == most => most.to_string(),
        (Some(least), Some(most)) => format!("{least}–{most}"),
        _ => String::new(),
    }
}

/// The kinds of module changed, as far as they fit.
pub(super) fn targets(artifact: &ArtifactReport) -> String {
    let targets = artifact.adapter.as_ref().map(|adapter| adapter.targets.as_slice()).unwrap_or_default();
    let mut named: Vec<String> =
        targets.iter().take(TARGETS_NAMED).map(|target| shortened(&visible(target), 40)).collect();
    if targets.len() > TARGETS_NAMED {
        named.push(format!("{} more", targets.len() - TARGETS_NAMED));
    }
    named.join(", ")
}

/// What is known of an artifact, in one line.
fn facts(artifact: &ArtifactReport) -> String {
    let mut facts = Vec::new();
    if let Some(adapter) = &artifact.adapter {
        facts.push(shortened(&visible(&adapter.method), 40));
        facts.push(format!("rank {}", ranks(artifact)));
        facts.push(format!("on {}", targets(artifact)));
        facts.push(plural(adapter.layers.len(), "layer"));
        facts.push(format!("{} parameters", count(adapter.parameters)));
    }
    // The lengths come from hostile archives' folders too; their sum must not wrap.
    let size = artifact.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
    facts.push(format!("{} in {}", bytes(size), plural(artifact.files.len(), "file")));
    facts.join("; ")
}

/// The report for a terminal of `width` columns.
pub fn table(report: &GateReport, colour: bool, width: usize) -> String {
    let mut page = Page { text: String::new(), colour, width: width.max(NARROWEST) };
    for artifact in &report.artifacts {
        page.marked(0, verdict_word(artifact.verdict), &shortened(&visible(&artifact.path), LONGEST_TEXT));
        page.lines(2, 2, &facts(artifact));
        if let Some(error) = &artifact.error {
            page.lines(2, 4, &format!("could not be analysed: {}", shortened(&visible(error), LONGEST_TEXT)));
        }
        page.findings(&artifact.findings);
        page.text.push('\n');
    }
    if !report.policy_findings.is_empty() {
        page.lines(0, 2, &format!("policy {}", visible(&report.pins.policy.source)));
        page.findings(&report.policy_findings);
        page.text.push('\n');
    }
    page.marked(0, verdict_word(report.verdict), &totals(report));
    page.text
}

/// Numbers of adapters and findings, and from which level on the gate fails.
pub(super) fn totals(report: &GateReport) -> String {
    let with = |verdict| report.artifacts.iter().filter(|artifact| artifact.verdict == verdict).count();
    let gone = match report.absent.len() {
        0 => String::new(),
        number => format!("; {number} of the baseline gone"),
    };
    format!(
        "{} ({} pass, {} fail, {} incomplete); {}{gone}; fails from {} on",
        plural(report.artifacts.len(), "adapter"),
        with(GateVerdict::Pass),
        with(GateVerdict::Fail),
        with(GateVerdict::Incomplete),
        Tally::of(report.findings()).in_words(),
        report.fail_on.name(),
    )
}

/// Text under way.
struct Page {
    text: String,
    colour: bool,
    width: usize,
}

impl Page {
    /// Objections one by one, the others in a line per kind.
    fn findings(&mut self, findings: &[GateFinding]) {
        let mut explained = HashSet::new();
        for finding in objections(findings) {
            let place = place(finding);
            self.marked(2, finding.level.name(), &format!("{}  {place}", visible(&finding.rule)));
            self.lines(TEXT_INDENT, TEXT_INDENT, &shortened(&visible(&finding.message), LONGEST_TEXT));
            // The same advice under each of twenty findings would bury them.
            if let Some(entry) = rule(&finding.rule).filter(|entry| explained.insert(entry.code)) {
                self.lines(TEXT_INDENT, TEXT_INDENT, &format!("To repair or accept: {}", entry.accept));
            }
        }
        for line in remainder(findings) {
            self.lines(2, TEXT_INDENT, &line);
        }
    }

    /// A line that begins with a level or a verdict, in its colour.
    fn marked(&mut self, indent: usize, mark: &str, text: &str) {
        let start = self.text.len() + indent;
        self.lines(indent, TEXT_INDENT, &format!("{mark}  {text}"));
        let paint = match mark {
            "FAIL" | "deny" => "\u{1b}[1;31m",
            "INCOMPLETE" | "warn" => "\u{1b}[33m",
            "PASS" => "\u{1b}[32m",
            _ => return,
        };
        if self.colour {
            self.text.insert_str(start + mark.len(), "\u{1b}[0m");
            self.text.insert_str(start, paint);
        }
    }

    /// Text wrapped to the width: the first line behind `first` blanks, the others behind `others`.
    fn lines(&mut self, first: usize, others: usize, text: &str) {
        let mut column = first;
        self.text.push_str(&" ".repeat(first));
        for (index, word) in text.split(' ').enumerate() {
            let length = word.chars().count();
            if index > 0 && column + 1 + length > self.width {
                column = self.next_line(others);
            } else if index > 0 {
                self.text.push(' ');
                column += 1;
            }
            for character in word.chars() {
                // A word longer than a line is broken where the line ends.
                if column >= self.width {
                    column = self.next_line(others);
                }
                self.text.push(character);
                column += 1;
            }
        }
        self.text.push('\n');
    }

    /// Begins a line and returns its column.
    fn next_line(&mut self, indent: usize) -> usize {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
        self.text.push_str(&" ".repeat(indent));
        indent
    }
}
