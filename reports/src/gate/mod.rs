//! The gate: what a policy says of scanned, and where it asks for that compared, adapters; and that in every form CI reads.
//!
//! [`judge`] turns observations into findings, the verdict follows from the findings alone, and the exit code from the verdict.
//! Every output is a function of one [`GateReport`], so no two of them can disagree.

mod attest;
mod audit;
mod badge;
mod baseline;
mod codequality;
mod cyclonedx;
mod judge;
mod junit;
mod pin;
mod report;
mod rests;
mod sarif;
mod summary;
mod table;

pub use attest::{
    Counts, Digests, Judged, PREDICATE_TYPE, Predicate, ReportPin, STATEMENT_TYPE, Statement, StatementSubject, attest,
    statement_to_string,
};
pub use audit::{judge_audit, judge_numbers};
pub use badge::badge;
pub use baseline::{Baseline, apply_baseline};
pub use codequality::codequality;
pub use cyclonedx::cyclonedx;
pub use judge::{Subject, judge, judge_comparison, sort};
pub use junit::junit;
pub use pin::{digest_of_bytes, digest_of_file, digest_of_folder};
pub use report::{
    ArtifactReport, BasePin, BaselineState, GATE_SCHEMA, GateFinding, GateReport, GateVerdict, Pins, PolicyPin,
    ProbesPin, WaiverUse, read, schema, to_string, write,
};
pub use rests::FilePin;
pub use sarif::sarif;
pub use summary::step_summary;
pub use table::table;
