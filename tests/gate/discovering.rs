//! What a scan finds, enters and recognises, from the command line.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::bench::{Bench, PICKLE, finding, items, rules};
use crate::support::audit_in;

fn paths(report: &Value) -> Vec<&str> {
    items(report, "/artifacts").iter().map(|artifact| artifact["path"].as_str().expect("text")).collect()
}

fn objections(report: &Value) -> Vec<String> {
    let findings = items(report, "/artifacts").iter().flat_map(|artifact| items(artifact, "/findings"));
    let told = findings.filter(|finding| finding["level"] != "allow");
    told.map(|finding| format!("{} {} {}", finding["level"], finding["rule"], finding["file"])).collect()
}

#[test]
fn what_was_not_entered_is_told_for_the_path_itself() {
    let bench = Bench::new();
    bench.sound("adapters/good");
    symlink("/etc", bench.path("adapters/evil")).expect("linked");
    let run = bench.run(["scan", "adapters", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!(paths(&report), ["adapters", "adapters/good"]);
    let link = finding(&report, "link-outside");
    assert_eq!((&link["artifact"], &link["file"]), (&json!("adapters"), &json!("evil")));
    // Its digest changes with the target, so that nothing outlives the link.
    let before = report["artifacts"][0]["sha256"].clone();
    fs_err::remove_file(bench.path("adapters/evil")).expect("removed");
    symlink("/usr", bench.path("adapters/evil")).expect("linked");
    assert_ne!(bench.run(["scan", "adapters", "--json"]).json()["artifacts"][0]["sha256"], before);
}

#[test]
fn hidden_and_nested_adapters_are_adapters() {
    let bench = Bench::new();
    bench.sound("adapters/good");
    bench.hostile("adapters/.evil");
    bench.hostile("adapters/good/checkpoints/last");
    for arguments in [vec!["adapters"], vec!["adapters/good/adapter_config.json", "adapters/.evil/adapter_config.json"]]
    {
        let run = bench.run([vec!["scan", "--json"], arguments].concat());
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert_eq!(paths(&run.json()), ["adapters/.evil", "adapters/good", "adapters/good/checkpoints/last"]);
    }
}

#[test]
fn a_second_tensor_file_is_told_however_it_is_written() {
    let text = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let spaced = [text.replace('{', "{ "), text.replace(':', " : "), text.replacen('{', "{\r\n\t", 1)];
    for (index, header) in std::iter::once(text.to_owned()).chain(spaced).enumerate() {
        for name in
            ["evil.safetensors", "Adapter_Model.SAFETENSORS", "\u{430}dapter_model.safetensors", "weights", "vocab.txt"]
        {
            let bench = Bench::new();
            bench.sound("adapter");
            let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
            bench.write(&format!("adapter/{name}"), bytes);
            let run = bench.run(["scan", "adapter", "--json"]);
            assert_eq!(run.code, 1, "{name}, header {index}");
            assert!(rules(&run.json()).contains(&"unanalysed-tensor"), "{name}, header {index}");
        }
    }
}

#[test]
fn the_digest_of_an_ordinary_folder_is_that_of_sha256sum() {
    let bench = Bench::new();
    bench.sound("adapter");
    bench.write("adapter/notes/a.md", "# Notes\n");
    let report = bench.run(["scan", "adapter", "--json"]).json();
    let script = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1";
    let ended = std::process::Command::new("bash").args(["-c", script]).current_dir(bench.path("adapter")).output();
    let expected = String::from_utf8(ended.expect("bash starts").stdout).expect("text");
    assert_eq!(report["artifacts"][0]["sha256"], expected.trim());
}

#[test]
fn a_download_of_the_hub_is_quiet() {
    let bench = Bench::new();
    let adapter = bench.sound("adapter");
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let note = format!("{hash}\n{hash}\n1764460800.5\n");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        bench.write(&format!("adapter/.cache/huggingface/download/{name}.metadata"), &note);
        bench.write(&format!("adapter/.cache/huggingface/download/{name}.lock"), "");
    }
    bench.write("adapter/.cache/huggingface/.gitignore", "*");
    bench.write("adapter/.cache/huggingface/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n");
    let report = audit_in(&adapter, ["scan", ".", "--json"]).json();
    assert_eq!(objections(&report), [""; 0]);
    // The names alone hide nothing.
    bench.write("adapter/.cache/huggingface/download/x.metadata", PICKLE);
    let run = bench.run(["scan", "adapter", "--json"]);
    assert_eq!(run.code, 1);
    assert!(rules(&run.json()).contains(&"pickle-import"));
}

#[test]
fn a_snapshot_of_the_cache_passes() {
    let bench = Bench::new();
    let adapter = bench.sound("plain");
    let digests = bench.run(["scan", "plain", "--json"]).json();
    let (blobs, snapshot) = ("hub/models--a--b/blobs", "hub/models--a--b/snapshots/main");
    for file in items(&digests["artifacts"][0], "/files") {
        let (name, sha256) = (file["path"].as_str().expect("a name"), file["sha256"].as_str().expect("a digest"));
        bench.write(&format!("{blobs}/{sha256}"), fs_err::read(adapter.join(name)).expect("readable"));
        fs_err::create_dir_all(bench.path(snapshot)).expect("created");
        symlink(format!("../../blobs/{sha256}"), bench.path(snapshot).join(name)).expect("linked");
    }
    for path in [snapshot, "hub", "hub/models--a--b"] {
        let run = bench.run(["scan", path, "--json"]);
        assert_eq!(run.code, 0, "{path}: {}", run.stdout);
        let report = run.json();
        assert_eq!(paths(&report), [snapshot]);
        assert_eq!(report["artifacts"][0]["sha256"], digests["artifacts"][0]["sha256"]);
        assert_eq!(report["artifacts"][0]["adapter"]["tensors"], digests["artifacts"][0]["adapter"]["tensors"]);
    }
}

#[test]
fn files_of_trainers_are_a_line_each() {
    let bench = Bench::new();
    bench.sound("adapter");
    let arguments =
        b"\x80\x02ctransformers.training_args\nTrainingArguments\n)\x81}X\x04\x00\x00\x00seedK\x01sb.".as_slice();
    bench.write("adapter/training_args.bin", arguments);
    bench.write("adapter/scheduler.pt", b"\x80\x02}X\x0a\x00\x00\x00last_epochK\x05s.");
    let events = b"\x18\0\0\0\0\0\0\0\x01\x02\x03\x04\x09\0\0\0\0\0\0\xd8A\x1a\x0dbrain.Event:2rest";
    bench.write("adapter/runs/Nov29/events.out.tfevents.17.host.1.0", events);
    let run = bench.run(["scan", "adapter", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(
        objections(&run.json()),
        ["\"warn\" \"trainer-state\" \"scheduler.pt\"", "\"warn\" \"trainer-state\" \"training_args.bin\""]
    );
    // The same content by another name, and another content by the same name.
    bench.write("adapter/arguments.bin", arguments);
    assert_eq!(bench.run(["scan", "adapter", "--json"]).code, 1);
    fs_err::remove_file(bench.path("adapter/arguments.bin")).expect("removed");
    bench.write("adapter/training_args.bin", PICKLE);
    assert_eq!(bench.run(["scan", "adapter", "--json"]).code, 1);
}

#[test]
fn a_bin_that_is_no_pickle_blocks_no_commit() {
    let bench = Bench::new();
    bench.write("firmware.bin", [0; 3000]);
    bench.write("note.bin", "A note\n");
    let run = bench.run(["scan", "--json", "firmware.bin", "note.bin"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    assert_eq!(rules(&run.json()), ["unknown-file", "unknown-file"]);
}
