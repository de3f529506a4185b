//! Characters by which a text reads otherwise than it is: THE list.
//!
//! Unicode's `Default_Ignorable_Code_Point` (nothing is drawn) and `Bidi_Control` (what follows is moved), control
//! characters (a terminal obeys them), the separators of lines and paragraphs, and the marks of interlinear
//! annotations. A test holds the list to Unicode's own tables.

use std::fmt::Write;

/// Whether a character hides, moves or steers what is shown, rather than being seen itself.
///
/// Line breaks and tabs are control characters and count: where a text may have lines, ask [`first_deceptive`].
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The first deceptive character of a text of several lines.
///
/// Line breaks and tabs are no matter there, and neither is what emoji are written with: one variation selector behind
/// a symbol, and a joiner between two symbols. A run of selectors, by which bytes are hidden behind one symbol, is
/// found.
pub fn first_deceptive(text: &str) -> Option<char> {
    let blank = |character: char| matches!(character, '\n' | '\r' | '\t');
    prose(text).find(|(character, is_ordinary)| !is_ordinary && !blank(*character)).map(|(character, _)| character)
}

/// Each character with whether it is seen itself or belongs to an emoji.
fn prose(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut before = None;
    let mut characters = text.chars().peekable();
    std::iter::from_fn(move || {
        let character = characters.next()?;
        let after_symbol = before.is_some_and(|before| is_symbol(before) || before == '\u{fe0f}');
        let is_ordinary = match character {
            '\u{fe0e}' | '\u{fe0f}' => before.is_some_and(is_symbol),
            '\u{200d}' => after_symbol && characters.peek().copied().is_some_and(is_symbol),
            _ => !is_deceptive(character),
        };
        before = Some(character);
        Some((character, is_ordinary))
    })
}

/// Neither letter nor blank nor hidden: what a variation selector may stand behind (emoji, and the digits and signs of
/// key caps).
fn is_symbol(character: char) -> bool {
    !character.is_alphabetic() && !character.is_whitespace() && !is_deceptive(character)
}

/// The text in one line, with every deceptive character spelled out: what may be shown of a stranger's string.
///
/// ```
/// assert_eq!(lcr_documents::characters::visible("a\n\u{202e}b\u{1b}"), "a↵\\u{202e}b\\u{1b}");
/// ```
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push('↵'),
            '\t' => shown.push('→'),
            hidden if is_deceptive(hidden) => shown.extend(hidden.escape_unicode()),
            other => shown.push(other),
        }
    }
    shown
}

/// The same for a text that may have lines: line breaks, tabs and emoji stay, a carriage return is shown as a sign.
pub fn visible_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (character, is_ordinary) in prose(text) {
        match character {
            '\r' => shown.push('␍'),
            '\n' | '\t' => shown.push(character),
            _ if is_ordinary => shown.push(character),
            _ => shown.extend(character.escape_unicode()),
        }
    }
    shown
}

/// JSON with the deceptive characters of its strings as `\u` escapes: the same document, and nothing in it moves a
/// terminal's text.
///
/// Outside of strings JSON has no such characters but line breaks and tabs, which stay.
pub fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if is_deceptive(character) && !matches!(character, '\n' | '\r' | '\t') {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use icu_properties::CodePointSetData;
    use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint};

    use super::*;

    #[test]
    fn unicode_has_no_hidden_or_moving_character_that_is_not_on_the_list() {
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        let bidirectional = CodePointSetData::new::<BidiControl>();
        for character in '\0'..=char::MAX {
            let known = ignorable.contains(character) || bidirectional.contains(character);
            assert!(!known || is_deceptive(character), "{}", character.escape_unicode());
            // Nothing else is on it but controls, separators of lines, and annotation marks.
            let other =
                character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}');
            assert!(known || other || !is_deceptive(character), "{}", character.escape_unicode());
        }
    }

    #[test]
    fn emoji_are_ordinary_and_what_hides_behind_them_is_not() {
        for ordinary in ["⚠️ mind", "👩‍💻 1️⃣ ❤️", "two\nlines\tand a tab\r\n", "naïve 漢字 ä"] {
            assert_eq!(first_deceptive(ordinary), None, "{ordinary}");
        }
        for (hidden, first) in [
            ("😀\u{fe0f}\u{fe01}", '\u{fe01}'),
            ("a\u{fe0f}", '\u{fe0f}'),
            ("a\u{200d}b", '\u{200d}'),
            ("😀\u{fe0f}\u{fe0f}", '\u{fe0f}'),
            ("x\u{61c}y", '\u{61c}'),
            ("x\u{e0041}", '\u{e0041}'),
            ("\u{1b}[2K", '\u{1b}'),
        ] {
            assert_eq!(first_deceptive(hidden), Some(first), "{}", hidden.escape_unicode());
        }
    }

    #[test]
    fn lines_stay_where_a_text_may_have_them() {
        assert_eq!(visible_lines("a\n\tb\r\u{7}"), "a\n\tb␍\\u{7}");
        assert_eq!(visible("a\n\tb\r\u{7}"), "a↵→b\\u{d}\\u{7}");
    }

    #[test]
    fn escaped_json_is_the_same_document() {
        let json = "{\n  \"a\u{202e}\": \"\u{e0041}\u{9b}\"\n}";
        let shown = visible_json(json);
        assert_eq!(shown, "{\n  \"a\\u202e\": \"\\udb40\\udc41\\u009b\"\n}");
    }
}
