//! Tokenizers, and one decoder with hooks that runs what `lcr-formats` reads.
//!
//! This crate knows the forward and the backward pass. It knows nothing of metrics, reports or training.
//!
//! ```
//! use lcr_model::decoder::hooks::Site;
//!
//! // A place in the forward pass by our name, and by that of TransformerLens.
//! let stream: Site = "resid.3".parse()?;
//! assert_eq!(stream, "blocks.3.hook_resid_pre".parse()?);
//! # Ok::<(), lcr_model::decoder::hooks::UnknownSite>(())
//! ```

pub mod decoder;
pub mod generate;
pub mod sampling;
pub mod session;
pub mod tokenizer;
