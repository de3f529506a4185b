//! Text that someone else wrote: token texts, paths, module names. All of it may be hostile.
//!
//! Two dangers besides markup (which [`escape`] and the template's auto-escape deal with): control characters, and
//! marks that reorder what is shown, so that a reader would see another text than the model did. Both are made visible
//! here.

use std::fmt::Write;

pub use crate::characters::{visible, visible_lines};

/// A token's text with the spaces at its ends made visible, which tokenizers put there and a page would not show.
pub fn edged(text: &str) -> String {
    let inner = text.trim_matches(' ');
    let before = text.len() - text.trim_start_matches(' ').len();
    let after = text.len() - inner.len() - before;
    format!("{}{inner}{}", "␣".repeat(before), "␣".repeat(after))
}

/// At most `most` characters, the last of them an ellipsis where something was left out.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

/// Line breaks and tabs as signs, for text that stands in one line.
pub fn line(text: &str) -> String {
    text.replace('\n', "↵").replace('\t', "→")
}

/// Safe between tags and within double-quoted attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// One component of a relative link: everything but unreserved characters percent-encoded.
pub fn link_component(text: &str) -> String {
    let mut link = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            link.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(link, "%{byte:02X}");
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_and_nothing_reorders() {
        assert_eq!(visible("a\nb\u{202e}c\u{0}"), "a↵b\\u{202e}c\\u{0}");
        assert_eq!(visible_lines("a\nb\u{202e}c\u{0}\u{1b}[2J\r"), "a\nb\\u{202e}c\\u{0}\\u{1b}[2J␍");
        assert_eq!(visible_lines("\u{e0041}\u{200b}é漢"), "\\u{e0041}\\u{200b}é漢");
        assert_eq!(line("a\n\tb"), "a↵→b");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(escape(r#"<a b="c" d='e'>&"#), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        assert_eq!(link_component("javascript:x/../"), "javascript%3Ax%2F..%2F");
    }

    #[test]
    fn spaces_at_the_ends_show() {
        assert_eq!(edged("  a b "), "␣␣a b␣");
        assert_eq!(edged("  "), "␣␣");
        assert_eq!(edged(""), "");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shortened("äöüß", 3), "äö…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }
}
