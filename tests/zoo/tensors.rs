//! Tensor files whose header lies, or whose values or names do harm.

use safetensors::tensor::Dtype;

use super::hostile_case::HostileCase;
use super::making::{CONFIG, QUERY, RANK, TENSORS, WIDTH, claimed, entry, header, raw, sound, sparse, write, written};
use crate::support::Stored;

/// Name of the tensor that is spoiled.
fn query() -> String {
    format!("{QUERY}.lora_A.weight")
}

/// A sound adapter with one tensor of another type, of these bytes over and over.
fn typed(at: &std::path::Path, dtype: Dtype, element: &[u8]) {
    let mut made = sound();
    let bytes = element.repeat(RANK * WIDTH);
    made.tensors.insert(query(), Stored { dtype, shape: vec![RANK, WIDTH], bytes });
    made.write(at);
}

/// A header of one tensor of four bytes, with this metadata.
fn noted(metadata: &str) -> String {
    header(&[format!(r#""__metadata__":{metadata}"#), entry("a", "F32", "[1]", 0, 4)])
}

/// A sound adapter whose header has this metadata.
fn annotated(at: &std::path::Path, key: &str, value: &str) {
    sound().write(at);
    let bytes = fs_err::read(at.join(TENSORS)).expect("readable");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut fields: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    fields["__metadata__"] = serde_json::json!({ "format": "pt", key: value });
    let text = fields.to_string();
    write(at, TENSORS, [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[8 + length..]].concat());
}

pub(crate) fn headers() -> Vec<HostileCase> {
    vec![
        HostileCase::new("header-of-all-bytes", &["header-size"], |at| claimed(at, u64::MAX, b"{}", b"")),
        HostileCase::new("header-of-100-mb", &["header-size"], |at| claimed(at, 100_000_001, b"{}", b"")),
        HostileCase::new("header-of-9-mb-present", &["header-size"], |at| {
            let blanks = vec![b' '; 9 << 20];
            raw(at, [header(&[entry("a", "F32", "[1]", 0, 4)]).as_bytes(), &blanks].concat(), &[0; 4]);
        }),
        HostileCase::new("header-beyond-the-file", &["truncated"], |at| claimed(at, 4096, b"{\"", b"")),
        HostileCase::new("seven-bytes", &["truncated"], |at| {
            write(at, CONFIG, sound().config.to_string());
            write(at, TENSORS, [0; 7]);
        }),
        HostileCase::new("empty-tensors", &["truncated"], |at| {
            write(at, CONFIG, sound().config.to_string());
            write(at, TENSORS, b"");
        }),
        HostileCase::new("header-not-utf8", &["header-syntax"], |at| raw(at, b"{\"\xff\xfe\": 1}", b"")),
        HostileCase::new("header-not-json", &["header-syntax"], |at| raw(at, "{\"a\": tensors}", b"")),
        HostileCase::new("header-of-no-bytes", &["header-syntax"], |at| raw(at, "", b"")),
        HostileCase::new("header-an-array", &["header-syntax"], |at| raw(at, "[1, 2, 3]", b"")),
        HostileCase::new("header-nested", &["header-syntax"], |at| {
            raw(at, format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)), b"");
        }),
        HostileCase::new("metadata-nested", &["header-syntax"], |at| {
            raw(at, noted(&format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))), &[0; 4]);
        }),
        HostileCase::new("key-twice", &["header-syntax"], |at| {
            raw(at, header(&[entry("a", "F32", "[1]", 0, 4), entry("a", "F32", "[1]", 4, 8)]), &[0; 8]);
        }),
        HostileCase::new("key-twice-escaped", &["header-syntax"], |at| {
            raw(at, header(&[entry("a", "F32", "[1]", 0, 4), entry("\\u0061", "F32", "[1]", 4, 8)]), &[0; 8]);
        }),
        HostileCase::new("metadata-twice", &["header-syntax"], |at| {
            let note = "\"__metadata__\":{\"format\":\"pt\"}".to_owned();
            raw(at, header(&[note.clone(), entry("a", "F32", "[1]", 0, 4), note]), &[0; 4]);
        }),
        HostileCase::new("metadata-a-number", &["header-syntax"], |at| raw(at, noted("{\"a\":7}"), &[0; 4])),
        HostileCase::new("unknown-field", &["header-syntax"], |at| {
            raw(at, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"code\":\"x\"}}", &[0; 4]);
        }),
        HostileCase::new("field-twice", &["header-syntax"], |at| {
            raw(at, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"shape\":[1],\"data_offsets\":[0,4]}}", &[0; 4]);
        }),
        HostileCase::new("negative-offset", &["header-syntax"], |at| {
            raw(at, header(&[entry("a", "F32", "[1]", -4, 0)]), &[0; 4]);
        }),
        HostileCase::new("negative-dimension", &["header-syntax"], |at| {
            raw(at, header(&[entry("a", "F32", "[-1,-1]", 0, 4)]), &[0; 4]);
        }),
        HostileCase::new("two-headers", &["header-syntax"], |at| raw(at, "{}{}", b"")),
        HostileCase::new("unknown-dtype", &["tensor-layout"], |at| {
            raw(at, header(&[entry("a", "F31", "[1]", 0, 4)]), &[0; 4]);
        }),
        HostileCase::new("offsets-reversed", &["tensor-layout"], |at| {
            raw(at, header(&[entry("a", "F32", "[1]", 4, 0)]), &[0; 4]);
        }),
        HostileCase::new("offsets-beyond-the-file", &["truncated"], |at| {
            raw(at, header(&[entry("a", "F32", "[4]", 0, 16)]), &[0; 4]);
        }),
        HostileCase::new("offsets-beyond-all-files", &["truncated"], |at| {
            raw(at, header(&[entry("a", "U8", "[9223372036854775807]", 0, i64::MAX)]), &[0; 4]);
        }),
        HostileCase::new("shape-overflows", &["tensor-layout"], |at| {
            raw(at, header(&[entry("a", "F32", "[4294967296,4294967296]", 0, 0)]), b"");
        }),
        HostileCase::new("shape-overflows-times-zero", &["tensor-layout"], |at| {
            raw(at, header(&[entry("a", "F32", "[4294967296,4294967296,0]", 0, 0)]), b"");
        }),
        HostileCase::new("size-mismatch", &["tensor-layout"], |at| {
            raw(at, header(&[entry("a", "F32", "[3]", 0, 8)]), &[0; 8]);
        }),
        HostileCase::new("nine-dimensions", &["tensor-layout"], |at| {
            raw(at, header(&[entry("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4)]), &[0; 4]);
        }),
        HostileCase::new("million-dimensions", &["tensor-layout"], |at| {
            let shape = format!("[{}1]", "1,".repeat(1_000_000));
            raw(at, header(&[entry("a", "F32", &shape, 0, 4)]), &[0; 4]);
        }),
        HostileCase::new("overlap", &["overlapping-tensors"], |at| {
            raw(at, header(&[entry("a", "F32", "[2]", 0, 8), entry("b", "F32", "[2]", 4, 12)]), &[0; 12]);
        }),
        HostileCase::new("same-bytes-twice", &["overlapping-tensors"], |at| {
            raw(at, header(&[entry("a", "F32", "[2]", 0, 8), entry("b", "F32", "[2]", 0, 8)]), &[0; 8]);
        }),
        HostileCase::new("hole", &["unclaimed-bytes"], |at| {
            raw(at, header(&[entry("a", "F32", "[1]", 0, 4), entry("b", "F32", "[1]", 8, 12)]), &[0; 12]);
        }),
        HostileCase::new("program-appended", &["unclaimed-bytes"], |at| {
            sound().write(at);
            let bytes = fs_err::read(at.join(TENSORS)).expect("readable");
            write(at, TENSORS, [&bytes, b"\x7fELF\x02\x01\x01".as_slice(), &[0; 200]].concat());
        }),
        HostileCase::new("no-tensors", &["config-mismatch"], |at| raw(at, "{}", b"")),
    ]
}

pub(crate) fn values() -> Vec<HostileCase> {
    vec![
        HostileCase::new("nan-f32", &["non-finite"], |at| typed(at, Dtype::F32, &f32::NAN.to_le_bytes())),
        HostileCase::new("infinite-f32", &["non-finite"], |at| typed(at, Dtype::F32, &f32::NEG_INFINITY.to_le_bytes())),
        HostileCase::new("nan-bf16", &["non-finite"], |at| typed(at, Dtype::BF16, &[0xc0, 0x7f])),
        HostileCase::new("infinite-f16", &["non-finite"], |at| typed(at, Dtype::F16, &[0x00, 0x7c])),
        HostileCase::new("nan-last-of-many", &["non-finite"], |at| {
            let mut made = sound();
            let mut values = vec![0.01; 70_001];
            values[70_000] = f32::NAN;
            made.set("base_model.model.extra.weight", &[70_001], values);
            made.write(at);
        }),
        HostileCase::new("whole-numbers", &["unanalysed-tensor"], |at| typed(at, Dtype::I64, &[1; 8])),
        HostileCase::new("eight-bit-floats", &["unanalysed-tensor"], |at| typed(at, Dtype::F8_E4M3, &[0x38])),
        HostileCase::new("bytes-for-weights", &["unanalysed-tensor"], |at| typed(at, Dtype::U8, &[7])),
        HostileCase::new("no-element", &["config-mismatch"], |at| {
            let mut made = sound();
            made.set("base_model.model.model.norm.weight", &[0, WIDTH], []);
            made.write(at);
        }),
        HostileCase::new("largest-values", &[], |at| typed(at, Dtype::F32, &f32::MAX.to_le_bytes())),
        HostileCase::new("smallest-values", &[], |at| typed(at, Dtype::F32, &f32::from_bits(1).to_le_bytes())),
        HostileCase::new("header-of-many-tensors", &["header-size"], |at| {
            write(at, CONFIG, sound().config.to_string());
            written(at, TENSORS, |file| {
                let tensor = |index: i64| entry(&format!("t{index:06}"), "U8", "[1]", index, index + 1);
                let count = 200_000;
                let each = tensor(100_000).len() as i64;
                // Offsets vary in width, so the length is summed and not guessed.
                let length: usize = (0..count).map(|index| tensor(index).len() + 1).sum::<usize>() + 1;
                assert!(length as i64 > 8 << 20 && each > 40, "the header is long");
                file.write_all(&(length as u64).to_le_bytes()).expect("written");
                for index in 0..count {
                    file.write_all(if index == 0 { b"{" } else { b"," }).expect("written");
                    file.write_all(tensor(index).as_bytes()).expect("written");
                }
                file.write_all(b"}").expect("written");
                file.write_all(&vec![0; count as usize]).expect("written");
            });
        }),
        HostileCase::new("names-with-escapes", &["config-mismatch"], |at| {
            let mut made = sound();
            made.set("\u{1b}[2J\u{1b}]0;owned\u{7}base_model.\u{1b}[31m.lora_A.weight", &[1], [0.5]);
            made.write(at);
        }),
        HostileCase::new("names-with-escapes-and-nan", &["non-finite"], |at| {
            let mut made = sound();
            made.set("base_model.model.\u{1b}[1A\u{1b}[2K\u{202e}.weight", &[1], [f32::NAN]);
            made.write(at);
        }),
        HostileCase::new("whole-tensor-with-escapes", &["whole-tensor"], |at| {
            let mut made = sound();
            made.set("base_model.model.model.\u{1b}[8m\r\n\u{9b}2J.weight", &[2, 2], [0.5; 4]);
            made.write(at);
        }),
        HostileCase::new("module-with-escapes", &["rank", "scale"], |at| {
            let mut made = sound();
            made.config["r"] = 300.into();
            made.config["lora_alpha"] = 30_000.into();
            made.tensors.clear();
            for (side, shape) in [("lora_A", [300, 8]), ("lora_B", [8, 300])] {
                let values = super::making::noise(3, 2400);
                made.set(&format!("base_model.model.x\u{1b}[5m.q_proj.{side}.weight"), &shape, values);
            }
            made.write(at);
        }),
        HostileCase::new("tensors-of-a-hole", &["header-syntax"], |at| {
            write(at, CONFIG, sound().config.to_string());
            sparse(at, TENSORS, &2_u64.to_le_bytes(), 64 << 20);
        }),
    ]
}

pub(crate) fn notes() -> Vec<HostileCase> {
    vec![
        HostileCase::new("metadata-long", &["metadata"], |at| annotated(at, "note", &"a b ".repeat(250_000))),
        HostileCase::new("metadata-code", &["metadata"], |at| annotated(at, "note", "__import__('os').system('id')")),
        HostileCase::new("metadata-code-in-key", &["metadata"], |at| annotated(at, "eval(input())", "x")),
        HostileCase::new("metadata-turned", &["metadata"], |at| annotated(at, "note", "safe\u{202e}lufmrah")),
        HostileCase::new("metadata-escapes", &["metadata"], |at| annotated(at, "\u{1b}[2J", "\u{1b}]0;x\u{7}")),
        HostileCase::new("metadata-blob", &["metadata"], |at| annotated(at, "blob", &"QUJD".repeat(300))),
        HostileCase::new("metadata-of-a-million-keys", &["tensor-layout"], |at| {
            // The file is refused for its tensor; what matters is what its notes cost.
            let notes: Vec<String> = (0..700_000).map(|index| format!("\"{index:x}\":\"\"")).collect();
            raw(
                at,
                header(&[format!("\"__metadata__\":{{{}}}", notes.join(",")), entry("a", "F32", "[2]", 0, 4)]),
                &[0; 4],
            );
        }),
    ]
}
