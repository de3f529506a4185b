//! Problems with an expert's worked thinking, read from files.
//!
//! One JSON object per line, in one of four forms, told apart by their keys: our own (`prompt`, then `answer` with
//! `<think>…</think>` and a box, or `thinking` and `final`; `ground_truth`; optionally `system`, `type`,
//! `possible_answers`), GSM8K's, MATH's and SVAMP's. A `.json` file holds one object, and a folder is all `.json` files
//! below it, which is how MATH was published.
//!
//! A line that cannot be used is refused with a typed reason, kept in [`Dataset::refused`] and counted; keys that mean
//! nothing here are noted once. Nothing is dropped in silence but blank lines and a byte-order mark. What a problem
//! promises afterwards: its prompt, thinking and truth are not blank, its thinking holds neither tag nor box, and its
//! own box is judged right against its own truth by [`lcr_answers`].

mod error;
mod forms;
mod object;
mod order;
mod published;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use error::{DatasetError, Reason, Refused};
pub(crate) use order::{generator, shuffle};

/// A larger file is not read.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// A longer line is refused.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// A folder with more files is not read.
pub const MAX_FILES: usize = 100_000;

/// One problem, ready to be taught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its place in [`Dataset::problems`].
    pub index: usize,
    /// Its line in the file, from 1; the number of its file where the dataset is a folder.
    pub line: usize,
    /// The question, as it stands in the file.
    pub prompt: String,
    /// The system message, where the file gives one.
    pub system: Option<String>,
    /// The expert's thinking, without tags, boxes and surrounding space.
    pub thinking: String,
    /// What the expert says after the thinking, with the box, without surrounding space.
    pub final_text: String,
    /// The right answer.
    pub ground_truth: String,
    /// Further answers that count as right.
    pub accepted: Vec<String>,
    /// Its type; `untyped`, or the name of the form, where the file gives none.
    pub kind: String,
}

/// Problems of one file or folder, and what could not be used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Where it was read from.
    pub path: PathBuf,
    /// What can be used, in the order of the file.
    pub problems: Vec<Problem>,
    /// What cannot, in the order of the file.
    pub refused: Vec<Refused>,
    /// Remarks on what was read but changed or ignored, each with a count.
    pub notes: Vec<String>,
    /// SHA-256 of the file in lower-case hexadecimal. For a folder: of the lines `digest  path\n` of its files, sorted
    /// by path, which is what `sha256sum` prints.
    pub sha256: String,
}

/// What is collected while reading.
#[derive(Default)]
struct Reading {
    problems: Vec<Problem>,
    refused: Vec<Refused>,
    notes: BTreeMap<String, usize>,
}

impl Reading {
    /// Takes the problem of one object, or notes why not.
    fn take(&mut self, path: &Path, line: usize, bytes: &[u8]) {
        match read_problem(bytes) {
            Ok((mut problem, notes)) => {
                problem.index = self.problems.len();
                problem.line = line;
                self.problems.push(problem);
                for note in notes {
                    *self.notes.entry(note).or_default() += 1;
                }
            }
            Err(reason) => self.refused.push(Refused { path: path.to_path_buf(), line, reason }),
        }
    }

    /// The dataset, or an error where nothing is left.
    fn finish(self, path: &Path, sha256: String) -> Result<Dataset, DatasetError> {
        if self.problems.is_empty() {
            return Err(if self.refused.is_empty() {
                DatasetError::Empty { path: path.to_path_buf() }
            } else {
                DatasetError::NothingUsable { path: path.to_path_buf(), refused: self.refused }
            });
        }
        let notes = self.notes.into_iter().map(|(note, count)| format!("{note} ({count} problems)")).collect();
        Ok(Dataset { path: path.to_path_buf(), problems: self.problems, refused: self.refused, notes, sha256 })
    }
}

