//! From the text of an answer, in TeX or plain, to tokens without the choices that carry no meaning: `\dfrac` and
//! `\frac`, `\left(` and `(`, `\cdot` and `×`, spaces, dollar signs around formulas, thousands separators.
//!
//! Digits stay single tokens, because TeX takes them singly: `\frac12` is one half. Letters form words, since `cm` and
//! `Evelyn` are not products.

use std::iter::Peekable;
use std::str::Chars;

use super::hours;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A digit; `spaced` where white space stands before it.
    Digit {
        /// 0–9.
        digit: char,
        /// After white space.
        spaced: bool,
    },
    /// Letters.
    Word {
        /// At least one.
        text: String,
        /// After white space or at the beginning of `\text{…}`.
        spaced: bool,
        /// Inside `\text{…}`: never a variable next to a number.
        upright: bool,
    },
    /// A command of TeX that stands for something, by its name: `alpha`, `sin`, `infty`.
    Command(String),
    /// Punctuation, operators and brackets; what TeX spells as a command is one character: `≤`, `±`, `∪`, `∈`.
    Symbol(char),
    /// `{`.
    Open,
    /// `}`.
    Close,
    /// `\frac`.
    Fraction,
    /// `\sqrt`.
    Root,
    /// `°`.
    Degree,
    /// `%`.
    Percent,
    /// A currency, by its name in the singular.
    Currency(&'static str),
    /// `\{`.
    SetOpen,
    /// `\}`.
    SetClose,
    /// `\\`.
    RowBreak,
    /// `\begin{…}`.
    Begin(String),
    /// `\end{…}`.
    End(String),
}

impl Token {
    /// Whether it opens brackets of any kind.
    pub(super) fn opens(&self) -> bool {
        matches!(self, Self::Symbol('(' | '[') | Self::Open | Self::SetOpen | Self::Begin(_))
    }

    /// Whether it closes brackets of any kind.
    pub(super) fn closes(&self) -> bool {
        matches!(self, Self::Symbol(')' | ']') | Self::Close | Self::SetClose | Self::End(_))
    }

    /// The word, in lower case.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Self::Word { text, .. } => Some(text.to_lowercase()),
            _ => None,
        }
    }
}

/// Spells tokens in one way. Equal spellings are equal answers.
pub(super) fn spell(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        match token {
            Token::Digit { digit, spaced } => {
                if *spaced && text.ends_with(char::is_alphanumeric) {
                    text.push(' ');
                }
                text.push(*digit);
            }
            Token::Word { text: word, spaced, .. } => {
                if *spaced && text.ends_with(char::is_alphanumeric) {
                    text.push(' ');
                }
                text.push_str(word);
            }
            Token::Command(name) => text.extend(["\\", name, " "]),
            Token::Symbol(symbol) => text.push(*symbol),
            Token::Open => text.push('{'),
            Token::Close => text.push('}'),
            Token::Fraction => text.push_str("\\frac "),
            Token::Root => text.push_str("\\sqrt "),
            Token::Degree => text.push('°'),
            Token::Percent => text.push('%'),
            Token::Currency(name) => text.extend(["\\", name, "$ "]),
            Token::SetOpen => text.push_str("\\{"),
            Token::SetClose => text.push_str("\\}"),
            Token::RowBreak => text.push_str("\\\\"),
            Token::Begin(name) => text.extend(["\\begin{", name, "}"]),
            Token::End(name) => text.extend(["\\end{", name, "}"]),
        }
    }
    text
}

/// The tokens of an answer; punctuation at its end is dropped.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let text = &text.chars().map(narrow).collect::<String>();
    let mut lexer = Lexer {
        characters: text.chars().peekable(),
        tokens: Vec::new(),
        braces: Vec::new(),
        spaced: false,
        // A dollar sign without its pair is money.
        money: lone_dollar(text),
    };
    while let Some(character) = lexer.characters.next() {
        lexer.take(character);
    }
    let mut tokens = hours::join(&join_thousands(&lexer.tokens));
    while tokens.last().is_some_and(|token| matches!(token, Token::Symbol('.' | ',' | ';' | ':'))) {
        tokens.pop();
    }
    tokens
}

