//! The expert's thinking as tokens, and the places where it may be cut.

use std::collections::HashSet;
use std::sync::Arc;

use super::{HandOver, ScaffoldError};

/// A line longer than this many tokens is also cut at sentence ends, a sentence longer than this every [`STEP`] tokens.
const LONG: usize = 48;
/// Tokens between cuts where neither lines nor sentences give any; also how far a chunk's end may move to reach a cut.
const STEP: usize = 16;
/// How far a cut that follows neither line nor sentence moves back to stand in front of a word.
const WORD_REACH: usize = 8;

/// The expert's thinking as tokens, with the places where it may be cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Cut points: indices into `tokens`, strictly ascending, 0 and the length included. A cut at i lies before token
    /// i.
    pub cuts: Vec<usize>,
    /// Where the expert may hand over: the cut points, and every end of a sentence. The model goes on within a line as
    /// easily as the expert breaks off there, but the expert takes over at a cut point alone.
    pub ends: Vec<usize>,
    /// Ends of lines but for the last: indices behind the line break, ascending, strictly inside. Part of `cuts`.
    line_ends: Vec<usize>,
    /// Indices of tokens that begin a word.
    words: Vec<usize>,
    /// Tokens that end a line.
    line_tokens: Arc<HashSet<u32>>,
}

impl Target {
    /// Finds the cut points of `tokens`, the expert's thinking without its tags; `token_text` gives the text of a
    /// token, with its leading space and its line breaks.
    ///
    /// Cuts are line ends. A target of one line, and a line of more than 48 tokens, is cut at sentence ends; where that
    /// gives nothing, and in sentences of more than 48 tokens, every 16 tokens, moved back in front of a word where one
    /// begins within 8 tokens.
    ///
    /// The caller guarantees that the text holds neither close tag nor box: see [`check_expert_text`].
    pub fn new(tokens: Vec<u32>, token_text: impl Fn(u32) -> String) -> Self {
        let texts: Vec<String> = tokens.iter().map(|token| token_text(*token)).collect();
        let length = tokens.len();
        let line_tokens =
            tokens.iter().zip(&texts).filter(|(_, text)| ends_line(text)).map(|(token, _)| *token).collect();
        let line_ends = line_ends(&texts);
        let words: Vec<usize> = (0..length).filter(|index| begins_word(&texts, *index)).collect();
        let mut cuts: Vec<usize> = std::iter::once(0).chain(line_ends.iter().copied()).chain([length]).collect();
        cuts.dedup();
        let sentences =
            |start: usize, end: usize| (start + 1..end).filter(|index| ends_sentence(&texts, *index)).collect();
        let cuts = refine(&cuts, sentences);
        let cuts = refine(&cuts, |start, end| regular_cuts(&words, start, end));
        let mut ends: Vec<usize> = cuts.iter().copied().chain(sentences(0, length)).collect();
        ends.sort_unstable();
        ends.dedup();
        Self { tokens, cuts, ends, line_ends, words, line_tokens: Arc::new(line_tokens) }
    }

