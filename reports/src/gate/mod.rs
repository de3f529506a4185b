//! The gate: what a policy says of scanned, and where it asks for that compared, adapters; and that in every form CI reads.
//!
//! [`judge`] turns observations into findings, the verdict follows from the findings alone, and the exit code from the verdict.
//! Every output is a function of one [`GateReport`], so no two of them can disagree.

mod audit;
mod badge;
mod baseline;
mod judge;
mod junit;
mod pin;
mod report;
mod rests;
mod sarif;
mod summary;
mod table;

pub use audit::{judge_audit, judge_numbers};
pub use badge::badge;
pub use baseline::{Baseline, apply_baseline};
pub use judge::{Subject, judge, judge_comparison, sort};
pub use junit::junit;
pub use pin::{digest_of_bytes, digest_of_folder};
pub use report::{
    ArtifactReport, BasePin, BaselineState, GATE_SCHEMA, GateFinding, GateReport, GateVerdict, Pins, PolicyPin,
    ProbesPin, WaiverUse, read, schema, to_string, write,
};
pub use rests::FilePin;
pub use sarif::sarif;
pub use summary::step_summary;
pub use table::table;
