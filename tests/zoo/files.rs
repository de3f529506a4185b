//! Files that are no adapter's: links, pipes, programs, names that lie, more than anyone reads.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::hostile_case::HostileCase;
use super::making::{CONFIG, TENSORS, beside, claimed, entry, header, sound, sparse, write};
use super::pickles::SYSTEM;

const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
/// Beyond what any scan reads.
const TERABYTE: u64 = 1 << 40;

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo starts");
    assert!(made.success(), "mkfifo {}", path.display());
}

/// A sound adapter with a link in it.
fn linked(at: &Path, name: &str, target: impl AsRef<Path>) {
    sound().write(at);
    symlink(target, at.join(name)).expect("linked");
}

/// A sound adapter whose tensors stand outside, behind a link.
fn tensors_elsewhere(at: &Path) {
    sound().write(at);
    let outside = at.with_extension("outside");
    fs_err::rename(at.join(TENSORS), &outside).expect("moved");
    symlink(outside, at.join(TENSORS)).expect("linked");
}

/// A file whose path is longer than the system takes, made by renaming the folders above it, the deepest first.
fn unreachable(at: &Path) {
    const DEPTH: usize = 15;
    sound().write(at);
    let mut folders = vec![at.to_owned()];
    for level in 0..DEPTH {
        folders.push(folders[level].join("d"));
    }
    write(&folders[DEPTH], &"f".repeat(255), "content");
    for level in (1..=DEPTH).rev() {
        fs_err::rename(&folders[level], folders[level - 1].join("d".repeat(255))).expect("renamed");
    }
}

pub(crate) fn links_and_pipes() -> Vec<HostileCase> {
    vec![
        HostileCase::new("link-outside", &["link-outside"], |at| linked(at, "notes.txt", "/etc/passwd")),
        HostileCase::new("link-to-a-folder-outside", &["link-outside"], |at| linked(at, "more", "/etc")),
        HostileCase::new("link-climbs", &["link-outside"], |at| {
            linked(at, "notes.txt", "../../../../../../etc/passwd");
        }),
        HostileCase::new("link-dangling", &["link-outside"], |at| linked(at, "notes.txt", "nowhere")),
        HostileCase::new("link-loop", &["link-outside"], |at| {
            linked(at, "a", "b");
            symlink("a", at.join("b")).expect("linked");
        }),
        HostileCase::new("link-to-the-folder-itself", &[], |at| linked(at, "again", ".")),
        HostileCase::new("link-to-a-device", &["link-outside"], |at| linked(at, "zeros.json", "/dev/zero")),
        HostileCase::new("tensors-behind-a-link", &["link-outside"], tensors_elsewhere),
        HostileCase::new("tensors-linked-to-a-device", &["link-outside"], |at| {
            write(at, CONFIG, sound().config.to_string());
            symlink("/dev/zero", at.join(TENSORS)).expect("linked");
        }),
        HostileCase::new("config-linked-to-a-device", &["link-outside"], |at| {
            sound().write(at);
            fs_err::remove_file(at.join(CONFIG)).expect("removed");
            symlink("/dev/zero", at.join(CONFIG)).expect("linked");
        }),
        HostileCase::new("pipe", &["special-file"], |at| {
            sound().write(at);
            pipe(&at.join("notes.txt"));
        }),
        HostileCase::new("pipe-for-tensors", &["special-file"], |at| {
            write(at, CONFIG, sound().config.to_string());
            pipe(&at.join(TENSORS));
        }),
        HostileCase::new("pipe-for-config", &["special-file"], |at| {
            sound().write(at);
            fs_err::remove_file(at.join(CONFIG)).expect("removed");
            pipe(&at.join(CONFIG));
        }),
        HostileCase::new("socket", &["special-file"], |at| {
            sound().write(at);
            drop(UnixListener::bind(at.join("s")).expect("bound"));
        }),
        HostileCase::new("link-beside-adapters", &["link-outside"], |at| {
            sound().write(&at.join("good"));
            symlink("/etc", at.join("evil")).expect("linked");
        }),
        HostileCase::new("link-of-a-text-beside-adapters", &["not-entered"], |at| {
            sound().write(&at.join("good"));
            symlink("/etc/passwd", at.join("README.md")).expect("linked");
        })
        .without(&["link-outside"]),
        HostileCase::new("pipe-beside-adapters", &["special-file"], |at| {
            sound().write(&at.join("good"));
            pipe(&at.join("weights.bin"));
        }),
        HostileCase::new("checkout", &["git-folder"], |at| {
            sound().write(at);
            for name in [".git/HEAD", ".git/objects/x.pkl", ".git/refs/y.pkl"] {
                write(at, name, SYSTEM);
            }
        })
        .without(&["pickle"]),
        HostileCase::new("folder-named-git", &["pickle-import"], |at| beside(at, ".git/x.pkl", SYSTEM)),
        HostileCase::new("git-behind-a-link", &["link-outside"], |at| {
            sound().write(at);
            fs_err::create_dir_all(at.with_extension("outside")).expect("created");
            symlink(at.with_extension("outside"), at.join(".git")).expect("linked");
        }),
        HostileCase::new("blob-that-was-changed", &["cache-mismatch"], |at| {
            let hub = at.join("models--a--b");
            let (snapshot, name) = (hub.join("snapshots/main"), "0f".repeat(32));
            sound().write(&snapshot);
            fs_err::create_dir_all(hub.join("blobs")).expect("created");
            fs_err::rename(snapshot.join(TENSORS), hub.join("blobs").join(&name)).expect("moved");
            symlink(Path::new("../../blobs").join(name), snapshot.join(TENSORS)).expect("linked");
        })
        .without(&["link-outside"]),
        HostileCase::new("folder-for-tensors", &["no-adapter"], |at| {
            write(at, CONFIG, sound().config.to_string());
            fs_err::create_dir(at.join(TENSORS)).expect("created");
        }),
        HostileCase::new("path-too-long", &["unreadable-file"], unreachable),
    ]
}

