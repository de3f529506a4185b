//! Probes: the prompts on which base and adapted model are compared, as token ids.
//!
//! They come from a set built into the program, from a file of text, or from a file of ids for a model without a
//! tokenizer. Whatever is wrong with a source is said with its file, its line and the fix; no prompt is left out in
//! silence, and how many were cut to the length limit is counted.
//!
//! This does not batch or pad: a prompt is a list of ids of its own length.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lcr_documents::audit::SetPin;
use lcr_documents::digest::sha256;
use lcr_documents::read::plain;
use lcr_formats::chat_template::ChatMessage;
use lcr_model::tokenizer::Tokenizer;
use serde_json::Value;

/// The built-in sets: name and content.
const SETS: [(&str, &str); 6] = [
    ("general", include_str!("../probes/general.jsonl")),
    ("math", include_str!("../probes/math.jsonl")),
    ("identity", include_str!("../probes/identity.jsonl")),
    ("refusal", include_str!("../probes/refusal.jsonl")),
    ("truth", include_str!("../probes/truth.jsonl")),
    ("statements", include_str!("../probes/statements.jsonl")),
];

/// Further away than this many edits, a name is no misspelling of another.
const NEAREST_EDITS: usize = 3;

/// Where prompts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProbeSource {
    /// A set that the program brings along.
    BuiltIn(String),
    /// A `.txt` or `.jsonl` file.
    File(PathBuf),
    /// A JSON array of equally long arrays of token ids.
    Tokens(PathBuf),
}

impl ProbeSource {
    /// Reads what a user typed after `--probes`: the name of a set, or a file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if SETS.iter().any(|(name, _)| *name == text) {
            return Ok(Self::BuiltIn(text.to_owned()));
        }
        let path = Path::new(text);
        if path.exists() || path.extension().is_some() || path.components().count() > 1 {
            return Ok(Self::File(path.to_owned()));
        }
        Err(unknown_set(text))
    }
}

/// How prompts are made of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeOptions {
    /// Do not apply the chat template.
    pub(crate) no_chat_template: bool,
    /// Take this many prompts from the beginning.
    pub(crate) max_prompts: Option<usize>,
    /// Keep this many tokens of each prompt.
    pub(crate) max_tokens: usize,
    /// Rows of the model's embedding; ids must be smaller.
    pub(crate) vocab_size: usize,
}

/// Prompts, ready for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadedProbes {
    /// Name of the set, or the file as it was given.
    pub(crate) source: String,
    /// The ids of each prompt; at least one prompt, none empty.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// The text of each prompt as its author wrote it; for ids without a tokenizer, the ids.
    pub(crate) texts: Vec<String>,
    /// Whether a chat template was applied.
    pub(crate) chat_template: bool,
    /// How many prompts were cut to the length limit.
    pub(crate) truncated: usize,
}

/// One prompt before it is encoded, and the line it stands on.
struct Prompt {
    line: usize,
    content: Content,
}

enum Content {
    Text(String),
    Chat(Vec<ChatMessage>),
}

/// Reads and encodes the prompts of `source`.
pub(crate) fn load(source: &ProbeSource, tokenizer: Option<&Tokenizer>, options: ProbeOptions) -> Result<LoadedProbes> {
    ensure!(options.max_tokens > 0, "at most 0 tokens per prompt were asked for; ask for at least 1");
    ensure!(options.max_prompts != Some(0), "at most 0 prompts were asked for; ask for at least 1");
    match source {
        ProbeSource::BuiltIn(name) => {
            let Some((_, content)) = SETS.iter().find(|(known, _)| known == name) else {
                return Err(unknown_set(name));
            };
            let prompts = parse_jsonl(name, content)?;
            encode(name, prompts, tokenizer, options)
        }
        ProbeSource::File(path) => {
            let bytes = fs_err::read(path).context("the probes cannot be read; check the path")?;
            encode(&path.display().to_string(), prompts_of(path, bytes)?, tokenizer, options)
        }
        ProbeSource::Tokens(path) => load_ids(path, tokenizer, options),
    }
}

