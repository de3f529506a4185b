//! The sets of prompts that questions are put on: those of the program, or a user's own in the place of one.
//!
//! A question such as `answers.identity` says what it says about the prompts of its set. A model that speaks another
//! language than the built-in sets needs its own: `--probe-set identity=mine.jsonl`, or `probes/identity.jsonl` in the base's
//! own folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lcr_analysis::evidence::{EvidenceOptions, ProbeSet};
use lcr_documents::audit::SetPin;
use lcr_documents::digest::sha256;
use lcr_documents::read::plain;

use crate::probes::{LoadedProbes, ProbeOptions, ProbeSource, load, load_pinned};
use crate::side_by_side::SideBySide;

/// Prompts of each set, unless told otherwise.
const PROMPTS: usize = 16;
/// Prompts of each side of a direction: their states are cheap, for nothing is answered.
const CONTRASTS: usize = 48;
/// Folder of a base with sets of its own, each `NAME.jsonl`.
const OF_BASE: &str = "probes";
/// The sets that the base is let to answer.
const ANSWERED: [&str; 5] = ["general", "math", "identity", "refusal", "truth"];
/// The set of true and false statements, and the other whose prompts come in pairs.
const STATEMENTS: &str = "statements";
const REFUSAL: &str = "refusal";

/// Sets in the place of built-in ones.
#[derive(Debug, Args)]
pub(crate) struct ProbeSetArguments {
    /// Ask about the prompts of a `.txt` or `.jsonl` file instead of a built-in set (general, math, identity, refusal,
    /// truth); may be given for each of them.
    #[arg(long = "probe-set", value_name = "NAME=FILE", value_parser = named_file)]
    probe_sets: Vec<(String, PathBuf)>,
}

impl ProbeSetArguments {
    /// The files and what they hold, for the report; where none is given for a set, that of the base, if it has one.
    pub(crate) fn pins(&self, base: &Path) -> Result<Vec<SetPin>> {
        beside_those_of(base, pins(self.probe_sets.iter().map(|(name, path)| (name.as_str(), path.as_path())))?)
    }
}

/// Some sets, and of the others those that a base brings along in its folder `probes`.
///
/// # Errors
/// A file there that cannot be read.
pub(crate) fn beside_those_of(base: &Path, mut given: Vec<SetPin>) -> Result<Vec<SetPin>> {
    for name in ANSWERED.iter().filter(|name| given.iter().all(|pin| pin.name != **name)).collect::<Vec<_>>() {
        let path = format!("{OF_BASE}/{name}.jsonl");
        if !base.join(&path).exists() {
            continue;
        }
        let bytes = plain(&base.join(&path)).with_context(|| {
            format!("{}: the base's own prompts of `{name}` cannot be read", base.join(&path).display())
        })?;
        given.push(SetPin { name: (*name).to_owned(), path, of_base: true, sha256: sha256(&bytes) });
    }
    given.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(given)
}

/// Reads `NAME=FILE`.
fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let Some((name, path)) = text.split_once('=').filter(|(_, path)| !path.is_empty()) else {
        return Err("the name of a set and a file are needed, such as identity=mine.jsonl".to_owned());
    };
    if !ANSWERED.contains(&name) {
        return Err(format!("`{name}` is no set that is answered: {}", ANSWERED.join(", ")));
    }
    Ok((name.to_owned(), path.into()))
}

/// Pins files in the place of sets, each set at most once.
///
/// # Errors
/// A set named twice or unknown, or a file that cannot be read.
pub(crate) fn pins<'a>(sets: impl Iterator<Item = (&'a str, &'a Path)>) -> Result<Vec<SetPin>> {
    let mut found: Vec<SetPin> = Vec::new();
    for (name, path) in sets {
        if !ANSWERED.contains(&name) {
            bail!("`{name}` is no set that is answered: {}", ANSWERED.join(", "));
        }
        if found.iter().any(|pin| pin.name == name) {
            bail!("two files are given for the set `{name}`; put their prompts into one");
        }
        let bytes =
            plain(path).with_context(|| format!("{}: the prompts of `{name}` cannot be read", path.display()))?;
        found.push(SetPin {
            name: name.to_owned(),
            path: path.display().to_string(),
            of_base: false,
            sha256: sha256(&bytes),
        });
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}

