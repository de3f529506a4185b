//! Tokenizers, and one decoder with hooks that runs what `lcr-formats` reads.
//!
//! This crate knows the forward and the backward pass. It knows nothing of metrics, reports or training.

pub mod decoder;
pub mod generate;
pub mod hooks;
pub mod sampling;
pub mod session;
pub mod tokenizer;