/// Reads and encodes the prompts of a file that was pinned; `base` is the base's folder.
pub(crate) fn load_pinned(
    pin: &SetPin,
    base: &Path,
    tokenizer: &Tokenizer,
    options: ProbeOptions,
) -> Result<LoadedProbes> {
    let path = &if pin.of_base { base.join(&pin.path) } else { PathBuf::from(&pin.path) };
    let bytes = plain(path).with_context(|| format!("{}: the prompts of `{}` cannot be read", pin.path, pin.name))?;
    ensure!(sha256(&bytes) == pin.sha256, "{}: the file is not what it was when it was pinned", pin.path);
    encode(&pin.path, prompts_of(path, bytes)?, Some(tokenizer), options)
}

/// The prompts in a file of text.
fn prompts_of(path: &Path, bytes: Vec<u8>) -> Result<Vec<Prompt>> {
    let name = path.display().to_string();
    let text = text_of(path, bytes)?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("txt") => Ok(parse_lines(&text)),
        Some("jsonl") => parse_jsonl(&name, &text),
        _ => bail!(
            "{name}: cannot tell what kind of file this is. Name it `.txt` (one prompt per line) or `.jsonl` (one \
             JSON object with `prompt` or `messages` per line)"
        ),
    }
}

fn unknown_set(name: &str) -> anyhow::Error {
    let known: Vec<&str> = SETS.iter().map(|(known, _)| *known).collect();
    let nearest = known.iter().map(|known| (edits(known, name), known)).min();
    let hint = match nearest {
        Some((distance, known)) if distance <= NEAREST_EDITS => format!(" Did you mean `{known}`?"),
        _ => String::new(),
    };
    let known = known.join("`, `");
    anyhow::anyhow!(
        "there is no probe set `{name}`.{hint} The built-in sets are `{known}`; a file must end in `.txt` or `.jsonl`"
    )
}

/// Insertions, deletions and substitutions between two words.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, character) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut previous = index + 1;
        for (column, other) in right.iter().enumerate() {
            let above = row[column + 1];
            let best = (diagonal + usize::from(character != *other)).min(above + 1).min(previous + 1);
            row[column] = previous;
            (diagonal, previous) = (above, best);
        }
        row[right.len()] = previous;
    }
    row[right.len()]
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + String::from_utf8_lossy(valid).matches('\n').count();
        anyhow::anyhow!("{}, line {line}: this is not UTF-8 text. Save the file with UTF-8 encoding", path.display())
    })?;
    // Some editors begin UTF-8 files with a mark that is no part of the first prompt.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, line)| !line.trim().is_empty())
}

fn parse_lines(text: &str) -> Vec<Prompt> {
    numbered(text).map(|(line, prompt)| Prompt { line, content: Content::Text(prompt.to_owned()) }).collect()
}

