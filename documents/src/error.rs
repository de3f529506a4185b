//! What can go wrong between a document and its file.

use std::path::{Path, PathBuf};

/// Why a document was not written or not read. Every variant that concerns a file names it.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A file or folder could not be read, written or renamed.
    #[error("cannot read or write `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no report.
    #[error("`{}` is not a report of this program", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The file is a report under another schema.
    #[error("`{}` is written under schema `{found}`, expected `{expected}`", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema that this version reads.
        expected: &'static str,
        /// The schema that the file names.
        found: String,
    },
    /// The document could not become JSON.
    #[error("the document cannot be written as JSON")]
    Serialize(#[source] serde_json::Error),
    /// The audit holds a number that JSON cannot carry.
    #[error("the audit holds a number that is not finite, which JSON cannot carry: {line}")]
    NotFinite {
        /// The line of the report that would have been written.
        line: String,
        /// What reading it back said.
        source: serde_json::Error,
    },
}

impl DocumentError {
    /// A failure of the file system at `path`.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
