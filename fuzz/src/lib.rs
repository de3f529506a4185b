//! What the fuzz targets share: folders of hostile files, and what must hold of every scan of one.

pub mod outputs;
pub mod seeds;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lcr_scan::{Artifact, Limits, Scan, ScanOptions, discover, scan};
use tempfile::TempDir;

/// Where the system keeps files in memory.
const MEMORY: &str = "/dev/shm";
/// The message of the last panic, for [`guarded`].
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// A folder of files that lasts for one input.
#[derive(Debug)]
pub struct Folder {
    at: TempDir,
}

impl Folder {
    /// A folder with these files; `None` where the machine has no room for it, which is no finding.
    pub fn with(files: &[(&str, &[u8])]) -> Option<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("fuzz-");
        let at = builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir()).ok()?;
        let folder = Self { at };
        for (name, bytes) in files {
            folder.put(name, bytes)?;
        }
        Some(folder)
    }

    /// Writes one more file; `name` may lead through folders.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Option<()> {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent()?).ok()?;
        std::fs::File::create(path).ok()?.write_all(bytes).ok()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.at.path()
    }

    /// Scans whatever is discovered in the folder, and the folder as an adapter's where nothing is.
    pub fn scans(&self, base: Option<&Path>) -> Vec<Scan> {
        let limits = Limits::default();
        let artifacts = discover(&[self.path().to_path_buf()], &limits)
            .unwrap_or_else(|_| vec![Artifact::Adapter(self.path().to_path_buf())]);
        let options = ScanOptions { base: base.map(PathBuf::from), limits };
        artifacts.iter().map(|artifact| self.checked(artifact, &options)).collect()
    }

    /// One scan, and what must hold of it whatever the files are.
    fn checked(&self, artifact: &Artifact, options: &ScanOptions) -> Scan {
        let first = scan(artifact, options);
        let json = serde_json::to_string(&first).expect("a scan can be written");
        let again = serde_json::to_string(&scan(artifact, options)).expect("a scan can be written");
        assert_eq!(json, again, "two scans of the same bytes differ");
        let back: Scan = serde_json::from_str(&json).expect("a scan can be read back");
        assert_eq!(first, back, "a scan is not what was written of it");
        let folder = self.path().to_string_lossy();
        assert!(!json.contains(folder.as_ref()), "the scan names the folder it was made in: {json}");
        for seen in &first.observations {
            let shown = !seen.message.chars().any(char::is_control);
            assert!(shown, "a control character in a message: {:?}", seen.message);
        }
        first
    }
}

/// Panics that the product catches itself are no findings; those that [`guarded`] catches are.
///
/// For the init code of a target: it undoes the hook by which libfuzzer-sys ends the process at any panic.
pub fn allow_caught_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = panic.to_string();
        }
    }));
}

/// Runs the body of a target and ends the process at a panic that comes out of it.
pub fn guarded<T>(body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        let last = LAST_PANIC.lock().map(|last| last.clone()).unwrap_or_default();
        eprintln!("{last}");
        std::process::abort()
    })
}

/// What of the input comes before and after its first line break.
pub fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}
