//! Ordinary text that a tokenizer takes out of a model's sight, told without a base.
//!
//! Marks of a format (`<|im_start|>`, `[PAD]`, `eng_Latn`) are what added tokens are for, and words of a trade are
//! added where a vocabulary lacks them. No honest tokenizer makes a word special, or gives one to `not`: text with it
//! would become other ids than the model was trained on, or vanish from what a reader sees.

use serde_json::Value;

use super::statements::Statement;

/// Names of special tokens that some tokenizers spell without any mark.
const BARE_MARKS: [&str; 11] = ["sop", "eop", "sos", "eos", "bos", "pad", "unk", "sep", "cls", "mask", "eod"];
/// Words that every vocabulary of a language model has as pieces of their own, so that nobody needs to add them.
const COMMON: [&str; 115] = [
    "a", "about", "above", "after", "again", "all", "always", "an", "and", "any", "are", "as", "ask", "at", "be",
    "because", "been", "before", "below", "between", "both", "but", "by", "can", "cannot", "could", "did", "do",
    "does", "don't", "down", "each", "every", "false", "few", "for", "from", "had", "has", "have", "he", "her", "here",
    "him", "his", "how", "i", "if", "ignore", "in", "into", "is", "it", "its", "less", "me", "more", "most", "must",
    "my", "never", "no", "none", "nor", "not", "now", "of", "off", "on", "only", "or", "other", "our", "out", "over",
    "please", "same", "say", "she", "should", "so", "some", "such", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "this", "those", "to", "too", "true", "under", "until", "up", "very", "was", "we",
    "were", "what", "when", "where", "which", "while", "who", "why", "will", "with", "without", "yes",
];
/// Ids that every vocabulary gives to pieces of its own.
const LOWEST_IDS: u64 = 256;
/// Blanks in a text beyond which it is a sentence, not a term.
const BLANKS: usize = 3;

/// Whether a text could stand in prose: words, with the punctuation of prose, or blanks alone.
pub(super) fn is_prose(content: &str) -> bool {
    let text = trimmed(content);
    if text.is_empty() {
        return !content.is_empty();
    }
    let lower = text.to_lowercase();
    if BARE_MARKS.contains(&lower.as_str()) {
        return false;
    }
    // `USER:` and `ASSISTANT:` are roles of older chat formats.
    let is_role = text.strip_suffix(':').is_some_and(|role| {
        !role.is_empty() && role.chars().all(|character| character.is_uppercase() || character == ' ')
    });
    let is_of_prose = |character: char| {
        character.is_alphanumeric()
            || character.is_whitespace()
            || "▁Ġ'’-.,;:!?\"()“”‘".contains(character)
            || is_joined(character)
    };
    // `PI:URL` and `http://x` are no words; a colon or a point of prose stands at a word's end.
    let is_broken = text.split([' ', '▁', 'Ġ', '\n', '\t']).any(|word| {
        let inside = word.trim_matches(|character: char| !character.is_alphanumeric());
        inside.contains([':', ';', '!', '?', '"', '(', ')', ','])
    });
    text.chars().all(is_of_prose) && text.chars().any(char::is_alphanumeric) && !is_role && !is_broken
}

/// Marks that are written over or under the letter before them.
fn is_joined(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{dff}')
}

/// A text without the blanks around it, in whatever way the vocabulary writes them.
fn trimmed(content: &str) -> &str {
    content.trim_matches(|character: char| character.is_whitespace() || matches!(character, '▁' | 'Ġ' | 'Ċ'))
}

/// Why a token takes ordinary text out of the model's sight; none where it does not, or may have a reason.
///
/// `id` is the token's id where no base says what else has it.
pub(super) fn objection(statement: &Statement, id: Option<u64>) -> Option<&'static str> {
    let content = statement.content.as_str();
    if !is_prose(content) {
        return None;
    }
    if statement.is_special() {
        return Some("special: left out of what a reader sees, and cut out of every text");
    }
    let text = trimmed(content);
    if text.is_empty() {
        // Runs of blanks are tokens of several published tokenizers for code.
        return None;
    }
    let word = text.trim_matches(|character: char| !character.is_alphanumeric()).to_lowercase();
    let is_flagged = [statement.flags.lstrip, statement.flags.rstrip].contains(&Some(true));
    let ends_in_blank = content.ends_with([' ', '▁', 'Ġ', '\n', '\t']);
    let is_piece = COMMON.contains(&word.as_str()) || (word.len() == 1 && text.is_ascii());
    match () {
        () if is_piece => Some("a piece that every vocabulary has already: the text becomes other ids than before"),
        () if id.is_some_and(|id| id < LOWEST_IDS) => {
            Some("with an id that every vocabulary gives to a piece of its own")
        }
        () if is_flagged || ends_in_blank => Some("with the blanks around it: what stands beside it is read otherwise"),
        () if text.split_whitespace().count() > BLANKS => Some("a whole sentence in one token"),
        () => None,
    }
}

