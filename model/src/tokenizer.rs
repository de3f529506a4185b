//! Text to token ids and back: `tokenizer.json`, the special tokens, and the chat template of one model folder.
//!
//! The one idea: a prompt gets its special tokens from exactly one place. A plain prompt is encoded with the
//! tokenizer's special tokens; a rendered chat already spells them, so it is encoded without. Mixing the two gives a
//! second beginning-of-sequence token, which shifts every activation and is the most common silent fault of such tools;
//! a prompt that begins with two is an error here.
//!
//! Only `tokenizer.json` is read. Every family that the decoder supports ships it, and the older files
//! (`tokenizer.model`, `vocab.json`) do not say how text is split.

mod expansion_limit;
mod token_display;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lcr_formats::chat_template::{ChatDate, ChatMessage, ChatTemplate};
use serde_json::Value as Json;

use self::token_display::PieceStyle;

/// Files that hold a vocabulary but not the rules for splitting text.
const LEGACY_FILES: [&str; 4] = ["tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"];
/// Special tokens that chat templates may name.
const NAMED_TOKENS: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];
/// Tokenizer classes that, in transformers, take `add_bos_token: false` as an order to drop what `tokenizer.json` adds.
const CLASSES_OBEYING_FALSE: [&str; 3] = ["Llama", "CodeLlama", "Gemma"];

/// Why text could not be turned into tokens or back.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file is there but could not be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder has a tokenizer of an older kind only.
    #[error(
        "{}: there is `{found}` but no `tokenizer.json`. Load the model's tokenizer once with transformers and call \
         `save_pretrained` to write it, or copy it from the base model's repository", folder.display()
    )]
    LegacyOnly {
        /// The model's folder.
        folder: PathBuf,
        /// The older file that was found.
        found: &'static str,
    },
    /// A JSON file does not say what it should.
    #[error("{}: {reason}. Fetch the file again, or write it anew with transformers' \
        `save_pretrained`", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The text could not be encoded.
    #[error("{}: the text could not be encoded: {reason}", file.display())]
    Encode {
        /// The tokenizer's file.
        file: PathBuf,
        /// What the tokenizer said.
        reason: String,
    },
    /// The ids could not be decoded.
    #[error("{}: the ids could not be decoded: {reason}", file.display())]
    Decode {
        /// The tokenizer's file.
        file: PathBuf,
        /// What the tokenizer said.
        reason: String,
    },
    /// The prompt begins with the beginning-of-sequence token twice.
    #[error(
        "{}: the prompt begins with two `{bos}` (id {id}): the text spells the token that is also added. Remove it \
         from the prompt or from the chat template", file.display()
    )]
    DoubleBos {
        /// The file that is responsible for one of the two.
        file: PathBuf,
        /// The token.
        bos: String,
        /// Its id.
        id: u32,
    },
    /// A chat was to be rendered, but there is no template.
    #[error("{}: the tokenizer has no chat template; give plain prompts instead", folder.display())]
    NoChatTemplate {
        /// The model's folder.
        folder: PathBuf,
    },
    /// The chat template failed.
    #[error("{}: {}chat \
        template: {reason}", file.display(), line.map_or_else(String::new, |line| format!("line {line} \
        of the ")))]
    Template {
        /// The file that holds the template.
        file: PathBuf,
        /// Line of the template, from 1, where it is known.
        line: Option<usize>,
        /// What went wrong.
        reason: String,
    },
}

/// What to add to, or drop from, the ids that `tokenizer.json` itself gives with special tokens on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Boundary {
    prepend_bos: bool,
    drop_bos: bool,
    append_eos: bool,
}

/// The tokenizer of one model folder.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    folder: PathBuf,
    file: PathBuf,
    named: Vec<(&'static str, String)>,
    bos: Option<u32>,
    eos: Option<u32>,
    stop: Vec<u32>,
    boundary: Boundary,
    style: PieceStyle,
    chat: Option<ChatTemplate>,
    date: ChatDate,
}