    /// The same target, knowing all tokens of the vocabulary that end a line (see [`line_tokens`]) and not only those
    /// that occur in it: the model may end its lines with others.
    #[must_use]
    pub fn with_line_tokens(mut self, line_tokens: Arc<HashSet<u32>>) -> Self {
        self.line_tokens = line_tokens;
        self
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the expert says nothing.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether `token` ends a line.
    pub fn ends_line(&self, token: u32) -> bool {
        self.line_tokens.contains(&token)
    }

    /// Whether there is more than one line.
    pub(super) fn has_lines(&self) -> bool {
        !self.line_ends.is_empty()
    }

    /// The end of the `count`-th line that ends behind `from`; `from` itself for none, the length where there are
    /// fewer.
    pub(super) fn skip_lines(&self, from: usize, count: usize) -> usize {
        let Some(further) = count.checked_sub(1) else { return from };
        let next = self.line_ends.partition_point(|end| *end <= from);
        self.line_ends.get(next.saturating_add(further)).copied().unwrap_or(self.len())
    }

    /// The cut nearest to `position` that is at or behind `lowest`, the earlier of two; the length where there is none.
    pub(super) fn nearest_cut(&self, position: usize, lowest: usize) -> usize {
        nearest(&self.cuts, position, lowest).unwrap_or(self.len())
    }

    /// Where the expert may hand over.
    pub(super) fn hand_overs(&self, hand_over: HandOver) -> &[usize] {
        match hand_over {
            HandOver::Line => &self.cuts,
            HandOver::Sentence => &self.ends,
        }
    }

    /// Where a chunk from `start` of about `wanted` tokens ends: where the expert may hand over nearest to `start +
    /// wanted` that leaves at least `minimum` tokens. Where that is further away than `wanted` and than 16 tokens,
    /// which takes a short chunk in a long line, in front of a word up to 8 tokens earlier, or else exactly. A chunk
    /// that is asked for with the length that this gave it gets it again.
    pub(super) fn chunk_end(&self, start: usize, wanted: usize, minimum: usize, hand_over: HandOver) -> usize {
        let length = self.len();
        let exact = start.saturating_add(wanted.max(1)).min(length);
        let lowest = start.saturating_add(minimum.clamp(1, wanted.max(1))).min(length);
        let last_word = || {
            let behind = self.words.partition_point(|word| *word <= exact);
            behind.checked_sub(1).and_then(|index| self.words.get(index)).copied()
        };
        nearest(self.hand_overs(hand_over), exact, lowest)
            .filter(|end| end.abs_diff(exact) <= STEP.max(wanted))
            .or_else(|| last_word().filter(|word| *word >= lowest && word + WORD_REACH >= exact))
            .unwrap_or(exact)
            .max(start.min(length))
    }
}

/// The tokens of a vocabulary of `count` ids whose text ends a line: for [`Target::with_line_tokens`], once per
/// tokenizer.
pub fn line_tokens(count: usize, token_text: impl Fn(u32) -> String) -> HashSet<u32> {
    (0..u32::try_from(count).unwrap_or(u32::MAX)).filter(|token| ends_line(&token_text(*token))).collect()
}

/// Refuses thinking that would end the turn inside an expert chunk or give a box: `text` must hold neither `close_tag`
/// nor `\boxed` or `\fbox`.
pub fn check_expert_text(text: &str, close_tag: &str) -> Result<(), ScaffoldError> {
    let first = [close_tag, "\\boxed", "\\fbox"]
        .into_iter()
        .filter(|forbidden| !forbidden.is_empty())
        .filter_map(|forbidden| text.find(forbidden).map(|position| (position, forbidden)))
        .min();
    match first {
        Some((position, found)) => Err(ScaffoldError::ForbiddenText { found: found.to_owned(), position }),
        None => Ok(()),
    }
}

/// The entry of ascending `places` nearest to `position` that is not below `lowest`, the smaller of two.
fn nearest(places: &[usize], position: usize, lowest: usize) -> Option<usize> {
    let behind = places.partition_point(|place| *place < position.max(lowest));
    let after = places.get(behind).copied();
    let before = behind.checked_sub(1).and_then(|index| places.get(index).copied()).filter(|place| *place >= lowest);
    match (before, after) {
        (Some(before), Some(after)) if after.abs_diff(position) < position.abs_diff(before) => Some(after),
        (Some(before), _) => Some(before),
        (None, after) => after,
    }
}

/// Splits stretches between cuts that are long, or alone, at the places that `split` finds strictly inside them.
fn refine(cuts: &[usize], split: impl Fn(usize, usize) -> Vec<usize>) -> Vec<usize> {
    let alone = cuts.len() == 2;
    let mut refined: Vec<usize> = cuts.first().copied().into_iter().collect();
    for (&start, &end) in cuts.iter().zip(cuts.iter().skip(1)) {
        if alone || end - start > LONG {
            refined.extend(split(start, end));
        }
        refined.push(end);
    }
    refined
}

/// Every [`STEP`]-th index strictly inside, moved back to the beginning of a word where one is near.
fn regular_cuts(words: &[usize], start: usize, end: usize) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut last = start;
    while last + STEP < end {
        let exact = last + STEP;
        let word =
            words.partition_point(|word| *word <= exact).checked_sub(1).and_then(|index| words.get(index).copied());
        last = word.filter(|word| word + WORD_REACH >= exact).unwrap_or(exact);
        cuts.push(last);
    }
    cuts
}

