//! One process at a time writes into a run's folder.
//!
//! The system's own file lock decides, because it goes away with the process however that ends: a killed run leaves the file
//! `.lock` and the number of a process in it, but no lock, and nobody has to judge whether that number has been given away
//! since. The number is there for people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::StateError;

/// Name of the lock file.
const LOCK: &str = ".lock";

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// Process that held the lock and ended without giving it back, where there was one.
    pub(super) stale: Option<u32>,
}

impl Lock {
    pub(super) fn acquire(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(LOCK);
        let fault = StateError::write("lock", &path);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(&fault)?;
        let held = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(source)) => return Err(fault(source)),
        };
        let mut text = String::new();
        // Where locks are mandatory a held file cannot be read; the number is then unknown, no more.
        let _ = file.read_to_string(&mut text);
        let process: Option<u32> = text.trim().parse().ok();
        if held {
            let holder = process.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"));
            return Err(StateError::Locked { folder: folder.to_path_buf(), holder });
        }
        rewrite(&mut file, &format!("{}\n", std::process::id())).map_err(&fault)?;
        Ok(Self { file, stale: process })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays, empty: were it removed, a process that has just opened it would lock a file that no other can see.
        let _ = rewrite(&mut self.file, "");
        let _ = self.file.unlock();
    }
}

fn rewrite(file: &mut File, text: &str) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}
