//! Files of models and adapters: configs, safetensors, adapters in the layouts of PEFT and MLX, chat templates.
//!
//! The one idea: a file is read strictly or refused by name, with the cure. Weights stay in their file as mapped bytes; an adapter
//! stays in its factors. What this crate deliberately does not do: run a model, or judge what it reads. It links no tensor
//! library, so that the gate can be built without one.

pub mod adapter;
pub mod chat_template;
pub mod checkpoint;
pub mod config;
pub mod factored;
pub mod module;