/// A character of full width as its ordinary form, and a digit of another script or typeface as the ordinary one.
fn narrow(character: char) -> char {
    /// Where the digits from 0 to 9 stand in scripts that write numbers as the Latin one does.
    const ZEROS: [u32; 8] = [0x660, 0x6f0, 0x966, 0x9e6, 0xa66, 0xae6, 0xbe6, 0xe50];
    const WIDE: std::ops::RangeInclusive<u32> = 0xff01..=0xff5e;
    /// Mathematical digits: five typefaces, one after another.
    const TYPEFACES: std::ops::RangeInclusive<u32> = 0x1d7ce..=0x1d7ff;
    let code = u32::from(character);
    if WIDE.contains(&code) {
        let narrow = char::from_u32(code - 0xfee0).unwrap_or(character);
        // Signs that TeX takes for its own are left as they are.
        return if matches!(narrow, '\\' | '$' | '{' | '}' | '~' | '#' | '&') { character } else { narrow };
    }
    if TYPEFACES.contains(&code) {
        return char::from_digit((code - TYPEFACES.start()) % 10, 10).unwrap_or(character);
    }
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code));
    zero.and_then(|zero| char::from_digit(code - zero, 10)).unwrap_or(character)
}

/// Whether the number of dollar signs that are not escaped is odd.
fn lone_dollar(text: &str) -> bool {
    let mut escaped = false;
    let mut odd = false;
    for character in text.chars() {
        odd ^= character == '$' && !escaped;
        escaped = character == '\\' && !escaped;
    }
    odd
}

/// Names of commands that only change the look of what follows.
const INVISIBLE: [&str; 20] = [
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "biggl",
    "biggr",
    "displaystyle",
    "textstyle",
    "limits",
    "nolimits",
    "middle",
    "hfill",
    "rm",
    "bf",
];
/// Names of commands that set their argument as text.
const TEXT: [&str; 10] =
    ["text", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "emph", "mbox", "hbox"];
/// Names of commands that set their argument in another font.
const FONT: [&str; 8] = ["mathrm", "mathbf", "mathit", "mathsf", "mathtt", "boldsymbol", "bm", "operatorname"];

/// What an open brace does when it closes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brace {
    /// A group of TeX.
    Group,
    /// The argument of `\text`.
    Text,
    /// The argument of a font, when it holds letters only.
    Font,
}

struct Lexer<'a> {
    characters: Peekable<Chars<'a>>,
    tokens: Vec<Token>,
    braces: Vec<Brace>,
    /// White space stands before the next token.
    spaced: bool,
    /// The next dollar sign is money.
    money: bool,
}

