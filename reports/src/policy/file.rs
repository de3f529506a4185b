//! `lcr-audit.toml`: what a repository of adapters accepts.
//!
//! The file is read into [`PolicyFile`] as it stands and then checked as a whole: every mistake is reported, not the first one only.
//! [`Policy`] is what holds after that.

use std::collections::BTreeMap;
use std::fmt::Write;

use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::value::Datetime;

use super::catalogue::{RuleLevel, rule};

/// The text of `policy init`: the policy that holds where there is no file.
pub const DEFAULT_POLICY: &str = include_str!("default.toml");

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policy `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or not of this shape.
    #[error("policy `{source_name}`: {reason}")]
    Syntax {
        /// File, or `default`.
        source_name: String,
        /// Where and why.
        reason: String,
    },
    /// Settings that contradict the rules or each other.
    #[error("policy `{source_name}`: {}", problems.join("; "))]
    Invalid {
        /// File, or `default`.
        source_name: String,
        /// Every mistake.
        problems: Vec<String>,
    },
}

/// The file as it stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    version: u32,
    #[serde(default = "deny")]
    fail_on: RuleLevel,
    #[serde(default)]
    base: BaseSection,
    #[serde(default)]
    allowed: AllowedSection,
    #[serde(default)]
    compare: CompareSection,
    #[serde(default)]
    rules: BTreeMap<String, RuleSetting>,
    #[serde(default)]
    paths: Vec<PathSection>,
    #[serde(default)]
    waivers: Vec<WaiverSection>,
}

fn deny() -> RuleLevel {
    RuleLevel::Deny
}

/// What is asked of the base.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSection {
    /// Digest that the base must have, as `lcr-audit batch` and `gate` report it (`pins.base.sha256`).
    pub sha256: Option<String>,
}

/// What adapters may be; what is not listed is not restricted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedSection {
    /// Layouts: `PEFT`, `MLX`.
    pub formats: Option<Vec<String>>,
    /// Kinds of module: `q_proj`, ….
    pub targets: Option<Vec<String>>,
    /// Patterns of names that `base_model_name_or_path` may have.
    pub base_models: Option<Vec<String>>,
}

/// Whether base and adapted model are run side by side.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareSection {
    /// Whether every adapter must be compared with the base.
    #[serde(default)]
    pub required: bool,
    /// Built-in probes or a file; the default set where it is absent.
    pub probes: Option<String>,
    /// Metrics; those that rules need where it is absent.
    pub metrics: Option<Vec<String>>,
    /// Prompts of the probes that are read.
    pub max_prompts: Option<usize>,
}

/// `"deny"`, or a table with a level and a limit.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum RuleSetting {
    Level(RuleLevel),
    Table(RuleTable),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    level: Option<RuleLevel>,
    limit: Option<f64>,
}

impl RuleSetting {
    fn level(self) -> Option<RuleLevel> {
        match self {
            Self::Level(level) => Some(level),
            Self::Table(table) => table.level,
        }
    }

    fn limit(self) -> Option<f64> {
        match self {
            Self::Level(_) => None,
            Self::Table(table) => table.limit,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathSection {
    #[serde(rename = "match")]
    pattern: String,
    #[serde(default)]
    rules: BTreeMap<String, RuleSetting>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaiverSection {
    rule: String,
    sha256: String,
    #[serde(rename = "where")]
    location: Option<String>,
    reason: String,
    owner: String,
    expires: Datetime,
}

/// An exception: one rule, on exactly these bytes, until a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// Code of the rule.
    pub rule: String,
    /// SHA-256 of the artifact, or of the file that the finding is about.
    pub sha256: String,
    /// Place in the file; any where absent.
    pub location: Option<String>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Last day that it holds, YYYY-MM-DD.
    pub expires: String,
}

/// Settings of rules under some paths.
#[derive(Debug)]
struct PathRules {
    matcher: GlobMatcher,
    rules: BTreeMap<String, RuleSetting>,
}

/// A policy whose every setting has been checked.
#[derive(Debug)]
pub struct Policy {
    /// File, or `default`.
    pub source: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Lowest level that makes the gate fail.
    pub fail_on: RuleLevel,
    /// What is asked of the base.
    pub base: BaseSection,
    /// What adapters may be.
    pub allowed: AllowedSection,
    /// Patterns of [`AllowedSection::base_models`].
    base_models: Option<Vec<GlobMatcher>>,
    /// Whether to compare.
    pub compare: CompareSection,
    /// Exceptions.
    pub waivers: Vec<Waiver>,
    rules: BTreeMap<String, RuleSetting>,
    paths: Vec<PathRules>,
}

impl Default for Policy {
    /// [`DEFAULT_POLICY`].
    fn default() -> Self {
        // A test holds the built-in text to this.
        Self::parse("default", DEFAULT_POLICY).unwrap_or_else(|error| unreachable!("the built-in policy: {error}"))
    }
}

impl Policy {
    /// Reads a policy file.
    pub fn open(path: &std::path::Path) -> Result<Self, PolicyError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a policy's text; `source` is what messages and reports call it.
    pub fn parse(source: &str, text: &str) -> Result<Self, PolicyError> {
        let file: PolicyFile = toml::from_str(text).map_err(|error| PolicyError::Syntax {
            source_name: source.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let mut problems = Vec::new();
        if file.version != 1 {
            problems.push(format!("version is {}, this program reads version 1", file.version));
        }
        if file.fail_on == RuleLevel::Allow {
            problems.push("fail_on is `allow`, which would fail on everything; use `warn` or `deny`".to_owned());
        }
        check_digest("base.sha256", file.base.sha256.as_deref(), &mut problems);
        check_rules("rules", &file.rules, &mut problems);
        let paths = check_paths(file.paths, &mut problems);
        let waivers = file
            .waivers
            .into_iter()
            .enumerate()
            .filter_map(|(index, waiver)| check_waiver(index, waiver, &mut problems));
        let waivers: Vec<Waiver> = waivers.collect();
        let base_models = file.allowed.base_models.as_ref().map(|patterns| {
            patterns.iter().filter_map(|pattern| glob("allowed.base_models", pattern, &mut problems)).collect()
        });
        check_formats(&file.allowed, &mut problems);
        if !problems.is_empty() {
            return Err(PolicyError::Invalid { source_name: source.to_owned(), problems });
        }
        Ok(Self {
            source: source.to_owned(),
            sha256: hexadecimal(&Sha256::digest(text.as_bytes())),
            fail_on: file.fail_on,
            base: file.base,
            allowed: file.allowed,
            base_models,
            compare: file.compare,
            waivers,
            rules: file.rules,
            paths,
        })
    }

    /// Level of a rule for an artifact: that of the last matching path section that sets it, else the rules section's, else the
    /// rule's own.
    pub fn level(&self, code: &str, artifact: &str) -> RuleLevel {
        self.settings(code, artifact)
            .find_map(RuleSetting::level)
            // A rule without an entry fails closed.
            .unwrap_or_else(|| rule(code).map_or(RuleLevel::Deny, |rule| rule.level))
    }

    /// Limit of a rule for an artifact.
    pub fn limit(&self, code: &str, artifact: &str) -> Option<f64> {
        self.settings(code, artifact).find_map(RuleSetting::limit).or_else(|| rule(code).and_then(|rule| rule.limit))
    }

    /// Whether an adapter may name this base.
    pub fn allows_base_model(&self, name: &str) -> bool {
        self.base_models.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.is_match(name)))
    }

    /// Settings of a rule, the one that goes before all others first.
    fn settings(&self, code: &str, artifact: &str) -> impl Iterator<Item = RuleSetting> {
        let of_paths = self.paths.iter().rev().filter(|section| section.matcher.is_match(artifact));
        let settings: Vec<RuleSetting> =
            of_paths.filter_map(|section| section.rules.get(code)).chain(self.rules.get(code)).copied().collect();
        settings.into_iter()
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn check_digest(field: &str, digest: Option<&str>, problems: &mut Vec<String>) {
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
        problems.push(format!("{field} is `{digest}`: 64 hexadecimal digits are needed"));
    }
}

fn check_formats(allowed: &AllowedSection, problems: &mut Vec<String>) {
    for format in allowed.formats.iter().flatten() {
        if !["PEFT", "MLX"].contains(&format.as_str()) {
            problems.push(format!("allowed.formats names `{format}`; known: PEFT, MLX"));
        }
    }
}

fn check_rules(section: &str, rules: &BTreeMap<String, RuleSetting>, problems: &mut Vec<String>) {
    for (code, setting) in rules {
        let Some(entry) = rule(code) else {
            let nearest = super::catalogue::rules()
                .map(|rule| rule.code)
                .max_by(|left, right| strsim::jaro_winkler(left, code).total_cmp(&strsim::jaro_winkler(right, code)));
            let hint = nearest.map(|code| format!(" (did you mean `{code}`?)")).unwrap_or_default();
            problems.push(format!("{section} names `{code}`, which is no rule{hint}"));
            continue;
        };
        match (setting.limit(), entry.limit) {
            (Some(limit), Some(_)) if !limit.is_finite() || limit < 0.0 => {
                problems.push(format!("{section}.{code}: limit {limit} is not a number from 0 up"));
            }
            (Some(_), None) => problems.push(format!("{section}.{code}: this rule has no limit to set")),
            _ => {}
        }
    }
}

fn glob(field: &str, pattern: &str, problems: &mut Vec<String>) -> Option<GlobMatcher> {
    match Glob::new(pattern) {
        Ok(glob) => Some(glob.compile_matcher()),
        Err(error) => {
            problems.push(format!("{field}: `{pattern}` is not a pattern: {error}"));
            None
        }
    }
}

fn check_paths(sections: Vec<PathSection>, problems: &mut Vec<String>) -> Vec<PathRules> {
    let mut paths = Vec::new();
    for section in sections {
        check_rules(&format!("paths `{}`", section.pattern), &section.rules, problems);
        if let Some(matcher) = glob("paths.match", &section.pattern, problems) {
            paths.push(PathRules { matcher, rules: section.rules });
        }
    }
    paths
}

fn check_waiver(index: usize, waiver: WaiverSection, problems: &mut Vec<String>) -> Option<Waiver> {
    let before = problems.len();
    let name = format!("waivers[{index}]");
    if rule(&waiver.rule).is_none() {
        problems.push(format!("{name}.rule names `{}`, which is no rule", waiver.rule));
    }
    check_digest(&format!("{name}.sha256"), Some(&waiver.sha256), problems);
    for (field, text) in [("reason", &waiver.reason), ("owner", &waiver.owner)] {
        if text.trim().is_empty() {
            problems.push(format!("{name}.{field} is empty: a waiver that nobody explains is nobody's decision"));
        }
    }
    let expires = waiver.expires.date.map(|date| date.to_string());
    if expires.is_none() {
        problems.push(format!("{name}.expires holds no day; write it as 2027-01-31"));
    }
    (problems.len() == before).then(|| Waiver {
        rule: waiver.rule,
        sha256: waiver.sha256.to_lowercase(),
        location: waiver.location,
        reason: waiver.reason,
        owner: waiver.owner,
        expires: expires.unwrap_or_default(),
    })
}
