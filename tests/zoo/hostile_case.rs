//! One case: how it is made, and what must be said of it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A hostile folder.
pub(crate) struct HostileCase {
    pub(crate) name: &'static str,
    /// Makes it in an empty folder.
    pub(crate) build: fn(&Path),
    /// Makes the base that it is held against.
    pub(crate) base: Option<fn(&Path)>,
    /// Rules that must be among the findings.
    pub(crate) rules: &'static [&'static str],
    /// Rules that must not.
    pub(crate) absent: &'static [&'static str],
    /// What must become of it where the findings alone do not say.
    pub(crate) outcome: Outcome,
}

/// What becomes of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A report, whose verdict follows from the levels of its findings.
    Report,
    /// No report: nothing can be discovered, and the error says so.
    Refused,
    /// Either, so long as it does not pass.
    NotPassed,
}

impl HostileCase {
    pub(crate) fn new(name: &'static str, rules: &'static [&'static str], build: fn(&Path)) -> Self {
        Self { name, build, base: None, rules, absent: &[], outcome: Outcome::Report }
    }

    pub(crate) fn against(self, base: fn(&Path)) -> Self {
        Self { base: Some(base), ..self }
    }

    pub(crate) fn without(self, absent: &'static [&'static str]) -> Self {
        Self { absent, ..self }
    }

    pub(crate) fn refused(self) -> Self {
        Self { outcome: Outcome::Refused, ..self }
    }

    pub(crate) fn not_passed(self) -> Self {
        Self { outcome: Outcome::NotPassed, ..self }
    }
}

/// Bytes of all files under a folder, each counted once whatever its names; links are not followed.
pub(crate) fn volume(at: &Path) -> u64 {
    fn add(at: &Path, known: &mut BTreeSet<u64>) -> u64 {
        let Ok(metadata) = at.symlink_metadata() else { return 0 };
        if metadata.is_dir() {
            let entries = std::fs::read_dir(at).into_iter().flatten().flatten();
            return entries.map(|entry| add(&entry.path(), known)).sum();
        }
        if metadata.is_file() && known.insert(metadata.ino()) { metadata.len() } else { 0 }
    }
    add(at, &mut BTreeSet::new())
}
