//! What stands for a comparison in a build without models (`--no-default-features`): nothing can be asked, and who asks
//! is told so.

use std::path::Path;

use anyhow::{Result, bail};
use lcr_documents::audit::Asked;
use lcr_gate::policy::Policy;
use lcr_gate::{Provenance, ScannedAdapter};
use lcr_scan::Artifact;

use crate::terminal::Terminal;

/// Why nothing is compared.
pub(crate) const REFUSAL: &str = "this build judges files alone and cannot run a model. Use one with the default \
    features for it: `cargo install --locked --path .`";

/// A question that cannot be asked.
#[derive(Debug)]
pub(crate) enum Question {}

impl Question {
    /// Refuses: the policy asks for a comparison.
    pub(crate) fn of_policy(_: &Policy) -> Result<Self> {
        bail!(
            "the policy asks for a comparison with the base (`compare.required`, `questions.required` or \
             `profile.path`), but {REFUSAL}"
        )
    }

    /// Refuses: the report is of a comparison.
    pub(crate) fn of_report(_: &Asked, _: &str, _: &Policy) -> Result<Self> {
        bail!("the report is of a comparison with the base, but {REFUSAL}. `--files-only` verifies the rest")
    }

    /// Is never reached, since there is no question.
    pub(crate) fn with_base_cache(self, _: Option<&Path>) -> Self {
        match self {}
    }

    /// Is never reached either.
    pub(crate) fn compare(
        &self,
        _: &Path,
        _: &Policy,
        _: &mut [(Artifact, ScannedAdapter)],
        _: &mut Provenance,
        _: &Terminal,
    ) -> Result<()> {
        match *self {}
    }
}
