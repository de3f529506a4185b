//! Whether injected text gives the answer away.
//!
//! With the answer in its context a correct box proves nothing, so each rollout says where it stood. What is looked for
//! is the answer's wording, on normalised text, not its announcement: a short answer such as `2` stands in most
//! thinking.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{HandOver, ScaffoldOptions, Target};

/// What happens when injected text holds the true answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakMode {
    /// It is not looked for.
    Off,
    /// It is recorded with the rollout.
    #[default]
    Flag,
    /// The injected text ends before the line that holds it: see [`cut_before_leak`]. What still leaks is recorded.
    Cut,
    /// The rollout has no reward: it counts neither for the mean of its group nor in the loss.
    Drop,
}

/// Whether `injected` holds `truth`, a boxed answer, both without the notation that does not matter (case, `$`, LaTeX
/// spaces and sizes, thousands separators, a unit behind the answer's number; `\frac{a}{b}` as a/b, `\text{a}` as a).
///
/// - A number is found where a number of the same decimal value stands: 36 in `36.` and `36.0`, not in `136`, `3.6` or
///   `-36`. Signs are told from differences by what stands in front of them.
/// - A single letter, which may be a choice, is found in brackets or after `option`, `choice`, `answer`, `is`, `:` or
///   `=`.
/// - All else is found where its text is, not inside a longer word or number, spaces around operators aside.
///
/// Equal values in another notation (1/2 and 0.5) are not looked for.
pub fn find_leak(injected: &str, truth: &str) -> bool {
    let (text, truth) = (plain(injected), plain(truth));
    let truth = truth.trim().trim_end_matches('.');
    let mut letters = truth.trim_matches(['(', ')']).chars();
    if let Some(number) = Number::parse(without_unit(truth)) {
        return numbers(&text).any(|found| found == number);
    }
    match (letters.next(), letters.next()) {
        (None, _) => false,
        (Some(letter), None) if letter.is_alphabetic() => holds_letter(&text, letter),
        _ => holds_phrase(&squeeze(&text), &squeeze(truth)),
    }
}

/// `chunk` shortened so that its text does not hold `truth`: it ends where the expert may hand over, in front of the
/// first line or sentence that reveals it, and is empty where the first one does. An empty chunk says nothing: the
/// model goes on from where it was.
pub fn cut_before_leak(
    target: &Target,
    hand_over: HandOver,
    chunk: Range<usize>,
    truth: &str,
    text_of: impl Fn(&[u32]) -> String,
) -> Range<usize> {
    let leaks =
        |end: usize| target.tokens.get(chunk.start..end).is_some_and(|tokens| find_leak(&text_of(tokens), truth));
    let start = chunk.start;
    if !leaks(chunk.end) {
        return chunk;
    }
    let inside = target.hand_overs(hand_over).iter().copied().filter(|end| *end > start && *end < chunk.end);
    let end = inside.take_while(|cut| !leaks(*cut)).last().unwrap_or(start);
    start..end
}

/// Tokens from the target's beginning that the expert may say: all of them, but where the answer is cut out those in
/// front of the first sentence that holds it.
pub fn room(target: &Target, options: &ScaffoldOptions, truth: &str, text_of: impl Fn(&[u32]) -> String) -> usize {
    match options.leak_guard {
        LeakMode::Off | LeakMode::Flag | LeakMode::Drop => target.len(),
        LeakMode::Cut => cut_before_leak(target, options.hand_over, 0..target.len(), truth, text_of).end,
    }
}

/// The last `length` tokens of the target, or, where the answer must not be given away, the longest end of them that
/// begins at a cut point and does not hold it. Empty where there is none.
pub fn tail(
    target: &Target,
    length: usize,
    mode: LeakMode,
    truth: &str,
    text_of: impl Fn(&[u32]) -> String,
) -> Range<usize> {
    let end = target.len();
    let start = end.saturating_sub(length);
    let leaks = |start: usize| target.tokens.get(start..).is_some_and(|tokens| find_leak(&text_of(tokens), truth));
    if mode != LeakMode::Cut || !leaks(start) {
        return start..end;
    }
    let cuts = target.cuts.iter().copied().filter(|cut| *cut > start && *cut < end);
    cuts.into_iter().find(|cut| !leaks(*cut)).unwrap_or(end)..end
}

