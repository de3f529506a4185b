//! A zip file's central directory, read strictly and held against the members themselves.
//!
//! Zip readers differ in which of several directories, names and sizes they believe, and an archive can show one thing
//! to a scanner and another to a loader. So this accepts one layout only, the one that torch, numpy and common tools
//! write: members without anything before or between them, one directory, one end record. All else is a hazard. Only
//! what passes is handed to the decompressor, whose memory is thereby bounded.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use lcr_documents::characters::is_deceptive as is_hidden;

use crate::pickle::shown;

/// Members that an archive may have.
const MAX_MEMBERS: u64 = 100_000;
/// Bytes of a directory: for as many members as may be, names of a hundred bytes.
const MAX_DIRECTORY: u64 = 16 << 20;
/// A member that grows beyond both is a bomb.
const MAX_RATIO: u64 = 200;
const MIN_BOMB: u64 = 64 << 20;
/// Bytes that all members together may claim.
const MAX_CLAIMED: u64 = 64 << 30;
/// Longest record of sizes behind a member's data.
const MAX_DESCRIPTOR: u64 = 24;
/// Lengths of the end record, and of its longest comment.
const END: usize = 22;
const MAX_COMMENT: u64 = 1 << 16;
/// Lengths of the 64-bit end record and of its locator.
const END_64: u64 = 56;
const LOCATOR: u64 = 20;
/// Lengths of the fixed parts of a directory entry and of a local header.
const ENTRY: usize = 46;
const LOCAL: u64 = 30;