impl Tokenizer {
    /// Opens the tokenizer of the model in `folder`, or returns none where it has none at all.
    pub fn open(folder: &Path) -> Result<Option<Self>, TokenizerError> {
        let file = folder.join("tokenizer.json");
        let Some(bytes) = read_optional(&file)? else {
            return match LEGACY_FILES.into_iter().find(|name| folder.join(name).exists()) {
                Some(found) => Err(TokenizerError::LegacyOnly { folder: folder.to_owned(), found }),
                None => Ok(None),
            };
        };
        let description = parse_json(&file, &bytes)?;
        expansion_limit::check(&description)
            .map_err(|reason| TokenizerError::Malformed { file: file.clone(), reason })?;
        let inner = parse_tokenizer(&file, &bytes)?;
        let config_file = folder.join("tokenizer_config.json");
        let config = read_object(&config_file)?;
        let special = read_object(&folder.join("special_tokens_map.json"))?;

        let named: Vec<(&'static str, String)> = NAMED_TOKENS
            .into_iter()
            .filter_map(|name| {
                let text = token_content(config.get(name)).or_else(|| token_content(special.get(name)))?;
                Some((name, text.to_owned()))
            })
            .collect();
        let mut tokenizer = Self {
            style: PieceStyle::of(&description),
            chat: find_template(folder, &config_file, &config)?,
            inner,
            folder: folder.to_owned(),
            file,
            bos: None,
            eos: None,
            stop: stop_tokens(folder)?,
            boundary: Boundary::default(),
            date: ChatDate::default(),
            named,
        };
        tokenizer.bos = tokenizer.named_id("bos_token");
        tokenizer.eos = tokenizer.named_id("eos_token");
        if let Some(eos) = tokenizer.eos.filter(|eos| !tokenizer.stop.contains(eos)) {
            tokenizer.stop.push(eos);
        }
        tokenizer.boundary = tokenizer.find_boundary(&config)?;
        Ok(Some(tokenizer))
    }

    /// The same tokenizer with another date for templates that ask for today's.
    #[must_use]
    pub fn with_chat_date(mut self, date: ChatDate) -> Self {
        self.date = date;
        self
    }

    /// The ids of `text`; with `add_special_tokens`, those that the model expects around a prompt are added.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.encode_as_described(text, add_special_tokens)?;
        if add_special_tokens {
            if self.boundary.drop_bos && ids.first().copied() == self.bos {
                ids.remove(0);
            }
            if let Some(bos) = self.bos.filter(|_| self.boundary.prepend_bos) {
                ids.insert(0, bos);
            }
            if let Some(eos) = self.eos.filter(|_| self.boundary.append_eos) {
                ids.push(eos);
            }
            self.refuse_double_bos(&ids, &self.file)?;
        }
        Ok(ids)
    }

    /// The beginning of what [`Tokenizer::encode`] gives, at least `most` ids long where there are as many.
    ///
    /// Of a long text only as much is read as these ids can depend on: some tokenizers take time that grows faster than
    /// the text, and gigabytes of memory. Where reading stopped the ids may differ from those of the whole text, so
    /// twice as many as are asked for must stand before that.
    pub fn encode_start(&self, text: &str, add_special_tokens: bool, most: usize) -> Result<Vec<u32>, TokenizerError> {
        /// Bytes of text for one token at first; English has four.
        const BYTES: usize = 16;
        /// Tokens at the end of what was read that more text may change.
        const MARGIN: usize = 64;
        let mut length = most.saturating_mul(2).saturating_add(MARGIN).saturating_mul(BYTES);
        while length < text.len() {
            let end = (0..=length).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            let ids = self.encode(text.get(..end).unwrap_or_default(), add_special_tokens)?;
            if ids.len() >= most.saturating_mul(2).saturating_add(MARGIN) {
                return Ok(ids);
            }
            length = length.saturating_mul(4);
        }
        self.encode(text, add_special_tokens)
    }

