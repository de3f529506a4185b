//! Writes reports of made-up audits, to look at while working on the page: `cargo run --example sample -- FOLDER`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;

use lcr_reports::{ReportError, index_of_many, policy, write_report};

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
    let index = folder.join("index.html");
    fs_err::write(&index, index_of_many(&reports)?).map_err(|source| ReportError::Io { path: index, source })
}
