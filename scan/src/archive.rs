//! Archives: what kind they are, and what torch's and numpy's hold.
//!
//! Both write their files as zip: a pickle beside raw storages, or one member for each array. Those are looked into,
//! member by member and within fixed bounds; every other archive is named and left closed. Whatever would make an
//! archive behave differently for another reader is an observation of its own (see [`directory`]).

mod directory;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::check::{Check, Observation};
use crate::pickle::{self, Expected, shown};
use directory::Hazards;

/// Bytes of a member that are decompressed.
const MAX_MEMBER: u64 = 16 << 20;
/// Bytes of all members together that are decompressed.
const MAX_CONTENT: u64 = 64 << 20;
/// Bytes of the file that are read, compressed, for all that.
const MAX_READ: u64 = 256 << 20;
/// First bytes of each member, which tell what it is.
const PEEK: u64 = 512;
/// Pickles in one archive that are followed.
const MAX_PICKLES: usize = 64;
/// Members that are named in a message.
const MAX_NAMED: usize = 5;
/// How an array file of numpy begins.
const NPY_MAGIC: &[u8] = b"\x93NUMPY";
/// First bytes of archives and compressed files.
const MAGIC: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x04\x22\x4d\x18", "lz4"),
];
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");
const ARCHIVE_NAMES: [&str; 10] = [".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".npz"];
const PICKLE_NAMES: [&str; 4] = [".pkl", ".pickle", ".joblib", ".dill"];

/// Whether bytes begin like a stream that `joblib` compresses pickles to: two bytes, so that this is for files that are
/// named so.
pub(crate) fn begins_like_stream(prefix: &[u8]) -> bool {
    const LZMA: &[u8] = b"\x5d\0\0";
    const JOBLIB: &[u8] = b"ZF0x";
    let is_zlib = matches!(prefix, [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]) && !crate::kind::is_text(prefix);
    is_zlib || prefix.starts_with(LZMA) || prefix.starts_with(JOBLIB)
}

/// Reports what the archive at `path` holds. `file` is the name shown, `prefix` its first bytes.
pub(crate) fn observe(file: &str, path: &Path, prefix: &[u8], found: &mut Vec<Observation>) {
    match kind(prefix) {
        Some("zip") => observe_zip(file, path, found),
        None if begins_like_stream(prefix) => {
            let message = "A compressed stream, as pickles are saved in; it is not opened, so what it holds is unknown";
            found.push(Observation::new(Check::Archive, file, message));
        }
        Some(kind) => {
            let message = format!("A {kind} archive; it is not opened, so what it holds is unknown");
            found.push(Observation::new(Check::Archive, file, message));
        }
        None => {
            let message = "Named like an archive, but it begins like none that is known; it is not opened";
            found.push(Observation::new(Check::ArchiveHostile, file, message));
        }
    }
}

/// Reports what the zip archive at the end of a file holds that begins like something else.
pub(crate) fn observe_end(file: &str, path: &Path, found: &mut Vec<Observation>) {
    observe_zip(file, path, found);
}

/// Whether a directory of zip members stands at the end of a file that does not begin like an archive. Zip readers
/// begin at the end, so that anything may stand before it: a picture, text, tensors.
pub(crate) fn ends_like_one(file: &mut File) -> io::Result<bool> {
    directory::stands_at_end(file)
}

/// The kind of archive that begins with `prefix`.
fn kind(prefix: &[u8]) -> Option<&'static str> {
    let by_magic = MAGIC.iter().find(|(magic, _)| prefix.starts_with(magic)).map(|(_, kind)| *kind);
    let is_tar = || prefix.get(TAR_MAGIC.0..).is_some_and(|rest| rest.starts_with(TAR_MAGIC.1));
    by_magic.or_else(|| is_tar().then_some("tar"))
}

fn observe_zip(file: &str, path: &Path, found: &mut Vec<Observation>) {
    let mut hazards = Hazards::default();
    let mut survey = Survey::new(file);
    let outcome = File::open(path).and_then(|mut opened| {
        if !directory::check(&mut opened, &mut hazards)? {
            return Ok(());
        }
        opened.seek(SeekFrom::Start(0))?;
        survey.members(opened, &mut hazards);
        Ok(())
    });
    if let Err(error) = outcome {
        found.push(Observation::new(Check::Unreadable, file, format!("It cannot be read: {error}")));
    }
    survey.finish(hazards.sentences().next().is_some(), found);
    for (sentence, place) in hazards.sentences() {
        let message = format!("An archive that readers may take differently or that does harm: {sentence}");
        found.push(Observation::new(Check::ArchiveHostile, file, message).at(place));
    }
}

