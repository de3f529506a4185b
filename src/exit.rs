//! Exit codes, decided in one place.

use std::process::ExitCode;

use lcr_gate::GateVerdict;

use crate::terminal::NobodyReads;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done; where there is a verdict, it is below `fail`.
    Done,
    /// Done; the verdict is `fail`.
    Failed,
    /// Done; a gate's verdict decides.
    Verdict(GateVerdict),
    /// Could not be analysed.
    Broken,
    /// Wrong usage.
    Usage,
    /// Training stopped because the adapter holds NaN, infinities or absurd numbers; the last good checkpoint is kept.
    Diverged,
    /// Training was asked to stop, and everything is saved.
    #[cfg_attr(not(feature = "models"), expect(dead_code, reason = "nothing is trained in such a build"))]
    Interrupted,
}

/// Arguments that each are sound and together ask for what must not be done.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

impl Status {
    /// What an error that reached `main` means. Whoever stopped reading what is printed as it comes has what they
    /// wanted.
    pub(crate) fn of_error(error: &anyhow::Error) -> Self {
        let closed = error.is::<NobodyReads>();
        let diverged = diverged(error);
        match () {
            () if closed => Self::Done,
            () if diverged => Self::Diverged,
            () if error.is::<Misuse>() => Self::Usage,
            () => Self::Broken,
        }
    }
}

#[cfg(feature = "models")]
fn diverged(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(lcr_train::run::RunError::diverged))
}

/// Nothing is trained in such a build.
#[cfg(not(feature = "models"))]
fn diverged(_: &anyhow::Error) -> bool {
    false
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Done => 0,
            Status::Failed => 1,
            Status::Verdict(verdict) => verdict.exit_code(),
            Status::Broken => 2,
            Status::Usage => 3,
            Status::Diverged => 4,
            Status::Interrupted => 5,
        })
    }
}
