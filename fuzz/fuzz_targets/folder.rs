//! Several files of an adapter's folder at once, from the scan to the outputs of the gate.
//!
//! The input is a row of files: the number of a name, a length in two bytes, the content.
#![no_main]

use lcr_fuzz::{Folder, outputs, seeds};
use lcr_gate::policy::Policy;
use lcr_gate::{Provenance, ScannedAdapter, judge};
use libfuzzer_sys::fuzz_target;

/// Names that a file may have; the first ones are in the seeds by their number.
const NAMES: [&str; 20] = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "adapters.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "chat_template.jinja",
    "added_tokens.json",
    "modeling.py",
    "libx.so",
    "checkpoint-1/adapter_config.json",
    "checkpoint-1/adapter_model.safetensors",
    "0000100_adapters.safetensors",
    "weights.npz",
    "config.json",
    "special_tokens_map.json",
    "additional_chat_templates/tool.jinja",
    "name\u{202e}gpj.exe",
    "no extension",
];

fuzz_target!(|bytes: &[u8]| {
    let base = [("tokenizer.json", seeds::TOKENIZER.as_bytes()), ("chat_template.jinja", b"{{ messages }}".as_slice())];
    let (Some(folder), Some(base)) = (Folder::with(&[]), Folder::with(&base)) else { return };
    let mut rest = bytes;
    while let Some(([name, low, high], content)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(content.len());
        let (content, after) = content.split_at(length);
        if folder.put(NAMES[usize::from(*name) % NAMES.len()], content).is_none() {
            return;
        }
        rest = after;
    }
    let policy = Policy::default();
    for base in [None, Some(base.path())] {
        let subjects = folder.scans(base).into_iter().enumerate().map(|(index, scan)| ScannedAdapter {
            path: format!("adapters/{index}"),
            scan,
            audit: None,
            not_compared: None,
            error: None,
        });
        let pins = Provenance { date: "2026-02-28".to_owned(), ..Provenance::default() };
        outputs::check(&judge(subjects.collect(), &policy, pins));
    }
});
