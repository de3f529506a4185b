//! The `__metadata__` of a safetensors header: a few short notes in honest files (`format: pt`), and room for anything
//! else.

use std::collections::BTreeMap;

use lcr_documents::characters::first_deceptive;

use crate::check::{Check, Observation};
use crate::json::shown;

/// Bytes of all keys and values together that need no explanation. Trainers that write their settings here take a few
/// KB.
const ORDINARY_BYTES: usize = 16 << 10;
/// A run of base64 or hexadecimal digits this long is data, not a note.
const ENCODED_RUN: usize = 512;
/// Text that belongs in a program, not in a note.
const CODE: [&str; 14] = [
    "__import__",
    "import os",
    "import subprocess",
    "os.system",
    "subprocess.",
    "eval(",
    "exec(",
    "#!/",
    "<script",
    "powershell",
    "curl ",
    "wget ",
    "base64.b64decode",
    "__reduce__",
];

/// Looks through a header's metadata.
pub(crate) fn observe(file: &str, metadata: &BTreeMap<String, String>, found: &mut Vec<Observation>) {
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ORDINARY_BYTES {
        let message = format!("{bytes} bytes of metadata in the header, where a few short notes are usual");
        found.push(Observation::new(Check::Metadata, file, message).at("__metadata__").measured(bytes as f64));
    }
    for (key, value) in metadata {
        if let Some(reason) = objection(key).or_else(|| objection(value)) {
            let message = format!("metadata `{}` {reason}: {}", shown(key), shown(value));
            found.push(Observation::new(Check::Metadata, file, message).at(format!("__metadata__.{}", shown(key))));
        }
    }
}

fn objection(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    if let Some(code) = CODE.iter().find(|code| lower.contains(*code)) {
        return Some(format!("holds `{code}`, as a program does"));
    }
    if first_deceptive(text).is_some() {
        return Some("holds control or text-direction characters".to_owned());
    }
    let longest = text.split(|character: char| !(character.is_ascii_alphanumeric() || "+/=_-".contains(character)));
    longest
        .map(str::len)
        .max()
        .filter(|run| *run >= ENCODED_RUN)
        .map(|run| format!("holds {run} characters of encoded data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(key: &str, value: &str) -> Vec<Observation> {
        let mut found = Vec::new();
        observe("a.safetensors", &BTreeMap::from([(key.to_owned(), value.to_owned())]), &mut found);
        found
    }

    #[test]
    fn honest_notes_pass() {
        assert!(observed("format", "pt").is_empty());
        assert!(observed("ss_training_comment", "rank 8, three epochs; see README").is_empty());
    }

    #[test]
    fn code_hidden_characters_and_data_are_seen() {
        assert_eq!(observed("note", "__import__('os').system('id')").len(), 1);
        assert_eq!(observed("note", "a\u{202e}b").len(), 1);
        assert_eq!(observed("blob", &"QUJD".repeat(200)).len(), 1);
        assert_eq!(observed("long", &"a b ".repeat(10_000)).len(), 1);
    }
}
