//! `lcr-audit.toml`: what a repository of adapters accepts.
//!
//! The text is read section by section and checked as a whole: every mistake is reported, not the first one only.
//! [`Policy`] is what holds after that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use globset::GlobMatcher;

use super::paths::{Patterns, Place, names_match, places};
use super::read::{RuleSetting, RuleSettings, WaiverSection, read};
use crate::rules::{Rule, Severity, refusal, unanswered};
use lcr_documents::audit::{Audit, Depth};
use lcr_documents::digest::sha256;

/// The text of `policy init`: the policy that holds where there is no file.
pub const DEFAULT_POLICY: &str = include_str!("default.toml");
/// Bytes of a policy: as tables they take some twenty times as much.
const MOST_BYTES: u64 = 16 << 20;

/// Mistakes that a message lists.
const MOST_LISTED: usize = 200;

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policy `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What stands there is no file.
    #[error("the policy `{}` is {found}: a policy is a file of moderate size", path.display())]
    NoFile {
        /// Where.
        path: PathBuf,
        /// What stands there.
        found: &'static str,
    },
    /// The file is no TOML.
    #[error("policy `{source_name}`: {reason}")]
    Syntax {
        /// File, or `default`.
        source_name: String,
        /// Where and why.
        reason: String,
    },
    /// Settings that are not known, contradict the rules or each other.
    #[error("policy `{source_name}`: {}", listed(problems))]
    Invalid {
        /// File, or `default`.
        source_name: String,
        /// Every mistake.
        problems: Vec<String>,
    },
}

/// Mistakes for a message: one in the line, several below each other.
fn listed(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => {
            let lines = many.iter().take(MOST_LISTED).map(String::as_str);
            let more = (many.len() > MOST_LISTED).then_some("…");
            let listed: Vec<&str> = lines.chain(more).collect();
            format!("{} mistakes\n  {}", many.len(), listed.join("\n  "))
        }
    }
}

/// What is asked of the base.
#[derive(Debug, Clone, Default)]
pub struct BaseSection {
    /// Digest that the base must have, as `lcr-audit batch` and `gate` report it (`pins.base.sha256`).
    pub sha256: Option<String>,
    /// Patterns of names by which adapters may call the base, beside its own.
    pub names: Option<Vec<String>>,
}

/// What adapters may be; what is not listed is not restricted.
#[derive(Debug, Clone, Default)]
pub struct AllowedSection {
    /// Layouts: `PEFT`, `MLX`.
    pub formats: Option<Vec<String>>,
    /// Kinds of module: `q_proj`, ….
    pub targets: Option<Vec<String>>,
    /// Patterns of names that `base_model_name_or_path` may have.
    pub base_models: Option<Vec<String>>,
    /// Patterns of names that `revision` may have.
    pub revisions: Option<Vec<String>>,
}

/// Whether base and adapted model are run side by side.
#[derive(Debug, Clone, Default)]
pub struct CompareSection {
    /// Whether every adapter must be compared with the base.
    pub required: bool,
    /// Built-in probes or a file; the default set where it is absent.
    pub probes: Option<String>,
    /// Metrics; those that rules need where it is absent.
    pub metrics: Option<Vec<String>>,
    /// Prompts of the probes that are read.
    pub max_prompts: Option<usize>,
    /// Files in the place of built-in probe sets, by name of the set, relative to the policy.
    pub probe_sets: BTreeMap<String, PathBuf>,
    /// How much is asked about each adapter; `quick` where it is absent.
    pub depth: Option<Depth>,
}

/// What must be known of an adapter.
#[derive(Debug, Clone, Default)]
pub struct QuestionsSection {
    /// Questions that must have an answer, whichever it is.
    pub required: Vec<String>,
}

/// Known-good adapters that each one is held against.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileSection {
    /// The file of `lcr-audit calibrate`, relative to the policy.
    pub path: Option<PathBuf>,
    /// SHA-256 that it must have.
    pub sha256: Option<String>,
    /// How often an honest adapter may be called unlike them.
    pub rate: f64,
}

impl Default for ProfileSection {
    fn default() -> Self {
        Self { path: None, sha256: None, rate: 0.01 }
    }
}

/// An exception: one rule, on exactly these bytes, up to a number, until a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiver {
    /// Its place among the policy's waivers.
    pub index: usize,
    /// Code of the rule.
    pub rule: String,
    /// SHA-256 of the artifact, or of the files that the finding rests on.
    pub sha256: String,
    /// Place in the file; any where absent.
    pub location: Option<String>,
    /// Largest number that it covers, where it names one.
    pub up_to: Option<f64>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Last day that it holds, YYYY-MM-DD.
    pub expires: String,
}

impl Waiver {
    fn key(&self) -> (&str, &str) {
        (&self.rule, &self.sha256)
    }
}

/// Settings of rules under some paths.
#[derive(Debug)]
struct PathRules {
    matcher: GlobMatcher,
    rules: RuleSettings,
}

/// A policy whose every setting has been checked.
#[derive(Debug)]
pub struct Policy {
    /// File, or `default`.
    pub source: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Lowest level that makes the gate fail.
    pub fail_on: Severity,
    /// What is asked of the base.
    pub base: BaseSection,
    /// What adapters may be.
    pub allowed: AllowedSection,
    /// Whether to compare.
    pub compare: CompareSection,
    /// What must be answered.
    pub questions: QuestionsSection,
    /// What adapters are held against.
    pub profile: ProfileSection,
    /// Exceptions.
    pub waivers: Vec<Waiver>,
    /// Places of the waivers in the list, in the order of their rules and digests.
    by_digest: Vec<usize>,
    names: Names,
    rules: RuleSettings,
    paths: Vec<PathRules>,
    /// Where its file stands, links resolved: what its patterns of paths are relative to.
    folder: Option<PathBuf>,
}

/// Patterns of names.
#[derive(Debug, Default)]
struct Names {
    base: Option<Vec<GlobMatcher>>,
    base_models: Option<Vec<GlobMatcher>>,
    revisions: Option<Vec<GlobMatcher>>,
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
    pub fn open(path: &Path) -> Result<Self, PolicyError> {
        let source = |source| PolicyError::Read { path: path.to_owned(), source };
        let known = std::fs::metadata(path).map_err(source)?;
        let no_file = |found| Err(PolicyError::NoFile { path: path.to_owned(), found });
        if known.is_dir() {
            return no_file("a folder");
        }
        // Reading a pipe would wait for whoever writes into it.
        if !known.is_file() {
            return no_file("a pipe, socket or device");
        }
        if known.len() > MOST_BYTES {
            return no_file("longer than 16 MiB");
        }
        let text = std::fs::read_to_string(path).map_err(source)?;
        let mut policy = Self::parse(&path.display().to_string(), &text)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        policy.folder = Some(folder.canonicalize().map_err(source)?);
        Ok(policy)
    }

    /// Reads a policy's text; `source` is what messages and reports call it.
    pub fn parse(source: &str, text: &str) -> Result<Self, PolicyError> {
        let syntax = |error: toml::de::Error| PolicyError::Syntax {
            source_name: source.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        };
        let file: toml::Table = toml::from_str(text).map_err(syntax)?;
        let mut problems = Vec::new();
        let file = read(file, &mut problems);
        let mut patterns = Patterns::default();
        let mut list = |field: &str, list: &Option<Vec<String>>, problems: &mut Vec<String>| {
            patterns.list(field, list.as_ref(), problems)
        };
        let names = Names {
            base: list("base.names", &file.base.names, &mut problems),
            base_models: list("allowed.base_models", &file.allowed.base_models, &mut problems),
            revisions: list("allowed.revisions", &file.allowed.revisions, &mut problems),
        };
        let mut paths = Vec::new();
        for (pattern, rules) in file.paths {
            // `./prod` is a way to write `prod`.
            let plain = pattern.strip_prefix("./").unwrap_or(&pattern);
            paths.extend(
                patterns.compile("paths.match", plain, &mut problems).map(|matcher| PathRules { matcher, rules }),
            );
        }
        if !problems.is_empty() {
            // Alone they are found by `policy check`, and reported by a run; here they are mistakes among others.
            let refused =
                file.waivers.iter().filter_map(|(index, waiver)| Some((index, waiver, refusal(&waiver.rule)?)));
            let mut refused: Vec<String> = refused
                .map(|(index, waiver, reason)| {
                    format!("waivers[{index}]: `{}` cannot be waived: {reason}", waiver.rule)
                })
                .collect();
            problems.append(&mut refused);
            return Err(PolicyError::Invalid { source_name: source.to_owned(), problems });
        }
        let waivers: Vec<Waiver> = file.waivers.into_iter().map(|(index, written)| waiver(index, written)).collect();
        let mut by_digest: Vec<usize> = (0..waivers.len()).collect();
        by_digest.sort_by_key(|place| waivers.get(*place).map(Waiver::key));
        Ok(Self {
            source: source.to_owned(),
            sha256: sha256(text.as_bytes()),
            fail_on: file.fail_on,
            base: file.base,
            allowed: file.allowed,
            compare: file.compare,
            questions: file.questions,
            profile: file.profile,
            waivers,
            by_digest,
            names,
            rules: file.rules,
            paths,
            folder: None,
        })
    }

    /// What holds for an artifact, whose path is that which the report gives it.
    pub fn at(&self, artifact: &str) -> Settings<'_> {
        if self.paths.is_empty() {
            return Settings { places: vec![vec![&self.rules]] };
        }
        let of_place = |place: &Place| {
            let sections = self.paths.iter().rev().filter(|section| place.is_named_by(&section.matcher));
            sections.map(|section| &section.rules).chain(std::iter::once(&self.rules)).collect()
        };
        Settings { places: places(Path::new(artifact), self.folder.as_deref()).iter().map(of_place).collect() }
    }

    /// Level of a rule for an artifact. See [`Settings::level`].
    pub fn level(&self, rule: &Rule, artifact: &str) -> Severity {
        self.at(artifact).level(rule)
    }

    /// Limit of a rule for an artifact. See [`Settings::limit`].
    pub fn limit(&self, rule: &Rule, artifact: &str) -> Option<f64> {
        self.at(artifact).limit(rule)
    }

    /// Whether base and adapted model must be run side by side.
    pub fn asks_for_comparison(&self) -> bool {
        self.compare.required || !self.questions.required.is_empty() || self.profile.path.is_some()
    }

    /// The profile that it names, where it is found from here.
    pub fn profile_path(&self) -> Option<PathBuf> {
        self.profile.path.as_deref().map(|path| self.beside(path))
    }

    /// The files in the place of built-in probe sets, where they are found from here.
    pub fn probe_sets(&self) -> BTreeMap<String, PathBuf> {
        self.compare.probe_sets.iter().map(|(name, path)| (name.clone(), self.beside(path))).collect()
    }

    /// A path that is relative to the policy's own folder.
    fn beside(&self, path: &Path) -> PathBuf {
        self.folder.as_ref().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// The questions that must have an answer and have none in this audit, each with the reason.
    pub(crate) fn unanswered(&self, audit: &Audit) -> Vec<String> {
        self.questions.required.iter().filter_map(|name| unanswered(audit, name)).collect()
    }

    /// Whether an adapter may name this base.
    pub fn allows_base_model(&self, name: &str) -> bool {
        self.names.base_models.as_ref().is_none_or(|patterns| names_match(patterns, name))
    }

    /// Whether an adapter may ask for this revision of its base; a config that names none asks for `main`.
    pub fn allows_revision(&self, name: Option<&str>) -> bool {
        let name = name.unwrap_or("main");
        self.names.revisions.as_ref().is_none_or(|patterns| names_match(patterns, name))
    }

    /// Whether this is a name of the base that is given, as the policy says.
    pub fn is_name_of_base(&self, name: &str) -> bool {
        self.names.base.as_ref().is_some_and(|patterns| names_match(patterns, name))
    }

    /// The waivers of a rule that name a digest, each with its place in [`Policy::waivers`].
    pub(crate) fn waivers_of<'a>(
        &'a self,
        code: &'a str,
        sha256: &'a str,
    ) -> impl Iterator<Item = (usize, &'a Waiver)> {
        let wanted = Some((code, sha256));
        let key = |place: &usize| self.waivers.get(*place).map(Waiver::key);
        let first = self.by_digest.partition_point(|place| key(place) < wanted);
        let from_there = self.by_digest.get(first..).unwrap_or_default().iter();
        from_there
            .take_while(move |place| key(place) == wanted)
            .filter_map(|place| Some((*place, self.waivers.get(*place)?)))
    }

    /// Waivers that can cover nothing, each with the reason: what `policy check` refuses, and a run reports.
    pub fn refused_waivers(&self) -> impl Iterator<Item = (&Waiver, &'static str)> {
        self.waivers.iter().filter_map(|waiver| Some((waiver, refusal(&waiver.rule)?)))
    }
}

/// The settings of rules for one artifact.
#[derive(Debug)]
pub struct Settings<'a> {
    /// For each place that the artifact's path leads to: settings, those that go before the others first.
    places: Vec<Vec<&'a BTreeMap<String, RuleSetting>>>,
}

impl Settings<'_> {
    /// Level of a rule: that of the last matching path section that sets it, else the rules section's, else the rule's
    /// own; the strictest, where the path leads to several places.
    pub fn level(&self, rule: &Rule) -> Severity {
        let levels = self.first(rule.code, |setting| setting.level).map(|level| level.unwrap_or(rule.level));
        levels.max().unwrap_or(rule.level)
    }

    /// Limit of a rule, in the same way.
    pub fn limit(&self, rule: &Rule) -> Option<f64> {
        self.first(rule.code, |setting| setting.limit).filter_map(|limit| limit.or(rule.limit)).reduce(f64::min)
    }

    /// The setting that goes before all others, for each place.
    fn first<T>(&self, code: &str, of: impl Fn(&RuleSetting) -> Option<T>) -> impl Iterator<Item = Option<T>> {
        self.places.iter().map(move |sections| sections.iter().find_map(|rules| of(rules.get(code)?)))
    }
}

fn waiver(index: usize, written: WaiverSection) -> Waiver {
    Waiver {
        index,
        rule: written.rule,
        sha256: written.sha256.to_lowercase(),
        location: written.location,
        up_to: written.up_to,
        reason: written.reason,
        owner: written.owner,
        // Read with its day, or not at all.
        expires: written.expires.date.map(|date| date.to_string()).unwrap_or_default(),
    }
}