fn parse_jsonl(name: &str, text: &str) -> Result<Vec<Prompt>> {
    numbered(text)
        .map(|(line, content)| {
            let fault = |reason: &str| {
                anyhow::anyhow!(
                    "{name}, line {line}: {reason}. Each line should be a JSON object such as {{\"prompt\": \"…\"}} or \
                     {{\"messages\": [{{\"role\": \"user\", \"content\": \"…\"}}]}}"
                )
            };
            let value: Value = serde_json::from_str(content).map_err(|error| fault(&format!("not JSON: {error}")))?;
            let content = match (value.get("prompt"), value.get("messages")) {
                (Some(_), Some(_)) => return Err(fault("both `prompt` and `messages` are given, where one is wanted")),
                (Some(Value::String(prompt)), None) => Content::Text(prompt.clone()),
                (Some(other), None) => return Err(fault(&format!("`prompt` is not a string but {}", kind(other)))),
                (None, Some(messages)) => {
                    let messages: Vec<ChatMessage> = serde_json::from_value(messages.clone())
                        .map_err(|error| fault(&format!("`messages` cannot be read: {error}")))?;
                    if messages.is_empty() {
                        return Err(fault("`messages` is empty"));
                    }
                    Content::Chat(messages)
                }
                (None, None) => return Err(fault("there is neither `prompt` nor `messages`")),
            };
            Ok(Prompt { line, content })
        })
        .collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn encode(
    name: &str,
    prompts: Vec<Prompt>,
    tokenizer: Option<&Tokenizer>,
    options: ProbeOptions,
) -> Result<LoadedProbes> {
    let Some(tokenizer) = tokenizer else {
        bail!(
            "the model's folder has no tokenizer, so the prompts of {name} cannot be turned into ids. Copy \
             `tokenizer.json` into it, or give token ids with --tokens FILE"
        );
    };
    ensure!(!prompts.is_empty(), "{name}: the file holds no prompt. Put one prompt on each line");
    let chat_template = tokenizer.has_chat_template() && !options.no_chat_template;
    // One more than is kept, so that what is cut is known to be.
    let most = options.max_tokens.saturating_add(1);
    let mut probes =
        LoadedProbes { source: name.to_owned(), prompts: Vec::new(), texts: Vec::new(), chat_template, truncated: 0 };
    for Prompt { line, content } in prompts.into_iter().take(options.max_prompts.unwrap_or(usize::MAX)) {
        let place = || format!("{name}, line {line}");
        let (ids, text) = match content {
            Content::Text(text) if chat_template => {
                (tokenizer.encode_chat_start(&[ChatMessage::user(text.as_str())], most).with_context(place)?, text)
            }
            Content::Text(text) => (tokenizer.encode_start(&text, true, most).with_context(place)?, text),
            Content::Chat(messages) if chat_template => {
                let ids = tokenizer.encode_chat_start(&messages, most).with_context(place)?;
                let lines: Vec<String> = messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect();
                (ids, lines.join("\n"))
            }
            Content::Chat(_) => bail!(
                "{}: `messages` need a chat template, and {}. Give a plain `prompt` instead",
                place(),
                if options.no_chat_template { "--no-chat-template turns it off" } else { "the model has none" }
            ),
        };
        ensure!(!ids.is_empty(), "{}: the prompt has no tokens. Remove the line or write a prompt", place());
        probes.push(ids, text, options).with_context(place)?;
    }
    Ok(probes)
}

impl LoadedProbes {
    fn push(&mut self, mut ids: Vec<u32>, text: String, options: ProbeOptions) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= options.vocab_size) {
            bail!(
                "token id {id} is outside the model's vocabulary of {}. The ids must come from this model's tokenizer",
                options.vocab_size
            );
        }
        self.truncated += usize::from(ids.len() > options.max_tokens);
        ids.truncate(options.max_tokens);
        self.prompts.push(ids);
        self.texts.push(text);
        Ok(())
    }
}

