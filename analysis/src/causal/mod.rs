//! Experiments on the models: an adapter made stronger or weaker, taken apart, or replaced by something simpler, and
//! what becomes of its answers.

pub mod dose;
pub mod location;
pub mod pass;
pub mod surrogate;
