//! `--attest` and `verify --attestation`: a gate's report as an in-toto Statement about files, and such a statement
//! made again.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lcr_gate::{GateReport, Statement, StatementSubject, attest, digest_of_file, statement_to_string};
use serde_json::Value;

/// Folders below a base's that are followed.
const DEPTH: usize = 8;

/// Writes the report's statement to a file.
pub(crate) fn write(report: &GateReport, path: &Path) -> Result<()> {
    let statement = statement(report, base_of(report))?;
    let text = statement_to_string(&statement)?;
    lcr_documents::write::replace(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// The base that the report names.
fn base_of(report: &GateReport) -> Option<&Path> {
    report.pins.base.as_ref().map(|base| Path::new(&base.path))
}

/// The report's statement, over the files of the adapters as the report has them and those of the base as they are.
fn statement(report: &GateReport, base: Option<&Path>) -> Result<Statement> {
    let mut files = Vec::new();
    if let (Some(folder), Some(pin)) = (base, &report.pins.base) {
        collect(folder, &pin.path, DEPTH, &mut files)
            .with_context(|| format!("cannot read the base {}", folder.display()))?;
    }
    Ok(attest(report, files)?)
}

/// Every file of a folder with its digest; hidden ones, such as what version control and downloads keep, are no part of
/// a model.
fn collect(folder: &Path, name: &str, depth: usize, files: &mut Vec<StatementSubject>) -> Result<()> {
    if depth == 0 {
        bail!("{} lies too deep", folder.display());
    }
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.starts_with('.') {
            continue;
        }
        let (path, name) = (entry.path(), format!("{}/{file}", name.trim_end_matches('/')));
        // Through links, by which downloads share their files.
        match fs_err::metadata(&path)? {
            kind if kind.is_dir() => collect(&path, &name, depth - 1, files)?,
            kind if kind.is_file() => files.push(StatementSubject::new(name, digest_of_file(&path)?)),
            _ => {}
        }
    }
    Ok(())
}

/// The statement made again, of the base given or the one that the report names.
pub(crate) fn again(report: &GateReport, base: Option<&Path>) -> Result<Value> {
    Ok(serde_json::to_value(statement(report, base.or(base_of(report)))?)?)
}