/// The sets by name and, where it is another, the user's own; of a model without a tokenizer the user's own alone.
pub(crate) fn sets(pair: &SideBySide) -> Result<Vec<ProbeSet>> {
    let (asked, config) = (&pair.asked, pair.model.decoder.config());
    let most = asked.max_prompts.unwrap_or(PROMPTS);
    let answer = EvidenceOptions::default().answer_tokens;
    let max_tokens = asked.max_tokens.min(config.max_positions.saturating_sub(answer)).max(1);
    let own = ProbeSet {
        name: pair.probes.source.clone(),
        prompts: pair.probes.prompts.iter().map(|prompt| prompt[..prompt.len().min(max_tokens)].to_vec()).collect(),
        texts: pair.probes.texts.clone(),
        chat_template: pair.probes.chat_template,
        paired: false,
        answered: true,
    };
    let Some(tokenizer) = pair.model.tokenizer.as_ref().filter(|_| !asked.tokens) else {
        if let Some(pin) = asked.sets.iter().find(|pin| !pin.of_base) {
            bail!("{}: the prompts of a set are text, and what is read here are token ids", pin.path);
        }
        return Ok(vec![own.sampled(most)]);
    };
    let options =
        ProbeOptions { no_chat_template: asked.raw, max_prompts: None, max_tokens, vocab_size: config.vocab_size };
    let mut sets = Vec::new();
    for name in ANSWERED.into_iter().chain([STATEMENTS]) {
        let pin = asked.sets.iter().find(|pin| pin.name == name);
        let loaded = match pin {
            Some(pin) => load_pinned(pin, pair.model.folder(), tokenizer, options)?,
            None => load(&ProbeSource::BuiltIn(name.to_owned()), Some(tokenizer), options)?,
        };
        let answered = name != STATEMENTS;
        let paired = pin.is_none() && (!answered || name == REFUSAL);
        sets.push(named(name, loaded, paired, answered).sampled(if answered { most } else { CONTRASTS.min(2 * most) }));
    }
    if !ANSWERED.contains(&own.name.as_str()) {
        sets.push(own.sampled(most));
    }
    Ok(sets)
}

fn named(name: &str, loaded: LoadedProbes, paired: bool, answered: bool) -> ProbeSet {
    ProbeSet {
        name: name.to_owned(),
        prompts: loaded.prompts,
        texts: loaded.texts,
        chat_template: loaded.chat_template,
        paired,
        answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_named_with_its_file() {
        assert_eq!(named_file("identity=a/b=c.txt"), Ok(("identity".to_owned(), "a/b=c.txt".into())));
        assert!(named_file("statements=x.txt").expect_err("not answered").contains("truth"));
        for wrong in ["identity", "identity=", "=x.txt"] {
            assert!(named_file(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_base_brings_its_own_sets_and_a_users_come_first() {
        let base = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(base.path().join("probes")).expect("made");
        for name in ["identity", "refusal", "statements"] {
            std::fs::write(base.path().join(format!("probes/{name}.jsonl")), "{}").expect("written");
        }
        let mine = base.path().join("mine.txt");
        std::fs::write(&mine, "abc").expect("written");
        let given = pins([("refusal", mine.as_path())].into_iter()).expect("read");
        let found = beside_those_of(base.path(), given).expect("read");
        let names: Vec<(&str, bool)> = found.iter().map(|pin| (pin.name.as_str(), pin.of_base)).collect();
        assert_eq!(names, [("identity", true), ("refusal", false)]);
        assert_eq!(found[0].path, "probes/identity.jsonl");
    }

    #[test]
    fn a_set_has_one_file_and_its_digest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine.txt");
        std::fs::write(&path, "abc").expect("written");
        let found = pins([("truth", path.as_path()), ("math", &path)].into_iter()).expect("read");
        assert_eq!(found.iter().map(|pin| pin.name.as_str()).collect::<Vec<_>>(), ["math", "truth"]);
        assert_eq!(found[0].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let twice = pins([("truth", path.as_path()), ("truth", &path)].into_iter()).expect_err("twice");
        assert!(twice.to_string().contains("two files"), "{twice}");
        let missing = pins([("truth", folder.path().join("none.txt").as_path())].into_iter()).expect_err("no file");
        assert!(format!("{missing:#}").contains("none.txt"), "{missing:#}");
    }
}
