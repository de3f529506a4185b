//! TensorBoard event files: the charts of a run for those who look at them there.
//!
//! The format is small enough to write by hand: a file of framed records (length, its masked CRC-32C, payload, its
//! masked CRC-32C, all little-endian), each payload one `Event` message of protocol buffers. The time is an argument,
//! so that equal runs can write equal files, and a file can be cut back to a length and continued, which is what
//! resuming needs.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::log::LogError;

/// First record of every file, which says how the others are to be read.
const FILE_VERSION: &str = "brain.Event:2";
/// TensorBoard finds a file by this prefix.
const PREFIX: &str = "events.out.tfevents.";
/// Ends the names of files written here.
const SUFFIX: &str = ".lcr";

/// Appends scalars to an event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    name: String,
    file: File,
    length: u64,
}

/// Whether a file of this name was written by an [`EventWriter`].
pub fn is_event_file(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

impl EventWriter {
    /// A new file in `folder`, named after `wall_time` (seconds since 1970), which its first record bears.
    pub fn create(folder: &Path, wall_time: f64) -> Result<Self, LogError> {
        let path = folder.join(format!("{PREFIX}{:010}{SUFFIX}", wall_time.max(0.0) as u64));
        let mut writer = Self::open(&path)?;
        writer.cut(0)?;
        writer.record(&version_event(wall_time))?;
        Ok(writer)
    }

    /// Opens a file as it was when it had `length` bytes: what came later is cut off.
    pub fn truncated(path: &Path, length: u64) -> Result<Self, LogError> {
        let mut writer = Self::open(path)?;
        if writer.length < length {
            return Err(LogError::TooShort { path: path.to_path_buf(), found: writer.length, recorded: length });
        }
        writer.cut(length)?;
        Ok(writer)
    }

    fn open(path: &Path) -> Result<Self, LogError> {
        let fault = LogError::io("open", path);
        let file = lcr_documents::write::open_kept(path).map_err(&fault)?;
        let length = file.metadata().map_err(&fault)?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { path: path.to_path_buf(), name, file, length })
    }

    fn cut(&mut self, length: u64) -> Result<(), LogError> {
        let fault = LogError::io("truncate", &self.path);
        if length < self.length {
            self.file.set_len(length).map_err(&fault)?;
        }
        self.file.seek(SeekFrom::Start(length)).map_err(&fault)?;
        self.length = length;
        Ok(())
    }

    /// Appends one event that holds all `values` (tag, number) of a step. Charts are f32: what f32 cannot hold becomes
    /// infinite there, and NaN stays NaN, both of which TensorBoard shows as such.
    pub fn scalars(&mut self, wall_time: f64, step: u64, values: &[(String, f64)]) -> Result<(), LogError> {
        if values.is_empty() {
            return Ok(());
        }
        self.record(&scalar_event(wall_time, step, values))
    }

    fn record(&mut self, event: &[u8]) -> Result<(), LogError> {
        let framed = frame(event);
        if let Err(source) = self.file.write_all(&framed).and_then(|()| self.file.flush()) {
            // The first failure is the one to report; half a record at the end is what every reader expects of a killed
            // run.
            let _ = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            return Err(LogError::Io { action: "append to", path: self.path.clone(), source });
        }
        self.length += framed.len() as u64;
        Ok(())
    }

    /// Waits until everything appended is on the disk, and returns the length.
    pub fn sync(&self) -> Result<u64, LogError> {
        self.file.sync_data().map_err(LogError::io("sync", &self.path))?;
        Ok(self.length)
    }

    /// Its name in the folder.
    pub fn file_name(&self) -> &str {
        &self.name
    }
}

/// Length, checksum, payload, checksum.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut framed = Vec::with_capacity(payload.len() + 16);
    framed.extend(length);
    framed.extend(masked(crc32c(&length)).to_le_bytes());
    framed.extend(payload);
    framed.extend(masked(crc32c(payload)).to_le_bytes());
    framed
}

/// `Event { wall_time = 1: double, file_version = 3: string }`.
fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    bytes(&mut event, 3, FILE_VERSION.as_bytes());
    event
}

/// `Event { wall_time = 1: double, step = 2: int64, summary = 5: { value = 1: { tag = 1: string, simple_value = 2:
/// float } } }`.
fn scalar_event(wall_time: f64, step: u64, values: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, tag.as_bytes());
        key(&mut entry, 2, FIXED_32);
        entry.extend((*value as f32).to_le_bytes());
        bytes(&mut summary, 1, &entry);
    }
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    key(&mut event, 2, VARINT);
    varint(&mut event, step);
    bytes(&mut event, 5, &summary);
    event
}

/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, FIXED_64);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(out, field, DELIMITED);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// A checksum as the format stores it: rotated and shifted, so that a checksum of data that hold checksums stays
/// useful.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli): reflected polynomial 0x82f63b78, all ones before and after.
fn crc32c(data: &[u8]) -> u32 {
    let step = |state: u32, byte: &u8| {
        let index = (state as u8 ^ byte) as usize;
        TABLE.get(index).copied().unwrap_or_default() ^ (state >> 8)
    };
    !data.iter().fold(!0, step)
}

/// The remainder of each byte.
static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = if remainder & 1 == 1 { (remainder >> 1) ^ 0x82f6_3b78 } else { remainder >> 1 };
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests;