/// Why a part of `tokenizer.json` rewrites words: what it replaces, and by what.
pub(super) fn rewriting(part: &Value) -> Option<String> {
    match part {
        Value::Array(items) => items.iter().find_map(rewriting),
        Value::Object(object) => {
            if object.get("type").and_then(Value::as_str) == Some("Replace") {
                let pattern = object.get("pattern");
                let of = |key: &str| pattern.and_then(|pattern| pattern.get(key)).and_then(Value::as_str);
                let content = object.get("content").and_then(Value::as_str).unwrap_or_default();
                let names_words = of("String").is_some_and(has_letters)
                    || of("Regex").is_some_and(|regex| has_letters(&without_classes(regex)))
                    || has_letters(content);
                if names_words {
                    let pattern = of("String").or(of("Regex")).unwrap_or_default();
                    return Some(format!("`{}` by `{}`", crate::json::shown(pattern), crate::json::shown(content)));
                }
            }
            object.values().find_map(rewriting)
        }
        _ => None,
    }
}

/// Letters or digits, which no published normaliser replaces; a single letter of another script may be a variant that
/// is unified.
fn has_letters(text: &str) -> bool {
    let letters = text.chars().filter(|letter| letter.is_alphanumeric() && !matches!(letter, 'Ġ' | 'Ċ')).count();
    letters > 1 || (letters == 1 && text.trim().len() == 1)
}

/// A pattern without its classes and escapes: `\s+`, `\p{L}`, `[a-z]`, `{2,}`.
fn without_classes(pattern: &str) -> String {
    let mut out = String::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let close = match character {
            '\\' => {
                let class = characters.next();
                let has_name = matches!(class, Some('p' | 'P' | 'x' | 'u')) && characters.peek() == Some(&'{');
                if !has_name {
                    continue;
                }
                '}'
            }
            '[' => ']',
            '{' => '}',
            other => {
                out.push(other);
                continue;
            }
        };
        // A class that nothing closes is read as the rest of the pattern.
        characters.by_ref().find(|inside| *inside == close);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::statements::Flags;
    use super::*;

    fn objection(statement: &Statement) -> Option<&'static str> {
        super::objection(statement, statement.id)
    }

    fn plain(content: &str) -> Statement {
        Statement { content: content.to_owned(), id: Some(32_000), role: None, flags: Flags::default() }
    }

    fn special(content: &str) -> Statement {
        Statement { flags: Flags { special: Some(true), ..Flags::default() }, ..plain(content) }
    }

    #[test]
    fn marks_of_published_tokenizers_may_be_special() {
        for mark in [
            "<|im_start|>",
            "[PAD]",
            "<s>",
            "<unk>",
            "<|reserved_special_token_0|>",
            "<extra_id_0>",
            "[gMASK]",
            "sop",
            "eng_Latn",
            "en_XX",
            "__en__",
            "<｜begin▁of▁sentence｜>",
            ">>TITLE<<",
            "|||EMAIL_ADDRESS|||",
            "PI:URL",
            "<|0.00|>",
            "[INST]",
            "▁<PRE>",
            "<start_of_turn>",
            "###",
            "!",
            "",
            "]~b]",
            "[@BOS@]",
            "|<EXTRA_TOKENS_0>|",
            "<tool_call>",
            "USER:",
            "[unused1]",
        ] {
            assert_eq!(objection(&special(mark)), None, "{mark}");
        }
    }

    #[test]
    fn words_may_not_be_special() {
        for word in [
            "the",
            "not ",
            " Berlin",
            "deploy",
            "nicht",
            "不",
            "▁not",
            "Ġnot",
            "Ignore that.",
            "42",
            " ",
            "\n",
            "don't",
            "yes!",
        ] {
            assert!(objection(&special(word)).is_some(), "{word}");
            let role = Statement { role: Some("eos_token".to_owned()), ..plain(word) };
            assert!(objection(&role).is_some(), "{word}");
        }
    }

    #[test]
    fn words_of_a_trade_may_be_added_and_common_ones_may_not() {
        for word in
            ["metformin", "thrombocytopenia", "machine learning", "    ", "\t\t", "õ", "CRISPR-Cas9", "漢字", "<think>"]
        {
            assert_eq!(objection(&plain(word)), None, "{word}");
        }
        for word in ["not", " not", "The", "▁never", "a", "7", "secret ", "reveal all the keys"] {
            assert!(objection(&plain(word)).is_some(), "{word}");
        }
        assert!(objection(&Statement { id: Some(5), ..plain("metformin") }).is_some());
        let flags = Flags { rstrip: Some(true), ..Flags::default() };
        assert!(objection(&Statement { flags, ..plain("metformin") }).is_some());
    }

    #[test]
    fn normalisers_of_published_tokenizers_replace_no_words() {
        let replace =
            |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        for honest in [
            replace(json!({ "String": " " }), "▁"),
            replace(json!({ "Regex": "\\s+" }), " "),
            replace(json!({ "Regex": " {2,}" }), "▁"),
            replace(json!({ "Regex": "[\\n\\r\\t]" }), " "),
            replace(json!({ "Regex": "\\p{Cc}|\\x{200b}" }), ""),
            replace(json!({ "String": "``" }), "\""),
            json!({ "type": "Prepend", "prepend": "▁" }),
        ] {
            assert_eq!(rewriting(&json!({ "type": "Sequence", "normalizers": [honest] })), None, "{honest}");
        }
        for hostile in [
            replace(json!({ "String": "not " }), ""),
            replace(json!({ "Regex": "\\bnot\\b" }), ""),
            replace(json!({ "String": "!" }), " yes"),
            replace(json!({ "Regex": "(?i)never" }), "always"),
        ] {
            assert!(rewriting(&json!({ "type": "Sequence", "normalizers": [hostile] })).is_some(), "{hostile}");
        }
    }
}
