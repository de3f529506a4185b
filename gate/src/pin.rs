//! Digests that anyone can recompute with `sha256sum`.

use std::io::Read;
use std::path::Path;

use lcr_documents::DocumentError;
use lcr_documents::digest::{hexadecimal, sha256};
use sha2::{Digest, Sha256};

/// SHA-256 of bytes, hexadecimal.
pub fn digest_of_bytes(bytes: &[u8]) -> String {
    sha256(bytes)
}

/// SHA-256 over the lines `<sha256>  <name>`, as `sha256sum` writes them.
pub(super) fn digest_of_lines<'a>(lines: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut whole = Sha256::new();
    for (sha256, name) in lines {
        whole.update(format!("{sha256}  {name}\n"));
    }
    hexadecimal(&whole.finalize())
}

/// SHA-256 over the lines `<sha256>  <name>` of the files of a folder whose names are `wanted`, sorted by name; `None`
/// where there is no such file.
pub fn digest_of_folder(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<String>, DocumentError> {
    let entries = fs_err::read_dir(folder).map_err(|source| DocumentError::io(folder, source))?;
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| DocumentError::io(folder, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted(&name) && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort();
    let mut whole = Sha256::new();
    for name in &names {
        whole.update(format!("{}  {name}\n", digest_of_file(&folder.join(name))?));
    }
    Ok((!names.is_empty()).then(|| hexadecimal(&whole.finalize())))
}

/// SHA-256 of a file's content, hexadecimal.
pub fn digest_of_file(path: &Path) -> Result<String, DocumentError> {
    let fault = |source| DocumentError::io(path, source);
    let mut file = fs_err::File::open(path).map_err(fault)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut block).map_err(fault)?;
        let Some(filled) = block.get(..count).filter(|filled| !filled.is_empty()) else { break };
        hasher.update(filled);
    }
    Ok(hexadecimal(&hasher.finalize()))
}
