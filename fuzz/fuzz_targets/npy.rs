//! Arrays of numpy: the header's dictionary, and pickles behind arrays of objects.
#![no_main]

use lcr_fuzz::Folder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(folder) = Folder::with(&[("adapter_config.json", b"{}"), ("weights.npy", bytes)]) else { return };
    folder.scans(None);
});