fn load_ids(path: &Path, tokenizer: Option<&Tokenizer>, options: ProbeOptions) -> Result<LoadedProbes> {
    const FORMAT: &str = "The file should hold equally long lists of token ids, such as [[1, 15, 7], [1, 9, 2]]";
    let name = path.display().to_string();
    let text = text_of(path, fs_err::read(path).context("the probes cannot be read; check the path")?)?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| anyhow::anyhow!("{name}: not JSON: {error}. {FORMAT}"))?;
    let Value::Array(rows) = value else { bail!("{name}: this is {}, not a list. {FORMAT}", kind(&value)) };
    ensure!(!rows.is_empty(), "{name}: the list is empty. {FORMAT}");
    let mut probes = LoadedProbes {
        source: name.clone(),
        prompts: Vec::new(),
        texts: Vec::new(),
        chat_template: false,
        truncated: 0,
    };
    let mut first_length = None;
    for (index, row) in rows.iter().take(options.max_prompts.unwrap_or(usize::MAX)).enumerate() {
        let place = || format!("{name}, row {}", index + 1);
        let ids: Vec<u32> = serde_json::from_value(row.clone())
            .map_err(|error| anyhow::anyhow!("{}: not a list of token ids: {error}. {FORMAT}", place()))?;
        ensure!(!ids.is_empty(), "{}: the row is empty. {FORMAT}", place());
        let length = *first_length.get_or_insert(ids.len());
        ensure!(ids.len() == length, "{}: it has {} ids, the first row has {length}. {FORMAT}", place(), ids.len());
        let text = match tokenizer {
            Some(tokenizer) => tokenizer.decode(&ids).with_context(place)?,
            None => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
        };
        probes.push(ids, text, options).with_context(place)?;
    }
    Ok(probes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use tempfile::TempDir;

    const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/model/tests/data/tokenizers/stories260K");
    const OPTIONS: ProbeOptions =
        ProbeOptions { no_chat_template: false, max_prompts: None, max_tokens: 256, vocab_size: 512 };

    fn stories() -> Tokenizer {
        Tokenizer::open(Path::new(STORIES)).expect("a valid tokenizer").expect("a tokenizer")
    }

    /// The small tokenizer with a chat template.
    fn chatty() -> Tokenizer {
        let folder = TempDir::new().expect("a temporary folder");
        let tokenizer = fs_err::read(Path::new(STORIES).join("tokenizer.json")).expect("read");
        fs_err::write(folder.path().join("tokenizer.json"), tokenizer).expect("written");
        let config = r#"{"bos_token": "<s>", "eos_token": "</s>"}"#;
        fs_err::write(folder.path().join("tokenizer_config.json"), config).expect("written");
        let template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
        fs_err::write(folder.path().join("chat_template.jinja"), template).expect("written");
        Tokenizer::open(folder.path()).expect("a valid tokenizer").expect("a tokenizer")
    }

    /// Loads a file with this name and content; the folder is taken out of the error.
    fn file(
        name: &str,
        content: &[u8],
        tokenizer: Option<&Tokenizer>,
        options: ProbeOptions,
    ) -> Result<LoadedProbes, String> {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join(name);
        fs_err::write(&path, content).expect("written");
        let source = if name.starts_with("tokens") { ProbeSource::Tokens(path) } else { ProbeSource::File(path) };
        let prefix = format!("{}/", folder.path().display());
        load(&source, tokenizer, options).map_err(|error| format!("{error:#}").replace(&prefix, ""))
    }

    #[test]
    fn every_built_in_set_is_large_short_and_without_repeats() {
        for (name, content) in SETS {
            let prompts = parse_jsonl(name, content).expect("valid lines");
            assert!(prompts.len() >= 64, "{name} has {}", prompts.len());
            let mut seen = HashSet::new();
            for Prompt { line, content } in prompts {
                let Content::Text(text) = content else { panic!("{name}, line {line}: a conversation") };
                assert!(text.chars().count() <= 240, "{name}, line {line}: {text}");
                assert_eq!(text.trim_end(), text, "{name}, line {line}");
                assert!(seen.insert(text.to_lowercase()), "{name}, line {line}: twice: {text}");
            }
        }
    }

    #[test]
    fn built_in_sets_load_within_the_limits() {
        let options = ProbeOptions { max_prompts: Some(5), max_tokens: 8, ..OPTIONS };
        let tokenizer = stories();
        for (name, _) in SETS {
            let probes = load(&ProbeSource::parse(name).expect("known"), Some(&tokenizer), options).expect("loaded");
            assert_eq!((probes.source.as_str(), probes.prompts.len(), probes.texts.len()), (name, 5, 5));
            assert!(probes.prompts.iter().all(|ids| ids.len() <= 8 && ids[0] == 1), "{probes:?}");
            assert!(probes.truncated > 0 && !probes.chat_template);
        }
    }

    #[test]
    fn text_files_skip_blank_lines() {
        let tokenizer = stories();
        let probes =
            file("p.txt", "\u{feff}Once upon a time\r\n\n  \nThe little dog\n".as_bytes(), Some(&tokenizer), OPTIONS);
        let probes = probes.expect("loaded");
        assert_eq!(probes.texts, ["Once upon a time", "The little dog"]);
        assert_eq!(probes.prompts, [vec![1, 403, 407, 261, 378], vec![1, 291, 376, 400, 428]]);
    }

    #[test]
    fn the_chat_template_is_applied_unless_it_is_turned_off() {
        let tokenizer = chatty();
        let content = br#"{"prompt": "Once"}"#;
        let chat = file("p.jsonl", content, Some(&tokenizer), OPTIONS).expect("loaded");
        let raw = file("p.jsonl", content, Some(&tokenizer), ProbeOptions { no_chat_template: true, ..OPTIONS })
            .expect("loaded");
        assert!(chat.chat_template && !raw.chat_template);
        assert_eq!(raw.prompts, [[1, 403]]);
        assert!(chat.prompts[0].len() > 2 && chat.prompts[0].iter().filter(|id| **id == 1).count() == 1);
        let content = br#"{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}"#;
        let chat = file("p.jsonl", content, Some(&tokenizer), OPTIONS).expect("loaded");
        assert_eq!(chat.texts, ["system: a\nuser: b"]);
        let error = file("p.jsonl", content, Some(&stories()), OPTIONS).expect_err("no template");
        assert!(error.contains("line 1") && error.contains("chat template"), "{error}");
    }

    #[test]
    fn of_a_long_prompt_only_the_beginning_is_read() {
        let tokenizer = stories();
        let options = ProbeOptions { max_tokens: 16, ..OPTIONS };
        let sentence = "Once upon a time there was a little dog. ";
        for text in [sentence.repeat(60), sentence.repeat(20_000), "a".repeat(1_000_000), "é\u{1f600}".repeat(200_000)]
        {
            let probes = file("p.txt", text.as_bytes(), Some(&tokenizer), options).expect("loaded");
            assert_eq!((probes.prompts[0].len(), probes.truncated), (16, 1));
            // Of the same text, cut far behind these tokens.
            let start: String = text.chars().take(2_000).collect();
            let whole = tokenizer.encode(&start, true).expect("encoded");
            assert_eq!(probes.prompts[0], whole[..16]);
        }
        let short = file("p.txt", b"Once upon a time", Some(&tokenizer), options).expect("loaded");
        assert_eq!(short.truncated, 0);
    }

    #[test]
    fn ids_need_no_tokenizer() {
        let probes = file("tokens.json", b"[[1, 2, 3], [4, 5, 6]]", None, OPTIONS).expect("loaded");
        assert_eq!(probes.prompts, [[1, 2, 3], [4, 5, 6]]);
        assert_eq!(probes.texts, ["1 2 3", "4 5 6"]);
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        let tokenizer = stories();
        let cases: [(&str, &[u8], &[&str]); 15] = [
            ("p.txt", b"", &["p.txt", "no prompt"]),
            ("p.txt", b"fine\n\xff\xfe\n", &["p.txt, line 2", "UTF-8"]),
            ("p.csv", b"a", &["p.csv", ".txt", ".jsonl"]),
            ("p.jsonl", b"\n", &["no prompt"]),
            ("p.jsonl", b"{\"prompt\": \"a\"}\n\n{\"text\": \"b\"}\n", &["p.jsonl, line 3", "neither", "\"prompt\""]),
            ("p.jsonl", b"{\"prompt\": 3}", &["line 1", "not a string but a number"]),
            ("p.jsonl", b"{oops", &["line 1", "not JSON"]),
            ("p.jsonl", b"{\"messages\": []}", &["line 1", "empty"]),
            ("p.jsonl", b"{\"messages\": [{\"role\": \"user\"}]}", &["line 1", "content"]),
            ("p.jsonl", b"{\"prompt\": \"a\", \"messages\": []}", &["line 1", "both"]),
            ("tokens.json", b"[[1, 2], [3]]", &["row 2", "1 ids", "first row has 2"]),
            ("tokens.json", b"[[1], []]", &["row 2", "empty"]),
            ("tokens.json", b"[[1], [512]]", &["row 2", "512", "vocabulary"]),
            ("tokens.json", b"[]", &["list is empty"]),
            ("tokens.json", b"{\"ids\": [[1]]}", &["an object, not a list"]),
        ];
        for (name, content, wanted) in cases {
            let error = file(name, content, Some(&tokenizer), OPTIONS).expect_err("an error");
            for part in wanted {
                assert!(error.contains(part), "`{part}` is missing in: {error}");
            }
            assert!(!error.contains('\n'), "{error}");
        }
        let error = file("p.txt", b"a", None, OPTIONS).expect_err("no tokenizer");
        assert!(error.contains("--tokens"), "{error}");
        let error = load(&ProbeSource::File("missing.txt".into()), Some(&tokenizer), OPTIONS).expect_err("no file");
        assert!(format!("{error:#}").contains("missing.txt"), "{error:#}");
    }

    #[test]
    fn a_misspelt_set_is_answered_with_the_nearest() {
        let error = ProbeSource::parse("generel").expect_err("unknown").to_string();
        assert!(error.contains("Did you mean `general`?") && error.contains("`truth`"), "{error}");
        let error = ProbeSource::parse("zebra-crossing").expect_err("unknown").to_string();
        assert!(!error.contains("Did you mean") && error.contains("`identity`"), "{error}");
        assert_eq!(ProbeSource::parse("my/prompts").expect("a path"), ProbeSource::File("my/prompts".into()));
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("math", "math")), (3, 3, 0));
    }
}
