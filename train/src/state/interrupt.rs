//! A request to stop after the step at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the training loop looks at between two pieces of work, and that whoever handles signals sets. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
}

impl Interrupt {
    /// Asks the loop to stop. Nothing but a store, so it may be called from a signal handler.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Relaxed);
    }

    /// Whether the loop should stop.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// The flag itself, for a handler that wants one.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.requested)
    }
}
