//! Settings: the search for what makes a loader run code, and templates inside of JSON.
#![no_main]

use lcr_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let files = [("adapter_config.json", b"{}".as_slice()), ("tokenizer_config.json", bytes), ("config.json", bytes)];
    let Some(folder) = Folder::with(&files) else { return };
    folder.scans(None);
});
