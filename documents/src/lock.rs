//! One process at a time writes into a folder.
//!
//! The system's own file lock decides, because it goes away with the process however that ends: a killed run leaves the
//! file `.lock` and the number of a process in it, but no lock, and nobody has to judge whether that number has been
//! given away since. The number is there for people.

use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::Path;

use crate::write::open_kept;

/// Name of the lock file.
pub const LOCK: &str = ".lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Process that held the lock and ended without giving it back, where there was one.
    pub stale: Option<u32>,
}

/// What came of trying.
#[derive(Debug)]
pub enum Attempt {
    /// The folder is this process's.
    Held(Lock),
    /// Another process has it, of this number where that can be told.
    Taken(Option<u32>),
}

impl Lock {
    /// Takes a folder for this process, if no other has it.
    pub fn acquire(folder: &Path) -> Result<Attempt> {
        let mut file = open_kept(&folder.join(LOCK))?;
        if !file.metadata()?.is_file() {
            // Reading a pipe would wait for ever.
            return Err(Error::new(ErrorKind::InvalidInput, "no plain file stands where the lock belongs"));
        }
        let is_taken = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let mut text = String::new();
        // Where locks are mandatory a held file cannot be read; the number is then unknown, no more.
        let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
        let process: Option<u32> = text.trim().parse().ok();
        if is_taken {
            return Ok(Attempt::Taken(process));
        }
        rewrite(&mut file, &format!("{}\n", std::process::id()))?;
        Ok(Attempt::Held(Self { file, stale: process }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays, empty: were it removed, a process that has just opened it would lock a file that no other can
        // see.
        let _ = rewrite(&mut self.file, "");
        let _ = self.file.unlock();
    }
}

fn rewrite(file: &mut File, text: &str) -> Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        let Attempt::Held(first) = Lock::acquire(folder.path()).expect("a lock") else { panic!("taken by nobody") };
        assert_eq!(first.stale, None);
        assert!(
            matches!(Lock::acquire(folder.path()).expect("an answer"), Attempt::Taken(Some(own)) if own == std::process::id())
        );
        drop(first);
        assert!(
            matches!(Lock::acquire(folder.path()).expect("a lock"), Attempt::Held(second) if second.stale.is_none())
        );
    }

    #[test]
    fn who_died_without_giving_it_back_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(LOCK), "123\n").expect("written");
        assert!(
            matches!(Lock::acquire(folder.path()).expect("a lock"), Attempt::Held(lock) if lock.stale == Some(123))
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join(LOCK)).expect("a link");
        assert!(Lock::acquire(folder.path()).is_err());
        assert!(!target.exists());
    }
}
