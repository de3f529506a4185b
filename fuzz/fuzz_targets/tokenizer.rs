//! Tokenizers: held against a base's by the scan, then opened, used both ways and shown.
#![no_main]

use lcr_fuzz::{Folder, allow_caught_panics, guarded, seeds};
use lcr_model::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: allow_caught_panics(), |bytes: &[u8]| {
    guarded(|| run(bytes));
});

fn run(bytes: &[u8]) {
    let files = [
        ("adapter_config.json", b"{}".as_slice()),
        ("tokenizer.json", bytes),
        ("tokenizer_config.json", br#"{"bos_token": "<s>", "add_bos_token": true, "add_eos_token": true}"#),
    ];
    let base = [("tokenizer.json", seeds::TOKENIZER.as_bytes())];
    let (Some(folder), Some(base)) = (Folder::with(&files), Folder::with(&base)) else { return };
    folder.scans(Some(base.path()));
    let Ok(Some(tokenizer)) = Tokenizer::open(folder.path()) else { return };
    for text in ["", "a user said: \u{e9}\u{1f600} 12", "<s><s>"] {
        let Ok(ids) = tokenizer.encode(text, true) else { continue };
        assert_eq!(tokenizer.encode(text, true).ok().as_ref(), Some(&ids), "two encodings differ");
        let _ = tokenizer.decode(&ids);
        for id in ids {
            tokenizer.token_text(id);
        }
    }
    tokenizer.token_text(u32::MAX);
    let _ = tokenizer.decode(&[0, 1, u32::MAX]);
    tokenizer.vocab_size();
}
