//! The pre-commit hook, called the way pre-commit calls it.

use fancy_regex::Regex;
use serde_json::Value;

use super::action::yaml;
use super::bench::{Bench, PICKLE};
use crate::support::{Run, tree};

fn hook() -> Value {
    let hooks = yaml(".pre-commit-hooks.yaml");
    let hooks = hooks.as_array().expect("a list");
    assert_eq!(hooks.len(), 1);
    assert_eq!((&hooks[0]["id"], &hooks[0]["language"]), (&"lcr-audit".into(), &"rust".into()));
    hooks[0].clone()
}

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().expect("a list");
    list.iter().map(|word| word.as_str().expect("text").to_owned()).collect()
}

/// Entry, arguments, then the names of all files that match, in one call.
fn commit(bench: &Bench) -> Option<Run> {
    let hook = hook();
    assert_eq!(hook["require_serial"], true, "several calls at once would scan an adapter several times");
    assert!(hook["pass_filenames"].is_null(), "names are passed unless it is said that they are not");
    let files = Regex::new(hook["files"].as_str().expect("a pattern")).expect("a pattern");
    let names: Vec<String> = tree(bench.root())
        .into_keys()
        .filter(|name| !name.starts_with(".git/") && files.is_match(name).expect("matched"))
        .collect();
    let mut entry = hook["entry"].as_str().expect("text").split_whitespace().map(str::to_owned);
    assert_eq!(entry.next().as_deref(), Some("lcr-audit"));
    (!names.is_empty()).then(|| bench.run(entry.chain(words(&hook["args"])).chain(names)))
}

#[test]
fn the_pattern_takes_the_files_of_adapters_and_no_others() {
    let hook = hook();
    let pattern = hook["files"].as_str().expect("a pattern");
    assert_eq!(pattern.trim(), pattern);
    let files = Regex::new(pattern).expect("a pattern");
    let is_match = |name: &str| files.is_match(name).expect("matched");
    for name in [
        "adapter_config.json",
        "a/b/adapter_config.json",
        "a/adapter_model.safetensors",
        "a/adapter_model.bin",
        "a/x.pt",
        "a/x.pth",
        "a/x.ckpt",
        "a/x.pkl",
        "a/x.pickle",
        "a/x.joblib",
        "a/x.dill",
        "a/x.mar",
        "a/X.PT",
        "a/Adapter_Model.SAFETENSORS",
        "a/chat_template.jinja",
        "a/tokenizer.json",
        "a/tokenizer_config.json",
        ".bin",
    ] {
        assert!(is_match(name), "{name}");
    }
    for name in [
        "README.md",
        "src/main.py",
        "package.json",
        "my_adapter_config.json",
        "a/adapter_config.json.md",
        "bin/run",
        "x.bin/y",
        "tokenizer/a.json",
        "a.ptx",
    ] {
        assert!(!is_match(name), "{name}");
    }
}

#[test]
fn a_commit_with_a_sound_adapter_passes() {
    let bench = Bench::new();
    bench.sound("adapters/a");
    bench.write("src/main.py", "print('not an adapter')\n");
    bench.write(".git/objects/x.pkl", PICKLE);
    let run = commit(&bench).expect("files match");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout.matches("PASS  adapters/a\n").count(), 1, "{}", run.stdout);
}

#[test]
fn a_commit_with_a_pickle_fails() {
    let bench = Bench::new();
    bench.sound("adapters/a");
    bench.hostile("adapters/b");
    let run = commit(&bench).expect("files match");
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("FAIL  adapters/b\n"), "{}", run.stdout);
}

#[test]
fn a_commit_without_adapters_calls_nothing() {
    let bench = Bench::new();
    bench.write("src/main.py", "print('not an adapter')\n");
    assert!(commit(&bench).is_none());
}

#[test]
fn a_name_that_looks_like_an_option_is_a_name() {
    let bench = Bench::new();
    bench.hostile("--policy=lenient");
    bench.write("-q/x.pkl", PICKLE);
    let run = commit(&bench).expect("files match");
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("FAIL  --policy=lenient\n"), "{}", run.stdout);
}
