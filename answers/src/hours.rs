//! The half of the day after a time: `a.m.`, `PM` and `p. m.` in one spelling.

use super::token::Token;

/// Puts `am` or `pm` in the place of every spelling of them after a number.
pub(super) fn join(tokens: &[Token]) -> Vec<Token> {
    let mut joined: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        let follows_number = matches!(joined.last(), Some(Token::Digit { .. }));
        if let Some((name, length)) = half(rest).filter(|_| follows_number) {
            joined.push(Token::Word { text: name.to_owned(), spaced: true, upright: true });
            rest = rest.get(length..).unwrap_or_default();
        } else {
            joined.push(token.clone());
            rest = after;
        }
    }
    joined
}

/// The half of the day that tokens begin with, and how many of them spell it.
///
/// Without points it must stand apart from the number, or be in capitals: `5am` may be a product.
fn half(tokens: &[Token]) -> Option<(&'static str, usize)> {
    let name = |letter: &str| match letter.to_lowercase().as_str() {
        "a" => Some("am"),
        "p" => Some("pm"),
        _ => None,
    };
    let is_m = |text: &str| text.eq_ignore_ascii_case("m");
    match tokens {
        [Token::Word { text, .. }, Token::Symbol('.'), Token::Word { text: m, .. }, after @ ..] if is_m(m) => {
            let point = usize::from(after.first() == Some(&Token::Symbol('.')));
            Some((name(text)?, 3 + point))
        }
        [Token::Word { text, spaced, upright }, ..] => match text.as_str() {
            "AM" | "Am" => Some(("am", 1)),
            "PM" | "Pm" => Some(("pm", 1)),
            "am" if *spaced || *upright => Some(("am", 1)),
            "pm" if *spaced || *upright => Some(("pm", 1)),
            _ => None,
        },
        _ => None,
    }
}
