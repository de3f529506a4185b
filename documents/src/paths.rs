//! Paths as text, such that no two have the same.
//!
//! A path is bytes, and need not be text. What `display` makes of two that are not may be equal; reports, policies and
//! results that go by it would then take one for the other.

use std::fmt::Write;
use std::path::Path;

/// A path as text: itself where it is UTF-8, and otherwise with `\xff` for a byte that is no text.
///
/// A path that holds such an escape itself has its backslashes escaped (`\x5c`), so that different paths are different
/// texts.
///
/// ```
/// # #[cfg(unix)] {
/// use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
/// use lcr_documents::paths::shown;
/// assert_eq!(shown(Path::new("adapters/a")), "adapters/a");
/// assert_eq!(shown(Path::new(OsStr::from_bytes(b"adapters/a\xff"))), "adapters/a\\xff");
/// # }
/// ```
pub fn shown(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    match path.to_str() {
        Some(text) if !has_escape(text) => text.to_owned(),
        _ => escaped(bytes),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\x5c"));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a text holds what [`escaped`] writes for a byte.
fn has_escape(text: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    text.as_bytes().windows(4).any(|window| match window {
        [b'\\', b'x', high, low] => is_digit(high) && is_digit(low),
        _ => false,
    })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn different_paths_are_different_texts() {
        // All words of up to six letters over what escapes are made of.
        let letters = [b'\\', b'x', b'5', b'c', b'f', 0xff];
        let mut words: Vec<Vec<u8>> = vec![Vec::new()];
        let mut last = words.clone();
        for _ in 0..6 {
            last = last.iter().flat_map(|word| letters.map(|letter| [word.as_slice(), &[letter]].concat())).collect();
            words.extend(last.iter().cloned());
        }
        let texts: BTreeSet<String> = words.iter().map(|word| shown(Path::new(OsStr::from_bytes(word)))).collect();
        assert_eq!(texts.len(), words.len());
    }

    #[test]
    fn text_stays_as_it_is() {
        for text in ["a/b c", "a\\b", "C:\\xy", "ä\u{fffd}", "\\x5C"] {
            assert_eq!(shown(Path::new(text)), text);
        }
        assert_eq!(shown(Path::new("a\\xff")), "a\\x5cxff");
    }
}