/// Lower case, without notation that does not change what is said.
fn plain(text: &str) -> String {
    let mut text = text.to_lowercase().replace(['−', '–'], "-");
    for command in ["\\$", "\\left", "\\right", "\\,", "\\!", "\\;", "\\:", "\\ ", "\\displaystyle", "$", "**"] {
        text = text.replace(command, if command == "\\ " { " " } else { "" });
    }
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("{,}", ",").replace("\\%", "%");
    for command in ["\\text", "\\mathrm", "\\mathbf", "\\textbf", "\\mbox"] {
        text = unwrap_command(&text, command);
    }
    without_thousands(&fractions(&text)).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `\command{a}` as a, where the braces are not nested.
fn unwrap_command(text: &str, command: &str) -> String {
    let opener = format!("{command}{{");
    let mut parts = text.split(&opener);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((content, rest)) => result.extend([content, rest]),
            None => result.push_str(part),
        }
    }
    result
}

/// `\frac{a}{b}`, `\frac12` as a/b, where the braces are not nested.
fn fractions(text: &str) -> String {
    let mut parts = text.split("\\frac");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match argument(part).and_then(|(over, rest)| argument(rest).map(|(under, rest)| (over, under, rest))) {
            Some((over, under, rest)) => result.extend([over.trim(), "/", under.trim(), rest]),
            None => result.push_str(part),
        }
    }
    result
}

/// The first argument of a LaTeX command: what is in braces, or one character; and what follows it.
fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if let Some(inside) = text.strip_prefix('{') {
        return inside.split_once('}');
    }
    text.chars().next().and_then(|first| text.split_at_checked(first.len_utf8()))
}

/// `1,234,567` as `1234567`.
fn without_thousands(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let digit = |index: usize| letters.get(index).is_some_and(char::is_ascii_digit);
    let mut result = String::with_capacity(text.len());
    for (index, &letter) in letters.iter().enumerate() {
        let grouped = (1..=3).all(|offset| digit(index + offset)) && !digit(index + 4);
        if !(letter == ',' && index > 0 && digit(index - 1) && grouped) {
            result.push(letter);
        }
    }
    result
}

/// A decimal number as written, without zeros that do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number {
    negative: bool,
    whole: String,
    part: String,
}

impl Number {
    fn new(negative: bool, whole: &str, part: &str) -> Self {
        let (whole, part) = (whole.trim_start_matches('0').to_owned(), part.trim_end_matches('0').to_owned());
        Self { negative: negative && !(whole.is_empty() && part.is_empty()), whole, part }
    }

    /// A text that is a number and nothing else; a percent or degree sign may follow.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches('%').trim_end_matches("^\\circ").trim_end_matches('°').trim_end();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let digits_only = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let valid = digits_only(whole) && digits_only(part) && !(whole.is_empty() && part.is_empty());
        valid.then(|| Self::new(negative, whole, part))
    }
}

/// `36 cm` and `€36` as 36. A single letter is no unit but a factor.
fn without_unit(truth: &str) -> &str {
    let truth = truth.trim_start_matches(['€', '£', '¥', '₹']);
    match truth.split_once(' ') {
        Some((number, unit))
            if unit.chars().count() > 1 && unit.chars().all(|letter| letter.is_alphabetic() || letter == ' ') =>
        {
            number
        }
        _ => truth,
    }
}

/// The numbers of a text. Digits that follow a letter (`x2`) are part of a name.
fn numbers(text: &str) -> impl Iterator<Item = Number> {
    let letters: Vec<char> = text.chars().collect();
    let digit = |index: usize| letters.get(index).is_some_and(char::is_ascii_digit);
    let mut found = Vec::new();
    let mut index = 0;
    while index < letters.len() {
        if !digit(index) {
            index += 1;
            continue;
        }
        let start = index;
        while digit(index) {
            index += 1;
        }
        let whole: String = letters[start..index].iter().collect();
        let mut part = String::new();
        if letters.get(index) == Some(&'.') && digit(index + 1) {
            index += 1;
            while let Some(letter) = letters.get(index).filter(|letter| letter.is_ascii_digit()) {
                part.push(*letter);
                index += 1;
            }
        }
        let before = start.checked_sub(1).and_then(|last| letters.get(last)).copied();
        // `.5` has no whole part of its own; `a.5` and the last group of `1.2.5` are no numbers.
        if before == Some('.') && start >= 2 && letters[start - 2].is_alphanumeric() {
            continue;
        }
        if before == Some('.') && part.is_empty() {
            found.push(Number::new(is_signed(&letters, start - 1), "", &whole));
        } else if !before.is_some_and(|letter| letter.is_alphabetic() || letter == '_') {
            found.push(Number::new(is_signed(&letters, start), &whole, &part));
        }
    }
    found.into_iter()
}