/// What was seen of a zip archive's members.
struct Survey<'a> {
    file: &'a str,
    is_open: bool,
    members: usize,
    names: Vec<String>,
    /// Members that torch does not write.
    foreign: usize,
    has_torch_pickle: bool,
    pickles: usize,
    /// Arrays of numbers.
    arrays: usize,
    decompressed: u64,
    unread: usize,
    found: Vec<Observation>,
}

impl<'a> Survey<'a> {
    fn new(file: &'a str) -> Self {
        Self {
            file,
            is_open: false,
            members: 0,
            names: Vec::new(),
            foreign: 0,
            has_torch_pickle: false,
            pickles: 0,
            arrays: 0,
            decompressed: 0,
            unread: 0,
            found: Vec::new(),
        }
    }

    fn members(&mut self, opened: File, hazards: &mut Hazards) {
        let Ok(mut archive) = ZipArchive::new(Metered { inner: opened, left: MAX_READ }) else {
            return hazards.add("its directory cannot be read", b"");
        };
        self.is_open = true;
        for index in 0..archive.len() {
            let Ok(entry) = archive.by_index_data(index) else { continue };
            let raw = entry.name_raw().to_vec();
            // Names may be given again in an extra field, which the directory's check does not see.
            if directory::is_deceptive(&raw) {
                hazards.add("a member's name leads out of the folder or deceives", &raw);
            }
            let name = String::from_utf8_lossy(&raw).into_owned();
            self.name(&name);
            if !entry.is_dir() {
                self.member(&mut archive, index, &name, hazards);
            }
        }
    }

    fn name(&mut self, name: &str) {
        self.members += 1;
        self.has_torch_pickle |= name.ends_with("/data.pkl") || name == "data.pkl";
        if is_torch_member(name) {
            return;
        }
        self.foreign += 1;
        if self.names.len() < MAX_NAMED {
            self.names.push(shown(name));
        }
    }

    /// Reads one member as far as its kind asks for.
    fn member<R: Read + Seek>(&mut self, archive: &mut ZipArchive<R>, index: usize, name: &str, hazards: &mut Hazards) {
        let allowance = MAX_CONTENT.saturating_sub(self.decompressed).min(MAX_MEMBER);
        if allowance == 0 {
            self.unread += 1;
            return;
        }
        let mut member = match archive.by_index(index) {
            Ok(member) => member,
            // Reported with the directory.
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => return,
            Err(_) => return hazards.add("a member cannot be decompressed here", name.as_bytes()),
        };
        let mut bytes = Vec::new();
        let peeked = (&mut member).take(PEEK.min(allowance)).read_to_end(&mut bytes);
        let content = Content::of(name, &bytes);
        // Of an array of numbers the header says enough.
        if content == Content::Array && peeked.is_ok() && is_array_of_numbers(&bytes) {
            self.arrays += 1;
            self.decompressed += bytes.len() as u64;
            return;
        }
        let read = match content {
            Content::Pickle | Content::Array if peeked.is_ok() => {
                let left = allowance.saturating_sub(bytes.len() as u64);
                (&mut member).take(left).read_to_end(&mut bytes).and_then(|_| member.read(&mut [0]))
            }
            _ => peeked.map(|_| 0),
        };
        self.decompressed += bytes.len() as u64;
        match read {
            Err(_) => hazards.add("a member is broken, or too costly to read", name.as_bytes()),
            Ok(0) => {}
            Ok(_) => self.unread += 1,
        }
        self.content(content, name, &bytes, hazards);
    }

    fn content(&mut self, content: Content, name: &str, bytes: &[u8], hazards: &mut Hazards) {
        let file = format!("{}!{}", self.file, shown(name));
        match content {
            Content::Pickle | Content::Array if self.pickles >= MAX_PICKLES => self.unread += 1,
            Content::Pickle => {
                self.pickles += 1;
                let is_torch = self.foreign == 0 && (name.ends_with("/data.pkl") || name == "data.pkl");
                let expected = if is_torch { Expected::of_name(self.file) } else { Expected::Nothing };
                pickle::observe(&file, bytes, expected, &mut self.found);
            }
            Content::Array => {
                let before = self.found.len();
                observe_npy(&file, bytes, &mut self.found);
                let is_pickle = self.found.len() > before;
                self.pickles += usize::from(is_pickle);
                self.arrays += usize::from(!is_pickle);
            }
            Content::Archive => hazards.add("an archive within the archive, which is not opened", name.as_bytes()),
            Content::Other => {}
        }
    }

