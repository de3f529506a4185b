//! Archives: paths that climb, members that grow, directories that lie.

use super::hostile_case::HostileCase;
use super::making::{beside, sound, write};
use super::pickles::SYSTEM;
use super::zips::{ENCRYPTED, LINK, Member, archive, zip};

const HOSTILE: &[&str] = &["archive", "archive-hostile"];

/// A sound adapter with an archive of these members.
fn packed(at: &std::path::Path, members: &[Member]) {
    sound().write(at);
    zip(at, "extra.zip", members);
}

/// The header block of a tar file.
fn tar(name: &str) -> Vec<u8> {
    let mut block = vec![0; 1024];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[257..262].copy_from_slice(b"ustar");
    block
}

/// An array of four numbers as numpy saves it.
fn numbers() -> Vec<u8> {
    let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n";
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header, &[0; 16]].concat()
}

pub(crate) fn all() -> Vec<HostileCase> {
    vec![
        HostileCase::new("zip", &["archive"], |at| packed(at, &[Member::stored("notes.txt", b"hello")]))
            .without(&["archive-hostile"]),
        HostileCase::new("zip-climbs", HOSTILE, |at| packed(at, &[Member::stored("../../.bashrc", b"id")])),
        HostileCase::new("zip-climbs-backwards", HOSTILE, |at| packed(at, &[Member::stored("..\\..\\run.bat", b"id")])),
        HostileCase::new("zip-absolute", HOSTILE, |at| packed(at, &[Member::stored("/etc/cron.d/x", b"id")])),
        HostileCase::new("zip-of-a-drive", HOSTILE, |at| packed(at, &[Member::stored("C:/run.exe", b"id")])),
        HostileCase::new("zip-of-escapes", HOSTILE, |at| packed(at, &[Member::stored("\u{1b}[2J.txt", b"id")])),
        HostileCase::new("zip-of-a-link", HOSTILE, |at| {
            packed(at, &[Member { mode: LINK, ..Member::stored("a", b"/etc/passwd") }]);
        }),
        HostileCase::new("zip-encrypted", &["archive-hostile", "pickle"], |at| {
            packed(at, &[Member { flags: ENCRYPTED, ..Member::stored("data.pkl", b"0123456789abcdef") }]);
        }),
        HostileCase::new("zip-nested", HOSTILE, |at| {
            let inner = archive(&[Member::stored("a", b"a")]);
            packed(at, &[Member::stored("inner.zip", &inner)]);
        }),
        HostileCase::new("zip-names-twice", HOSTILE, |at| {
            packed(at, &[Member::stored("data.bin", b"a"), Member::stored("data.bin", SYSTEM)]);
        }),
        HostileCase::new("zip-bomb", HOSTILE, |at| packed(at, &[Member::bomb("zeros", 300_000)])),
        HostileCase::new("zip-bomb-claimed", HOSTILE, |at| {
            packed(at, &[Member { size: u32::MAX - 1, method: 8, ..Member::stored("zeros", &[3, 0]) }]);
        }),
        HostileCase::new("zip-bomb-that-lies", &["pickle"], |at| {
            sound().write(at);
            let pickle = Member { size: 100, ..Member::bomb("archive/data.pkl", 1_000_000) };
            zip(at, "adapter_model.bin", &[pickle]);
        }),
        HostileCase::new("zip-bomb-of-pickles", &["beyond-limits"], |at| {
            let bomb = Member::bomb("a.pkl", 150_000);
            let members: Vec<Member> =
                (0..40).map(|index| Member { name: format!("{index}.pkl").into_bytes(), ..bomb.clone() }).collect();
            packed(at, &members);
        }),
        HostileCase::new("npz-of-numbers", &["unknown-file"], |at| {
            sound().write(at);
            zip(at, "adapters.npz", &[Member::stored("a.npy", &numbers()), Member::stored("b.npy", &numbers())]);
        })
        .without(&["archive", "pickle"]),
        HostileCase::new("npz-of-numbers-and-a-program", &["archive"], |at| {
            sound().write(at);
            zip(at, "adapters.npz", &[Member::stored("a.npy", &numbers()), Member::stored("b.py", b"import os")]);
        }),
        HostileCase::new("npz-that-climbs", HOSTILE, |at| {
            sound().write(at);
            zip(at, "adapters.npz", &[Member::stored("../a.npy", &numbers())]);
        }),
        HostileCase::new("zip-with-bytes-before", &["archive", "disguised-file"], |at| {
            beside(at, "x.bin", [b"\xfe\xfe\xfe".as_slice(), &archive(&[Member::stored("a", b"a")])].concat());
        }),
        HostileCase::new("zip-with-bytes-between", HOSTILE, |at| {
            let mut bytes = archive(&[Member::stored("a", b"a")]);
            let end = bytes.len();
            // The directory is said to stand further back than it does.
            bytes[end - 6] = bytes[end - 6].wrapping_sub(1);
            beside(at, "x.zip", bytes);
        }),
        HostileCase::new("zip-truncated", HOSTILE, |at| {
            let bytes = archive(&[Member::stored("a", b"some content")]);
            beside(at, "x.zip", &bytes[..bytes.len() - 30]);
        }),
        HostileCase::new("zip-counts-wrongly", HOSTILE, |at| {
            let mut bytes = archive(&[Member::stored("a", b"a")]);
            let end = bytes.len();
            bytes[end - 14] = 9;
            bytes[end - 12] = 9;
            beside(at, "x.zip", bytes);
        }),
        HostileCase::new("zip-of-60000-members", &["archive"], |at| {
            let members: Vec<Member> =
                (0..60_000).map(|index| Member::stored(&format!("folder/{index}.txt"), b"x")).collect();
            packed(at, &members);
        }),
        HostileCase::new("tar", &["archive"], |at| beside(at, "x.tar", tar("../../etc/passwd"))),
        HostileCase::new("gzip", &["archive"], |at| beside(at, "x.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0")),
        HostileCase::new("seven-zip", &["archive"], |at| beside(at, "x.7z", b"7z\xbc\xaf\x27\x1c\0\x04rest")),
        HostileCase::new("xz", &["archive"], |at| beside(at, "x.xz", b"\xfd7zXZ\0\0\x04rest")),
        HostileCase::new("rar", &["archive"], |at| beside(at, "x.rar", b"Rar!\x1a\x07\x01\0rest")),
        HostileCase::new("zstd-named-text", &["archive", "disguised-file"], |at| {
            beside(at, "notes.txt", b"\x28\xb5\x2f\xfdrest");
        }),
        HostileCase::new("zip-named-config", &["archive", "disguised-file"], |at| {
            sound().write(at);
            write(at, "special_tokens_map.json", archive(&[Member::stored("a", b"a")]));
        }),
        HostileCase::new("archive-that-is-none", &["archive-hostile"], |at| beside(at, "x.zip", b"no archive at all")),
    ]
}
