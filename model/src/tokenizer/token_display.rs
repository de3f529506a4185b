//! How one piece of a vocabulary is shown to a reader.
//!
//! Vocabularies store bytes in disguise: GPT-2's byte-level scheme writes a space as `Ġ`, SentencePiece as `▁`, and the
//! latter spells other bytes `<0x0A>`. Decoding one token with the tokenizer itself would swallow the leading space, so
//! the disguise is lifted here.

use serde_json::Value as Json;

/// The disguise of a vocabulary's pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceStyle {
    /// Each character stands for one byte (GPT-2, Qwen, Llama 3).
    ByteLevel,
    /// `▁` is a space, `<0x0A>` a byte (Llama 2, Gemma, Mistral).
    SentencePiece,
    /// Pieces are text.
    Plain,
}

impl PieceStyle {
    /// Reads the style off the `decoder` of a `tokenizer.json`.
    pub(super) fn of(description: &Json) -> Self {
        let decoder = description.get("decoder").unwrap_or(&Json::Null);
        let mut kinds = vec![decoder];
        kinds.extend(decoder.get("decoders").and_then(Json::as_array).into_iter().flatten());
        let has = |kind: &str| kinds.iter().any(|entry| entry.get("type").and_then(Json::as_str) == Some(kind));
        if has("ByteLevel") {
            Self::ByteLevel
        } else if has("ByteFallback") || has("Metaspace") {
            Self::SentencePiece
        } else {
            Self::Plain
        }
    }

    /// `piece` as text; bytes that are no text on their own are written `\xE4`.
    pub(super) fn display(self, piece: &str) -> String {
        match self {
            Self::ByteLevel => {
                let bytes: Option<Vec<u8>> = piece.chars().map(byte_of).collect();
                bytes.map_or_else(|| piece.to_owned(), |bytes| readable(&bytes))
            }
            Self::SentencePiece => match fallback_byte(piece) {
                Some(byte) => readable(&[byte]),
                None => piece.replace('▁', " "),
            },
            Self::Plain => piece.to_owned(),
        }
    }
}

/// The byte behind a character of the byte-level alphabet: printable Latin-1 characters stand for themselves, the 68
/// other bytes for the characters from U+0100 on, in order.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

fn fallback_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text
}