/// Whether a token with this text is the last of a line.
fn ends_line(text: &str) -> bool {
    text.trim_end_matches([' ', '\t']).ends_with(['\n', '\r'])
}

/// Indices behind line breaks, strictly inside. Empty lines belong to the line before them, those at the very beginning
/// to the first line.
fn line_ends(texts: &[String]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut written = false;
    for (index, text) in texts.iter().enumerate() {
        let followed_by_blank = texts.get(index + 1).is_some_and(|next| next.trim().is_empty() && ends_line(next));
        written |= !text.trim().is_empty();
        if written && ends_line(text) && !followed_by_blank && index + 1 < texts.len() {
            ends.push(index + 1);
        }
    }
    ends
}

/// Whether a sentence ends in front of token `index`. A full stop counts where a space follows, so `3.5` is not cut.
fn ends_sentence(texts: &[String], index: usize) -> bool {
    let (Some(before), Some(after)) = (index.checked_sub(1).and_then(|last| texts.get(last)), texts.get(index)) else {
        return false;
    };
    let before_quotes = before.trim_end().trim_end_matches(['"', '\'', ')', ']', '”', '’', '*', '$']);
    let spaced = before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace);
    before_quotes.ends_with(['。', '！', '？']) || (spaced && before_quotes.ends_with(['.', '!', '?']))
}

