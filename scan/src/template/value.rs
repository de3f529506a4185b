//! What is known of a value without running the template: where it comes from, what it looks like inside, and which
//! texts of the template itself are in it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::literal::{self, Kind};

/// Where in the template something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) line: u16,
}

/// Who is behind a value, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources(u8);

impl Sources {
    pub(super) const NONE: Self = Self(0);
    /// Said by user, assistant or tool.
    pub(super) const SAID: Self = Self(1);
    /// The text of the system turn.
    pub(super) const SYSTEM: Self = Self(2);
    /// The date.
    pub(super) const DATE: Self = Self(4);
    /// A name that a model or a program chose: of a tool that is called, of a speaker.
    pub(super) const NAME: Self = Self(8);

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The same without the date and names: text that somebody spoke.
    pub(super) fn spoken(self) -> bool {
        self.has(Self::SAID) || self.has(Self::SYSTEM)
    }
}

/// The texts of the template that a value is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Literal {
    /// None.
    #[default]
    None,
    /// The value is one of these.
    Exact(Rc<Texts>),
    /// Parts of it are: the most telling kind among them, and whether one says anything.
    Parts { kind: Kind, prose: bool },
}

/// Some texts, and what is asked of them again and again.
#[derive(Debug, PartialEq)]
pub(super) struct Texts {
    all: BTreeSet<Rc<str>>,
    kind: Kind,
    prose: bool,
    bytes: usize,
}

impl Texts {
    fn new(texts: BTreeSet<Rc<str>>) -> Self {
        let kind = texts.iter().map(|text| literal::kind(text)).max().unwrap_or(Kind::Blank);
        let prose = texts.iter().any(|text| literal::is_prose(text));
        let bytes = texts.iter().map(|text| text.len()).sum();
        Self { all: texts, kind, prose, bytes }
    }
}

/// Alternatives that are kept apart, and bytes of each.
const MOST_ALTERNATIVES: usize = 12;
const LONGEST_KEPT: usize = 1 << 10;

impl Literal {
    pub(super) fn of(text: &str) -> Self {
        if text.len() > LONGEST_KEPT {
            return Self::Parts { kind: literal::kind(text), prose: literal::is_prose(text) };
        }
        Self::Exact(Rc::new(Texts::new(BTreeSet::from([Rc::from(text)]))))
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The most telling kind among its texts; none where there are no texts.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::None => None,
            Self::Exact(texts) => Some(texts.kind),
            Self::Parts { kind, .. } => Some(*kind),
        }
    }

    pub(super) fn is_prose(&self) -> bool {
        match self {
            Self::None => false,
            Self::Exact(texts) => texts.prose,
            Self::Parts { prose, .. } => *prose,
        }
    }

    /// Bytes that were looked through to make it.
    pub(super) fn bytes(&self) -> usize {
        if let Self::Exact(texts) = self { texts.bytes } else { 0 }
    }

    /// The one text that the value is, where there is only one.
    pub(super) fn only(&self) -> Option<&str> {
        match self {
            Self::Exact(known) if known.all.len() == 1 => known.all.first().map(|text| &**text),
            _ => None,
        }
    }

    /// Some text of it, for a message.
    pub(super) fn example(&self) -> &str {
        match self {
            Self::Exact(known) => known
                .all
                .iter()
                .find(|text| literal::is_prose(text) || literal::kind(text) == Kind::Word)
                .or(known.all.first())
                .map_or("", |text| &**text),
            _ => "…",
        }
    }

    /// As parts of something else.
    pub(super) fn parts(&self) -> Self {
        match self.kind() {
            None => Self::None,
            Some(kind) => Self::Parts { kind, prose: self.is_prose() },
        }
    }

    /// One or the other.
    pub(super) fn join(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one.clone(),
            (Self::Exact(left), Self::Exact(right)) if Rc::ptr_eq(left, right) || left == right => self.clone(),
            (Self::Exact(left), Self::Exact(right)) if left.all.len() + right.all.len() <= MOST_ALTERNATIVES => {
                Self::Exact(Rc::new(Texts::new(left.all.union(&right.all).cloned().collect())))
            }
            _ => self.both(other),
        }
    }

    /// One after the other.
    pub(super) fn concat(&self, other: &Self) -> Self {
        let (Self::Exact(left), Self::Exact(right)) = (self, other) else { return self.both(other) };
        let longest = |known: &Texts| known.all.iter().map(|text| text.len()).max().unwrap_or(0);
        if left.all.len() * right.all.len() > MOST_ALTERNATIVES || longest(left) + longest(right) > LONGEST_KEPT {
            return self.both(other);
        }
        let joined =
            left.all.iter().flat_map(|left| right.all.iter().map(move |right| Rc::from(format!("{left}{right}"))));
        Self::Exact(Rc::new(Texts::new(joined.collect())))
    }

    fn both(&self, other: &Self) -> Self {
        match (self.kind(), other.kind()) {
            (None, None) => Self::None,
            (left, right) => {
                Self::Parts { kind: left.max(right).unwrap_or(Kind::Blank), prose: self.is_prose() || other.is_prose() }
            }
        }
    }
}

