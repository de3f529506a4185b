//! Text that someone else wrote, made safe to look at.
//!
//! Escaping markup is the template's work. What is left are characters that do not show, move others, or steer a terminal:
//! a reader would see another text than the model did. They are spelled out. Line breaks and tabs stay, for rollouts are
//! prose; where a text stands in one line, [`line()`] shows them as signs.

pub(crate) use lcr_documents::characters::visible_lines as visible;

/// Line breaks and tabs as signs, for text that stands in one line.
pub(crate) fn line(text: &str) -> String {
    text.replace('\n', "↵").replace('\t', "→")
}

/// At most `most` characters, the last of them an ellipsis where something was left out.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

/// Safe between tags and within double-quoted attributes. For the charts, which are no templates.
pub(crate) fn escape(text: &str) -> String {
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

/// Three significant digits; `3.1e-7` for what is smaller than a thousandth or a million and larger.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size == 0.0 || (value.fract() == 0.0 && size < 1e6) {
        return format!("{:.0}", value + 0.0);
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.1e}");
    }
    // Rounding may carry into the next power of ten (9.996 is 10.0), so the digits are chosen from the rounded number.
    let rounded: f64 = format!("{size:.2e}").parse().unwrap_or(size);
    let decimals = (2 - rounded.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// `part` of `whole` as a whole percentage; a dash of nothing.
pub(crate) fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.0}\u{a0}%", 100.0 * part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_and_nothing_reorders() {
        assert_eq!(visible("a\nb\u{202e}c\u{0}\u{1b}[2J\r"), "a\nb\\u{202e}c\\u{0}\\u{1b}[2J␍");
        assert_eq!(visible("\u{e0041}\u{200b}é漢"), "\\u{e0041}\\u{200b}é漢");
        assert_eq!(line("a\n\tb"), "a↵→b");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shortened("äöüß", 3), "äö…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }

    #[test]
    fn numbers_keep_three_digits() {
        for (value, spelled) in
            [(0.0, "0"), (-0.0, "0"), (17.0, "17"), (9.996, "10.0"), (0.012_345, "0.0123"), (3.1e-7, "3.1e-7")]
        {
            assert_eq!(number(value), spelled);
        }
        assert_eq!(percent(1, 3), "33\u{a0}%");
        assert_eq!(percent(0, 0), "–");
    }
}
