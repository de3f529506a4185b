//! SHA-256 of what a run depends on and of what it wrote, in hexadecimal as `sha256sum` prints it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::StateError;

/// Digest of bytes.
pub fn digest_bytes(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// Digest of a file and its length in bytes.
pub fn digest_file(path: &Path) -> Result<(String, u64), StateError> {
    let fault = StateError::read(path);
    let mut file = File::open(path).map_err(&fault)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let count = file.read(&mut block).map_err(&fault)?;
        let Some(filled) = block.get(..count).filter(|filled| !filled.is_empty()) else {
            return Ok((hexadecimal(hasher), length));
        };
        hasher.update(filled);
        length += count as u64;
    }
}

/// Digest of a value's JSON with the keys in the order of its type.
pub fn digest_json(value: &impl Serialize) -> Result<String, StateError> {
    serde_json::to_vec(value).map(|bytes| digest_bytes(&bytes)).map_err(StateError::Serialize)
}

fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