/// What can be looked up in a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Shape {
    /// Undefined, none.
    #[default]
    Nothing,
    /// A number or a truth value.
    Scalar,
    /// The length of a text.
    Length,
    /// Text and nothing else.
    Text,
    /// The role of a message, by the path of the message.
    Role(Rc<str>),
    /// What is said: a text, or parts that hold texts.
    Content,
    /// One part of a content, or one character.
    Part,
    Message,
    Messages,
    ToolCall,
    ToolCalls,
    /// A list of the template's own, item by item.
    List(Rc<Vec<Value>>),
    /// A list of like items.
    Each(Rc<Value>),
    Record(Rc<BTreeMap<Rc<str>, Value>>),
    /// By the place where it was made.
    Namespace(u32),
    /// By its number.
    Macro(usize),
    /// The state of a loop over such items.
    Loop(Rc<Value>),
    /// What the program that renders gives, or what cannot be told.
    Unknown,
}

/// A value of the template.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Value {
    pub(super) shape: Shape,
    pub(super) sources: Sources,
    /// What of that which is said decided which value this is: a test for a mark, a length.
    pub(super) decided: Option<Place>,
    pub(super) literal: Literal,
    /// The number that it is.
    pub(super) number: Option<i64>,
}

impl Value {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, ..Self::default() }
    }

    pub(super) fn of(shape: Shape, sources: Sources) -> Self {
        Self { shape, sources, ..Self::default() }
    }

    pub(super) fn truth(decided: Option<Place>) -> Self {
        Self { shape: Shape::Scalar, decided, ..Self::default() }
    }

    pub(super) fn text(text: &str) -> Self {
        Self { shape: Shape::Text, literal: Literal::of(text), ..Self::default() }
    }

    pub(super) fn decided(mut self, by: Option<Place>) -> Self {
        self.decided = self.decided.or(by);
        self
    }

    /// Whether it depends on anything but the template and the program that renders it.
    pub(super) fn is_tainted(&self) -> bool {
        self.sources.any() || self.decided.is_some()
    }

    /// How much there is to look through in it.
    pub(super) fn weight(&self) -> usize {
        let items = match &self.shape {
            Shape::List(items) => items.len(),
            Shape::Record(fields) => fields.len(),
            _ => 0,
        };
        items * 4 + self.literal.bytes() / 16
    }

    /// Taint and texts of the other too, whatever becomes of the shape.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.sources = self.sources.or(other.sources);
        self.decided = self.decided.or(other.decided);
        self.literal = self.literal.both(&other.literal);
        self.number = None;
        self
    }

    /// One or the other.
    pub(super) fn join(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let shape = match (self.is_empty_text(), other.is_empty_text()) {
            // The empty text stands for what is not there.
            (true, false) => other.shape.clone(),
            (false, true) => self.shape.clone(),
            _ => join_shapes(&self.shape, &other.shape),
        };
        Self {
            shape,
            sources: self.sources.or(other.sources),
            decided: self.decided.or(other.decided),
            literal: self.literal.join(&other.literal),
            number: if self.number == other.number { self.number } else { None },
        }
    }

    fn is_empty_text(&self) -> bool {
        self.shape == Shape::Text && !self.is_tainted() && self.literal.only() == Some("")
    }

    /// What its items have in common, where it is walked.
    pub(super) fn item(&self) -> Self {
        let like = |shape: Shape| Self { shape, sources: self.sources, decided: self.decided, ..Self::default() };
        match &self.shape {
            Shape::Nothing | Shape::Scalar | Shape::Length | Shape::Macro(_) | Shape::Loop(_) | Shape::Namespace(_) => {
                like(Shape::Scalar)
            }
            // The letters of a text: no word is left whole, and none can be ruled out.
            Shape::Text | Shape::Role(_) => Self { literal: self.literal.parts(), ..like(Shape::Text) },
            Shape::Content => like(Shape::Part),
            Shape::Part => like(Shape::Content),
            Shape::Messages => like(Shape::Message),
            Shape::Message | Shape::ToolCall => like(Shape::Text),
            Shape::ToolCalls => like(Shape::ToolCall),
            Shape::List(items) => items.iter().fold(Self::default(), |all, item| all.join(item)).decided(self.decided),
            Shape::Each(item) => (**item).clone().decided(self.decided),
            // Its keys.
            Shape::Record(fields) => {
                let keys = fields.keys().fold(Literal::None, |all, key| all.join(&Literal::of(key)));
                Self { literal: keys, ..like(Shape::Text) }
            }
            Shape::Unknown => Self { literal: self.literal.clone(), ..like(Shape::Unknown) },
        }
    }
}

fn join_shapes(left: &Shape, right: &Shape) -> Shape {
    use Shape::{Content, Each, Length, List, Nothing, Part, Record, Role, Scalar, Text, Unknown};
    match (left, right) {
        (one, other) if one == other => one.clone(),
        // Defaults such as none, false and the empty text stand for what is not there.
        (Nothing | Scalar, one) | (one, Nothing | Scalar) => one.clone(),
        (Text | Role(_), Text | Role(_)) => Text,
        (Content | Part, Text | Role(_) | Content | Part | Each(_) | List(_) | Length)
        | (Text | Role(_) | Each(_) | List(_) | Length, Content | Part)
        | (Length, Text)
        | (Text, Length) => Content,
        (List(items), empty) | (empty, List(items)) if items.is_empty() => empty.clone(),
        (List(_) | Each(_), List(_) | Each(_)) => {
            let item = Value::new(left.clone()).item().join(&Value::new(right.clone()).item());
            Each(Rc::new(item))
        }
        (Record(left), Record(right)) => {
            let mut all = (**left).clone();
            for (key, value) in right.iter() {
                all.entry(Rc::clone(key))
                    .and_modify(|known| *known = known.join(value))
                    .or_insert_with(|| value.clone());
            }
            Record(Rc::new(all))
        }
        _ => Unknown,
    }
}
