//! SIGTERM and SIGINT: a long run finishes its step and saves. A second one ends it at once.

use lcr_train::state::Interrupt;

/// Asks the run to stop when the process is told to.
#[cfg(unix)]
pub(crate) fn request_on_termination(interrupt: &Interrupt) {
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // The order counts: the first signal finds the flag down and only raises it, the second finds it up and ends
        // the process.
        let flag = interrupt.flag();
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, std::sync::Arc::clone(&flag));
        let _ = signal_hook::flag::register(signal, flag);
    }
}

/// Asks the run to stop when the process is told to: not known on this system, where checkpoints must do.
#[cfg(not(unix))]
pub(crate) fn request_on_termination(_interrupt: &Interrupt) {}
