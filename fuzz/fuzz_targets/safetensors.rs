//! safetensors: the header read strictly, every tensor within the file, and the adapter made of them.
#![no_main]

use lcr_fuzz::{Folder, seeds};
use lcr_formats::adapter::Adapter;
use lcr_formats::checkpoint::SafetensorsFile;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

const NAME: &str = "adapter_model.safetensors";

fuzz_target!(|bytes: &[u8]| {
    let files = [("adapter_config.json", seeds::CONFIG.as_bytes()), (NAME, bytes)];
    let Some(folder) = Folder::with(&files) else { return };
    if let Ok(file) = SafetensorsFile::open(&folder.path().join(NAME)) {
        let mut claimed = 0;
        for tensor in file.tensors() {
            claimed += tensor.bytes().len();
            assert_eq!(tensor.is_empty(), tensor.len() == 0);
            assert!(tensor.bytes().len() <= bytes.len());
            assert_eq!(tensor.to_f32().len(), tensor.len());
            assert_eq!(tensor.to_finite_f32().is_err(), tensor.to_f32().iter().any(|value| !value.is_finite()));
        }
        assert!(claimed <= bytes.len(), "tensors share bytes");
    }
    if let Ok(adapter) = Adapter::open(folder.path()) {
        adapter.summary();
    }
    folder.scans(None);
});

// Most changes of the header change its length: half of the time the first eight bytes are made to agree again.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    let end = data[..size].iter().rposition(|byte| *byte == b'}');
    if let (Some(end), true) = (end.filter(|end| *end >= 8), seed % 2 == 0) {
        data[..8].copy_from_slice(&(end as u64 + 1 - 8).to_le_bytes());
    }
    size
});
