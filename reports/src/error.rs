//! What can go wrong between an audit and its report.

use std::path::{Path, PathBuf};

/// Why a report was not written or not read. Every variant that concerns a file names it.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
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
    /// The audit could not become JSON.
    #[error("the audit cannot be written as JSON")]
    Serialize(#[source] serde_json::Error),
    /// The audit holds a number that JSON cannot carry.
    #[error("the audit holds a number that is not finite, which JSON cannot carry: {line}")]
    NotFinite {
        /// The line of the report that would have been written.
        line: String,
        /// What reading it back said.
        source: serde_json::Error,
    },
    /// The page's template failed.
    #[error("the page `{page}` could not be made")]
    Template {
        /// Which page.
        page: &'static str,
        /// Where and why.
        source: minijinja::Error,
    },
    /// A figure could not be drawn.
    #[error("the figure `{}` could not be drawn: {reason}", path.display())]
    Figure {
        /// The file that it was for.
        path: PathBuf,
        /// What the drawing library said.
        reason: String,
    },
}

impl ReportError {
    /// A failure of the file system at `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
