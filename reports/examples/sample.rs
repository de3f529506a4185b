//! Writes reports of made-up audits, to look at while working on the page: `cargo run --example sample -- FOLDER`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;

use lcr_reports::{ReportError, policy, write_index, write_report};

fn main() -> Result<(), ReportError> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/sample".to_owned()));
    let mut samples = [
        ("toy", support::toy()),
        ("deep", support::deep()),
        ("hostile", support::hostile()),
    ];
    for (name, audit) in &mut samples {
        policy::judge(audit);
        write_report(audit, &folder.join(name))?;
    }
    let reports: Vec<_> = samples.iter().map(|(name, audit)| (*name, audit)).collect();
    write_index(&reports, &folder)?;
    Ok(())
}
