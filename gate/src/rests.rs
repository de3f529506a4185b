//! The files that a finding rests on, with their digests.
//!
//! Which they are is a property of its rule: a number of an adapter follows from its config and its tensors together,
//! what is said of a tokenizer from all its files. The digest of a finding is over exactly these, and that is what an
//! exception names.

use lcr_scan::Scan;
use serde::{Deserialize, Serialize};

use super::pin::digest_of_lines;
use crate::rules::RestsOn;

/// A file that a finding rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FilePin {
    /// Path relative to the artifact's folder.
    pub path: String,
    /// SHA-256 of its content.
    pub sha256: String,
}

/// The files that a finding about `file` rests on, in the order of their paths; none where it rests on the whole
/// artifact.
pub(super) fn files(scan: &Scan, rests_on: RestsOn, file: &str, further: &[String]) -> Vec<FilePin> {
    let read = || scan.files.iter().filter(|record| !record.sha256.is_empty());
    // A member of an archive, or a file that was not read.
    if !read().any(|record| record.path == file) {
        return Vec::new();
    }
    let mut pins: Vec<FilePin> = read()
        .filter(|record| record.path == file || further.contains(&record.path) || rests_on.includes(&record.path))
        .map(|record| FilePin { path: record.path.clone(), sha256: record.sha256.clone() })
        .collect();
    pins.sort_by(|left, right| left.path.cmp(&right.path));
    pins
}

/// The digest over what a finding rests on: that of the one file, or over the lines `<sha256>  <path>`, or that of the
/// artifact.
pub(super) fn digest(pins: &[FilePin], artifact: &str) -> String {
    match pins {
        [] => artifact.to_owned(),
        [one] => one.sha256.clone(),
        many => digest_of_lines(many.iter().map(|pin| (pin.sha256.as_str(), pin.path.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use lcr_scan::FileRecord;

    use super::*;
    use crate::rules::rule;

    fn scan(names: &[&str]) -> Scan {
        let record = |(index, name): (usize, &&str)| FileRecord {
            path: (*name).to_owned(),
            bytes: 1,
            // The last was not read.
            sha256: if index + 1 < names.len() { format!("{index:064}") } else { String::new() },
        };
        Scan {
            files: names.iter().enumerate().map(record).collect(),
            sha256: "f".repeat(64),
            adapter: None,
            weights: lcr_scan::WeightStatistics::default(),
            observations: Vec::new(),
        }
    }

    fn paths(code: &str, file: &str, further: &[&str]) -> Vec<String> {
        let names = [
            "tokenizer.json",
            "adapter_config.json",
            "adapter_model.safetensors",
            "chat_template.jinja",
            "model.py",
            "note.txt",
            "vocab.txt",
            "state.pkl",
            "huge.bin",
        ];
        let further: Vec<String> = further.iter().map(|name| (*name).to_owned()).collect();
        files(&scan(&names), rule(code).expect("a rule").rests_on, file, &further)
            .into_iter()
            .map(|pin| pin.path)
            .collect()
    }

    #[test]
    fn a_finding_rests_on_all_that_it_follows_from() {
        let (config, tensors) = ("adapter_config.json", "adapter_model.safetensors");
        assert_eq!(paths("scale", tensors, &[]), [config, tensors]);
        assert_eq!(paths("base-model-not-allowed", tensors, &[]), [config, tensors]);
        assert_eq!(paths("base-revision", config, &[]), [config, tensors]);
        assert_eq!(paths("pickle-import", "state.pkl", &[]), ["state.pkl"]);
        assert_eq!(paths("pickle-import", "state.pkl", &["note.txt"]), ["note.txt", "state.pkl"]);
        assert_eq!(paths("template-carried", "chat_template.jinja", &[]), ["chat_template.jinja"]);
        assert_eq!(
            paths("added-tokens", "tokenizer.json", &[]),
            ["chat_template.jinja", "tokenizer.json", "vocab.txt"]
        );
        assert_eq!(paths("remote-code", config, &[]), [config, "model.py"]);
        // What was not read, a member of an archive and what is about the whole rest on everything.
        for whole in ["huge.bin", "state.pkl/data", "gone", ""] {
            assert!(paths("scale", whole, &[]).is_empty(), "{whole}");
        }
    }

    #[test]
    fn several_files_have_the_digest_of_their_lines() {
        let pin = |path: &str, sha256: &str| FilePin { path: path.to_owned(), sha256: sha256.to_owned() };
        assert_eq!(digest(&[], "whole"), "whole");
        assert_eq!(digest(&[pin("a", "1")], "whole"), "1");
        // printf '1  a\n2  b\n' | sha256sum
        let both = digest(&[pin("a", "1"), pin("b", "2")], "whole");
        assert_eq!(both, "8d711146c07b0092609ee8aa24647b11f96dab70254b0b11505acc5c8cbcd31a");
    }
}
