//! Why a dataset or one of its lines cannot be used.

use std::path::PathBuf;

/// How many refused lines an error message shows.
const SHOWN: usize = 5;

/// Why a dataset cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file system says no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file over the limit.
    #[error("{} is larger than {} MiB: split it", path.display(), super::MAX_FILE_BYTES >> 20)]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A folder over the limit.
    #[error("{} holds more than {} files: give the folder of one split", path.display(), super::MAX_FILES)]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing at all.
    #[error("{} holds no problem: give a JSONL file with one problem per line, or a folder of \
        `.json` files", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// Only refused lines.
    #[error("none of the {} problems in {} can be used:{}", refused.len(), path.display(), first_reasons(refused))]
    NothingUsable {
        /// The file or folder.
        path: PathBuf,
        /// All of them.
        refused: Vec<Refused>,
    },
}

/// The first reasons, a line each.
fn first_reasons(refused: &[Refused]) -> String {
    let mut lines: Vec<String> = refused.iter().take(SHOWN).map(|refused| format!("\n  {refused}")).collect();
    if refused.len() > SHOWN {
        lines.push("\n  …".to_owned());
    }
    lines.concat()
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {reason}", path.display())]
pub struct Refused {
    /// Its file.
    pub path: PathBuf,
    /// Its line, from 1; the number of its file where the dataset is a folder.
    pub line: usize,
    /// Why.
    pub reason: Reason,
}

/// Why a line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Over the limit.
    #[error("{bytes} bytes; a problem may have {}", super::MAX_LINE_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not text.
    #[error("byte {byte} of the line is not UTF-8: save the file as UTF-8")]
    NotUtf8 {
        /// From 1.
        byte: usize,
    },
    /// Not JSON.
    #[error("not JSON: {message}")]
    NotJson {
        /// The parser's words.
        message: String,
    },
    /// JSON, but not an object.
    #[error("{found} where an object is expected: write one object per line")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// The same key twice.
    #[error("the key `{key}` stands there twice: keep one")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// None of the known forms.
    #[error(
        "the keys {keys} are those of no known form: give `prompt`, `answer` and `ground_truth`, or GSM8K's, MATH's or \
         SVAMP's own keys"
    )]
    UnknownForm {
        /// The keys found.
        keys: String,
    },
    /// A key that must be there.
    #[error("the key `{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key that excludes another.
    #[error("`{first}` and `{second}` are both given: keep one")]
    Both {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A value of another type.
    #[error("`{key}` is {found}, but must be {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it holds.
        found: &'static str,
        /// What it should.
        expected: &'static str,
    },
    /// Blank text.
    #[error("`{key}` is empty")]
    Blank {
        /// The key, or the part of its text.
        key: &'static str,
    },
    /// The tags of the thinking.
    #[error("`{key}` {problem}")]
    Tags {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// No answer in the worked answer.
    #[error("`{key}` holds no box with the answer: end it with `\\boxed{{…}}`")]
    NoBox {
        /// The key.
        key: &'static str,
    },
    /// A box without an end.
    #[error("the box in `{key}` never closes")]
    Unclosed {
        /// The key.
        key: &'static str,
    },
    /// Two boxes.
    #[error("`{key}` holds two different boxes, `{first}` and `{second}`")]
    TwoBoxes {
        /// The key.
        key: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The box is not the truth.
    #[error("the worked answer is `{boxed}`, but `{key}` is `{truth}`")]
    Disagrees {
        /// What the worked answer says.
        boxed: String,
        /// Where the truth stands.
        key: &'static str,
        /// The truth.
        truth: String,
    },
    /// The truth is no answer.
    #[error("`{key}` cannot be compared with anything: it is empty or too long")]
    Truth {
        /// Where the truth stands.
        key: &'static str,
    },
    /// GSM8K's marks.
    #[error("`answer` {problem}")]
    Gsm8k {
        /// What is wrong.
        problem: &'static str,
    },
    /// SVAMP's equation.
    #[error("`Equation` {problem}")]
    Equation {
        /// What is wrong.
        problem: String,
    },
}