impl Lexer<'_> {
    fn push(&mut self, token: Token) {
        self.tokens.push(token);
        self.spaced = false;
    }

    fn symbol(&mut self, symbol: char) {
        self.push(Token::Symbol(symbol));
    }

    fn digit(&mut self, digit: char) {
        let spaced = self.spaced;
        self.push(Token::Digit { digit, spaced });
    }

    fn skip_spaces(&mut self) -> bool {
        let mut any = false;
        while self.characters.next_if(|character| character.is_whitespace()).is_some() {
            any = true;
        }
        any
    }

    /// One character and what belongs to it.
    fn take(&mut self, character: char) {
        match character {
            '\\' => self.command(),
            '0'..='9' => self.digit(character),
            '{' => {
                self.braces.push(Brace::Group);
                self.push(Token::Open);
            }
            '}' => match self.braces.pop() {
                Some(Brace::Text | Brace::Font) => self.spaced = true,
                Some(Brace::Group) | None => self.push(Token::Close),
            },
            '$' => {
                if self.money {
                    self.money = false;
                    self.push(Token::Currency("dollar"));
                }
            }
            '~' => self.spaced = true,
            '^' => self.superscript(),
            '*' => {
                // Two stars are Python's power.
                let symbol = if self.characters.next_if_eq(&'*').is_some() { '^' } else { '*' };
                self.symbol(symbol);
            }
            '<' | '>' => {
                let equal = self.characters.next_if_eq(&'=').is_some();
                self.symbol(match (character, equal) {
                    ('<', true) => '≤',
                    ('>', true) => '≥',
                    (other, _) => other,
                });
            }
            _ if character.is_whitespace() => self.spaced = true,
            _ if character.is_alphabetic() && character != 'π' => self.word(character),
            _ => self.unusual(character),
        }
    }

    /// Letters up to the next character that is none.
    fn word(&mut self, first: char) {
        let mut text = String::from(first);
        while let Some(next) = self.characters.next_if(|next| next.is_alphabetic() && *next != 'π') {
            text.push(next);
        }
        let upright = self.braces.contains(&Brace::Text);
        let spaced = self.spaced;
        match text.as_str() {
            "sqrt" => self.push(Token::Root),
            "pi" => self.push(Token::Command(text)),
            "infinity" => self.push(Token::Command("infty".to_owned())),
            _ => self.push(Token::Word { text, spaced, upright }),
        }
    }

    /// What follows `^`: a degree sign has its own token.
    fn superscript(&mut self) {
        let rest: String = self.characters.clone().take(16).collect();
        let degree = ["\\circ", "{\\circ}", "{\\circ }", "\\degree", "o", "{o}"].into_iter().find(|spelling| {
            // `^o` alone is a degree only where no letter follows.
            rest.trim_start().strip_prefix(spelling).is_some_and(|after| !after.starts_with(char::is_alphabetic))
        });
        match degree {
            Some(spelling) => {
                self.skip_spaces();
                for _ in spelling.chars() {
                    self.characters.next();
                }
                self.push(Token::Degree);
            }
            None => self.symbol('^'),
        }
    }

    /// A character beyond letters, digits and TeX.
    fn unusual(&mut self, character: char) {
        let fraction = |top, bottom| [Token::Fraction, digit(top), digit(bottom)];
        match character {
            '−' | '–' | '﹣' | '－' => self.symbol('-'),
            '×' | '·' | '⋅' | '∙' => self.symbol('*'),
            '÷' => self.symbol('/'),
            '√' => self.push(Token::Root),
            'π' => self.push(Token::Command("pi".to_owned())),
            '∞' => self.push(Token::Command("infty".to_owned())),
            '°' | 'º' => self.push(Token::Degree),
            '%' => self.push(Token::Percent),
            '€' => self.push(Token::Currency("euro")),
            '£' => self.push(Token::Currency("pound")),
            '¥' => self.push(Token::Currency("yen")),
            '₹' => self.push(Token::Currency("rupee")),
            '½' => self.tokens.extend(fraction('1', '2')),
            '⅓' => self.tokens.extend(fraction('1', '3')),
            '⅔' => self.tokens.extend(fraction('2', '3')),
            '¼' => self.tokens.extend(fraction('1', '4')),
            '¾' => self.tokens.extend(fraction('3', '4')),
            _ => match "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|superscript| superscript == character) {
                Some(value) => {
                    // `x¹²` is one exponent of two digits.
                    if !self
                        .tokens
                        .last()
                        .is_some_and(|token| matches!(token, Token::Digit { .. }) && self.in_superscript())
                    {
                        self.symbol('^');
                    }
                    self.digit(char::from_digit(value as u32, 10).unwrap_or('0'));
                }
                None => self.symbol(character),
            },
        }
    }

    /// Whether the tokens end in `^` and digits.
    fn in_superscript(&self) -> bool {
        self.tokens.iter().rev().find(|token| !matches!(token, Token::Digit { .. })) == Some(&Token::Symbol('^'))
    }

    /// A command, after its backslash.
    fn command(&mut self) {
        let Some(&first) = self.characters.peek() else {
            return self.symbol('\\');
        };
        if !first.is_ascii_alphabetic() {
            self.characters.next();
            return self.control_symbol(first);
        }
        let mut name = String::new();
        while let Some(letter) = self.characters.next_if(char::is_ascii_alphabetic) {
            name.push(letter);
        }
        self.skip_spaces();
        if INVISIBLE.contains(&name.as_str()) {
            // `\left.` is a bracket that is not shown.
            if matches!(name.as_str(), "left" | "right") {
                self.characters.next_if_eq(&'.');
            }
        } else if TEXT.contains(&name.as_str()) {
            if self.characters.next_if_eq(&'{').is_some() {
                self.braces.push(Brace::Text);
                self.spaced = true;
            }
        } else if FONT.contains(&name.as_str()) {
            self.font();
        } else {
            self.named(name);
        }
    }

    /// The braces of a font's argument go where it holds letters only: `\mathrm{cm}` is `cm`.
    fn font(&mut self) {
        let content: String = self.characters.clone().take(64).take_while(|character| *character != '}').collect();
        let Some(letters) = content.strip_prefix('{') else { return };
        if letters.chars().all(|character| character.is_alphabetic() || character.is_whitespace()) {
            self.characters.next();
            self.braces.push(Brace::Font);
            // A single letter is a variable in another face.
            self.spaced = self.spaced || letters.trim().chars().count() > 1;
        }
    }

    /// A command that stands for something.
    fn named(&mut self, name: String) {
        match name.as_str() {
            "frac" | "dfrac" | "tfrac" | "cfrac" => self.push(Token::Fraction),
            "sqrt" => self.push(Token::Root),
            "cdot" | "times" | "ast" => self.symbol('*'),
            "div" => self.symbol('/'),
            "pm" => self.symbol('±'),
            "mp" => self.symbol('∓'),
            "cup" => self.symbol('∪'),
            "in" => self.symbol('∈'),
            "le" | "leq" | "leqslant" => self.symbol('≤'),
            "ge" | "geq" | "geqslant" => self.symbol('≥'),
            "ne" | "neq" => self.symbol('≠'),
            "lt" => self.symbol('<'),
            "gt" => self.symbol('>'),
            "quad" | "qquad" | "space" => self.spaced = true,
            "degree" | "textdegree" => self.push(Token::Degree),
            "lbrace" => self.push(Token::SetOpen),
            "rbrace" => self.push(Token::SetClose),
            "lbrack" => self.symbol('['),
            "rbrack" => self.symbol(']'),
            "begin" | "end" => {
                let mut environment = String::new();
                if self.characters.next_if_eq(&'{').is_some() {
                    while let Some(character) = self.characters.next().filter(|character| *character != '}') {
                        environment.push(character);
                    }
                }
                self.push(if name == "begin" { Token::Begin(environment) } else { Token::End(environment) });
            }
            _ => self.push(Token::Command(name)),
        }
    }

    /// A backslash before a character that is no letter.
    fn control_symbol(&mut self, character: char) {
        match character {
            // Thin spaces join what they stand between: `10,\!080` and `10\,080` are one number.
            '!' => {
                self.skip_spaces();
            }
            ',' => {
                let number = matches!(self.tokens.last(), Some(Token::Digit { .. } | Token::Symbol(',')));
                self.spaced = !(number && self.characters.peek().is_some_and(char::is_ascii_digit));
            }
            ';' | ':' | ' ' | '\n' | '\t' => self.spaced = true,
            '$' => self.push(Token::Currency("dollar")),
            '%' => self.push(Token::Percent),
            '{' => self.push(Token::SetOpen),
            '}' => self.push(Token::SetClose),
            '\\' => self.push(Token::RowBreak),
            // `\(…\)` and `\[…\]` are dollar signs.
            '(' | ')' | '[' | ']' => {}
            '&' | '#' | '_' => self.symbol(character),
            other => self.take(other),
        }
    }
}

