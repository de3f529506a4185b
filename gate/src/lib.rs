//! The gate: what a policy says of scanned, and where it asks for that compared, adapters; and that in every form CI
//! reads.
//!
//! [`judge`] turns observations into findings, the verdict follows from the findings alone, and the exit code from the
//! verdict. Every output is a function of one [`GateReport`], so no two of them can disagree.
//!
//! ```
//! use lcr_gate::policy::Policy;
//! use lcr_gate::rules::{Severity, rule};
//!
//! let policy = Policy::parse("gate.toml", "version = 1\n[rules]\nscript = \"deny\"\n")?;
//! let script = rule("script").expect("a rule of that code");
//! assert_eq!((script.level, policy.level(script, "adapters/one")), (Severity::Warn, Severity::Deny));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// What this crate reads is a stranger's: nothing in a file may end the process.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attest;
mod audit;
mod baseline;
pub mod difference;
mod judge;
pub mod outcome;
mod output;
mod pin;
pub mod policy;
mod report;
mod rests;
pub mod rules;
mod verdict;
mod waivers;

pub use self::attest::{
    Counts, Digests, Judged, PREDICATE_TYPE, Predicate, ReportPin, STATEMENT_TYPE, Statement, StatementSubject, attest,
    statement_to_string,
};
pub use self::audit::{judge_audit, judge_numbers};
pub use self::baseline::{Baseline, apply_baseline};
pub use self::judge::{ScannedAdapter, judge, judge_comparison, sort};
pub use self::output::badge::badge;
pub use self::output::codequality::codequality;
pub use self::output::cyclonedx::cyclonedx;
pub use self::output::junit::junit;
pub use self::output::sarif::sarif;
pub use self::output::summary::step_summary;
pub use self::output::table::table;
pub use self::pin::{digest_of_bytes, digest_of_file, digest_of_folder};
pub use self::report::{
    ArtifactReport, BasePin, BaselineState, GATE_SCHEMA, GateFinding, GateReport, PolicyPin, ProbesPin, Provenance,
    WaiverUse, read, schema, to_string, write,
};
pub use self::rests::FilePin;
pub use self::verdict::GateVerdict;
