//! Pickles: whatever the bytes are, they are walked within bounds, and the scan says that a pickle is there.
#![no_main]

use lcr_fuzz::Folder;
use lcr_scan::Check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(folder) = Folder::with(&[("adapter_model.bin", bytes)]) else { return };
    for scan in folder.scans(None) {
        let mut about = scan.observations.iter().filter(|seen| seen.file.starts_with("adapter_model.bin"));
        let spoken = about.any(|seen| seen.check != Check::NoAdapter);
        assert!(spoken || bytes.is_empty(), "nothing is said of a file that a loader would unpickle");
    }
});