    /// Hands over what was found.
    fn finish(mut self, is_hostile: bool, found: &mut Vec<Observation>) {
        let names = self.names.join(", ");
        let more = match self.foreign.saturating_sub(self.names.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if !self.is_open {
            let message = "A zip archive; it is not opened, so what it holds is unknown";
            found.push(Observation::new(Check::Archive, self.file, message));
        } else if self.members > 0 && self.arrays == self.members && !is_hostile {
            let message = format!(
                "An archive of {} arrays of numbers, as numpy saves them, which are not looked into: {names}{more}",
                self.arrays
            );
            found.push(Observation::new(Check::UnknownFile, self.file, message));
        } else if !self.has_torch_pickle {
            let members = self.members;
            let colon = if names.is_empty() { "" } else { ": " };
            let message = format!(
                "A zip archive with {members} members{colon}{names}{more}. Pickles in it are followed, the rest is not \
                 looked into"
            );
            found.push(Observation::new(Check::Archive, self.file, message));
        } else if self.foreign > 0 {
            let message = format!("A torch file that holds what torch does not write for tensors: {names}{more}");
            found.push(Observation::new(Check::Archive, self.file, message));
        }
        let is_pickle = |seen: &Observation| matches!(seen.check, Check::Pickle | Check::TrainerState);
        if self.has_torch_pickle && !self.found.iter().any(is_pickle) {
            let message = "A torch file whose pickle could not be read";
            found.push(Observation::new(Check::Pickle, self.file, message));
        }
        if self.unread > 0 {
            let message = format!("{} members are longer or more than what is read of an archive", self.unread);
            found.push(Observation::new(Check::BeyondLimits, self.file, message).measured(self.unread as f64));
        }
        found.append(&mut self.found);
    }
}

/// Whether torch writes a member of this name for a file of tensors.
fn is_torch_member(name: &str) -> bool {
    let inner = name.split_once('/').map_or(name, |(_, inner)| inner);
    let is_storage = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let fixed = ["data.pkl", "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"];
    fixed.contains(&inner) || inner.strip_prefix("data/").is_some_and(is_storage)
}

/// What a member is read as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Pickle,
    Array,
    Archive,
    Other,
}

impl Content {
    fn of(name: &str, prefix: &[u8]) -> Self {
        let name_ends = |endings: &[&str]| endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
        match () {
            () if prefix.starts_with(NPY_MAGIC) => Self::Array,
            () if name_ends(&PICKLE_NAMES) || pickle::looks_like(prefix) => Self::Pickle,
            // Numpy takes a member of this name without the magic for a pickle.
            () if name_ends(&[".npy"]) => Self::Array,
            // Weights may begin with two or three bytes of some magic; a storage of torch is no archive.
            () if name_ends(&ARCHIVE_NAMES) || (kind(prefix).is_some() && !is_torch_member(name)) => Self::Archive,
            () => Self::Other,
        }
    }
}

/// A file that ends after a number of bytes read, however often they are the same ones: members may overlap.
struct Metered {
    inner: File,
    left: u64,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("more is read of the archive than its members hold"));
        }
        let read = self.inner.by_ref().take(self.left).read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl Seek for Metered {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

/// Reports the pickle that an array file of numpy holds where its elements are objects. `file` is the name shown.
pub(crate) fn observe_npy(file: &str, bytes: &[u8], found: &mut Vec<Observation>) {
    match npy_parts(bytes) {
        Some((header, _)) if holds_numbers(header) => {}
        Some((_, data)) => pickle::observe(file, data, Expected::Nothing, found),
        // Numpy takes what has no such header for a pickle.
        None if !bytes.starts_with(NPY_MAGIC) => pickle::observe(file, bytes, Expected::Nothing, found),
        None => {
            let message = "The header of this array cannot be read; what follows it may be a pickle";
            found.push(Observation::new(Check::PickleMalformed, file, message));
        }
    }
}

/// Whether bytes begin with the whole header of an array of numbers.
fn is_array_of_numbers(bytes: &[u8]) -> bool {
    npy_parts(bytes).is_some_and(|(header, _)| holds_numbers(header))
}

/// Header text and data of an array file.
fn npy_parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(NPY_MAGIC)?;
    let ([major, _minor], rest) = rest.split_first_chunk::<2>()?;
    match major {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        }
        _ => None,
    }
}

/// Whether no element can be an object. Every spelling of that type has an `O`, a `j` or an escape, however its string
/// is put together; the rest of a header has none of them.
fn holds_numbers(header: &[u8]) -> bool {
    !header.iter().any(|byte| b"Oj\\".contains(byte))
}

#[cfg(test)]
mod tests;
