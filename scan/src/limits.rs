//! Bounds that hold whatever the files claim.

/// Bounds of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files and folders walked in one adapter.
    pub entries: usize,
    /// Folders below the scanned one.
    pub depth: usize,
    /// Bytes of one file; a longer one is not read at all.
    pub file_bytes: u64,
    /// Bytes of a safetensors header. A thousand tensors take about 100 KB.
    pub header_bytes: u64,
    /// Bytes of a text that is parsed: JSON, templates.
    pub text_bytes: u64,
    /// Bytes of a chat template that is looked into; the longest published ones are about a tenth of this.
    pub template_bytes: u64,
    /// Bytes of a pickle that is walked.
    pub pickle_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000,
            depth: 16,
            file_bytes: 4 << 30,
            header_bytes: 8 << 20,
            text_bytes: 64 << 20,
            template_bytes: 256 << 10,
            pickle_bytes: 64 << 20,
        }
    }
}
