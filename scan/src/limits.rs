//! Bounds that hold whatever the files claim.

use lcr_formats::adapter::Bounds;

/// Bounds of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files and folders walked in one adapter.
    pub entries: usize,
    /// Folders below the scanned one.
    pub depth: usize,
    /// Bytes of one file; a longer one is not read at all.
    pub file_bytes: u64,
    /// Bytes of all files of an adapter.
    pub total_bytes: u64,
    /// Links that are followed in one adapter.
    pub links: usize,
    /// Elements of one module's tensors that are measured, and of those that are in memory at once.
    pub elements: usize,
    /// Rank up to which a change is decomposed.
    pub rank: usize,
    /// Bytes of a safetensors header. A thousand tensors take about 100 KB.
    pub header_bytes: u64,
    /// Bytes of a JSON file; what is not kept of it costs no memory.
    pub text_bytes: u64,
    /// Bytes of a config that holds chat templates.
    pub settings_bytes: u64,
    /// Bytes of a chat template that is looked into; the longest published ones are about a tenth of this.
    pub template_bytes: u64,
    /// Bytes of a pickle that is walked.
    pub pickle_bytes: u64,
}

impl Limits {
    /// Those within which an adapter's tensors are read.
    pub fn of_adapters(&self) -> Bounds {
        Bounds { file_bytes: self.file_bytes, header_bytes: self.header_bytes, elements: self.elements }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000,
            depth: 16,
            file_bytes: 4 << 30,
            total_bytes: 6 << 30,
            links: 32,
            elements: 12 << 20,
            rank: 1024,
            header_bytes: 8 << 20,
            text_bytes: 64 << 20,
            settings_bytes: 16 << 20,
            template_bytes: 256 << 10,
            pickle_bytes: 64 << 20,
        }
    }
}
