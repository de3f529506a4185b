//! Audit results to JSON, PNG and HTML, and what the built-in rules say of them.
//!
//! The one idea: an [`Audit`] is plain data, and everything here is a function of it. [`policy::judge`] fills in its findings and
//! verdict; [`write_report`] writes `report.json`, `index.html` and `figures/*.png`, all or nothing; [`write_index`] ties the
//! reports of several adapters together. Charts are described once and drawn twice, as PNG and as the page's inline
//! graphics, so both always show the same numbers.
//!
//! What this crate deliberately does not do: run a model, compute a metric, or judge a number that has no chance level.
//! Everything in an audit that came out of the adapter (names, paths, probe text) is treated as hostile.
//!
//! [`Audit`]: lcr_analysis::audit::Audit

mod charts;
pub mod difference;
mod error;
mod figures;
pub mod gate;
pub mod html;
pub mod json;
mod number;
pub mod outcome;
pub mod policy;
mod scale;
mod text;
mod write;

pub use error::ReportError;
pub use figures::{Figure, write_figures};
pub use html::index_of_many;
pub use write::{EARLIER, Written, write_index, write_report};
