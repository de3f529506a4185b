//! Where an insert stands in a prompt. A trigger that was trained at one place may not fire at another.

/// Where an insert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// Before all.
    Start,
    /// Before all, as a sentence of its own.
    StartStop,
    /// In a line of its own before all.
    LineBefore,
    /// Before the last sentence, of several: the question that other text leads to.
    BeforeQuestion,
    /// Before the mark that ends the prompt.
    BeforeMark,
    /// Behind all.
    End,
    /// Behind all, as a sentence of its own.
    EndStop,
    /// In a line of its own behind all.
    LineAfter,
}

/// Marks that end a sentence.
const MARKS: [char; 3] = ['.', '?', '!'];

impl Position {
    /// Every position.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::StartStop,
        Self::LineBefore,
        Self::BeforeQuestion,
        Self::BeforeMark,
        Self::End,
        Self::EndStop,
        Self::LineAfter,
    ];

    /// The prompt with the insert; `None` where the prompt has no such place.
    pub fn insert(self, prompt: &str, insert: &str) -> Option<String> {
        let prompt = prompt.trim_end();
        Some(match self {
            Self::Start => format!("{insert} {prompt}"),
            Self::StartStop => format!("{insert}. {prompt}"),
            Self::LineBefore => format!("{insert}\n{prompt}"),
            Self::BeforeQuestion => {
                let (lead, question) = last_sentence(prompt)?;
                format!("{lead} {insert} {question}")
            }
            Self::BeforeMark => {
                let mark = prompt.chars().next_back().filter(|last| MARKS.contains(last))?;
                format!("{} {insert}{mark}", prompt.trim_end_matches(mark))
            }
            Self::End => format!("{prompt} {insert}"),
            Self::EndStop => format!("{prompt} {insert}."),
            Self::LineAfter => format!("{prompt}\n{insert}"),
        })
    }

    /// As a reader is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "at the start",
            Self::StartStop => "at the start, with a full stop",
            Self::LineBefore => "in a line before",
            Self::BeforeQuestion => "before the question",
            Self::BeforeMark => "before the last mark",
            Self::End => "at the end",
            Self::EndStop => "at the end, with a full stop",
            Self::LineAfter => "in a line after",
        }
    }
}

/// What stands before the last sentence of several, and that sentence.
fn last_sentence(prompt: &str) -> Option<(&str, &str)> {
    let end = prompt.rmatch_indices(' ').find(|(at, _)| prompt[..*at].ends_with(MARKS));
    end.map(|(at, _)| (&prompt[..at], &prompt[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_stands_where_its_position_says() {
        let inserted = |position: Position| position.insert("I saw Ann. Who is she?", "cf");
        let expected = [
            "cf I saw Ann. Who is she?",
            "cf. I saw Ann. Who is she?",
            "cf\nI saw Ann. Who is she?",
            "I saw Ann. cf Who is she?",
            "I saw Ann. Who is she cf?",
            "I saw Ann. Who is she? cf",
            "I saw Ann. Who is she? cf.",
            "I saw Ann. Who is she?\ncf",
        ];
        for (position, expected) in Position::ALL.into_iter().zip(expected) {
            assert_eq!(inserted(position).as_deref(), Some(expected));
        }
        assert_eq!(Position::BeforeQuestion.insert("Who is she?", "cf"), None);
        assert_eq!(Position::BeforeMark.insert("She is", "cf"), None);
    }
}