/// What is wrong with an archive: each kind once, with how often it occurs and where first.
#[derive(Debug, Default)]
pub(super) struct Hazards(Vec<(&'static str, usize, String)>);

impl Hazards {
    /// Notes one case of `what`.
    pub(super) fn add(&mut self, what: &'static str, name: &[u8]) {
        match self.0.iter_mut().find(|(known, ..)| *known == what) {
            Some((_, count, _)) => *count += 1,
            None => self.0.push((what, 1, shown(&String::from_utf8_lossy(name)))),
        }
    }

    /// One sentence for each kind, with the name where it occurs first.
    pub(super) fn sentences(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().map(|(what, count, first)| {
            let sentence = match (first.is_empty(), count) {
                (true, _) => (*what).to_owned(),
                (false, 1) => format!("{what}: `{first}`"),
                (false, count) => format!("{what}: {count} members, the first `{first}`"),
            };
            (sentence, first.as_str())
        })
    }
}

/// One entry of the directory.
struct Entry<'a> {
    name: &'a [u8],
    /// Position of its local header.
    header: u64,
    packed: u64,
    size: u64,
    flags: u16,
    /// Unix mode, zero where the entry gives none.
    mode: u32,
}

/// Position, length and number of entries of a directory, or what is wrong with the records that say so.
type Located = Result<(u64, u64, u64), &'static str>;

/// Reads and checks the directory; false where the archive must not be opened.
pub(super) fn check(file: &mut File, hazards: &mut Hazards) -> io::Result<bool> {
    let (start, length, count) = match locate(file)? {
        Ok(found) => found,
        Err(what) => {
            hazards.add(what, b"");
            return Ok(false);
        }
    };
    if count > MAX_MEMBERS || length > MAX_DIRECTORY {
        hazards.add("it has more members than an archive of weights, and was not opened", b"");
        return Ok(false);
    }
    let directory = window(file, start, length)?;
    let Some(entries) = entries(&directory, count) else {
        hazards.add("its directory does not hold the entries that it counts", b"");
        return Ok(false);
    };
    let mut names = HashSet::new();
    let mut spans = Vec::with_capacity(entries.len());
    let mut claimed = 0_u64;
    for entry in &entries {
        if !names.insert(entry.name) {
            hazards.add("two members have one name, and readers differ in which they take", entry.name);
        }
        claimed = claimed.saturating_add(entry.size);
        check_entry(entry, hazards);
        match span(file, entry)? {
            Some(span) => spans.push(span),
            None => hazards.add("a member's own header contradicts the directory", entry.name),
        }
    }
    if claimed > MAX_CLAIMED {
        hazards.add("its members claim more than 64 GiB", b"");
    }
    check_spans(&mut spans, start, hazards);
    Ok(true)
}

/// Whether some reader might find a directory by an end record near the end of a file, leniently: readers take one that
/// is followed by other bytes, and positions that are off by what stands before the archive.
pub(super) fn stands_at_end(file: &mut File) -> io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail_start = length.saturating_sub(END as u64 + MAX_COMMENT);
    let tail = window(file, tail_start, length - tail_start)?;
    let ends = tail.windows(4).enumerate().filter(|(_, bytes)| *bytes == b"PK\x05\x06").map(|(at, _)| at);
    let mut places = Vec::new();
    for at in ends {
        let end = tail_start + at as u64;
        let record = tail.get(at..).unwrap_or_default();
        let (Some(size), Some(offset)) = (u32_at(record, 12), u32_at(record, 16)) else { continue };
        if at
            .checked_sub(LOCATOR as usize)
            .and_then(|at| tail.get(at..))
            .is_some_and(|rest| rest.starts_with(b"PK\x06\x07"))
        {
            return Ok(true);
        }
        if size > 0 {
            places.extend(end.checked_sub(u64::from(size)));
            places.push(u64::from(offset));
        }
    }
    // As many records as fill the tail are few enough to look at, and one that holds is enough.
    for place in places {
        if window(file, place, 4)? == b"PK\x01\x02" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds the directory by the end record.
fn locate(file: &mut File) -> io::Result<Located> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail_start = length.saturating_sub(END as u64 + MAX_COMMENT);
    let tail = window(file, tail_start, length - tail_start)?;
    let mut ends = (0..tail.len()).filter(|at| tail.get(*at..).is_some_and(|rest| rest.starts_with(b"PK\x05\x06")));
    let Some(at) = ends.next() else { return Ok(Err("it has no end record: truncated, or no zip archive")) };
    if ends.next().is_some() {
        return Ok(Err("it has several end records, and readers differ in which they take"));
    }
    let record = tail.get(at..).unwrap_or_default();
    let end = tail_start + at as u64;
    let fields = (u16_at(record, 4), u16_at(record, 6), u16_at(record, 8), u16_at(record, 10));
    let (Some(disk), Some(first_disk), Some(here), Some(count)) = fields else {
        return Ok(Err("its end record is truncated"));
    };
    let (Some(size), Some(offset)) = (u32_at(record, 12), u32_at(record, 16)) else {
        return Ok(Err("its end record is truncated"));
    };
    let is_last = u16_at(record, 20).is_some_and(|comment| END + usize::from(comment) == record.len());
    let wide = |value: u16| value == u16::MAX;
    if !is_last || disk != first_disk || here != count || !(disk == 0 || wide(disk)) {
        return Ok(Err("its end record is not at the end of one file"));
    }
    // The locator of a 64-bit record may stand before any end record; a reader may or may not follow it.
    if let Some(located) = locate_64(file, end)? {
        return Ok(located);
    }
    let (offset, size) = (u64::from(offset), u64::from(size));
    if wide(count) || offset.checked_add(size) != Some(end) {
        return Ok(Err("its directory does not stand where its end record says"));
    }
    Ok(Ok((offset, size, u64::from(count))))
}

/// The same by the 64-bit record, where there is one.
fn locate_64(file: &mut File, end: u64) -> io::Result<Option<Located>> {
    let Some(locator_at) = end.checked_sub(LOCATOR) else { return Ok(None) };
    let locator = window(file, locator_at, LOCATOR)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let fault = Some(Err("its 64-bit end record is not where its locator says, or contradicts itself"));
    let record_at = u64_at(&locator, 8);
    let Some(record_at) = record_at.filter(|at| at.checked_add(END_64) == Some(locator_at)) else { return Ok(fault) };
    let record = window(file, record_at, END_64)?;
    let alone = u32_at(&record, 16) == Some(0) && u32_at(&record, 20) == Some(0);
    let counts = (u64_at(&record, 24), u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
    let (Some(here), Some(count), Some(size), Some(offset)) = counts else { return Ok(fault) };
    let is_sound = record.starts_with(b"PK\x06\x06") && u64_at(&record, 4) == Some(END_64 - 12) && alone;
    if !is_sound || here != count || offset.checked_add(size) != Some(record_at) {
        return Ok(fault);
    }
    Ok(Some(Ok((offset, size, count))))
}

/// The entries, where exactly `count` of them fill `directory`.
fn entries(directory: &[u8], count: u64) -> Option<Vec<Entry<'_>>> {
    let mut rest = directory;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (entry, after) = entry(rest)?;
        entries.push(entry);
        rest = after;
    }
    (entries.len() as u64 == count).then_some(entries)
}

