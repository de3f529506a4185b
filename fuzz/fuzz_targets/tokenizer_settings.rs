//! A tokenizer's files against a base's: whatever they are, the comparison ends, and a tokenizer is not unlike itself.
#![no_main]

use lcr_fuzz::{Folder, seeds};
use libfuzzer_sys::fuzz_target;

/// Files that are compared by what they say.
const NAMES: [&str; 6] = [
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let Some(name) = NAMES.get(usize::from(*choice) % NAMES.len()) else { return };
    // The other half, where there is one, is the base's.
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (own, base) = bytes.split_at(cut);
    let base = base.get(1..).unwrap_or_default();
    let files = |bytes| [("adapter_config.json", b"{}".as_slice()), (*name, bytes)];
    let others = [("tokenizer.json", seeds::TOKENIZER.as_bytes()), (*name, base)];
    let (Some(folder), Some(other)) = (Folder::with(&files(own)), Folder::with(&others)) else { return };
    folder.scans(None);
    folder.scans(Some(other.path()));
    // Blanks at the end change the bytes, and nothing that a JSON file says; a list of merges is lines.
    if name.ends_with(".json") && serde_json::from_slice::<serde_json::Value>(own).is_ok_and(|value| value.is_object())
    {
        let Some(again) = Folder::with(&files(&[own, b" "].concat())) else { return };
        for seen in again.scans(Some(folder.path())).into_iter().flat_map(|scan| scan.observations) {
            let compares = ["tokenizer-differs", "tokenizer-settings", "added-tokens"].contains(&seen.check.code());
            let was_read = !seen.message.contains("can be read") && !seen.message.contains("is larger than");
            assert!(!compares || !was_read, "unlike itself: {}", seen.message);
        }
    }
});
