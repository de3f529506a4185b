//! Files that are two things at once: what begins like a picture, a text or tensors, and what a loader would make of
//! it.

use std::path::Path;

use super::hostile_case::HostileCase;
use super::making::{TENSORS, beside, entry, header, noise, path, sound, write};
use super::pickles::SYSTEM;
use super::zips::{Member, archive};

/// A picture of one point.
const POINT: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9";
const PDF: &[u8] = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n";
/// A pickle's first opcode takes eight bytes for a number.
const NUMBER: &[u8] = b"GIF89a, a";
const DISGUISED_PICKLE: &[&str] = &["pickle-import", "disguised-file"];
const DISGUISED_ARCHIVE: &[&str] = &["archive-hostile", "disguised-file"];

/// An archive behind a beginning of something else.
fn followed(at: &Path, name: &str, beginning: &[u8]) {
    beside(at, name, [beginning, &archive(&[Member::stored("__main__.py", b"import os")])].concat());
}

/// Tensors whose last bytes are an archive; the file is as long as its header says.
fn tensors_before_an_archive(at: &Path) {
    sound().write(at);
    let mut bytes = fs_err::read(at.join(TENSORS)).expect("readable");
    let packed = archive(&[Member::stored("__main__.py", b"import os")]);
    let end = bytes.len() - packed.len();
    bytes[end..].copy_from_slice(&packed);
    write(at, TENSORS, bytes);
}

/// Tensors whose header's length is an opcode and the length of its text. The text ends inside the header's notes,
/// where `V` begins another, which ends with the first line: among the numbers.
fn tensors_that_are_a_pickle(at: &Path) {
    const TEXT: usize = 40;
    let length = TEXT * 256 + usize::from(b'X');
    let module = path(0, "self_attn.q_proj");
    let tensors = [
        entry(&format!("{module}.lora_A.weight"), "F32", "[4,64]", 0, 1024),
        entry(&format!("{module}.lora_B.weight"), "F32", "[64,4]", 1024, 2048),
    ];
    let notes = format!("\"__metadata__\":{{\"a\":\"{}V", "a".repeat(TEXT + 5 - 8 - 22));
    let mut text = header(&[notes]);
    text.pop();
    let end = format!("\"}},{}}}", tensors.join(","));
    text.extend(std::iter::repeat_n('a', length - text.len() - end.len()));
    text.push_str(&end);
    let mut numbers: Vec<u8> = noise(7, 512).into_iter().flat_map(f32::to_le_bytes).collect();
    let program = [b"\n0".as_slice(), SYSTEM].concat();
    numbers[..program.len()].copy_from_slice(&program);
    sound().write(at);
    write(at, TENSORS, [&(length as u64).to_le_bytes(), text.as_bytes(), &numbers].concat());
}

pub(crate) fn all() -> Vec<HostileCase> {
    vec![
        HostileCase::new("picture", &[], |at| beside(at, "point.gif", POINT)).without(&[
            "disguised-file",
            "pickle",
            "archive",
            "script",
        ]),
        HostileCase::new("picture-that-is-a-pickle", DISGUISED_PICKLE, |at| {
            beside(at, "point.gif", [NUMBER, SYSTEM].concat());
        }),
        HostileCase::new("picture-that-is-a-pickle-further-on", DISGUISED_PICKLE, |at| {
            beside(at, "point.gif", [NUMBER, b"X\0\x80\0\0", &[b'a'; 0x8000], SYSTEM].concat());
        }),
        HostileCase::new("text-that-is-a-pickle-further-on", DISGUISED_PICKLE, |at| {
            beside(at, "notes.txt", [b"Very ".as_slice(), &[b'a'; 9000], b"\n0", SYSTEM].concat());
        }),
        HostileCase::new("tensors-that-are-a-pickle", DISGUISED_PICKLE, tensors_that_are_a_pickle),
        HostileCase::new("gif-before-an-archive", DISGUISED_ARCHIVE, |at| followed(at, "point.gif", POINT)),
        HostileCase::new("png-before-an-archive", DISGUISED_ARCHIVE, |at| followed(at, "point.png", PNG)),
        HostileCase::new("jpeg-before-an-archive", DISGUISED_ARCHIVE, |at| followed(at, "point.jpg", JPEG)),
        HostileCase::new("pdf-before-an-archive", DISGUISED_ARCHIVE, |at| followed(at, "paper.pdf", PDF)),
        HostileCase::new("text-before-an-archive", DISGUISED_ARCHIVE, |at| followed(at, "README.md", b"# Read me\n")),
        HostileCase::new("pickle-before-an-archive", DISGUISED_ARCHIVE, |at| followed(at, "x.pkl", b"\x80\x02]q\0.")),
        HostileCase::new("archive-before-bytes", DISGUISED_ARCHIVE, |at| {
            let packed = archive(&[Member::stored("__main__.py", b"import os")]);
            beside(at, "point.gif", [POINT, &packed, &[b'x'; 500]].concat());
        }),
        HostileCase::new("tensors-before-an-archive", DISGUISED_ARCHIVE, tensors_before_an_archive),
        HostileCase::new("picture-that-is-a-program", &["script", "disguised-file"], |at| {
            beside(at, "point.gif", "GIF89a = 1\nimport os\nos.system('id')\n");
        }),
        HostileCase::new("photograph-that-is-a-program", &["script", "disguised-file"], |at| {
            beside(at, "point.jpg", b"\xff\xd8\xff\xe0 = 1\n# coding: latin-1\nimport os\n");
        }),
    ]
}