impl Dataset {
    /// Reads a file or a folder.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        if fs_err::metadata(path)?.is_dir() {
            return Self::open_folder(path);
        }
        let bytes = read_bounded(path)?;
        let mut reading = Reading::default();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            reading.take(path, 1, &bytes);
        } else {
            let content = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
                if !line.iter().all(u8::is_ascii_whitespace) {
                    reading.take(path, number + 1, line);
                }
            }
        }
        reading.finish(path, hexadecimal(&Sha256::digest(&bytes)))
    }

    /// Reads all `.json` files below a folder, a problem each, in the order of their paths.
    fn open_folder(folder: &Path) -> Result<Self, DatasetError> {
        let mut reading = Reading::default();
        let mut digest = Sha256::new();
        for (number, path) in json_files(folder)?.into_iter().enumerate() {
            let bytes = read_bounded(&path)?;
            let relative = path.strip_prefix(folder).unwrap_or(&path);
            digest.update(format!("{}  {}\n", hexadecimal(&Sha256::digest(&bytes)), relative.display()));
            reading.take(&path, number + 1, &bytes);
        }
        reading.finish(folder, hexadecimal(&digest.finalize()))
    }

    /// How many problems there are of each type.
    pub fn types(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for problem in &self.problems {
            *counts.entry(problem.kind.as_str()).or_default() += 1;
        }
        counts
    }

    /// Indices of all problems, each once, with the types in balanced order: rounds over the types, in each of which
    /// every type that has problems left gives one. A type that is exhausted drops out and nothing is repeated, so with
    /// unequal types the end of an epoch belongs to the larger ones. Within a type, and the types within a round, the
    /// order is shuffled: a pure function of `seed` and `epoch`.
    pub fn balanced_order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut kinds: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, problem) in self.problems.iter().enumerate() {
            kinds.entry(&problem.kind).or_default().push(index);
        }
        order::balanced(kinds, seed, epoch)
    }
}

/// One problem from the bytes of one object, and remarks on it.
fn read_problem(bytes: &[u8]) -> Result<(Problem, Vec<String>), Reason> {
    if bytes.len() > MAX_LINE_BYTES {
        return Err(Reason::TooLong { bytes: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Reason::NotUtf8 { byte: error.valid_up_to() + 1 })?;
    forms::problem(object::parse(text)?)
}

/// The whole file, unless it is too large.
fn read_bounded(path: &Path) -> Result<Vec<u8>, DatasetError> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(DatasetError::FileTooLarge { path: path.to_path_buf() });
    }
    Ok(bytes)
}

