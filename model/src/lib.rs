//! Hugging Face checkpoints, tokenizers, adapters and one decoder with taps.
//!
//! This crate knows files and the forward pass. It knows nothing of metrics, reports or training.

pub mod adapter;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod generate;
pub mod sampling;
pub mod session;
pub mod tokenizer;