pub(crate) fn programs() -> Vec<HostileCase> {
    vec![
        HostileCase::new("program-named-json", &["executable", "disguised-file"], |at| {
            beside(at, "tokenizer.json", ELF);
        }),
        HostileCase::new("program-named-tensors", &["executable", "disguised-file"], |at| {
            write(at, CONFIG, sound().config.to_string());
            write(at, TENSORS, ELF);
        }),
        HostileCase::new("library", &["executable"], |at| beside(at, "kernel.so", ELF)),
        HostileCase::new("library-of-text", &["executable"], |at| beside(at, "kernel.dll", "not yet")),
        HostileCase::new("web-assembly", &["executable"], |at| beside(at, "x.wasm", b"\0asm\x01\0\0\0")),
        HostileCase::new("bytecode", &["executable"], |at| {
            beside(at, "__pycache__/m.cpython-312.pyc", b"\xcb\r\r\n\0\0");
        }),
        HostileCase::new("windows-program", &["executable", "disguised-file"], |at| {
            beside(at, "a.png", b"MZ\x90\0\x03");
        }),
        HostileCase::new("source", &["script"], |at| beside(at, "modeling_lora.py", "import os\nos.system('id')\n")),
        HostileCase::new("source-without-extension", &["script"], |at| beside(at, "run", "#!/bin/sh\nid\n")),
        HostileCase::new("source-named-text", &["script", "disguised-file"], |at| {
            beside(at, "readme.txt", "#!/bin/sh\nid\n");
        }),
        HostileCase::new("noise-named-text", &["disguised-file"], |at| beside(at, "README.md", [0x9b; 3000])),
        HostileCase::new("second-tensors-with-blanks", &["unanalysed-tensor"], |at| {
            let text = b"\n{ \t\"a\" : {\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}".as_slice();
            beside(at, "evil.safetensors", [&(text.len() as u64).to_le_bytes(), text, &[0; 4]].concat());
        })
        .not_passed(),
        HostileCase::new("gguf", &["unknown-file"], |at| beside(at, "model.gguf", b"GGUF\x03\0\0\0\0\0\0\0")),
        HostileCase::new("unknown", &["unknown-file"], |at| beside(at, "data.xyz", b"\x01\x02\x03\x04")),
        HostileCase::new("pointer-for-tensors", &["lfs-pointer"], |at| {
            write(at, CONFIG, sound().config.to_string());
            write(at, TENSORS, POINTER);
        }),
        HostileCase::new("pointer-for-config", &["lfs-pointer"], |at| {
            sound().write(at);
            write(at, CONFIG, POINTER);
        }),
        HostileCase::new("tensors-twice", &["disguised-file"], |at| {
            sound().write(at);
            let bytes = fs_err::read(at.join(TENSORS)).expect("readable");
            write(at, "vocab.txt", bytes);
        }),
    ]
}