    /// The text of `ids`, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let fault = |reason| TokenizerError::Decode { file: self.file.clone(), reason };
        contained(|| self.inner.decode(ids, true)).map_err(fault)
    }

    /// One token as a reader should see it: a leading space stays, bytes that are no text are written `\xE4`, an id
    /// outside the vocabulary as `<id 70000>`.
    pub fn token_text(&self, id: u32) -> String {
        if let Some(added) = self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id) {
            return added.content.clone();
        }
        match contained(|| Ok(self.inner.id_to_token(id))) {
            Ok(Some(piece)) => self.style.display(&piece),
            _ => format!("<id {id}>"),
        }
    }

    /// Number of tokens, added ones included. The embedding of a model may have more rows, never used.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The beginning-of-sequence token, if the tokenizer has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token, if the tokenizer has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Tokens that end a generation: those of [`stop_tokens`], and [`Tokenizer::eos`].
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop
    }

    /// Whether the folder has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// The prompt text of a conversation, special tokens spelled out; with `add_generation_prompt` it ends where the
    /// assistant's next words begin.
    pub fn render_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, TokenizerError> {
        let Some(chat) = &self.chat else {
            return Err(TokenizerError::NoChatTemplate { folder: self.folder.clone() });
        };
        chat.render(messages, add_generation_prompt, &self.named, self.date).map_err(|fault| TokenizerError::Template {
            file: chat.file.clone(),
            line: fault.line,
            reason: fault.reason,
        })
    }

    /// The ids of a conversation up to where the assistant's next words begin.
    ///
    /// The rendered text spells its special tokens, so none are added: a template that begins with the
    /// beginning-of-sequence token gives one, a template without it (TinyLlama's, for instance) gives none, as in
    /// transformers.
    pub fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<u32>, TokenizerError> {
        self.encode_chat_start(messages, usize::MAX)
    }

    /// The beginning of what [`Tokenizer::encode_chat`] gives, as in [`Tokenizer::encode_start`].
    pub fn encode_chat_start(&self, messages: &[ChatMessage], most: usize) -> Result<Vec<u32>, TokenizerError> {
        let ids = self.encode_start(&self.render_chat(messages, true)?, false, most)?;
        self.refuse_double_bos(&ids, self.chat.as_ref().map_or(&self.file, |chat| &chat.file))?;
        Ok(ids)
    }

    fn encode_as_described(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let fault = |reason| TokenizerError::Encode { file: self.file.clone(), reason };
        let encoding = contained(|| self.inner.encode_fast(text, add_special_tokens)).map_err(fault)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn refuse_double_bos(&self, ids: &[u32], file: &Path) -> Result<(), TokenizerError> {
        match (self.bos, ids) {
            (Some(bos), [first, second, ..]) if *first == bos && *second == bos => {
                Err(TokenizerError::DoubleBos { file: file.to_owned(), bos: self.token_text(bos), id: bos })
            }
            _ => Ok(()),
        }
    }

    fn named_id(&self, name: &str) -> Option<u32> {
        let (_, text) = self.named.iter().find(|(known, _)| *known == name)?;
        contained(|| Ok(self.inner.token_to_id(text))).ok().flatten()
    }

    /// Compares what `tokenizer.json` adds to a prompt with what `tokenizer_config.json` asks for.
    fn find_boundary(&self, config: &serde_json::Map<String, Json>) -> Result<Boundary, TokenizerError> {
        let asks = |key: &str| config.get(key).and_then(Json::as_bool);
        let class = config.get("tokenizer_class").and_then(Json::as_str).unwrap_or_default();
        let bare = self.encode_as_described("a", false)?;
        let wrapped = self.encode_as_described("a", true)?;
        let adds_bos = self.bos.is_some() && wrapped.first().copied() == self.bos && bare.first().copied() != self.bos;
        let adds_eos = self.eos.is_some() && wrapped.last().copied() == self.eos && bare.last().copied() != self.eos;
        let obeys_false = CLASSES_OBEYING_FALSE.iter().any(|prefix| class.starts_with(prefix));
        Ok(Boundary {
            prepend_bos: asks("add_bos_token") == Some(true) && !adds_bos,
            drop_bos: asks("add_bos_token") == Some(false) && adds_bos && obeys_false,
            append_eos: asks("add_eos_token") == Some(true) && !adds_eos,
        })
    }
}