/// Whether the number at `start` has a minus sign of its own: one that touches it and does not follow an operand.
fn is_signed(letters: &[char], start: usize) -> bool {
    let Some(minus) = start.checked_sub(1).filter(|index| letters.get(*index) == Some(&'-')) else { return false };
    let Some(before) = minus.checked_sub(1).and_then(|index| letters.get(index)) else { return true };
    !(before.is_alphanumeric() || matches!(before, ')' | ']' | '}' | '-'))
}

/// Whether a single letter stands as a choice or a result.
fn holds_letter(text: &str, letter: char) -> bool {
    text.match_indices(letter).any(|(position, found)| {
        let (before, rest) = text.split_at(position);
        let after = rest.get(found.len()..).unwrap_or_default();
        if before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric) {
            return false;
        }
        // "is a" is an article where a word follows.
        let article =
            letter == 'a' && after.strip_prefix(' ').is_some_and(|next| next.starts_with(char::is_alphabetic));
        let bracketed = before.ends_with(['(', '{', '[']) && after.starts_with([')', '}', ']']);
        bracketed || (is_introduced(before) && !article)
    })
}

/// Whether a text ends with what introduces an answer.
fn is_introduced(before: &str) -> bool {
    let spoken = before.trim_end().trim_end_matches(['(', '"', '\'', '{']).trim_end();
    let word = |word: &str| spoken.strip_suffix(word).is_some_and(|rest| !rest.ends_with(char::is_alphanumeric));
    spoken.ends_with([':', '=']) || ["option", "choice", "answer", "is"].into_iter().any(word)
}

/// A text without spaces around operators and brackets and behind commas.
fn squeeze(text: &str) -> String {
    let operator = |letter: char| "+-*/=^()[]{}<>|,".contains(letter);
    let letters: Vec<char> = text.trim().chars().collect();
    let mut result = String::with_capacity(text.len());
    for (index, &letter) in letters.iter().enumerate() {
        let beside = |offset: usize| letters.get(offset).copied().is_some_and(operator);
        if !(letter == ' ' && (beside(index + 1) || index.checked_sub(1).is_some_and(beside))) {
            result.push(letter);
        }
    }
    result
}