/// Whether token `index` begins a word: it starts with a space and is no space alone, or a line break stands in front
/// of it.
fn begins_word(texts: &[String], index: usize) -> bool {
    let spaced = texts.get(index).is_some_and(|text| text.starts_with(char::is_whitespace) && !text.trim().is_empty());
    spaced || index.checked_sub(1).and_then(|last| texts.get(last)).is_some_and(|last| ends_line(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A token per piece; the id is the index of the piece.
    fn target(pieces: &[&str]) -> Target {
        let tokens = (0..pieces.len() as u32).collect();
        Target::new(tokens, |token| pieces[token as usize].to_owned())
    }

    /// A line of `length` tokens.
    fn line(length: usize) -> Vec<&'static str> {
        let mut pieces = vec![" word"; length - 1];
        pieces.push(".\n");
        pieces
    }

    #[test]
    fn lines_are_cut_behind_their_breaks() {
        let target = target(&["First", " line", ".\n", "Second", "\n", "\n", "Third", " and", " last"]);
        assert_eq!(target.cuts, [0, 3, 6, 9]);
        assert_eq!((target.skip_lines(0, 0), target.skip_lines(0, 1), target.skip_lines(3, 1)), (0, 3, 6));
        // From the middle of a line, that line is the first to be skipped.
        assert_eq!((target.skip_lines(1, 1), target.skip_lines(4, 2), target.skip_lines(0, 9)), (3, 9, 9));
    }

    #[test]
    fn one_line_is_cut_at_sentences_but_not_inside_numbers() {
        let target = target(&["It", " is", " 3", ".", "5", ".", " Then", " what", "?", " Ten", "."]);
        assert_eq!(target.cuts, [0, 6, 9, 11]);
        assert!(!target.has_lines());
    }

    #[test]
    fn without_lines_and_sentences_every_sixteenth_token_is_a_cut() {
        assert_eq!(target(&[" word"; 40]).cuts, [0, 16, 32, 40]);
        // A number of six tokens is not torn apart.
        let mut pieces = [" word"; 40];
        pieces[14..20].copy_from_slice(&["1"; 6]);
        assert_eq!(target(&pieces).cuts, [0, 13, 29, 40]);
        // Where no word begins, the sixteenth it is.
        assert_eq!(target(&["字"; 33]).cuts, [0, 16, 32, 33]);
    }

    #[test]
    fn a_long_line_among_others_is_cut_at_its_sentences() {
        let mut pieces = line(5);
        pieces.extend([" word"; 30]);
        pieces.push("!");
        pieces.extend(line(25));
        assert_eq!(target(&pieces).cuts, [0, 5, 36, 61]);
    }

    #[test]
    fn nothing_and_one_token_have_their_ends_only() {
        assert_eq!(target(&[]).cuts, [0]);
        assert_eq!(target(&["\n"]).cuts, [0, 1]);
    }

    #[test]
    fn the_nearest_cut_is_never_behind_the_lowest() {
        let target = target(&[line(10), line(10), line(10)].concat());
        assert_eq!(target.cuts, [0, 10, 20, 30]);
        let cases =
            [(14, 0, 10), (15, 0, 10), (16, 0, 20), (3, 5, 10), (40, 0, 30), (12, 11, 20), (0, 0, 0), (29, 31, 30)];
        for (position, lowest, expected) in cases {
            assert_eq!(target.nearest_cut(position, lowest), expected, "{position} from {lowest}");
        }
    }

    #[test]
    fn chunks_end_at_lines_unless_that_is_far_away() {
        let target = target(&[line(10), line(40), line(10)].concat());
        assert_eq!(target.chunk_end(0, 12, 4, HandOver::Sentence), 10);
        assert_eq!(target.chunk_end(0, 3, 3, HandOver::Sentence), 10);
        // The line ends 34 tokens away from the wanted 6: the chunk stops in front of a word.
        assert_eq!(target.chunk_end(10, 6, 4, HandOver::Sentence), 16);
        assert_eq!(target.chunk_end(10, 30, 4, HandOver::Sentence), 50);
        assert_eq!(target.chunk_end(59, 30, 4, HandOver::Sentence), 60);
        assert_eq!(target.chunk_end(60, 30, 4, HandOver::Sentence), 60);
        assert_eq!(target.chunk_end(99, 30, 4, HandOver::Sentence), 60);
    }

    #[test]
    fn line_tokens_come_from_the_target_or_the_vocabulary() {
        let pieces = ["a", ".\n", "b", "\n\n", "!\n"];
        let target = Target::new(vec![0, 1, 2], |token| pieces[token as usize].to_owned());
        assert!(target.ends_line(1) && !target.ends_line(3));
        let all = line_tokens(pieces.len(), |token| pieces[token as usize].to_owned());
        let target = target.with_line_tokens(Arc::new(all));
        assert!(target.ends_line(3) && target.ends_line(4) && !target.ends_line(2));
    }

    #[test]
    fn tags_and_boxes_are_refused_by_name() {
        assert_eq!(check_expert_text("We add 3 and 4.", "</think>"), Ok(()));
        let refused = |text: &str| match check_expert_text(text, "</think>") {
            Err(ScaffoldError::ForbiddenText { found, position }) => (found, position),
            other => panic!("{text} gave {other:?}"),
        };
        assert_eq!(refused("So</think> \\boxed{7}"), ("</think>".to_owned(), 2));
        assert_eq!(refused("\\boxed{7}"), ("\\boxed".to_owned(), 0));
    }

    proptest! {
        #[test]
        fn cuts_are_ascending_complete_and_close(choices in prop::collection::vec(0_usize..6, 0..400)) {
            let pieces = [" a", "b", ".", "\n", " c", ".\n\n"];
            let texts: Vec<&str> = choices.iter().map(|choice| pieces[*choice]).collect();
            let target = target(&texts);
            prop_assert_eq!(target.cuts[0], 0);
            prop_assert_eq!(*target.cuts.last().expect("not empty"), texts.len());
            prop_assert!(target.cuts.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= LONG));
            prop_assert!(target.line_ends.iter().all(|end| target.cuts.contains(end)));
        }

        #[test]
        fn nearest_agrees_with_a_search(places in prop::collection::btree_set(0_usize..60, 0..12), position in 0_usize..70, lowest in 0_usize..70) {
            let places: Vec<usize> = places.into_iter().collect();
            let searched = places.iter().copied().filter(|place| *place >= lowest).min_by_key(|place| (place.abs_diff(position), *place));
            prop_assert_eq!(nearest(&places, position, lowest), searched);
        }
    }
}
