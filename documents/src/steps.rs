//! Ends the process at a given write, as a kill would: what a run that was killed leaves is tested window by window,
//! and not by the clock.
//!
//! Everything that is put in its place, moved or removed is a step; `LCR_AUDIT_END_AT=7` in the environment ends the
//! process right after its seventh with SIGKILL, `7:TERM` asks it to end there, and `7:STOP` halts it until it is told
//! to go on. Without the variable nothing is counted, and without the feature `end-at`, which only tests turn on, it is
//! not read.

/// A step was taken.
pub fn step() {
    #[cfg(feature = "end-at")]
    end_at::step();
}

#[cfg(feature = "end-at")]
mod end_at;
