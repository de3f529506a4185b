//! Chat templates: followed by the scan, alone and against a base's, then rendered within bounds.
//!
//! A zero byte parts the template from the base's.
#![no_main]

use lcr_fuzz::{Folder, allow_caught_panics, guarded, seeds};
use lcr_formats::chat_template::ChatMessage;
use lcr_model::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

/// Far above what the guard's allowance lets a template of a short conversation write.
const LONGEST: usize = 64 << 20;

fuzz_target!(init: allow_caught_panics(), |bytes: &[u8]| {
    guarded(|| run(bytes));
});

fn run(bytes: &[u8]) {
    let (own, base) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, b"{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}".as_slice()),
    };
    let files = [
        ("adapter_config.json", b"{}".as_slice()),
        ("chat_template.jinja", own),
        ("tokenizer.json", seeds::TOKENIZER.as_bytes()),
        ("tokenizer_config.json", br#"{"bos_token": "<s>", "eos_token": "</s>"}"#),
    ];
    let Some(folder) = Folder::with(&files) else { return };
    let Some(known) = Folder::with(&[("chat_template.jinja", base)]) else { return };
    folder.scans(None);
    folder.scans(Some(known.path()));
    let Ok(Some(tokenizer)) = Tokenizer::open(folder.path()) else { return };
    let message = |role: &str, content: &str| ChatMessage { role: role.to_owned(), content: content.to_owned() };
    let conversation = [message("system", "Be brief."), message("user", "a?"), message("assistant", "b")];
    let first = tokenizer.render_chat(&conversation, true);
    let again = tokenizer.render_chat(&conversation, true);
    match (first, again) {
        (Ok(first), Ok(again)) => {
            assert_eq!(first, again, "two renderings differ");
            assert!(first.len() < LONGEST, "{} bytes were written", first.len());
        }
        (Err(first), Err(again)) => assert_eq!(first.to_string(), again.to_string(), "two refusals differ"),
        _ => panic!("rendering fails only sometimes"),
    }
}