/// All `.json` files below a folder, sorted. Links to folders are not followed: they may lead back.
fn json_files(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in fs_err::read_dir(&current)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
                files.push(path);
            }
            if files.len() + folders.len() > MAX_FILES {
                return Err(DatasetError::TooManyFiles { path: folder.to_path_buf() });
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Lower-case hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn open(content: &[u8]) -> Result<Dataset, DatasetError> {
        let mut file = tempfile::Builder::new().suffix(".jsonl").tempfile().expect("a temporary file");
        file.write_all(content).expect("room for it");
        Dataset::open(file.path())
    }

    const GOOD: &str = r#"{"prompt": "1+1?", "answer": "<think>\nTwo.\n</think>\n\n\\boxed{2}", "ground_truth": "2"}"#;

    fn refusal(line: &str) -> String {
        let dataset = open(format!("{GOOD}\n{line}\n").as_bytes()).expect("one good line");
        assert_eq!((dataset.problems.len(), dataset.refused.len()), (1, 1), "{line}");
        let refused = dataset.refused.first().expect("one");
        assert_eq!(refused.line, 2);
        refused.reason.to_string()
    }

    #[test]
    fn both_ways_of_writing_our_own_form_give_the_same_problem() {
        let other =
            r#"{"prompt": "1+1?", "thinking": " Two. ", "final": "\\boxed{2}", "ground_truth": "2", "system": null}"#;
        let full =
            r#"{"prompt": "p", "thinking": "t", "final": "so \\boxed{a}", "ground_truth": "b", "system": "Be brief.",
            "type": "fact", "possible_answers": ["a"]}"#
                .replace('\n', " ");
        let dataset = open(format!("\u{feff}{GOOD}\r\n\n{other}\n{full}").as_bytes()).expect("usable");
        let [first, second, third] = dataset.problems.as_slice() else { panic!("three problems") };
        assert_eq!((first.index, first.line, second.index, second.line), (0, 1, 1, 3));
        assert_eq!((&first.thinking, &first.final_text), (&"Two.".to_owned(), &"\\boxed{2}".to_owned()));
        assert_eq!((&first.thinking, &first.final_text), (&second.thinking, &second.final_text));
        assert_eq!((third.kind.as_str(), third.system.as_deref()), ("fact", Some("Be brief.")));
        assert_eq!(third.accepted, ["a"]);
        assert_eq!(dataset.types(), BTreeMap::from([("fact", 1), ("untyped", 2)]));
        assert!(dataset.refused.is_empty() && dataset.notes.is_empty());
    }

    #[test]
    fn the_digest_is_that_of_the_file() {
        // From `sha256sum`.
        let dataset = open(format!("{GOOD}\n").as_bytes()).expect("usable");
        assert_eq!(dataset.sha256, "4d23b1dd451d975d5f479074bfe5d64ea4a20a277ad4f7a97ac3a8aefac80a2a");
    }

    #[test]
    fn every_refusal_names_what_was_found() {
        for (line, expected) in [
            (r#"{"prompt": "p", "prompt": "q"}"#, "the key `prompt` stands there twice"),
            ("[1, 2]", "a list where an object is expected"),
            ("{", "not JSON"),
            (r#"{"text": "p"}"#, "the keys `text` are those of no known form"),
            (r#"{"prompt": "  ", "answer": "a", "ground_truth": "2"}"#, "`prompt` is empty"),
            (r#"{"prompt": 3, "answer": "a", "ground_truth": "2"}"#, "`prompt` is a number, but must be a text"),
            (r#"{"prompt": "p", "ground_truth": "2"}"#, "the key `answer` is missing"),
            (r#"{"prompt": "p", "thinking": "t", "ground_truth": "2"}"#, "the key `final` is missing"),
            (
                r#"{"prompt": "p", "answer": "x", "final": "y", "ground_truth": "2"}"#,
                "`answer` and `final` are both given",
            ),
            (r#"{"prompt": "p", "answer": "\\boxed{2}", "ground_truth": "2"}"#, "does not begin with `<think>`"),
            (r#"{"prompt": "p", "answer": "<think>t \\boxed{2}", "ground_truth": "2"}"#, "never closes its thinking"),
            (r#"{"prompt": "p", "answer": "<think> </think>\\boxed{2}", "ground_truth": "2"}"#, "`thinking` is empty"),
            (
                r#"{"prompt": "p", "answer": "<think>a<think>b</think>\\boxed{2}", "ground_truth": "2"}"#,
                "holds a further `<think>`",
            ),
            (r#"{"prompt": "p", "answer": "<think>t</think>2", "ground_truth": "2"}"#, "holds no box"),
            (r#"{"prompt": "p", "answer": "<think>t</think>\\boxed{2", "ground_truth": "2"}"#, "never closes"),
            (
                r#"{"prompt": "p", "answer": "<think>t</think>\\boxed{2}\\boxed{3}", "ground_truth": "2"}"#,
                "two different boxes",
            ),
            (
                r#"{"prompt": "p", "answer": "<think>t</think>\\boxed{2}", "ground_truth": "3"}"#,
                "the worked answer is `2`, but `ground_truth` is `3`",
            ),
            (r#"{"prompt": "p", "answer": "<think>t</think>\\boxed{2}"}"#, "the key `ground_truth` is missing"),
            (
                r#"{"prompt": "p", "answer": "<think>t</think>\\boxed{2}", "ground_truth": 2}"#,
                "`ground_truth` is a number, but must be a text",
            ),
            (
                r#"{"prompt": "p", "answer": "<think>t</think>\\boxed{2}", "ground_truth": "2", "possible_answers": ["2", 2]}"#,
                "`possible_answers` is a list with other values",
            ),
            (
                r#"{"prompt": "p", "answer": "<think>t</think>\\boxed{2}", "ground_truth": "2", "type": ""}"#,
                "`type` is empty",
            ),
        ] {
            let message = refusal(line);
            assert!(message.contains(expected), "{line}\n{message}");
        }
        assert!(
            refusal(&format!("{{\"prompt\": \"{}\"}}", "x".repeat(MAX_LINE_BYTES)))
                .contains("a problem may have 1048576")
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_line_and_byte() {
        let mut content = format!("{GOOD}\n{{\"prompt\": \"").into_bytes();
        content.push(0xff);
        content.extend_from_slice(b"\"}\n");
        let dataset = open(&content).expect("one good line");
        let refused = dataset.refused.first().expect("one");
        assert_eq!((refused.line, &refused.reason), (2, &Reason::NotUtf8 { byte: 13 }));
    }

    #[test]
    fn nothing_usable_is_an_error_that_says_why() {
        assert!(matches!(open(b"\n \n"), Err(DatasetError::Empty { .. })));
        let message = open("{}\n[]\n".repeat(4).as_bytes()).expect_err("nothing usable").to_string();
        assert!(message.contains("none of the 8 problems"), "{message}");
        assert!(message.contains(":2: a list where an object is expected"), "{message}");
        assert!(message.ends_with('…'), "{message}");
    }

    #[test]
    fn unknown_keys_and_boxes_in_the_thinking_are_noted_once() {
        let line =
            r#"{"prompt": "p", "thinking": "so \\boxed{2}", "final": "\\boxed{2}", "ground_truth": "2", "level": 3}"#;
        let dataset = open(format!("{line}\n{line}\n").as_bytes()).expect("usable");
        assert!(dataset.problems.iter().all(|problem| problem.thinking == "so 2"));
        assert_eq!(
            dataset.notes,
            [
                "a box in the thinking was replaced by its content (2 problems)",
                "the key `level` means nothing here and was not read (2 problems)"
            ]
        );
    }
}
