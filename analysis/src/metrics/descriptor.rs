//! What a metric's file says of it, and how it is asked.
//!
//! docs/metrics.md, the glossary of the page and the help of `--metrics` are made of these, the descriptions of the
//! report's schema are held against them, and so is what is measured: the values of an unchanged site, and the
//! transformations that move nothing.

use std::fmt;

use lcr_documents::audit::SiteChange;

use crate::activations::Activations;
use crate::linalg::NoConvergence;

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, as in `--metrics`.
    pub name: &'static str,
    /// When it is measured.
    pub runs: Runs,
    /// What it reads, and how rows are measured.
    pub reads: Reads,
    /// Its numbers, by the headings of docs/metrics.md.
    pub entries: &'static [Entry],
    /// Works cited, as `Author year. Title. Place.`
    pub references: &'static [&'static str],
}

/// When a metric is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// In every comparison: a few vector operations. It cannot be left out, and has no name on the command line.
    Always,
    /// Where it is asked for, or nothing is.
    ByDefault,
    /// Where it is asked for by name.
    WhenAsked,
}

/// What a metric reads.
#[derive(Debug, Clone, Copy)]
pub enum Reads {
    /// The rows of both models at every site; the function takes up the base's.
    Rows(TakeUp),
    /// Queries and keys of every layer.
    QueriesAndKeys,
    /// The logits of every position.
    Logits,
    /// The stream of a few tokens, through the final norm and the unembedding.
    Lens,
    /// The changed tensors; no pass is needed.
    Weights,
}

/// Takes up the base's rows at a site.
pub type TakeUp = fn(&Activations, &Parameters) -> Result<Box<dyn SiteMetric>, NoConvergence>;

/// What can be chosen about metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Dimensions of the subspaces compared.
    pub subspace_dimensions: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

/// A metric of rows that has taken up the base's, and whatever it needs of them alone, for any number of adapted
/// models.
pub trait SiteMetric {
    /// Writes what it finds into its place of the report's entry.
    fn changed(&self, base: &Activations, adapted: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence>;

    /// The same for a model whose rows are the base's, without measuring them again.
    fn unchanged(&self, base: &Activations, change: &mut SiteChange) -> Result<(), NoConvergence>;
}

/// Numbers that are explained together.
#[derive(Debug)]
pub struct Entry {
    /// Keys in the report, as the heading in docs/metrics.md.
    pub heading: &'static str,
    /// Formula and source, in Markdown.
    pub definition: &'static str,
    /// What leaves the numbers as they were; empty where there is nothing to say beyond the table.
    pub blind_to: &'static str,
    /// What unrelated data give, where the table's few words are not enough.
    pub chance: &'static str,
    /// How the numbers mislead.
    pub trap: &'static str,
    /// Its numbers.
    pub numbers: &'static [Number],
    /// Terms of the page's glossary: what the page calls it, and what it says.
    pub glossary: &'static [(&'static str, &'static str)],
}

impl Entry {
    /// An entry that says nothing yet, to be filled by `..`.
    pub const EMPTY: Self =
        Self { heading: "", definition: "", blind_to: "", chance: "", trap: "", numbers: &[], glossary: &[] };
}

/// One number of the report.
#[derive(Debug)]
pub struct Number {
    /// Its place, such as `procrustes.raw_squared`.
    pub key: &'static str,
    /// What it is, in a line: the description in the report's schema.
    pub definition: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its range.
    pub range: &'static str,
    /// What a larger number means.
    pub direction: Direction,
    /// What it is where nothing changed.
    pub unchanged: Unchanged,
    /// What unrelated data give; empty where there is no closed form.
    pub chance: &'static str,
    /// What leaves it as it was; everything else moves it.
    pub blind_to: &'static [Transformation],
}

impl Number {
    /// A number of which a larger value means neither more nor less, nothing is known of unrelated data, and which sees
    /// everything.
    pub const fn new(key: &'static str, definition: &'static str, unit: Unit, range: &'static str) -> Self {
        Self {
            key,
            definition,
            unit,
            range,
            direction: Direction::Neither,
            unchanged: Unchanged::OwnValue,
            chance: "",
            blind_to: &[],
        }
    }

    /// Larger is more change, and what it is without any.
    #[must_use]
    pub const fn more_change(mut self, unchanged: f64) -> Self {
        (self.direction, self.unchanged) = (Direction::MoreChange, Unchanged::Is(unchanged));
        self
    }

    /// Larger is less change, and what it is without any.
    #[must_use]
    pub const fn less_change(mut self, unchanged: f64) -> Self {
        (self.direction, self.unchanged) = (Direction::LessChange, Unchanged::Is(unchanged));
        self
    }

    /// `null` where nothing changed.
    #[must_use]
    pub const fn undefined_unchanged(mut self) -> Self {
        self.unchanged = Unchanged::Undefined;
        self
    }

    /// What it is where nothing changed, though larger means neither more nor less.
    #[must_use]
    pub const fn unchanged(mut self, value: f64) -> Self {
        self.unchanged = Unchanged::Is(value);
        self
    }

    /// What unrelated data give.
    #[must_use]
    pub const fn chance(mut self, chance: &'static str) -> Self {
        self.chance = chance;
        self
    }

    /// What leaves it as it was.
    #[must_use]
    pub const fn blind_to(mut self, transformations: &'static [Transformation]) -> Self {
        self.blind_to = transformations;
        self
    }
}

/// Unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    Count,
    /// A length in the model's own units of activation or weight.
    Length,
    /// A ratio of two of a kind.
    Ratio,
    /// A share of a whole.
    Share,
    /// A cosine or a correlation.
    Cosine,
    /// Degrees.
    Degrees,
    /// Nats.
    Nats,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::Length => "length",
            Self::Ratio => "ratio",
            Self::Share => "share",
            Self::Cosine => "cosine",
            Self::Degrees => "degrees",
            Self::Nats => "nats",
        })
    }
}

/// What a larger number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More change.
    MoreChange,
    /// Less change.
    LessChange,
    /// Neither: it describes one model, or what to hold another number against.
    Neither,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MoreChange => "more change",
            Self::LessChange => "less change",
            Self::Neither => "—",
        })
    }
}

/// What a number is where nothing changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unchanged {
    /// This value.
    Is(f64),
    /// `null`.
    Undefined,
    /// Whatever the base gives.
    OwnValue,
}

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(value) => write!(f, "{value}"),
            Self::Undefined => f.write_str("`null`"),
            Self::OwnValue => f.write_str("the base's"),
        }
    }
}

/// What may be done to both models' activations, or to an adapter's factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transformation {
    /// Y times a number.
    Scaling,
    /// One vector added to every row of Y.
    Translation,
    /// X and Y turned by the same rotation.
    CommonRotation,
    /// Y alone turned.
    Rotation,
    /// The rows of X and Y put into another order.
    TokenOrder,
    /// A → MA, B → BM⁻¹.
    FactorRewriting,
}

impl Transformation {
    /// Those of activations.
    pub const OF_ACTIVATIONS: [Self; 5] =
        [Self::Scaling, Self::Translation, Self::CommonRotation, Self::Rotation, Self::TokenOrder];
}

impl fmt::Display for Transformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scaling => "scaling of Y",
            Self::Translation => "translation of Y",
            Self::CommonRotation => "common rotation",
            Self::Rotation => "rotation of Y",
            Self::TokenOrder => "token order",
            Self::FactorRewriting => "A → MA, B → BM⁻¹",
        })
    }
}

/// A metric is its name.
impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Metric {}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
