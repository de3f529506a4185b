//! What can go wrong between an audit and its report.

use std::path::{Path, PathBuf};

use lcr_documents::DocumentError;

/// Why a report was not made. Every variant that concerns a file names it.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be read or written, or the audit could not become JSON.
    #[error(transparent)]
    Document(#[from] DocumentError),
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
        DocumentError::io(path, source).into()
    }
}
