//! Model.

pub mod sampling;
pub mod tokenizer;
