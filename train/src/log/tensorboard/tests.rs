//! Checksums by published vectors; a file byte by byte as TensorBoard's own writer makes it.

use std::fs;

use super::*;

/// Written by TensorBoard 2.21 (its `RecordWriter` and `event_pb2.Event`): the version, then step 300 with `loss` 0.1
/// and `kl_naked/k1` −2.5e-7.
const REFERENCE: &str = "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b3531102f000000000000006d5d1d500900005040fc54d94110ac022a210a0b0a046c6f737315cdcccc3d0a120a0b6b6c5f6e616b65642f6b3115bd3786b487c4754e";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The check value of the Castagnoli polynomial, and the vectors of RFC 3720, B.4.
#[test]
fn checksums_are_castagnolis() {
    let ascending: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().collect();
    for (data, expected) in [
        (b"123456789".as_slice(), 0xe306_9283),
        (&[], 0),
        (&[0; 32], 0x8a91_36aa),
        (&[0xff; 32], 0x62a8_ab43),
        (&ascending, 0x46dd_794e),
        (&descending, 0x113f_db5c),
    ] {
        assert_eq!(crc32c(data), expected, "{data:?}");
    }
}

#[test]
fn a_file_is_what_tensorboard_writes() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path(), 1_700_000_000.5).unwrap();
    let values = [("loss".to_owned(), 0.1), ("kl_naked/k1".to_owned(), -2.5e-7)];
    writer.scalars(1_700_000_001.25, 300, &values).unwrap();
    let name = writer.file_name().to_owned();
    assert_eq!(name, "events.out.tfevents.1700000000.lcr");
    assert!(is_event_file(&name) && !is_event_file("events.out.tfevents.1700000000.somebody"));
    let written = fs::read(folder.path().join(name)).unwrap();
    assert_eq!(hexadecimal(&written), REFERENCE);
    assert_eq!(writer.sync().unwrap(), written.len() as u64);
}

#[test]
fn a_file_returns_to_a_recorded_length_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path(), 1.0).unwrap();
    let path = folder.path().join(writer.file_name());
    let value = |number: f64| [("loss".to_owned(), number)];
    writer.scalars(2.0, 1, &value(0.5)).unwrap();
    let length = writer.sync().unwrap();
    writer.scalars(3.0, 2, &value(0.25)).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let mut writer = EventWriter::truncated(&path, length).unwrap();
    writer.scalars(3.0, 2, &value(0.25)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    let short = EventWriter::truncated(&path, 10_000).unwrap_err();
    assert!(matches!(short, LogError::TooShort { recorded: 10_000, .. }), "{short}");
}

#[test]
fn a_step_without_values_leaves_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path(), 1.0).unwrap();
    let before = writer.sync().unwrap();
    writer.scalars(2.0, 1, &[]).unwrap();
    assert_eq!(writer.sync().unwrap(), before);
}

#[test]
fn varints_have_seven_bits_a_byte() {
    for (value, expected) in [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (u64::MAX, "ffffffffffffffffff01")]
    {
        let mut out = Vec::new();
        varint(&mut out, value);
        assert_eq!(hexadecimal(&out), expected);
    }
}
