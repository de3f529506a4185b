//! Files of models and adapters: configs, safetensors, adapters in the layouts of PEFT and MLX, chat templates.
//!
//! The one idea: a file is read strictly or refused by name, with the cure. Weights stay in their file as mapped bytes;
//! an adapter stays in its factors. What this crate deliberately does not do: run a model, or judge what it reads. It
//! links no tensor library, so that the gate can be built without one.
//!
//! ```
//! use std::path::Path;
//!
//! use lcr_formats::config::Config;
//!
//! let text = br#"{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
//!     "intermediate_size": 128, "vocab_size": 512, "swish_gain": 2.0}"#;
//! let refused = Config::parse(Path::new("config.json"), text).unwrap_err();
//! assert!(refused.to_string().contains("unknown key `swish_gain`"));
//! ```

// What this crate reads is a stranger's: nothing in a file may end the process.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod adapter;
pub mod chat_template;
pub mod checkpoint;
pub mod config;
pub mod factored;
pub mod families;
pub mod module;
