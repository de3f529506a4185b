//! What stands in a batch's folder is held against what is seen: lines that were edited, links that were laid, files
//! that were exchanged.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use lcr_documents::lock::{Attempt, Lock};
use serde_json::{Value, json};

use super::batches::{arguments, fleet};
use super::bench::{Bench, PICKLE, finding, refused, rules};
use crate::support::{Run, tree};

/// A policy under which the comparison of every adapter that changes anything has a finding.
const KL: &str = "[rules]\nnext-token-kl = { level = \"deny\", limit = 0.0 }";
const WITH_KL: [&str; 6] = ["--policy", "policy.toml", "--metrics", "weights,tokens", "--adapters-per-pass", "1"];

fn batch(bench: &Bench, out: &str, more: &[&str]) -> Run {
    bench.run(arguments(out, more))
}

/// Edits every line of a folder's results.
fn edit_lines(bench: &Bench, folder: &str, mut edit: impl FnMut(&mut Value)) {
    let file = format!("{folder}/results.jsonl");
    let mut text = String::new();
    for mut line in bench.lines(&file) {
        edit(&mut line);
        text.push_str(&line.to_string());
        text.push('\n');
    }
    bench.write(&file, text);
}

/// Edits a document.
fn edit(bench: &Bench, name: &str, edit: impl FnOnce(&mut Value)) {
    let mut value = bench.json(name);
    edit(&mut value);
    bench.write(name, serde_json::to_vec_pretty(&value).expect("JSON"));
}

fn name_of(line: &Value) -> &str {
    line["artifact"]["path"].as_str().expect("a path")
}

/// Makes a line say that nothing was found.
fn acquit(line: &mut Value) {
    line["artifact"]["findings"] = json!([]);
    line["artifact"]["verdict"] = json!("pass");
    line["ranking"]["verdict"] = json!("pass");
    line["ranking"]["first"] = Value::Null;
    line["ranking"]["findings"] = json!(0);
}

