//! A file of JSON lines that only ever grows, but for the moment of a resume.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a log could not be opened, cut or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is shorter than a checkpoint says it was.
    #[error(
        "{} has {found} bytes, but had {recorded} when the checkpoint was written: something cut it since. Restore the \
         file, or resume from an older checkpoint",
        path.display()
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes it had.
        recorded: u64,
    },
    /// A length to return to lies within a line.
    #[error(
        "byte {length} of {} is not the end of a line: the checkpoint belongs to another file, or somebody edited this \
         one",
        path.display()
    )]
    WithinLine {
        /// The file.
        path: PathBuf,
        /// The length asked for.
        length: u64,
    },
    /// A record holds NaN or an infinity.
    #[error("a line of {} would not read back: {reason}. A number of this step is not finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Which field, as far as it is known.
        reason: String,
    },
    /// A record could not become JSON at all.
    #[error("a line of {} cannot be written as JSON: {source}", path.display())]
    Serialize {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

/// Appends records to a file, one line each.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
    length: u64,
}

impl JsonLines {
    /// An empty file; what was in it is gone.
    pub fn create(path: &Path) -> Result<Self, LogError> {
        Self::truncated(path, 0)
    }

    /// Opens a file as it was when it had `length` bytes: what came later is cut off.
    pub fn truncated(path: &Path, length: u64) -> Result<Self, LogError> {
        let mut lines = Self::open(path)?;
        if lines.length < length {
            return Err(LogError::TooShort { path: path.to_path_buf(), found: lines.length, recorded: length });
        }
        if length > 0 && lines.byte_before(length)? != b'\n' {
            return Err(LogError::WithinLine { path: path.to_path_buf(), length });
        }
        lines.cut(length)?;
        Ok(lines)
    }

    /// Opens a file of whatever length (none at all is empty) and cuts a last line that was not finished.
    pub fn repaired(path: &Path) -> Result<Self, LogError> {
        let mut lines = Self::open(path)?;
        let mut end = lines.length;
        let mut block = vec![0; 1 << 16];
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let part = block.get_mut(..(end - start) as usize).unwrap_or_default();
            let fault = LogError::io("read", path);
            lines.file.seek(SeekFrom::Start(start)).map_err(&fault)?;
            lines.file.read_exact(part).map_err(&fault)?;
            if let Some(offset) = part.iter().rposition(|byte| *byte == b'\n') {
                end = start + offset as u64 + 1;
                break;
            }
            end = start;
        }
        lines.cut(end)?;
        Ok(lines)
    }

    fn open(path: &Path) -> Result<Self, LogError> {
        let fault = LogError::io("open", path);
        let file = lcr_documents::write::open_kept(path).map_err(&fault)?;
        let length = file.metadata().map_err(&fault)?.len();
        Ok(Self { path: path.to_path_buf(), file, length })
    }

    fn byte_before(&mut self, position: u64) -> Result<u8, LogError> {
        let fault = LogError::io("read", &self.path);
        let mut byte = [0];
        self.file.seek(SeekFrom::Start(position.saturating_sub(1))).map_err(&fault)?;
        self.file.read_exact(&mut byte).map_err(&fault)?;
        Ok(byte[0])
    }

    fn cut(&mut self, length: u64) -> Result<(), LogError> {
        let fault = LogError::io("truncate", &self.path);
        // A device has no length to cut.
        if length < self.length {
            self.file.set_len(length).map_err(&fault)?;
        }
        self.file.seek(SeekFrom::Start(length)).map_err(&fault)?;
        self.length = length;
        Ok(())
    }

    /// Appends a record and hands it to the system. When that fails (disk full), the file is cut back to whole lines.
    ///
    /// The line is read back before it is written: a record that does not return equal to itself holds a number that
    /// JSON cannot carry.
    pub fn append<R: Serialize + DeserializeOwned + PartialEq>(&mut self, record: &R) -> Result<(), LogError> {
        let serialize = |source| LogError::Serialize { path: self.path.clone(), source };
        let mut line = serde_json::to_string(record).map_err(serialize)?;
        let not_finite = |reason: String| LogError::NotFinite { path: self.path.clone(), reason };
        match serde_json::from_str::<R>(&line) {
            Ok(read) if read == *record => {}
            Ok(_) => return Err(not_finite("a field that may be absent would be read as absent".to_owned())),
            Err(error) => return Err(not_finite(field_before(&line, error.column()))),
        }
        line.push('\n');
        if let Err(source) = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush()) {
            // The first failure is the one to report; a cut that fails as well leaves a line that a resume removes.
            let _ = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            return Err(LogError::Io { action: "append to", path: self.path.clone(), source });
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Waits until everything appended is on the disk, and returns the length: what a checkpoint records.
    pub fn sync(&self) -> Result<u64, LogError> {
        self.file.sync_data().map_err(LogError::io("sync", &self.path))?;
        Ok(self.length)
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Name of the last key that starts before `column` of a JSON line.
fn field_before(line: &str, column: usize) -> String {
    let head = line.get(..column).unwrap_or(line);
    let key = head.rfind("\":").and_then(|end| Some(head.get(head.get(..end)?.rfind('"')? + 1..end)?.to_owned()));
    key.map_or_else(
        || "a field that must be a number would be `null`".to_owned(),
        |key| format!("`{key}` would be `null`"),
    )
}
