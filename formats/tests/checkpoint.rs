//! The safetensors reader against files that lie: every refusal has its variant and names the file and the tensor.

use std::path::{Path, PathBuf};

use lcr_formats::checkpoint::{Checkpoint, CheckpointError, Dtype, SafetensorsFile};
use proptest::prelude::*;

/// A folder with one file in it.
struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn written(name: &str, bytes: &[u8]) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Written { _folder: folder, path }
}

/// A file from its header's text and its data.
fn assemble(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// One entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn header(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(","))
}

/// A sound file: `first` is [2, 3] f32, `second` [4] bf16.
fn sound() -> Vec<u8> {
    let first: Vec<u8> = (0..6).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let second: Vec<u8> = [0x80, 0x3f].repeat(4);
    let entries = [entry("first", "F32", "[2,3]", "[0,24]"), entry("second", "BF16", "[4]", "[24,32]")];
    assemble(&header(&entries), &[first, second].concat())
}

/// Name of an error's variant.
fn variant(error: &CheckpointError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// Asserts that the bytes are refused with this variant, and that the message names the file and `named`.
fn refused(bytes: &[u8], expected: &str, named: &str) {
    let file = written("weights.safetensors", bytes);
    let error = SafetensorsFile::open(&file.path).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert_eq!(variant(&error), expected, "{message}");
    assert!(message.contains("weights.safetensors"), "the file is missing in: {message}");
    assert!(message.contains(named), "`{named}` is missing in: {message}");
}

#[test]
fn a_sound_file_is_read() {
    let file = written("weights.safetensors", &sound());
    let opened = SafetensorsFile::open(&file.path).unwrap();
    let [first, second] = opened.tensors() else {
        panic!("two tensors");
    };
    assert_eq!((first.name(), first.shape(), first.dtype()), ("first", &[2, 3][..], Dtype::F32));
    assert_eq!(first.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let mut middle = [0.0; 2];
    first.widen(2..4, &mut middle);
    assert_eq!(middle, [2.0, 3.0]);
    assert_eq!(second.to_f32(), [1.0; 4]);
    // Nothing, and a scalar, are tensors too; padding after the header is part of it.
    let entries = [entry("none", "F32", "[0,5]", "[0,0]"), entry("scalar", "F16", "[]", "[0,2]")];
    let padded = format!("{}   ", header(&entries));
    let file = written("weights.safetensors", &assemble(&padded, &[0, 0x3c]));
    let opened = SafetensorsFile::open(&file.path).unwrap();
    assert_eq!(opened.tensors().len(), 2);
    assert_eq!(opened.tensors()[1].to_f32(), [1.0]);
}

#[test]
fn metadata_may_be_text_null_or_missing() {
    let tensor = entry("a", "F32", "[1]", "[0,4]");
    for (metadata, length) in [(r#"{"format":"pt"}"#, 1), ("null", 0), ("{}", 0)] {
        let text = format!(r#"{{"__metadata__":{metadata},{tensor}}}"#);
        let file = written("weights.safetensors", &assemble(&text, &[0; 4]));
        assert_eq!(SafetensorsFile::open(&file.path).unwrap().metadata().len(), length);
    }
    for metadata in ["[]", "1", r#"{"a":1}"#] {
        let text = format!(r#"{{"__metadata__":{metadata},{tensor}}}"#);
        refused(&assemble(&text, &[0; 4]), "Header", "header");
    }
}

#[test]
fn lengths_that_do_not_fit_the_file() {
    refused(&[], "Truncated", "8");
    refused(&[1, 2, 3], "Truncated", "the file has 3");
    refused(&u64::MAX.to_le_bytes(), "HeaderTooLarge", &u64::MAX.to_string());
    refused(&100_000_001_u64.to_le_bytes(), "HeaderTooLarge", "100000001");
    refused(&100_u64.to_le_bytes(), "Truncated", "108");
    let whole = sound();
    for cut in 0..whole.len() {
        let file = written("weights.safetensors", &whole[..cut]);
        let error = SafetensorsFile::open(&file.path).unwrap_err();
        assert!(matches!(error, CheckpointError::Truncated { .. }), "{cut}: {error}");
    }
    refused(&whole[..whole.len() - 1], "Truncated", "tensor `second`");
    refused(&[whole, vec![0]].concat(), "Unclaimed", "data bytes 32..33");
}

#[test]
fn tensors_that_do_not_tile_the_data() {
    let file = |left: &str, right: &str, length: usize| {
        let entries = [entry("left", "F32", "[2]", left), entry("right", "F32", "[2]", right)];
        assemble(&header(&entries), &vec![0; length])
    };
    refused(&file("[0,8]", "[4,12]", 12), "Overlap", "`left` and `right`");
    refused(&file("[0,8]", "[0,8]", 8), "Overlap", "`right`");
    refused(&file("[0,8]", "[12,20]", 20), "Unclaimed", "8..12");
    refused(&file("[4,12]", "[12,20]", 20), "Unclaimed", "0..4");
    refused(&assemble("{}", &[0; 4]), "Unclaimed", "0..4");
}

#[test]
fn descriptions_that_contradict_themselves() {
    let rows: &[(&str, &str, &str, &str)] = &[
        ("F32", "[2]", "[8,0]", "run backwards"),
        ("F32", "[3]", "[0,8]", "takes 12 bytes"),
        ("F16", "[2]", "[0,8]", "takes 4 bytes"),
        ("F8_E9", "[2]", "[0,8]", "unknown dtype `F8_E9`"),
        ("f32", "[2]", "[0,8]", "unknown dtype"),
        ("", "[2]", "[0,8]", "unknown dtype"),
        ("F32", "[18446744073709551615,2]", "[0,8]", "overflows"),
        ("F32", "[4294967296,4294967296,4294967296]", "[0,8]", "overflows"),
        ("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]", "9 dimensions"),
    ];
    for (dtype, shape, offsets, named) in rows {
        let bytes = assemble(&header(&[entry("lie", dtype, shape, offsets)]), &[0; 8]);
        refused(&bytes, "Tensor", "tensor `lie`");
        refused(&bytes, "Tensor", named);
    }
    for offsets in ["[0,18446744073709551615]", "[18446744073709551607,18446744073709551615]"] {
        let bytes = assemble(&header(&[entry("far", "F32", "[2]", offsets)]), &[0; 8]);
        let file = written("weights.safetensors", &bytes);
        let error = SafetensorsFile::open(&file.path).unwrap_err();
        assert!(error.to_string().contains("`far`"), "{error}");
    }
}

#[test]
fn headers_that_are_not_what_the_format_asks_for() {
    let same = entry("twice", "F32", "[1]", "[0,4]");
    let rows = [
        header(&[same.clone(), same]),
        header(&[entry("a", "F32", "[-1]", "[0,4]")]),
        header(&[entry("a", "F32", "[1.5]", "[0,4]")]),
        header(&[entry("a", "F32", "[1e3]", "[0,4]")]),
        header(&[entry("a", "F32", "[18446744073709551616]", "[0,4]")]),
        header(&[entry("a", "F32", "[1]", "[-4,0]")]),
        header(&[entry("a", "F32", "[1]", "[0]")]),
        header(&[entry("a", "F32", "[1]", "[0,4,8]")]),
        header(&[entry("a", "F32", "1", "[0,4]")]),
        r#"{"a":{"dtype":"F32","shape":[1]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":1}"#.to_owned(),
        r#"{"__metadata__":{},"__metadata__":{}}"#.to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        String::new(),
        "{".to_owned(),
        "{} {}".to_owned(),
        format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{\"__metadata__\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
    ];
    for text in rows {
        refused(&assemble(&text, &[0; 4]), "Header", "not valid");
    }
    let not_text = [&4_u64.to_le_bytes()[..], &[b'{', 0xff, 0xfe, b'}']].concat();
    refused(&not_text, "Header", "utf-8");
}

#[test]
fn what_stands_in_the_place_of_weights() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    refused(pointer, "LfsPointer", "git lfs pull");
    let absent = SafetensorsFile::open(Path::new("absent/weights.safetensors")).unwrap_err();
    assert!(matches!(absent, CheckpointError::Io { .. }), "{absent}");
    let folder = tempfile::tempdir().unwrap();
    let error = SafetensorsFile::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
}

#[test]
fn tensors_that_are_not_finite_floats_of_the_right_shape() {
    let entries = [entry("nan", "F32", "[2]", "[0,8]"), entry("count", "I64", "[1]", "[8,16]")];
    let data = [1.0_f32.to_le_bytes(), f32::NAN.to_le_bytes(), [0; 4], [0; 4]].concat();
    let file = written("weights.safetensors", &assemble(&header(&entries), &data));
    let opened = SafetensorsFile::open(&file.path).unwrap();
    let [nan, count] = opened.tensors() else {
        panic!("two tensors");
    };
    let error = nan.to_finite_f32().unwrap_err();
    assert!(matches!(error, CheckpointError::NonFinite { index: 1, .. }), "{error}");
    assert!(error.to_string().contains("`nan`"), "{error}");
    let error = nan.expect(&[3]).unwrap_err();
    assert!(error.to_string().contains("shape [2], expected [3]"), "{error}");
    let error = count.expect(&[1]).unwrap_err();
    assert!(matches!(error, CheckpointError::NotFloat { .. }), "{error}");
    assert!(error.to_string().contains("`count` is stored as I64"), "{error}");
    // What cannot be widened is left as it was, never read past.
    assert_eq!(count.to_f32(), [0.0]);
}

/// A folder with shards `one` and `two` and this index.
fn sharded(index: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let bytes = assemble(&header(&[entry(name, "F32", "[1]", "[0,4]")]), &[0; 4]);
        std::fs::write(folder.path().join(format!("{name}.safetensors")), bytes).unwrap();
    }
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    folder
}

#[test]
fn indices_that_lie() {
    let sound = r#"{"weight_map":{"one":"one.safetensors","two":"two.safetensors"}}"#;
    let folder = sharded(sound);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!((checkpoint.parameters(), checkpoint.bytes()), (2, 8));
    let error = checkpoint.get("three", &[1]).unwrap_err();
    assert!(matches!(error, CheckpointError::Missing { .. }), "{error}");
    let rows = [
        (r#"{"weight_map":{"one":"../one.safetensors"}}"#, "leaves the folder"),
        (r#"{"weight_map":{"one":"/etc/passwd"}}"#, "leaves the folder"),
        (r#"{"weight_map":{"one":".."}}"#, "leaves the folder"),
        (r#"{"weight_map":{"one":"."}}"#, "leaves the folder"),
        (r#"{"weight_map":{"one":""}}"#, "leaves the folder"),
        (r#"{"weight_map":{"one":"..\\one.safetensors"}}"#, "leaves the folder"),
        (r#"{"weight_map":{"one":"two.safetensors"}}"#, "tensor `two` of two.safetensors is not in the index"),
        (r#"{"weight_map":{"one":"one.safetensors","ghost":"one.safetensors"}}"#, "tensor `ghost` is not in"),
        (r#"{"weight_map":{"one":"two.safetensors","two":"one.safetensors"}}"#, "the index says"),
        (r#"{"weight_map":[]}"#, "not a shard index"),
        ("{}", "not a shard index"),
        ("", "not a shard index"),
    ];
    for (index, named) in rows {
        let folder = sharded(index);
        let error = Checkpoint::open(folder.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Index { .. }), "{index}: {error}");
        assert!(error.to_string().contains("model.safetensors.index.json"), "{error}");
        assert!(error.to_string().contains(named), "`{named}` is missing in: {error}");
    }
    let folder = sharded(r#"{"weight_map":{"one":"none.safetensors"}}"#);
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
}

#[test]
fn folders_without_weights() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::NoWeights { .. }), "{error}");
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
    assert!(error.to_string().contains("can run code"), "{error}");
    let error = Checkpoint::open(&folder.path().join("pytorch_model.bin")).unwrap_err();
    assert!(matches!(error, CheckpointError::NotAFolder { .. }), "{error}");
}

/// Opens bytes; whatever is accepted can be read to the end without a panic, and covers the file exactly.
fn open_and_read(bytes: &[u8]) {
    let file = written("weights.safetensors", bytes);
    if let Ok(opened) = SafetensorsFile::open(&file.path) {
        let mut claimed = 0;
        for tensor in opened.tensors() {
            assert_eq!(tensor.to_f32().len(), tensor.len());
            assert_eq!(tensor.bytes().len(), tensor.len() * tensor.dtype().size());
            claimed += tensor.bytes().len();
            tensor.release();
            let _ = tensor.to_finite_f32();
        }
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(start + claimed, bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        open_and_read(&bytes);
    }

    #[test]
    fn random_headers_never_panic(text in r#"[\{\}\[\]",:a-cF0-9\- ]{0,80}"#, data in 0_usize..40) {
        open_and_read(&assemble(&text, &vec![0; data]));
    }

    #[test]
    fn mutated_files_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = sound();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        open_and_read(&bytes);
    }

    #[test]
    fn random_descriptions_never_panic(
        shape in proptest::collection::vec(prop_oneof![0_u64..5, any::<u64>()], 0..10),
        offsets in (prop_oneof![0_u64..40, any::<u64>()], prop_oneof![0_u64..40, any::<u64>()]),
        dtype in prop_oneof![Just("F32"), Just("BF16"), Just("I64"), Just("BOOL"), Just("X")],
        length in 0_usize..40,
    ) {
        let text = header(&[entry("a", dtype, &format!("{shape:?}"), &format!("[{},{}]", offsets.0, offsets.1))]);
        open_and_read(&assemble(&text, &vec![0; length]));
    }
}