/// A digit without space before it.
fn digit(digit: char) -> Token {
    Token::Digit { digit, spaced: false }
}

/// Drops thousands separators: `1,000`, `1{,}000`, and, with the thin space already gone, `10,\!080`. Inside brackets a
/// bare comma separates: `(1,000)` is a pair.
fn join_thousands(tokens: &[Token]) -> Vec<Token> {
    let mut joined: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut depth = 0_usize;
    let mut position = 0;
    while let Some(token) = tokens.get(position) {
        match token {
            Token::Digit { .. } => {
                let run = Groups::at(tokens.get(position..).unwrap_or_default());
                let fraction = matches!(joined.last(), Some(Token::Symbol('.')));
                let keep = fraction || !run.is_number(depth);
                let length = run.length.max(1);
                let taken = tokens.get(position..position + length).unwrap_or_default();
                joined.extend(taken.iter().filter(|token| keep || matches!(token, Token::Digit { .. })).cloned());
                position += length;
                continue;
            }
            Token::Symbol('(' | '[') | Token::SetOpen | Token::Begin(_) => depth += 1,
            Token::Symbol(')' | ']') | Token::SetClose | Token::End(_) => depth = depth.saturating_sub(1),
            // Braces around everything are a set, written without its backslashes.
            Token::Open if position == 0 => depth += 1,
            _ => {}
        }
        joined.push(token.clone());
        position += 1;
    }
    joined
}

/// Digits in groups with separators between them, as long as they go on.
struct Groups {
    /// Digits of each group.
    counts: Vec<usize>,
    /// Whether a separator is a bare comma.
    bare: bool,
    /// Whether it begins with 0.
    zero: bool,
    /// Tokens, separators included.
    length: usize,
}

impl Groups {
    /// The groups at the start of `rest`.
    fn at(rest: &[Token]) -> Self {
        let zero = matches!(rest, [Token::Digit { digit: '0', .. }, ..]);
        let mut groups = Self { counts: Vec::new(), bare: false, zero, length: 0 };
        let mut separator = 0;
        loop {
            let from = groups.length + separator;
            let digits = rest.get(from..).unwrap_or_default().iter().enumerate();
            let first = groups.counts.is_empty();
            let count = digits
                .take_while(
                    |(place, token)| matches!(token, Token::Digit { spaced, .. } if !spaced || (first && *place == 0)),
                )
                .count();
            if count == 0 {
                return groups;
            }
            groups.bare |= separator == 1;
            groups.counts.push(count);
            groups.length = from + count;
            separator = match rest.get(groups.length..).unwrap_or_default() {
                [Token::Symbol(','), ..] => 1,
                [Token::Open, Token::Symbol(','), Token::Close, ..] => 3,
                _ => return groups,
            };
        }
    }

    /// Whether it is one number inside that many brackets.
    fn is_number(&self, depth: usize) -> bool {
        let [first, others @ ..] = self.counts.as_slice() else { return false };
        !others.is_empty()
            && (1..=3).contains(first)
            && others.iter().all(|count| *count == 3)
            && !self.zero
            && !(self.bare && depth > 0)
    }
}