fn entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(ENTRY)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (name, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 28)?))?;
    let (extra, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 30)?))?;
    let (_comment, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 32)?))?;
    let mut wide = wide_fields(extra);
    let mut widened = |value: u32| match value {
        // The 64-bit values follow in this order, and only those whose 32-bit field is full.
        u32::MAX => {
            let (value, after) = wide.split_first_chunk::<8>()?;
            wide = after;
            Some(u64::from_le_bytes(*value))
        }
        value => Some(u64::from(value)),
    };
    let size = widened(u32_at(fixed, 24)?)?;
    let packed = widened(u32_at(fixed, 20)?)?;
    let header = widened(u32_at(fixed, 42)?)?;
    let mode = u32_at(fixed, 38)? >> 16;
    Some((Entry { name, header, packed, size, flags: u16_at(fixed, 8)?, mode }, rest))
}

/// The 64-bit values in an entry's extra fields.
fn wide_fields(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((field, after)) = extra.get(4..).and_then(|rest| rest.split_at_checked(usize::from(length))) else {
            break;
        };
        if kind == 1 {
            return field;
        }
        extra = after;
    }
    &[]
}

fn check_entry(entry: &Entry<'_>, hazards: &mut Hazards) {
    if is_deceptive(entry.name) {
        hazards.add("a member's name leads out of the folder or deceives", entry.name);
    }
    if entry.mode & 0o170_000 == 0o120_000 {
        hazards.add("a member is a link", entry.name);
    }
    if entry.flags & 1 != 0 {
        hazards.add("a member is encrypted", entry.name);
    }
    if entry.size > MIN_BOMB && entry.size / MAX_RATIO > entry.packed {
        hazards.add("a member expands more than two hundred times", entry.name);
    }
}

/// Whether a name is absolute, climbs, or has characters that no tool for weights writes.
pub(super) fn is_deceptive(name: &[u8]) -> bool {
    let drive = matches!(name, [letter, b':', ..] if letter.is_ascii_alphabetic());
    let climbs = name.split(|byte| *byte == b'/').any(|part| part == b"..");
    let text = String::from_utf8_lossy(name);
    let odd = |character: char| character == '\\' || is_hidden(character);
    name.is_empty() || name.starts_with(b"/") || drive || climbs || text.chars().any(odd)
}

/// First byte of a member and the byte after its data, where its own header gives the same name.
fn span(file: &mut File, entry: &Entry<'_>) -> io::Result<Option<(u64, u64)>> {
    let header = window(file, entry.header, LOCAL)?;
    let lengths = (u16_at(&header, 26), u16_at(&header, 28));
    let (Some(name_length), Some(extra_length)) = lengths else { return Ok(None) };
    if !header.starts_with(b"PK\x03\x04") || usize::from(name_length) != entry.name.len() {
        return Ok(None);
    }
    let name_at = entry.header.saturating_add(LOCAL);
    if window(file, name_at, u64::from(name_length))? != entry.name {
        return Ok(None);
    }
    let data = name_at.saturating_add(u64::from(name_length) + u64::from(extra_length));
    Ok(Some((entry.header, data.saturating_add(entry.packed))))
}

/// Members lie side by side, from the first byte to the directory.
fn check_spans(spans: &mut Vec<(u64, u64)>, directory: u64, hazards: &mut Hazards) {
    spans.sort_unstable();
    spans.push((directory, directory));
    let mut end = 0;
    for (start, next_end) in spans.iter().copied() {
        let slack = if end == 0 { 0 } else { MAX_DESCRIPTOR };
        match start.checked_sub(end) {
            None => hazards.add("two members share bytes", b""),
            Some(gap) if gap > slack => hazards.add("bytes before or between its members belong to none", b""),
            Some(_) => {}
        }
        end = end.max(next_end);
    }
}

/// Up to `length` bytes from `at`; fewer where the file ends.
fn window(file: &mut File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at.min(i64::MAX as u64)))?;
    file.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}
