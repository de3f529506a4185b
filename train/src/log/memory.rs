//! Memory of this process as Linux reports it; elsewhere nothing, not a guess.

use std::fs;

/// Memory of the process at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory that no file backs (`RssAnon`): what the program allocated, mapped weights not counted.
    pub anonymous: u64,
    /// Largest resident memory so far (`VmHWM`), mapped weights included.
    pub peak_resident: u64,
}

impl Memory {
    /// Memory of this process, where `/proc/self/status` says so.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kibibytes.checked_mul(1024)
        };
        Some(Self { anonymous: field("RssAnon:")?, peak_resident: field("VmHWM:")? })
    }
}

/// Keeps the largest anonymous memory: the kernel has a high-water mark for resident memory only, in which the mapped
/// weights hide everything else. Sample it where memory is at its highest.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryMeter {
    peak: Option<Memory>,
}

impl MemoryMeter {
    /// Looks at the process now.
    pub fn sample(&mut self) {
        self.add(Memory::now());
    }

    fn add(&mut self, now: Option<Memory>) {
        let Some(now) = now else { return };
        let before = self.peak.unwrap_or(now);
        self.peak = Some(Memory {
            anonymous: now.anonymous.max(before.anonymous),
            peak_resident: now.peak_resident.max(before.peak_resident),
        });
    }

    /// The largest values of all samples; nothing where the system does not report them.
    pub fn peak(&self) -> Option<Memory> {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_becomes_bytes() {
        let status = "Name:\tx\nVmHWM:\t    1024 kB\nVmRSS:\t     900 kB\nRssAnon:\t      12 kB\n";
        assert_eq!(Memory::parse(status), Some(Memory { anonymous: 12 << 10, peak_resident: 1 << 20 }));
        assert_eq!(Memory::parse("VmHWM:\t 1 kB\n"), None);
    }

    #[test]
    fn a_meter_keeps_the_larger_of_each() {
        let mut meter = MemoryMeter::default();
        assert_eq!(meter.peak(), None);
        meter.add(Some(Memory { anonymous: 5, peak_resident: 10 }));
        meter.add(Some(Memory { anonymous: 3, peak_resident: 20 }));
        meter.add(None);
        assert_eq!(meter.peak(), Some(Memory { anonymous: 5, peak_resident: 20 }));
    }

    /// 64 MiB that are written to must show.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_allocation_is_seen() {
        let before = Memory::now().unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = Memory::now().unwrap();
        assert!(after.peak_resident >= 64 << 20 && after.peak_resident >= before.peak_resident, "{after:?}");
        assert!(after.anonymous >= 60 << 20, "{after:?}");
        drop(block);
    }
}
