//! A policy's text, read section by section: every mistake is noted with its section and key, what was found and what
//! is allowed there, and reading goes on. A mistake never stands for a default.

use std::collections::BTreeMap;

use lcr_documents::audit::Depth;
use lcr_documents::characters::visible;
use toml::value::Datetime;
use toml::{Table, Value};

use super::file::{AllowedSection, BaseSection, CompareSection, ProfileSection, QuestionsSection};
use crate::rules::{Severity, question_names, refusal, rule, rules};

/// Characters of a value that a message quotes.
const QUOTED: usize = 80;
/// How alike a word must be to a known one to be taken for it misspelt.
const ALIKE: f64 = 0.75;

/// A level, a limit, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct RuleSetting {
    pub(super) level: Option<Severity>,
    pub(super) limit: Option<f64>,
}

/// Settings of rules by code.
pub(super) type RuleSettings = BTreeMap<String, RuleSetting>;

/// An entry under `waivers` as it was written; what is missing was noted.
#[derive(Debug)]
pub(super) struct WaiverSection {
    pub(super) rule: String,
    pub(super) sha256: String,
    pub(super) location: Option<String>,
    pub(super) up_to: Option<f64>,
    pub(super) reason: String,
    pub(super) owner: String,
    pub(super) expires: Datetime,
}

/// What a policy's text says, as far as it could be read.
#[derive(Debug)]
pub(super) struct PolicyText {
    pub(super) fail_on: Severity,
    pub(super) base: BaseSection,
    pub(super) allowed: AllowedSection,
    pub(super) compare: CompareSection,
    pub(super) questions: QuestionsSection,
    pub(super) profile: ProfileSection,
    pub(super) rules: RuleSettings,
    pub(super) paths: Vec<(String, RuleSettings)>,
    /// With their place among all, which is what messages call them by.
    pub(super) waivers: Vec<(usize, WaiverSection)>,
}

/// Reads a policy; what cannot be used of it is added to `problems`.
pub(super) fn read(mut file: Table, problems: &mut Vec<String>) -> PolicyText {
    let mut reader = Reader { problems };
    match file.remove("version") {
        Some(Value::Integer(1)) => {}
        Some(other) => reader.note(format!("version is {}, this program reads version 1", plain(&other))),
        None => reader.note("`version` is missing: write `version = 1`".to_owned()),
    }
    let fail_on = file.remove("fail_on").and_then(|value| reader.level("fail_on", &value));
    if fail_on == Some(Severity::Allow) {
        reader.note("fail_on is `allow`, which would fail on everything; use `warn` or `deny`".to_owned());
    }
    let base = reader.table(&mut file, "base");
    let allowed = reader.table(&mut file, "allowed");
    let compare = reader.table(&mut file, "compare");
    let questions = reader.table(&mut file, "questions");
    let profile = reader.table(&mut file, "profile");
    let rules = reader.table(&mut file, "rules");
    let paths = reader.tables(&mut file, "paths");
    let waivers = reader.tables(&mut file, "waivers");
    let known =
        ["version", "fail_on", "base", "allowed", "compare", "questions", "profile", "rules", "paths", "waivers"];
    reader.nothing_else("", &file, &known);
    PolicyText {
        fail_on: fail_on.unwrap_or(Severity::Deny),
        base: reader.base(base),
        allowed: reader.allowed(allowed),
        compare: reader.compare(compare),
        questions: reader.questions(questions),
        profile: reader.profile(profile),
        rules: reader.rules("rules", rules),
        paths: paths.into_iter().filter_map(|(index, table)| reader.path(index, table)).collect(),
        waivers: waivers
            .into_iter()
            .filter_map(|(index, table)| Some((index, reader.waiver(&format!("waivers[{index}]"), table)?)))
            .collect(),
    }
}

