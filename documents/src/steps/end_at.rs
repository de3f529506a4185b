//! The variable read, and the process ended.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// At which step, and what happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    step: u64,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Kill,
    Ask,
    Halt,
}

impl End {
    fn parse(text: &str) -> Option<Self> {
        let (step, how) = match text.split_once(':') {
            None => (text, How::Kill),
            Some((step, "TERM")) => (step, How::Ask),
            Some((step, "STOP")) => (step, How::Halt),
            Some(_) => return None,
        };
        Some(Self { step: step.parse().ok()?, how })
    }
}

/// Counts a step, and ends the process where it was asked to.
pub(super) fn step() {
    static END: OnceLock<Option<End>> = OnceLock::new();
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let Some(end) = END.get_or_init(|| End::parse(&std::env::var("LCR_AUDIT_END_AT").ok()?)) else { return };
    if TAKEN.fetch_add(1, Ordering::SeqCst) + 1 == end.step {
        signal(end.how);
    }
}

#[cfg(unix)]
fn signal(how: How) {
    use rustix::process::{Signal, getpid, kill_process};

    let signal = match how {
        How::Kill => Signal::KILL,
        How::Ask => Signal::TERM,
        How::Halt => Signal::STOP,
    };
    // Where the system refuses, the run goes on, and the test that asked for an end sees that.
    let _ = kill_process(getpid(), signal);
}

#[cfg(not(unix))]
fn signal(_: How) {
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_and_how_to_end_there() {
        assert_eq!(End::parse("7"), Some(End { step: 7, how: How::Kill }));
        assert_eq!(End::parse("7:TERM"), Some(End { step: 7, how: How::Ask }));
        for wrong in ["", "x", "7:KILL", ":TERM"] {
            assert_eq!(End::parse(wrong), None, "{wrong}");
        }
    }
}
