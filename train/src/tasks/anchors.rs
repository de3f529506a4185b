//! Scaffolding anchors: one-line instructions on how to behave, a few of them drawn for each sample.
//!
//! They go into the system message, after whatever the sample says there itself, and carry no loss. The draw is a pure
//! function of the seed and the sample, so all rollouts of a group see the same lines and differ only in how much the
//! expert says. Evaluation leaves them out: what needs them was not learned.

use std::path::{Path, PathBuf};

use crate::tasks::dataset::{generator, shuffle};

/// A larger file is not read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// A longer line is no one-line instruction.
const MAX_LINE_CHARACTERS: usize = 500;

/// The bank that is used where no file is given.
const BUILT_IN: [&str; 20] = [
    "Work one step at a time and check each result.",
    "Say what is asked before you begin.",
    "List what is given, then what has to be found.",
    "Write every calculation out in full.",
    "Keep the units next to the numbers.",
    "Use a result only after you have derived it.",
    "If two ways lead to the answer, compare what they give.",
    "When a step looks wrong, go back and correct it.",
    "Put the result back into the question and see whether it fits.",
    "Estimate the size of the answer first, then compute it.",
    "Break a large calculation into smaller ones.",
    "Do not skip steps, even easy ones.",
    "Read the question again before you give the answer.",
    "Notice which numbers are not needed.",
    "Think in short, plain sentences.",
    "Say it when you are not sure, then find out.",
    "Consider special cases such as zero, one and equal values.",
    "Name the rule that you use.",
    "Stop thinking once the answer is certain.",
    "Give one final answer and nothing beside it.",
];

/// Why a bank of anchors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The file system says no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file over the limit.
    #[error("{} has {bytes} bytes; a bank of anchors may have {MAX_FILE_BYTES}", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A line that does not qualify.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// Nothing in it.
    #[error("{} holds no anchor: write one instruction per line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A bank of one-line instructions, each different from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchors {
    lines: Vec<String>,
}

impl Default for Anchors {
    /// The built-in bank.
    fn default() -> Self {
        Self { lines: BUILT_IN.iter().map(|line| (*line).to_owned()).collect() }
    }
}

impl Anchors {
    /// Reads a bank from a text file, an instruction per line; surrounding space and blank lines do not count.
    pub fn open(path: &Path) -> Result<Self, AnchorError> {
        let bytes = fs_err::metadata(path)?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(AnchorError::FileTooLarge { path: path.to_path_buf(), bytes });
        }
        let text = fs_err::read_to_string(path)?;
        let mut lines: Vec<String> = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            let refuse = |problem| Err(AnchorError::Line { path: path.to_path_buf(), line: number + 1, problem });
            if line.is_empty() {
                continue;
            }
            if line.chars().count() > MAX_LINE_CHARACTERS {
                return refuse("longer than 500 characters: an anchor is one short instruction");
            }
            if line.chars().any(|character| character.is_control() && character != '\t') {
                return refuse("holds a control character: remove it");
            }
            if lines.iter().any(|known| known == line) {
                return refuse("stands there twice: keep one, or it is drawn twice as often");
            }
            lines.push(line.to_owned());
        }
        if lines.is_empty() {
            return Err(AnchorError::Empty { path: path.to_path_buf() });
        }
        Ok(Self { lines })
    }

    /// All instructions, in the order of the bank.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// `count` different instructions for a sample, in random order; all of them where there are fewer. Every subset
    /// and every order is equally probable. A smaller `count` gives the beginning of a larger one.
    pub fn draw(&self, seed: u64, sample: usize, count: usize) -> Vec<&str> {
        let mut drawn: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        shuffle(&mut drawn, &mut generator("anchors", &[seed, sample as u64], ""));
        drawn.truncate(count);
        drawn
    }
}

/// The system message of a sample with its anchors: what was there, a blank line, an anchor per line. None where there
/// is neither.
pub fn render(system: Option<&str>, anchors: &[&str]) -> Option<String> {
    if anchors.is_empty() {
        return system.map(str::to_owned);
    }
    let anchors = anchors.join("\n");
    Some(match system.map(str::trim_end).filter(|system| !system.is_empty()) {
        Some(system) => format!("{system}\n\n{anchors}"),
        None => anchors,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::Write as _;

    use super::*;

    fn open(content: &[u8]) -> Result<Anchors, AnchorError> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(content).expect("room for it");
        Anchors::open(file.path())
    }

    #[test]
    fn a_draw_depends_on_seed_and_sample_alone_and_repeats_nothing() {
        let bank = Anchors::default();
        assert!(bank.lines().len() >= 16);
        let drawn = bank.draw(3, 17, 5);
        assert_eq!(drawn, Anchors::default().draw(3, 17, 5));
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 5);
        assert_eq!(bank.draw(3, 17, 2), drawn.get(..2).expect("five"));
        assert_ne!(drawn, bank.draw(3, 18, 5));
        assert_ne!(drawn, bank.draw(4, 17, 5));
        assert!(bank.draw(3, 17, 0).is_empty());
        assert_eq!(bank.draw(3, 17, 1000).len(), bank.lines().len());
    }

    #[test]
    fn every_line_is_drawn_equally_often() {
        let bank = Anchors::default();
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        let samples = 4000;
        for sample in 0..samples {
            for line in bank.draw(1, sample, 4) {
                *counts.entry(line).or_default() += 1.0;
            }
        }
        // Binomial with p = 4/20: mean 800, standard deviation sqrt(4000·0.2·0.8) = 25.3; five of them either way.
        assert_eq!(counts.len(), 20);
        assert!(counts.values().all(|count| (count - 800.0).abs() < 127.0), "{counts:?}");
    }

    #[test]
    fn anchors_follow_the_system_message() {
        assert_eq!(render(None, &[]), None);
        assert_eq!(render(Some("Be brief."), &[]).as_deref(), Some("Be brief."));
        assert_eq!(render(None, &["a", "b"]).as_deref(), Some("a\nb"));
        assert_eq!(render(Some(" \n"), &["a"]).as_deref(), Some("a"));
        assert_eq!(render(Some("Be brief.\n"), &["a", "b"]).as_deref(), Some("Be brief.\n\na\nb"));
    }

    #[test]
    fn a_file_is_a_line_each_and_faults_are_named_by_line() {
        assert_eq!(open("\u{feff} One. \r\n\nTwo.\n".as_bytes()).expect("two lines").lines(), ["One.", "Two."]);
        for (content, expected) in [
            ("a\nb\na\n".to_owned(), ":3: stands there twice"),
            ("a\n\u{7}b\n".to_owned(), ":2: holds a control character"),
            ("x".repeat(501), ":1: longer than 500 characters"),
            ("\n \n".to_owned(), "holds no anchor"),
            ("x\n".repeat(600_000), "may have 1048576"),
        ] {
            let message = open(content.as_bytes()).expect_err("a fault").to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(matches!(open(&[0xff, 0xfe]), Err(AnchorError::Io(_))));
    }
}
