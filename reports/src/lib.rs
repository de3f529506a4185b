//! Audits as a page, as figures, and as an index over several.
//!
//! The one idea: an [`Audit`] is plain data, and everything here is a function of it. [`write_report`] writes
//! `report.json`, `index.html` and `figures/*.png`, all or nothing; [`write_index`] ties the reports of several
//! adapters together. Charts are described once and drawn twice, as PNG and as the page's inline graphics, so both
//! always show the same numbers.
//!
//! What this crate deliberately does not do: run a model, compute a metric, or judge a number that has no chance level.
//! Everything in an audit that came out of the adapter (names, paths, probe text) is treated as hostile.
//!
//! [`Audit`]: lcr_documents::audit::Audit
//!
//! ```no_run
//! use std::path::Path;
//!
//! use lcr_documents::audit::json;
//!
//! let audit = json::read(Path::new("audit/report.json"))?;
//! let written = lcr_reports::write_report(&audit, Path::new("drawn-again"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod charts;
mod error;
mod figures;
pub mod html;
pub mod rollouts;
mod scale;
mod write;

pub use error::ReportError;
pub use figures::{Figure, write_figures};
pub use html::index_of_many;
pub use write::{EARLIER, Written, write_index, write_report};
