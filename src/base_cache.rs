//! What a base answered to the probes, kept for the next adapter: `--base-cache DIR`.
//!
//! The answers depend on the base's files and the prompts alone, so a file is named by a digest of both. Whoever may
//! write into the folder decides what the base is said to have answered: it needs the care that the base itself needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lcr_analysis::evidence::{BaseAnswers, ProbeSet};
use lcr_documents::read::plain;
use lcr_documents::write::replace;
use lcr_gate::digest_of_bytes;
use serde::{Deserialize, Serialize};

/// Name and version of the format.
const SCHEMA: &str = "lcr-audit/base-answers/1";

/// Everything that the answers depend on.
#[derive(Debug, Serialize)]
pub(crate) struct MadeFrom<'a> {
    /// Digest of the base's weights and configuration.
    pub(crate) base: &'a str,
    /// Whether they are run on the CPU: another device sums in another order.
    pub(crate) on_cpu: bool,
    /// By set: its name, the ids of its prompts, and whether they are answered.
    pub(crate) sets: Vec<(&'a str, &'a [Vec<u32>], bool)>,
    /// Tokens that end an answer.
    pub(crate) stops: &'a [u32],
    /// Tokens of an answer at most.
    pub(crate) most: usize,
}

/// A file of the folder.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    schema: String,
    /// The version that made it: another may decode otherwise.
    version: String,
    answers: BaseAnswers,
}

/// Where the answers of one base to some probes are kept.
#[derive(Debug)]
pub(crate) struct BaseCache {
    file: PathBuf,
}

impl BaseCache {
    /// The place of these answers within `folder`.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub(crate) fn within(folder: &Path, made_from: &MadeFrom) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {} of --base-cache", folder.display()))?;
        let digest = digest_of_bytes(&serde_json::to_vec(made_from)?);
        Ok(Self { file: folder.join(format!("answers-{digest}.json")) })
    }

    /// Answers kept earlier, if they fit the sets and the vocabulary: a file that says something else is made anew.
    pub(crate) fn read(&self, sets: &[ProbeSet], vocab_size: usize) -> Option<BaseAnswers> {
        let kept: Kept = serde_json::from_slice(&plain(&self.file).ok()?).ok()?;
        let is_ours = kept.schema == SCHEMA && kept.version == env!("CARGO_PKG_VERSION");
        let answers = kept.answers;
        let fits = answers.floor.len() == sets.len()
            && answers.tokens.len() == sets.len()
            && answers.tokens.iter().zip(sets).all(|(answers, set)| {
                let known = |answer: &Vec<u32>| answer.iter().all(|token| (*token as usize) < vocab_size);
                answers.len() == set.prompts.len()
                    && answers.iter().all(|answer| known(answer) && answer.is_empty() != set.answered)
            });
        (is_ours && fits).then_some(answers)
    }

    /// Keeps answers.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn keep(&self, answers: &BaseAnswers) -> Result<()> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let kept = Kept { schema: SCHEMA.to_owned(), version, answers: answers.clone() };
        Ok(replace(&self.file, &serde_json::to_vec(&kept)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> Vec<ProbeSet> {
        let set = |name: &str, answered| ProbeSet {
            name: name.to_owned(),
            prompts: vec![vec![1, 2], vec![3]],
            texts: Vec::new(),
            chat_template: false,
            paired: false,
            answered,
        };
        vec![set("general", true), set("statements", false)]
    }

    fn made_from<'a>(base: &'a str, sets: &'a [ProbeSet]) -> MadeFrom<'a> {
        let sets = sets.iter().map(|set| (set.name.as_str(), set.prompts.as_slice(), set.answered)).collect();
        MadeFrom { base, on_cpu: true, sets, stops: &[0], most: 3 }
    }

    #[test]
    fn answers_are_found_again_by_base_and_probes() {
        let (folder, sets) = (tempfile::tempdir().expect("a folder"), sets());
        let answers = BaseAnswers {
            tokens: vec![vec![vec![4, 5], vec![0]], vec![vec![], vec![]]],
            floor: vec![Some(1.5e-12), None],
        };
        let cache = BaseCache::within(folder.path(), &made_from("one", &sets)).expect("a place");
        assert_eq!(cache.read(&sets, 8), None);
        cache.keep(&answers).expect("written");
        assert_eq!(cache.read(&sets, 8), Some(answers));
        assert_eq!(cache.read(&sets, 5), None, "token 5 is none of a vocabulary of five");
        let other = BaseCache::within(folder.path(), &made_from("another", &sets)).expect("a place");
        assert_eq!(other.read(&sets, 8), None);
    }

    #[test]
    fn a_file_that_is_none_is_made_anew() {
        let (folder, sets) = (tempfile::tempdir().expect("a folder"), sets());
        let cache = BaseCache::within(folder.path(), &made_from("one", &sets)).expect("a place");
        for text in ["", "{}", r#"{"schema": "lcr-audit/base-answers/1", "version": "0", "answers": {}}"#] {
            fs::write(&cache.file, text).expect("written");
            assert_eq!(cache.read(&sets, 8), None, "{text}");
        }
        let unanswered =
            BaseAnswers { tokens: vec![vec![vec![], vec![0]], vec![vec![], vec![]]], floor: vec![None; 2] };
        cache.keep(&unanswered).expect("written");
        assert_eq!(cache.read(&sets, 8), None, "a prompt without an answer");
    }
}
