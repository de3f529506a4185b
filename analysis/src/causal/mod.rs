//! Experiments on the models: an adapter made stronger or weaker, taken apart, replaced by something simpler, or given
//! other text, and what becomes of its answers.

pub mod dose;
pub mod location;
pub mod matched;
pub mod pass;
pub mod surrogate;
pub mod sweep;