/// Whether `phrase` stands in `text`, not as part of a longer word or number.
fn holds_phrase(text: &str, phrase: &str) -> bool {
    if phrase.is_empty() {
        return false;
    }
    let starts_inside = phrase.starts_with(char::is_alphanumeric);
    let ends_inside = phrase.ends_with(char::is_alphanumeric);
    text.match_indices(phrase).any(|(position, _)| {
        let (before, rest) = text.split_at(position);
        let after = rest.get(phrase.len()..).unwrap_or_default();
        let number_goes_on = |part: Option<&str>, edge: fn(&str) -> bool| part.is_some_and(edge);
        let continued_left = before.ends_with(char::is_alphanumeric)
            || number_goes_on(before.strip_suffix('.'), |left| left.ends_with(|letter: char| letter.is_ascii_digit()));
        let continued_right = after.starts_with(char::is_alphanumeric)
            || number_goes_on(after.strip_prefix('.'), |right| {
                right.starts_with(|letter: char| letter.is_ascii_digit())
            });
        !(starts_inside && continued_left || ends_inside && continued_right)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_found_by_value_and_as_a_whole() {
        let found = [
            ("so there are 36 apples", "36"),
            ("36", "36"),
            ("= 36.", "36"),
            ("that is 36.0 in all", "36"),
            ("$1,234$ dollars", "1234"),
            ("1{,}234", "1,234"),
            ("0.50 of it", ".5"),
            ("a drop of .5", "0.5"),
            ("100-36 is", "36"),
            ("x = -36", "-36"),
            ("(−5, 2)", "-5"),
            ("36cm", "36"),
            ("36\\%", "36\\%"),
            ("36/2", "36"),
            ("\\frac{36}{2}", "36"),
            ("007", "7"),
            ("in all 36 of them", "36\\text{ cm}"),
            ("\\$36 are left", "36"),
            ("it costs 36", "\\$36"),
            ("turn by 90", "90^\\circ"),
        ];
        for (text, truth) in found {
            assert!(find_leak(text, truth), "{truth} in {text}");
        }
        let absent = [
            ("136", "36"),
            ("3.6", "36"),
            ("36.5", "36"),
            ("0.36", "36"),
            ("365", "36"),
            ("x = -36", "36"),
            ("10-5", "-5"),
            ("10 - 5", "-5"),
            ("1,362", "36"),
            ("x36", "36"),
            ("version 1.2.36", "36"),
            ("", "36"),
            ("36", ""),
            ("we have 2", "2 x"),
        ];
        for (text, truth) in absent {
            assert!(!find_leak(text, truth), "{truth} in {text}");
        }
    }

    #[test]
    fn words_and_expressions_are_found_as_a_whole() {
        let found = [
            ("He goes North.", "north"),
            ("the answer is \\text{North}", "north"),
            ("so x + 1 remains", "x+1"),
            ("it is \\dfrac{3}{4} then", "\\frac{3}{4}"),
            ("3 / 4 of them", "\\tfrac34"),
            ("the point (3, 4)", "\\left(3,4\\right)"),
            ("they meet on   Monday morning", "monday morning"),
            ("an interval [0, 1)", "[0,1)"),
        ];
        for (text, truth) in found {
            assert!(find_leak(text, truth), "{truth} in {text}");
        }
        let absent = [
            ("northern", "north"),
            ("13/4", "3/4"),
            ("3/45", "3/4"),
            ("2.3/4", "3/4"),
            ("3/4.5", "3/4"),
            ("2x+1", "x+1"),
            ("on Monday in the morning", "monday morning"),
        ];
        for (text, truth) in absent {
            assert!(!find_leak(text, truth), "{truth} in {text}");
        }
    }

    #[test]
    fn letters_must_stand_as_choices() {
        for text in ["(B) is right", "so option B.", "The answer is B", "Answer: (B)", "answer is **B**", "\\text{(B)}"]
        {
            assert!(find_leak(text, "B") && find_leak(text, "(B)"), "{text}");
        }
        for text in ["Bob has a ball", "segment AB", "let b, c be sides", "this b", "(AB)"] {
            assert!(!find_leak(text, "B"), "{text}");
        }
        assert!(!find_leak("There is a dog and a cat. A cow is a cow.", "A"));
        assert!(find_leak("There is a dog, so the answer is A.", "A"));
    }

    #[test]
    fn a_cut_chunk_ends_before_the_line_that_reveals() {
        let pieces = ["We", " add", ".\n", "It", " is", " 3", "6", ".\n", "Done", ".\n"];
        let target = Target::new((0..10).collect(), |token| pieces[token as usize].to_owned());
        let text_of = |tokens: &[u32]| tokens.iter().map(|token| pieces[*token as usize]).collect::<String>();
        assert_eq!(cut_before_leak(&target, HandOver::Sentence, 0..10, "36", text_of), 0..3);
        assert_eq!(cut_before_leak(&target, HandOver::Sentence, 0..3, "36", text_of), 0..3);
        assert_eq!(cut_before_leak(&target, HandOver::Sentence, 3..10, "36", text_of), 3..3);
        assert_eq!(cut_before_leak(&target, HandOver::Sentence, 8..10, "36", text_of), 8..10);
        assert_eq!(cut_before_leak(&target, HandOver::Sentence, 0..10, "7", text_of), 0..10);
        let room =
            |leak_guard| room(&target, &ScaffoldOptions { leak_guard, ..ScaffoldOptions::default() }, "36", text_of);
        assert_eq!([LeakMode::Off, LeakMode::Flag, LeakMode::Cut, LeakMode::Drop].map(room), [10, 10, 3, 10]);
    }

    #[test]
    fn a_tail_begins_behind_the_line_that_reveals() {
        let pieces = ["We", " add", ".\n", "It", " is", " 3", "6", ".\n", "Done", ".\n"];
        let target = Target::new((0..10).collect(), |token| pieces[token as usize].to_owned());
        let text_of = |tokens: &[u32]| tokens.iter().map(|token| pieces[*token as usize]).collect::<String>();
        let tail = |length, mode, truth| tail(&target, length, mode, truth, text_of);
        assert_eq!(tail(6, LeakMode::Flag, "36"), 4..10);
        assert_eq!(tail(6, LeakMode::Cut, "36"), 8..10);
        assert_eq!(tail(6, LeakMode::Cut, "7"), 4..10);
        assert_eq!(tail(99, LeakMode::Cut, "done"), 10..10, "the answer stands in the last line");
    }

    proptest! {
        #[test]
        fn any_text_is_searched_without_panic(text in "\\PC{0,60}", truth in "\\PC{0,12}") {
            find_leak(&text, &truth);
        }

        #[test]
        fn a_number_is_found_among_others_only_if_it_is_one_of_them(numbers in prop::collection::vec(0_u32..3000, 0..12), truth in 0_u32..3000) {
            let text = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", so we get ");
            prop_assert_eq!(find_leak(&text, &truth.to_string()), numbers.contains(&truth));
        }

        #[test]
        fn braces_and_fractions_of_any_shape_are_survived(text in "(\\\\frac|\\\\text|\\{|\\}|[0-9a-z.,$ -]){0,20}", truth in "(\\\\frac|\\{|\\}|[0-9.]){0,6}") {
            find_leak(&text, &truth);
        }
    }
}
