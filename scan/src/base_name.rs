//! Whether two names mean one base model: the one that an adapter's config names, and the one that stands in a folder.
//!
//! A name proves nothing, and a different one is a question worth asking: the most common mistake is an adapter run on
//! a sibling of its base, with equal shapes (`-Instruct` or not, `-Coder` or not), and its numbers look fine. The last
//! part of a name counts, less what says only how the weights are stored. Owners are not compared: the same model is
//! published under several.

use std::io::Read;
use std::path::{Component, Path};

use crate::adapter::AdapterSummary;
use crate::check::{Check, Observation};

/// The file that names the base.
const CONFIG: &str = "adapter_config.json";
/// Bytes of a base's config and card that are looked at.
const MOST_BYTES: u64 = 1 << 20;
/// Endings that say how the same model is stored, not which it is.
const STORAGE: [&str; 31] = [
    "-bnb",
    "-nf4",
    "-2bit",
    "-3bit",
    "-4bit",
    "-5bit",
    "-6bit",
    "-8bit",
    "-unsloth",
    "-dynamic",
    "-gptq",
    "-awq",
    "-mlx",
    "-hf",
    "-gguf",
    "-fp16",
    "-bf16",
    "-fp32",
    "-f16",
    "-fp8",
    "-mxfp4",
    "-int4",
    "-int8",
    "-w4a16",
    "-w8a8",
    "-w8a16",
    "-dwq",
    "-hqq",
    "-exl2",
    "-eetq",
    "-safetensors",
];

/// Whether the name in an adapter's config means one of the names that a base is known by.
///
/// ```
/// let known = ["Qwen3-4B".to_owned()];
/// assert!(lcr_scan::base_name::matches("unsloth/qwen3-4b-unsloth-bnb-4bit", &known));
/// assert!(!lcr_scan::base_name::matches("Qwen/Qwen3-4B-Instruct", &known));
/// ```
pub fn matches(named: &str, known: &[String]) -> bool {
    let named = comparability_key(named);
    known.iter().any(|known| comparability_key(known) == named)
}

/// The names that a base's folder is known by: its own (that of the repository in a Hugging Face cache), what its
/// config was loaded from, and the title of its card.
pub fn names_of(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let resolved = folder.canonicalize();
    for path in [Some(folder), resolved.as_deref().ok()].into_iter().flatten() {
        names.extend(name_of_path(path));
    }
    let config = read(&folder.join("config.json"));
    let config = config.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    names.extend(config.and_then(|config| config.get("_name_or_path")?.as_str().map(str::to_owned)));
    if let Some(card) = read(&folder.join("README.md")) {
        let card = String::from_utf8_lossy(&card).into_owned();
        names.extend(card.lines().find_map(|line| line.strip_prefix("# ")).map(|title| title.trim().to_owned()));
    }
    names.retain(|name| !comparability_key(name).is_empty());
    names.dedup();
    names
}

/// The folder's name, or that of the repository whose snapshot it is.
fn name_of_path(path: &Path) -> Option<String> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    let parts: Vec<String> = parts.collect();
    let cached = parts.iter().rev().find(|part| part.starts_with("models--"));
    cached.or(parts.last()).cloned()
}

