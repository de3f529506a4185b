//! A writer of zip archives that does what honest ones do not, and a deflate stream of zeros as short as it can be.

use std::path::Path;

use super::making::write;

/// Flag of an encrypted member.
pub(crate) const ENCRYPTED: u16 = 1;
/// Mode of a symbolic link.
pub(crate) const LINK: u32 = 0o120_777;

/// One member, with what its headers claim.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) packed: Vec<u8>,
    pub(crate) size: u32,
    pub(crate) crc: u32,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) mode: u32,
}

impl Member {
    /// Stored as it is.
    pub(crate) fn stored(name: &str, content: &[u8]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            packed: content.to_vec(),
            size: content.len() as u32,
            crc: crc(content.iter().copied()),
            method: 0,
            flags: 0,
            mode: 0o100_644,
        }
    }

    /// Some 258-fold number of zeros, deflated a thousandfold.
    pub(crate) fn bomb(name: &str, runs: usize) -> Self {
        let size = 1 + 258 * runs;
        let crc = crc(std::iter::repeat_n(0, size));
        Self { packed: zeros(runs), size: size as u32, crc, method: 8, ..Self::stored(name, b"") }
    }
}

/// Writes an archive of these members.
pub(crate) fn zip(at: &Path, name: &str, members: &[Member]) {
    write(at, name, archive(members));
}

/// An archive of these members.
pub(crate) fn archive(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let start = bytes.len() as u32;
        let mut common = Vec::new();
        for field in [20, member.flags, member.method, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [member.crc, member.packed.len() as u32, member.size] {
            common.extend(field.to_le_bytes());
        }
        common.extend((member.name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(&member.name);
        bytes.extend(&member.packed);
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend((member.mode << 16).to_le_bytes());
        directory.extend(start.to_le_bytes());
        directory.extend(&member.name);
    }
    let start = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        bytes.extend((members.len() as u16).to_le_bytes());
    }
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn crc(bytes: impl Iterator<Item = u8>) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| (0..8).fold(byte, |value, _| if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 }))
        .collect();
    !bytes.fold(!0, |value, byte| table[(value as u8 ^ byte) as usize] ^ (value >> 8))
}

/// A deflate stream of 1 + 258 × `runs` zeros: a code of one bit for a run, one for its distance.
fn zeros(runs: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.number(1, 1);
    bits.number(2, 2);
    // 286 literals and lengths, one distance, 18 lengths of the code for code lengths.
    bits.number(29, 5);
    bits.number(0, 5);
    bits.number(14, 4);
    for length in [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2] {
        bits.number(length, 3);
    }
    // Lengths: 2 for a zero byte, 255 times none, 2 for the end, 28 times none, 1 for a run; 1 for the distance.
    bits.code("11");
    for zeros in [138, 117] {
        bits.code("0");
        bits.number(zeros - 11, 7);
    }
    bits.code("11");
    bits.code("0");
    bits.number(28 - 11, 7);
    bits.code("1010");
    bits.code("10");
    (0..runs).for_each(|_| bits.code("00"));
    bits.code("11");
    bits.bytes
}

/// Bits, the lowest of each byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    filled: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.filled.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.filled % 8);
        }
        self.filled += 1;
    }

    fn number(&mut self, value: u32, width: u32) {
        (0..width).for_each(|bit| self.push(value >> bit & 1 == 1));
    }

    fn code(&mut self, code: &str) {
        code.bytes().for_each(|bit| self.push(bit == b'1'));
    }
}
