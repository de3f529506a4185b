//! The one scale of severity, and what each document and each output calls its steps.

use lcr_documents::audit::{Level, Verdict};
use serde::{Deserialize, Serialize};

/// What a policy makes of a rule's findings: the levels `allow`, `warn` and `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Listed, and of no consequence.
    Allow,
    /// Shown; fails the gate only where the policy says `fail_on = "warn"`.
    Warn,
    /// Fails the gate.
    Deny,
}

impl Severity {
    /// The scale, mildest first.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Warn, Self::Deny];

    /// As a policy and a gate's report write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }

    /// The severity of a name; `None` where there is none of it.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }

    /// As the report of a comparison has it, under a policy that fails from `fail_on` on.
    pub(crate) fn in_audit(self, fail_on: Self) -> Level {
        match self {
            severity if severity >= fail_on => Level::Fail,
            Self::Warn | Self::Deny => Level::Warn,
            Self::Allow => Level::Note,
        }
    }

    /// As SARIF calls the level of a result.
    pub(crate) fn in_sarif(self) -> &'static str {
        match self {
            Self::Deny => "error",
            Self::Warn => "warning",
            Self::Allow => "note",
        }
    }

    /// As code scanning reads it of a SARIF rule: `problem.severity` and `security-severity`.
    pub(crate) fn in_code_scanning(self) -> (&'static str, &'static str) {
        match self {
            Self::Deny => ("error", "8.0"),
            Self::Warn => ("warning", "5.0"),
            Self::Allow => ("recommendation", "2.0"),
        }
    }

    /// As GitLab's Code Quality calls it, under a policy that fails from `fail_on` on.
    pub(crate) fn in_code_quality(self, fail_on: Self) -> &'static str {
        match self {
            severity if severity >= fail_on => "critical",
            Self::Deny => "critical",
            Self::Warn => "minor",
            Self::Allow => "info",
        }
    }
}

/// The verdict of a comparison whose worst finding has this level.
pub(crate) fn verdict_of(worst: Option<Level>) -> Verdict {
    match worst {
        Some(Level::Fail) => Verdict::Fail,
        Some(Level::Warn) => Verdict::Warn,
        Some(Level::Note) | None => Verdict::Pass,
    }
}
