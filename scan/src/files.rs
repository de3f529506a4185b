//! Files of strangers, as they are kept: what a report says of one, and what a check needs of one that was read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use lcr_documents::characters::first_deceptive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive;
use crate::check::{Check, Observation};
use crate::digest;
use crate::limits::Limits;

/// Bytes looked at to tell a file's kind.
pub(crate) const PREFIX_BYTES: u64 = 4096;

/// One file of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// Path relative to the scanned folder, parts joined by `/`.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of the content, hexadecimal; empty where the file was not read.
    pub sha256: String,
}

/// A file that can be read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: FileRecord,
    pub(crate) path: PathBuf,
    /// Its first bytes.
    pub(crate) prefix: Vec<u8>,
    /// Whether an archive's directory stands at its end, though it begins like something else.
    pub(crate) ends_like_archive: bool,
    /// What it has in common with other names of the same content, where it has others.
    pub(crate) shared: Option<usize>,
}

/// Something in the folder that was not read. It belongs to the folder's digest all the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unread {
    /// Path relative to the scanned folder, parts joined by `/`.
    pub(crate) path: String,
    /// `file`, `folder`, `link`, `pipe`, `socket`, `device`.
    pub(crate) kind: &'static str,
    /// Length of a file; zero of all else.
    pub(crate) bytes: u64,
    /// Where a link points, as it says itself; empty of all else. Bytes that are no printable ASCII are escaped.
    pub(crate) target: String,
}

impl Unread {
    pub(crate) fn new(path: &str, kind: &'static str, bytes: u64) -> Self {
        Self { path: path.to_owned(), kind, bytes, target: String::new() }
    }

    /// A link that was not followed.
    pub(crate) fn link(path: &str, at: &Path) -> Self {
        let target = std::fs::read_link(at).unwrap_or_default();
        let target = target.as_os_str().as_encoded_bytes().escape_ascii().to_string();
        Self { path: path.to_owned(), kind: "link", bytes: 0, target }
    }

    /// What a report says of it.
    pub(crate) fn record(&self) -> FileRecord {
        FileRecord { path: self.path.clone(), bytes: self.bytes, sha256: String::new() }
    }
}

/// Whether a name reads otherwise than it is: not UTF-8, or with characters that hide, move or steer.
pub(crate) fn is_deceptive_name(name: &Path) -> bool {
    name.to_str().is_none_or(|text| text.chars().any(char::is_control) || first_deceptive(text).is_some())
}

/// Digests a file and keeps its first bytes.
pub(crate) fn read(name: String, path: PathBuf, bytes: u64, limits: &Limits) -> Result<Found, Observation> {
    if bytes > limits.file_bytes {
        let message = format!("{bytes} bytes, more than the limit of {}; the file was not read", limits.file_bytes);
        return Err(Observation::new(Check::BeyondLimits, &name, message).measured(bytes as f64));
    }
    let mut prefix = Vec::new();
    let mut look = || {
        let mut file = File::open(&path)?;
        file.by_ref().take(PREFIX_BYTES).read_to_end(&mut prefix)?;
        let sha256 = digest::of_file(&mut file, limits.file_bytes)?;
        let ends_like_archive = archive::ends_like_one(&mut file)?;
        Ok((sha256, ends_like_archive))
    };
    match look() {
        Ok((sha256, ends_like_archive)) => {
            let record = FileRecord { path: name, bytes, sha256 };
            Ok(Found { record, path, prefix, ends_like_archive, shared: None })
        }
        Err(error) => {
            let error: std::io::Error = error;
            Err(Observation::new(Check::Unreadable, &name, format!("cannot be read: {error}")))
        }
    }
}

/// Reads at most `limit` bytes of a file. Room is made once, for what the file says of its length: a buffer that grows
/// is copied, and for that moment takes twice its memory.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let expected = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the first `limit` bytes of a file are these, read a piece at a time.
pub(crate) fn begins_with_all(path: &Path, mut bytes: &[u8], limit: u64) -> std::io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?.take(limit));
    loop {
        let piece = file.fill_buf()?;
        if piece.is_empty() {
            return Ok(bytes.is_empty());
        }
        match bytes.strip_prefix(piece) {
            Some(rest) => bytes = rest,
            None => return Ok(false),
        }
        let length = piece.len();
        file.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_from_longer_shorter_and_other_ones() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let content: Vec<u8> = (0..40_000_u32).map(|index| (index % 251) as u8).collect();
        std::fs::write(file.path(), &content).expect("written");
        let holds = |bytes: &[u8], limit| begins_with_all(file.path(), bytes, limit).expect("readable");
        assert!(holds(&content, u64::MAX) && holds(&content[..9000], 9000) && holds(&[], 0));
        assert!(!holds(&content[..39_999], u64::MAX) && !holds(&[&content[..], b"x"].concat(), u64::MAX));
        let mut other = content.clone();
        other[30_000] ^= 1;
        assert!(!holds(&other, u64::MAX) && !holds(&[], u64::MAX));
        assert_eq!(read_up_to(file.path(), 9000).expect("readable"), &content[..9000]);
    }
}
