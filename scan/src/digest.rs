//! SHA-256 of files and folders.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use lcr_documents::digest::hexadecimal;
use sha2::{Digest, Sha256};

use crate::files::Unread;
use crate::walk::Walked;

/// Bytes that are read, and digested, at a time.
const BLOCK: usize = 1 << 18;

/// The digest of a file, hexadecimal; a file that grows meanwhile is read up to `limit` bytes.
///
/// Holes are digested as the zeros that they are, without being read: a file that takes no room on the disk would
/// otherwise be the most costly of all.
pub(crate) fn of_file(file: &mut File, limit: u64) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    for (start, end) in data_of(file)? {
        zeros(&mut hasher, start.min(limit).saturating_sub(at));
        file.seek(SeekFrom::Start(start))?;
        let mut source = file.by_ref().take(end.min(limit).saturating_sub(start));
        loop {
            let count = source.read(&mut block)?;
            let Some(filled) = block.get(..count).filter(|filled| !filled.is_empty()) else { break };
            hasher.update(filled);
        }
        at = end;
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// Where a file has data: first byte and the byte after the last, in order. The last ends where the file does, or is
/// taken to go on for ever.
#[cfg(target_os = "linux")]
fn data_of(file: &File) -> io::Result<Vec<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    use std::os::unix::fs::MetadataExt;

    const WHOLE: (u64, u64) = (0, u64::MAX);
    /// Holes of a file with more than these are read.
    const MOST: usize = 1 << 16;
    let metadata = file.metadata()?;
    let length = metadata.len();
    if metadata.blocks().saturating_mul(512).saturating_add(BLOCK as u64) >= length {
        return Ok(vec![WHOLE]);
    }
    let mut data = Vec::new();
    let mut at = 0;
    while data.len() < MOST && at < length {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // There is no more data.
            Err(rustix::io::Errno::NXIO) => length,
            Err(_) => return Ok(vec![WHOLE]),
        };
        let Ok(end) = (if start < length { seek(file, SeekFrom::Hole(start)) } else { Ok(length) }) else {
            return Ok(vec![WHOLE]);
        };
        data.push((start, end));
        at = end.max(start + 1);
    }
    if at < length {
        data.push((at, u64::MAX));
    }
    Ok(data)
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere the system is asked")]
fn data_of(_: &File) -> io::Result<Vec<(u64, u64)>> {
    Ok(vec![(0, u64::MAX)])
}

fn zeros(hasher: &mut Sha256, mut count: u64) {
    const NOTHING: [u8; 1 << 14] = [0; 1 << 14];
    while count > 0 {
        let part = count.min(NOTHING.len() as u64);
        hasher.update(NOTHING.get(..part as usize).unwrap_or_default());
        count -= part;
    }
}

/// The digest of a whole folder: SHA-256 over the lines `<sha256>  <path>`, sorted by path, as `sha256sum` writes them.
///
/// What was not read has a line as well, with what is known of it: `unread <kind> <bytes> <link target>  <path>`.
pub(crate) fn of_folder(folder: &Walked) -> String {
    let read =
        folder.files.iter().map(|file| (&file.record.path, format!("{}  {}\n", file.record.sha256, file.record.path)));
    let unread = folder.unread.iter().map(|left| {
        let Unread { path, kind, bytes, target } = left;
        (path, format!("unread {kind} {bytes} {target}  {path}\n"))
    });
    let mut lines: Vec<(&String, String)> = read.chain(unread).collect();
    // Stable: names that are not UTF-8 may be equal, and stand in the order of their bytes.
    lines.sort_by_key(|(path, _)| *path);
    let mut hasher = Sha256::new();
    lines.iter().for_each(|(_, line)| hasher.update(line));
    hexadecimal(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::files::{FileRecord, Found};

    fn of(read: &[(&str, &str)], unread: &[(&str, &'static str, u64)]) -> String {
        let files = read.iter().map(|(path, sha256)| Found {
            record: FileRecord { path: (*path).to_owned(), bytes: 1, sha256: (*sha256).to_owned() },
            path: (*path).into(),
            prefix: Vec::new(),
            ends_like_archive: false,
            shared: None,
        });
        let unread = unread.iter().map(|(path, kind, bytes)| Unread::new(path, kind, *bytes));
        of_folder(&Walked { files: files.collect(), unread: unread.collect() })
    }

    #[test]
    fn a_folder_is_the_lines_of_its_files_and_what_is_known_of_the_rest() {
        let sum = |text: &str| hexadecimal(&Sha256::digest(text));
        assert_eq!(of(&[("a", "1"), ("b/c", "2")], &[]), sum("1  a\n2  b/c\n"));
        assert_eq!(of(&[("a", "1"), ("c", "2")], &[("b", "file", 7)]), sum("1  a\nunread file 7   b\n2  c\n"));
        let digests =
            [("b", "file", 7), ("b", "file", 8), ("b", "pipe", 0), ("c", "file", 7)].map(|left| of(&[], &[left]));
        assert!(digests.iter().enumerate().all(|(index, digest)| !digests[..index].contains(digest)), "{digests:?}");
    }

    #[test]
    fn holes_are_zeros() {
        let mut whole = vec![0_u8; 5 << 20];
        let mut file = tempfile::tempfile().expect("a file");
        for (at, text) in [(0, "start"), (2_000_003, "middle"), (4 << 20, "end")] {
            whole[at..at + text.len()].copy_from_slice(text.as_bytes());
            file.seek(SeekFrom::Start(at as u64)).expect("sought");
            file.write_all(text.as_bytes()).expect("written");
        }
        file.set_len(whole.len() as u64).expect("a hole");
        let expected = |length: usize| hexadecimal(&Sha256::digest(&whole[..length]));
        assert_eq!(of_file(&mut file, u64::MAX).expect("readable"), expected(whole.len()));
        // Whole files are what it is about; a limit inside one cuts it there.
        assert_eq!(of_file(&mut file, 2_000_005).expect("readable"), expected(2_000_005));
        file.set_len(3 << 20).expect("cut in a hole");
        assert_eq!(of_file(&mut file, u64::MAX).expect("readable"), expected(3 << 20));
        file.set_len(0).expect("emptied");
        assert_eq!(of_file(&mut file, u64::MAX).expect("readable"), expected(0));
    }
}
