//! Writes reports to look at while working on the page: `cargo run --example sample -- FOLDER` those of made-up audits,
//! `cargo run --example sample -- FOLDER REPORT.json …` those of audits read back, each into a folder of its own.

#[path = "../../documents/tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use lcr_documents::audit::Audit;
use lcr_documents::audit::json;
use lcr_gate::judge_numbers;
use lcr_gate::policy::Policy;
use lcr_reports::{ReportError, write_index, write_report};

fn main() -> Result<(), ReportError> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/sample".to_owned()));
    let mut samples: Vec<(String, Audit)> = Vec::new();
    for (index, file) in arguments.enumerate() {
        samples.push((format!("report-{index}"), json::read(Path::new(&file))?));
    }
    if samples.is_empty() {
        let made_up = [("toy", support::toy()), ("deep", support::deep()), ("hostile", support::hostile())];
        samples.extend(made_up.map(|(name, audit)| (name.to_owned(), audit)));
    }
    for (name, audit) in &mut samples {
        judge_numbers(audit, &Policy::default());
        write_report(audit, &folder.join(name))?;
    }
    let reports: Vec<_> = samples.iter().map(|(name, audit)| (name.as_str(), audit)).collect();
    write_index(&reports, "the built-in policy", &folder)?;
    Ok(())
}
