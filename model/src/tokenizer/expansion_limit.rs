//! How much longer a tokenizer's own description may make a text, before it is run once.
//!
//! A replacing step that writes two letters for one doubles its text, and thirty such steps in a row make a gigabyte of
//! a word. The parts of `tokenizer.json` that can lengthen a text are therefore read first, with the most that each can
//! do, and a tokenizer whose steps together go beyond any that was published is refused. What a step costs for a text
//! of some length is the library's matter; this bounds the length.

use serde_json::{Map, Value as Json};

/// Times that all steps together may lengthen a text, in bytes. SentencePiece's character map, the longest step of
/// honest files, has 33.
const MAXIMUM_GROWTH: f64 = 1024.0;
/// Steps that one part of the description may have.
const MAXIMUM_STEPS: usize = 256;
/// Sequences within sequences; published tokenizers have one, and parsing each tries every kind of step.
const MAXIMUM_DEPTH: usize = 4;
/// Bytes that a step may put before a text, and pieces that a template may have.
const MAXIMUM_ADDED: usize = 1024;
/// Where the steps of a sequence stand, by the part of the description.
const LISTS: [&str; 4] = ["normalizers", "pretokenizers", "processors", "decoders"];
/// Characters by which a regular expression may match nothing, so that it replaces between any two letters. Some that
/// cannot are taken for such, which only makes them count one more.
const MAY_BE_EMPTY: [char; 9] = ['*', '?', '|', '{', '^', '$', '(', '\\', ')'];

/// Refuses a description whose steps may lengthen a text without measure, with the reason.
pub(super) fn check(description: &Json) -> Result<(), String> {
    let mut encoding = Growth { factor: 1.0, steps: 0 };
    for part in ["normalizer", "pre_tokenizer", "post_processor"] {
        encoding.part(part, description)?;
    }
    Growth { factor: 1.0, steps: 0 }.part("decoder", description)
}

/// What the steps seen so far may do together.
struct Growth {
    factor: f64,
    steps: usize,
}

impl Growth {
    fn part(&mut self, part: &str, description: &Json) -> Result<(), String> {
        match description.get(part) {
            None | Some(Json::Null) => Ok(()),
            Some(step) => self.step(step, 0).map_err(|reason| format!("`{part}`: {reason}")),
        }
    }

    fn step(&mut self, step: &Json, depth: usize) -> Result<(), String> {
        // Lists would be read as steps as well, by the order of their fields.
        let Json::Object(step) = step else { return Err("a step should be an object".to_owned()) };
        self.steps += 1;
        if self.steps > MAXIMUM_STEPS || depth > MAXIMUM_DEPTH {
            return Err(format!("more than {MAXIMUM_STEPS} steps, or sequences nested more than {MAXIMUM_DEPTH} deep"));
        }
        self.factor *= growth(step)?;
        if self.factor > MAXIMUM_GROWTH {
            return Err(format!("its steps may make a text more than {MAXIMUM_GROWTH} times as long"));
        }
        for list in LISTS.iter().filter_map(|name| step.get(*name)) {
            let Json::Array(steps) = list else { return Err("the steps of a sequence should be a list".to_owned()) };
            steps.iter().try_for_each(|step| self.step(step, depth + 1))?;
        }
        Ok(())
    }
}

/// Times that one step may lengthen a text. Steps are known by their fields, because the library takes them without a
/// name too.
fn growth(step: &Map<String, Json>) -> Result<f64, String> {
    let text = |name: &str| step.get(name).and_then(Json::as_str);
    if text("prepend").is_some_and(|text| text.len() > MAXIMUM_ADDED) {
        return Err(format!("a step puts more than {MAXIMUM_ADDED} bytes before a text"));
    }
    let mut factor = 1.0;
    if let Some(content) = text("content") {
        factor *= replacing(step.get("pattern"), content.len() as f64);
    }
    if let Some(map) = text("precompiled_charsmap") {
        factor *= longest_replacement(map).ok_or("its character map cannot be read")? as f64;
    }
    // Every byte beyond ASCII becomes a letter of two bytes.
    if text("type") == Some("ByteLevel") {
        factor *= 2.0;
    }
    if let Some(template) = step.get("single") {
        let pieces = template.as_array().map_or(1, Vec::len);
        if pieces > MAXIMUM_ADDED {
            return Err(format!("a template of {pieces} pieces"));
        }
        let written = template.to_string();
        factor *= (written.matches("\"Sequence\"").count() + written.matches('$').count()) as f64;
    }
    Ok(f64::max(factor, 1.0))
}

