//! What the end-to-end tests share: running the binary, finding files of the repository, and adapters made to order.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

/// How a run of the binary ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The one JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert!(self.code <= 1, "exit code {}: {}", self.code, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{}", self.stdout))
    }
}

/// Runs the binary in the repository's root.
pub(crate) fn audit<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    audit_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

/// Runs the binary in a folder.
pub(crate) fn audit_in<S: AsRef<std::ffi::OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Run {
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_lcr-audit"))
        .current_dir(folder)
        .env_remove("LCR_AUDIT_LOG")
        .args(arguments)
        .output()
        .expect("the binary starts");
    Run {
        code: output.status.code().expect("an exit code, not a signal"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A path inside the repository.
pub(crate) fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// Folder of the base of a golden case.
pub(crate) fn golden_base(case: &str) -> String {
    repository(&format!("tests/golden/{case}/base"))
}

/// Folder of the adapter of a golden case.
pub(crate) fn golden_adapter(case: &str) -> String {
    repository(&format!("tests/golden/{case}/adapter"))
}

pub(crate) fn read_json(path: impl AsRef<Path>) -> Value {
    let text = fs_err::read(path.as_ref()).expect("readable");
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Copies the files of a folder into a new one of that name under `parent`.
pub(crate) fn copied(source: &str, parent: &Path, name: &str) -> PathBuf {
    let target = parent.join(name);
    fs_err::create_dir_all(&target).expect("created");
    for file in fs_err::read_dir(source).expect("a folder") {
        let file = file.expect("an entry");
        fs_err::copy(file.path(), target.join(file.file_name())).expect("copied");
    }
    target
}

/// Every file under a folder with its bytes, by its path inside it.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(current) = open.pop() {
        for entry in fs_err::read_dir(&current).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = text(path.strip_prefix(folder).expect("inside")).to_owned();
                files.insert(name, fs_err::read(&path).expect("readable"));
            }
        }
    }
    files
}

/// Every number, string, flag and null of a document by its path, `/weights/…/rank`.
pub(crate) fn leaves(value: &Value) -> Vec<(String, Value)> {
    fn walk(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| walk(value, &format!("{path}/{key}"), found));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, value)| walk(value, &format!("{path}/{index}"), found));
            }
            leaf => found.push((path.to_owned(), leaf.clone())),
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}

/// A tensor held by value: its dtype, shape and bytes.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    pub(crate) fn f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values.into_iter().flat_map(f32::to_le_bytes).collect(),
        }
    }

    /// Values of an F32 tensor.
    pub(crate) fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        let word = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        self.bytes.chunks_exact(4).map(word).collect()
    }
}

/// The tensors of a safetensors file.
pub(crate) fn tensors(path: impl AsRef<Path>) -> BTreeMap<String, Stored> {
    let bytes = fs_err::read(path.as_ref()).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    file.iter()
        .map(|(name, view)| {
            let stored = Stored { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
            (name.to_owned(), stored)
        })
        .collect()
}

/// Writes a safetensors file.
pub(crate) fn write_tensors(path: impl AsRef<Path>, tensors: &BTreeMap<String, Stored>) {
    let views = tensors.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes).expect("a tensor");
        (name.as_str(), view)
    });
    fs_err::write(path.as_ref(), safetensors::serialize(views, None).expect("serialised")).expect("written");
}

/// Changes the tensors of a safetensors file.
pub(crate) fn edit_tensors(path: impl AsRef<Path>, edit: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let mut all = tensors(&path);
    edit(&mut all);
    write_tensors(path, &all);
}

/// Changes a JSON file.
pub(crate) fn edit_json(path: impl AsRef<Path>, edit: impl FnOnce(&mut Value)) {
    let mut value = read_json(&path);
    edit(&mut value);
    fs_err::write(path.as_ref(), value.to_string()).expect("written");
}