/// Takes values out of tables and notes what is wrong with them.
struct Reader<'a> {
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn note(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Says of a value that it is another than is wanted.
    fn wanted(&mut self, place: &str, value: &Value, wanted: &str) {
        self.note(format!("{place} is {}: {wanted} is needed", plain(value)));
    }

    /// A section; an empty one where it is absent.
    fn table(&mut self, file: &mut Table, key: &str) -> Table {
        match file.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.wanted(key, &other, &format!("a section, which begins with `[{key}]`,"));
                Table::new()
            }
        }
    }

    /// The entries of a section that may be there several times, with their places.
    fn tables(&mut self, file: &mut Table, key: &str) -> Vec<(usize, Table)> {
        let wanted = format!("a list of sections, each of which begins with `[[{key}]]`,");
        match file.remove(key) {
            None => Vec::new(),
            Some(Value::Array(entries)) => entries
                .into_iter()
                .enumerate()
                .filter_map(|(index, entry)| match entry {
                    Value::Table(table) => Some((index, table)),
                    other => {
                        self.wanted(&format!("{key}[{index}]"), &other, "a table");
                        None
                    }
                })
                .collect(),
            Some(other) => {
                self.wanted(key, &other, &wanted);
                Vec::new()
            }
        }
    }

    /// Notes the keys that are left in a section: nothing reads them.
    fn nothing_else(&mut self, section: &str, left: &Table, known: &[&str]) {
        let place = if section.is_empty() { "the policy".to_owned() } else { format!("`{section}`") };
        for key in left.keys() {
            let hint = nearest(key, known.iter().copied());
            self.note(format!("{place} has no key `{}`{hint}; it has {}", visible(key), known.join(", ")));
        }
    }

    fn text(&mut self, place: &str, value: Option<Value>) -> Option<String> {
        match value? {
            Value::String(text) => Some(text),
            other => {
                self.wanted(place, &other, "a text in quotes");
                None
            }
        }
    }

    fn texts(&mut self, place: &str, value: Option<Value>) -> Option<Vec<String>> {
        let wanted = "a list of texts, such as [\"one\", \"two\"],";
        match value? {
            Value::Array(items) => {
                let each = items.into_iter().enumerate();
                Some(each.filter_map(|(index, item)| self.text(&format!("{place}[{index}]"), Some(item))).collect())
            }
            other => {
                self.wanted(place, &other, wanted);
                // Nothing listed would be nothing restricted.
                Some(Vec::new())
            }
        }
    }

    fn level(&mut self, place: &str, value: &Value) -> Option<Severity> {
        let named = value.as_str();
        let known = named.and_then(Severity::of_name);
        if known.is_none() {
            let hint =
                named.map(|name| nearest(name, Severity::ALL.iter().map(|level| level.name()))).unwrap_or_default();
            self.note(format!("{place} is {}{hint}: the level is `allow`, `warn` or `deny`", plain(value)));
        }
        known
    }

    fn number(&mut self, place: &str, value: Option<Value>) -> Option<f64> {
        match value? {
            Value::Integer(number) => Some(number as f64),
            Value::Float(number) => Some(number),
            other => {
                self.wanted(place, &other, "a number");
                None
            }
        }
    }

    fn base(&mut self, mut table: Table) -> BaseSection {
        let sha256 = self.text("base.sha256", table.remove("sha256"));
        if let Some(digest) = &sha256 {
            self.digest("base.sha256", digest);
        }
        let names = self.texts("base.names", table.remove("names"));
        self.nothing_else("base", &table, &["sha256", "names"]);
        BaseSection { sha256, names }
    }

    fn allowed(&mut self, mut table: Table) -> AllowedSection {
        let mut list = |key: &str| self.texts(&format!("allowed.{key}"), table.remove(key));
        let (formats, targets) = (list("formats"), list("targets"));
        let (base_models, revisions) = (list("base_models"), list("revisions"));
        self.nothing_else("allowed", &table, &["formats", "targets", "base_models", "revisions"]);
        for format in formats.iter().flatten().filter(|format| !["PEFT", "MLX"].contains(&format.as_str())) {
            self.note(format!("allowed.formats names `{}`; known: PEFT, MLX", visible(format)));
        }
        AllowedSection { formats, targets, base_models, revisions }
    }

    fn compare(&mut self, mut table: Table) -> CompareSection {
        let required = match table.remove("required") {
            None => false,
            Some(Value::Boolean(required)) => required,
            Some(other) => {
                self.wanted("compare.required", &other, "true or false");
                false
            }
        };
        let probes = self.text("compare.probes", table.remove("probes"));
        let metrics = self.texts("compare.metrics", table.remove("metrics"));
        let max_prompts = match table.remove("max_prompts") {
            None => None,
            Some(Value::Integer(count)) if count > 0 => usize::try_from(count).ok(),
            Some(other) => {
                self.wanted("compare.max_prompts", &other, "a whole number from 1 up");
                None
            }
        };
        let probe_sets = self.table(&mut table, "probe_sets");
        let probe_sets = probe_sets.into_iter().filter_map(|(name, path)| {
            let path = self.text(&format!("compare.probe_sets.{}", visible(&name)), Some(path))?;
            Some((name, path.into()))
        });
        let probe_sets = probe_sets.collect();
        let depth = self.text("compare.depth", table.remove("depth")).and_then(|name| {
            let known = [Depth::Quick, Depth::Standard, Depth::Deep].into_iter().find(|depth| depth.as_str() == name);
            if known.is_none() {
                self.note(format!("compare.depth is `{}`: quick, standard or deep is needed", visible(&name)));
            }
            known
        });
        self.nothing_else("compare", &table, &["required", "probes", "metrics", "max_prompts", "probe_sets", "depth"]);
        CompareSection { required, probes, metrics, max_prompts, probe_sets, depth }
    }

    fn questions(&mut self, mut table: Table) -> QuestionsSection {
        let required = self.texts("questions.required", table.remove("required")).unwrap_or_default();
        self.nothing_else("questions", &table, &["required"]);
        for name in required.iter().filter(|name| !question_names().any(|known| known == name.as_str())) {
            let hint = nearest(name, question_names());
            self.note(format!("questions.required names `{}`, which is no question{hint}", visible(name)));
        }
        QuestionsSection { required }
    }

    fn profile(&mut self, mut table: Table) -> ProfileSection {
        let path = self.text("profile.path", table.remove("path"));
        let sha256 = self.text("profile.sha256", table.remove("sha256"));
        if let Some(digest) = &sha256 {
            self.digest("profile.sha256", digest);
        }
        if path.is_some() != sha256.is_some() {
            self.note("profile.path and profile.sha256 go together: which file, and that it is that one".to_owned());
        }
        let usual = ProfileSection::default().rate;
        let rate = self.number("profile.rate", table.remove("rate")).unwrap_or(usual);
        if !(rate > 0.0 && rate < 1.0) {
            self.note(format!("profile.rate is {rate}: a share between 0 and 1 is needed, such as 0.01"));
        }
        self.nothing_else("profile", &table, &["path", "sha256", "rate"]);
        ProfileSection { path: path.map(Into::into), sha256, rate }
    }

    fn rules(&mut self, section: &str, table: Table) -> RuleSettings {
        let mut settings = RuleSettings::new();
        for (code, value) in table {
            let place = format!("{section}.{}", visible(&code));
            let setting = self.setting(&place, value);
            let Some(entry) = rule(&code) else {
                let hint = nearest(&code, rules().map(|rule| rule.code));
                self.note(format!("{section} names `{}`, which is no rule{hint}", visible(&code)));
                continue;
            };
            match (setting.limit, entry.limit) {
                (Some(limit), Some(_)) if !limit.is_finite() || limit < 0.0 => {
                    self.note(format!("{place}: limit {limit} is not a number from 0 up"));
                }
                (Some(_), None) => self.note(format!("{place}: this rule has no limit to set")),
                _ => {}
            }
            settings.insert(code, setting);
        }
        settings
    }

    fn setting(&mut self, place: &str, value: Value) -> RuleSetting {
        match value {
            Value::Table(mut table) => {
                let level = table.remove("level").and_then(|value| self.level(&format!("{place}.level"), &value));
                let limit = self.number(&format!("{place}.limit"), table.remove("limit"));
                self.nothing_else(place, &table, &["level", "limit"]);
                RuleSetting { level, limit }
            }
            Value::String(_) => RuleSetting { level: self.level(place, &value), limit: None },
            other => {
                self.wanted(place, &other, "a level, or a table such as { level = \"warn\", limit = 64 },");
                RuleSetting::default()
            }
        }
    }

    fn path(&mut self, index: usize, mut table: Table) -> Option<(String, RuleSettings)> {
        let name = format!("paths[{index}]");
        let pattern = self.text(&format!("{name}.match"), table.remove("match"));
        let section = match &pattern {
            Some(pattern) => format!("paths `{}`", visible(pattern)),
            None => name.clone(),
        };
        let rules = match table.remove("rules") {
            None => RuleSettings::new(),
            Some(Value::Table(rules)) => self.rules(&section, rules),
            Some(other) => {
                self.wanted(&format!("{name}.rules"), &other, "a section, which begins with `[paths.rules]`,");
                RuleSettings::new()
            }
        };
        self.nothing_else(&name, &table, &["match", "rules"]);
        if pattern.is_none() {
            self.note(format!("{name}.match is missing: a pattern of paths, such as \"experiments/**\""));
        }
        Some((pattern?, rules))
    }

    fn waiver(&mut self, name: &str, mut table: Table) -> Option<WaiverSection> {
        let before = self.problems.len();
        let mut text = |key: &str| self.text(&format!("{name}.{key}"), table.remove(key));
        let (rule, sha256, location) = (text("rule"), text("sha256"), text("where"));
        let (reason, owner) = (text("reason"), text("owner"));
        let up_to = self.number(&format!("{name}.up_to"), table.remove("up_to"));
        let expires = match table.remove("expires") {
            Some(Value::Datetime(day)) => Some(day),
            Some(other) => {
                self.wanted(&format!("{name}.expires"), &other, "a day without quotes, such as 2027-01-31,");
                None
            }
            None => None,
        };
        self.nothing_else(name, &table, &["rule", "sha256", "where", "up_to", "reason", "owner", "expires"]);
        if self.problems.len() == before {
            let needed = [
                ("rule", rule.is_none()),
                ("sha256", sha256.is_none()),
                ("reason", reason.is_none()),
                ("owner", owner.is_none()),
                ("expires", expires.is_none()),
            ];
            for (key, _) in needed.iter().filter(|(_, is_missing)| *is_missing) {
                self.note(format!("{name}.{key} is missing"));
            }
        }
        if let Some(digest) = &sha256 {
            self.digest(&format!("{name}.sha256"), digest);
        }
        for (field, text) in [("reason", &reason), ("owner", &owner)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                self.note(format!("{name}.{field} is empty: a waiver that nobody explains is nobody's decision"));
            }
        }
        if expires.is_some_and(|expires| expires.date.is_none()) {
            self.note(format!("{name}.expires holds no day; write it as 2027-01-31"));
        }
        self.waived(name, rule.as_deref(), up_to);
        let is_whole = [&sha256, &reason, &owner].iter().all(|text| text.is_some()) && expires.is_some();
        // Of a whole one it is found out later, with all others.
        if let Some((code, reason)) =
            rule.as_deref().filter(|_| !is_whole).and_then(|code| Some((code, refusal(code)?)))
        {
            self.note(format!("{name}: `{code}` cannot be waived: {reason}"));
        }
        Some(WaiverSection {
            rule: rule?,
            sha256: sha256?,
            location,
            up_to,
            reason: reason?,
            owner: owner?,
            expires: expires?,
        })
    }

    /// Holds the rule of a waiver, and its number, against the registry.
    fn waived(&mut self, name: &str, code: Option<&str>, up_to: Option<f64>) {
        let entry = code.and_then(rule);
        if let (Some(code), None) = (code, entry) {
            let hint = nearest(code, rules().map(|rule| rule.code));
            self.note(format!("{name}.rule names `{}`, which is no rule{hint}", visible(code)));
        }
        let (Some(most), Some(entry)) = (up_to, entry) else { return };
        if entry.limit.is_none() {
            self.note(format!("{name}.up_to: `{}` measures nothing, leave it out", entry.code));
        } else if !most.is_finite() || most < 0.0 {
            self.note(format!("{name}.up_to is {most}: a number from 0 up is needed"));
        }
    }

    fn digest(&mut self, place: &str, digest: &str) {
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.note(format!("{place} is {}: 64 hexadecimal digits are needed", quoted(digest)));
        }
    }
}

/// ` (did you mean `…`?)` where a known word is alike.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    // A long word is no misspelt short one, and comparing it would take its length squared.
    let word = if word.len() <= QUOTED { word.to_lowercase().replace('_', "-") } else { return String::new() };
    let likeness = |known: &str| strsim::jaro_winkler(&known.replace('_', "-"), &word);
    let best = known.map(|known| (likeness(known), known)).max_by(|left, right| left.0.total_cmp(&right.0));
    best.filter(|(alike, _)| *alike >= ALIKE)
        .map(|(_, known)| format!(" (did you mean `{known}`?)"))
        .unwrap_or_default()
}

/// A value as a message names it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{dots}`", visible(&cut))
}
