//! The verdict of a gate: it follows from the findings alone, and the exit code from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::{GateFinding, GateReport};
use crate::rules::Severity;

/// What follows from the findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateVerdict {
    /// Nothing at or above the policy's level.
    Pass,
    /// Something could not be analysed, and nothing that could be has a finding at or above the level.
    Incomplete,
    /// A finding at or above the level.
    Fail,
}

impl GateVerdict {
    /// The exit code: 0, 2, 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Incomplete => 2,
        }
    }

    /// What findings and errors amount to.
    pub fn of<'a>(fail_on: Severity, findings: impl Iterator<Item = &'a GateFinding>, incomplete: bool) -> Self {
        let mut findings = findings;
        if findings.any(|finding| finding.counts() && finding.level >= fail_on) {
            Self::Fail
        } else if incomplete {
            Self::Incomplete
        } else {
            Self::Pass
        }
    }
}

impl GateReport {
    /// Sets every verdict to what follows from the findings.
    pub fn conclude(&mut self) {
        for artifact in &mut self.artifacts {
            artifact.verdict = GateVerdict::of(self.fail_on, artifact.findings.iter(), artifact.error.is_some());
        }
        self.verdict = self.concluded();
    }

    /// The verdict that follows from the findings, whatever [`GateReport::verdict`] says.
    pub fn concluded(&self) -> GateVerdict {
        let incomplete = self.artifacts.iter().any(|artifact| artifact.error.is_some());
        GateVerdict::of(self.fail_on, self.findings(), incomplete)
    }
}