/// The first so many bytes of a file; none where it cannot be read.
fn read(path: &Path) -> Option<Vec<u8>> {
    // Opening a pipe would wait for whoever writes into it.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What is left of a name when everything is gone by which names of one model differ.
fn comparability_key(name: &str) -> String {
    let parts: Vec<&str> = name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
    let cached = parts.iter().rev().find_map(|part| part.strip_prefix("models--")?.rsplit("--").next());
    let last = cached.or(parts.last().copied()).unwrap_or_default();
    let mut text = last.to_lowercase().replace(['_', ' '], "-");
    while let Some(rest) = STORAGE.iter().find_map(|ending| text.strip_suffix(ending)).filter(|rest| !rest.is_empty()) {
        text.truncate(rest.len());
    }
    // `meta-llama/Meta-Llama-3-8B` is elsewhere called `llama-3-8b`.
    match text.strip_prefix("meta-") {
        Some(rest) if rest.starts_with("llama") => rest.to_owned(),
        _ => text,
    }
}

/// What is to be said of the base that an adapter's config names.
pub(crate) fn observe(adapter: &AdapterSummary, base: Option<&Path>, found: &mut Vec<Observation>) {
    if let Some(revision) = adapter.revision.as_deref().filter(|revision| !is_plain(revision)) {
        let message = format!(
            "the config asks for revision `{revision}` of its base: not a branch, tag or commit of the publisher, but \
             something that anybody may have proposed. Loaders that pass it on load that"
        );
        found.push(Observation::new(Check::BaseRevision, CONFIG, message).at("revision"));
    }
    let named = adapter.base_model.as_deref().filter(|name| !name.is_empty());
    let (Some(named), Some(base)) = (named, base) else { return };
    let known = names_of(base);
    if !matches(named, &known) {
        let known: Vec<String> = known.iter().map(|name| format!("`{}`", crate::json::shown(name))).collect();
        let message = format!(
            "the config names the base `{named}`, the base given is known as {}: what is said of the two together is \
             of a pair that was not trained together",
            known.join(", ")
        );
        found.push(Observation::new(Check::BaseNameMismatch, CONFIG, message).at("base_model_name_or_path"));
    }
}

/// Whether a revision can be a branch, a tag or a commit of the repository's owner: proposals are kept elsewhere under
/// `refs/`.
fn is_plain(revision: &str) -> bool {
    let ordinary = |character: char| character.is_ascii_alphanumeric() || "._-+/".contains(character);
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    let name = ["refs/heads/", "refs/tags/"].iter().find_map(|owned| revision.strip_prefix(owned)).unwrap_or(revision);
    name.chars().all(ordinary) && name.split('/').all(is_part) && !name.to_lowercase().starts_with("refs/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_only_says_how_weights_are_stored_makes_no_difference() {
        for (named, base) in [
            ("Qwen/Qwen3-4B", "Qwen3-4B"),
            ("Qwen/Qwen3-4B/", "models/qwen3-4b"),
            ("unsloth/Qwen3-4B-unsloth-bnb-4bit", "Qwen3-4B"),
            ("mlx-community/Qwen3-4B-4bit", "Qwen3-4B"),
            ("TheBloke/Mistral-7B-v0.1-GPTQ", "Mistral-7B-v0.1"),
            ("TheBloke/Mistral-7B-v0.1-AWQ", "mistral_7b_v0.1"),
            ("meta-llama/Llama-2-7b-hf", "Llama-2-7b"),
            ("meta-llama/Meta-Llama-3-8B", "llama-3-8b-bnb-4bit"),
            ("/cache/hub/models--Qwen--Qwen3-4B/snapshots/0123abc", "Qwen3-4B"),
            ("./nano", "nano"),
        ] {
            assert!(matches(named, &known(&[base])), "{named} is not {base}");
            assert!(matches(base, &known(&["other", named])), "{base} is not {named}");
        }
    }

    #[test]
    fn siblings_and_look_alikes_are_other_models() {
        for (named, base) in [
            ("Qwen/Qwen3-4B-Instruct", "Qwen3-4B"),
            ("Qwen/Qwen2.5-7B", "Qwen2.5-Coder-7B"),
            ("Qwen/Qwen2.5-7B", "Qwen2.5-0.5B"),
            ("google/gemma-3-4b-it", "gemma-3-4b-pt"),
            ("evil/another-base", "nano"),
            ("Qw\u{435}n/Qwen\u{0437}-4B", "Qwen3-4B"),
            ("Qwen/Qwen3-4B ", "Qwen3-4B"),
            ("Qwen3-4B/..", "Qwen3-4B"),
            ("-4bit", "nano"),
        ] {
            assert!(!matches(named, &known(&[base])), "{named} is taken for {base}");
        }
        assert!(!matches("nano", &[]));
    }

    #[test]
    fn a_folder_is_known_by_its_name_its_config_and_its_card() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("models--Qwen--Qwen3-4B/snapshots/89ab");
        std::fs::create_dir_all(&folder).expect("created");
        assert_eq!(names_of(&folder), ["models--Qwen--Qwen3-4B"]);
        std::fs::write(folder.join("config.json"), r#"{"_name_or_path": "org/First"}"#).expect("written");
        std::fs::write(folder.join("README.md"), "---\nlicense: mit\n---\n\n# Second 4B\n# Third\n").expect("written");
        assert_eq!(names_of(&folder), ["models--Qwen--Qwen3-4B", "org/First", "Second 4B"]);
        for named in ["Qwen/Qwen3-4B", "First-4bit", "x/second-4b"] {
            assert!(matches(named, &names_of(&folder)), "{named}");
        }
        assert!(!matches("Third", &names_of(&folder)) && !matches("89ab", &names_of(&folder)));
        std::fs::write(folder.join("config.json"), "[").expect("written");
        assert_eq!(names_of(&folder).len(), 2);
    }

    #[test]
    fn a_link_to_a_base_is_known_by_both_names() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("nano")).expect("created");
        std::os::unix::fs::symlink("nano", root.path().join("base")).expect("linked");
        assert_eq!(names_of(&root.path().join("base")), ["base", "nano"]);
    }

    #[test]
    fn proposals_are_no_plain_revisions() {
        for plain in
            ["main", "v1.0", "step-1000", "7ae557604adf67be50417f59c2c2f167def9a775", "fp16", "refs/heads/main", "a/b"]
        {
            assert!(is_plain(plain), "{plain}");
        }
        for odd in [
            "refs/pr/666",
            "refs/heads/refs/pr/1",
            "Refs/pr/1",
            "a//b",
            "refs%2Fpr%2F1",
            "refs\\pr\\1",
            "../main",
            "",
            " main",
            "m\u{0430}in",
            "{}",
        ] {
            assert!(!is_plain(odd), "{odd}");
        }
    }
}
