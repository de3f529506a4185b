//! What the files of an adapter hold, found without running, importing or trusting any of it.
//!
//! [`scan`] walks a folder, tells each file's kind by its content, reads tensors, configs, templates and tokenizers
//! strictly, lists what pickles and archives would do, and measures what can be said of a low-rank change without its
//! base. It gives [`Observation`]s, which say what is there; how bad that is, a policy decides elsewhere. What is not
//! looked into is an observation too, so that nothing passes for want of a reader.
//!
//! Memory and time are bounded by [`Limits`], never by what a file claims of itself.
//!
//! ```
//! use lcr_scan::{Check, Limits, ScanOptions, discover, scan};
//!
//! let folder = tempfile::tempdir()?;
//! // A pickle that would run a command where something loads it.
//! std::fs::write(folder.path().join("adapter_model.bin"), b"cos\nsystem\n(S'id'\ntR.")?;
//! for artifact in discover(&[folder.path().to_path_buf()], &Limits::default())? {
//!     let found = scan(&artifact, &ScanOptions::default());
//!     assert!(found.observations.iter().any(|seen| seen.check == Check::PickleImport));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// What this crate reads is a stranger's: nothing in a file may end the process.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod adapter;
mod archive;
pub mod base_name;
mod bookkeeping;
mod cache;
mod check;
mod digest;
mod discover;
mod files;
mod git;
mod json;
mod kind;
mod likeness;
mod limits;
mod metadata;
mod pickle;
mod scan;
mod statistics;
mod template;
mod tensor_kind;
mod tokenizer;
mod training;
mod walk;
mod yaml;

pub use check::{Check, Observation};
pub use discover::{Around, Artifact, DiscoverError, discover};
pub use files::FileRecord;
pub use limits::Limits;
pub use scan::{AdapterSummary, Scan, ScanOptions, digest_of as digest, scan};
pub use statistics::{
    BiasSize, Coherence, Farthest, Magnitudes, ModuleGroup, ModuleStatistics, RowShare, VectorStatistics,
    WeightStatistics, WholeStatistics,
};
pub use tensor_kind::TensorKind;
pub use tokenizer::is_file as is_tokenizer_file;