/// The ids that end a generation according to the model in `folder`: `eos_token_id` of `generation_config.json`, an
/// integer or a list, or else of `config.json`. Empty where neither says.
pub fn stop_tokens(folder: &Path) -> Result<Vec<u32>, TokenizerError> {
    for name in ["generation_config.json", "config.json"] {
        let file = folder.join(name);
        let config = read_object(&file)?;
        let ids = match config.get("eos_token_id") {
            None | Some(Json::Null) => continue,
            Some(Json::Array(ids)) => ids.clone(),
            Some(id) => vec![id.clone()],
        };
        return ids
            .iter()
            .map(|id| {
                id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| TokenizerError::Malformed {
                    file: file.clone(),
                    reason: format!("`eos_token_id` should be a token id or a list of them, found `{id}`"),
                })
            })
            .collect();
    }
    Ok(Vec::new())
}

/// Runs the tokenizer library with its panics caught: some of them can be reached by a malformed `tokenizer.json`.
fn contained<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizer library gave up on it".to_owned()),
    }
}

fn parse_tokenizer(file: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let malformed = |reason| TokenizerError::Malformed {
        file: file.to_owned(),
        reason: format!("it is no tokenizer that this program knows: {reason}"),
    };
    contained(|| {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)?;
        // A file may carry the truncation of somebody's training run; a prompt is never cut in silence.
        inner.with_truncation(None)?;
        inner.with_padding(None);
        Ok(inner)
    })
    .map_err(malformed)
}

fn read_optional(file: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Unreadable { file: file.to_owned(), source }),
    }
}

fn parse_json(file: &Path, bytes: &[u8]) -> Result<Json, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|error| TokenizerError::Malformed {
        file: file.to_owned(),
        reason: format!("it is not JSON: {error}"),
    })
}

/// The object in `file`, empty where there is no such file.
fn read_object(file: &Path) -> Result<serde_json::Map<String, Json>, TokenizerError> {
    let Some(bytes) = read_optional(file)? else {
        return Ok(serde_json::Map::new());
    };
    match parse_json(file, &bytes)? {
        Json::Object(object) => Ok(object),
        _ => Err(TokenizerError::Malformed {
            file: file.to_owned(),
            reason: "it should hold a JSON object and holds something else".to_owned(),
        }),
    }
}

/// A special token's text: a string, or an object with `content`.
fn token_content(token: Option<&Json>) -> Option<&str> {
    match token? {
        Json::String(text) => Some(text),
        Json::Object(object) => object.get("content")?.as_str(),
        _ => None,
    }
}

/// The chat template: `chat_template.jinja` goes before the one in `tokenizer_config.json`, as in transformers; of
/// several named ones the `default` is taken.
fn find_template(
    folder: &Path,
    config_file: &Path,
    config: &serde_json::Map<String, Json>,
) -> Result<Option<ChatTemplate>, TokenizerError> {
    let file = folder.join("chat_template.jinja");
    if let Some(bytes) = read_optional(&file)? {
        return match std::str::from_utf8(&bytes) {
            Ok(source) => Ok(Some(ChatTemplate::new(&file, source))),
            Err(_) => Err(TokenizerError::Malformed { file, reason: "it is not UTF-8 text".to_owned() }),
        };
    }
    let malformed =
        |reason: &str| TokenizerError::Malformed { file: config_file.to_owned(), reason: reason.to_owned() };
    match config.get("chat_template") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(source)) => Ok(Some(ChatTemplate::new(config_file, source))),
        Some(Json::Array(templates)) => {
            let default = templates.iter().find(|entry| entry.get("name").and_then(Json::as_str) == Some("default"));
            match default.and_then(|entry| entry.get("template")).and_then(Json::as_str) {
                Some(source) => Ok(Some(ChatTemplate::new(config_file, source))),
                None => Err(malformed("`chat_template` is a list without a template named `default`")),
            }
        }
        Some(_) => Err(malformed("`chat_template` should be a string or a list of named templates")),
    }
}