pub(crate) fn names() -> Vec<HostileCase> {
    vec![
        HostileCase::new("name-of-two-lines", &["deceptive-name"], |at| beside(at, "a\nb.txt", "x")),
        HostileCase::new("name-with-escapes", &["deceptive-name", "script"], |at| {
            beside(at, "a\u{1b}[2J\u{1b}[1A.py", "x");
        }),
        HostileCase::new("name-turned", &["deceptive-name"], |at| beside(at, "photo\u{202e}gpj.txt", "x")),
        HostileCase::new("name-with-nothing-to-see", &["deceptive-name"], |at| beside(at, "a\u{200b}.txt", "x")),
        HostileCase::new("folder-with-escapes", &["deceptive-name", "pickle-import"], |at| {
            beside(at, "\u{1b}]0;x\u{7}/x.pkl", SYSTEM);
        }),
        HostileCase::new("pipe-with-escapes", &["deceptive-name", "special-file"], |at| {
            sound().write(at);
            pipe(&at.join("\u{1b}[31mp"));
        }),
        #[cfg(target_os = "linux")]
        HostileCase::new("names-that-look-alike", &["pickle-import"], |at| {
            use std::ffi::OsStr;
            use std::os::unix::ffi::OsStrExt;
            // Neither name is UTF-8; shown, they are the same.
            sound().write(at);
            fs_err::write(at.join(OsStr::from_bytes(b"\xfe.md")), SYSTEM).expect("written");
            fs_err::write(at.join(OsStr::from_bytes(b"\xff.md")), "hello").expect("written");
        }),
    ]
}

pub(crate) fn amounts() -> Vec<HostileCase> {
    vec![
        HostileCase::new("twenty-folders-deep", &["beyond-limits"], |at| {
            beside(at, &format!("{}x.pkl", "d/".repeat(20)), SYSTEM);
        }),
        HostileCase::new("twelve-thousand-files", &["beyond-limits"], |at| {
            sound().write(at);
            (0..12_000).for_each(|index| write(at, &format!("f/{index}.txt"), "x"));
        }),
        HostileCase::new("nine-thousand-programs", &["script"], |at| {
            sound().write(at);
            (0..9_000).for_each(|index| write(at, &format!("f/{index}.py"), "x"));
        }),
        HostileCase::new("terabyte", &["beyond-limits"], |at| {
            sound().write(at);
            sparse(at, "weights.bin", b"\x80\x02", TERABYTE);
        }),
        HostileCase::new("terabyte-of-tensors", &["beyond-limits"], |at| {
            let size = 1_i64 << 40;
            let text = header(&[entry("base_model.model.a.weight", "F32", &format!("[{}]", size / 4), 0, size)]);
            claimed(at, text.len() as u64, text.as_bytes(), b"");
            let bytes = fs_err::read(at.join(TENSORS)).expect("readable");
            sparse(at, TENSORS, &bytes, bytes.len() as u64 + TERABYTE);
        }),
        HostileCase::new("terabyte-of-config", &["beyond-limits"], |at| {
            sound().write(at);
            sparse(at, CONFIG, b"{", TERABYTE);
        }),
        HostileCase::new("two-gigabytes-of-nothing", &["unknown-file"], |at| {
            sound().write(at);
            sparse(at, "x.data", b"\x01", 2 << 30);
        }),
        HostileCase::new("nothing", &[], |at| fs_err::create_dir_all(at).expect("created")).refused(),
        HostileCase::new("only-a-text", &[], |at| write(at, "README.md", "hello")).refused(),
        HostileCase::new("no-folder", &[], |_| {}).refused(),
        HostileCase::new("lone-file", &["foreign-format", "unknown-file"], |at| write(at, "x.gguf", b"GGUF\x03\0\0\0")),
        HostileCase::new("whole-model", &["whole-model"], |at| {
            write(at, "config.json", "{}");
            crate::support::write_tensors(at.join("model.safetensors"), &sound().tensors);
        }),
        HostileCase::new("adapter-in-a-hidden-folder", &["pickle-import"], |at| {
            beside(at, ".old/adapter_model.bin", SYSTEM);
        }),
        HostileCase::new("adapter-hidden-beside-others", &["pickle-import"], |at| {
            sound().write(&at.join("good"));
            sound().write(&at.join(".evil"));
            write(at, ".evil/adapter_model.bin", SYSTEM);
        }),
        HostileCase::new("pickle-of-no-name", &["pickle-import"], |at| {
            sound().write(&at.join("good"));
            write(at, "m/e", SYSTEM);
        }),
        HostileCase::new("model-with-code", &["whole-model", "remote-code", "script"], |at| {
            sound().write(&at.join("good"));
            write(at, "m/config.json", "{}");
            crate::support::write_tensors(at.join("m/model.safetensors"), &sound().tensors);
            write(at, "m/tokenizer_config.json", r#"{"auto_map": {"AutoTokenizer": "x.Y"}}"#);
            write(at, "m/modeling.py", "import os");
        }),
        HostileCase::new("adapter-in-an-adapter", &["pickle-import"], |at| {
            beside(at, "old/adapter_model.bin", SYSTEM);
        }),
        HostileCase::new("adapter-too-deep-among-others", &[], |at| {
            sound().write(&at.join("good"));
            sound().write(&at.join("d/".repeat(19)));
            write(&at.join("d/".repeat(19)), "adapter_model.bin", SYSTEM);
        })
        .not_passed(),
    ]
}
