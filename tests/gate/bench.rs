//! A folder of adapters, sound and not, in which the program is run.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Run, Stored, audit_in, copied, edit_tensors, golden_adapter, golden_base, read_json, tree};

/// The golden case that the adapters are copies of.
pub(crate) const CASE: &str = "qwen3_lora_qv";
/// A pickle that would call `os.system`.
pub(crate) const PICKLE: &[u8] = b"cos\nsystem\n(S'true'\ntR.";

/// A folder that the program runs in.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Runs the program in the folder.
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        audit_in(self.root(), arguments)
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("a folder above")).expect("created");
        fs_err::write(&path, content).expect("written");
        path
    }

    /// Writes a policy; the version stands above the text.
    pub(crate) fn policy(&self, text: &str) {
        self.write("policy.toml", format!("version = 1\n{text}"));
    }

    /// An adapter that nothing is wrong with.
    pub(crate) fn sound(&self, name: &str) -> PathBuf {
        copied(&golden_adapter(CASE), self.root(), name)
    }

    /// An adapter that replaces the head whole, which the built-in policy warns of.
    pub(crate) fn warned(&self, name: &str) -> PathBuf {
        copied(&golden_adapter("qwen3_modules_to_save"), self.root(), name)
    }

    /// A sound adapter with a pickle beside it, which the built-in policy refuses.
    pub(crate) fn hostile(&self, name: &str) -> PathBuf {
        let adapter = self.sound(name);
        self.write(&format!("{name}/state.pkl"), PICKLE);
        adapter
    }

    /// An adapter that is sound to look at, and takes the activations to infinity.
    pub(crate) fn infinite(&self, name: &str) -> PathBuf {
        let adapter = self.sound(name);
        self.scaled(name, 1e25);
        adapter
    }

    /// Multiplies every tensor of an adapter.
    pub(crate) fn scaled(&self, name: &str, factor: f32) {
        edit_tensors(self.path(name).join("adapter_model.safetensors"), |tensors| {
            for stored in tensors.values_mut() {
                let values: Vec<f32> = stored.values().into_iter().map(|value| value * factor).collect();
                *stored = Stored::f32(&stored.shape.clone(), values);
            }
        });
    }

    /// The base that the adapters are of, and ids to read with it.
    pub(crate) fn base(&self) {
        copied(&golden_base(CASE), self.root(), "base");
        self.write("ids.json", "[[1, 2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4, 3, 2]]");
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        read_json(self.path(name))
    }

    /// Lines of a file of results.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        let content = fs_err::read_to_string(self.path(name)).expect("readable");
        content.lines().map(|line| serde_json::from_str(line).expect("JSON a line")).collect()
    }

    /// Changes one bit in the last byte of a file.
    pub(crate) fn flip(&self, name: &str) {
        let path = self.path(name);
        let mut bytes = fs_err::read(&path).expect("readable");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs_err::write(&path, bytes).expect("written");
    }
}

/// Items of an array in a document.
#[track_caller]
pub(crate) fn items<'a>(document: &'a Value, pointer: &str) -> &'a Vec<Value> {
    let found = document.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("{pointer} is no array of {document}"))
}

/// Findings of all adapters of a report.
pub(crate) fn findings(report: &Value) -> Vec<&Value> {
    items(report, "/artifacts").iter().flat_map(|artifact| items(artifact, "/findings")).collect()
}

/// The finding of a rule.
#[track_caller]
pub(crate) fn finding<'a>(report: &'a Value, rule: &str) -> &'a Value {
    let all = findings(report).into_iter().chain(items(report, "/policy_findings"));
    let mut found: Vec<&Value> = all.filter(|finding| finding["rule"] == rule).collect();
    assert_eq!(found.len(), 1, "findings of `{rule}` in {report}");
    found.remove(0)
}

/// Codes of the findings of adapters.
pub(crate) fn rules(report: &Value) -> Vec<&str> {
    findings(report).into_iter().map(|finding| finding["rule"].as_str().expect("a code")).collect()
}

/// Results of a SARIF log.
pub(crate) fn sarif_results(log: &Value) -> &Vec<Value> {
    items(log, "/runs/0/results")
}

/// The run could not be made: exit code 2, nothing on standard output, one error that holds all the words.
#[track_caller]
pub(crate) fn refused(run: &Run, words: &[&str]) {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    let errors: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "`{word}` is not in: {}", run.stderr);
    }
}

/// No file that was begun and not finished lies in the folder.
#[track_caller]
pub(crate) fn nothing_is_left_over(folder: &Path) {
    let left: Vec<String> = tree(folder).into_keys().filter(|name| name.contains(".writing-")).collect();
    assert!(left.is_empty(), "{left:?}");
}