/// Times that replacing a pattern by `content` bytes may lengthen a text.
fn replacing(pattern: Option<&Json>, content: f64) -> f64 {
    let of = |kind: &str| pattern.and_then(|pattern| pattern.get(kind)).and_then(Json::as_str);
    match (of("String"), of("Regex")) {
        (Some(text), None) if !text.is_empty() => content / text.len() as f64,
        (None, Some(expression)) if !expression.is_empty() && !expression.contains(MAY_BE_EMPTY) => content,
        // Before every letter, and at the end.
        _ => content + 1.0,
    }
}

/// Bytes of the longest text that a SentencePiece character map writes for a character, but one at least; none where it
/// is no such map.
///
/// The map is base64 of a length, a trie of that length, and the texts, each ended by a zero.
fn longest_replacement(map: &str) -> Option<usize> {
    let bytes = base64(map)?;
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let texts = rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)?;
    Some(texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0).max(1))
}

/// The bytes that base64 stands for.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replace(pattern: &str, content: &str) -> Json {
        json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content })
    }

    fn refused(description: &Json) -> String {
        check(description).expect_err("refused")
    }

    #[test]
    fn doubling_is_refused_however_it_is_written() {
        let doubling = replace("a", "aa");
        let flat = json!({ "normalizer": { "type": "Sequence", "normalizers": vec![doubling.clone(); 28] } });
        assert!(refused(&flat).contains("times as long"));
        let unnamed = json!({ "pattern": { "Regex": "a" }, "content": "aa" });
        assert!(refused(&json!({ "normalizer": { "normalizers": vec![unnamed; 28] } })).contains("times as long"));
        let nested = (0..28).fold(doubling.clone(), |inner, _| json!({ "normalizers": [doubling, inner] }));
        assert!(refused(&json!({ "normalizer": nested })).contains("nested"));
        let bytes = vec![json!({ "type": "ByteLevel" }); 28];
        assert!(refused(&json!({ "pre_tokenizer": { "pretokenizers": bytes } })).contains("times as long"));
        let twice = json!({ "type": "TemplateProcessing", "single": [{ "Sequence": { "id": "A" } }, { "Sequence": { "id": "A" } }] });
        assert!(refused(&json!({ "post_processor": { "processors": vec![twice; 28] } })).contains("times as long"));
        assert!(refused(&json!({ "decoder": { "decoders": vec![doubling; 28] } })).contains("`decoder`"));
        assert!(refused(&json!({ "normalizer": [{ "String": "a" }, "aa"] })).contains("object"));
        assert!(refused(&json!({ "normalizer": { "prepend": "x".repeat(5000) } })).contains("before a text"));
        let between = json!({ "type": "Replace", "pattern": { "Regex": "a*" }, "content": "x".repeat(2000) });
        assert!(refused(&json!({ "normalizer": between })).contains("times as long"));
    }

    #[test]
    fn what_models_do_is_allowed() {
        let blanks = json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": "▁" });
        let llama = json!({ "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace(" ", "▁"), blanks] });
        let single = json!([{ "SpecialToken": { "id": "<s>" } }, { "Sequence": { "id": "A" } }]);
        let description = json!({
            "normalizer": llama,
            "pre_tokenizer": { "pretokenizers": [{ "type": "Split" }, { "type": "ByteLevel" }] },
            "post_processor": { "processors": [{ "type": "ByteLevel" }, { "single": single }] },
            "decoder": { "decoders": [replace("▁", " "), { "type": "ByteFallback" }, { "type": "Fuse" }] },
        });
        assert_eq!(check(&description), Ok(()));
        assert_eq!(check(&json!({ "normalizer": null })), Ok(()));
    }

    #[test]
    fn a_character_map_is_as_long_as_its_longest_text() {
        // Four bytes of trie, then "a" and "bcd".
        assert_eq!(longest_replacement("BAAAAAAAAABhAGJjZAA="), Some(3));
        assert_eq!(longest_replacement("BAAA"), None);
        assert_eq!(longest_replacement("?"), None);
        let map = |texts: usize| {
            // Zero bytes of trie, then one text of three bytes for each four letters.
            format!("AAAAAGFh{}", "YWFh".repeat(texts))
        };
        let step =
            |texts: usize| json!({ "normalizer": { "type": "Precompiled", "precompiled_charsmap": map(texts) } });
        assert_eq!(check(&step(10)), Ok(()));
        assert!(refused(&step(1000)).contains("times as long"));
    }
}
