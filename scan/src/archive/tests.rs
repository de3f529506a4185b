use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{observe, observe_npy};
use crate::check::{Check, Observation};

const SAFE: &[u8] = b"\x80\x02ccollections\nOrderedDict\n)R.";
const EVIL: &[u8] = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let method = if bytes.len() > 10_000 { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn observed(bytes: &[u8]) -> Vec<Observation> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    let mut found = Vec::new();
    observe("file", &path, &bytes[..bytes.len().min(512)], &mut found);
    found
}

fn checks(bytes: &[u8]) -> Vec<Check> {
    observed(bytes).iter().map(|observation| observation.check).collect()
}

/// The archive after `change`, and whether that made it hostile.
fn is_hostile_after(change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let mut bytes = zip_of(&[("archive/data.pkl", SAFE), ("archive/data/0", b"12345678")]);
    change(&mut bytes);
    checks(&bytes).contains(&Check::ArchiveHostile)
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).rposition(|window| window == part).unwrap()
}

#[test]
fn a_torch_file_is_a_pickle() {
    let bytes = zip_of(&[("archive/data.pkl", SAFE), ("archive/data/0", b"1234"), ("archive/version", b"3\n")]);
    let found = observed(&bytes);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].check, found[0].file.as_str()), (Check::Pickle, "file!archive/data.pkl"));
}

#[test]
fn a_payload_is_found_under_any_name() {
    for name in ["archive/data.pkl", "archive/extra/x.bin", "weights.npy"] {
        let found = observed(&zip_of(&[(name, EVIL)]));
        let import = found.iter().find(|observation| observation.check == Check::PickleImport).unwrap();
        assert_eq!(import.place, "posix.system, byte 2");
        assert_eq!(import.file, format!("file!{name}"));
    }
}

#[test]
fn what_torch_does_not_write_is_named() {
    let found = observed(&zip_of(&[("a/data.pkl", SAFE), ("a/setup.py", b"import os")]));
    assert!(found.iter().any(|o| o.check == Check::Archive && o.message.contains("a/setup.py")), "{found:?}");
}

#[test]
fn names_that_lead_out_are_hostile() {
    for name in ["../a", "/etc/passwd", "C:a", "a/../../b", "a\\b", "a\u{202e}b", "a\nb"] {
        assert!(checks(&zip_of(&[(name, b"x")])).contains(&Check::ArchiveHostile), "{name:?}");
    }
    assert_eq!(checks(&zip_of(&[("a/b..c/d", b"x")])), [Check::Archive]);
}

#[test]
fn bombs_and_nested_archives_are_hostile() {
    assert!(checks(&zip_of(&[("zeros", &vec![0; 80 << 20])])).contains(&Check::ArchiveHostile));
    let inner = zip_of(&[("x", b"y")]);
    assert!(checks(&zip_of(&[("x.dat", &inner)])).contains(&Check::ArchiveHostile));
    let long = [b"\x80\x02".as_slice(), &vec![b'N'; 17 << 20]].concat();
    let found = checks(&zip_of(&[("long.pkl", &long)]));
    assert!(found.contains(&Check::BeyondLimits) && found.contains(&Check::PickleMalformed), "{found:?}");
}

#[test]
fn links_are_hostile() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink("a", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    assert!(checks(&writer.finish().unwrap().into_inner()).contains(&Check::ArchiveHostile));
}

#[test]
fn contradictions_are_hostile() {
    assert!(!is_hostile_after(|_| {}));
    assert!(is_hostile_after(|bytes| drop(bytes.splice(0..0, *b"PK\x03\x04 in front"))));
    assert!(is_hostile_after(|bytes| bytes.extend_from_slice(b"behind")));
    assert!(is_hostile_after(|bytes| bytes.truncate(bytes.len() - 30)));
    assert!(is_hostile_after(|bytes| bytes[30] = b'X'), "another name in the local header");
    assert!(is_hostile_after(|bytes| bytes[26] = 200), "a longer name in the local header");
    let end = |bytes: &[u8]| position(bytes, b"PK\x05\x06");
    assert!(is_hostile_after(|bytes| {
        let at = end(bytes);
        (bytes[at + 8], bytes[at + 10]) = (1, 1);
    }));
    assert!(is_hostile_after(|bytes| {
        let at = position(bytes, b"PK\x01\x02");
        bytes[at + 8] |= 1;
    }));
    assert!(is_hostile_after(|bytes| {
        let at = position(bytes, b"PK\x01\x02");
        bytes[at + 42..at + 46].fill(0);
    }));
    // A second name that equals the first: the writer refuses it, so it is put in afterwards.
    let mut bytes = zip_of(&[("aa", b"1"), ("ab", b"2")]);
    while let Some(at) = bytes.windows(2).position(|window| window == b"ab") {
        bytes[at + 1] = b'a';
    }
    assert!(observed(&bytes).iter().any(|o| o.message.contains("one name")));
}

#[test]
fn other_archives_stay_closed() {
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for bytes in [b"\x1f\x8b\x08\0".as_slice(), b"BZh91AY", b"\xfd7zXZ\0", b"Rar!\x1a\x07\0", &tar] {
        assert_eq!(checks(bytes), [Check::Archive]);
    }
    assert_eq!(checks(b"nothing"), [Check::ArchiveHostile]);
}

#[test]
fn arrays_of_objects_are_pickles() {
    let array = |descriptor: &str, data: &[u8]| {
        let header = format!("{{'descr': {descriptor}, 'fortran_order': False, 'shape': (1,), }}\n");
        [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    };
    let seen = |bytes: &[u8]| {
        let mut found = Vec::new();
        observe_npy("a.npy", bytes, &mut found);
        found.iter().map(|observation| observation.check).collect::<Vec<_>>()
    };
    assert!(seen(&array("'<f4'", b"1234")).is_empty());
    assert!(seen(&array("[('a', '<f4'), ('b', '<M8[ns]')]", EVIL)).is_empty());
    for descriptor in ["'|O'", "[('a', '|O')]", "'ob' 'ject'", "'\\x4f'"] {
        assert_eq!(seen(&array(descriptor, EVIL)), [Check::Pickle, Check::PickleImport], "{descriptor}");
    }
    assert_eq!(seen(b"\x93NUMPY\x01\x00\xff\xff{"), [Check::PickleMalformed]);
    assert_eq!(seen(EVIL), [Check::Pickle, Check::PickleImport]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn mutated_archives_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = zip_of(&[("a/data.pkl", EVIL), ("a/data/0", &vec![7; 20_000]), ("b.npy", b"\x93NUMPY")]);
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        prop_assert!(!observed(&bytes).is_empty());
        bytes.truncate(cut.index(bytes.len()));
        observed(&bytes);
    }

    #[test]
    fn random_arrays_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        observe_npy("a", &[b"\x93NUMPY\x01\x00".as_slice(), &bytes].concat(), &mut Vec::new());
    }
}