type Forgery = (&'static str, fn(&mut Value));

/// What may be done to a line, each in a way of its own.
const FORGERIES: [Forgery; 9] = [
    ("acquitted", acquit),
    ("acquitted, observations too", |line| {
        acquit(line);
        line["evidence"]["observations"] = json!([]);
    }),
    ("levels lowered", |line| {
        for finding in line["artifact"]["findings"].as_array_mut().expect("findings") {
            finding["level"] = json!("allow");
        }
        line["artifact"]["verdict"] = json!("pass");
    }),
    ("waived by nobody", |line| {
        for finding in line["artifact"]["findings"].as_array_mut().expect("findings") {
            finding["waiver"] = json!({"reason": "ours", "owner": "me", "expires": "2999-01-01"});
        }
        line["artifact"]["verdict"] = json!("pass");
    }),
    ("known to a baseline", |line| {
        for finding in line["artifact"]["findings"].as_array_mut().expect("findings") {
            finding["state"] = json!("unchanged");
        }
    }),
    ("only the verdict", |line| line["artifact"]["verdict"] = json!("pass")),
    ("a report without its digest", |line| {
        acquit(line);
        line["evidence"]["report"] = Value::Null;
        line["artifact"]["compared"] = json!(false);
    }),
    ("smaller numbers in the ranking", |line| line["ranking"]["kl"] = json!(0.0)),
    ("called something else", |line| line["ranking"]["name"] = json!("<script>alert(1)</script>")),
];

#[test]
fn a_line_that_was_edited_is_computed_again() {
    let bench = fleet();
    bench.policy(KL);
    assert_eq!(batch(&bench, "fleet", &WITH_KL).code, 1);
    let sound = tree(&bench.path("fleet"));
    for (name, forge) in FORGERIES {
        edit_lines(&bench, "fleet", forge);
        let run = batch(&bench, "fleet", &WITH_KL);
        assert_eq!(run.code, 1, "{name}: {}", run.stderr);
        assert!(tree(&bench.path("fleet")) == sound, "{name} is believed");
    }
}

#[test]
fn the_note_says_whose_line_was_not_kept_and_why() {
    let bench = fleet();
    assert_eq!(batch(&bench, "fleet", &[]).code, 1);
    edit_lines(&bench, "fleet", |line| {
        if name_of(line) == "adapters/a3" {
            acquit(line);
        }
    });
    let loud: Vec<&str> = arguments("fleet", &[]).into_iter().filter(|argument| *argument != "--quiet").collect();
    let run = bench.run(loud);
    assert!(run.stderr.contains("adapters/a3: its line in fleet/results.jsonl is not kept"), "{}", run.stderr);
    assert!(run.stderr.contains("4 of 6 adapters are done already"), "{}", run.stderr);
}

#[test]
fn a_report_that_was_edited_or_exchanged_is_computed_again() {
    let bench = fleet();
    bench.policy(KL);
    assert_eq!(batch(&bench, "fleet", &WITH_KL).code, 1);
    let sound = tree(&bench.path("fleet"));
    let reports: Vec<&String> = sound.keys().filter(|name| name.ends_with("/report.json")).collect();
    let (one, other) = (format!("fleet/{}", reports[0]), format!("fleet/{}", reports[1]));
    let again = |what: &str| {
        assert_eq!(batch(&bench, "fleet", &WITH_KL).code, 1, "{what}");
        assert!(tree(&bench.path("fleet")) == sound, "{what} is believed");
    };
    edit(&bench, &one, |report| report["tokens"]["kl"]["mean"] = json!(0.0));
    again("another number");
    fs_err::remove_file(bench.path(&one)).expect("removed");
    again("no report");
    fs_err::remove_file(bench.path(&one)).expect("removed");
    symlink(bench.path(&other), bench.path(&one)).expect("a link");
    again("a link to another report");
    // Another adapter's report, and the line is made to pin it.
    fs_err::copy(bench.path(&other), bench.path(&one)).expect("copied");
    let digest = bench.lines("fleet/results.jsonl").iter().find_map(|line| {
        let is_other = line["ranking"]["folder"].as_str().is_some_and(|folder| other.contains(folder));
        is_other.then(|| line["evidence"]["report"].clone())
    });
    let digest = digest.expect("the other's line");
    edit_lines(&bench, "fleet", |line| {
        if line["ranking"]["folder"].as_str().is_some_and(|folder| one.contains(folder)) {
            line["evidence"]["report"] = digest.clone();
        }
    });
    again("another adapter's report");
    // A page is no evidence, and is not left as somebody made it.
    let page = one.replace("report.json", "index.html");
    bench.write(&page, "<script>alert(1)</script>");
    again("a page");
}

#[test]
fn links_of_the_ranking_are_the_programs_own() {
    let bench = fleet();
    assert_eq!(batch(&bench, "fleet", &[]).code, 1);
    let sound = fs_err::read(bench.path("fleet/index.html")).expect("readable");
    for folder in ["javascript:alert(1)", "../../evil", "//evil.example/x", "reports/..", "reports/a0 onclick=alert(1)"]
    {
        edit_lines(&bench, "fleet", |line| line["ranking"]["folder"] = json!(folder));
        assert_eq!(batch(&bench, "fleet", &[]).code, 1);
        assert!(fs_err::read(bench.path("fleet/index.html")).expect("readable") == sound, "{folder}");
    }
    let merged = bench.run(["merge", "fleet", "--out", "merged"]);
    assert_eq!(merged.code, 1, "{}", merged.stderr);
    edit_lines(&bench, "fleet", |line| line["ranking"]["folder"] = json!("javascript:alert(1)"));
    let before = fs_err::read(bench.path("merged/index.html")).expect("readable");
    assert_eq!(bench.run(["merge", "fleet", "--out", "merged"]).code, 1);
    let after = fs_err::read_to_string(bench.path("merged/index.html")).expect("readable");
    assert!(!after.contains("javascript") && after.len() >= before.len() / 2, "{after}");
}

/// Two shards of the fleet.
fn shards(more: &[&str]) -> Bench {
    let bench = fleet();
    bench.policy(KL);
    for (shard, out) in [("1/2", "one"), ("2/2", "two")] {
        let all: Vec<&str> = ["--shard", shard].iter().chain(more).copied().collect();
        assert_eq!(batch(&bench, out, &all).code, 1);
    }
    bench
}

fn merge(bench: &Bench, more: &[&str]) -> Run {
    let fixed = ["merge", "one", "two", "--out", "merged", "--policy", "policy.toml"];
    bench.run(fixed.iter().chain(more))
}

#[test]
fn a_list_that_was_shortened_is_not_merged() {
    let bench = shards(&WITH_KL);
    let manifests = ["one", "two"].map(|folder| bench.json(&format!("{folder}/batch.json")));
    let write = |name: &str, value: &Value| bench.write(&format!("{name}/batch.json"), value.to_string());
    let dropped = "adapters/a3";
    let lines = fs_err::read(bench.path("two/results.jsonl")).expect("readable");
    let results = bench.lines("two/results.jsonl");
    let kept = results.iter().filter(|line| name_of(line) != dropped);
    let kept: Vec<String> = kept.map(|line| format!("{line}\n")).collect();
    bench.write("two/results.jsonl", kept.concat());
    refused(&merge(&bench, &[]), &["5 of 6", dropped]);
    for (name, manifest) in ["one", "two"].iter().zip(&manifests) {
        let mut counted = manifest.clone();
        counted["adapters"] = json!(5);
        write(name, &counted);
    }
    refused(&merge(&bench, &[]), &["batch.json", "edited"]);
    // The whole list, as if the adapter had never been there: what stands in the folder says otherwise.
    for (name, manifest) in ["one", "two"].iter().zip(&manifests) {
        let mut forged = manifest.clone();
        let list: Vec<Value> = forged["list"].as_array().expect("a list").clone();
        let list: Vec<Value> = list.into_iter().filter(|path| path != dropped).collect();
        let text = serde_json::to_string(&list).expect("JSON");
        forged["adapters"] = json!(5);
        forged["list_sha256"] = json!(lcr_gate::digest_of_bytes(text.as_bytes()));
        forged["list"] = json!(list);
        forged["share"].as_object_mut().expect("a share").remove(dropped);
        write(name, &forged);
    }
    refused(&merge(&bench, &[]), &[dropped, "in no shard"]);
    refused(&merge(&bench, &["--adapters", "adapters"]), &[dropped, "in no shard"]);
    for (name, manifest) in ["one", "two"].iter().zip(&manifests) {
        write(name, manifest);
    }
    bench.write("two/results.jsonl", lines);
    assert_eq!(merge(&bench, &[]).code, 1);
}

#[test]
fn a_line_that_was_edited_is_not_merged() {
    let bench = shards(&WITH_KL);
    let sound = fs_err::read(bench.path("two/results.jsonl")).expect("readable");
    for more in [&[][..], &["--no-scan"]] {
        for (name, forge) in FORGERIES {
            // Without a scan nothing says what the files hold but the line itself.
            if name == "acquitted, observations too" && !more.is_empty() {
                continue;
            }
            edit_lines(&bench, "two", forge);
            let run = merge(&bench, more);
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{name} {more:?}: {}", run.stderr);
            assert!(run.stderr.contains("two: the line on adapters/a"), "{name}: {}", run.stderr);
            bench.write("two/results.jsonl", &sound);
        }
    }
    // Other bytes than the shard saw.
    edit_lines(&bench, "two", |line| line["artifact"]["sha256"] = json!("0".repeat(64)));
    refused(&merge(&bench, &[]), &["not of its share"]);
    bench.write("two/results.jsonl", &sound);
    bench.write("adapters/a1/state.pkl", PICKLE);
    refused(&merge(&bench, &[]), &["adapters/a1", "another now"]);
    assert_eq!(merge(&bench, &["--no-scan"]).code, 1);
}

#[test]
fn adapters_that_are_not_here_are_believed_and_said_to_be() {
    let bench = shards(&WITH_KL);
    let here = merge(&bench, &["--json"]);
    assert!(!here.stderr.contains("believed"), "{}", here.stderr);
    fs_err::rename(bench.path("adapters"), bench.path("elsewhere")).expect("moved");
    let run = merge(&bench, &["--json"]);
    assert_eq!(run.json(), here.json());
    assert!(run.stderr.contains("the adapters are not here"), "{}", run.stderr);
    refused(&merge(&bench, &["--adapters", "adapters"]), &["adapters"]);
    // Reports are what comparisons are judged by: without them nothing is.
    fs_err::remove_dir_all(bench.path("one/reports")).expect("removed");
    refused(&merge(&bench, &[]), &["one: the line on adapters/a", "report.json"]);
}

#[test]
fn links_in_the_folder_are_replaced_or_refused_and_never_followed() {
    let bench = fleet();
    let outside = bench.write("home/secret", "kept");
    fs_err::create_dir_all(bench.path("fleet")).expect("created");
    for name in ["index.html", "standing.safetensors"] {
        symlink(&outside, bench.path("fleet").join(name)).expect("a link");
    }
    let run = batch(&bench, "fleet", &["--no-reports"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(bench.path("fleet/index.html").symlink_metadata().expect("there").is_file());
    for name in ["results.jsonl", "batch.json", ".lock"] {
        let _ = fs_err::remove_dir_all(bench.path("fleet"));
        assert_eq!(batch(&bench, "fleet", &["--no-reports"]).code, 1);
        let path = bench.path("fleet").join(name);
        fs_err::remove_file(&path).expect("removed");
        symlink(&outside, &path).expect("a link");
        refused(&batch(&bench, "fleet", &["--no-reports"]), &[name]);
    }
    for place in ["fleet/reports", "reports of one"] {
        let _ = fs_err::remove_dir_all(bench.path("fleet"));
        assert_eq!(batch(&bench, "fleet", &[]).code, 1);
        let path = match place {
            "fleet/reports" => bench.path(place),
            _ => fs_err::read_dir(bench.path("fleet/reports"))
                .expect("a folder")
                .next()
                .expect("one")
                .expect("an entry")
                .path(),
        };
        fs_err::remove_dir_all(&path).expect("removed");
        symlink(bench.path("home"), &path).expect("a link");
        refused(&batch(&bench, "fleet", &[]), &["is a link"]);
    }
    let home = tree(&bench.path("home"));
    assert_eq!(home, BTreeMap::from([("secret".to_owned(), b"kept".to_vec())]));
}

#[test]
fn one_batch_at_a_time_writes_into_a_folder() {
    let bench = fleet();
    assert_eq!(batch(&bench, "fleet", &["--no-reports"]).code, 1);
    let before = tree(&bench.path("fleet"));
    let Attempt::Held(lock) = Lock::acquire(&bench.path("fleet")).expect("a lock") else { panic!("nobody holds it") };
    let holder = format!("process {}", std::process::id());
    refused(&batch(&bench, "fleet", &["--no-reports"]), &["fleet is in use by", &holder]);
    refused(&bench.run(["merge", "fleet", "--out", "fleet"]), &["fleet is in use by", &holder]);
    drop(lock);
    assert!(tree(&bench.path("fleet")) == before);
    assert_eq!(batch(&bench, "fleet", &["--no-reports"]).code, 1);
}

#[test]
fn names_that_are_no_text_are_told_apart() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let bench = fleet();
    fs_err::remove_dir_all(bench.path("adapters")).expect("removed");
    let model = bench.sound("model");
    for (bytes, hostile) in [(b"x\xff", false), (b"x\xfe", true)] {
        let folder = bench.path("adapters").join(OsStr::from_bytes(bytes));
        fs_err::create_dir_all(&folder).expect("created");
        for file in fs_err::read_dir(&model).expect("a folder") {
            let file = file.expect("an entry");
            fs_err::copy(file.path(), folder.join(file.file_name())).expect("copied");
        }
        if hostile {
            fs_err::write(folder.join("state.pkl"), PICKLE).expect("written");
        }
    }
    let paths = |report: &Value| -> Vec<String> {
        let artifacts = report["artifacts"].as_array().expect("artifacts").iter();
        artifacts.map(|artifact| artifact["path"].as_str().expect("a path").to_owned()).collect()
    };
    let expected = ["adapters/x\\xfe", "adapters/x\\xff"];
    let run = batch(&bench, "fleet", &["--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report = run.json();
    assert_eq!(paths(&report), expected);
    assert_eq!(finding(&report, "pickle")["artifact"], "adapters/x\\xfe");
    assert!(report["artifacts"].as_array().expect("artifacts").iter().all(|artifact| artifact["compared"] == true));
    let before = tree(&bench.path("fleet"));
    assert_eq!(batch(&bench, "fleet", &[]).code, 1);
    assert!(tree(&bench.path("fleet")) == before, "a second run does something new");
    assert_eq!(paths(&bench.run(["scan", "adapters", "--json"]).json()), expected);
}

/// The program halts itself once it has scanned, the files are exchanged, and it goes on; its exit code, and what it
/// says of errors.
fn exchanged(bench: &Bench, exchange: impl FnOnce()) -> (Option<i32>, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .args(arguments("fleet", &["--no-reports", "--write", "json=gate.json"]))
        .current_dir(bench.root())
        .env("LCR_AUDIT_END_AT", "2:STOP")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let process = child.id() as libc::pid_t;
    let mut status = 0;
    #[expect(unsafe_code, reason = "the standard library waits for the end only, not for a halt")]
    // SAFETY: the pointer is to a local of the right type, and the child is waited for nowhere else until it goes on.
    let waited = unsafe { libc::waitpid(process, &raw mut status, libc::WUNTRACED) };
    assert!(waited == process && libc::WIFSTOPPED(status), "it did not halt: {status}");
    exchange();
    #[expect(unsafe_code, reason = "the standard library sends no signals")]
    // SAFETY: a signal to a child of our own that has not been waited for to its end.
    let sent = unsafe { libc::kill(process, libc::SIGCONT) };
    assert_eq!(sent, 0);
    let ended = child.wait_with_output().expect("it ends");
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[test]
fn what_is_compared_is_what_was_scanned() {
    let bench = fleet();
    bench.scaled("adapters/a1", 3.0);
    let weights = bench.path("adapters/a1/adapter_model.safetensors");
    let scanned = fs_err::read(&weights).expect("readable");
    let (code, said) = exchanged(&bench, || {
        fs_err::rename(&weights, bench.path("aside")).expect("moved");
        fs_err::copy(bench.path("adapters/a2/adapter_model.safetensors"), &weights).expect("copied");
    });
    assert_eq!(code, Some(1), "{said}");
    let report = bench.json("gate.json");
    let artifact = &report["artifacts"][1];
    assert_eq!((&artifact["path"], &artifact["compared"]), (&json!("adapters/a1"), &json!(false)));
    let reason = artifact["findings"].to_string();
    assert!(reason.contains("adapter_model.safetensors was changed between scan and comparison"), "{reason}");
    assert_eq!(report["artifacts"][2]["compared"], true);
    // Its config alone, and back again before the end of the run.
    fs_err::write(&weights, &scanned).expect("written");
    fs_err::remove_dir_all(bench.path("fleet")).expect("removed");
    let config = bench.path("adapters/a1/adapter_config.json");
    let (code, said) = exchanged(&bench, || {
        let text = fs_err::read_to_string(&config).expect("readable");
        let changed = text.replacen("\"lora_alpha\":", "\"lora_alpha\": ", 1);
        assert_ne!(text, changed);
        fs_err::write(&config, changed).expect("written");
    });
    assert_eq!(code, Some(1), "{said}");
    let report = bench.json("gate.json");
    assert!(rules(&report).contains(&"not-compared"));
    assert_eq!(report["artifacts"][1]["compared"], false);
}

#[test]
fn a_base_that_changes_under_the_run_is_no_base() {
    let bench = fleet();
    let (code, said) = exchanged(&bench, || {
        let weights = bench.path("base/model.safetensors");
        let mut bytes = fs_err::read(&weights).expect("readable");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs_err::write(bench.path("base/other"), bytes).expect("written");
        fs_err::rename(bench.path("base/other"), weights).expect("exchanged");
    });
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("files of the base base were changed during the run: model.safetensors"), "{said}");
}
