//! Zip archives, as torch and numpy write them: the directory, the members, and the pickles among them.
#![no_main]

use lcr_fuzz::Folder;
use lcr_scan::Check;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    // Anything else is for the other targets.
    if !bytes.starts_with(b"PK") {
        return Corpus::Reject;
    }
    let Some(folder) = Folder::with(&[("adapter_model.bin", bytes)]) else { return Corpus::Reject };
    for scan in folder.scans(None) {
        let mut about = scan.observations.iter().filter(|seen| seen.file.starts_with("adapter_model.bin"));
        let spoken = about.any(|seen| !matches!(seen.check, Check::NoAdapter | Check::DisguisedFile));
        assert!(spoken, "nothing is said of an archive");
    }
    Corpus::Keep
});
