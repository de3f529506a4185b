//! `report.json`: the audit as it is, written so that a reader never sees half a file, and its JSON Schema.
//!
//! Numbers keep every digit (the shortest decimal that reads back as the same `f64`). What could not be read back is
//! not written: JSON has no NaN, and an audit that holds one is refused by name instead of becoming `null` in silence.

use std::path::Path;

use super::{Audit, SCHEMA};
use crate::DocumentError;

/// The JSON Schema of [`Audit`]. `report.schema.json` in this crate's folder is a copy that a test holds to it;
/// `UPDATE_SCHEMA=1 cargo test -p lcr-documents --test json` writes the copy anew.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Audit).to_value()
}

/// The audit as pretty JSON that is known to read back.
pub fn to_string(audit: &Audit) -> Result<String, DocumentError> {
    let mut text = serde_json::to_string_pretty(audit).map_err(DocumentError::Serialize)?;
    text.push('\n');
    if let Err(source) = serde_json::from_str::<Audit>(&text) {
        // The line says which field it is, which the error alone does not.
        let line = text.lines().nth(source.line().saturating_sub(1)).unwrap_or_default().trim();
        return Err(DocumentError::NotFinite { line: line.to_owned(), source });
    }
    Ok(text)
}

/// Writes the audit to `path`: aside in the same folder, then renamed, so that the file is either the old or the new
/// one.
pub fn write(audit: &Audit, path: &Path) -> Result<(), DocumentError> {
    crate::write::replace(path, to_string(audit)?.as_bytes()).map_err(|source| DocumentError::io(path, source))
}

/// Reads a report back.
pub fn read(path: &Path) -> Result<Audit, DocumentError> {
    parse(path, &std::fs::read(path).map_err(|source| DocumentError::io(path, source))?)
}

/// The report that bytes read from `path` hold.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Audit, DocumentError> {
    let audit: Audit =
        serde_json::from_slice(bytes).map_err(|source| DocumentError::Parse { path: path.to_owned(), source })?;
    if audit.schema == SCHEMA {
        Ok(audit)
    } else {
        Err(DocumentError::Schema { path: path.to_owned(), expected: SCHEMA, found: audit.schema })
    }
}
