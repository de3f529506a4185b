//! Units at the end of an answer: `5 apples`, `5\text{ cm}^2`, `\$5`, `50\%`, `90^\circ`, `5 million dollars`.
//!
//! A unit may be left out, but not be another one: `5 cm` is `5` and is not `5 m`. Words that change the number
//! (`more`, `or`, `below`) are no units; words that scale it (`million`, `dozen`) do.

use super::rational::Rational;
use super::token::Token;

/// More words than this are a sentence.
const MAX_WORDS: usize = 6;

/// Words after which a number is not the number.
const CHANGING: [&str; 66] = [
    "or",
    "and",
    "more",
    "less",
    "fewer",
    "than",
    "not",
    "no",
    "none",
    "neither",
    "at",
    "least",
    "most",
    "about",
    "around",
    "approximately",
    "roughly",
    "nearly",
    "almost",
    "between",
    "to",
    "from",
    "minus",
    "plus",
    "by",
    "divided",
    "multiplied",
    "if",
    "is",
    "are",
    "was",
    "equals",
    "equal",
    "but",
    "either",
    "except",
    "unless",
    "remainder",
    "mod",
    "modulo",
    "squared",
    "cubed",
    "factorial",
    "half",
    "halves",
    "third",
    "thirds",
    "fourth",
    "fourths",
    "quarter",
    "quarters",
    "fifth",
    "fifths",
    "sixth",
    "sixths",
    "eighth",
    "eighths",
    "tenth",
    "tenths",
    "hundredths",
    "thousandths",
    "below",
    "negative",
    "over",
    "maybe",
    "perhaps",
];

/// Words that multiply the number before them.
const SCALES: [(&str, i128); 7] = [
    ("hundred", 100),
    ("thousand", 1_000),
    ("million", 1_000_000),
    ("billion", 1_000_000_000),
    ("trillion", 1_000_000_000_000),
    ("dozen", 12),
    ("dozens", 12),
];

/// Spellings of units, the chosen one first.
const UNITS: [&[&str]; 38] = [
    &["degree", "degrees", "deg"],
    &["percent", "percents", "pct"],
    &["dollar", "dollars", "usd"],
    &["euro", "euros", "eur"],
    &["pound", "pounds", "lb", "lbs", "gbp"],
    &["cent", "cents"],
    &["cm", "centimeter", "centimeters", "centimetre", "centimetres"],
    &["mm", "millimeter", "millimeters", "millimetre", "millimetres"],
    &["km", "kilometer", "kilometers", "kilometre", "kilometres", "kms"],
    &["m", "meter", "meters", "metre", "metres"],
    &["inch", "inches", "in"],
    &["foot", "feet", "ft"],
    &["yard", "yards", "yd", "yds"],
    &["mile", "miles", "mi"],
    &["mph"],
    &["kph"],
    &["g", "gram", "grams", "gm"],
    &["kg", "kilogram", "kilograms", "kgs"],
    &["mg", "milligram", "milligrams"],
    &["ounce", "ounces", "oz"],
    &["ton", "tons"],
    &["l", "liter", "liters", "litre", "litres"],
    &["ml", "milliliter", "milliliters", "millilitre", "millilitres"],
    &["gallon", "gallons", "gal"],
    &["s", "second", "seconds", "sec", "secs"],
    &["minute", "minutes", "min", "mins"],
    &["h", "hour", "hours", "hr", "hrs"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "years", "yr", "yrs"],
    &["radian", "radians", "rad"],
    &["unit", "units"],
    &["man", "men"],
    &["woman", "women"],
    &["child", "children"],
    &["person", "people", "persons"],
    &["mouse", "mice"],
];

/// A number's company.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// One spelling for each unit; none where there is none.
    pub(super) unit: Option<String>,
    /// What the number has to be multiplied with.
    pub(super) scale: Option<Rational>,
}

/// Splits a quantity into the tokens of its number and its unit. None where words stand there that are no unit.
pub(super) fn split(tokens: &[Token]) -> Option<(Vec<Token>, Company)> {
    let mut tokens = tokens.to_vec();
    let currency = take_currency(&mut tokens);
    let start = unit_start(&tokens);
    let unit = tokens.split_off(start);
    let mut company = spell_unit(&unit)?;
    if let Some(currency) = currency {
        company.unit = Some(match company.unit {
            None => currency.to_owned(),
            Some(unit) if unit == currency => unit,
            Some(unit) if unit.starts_with('/') => format!("{currency}{unit}"),
            Some(_) => return None,
        });
    }
    Some((tokens, company))
}

/// Takes the currency away from before the number (`-$5` and `$-5` included).
fn take_currency(tokens: &mut Vec<Token>) -> Option<&'static str> {
    let place = match tokens.as_slice() {
        [Token::Currency(_), ..] => 0,
        [Token::Symbol('-' | '+'), Token::Currency(_), ..] => 1,
        _ => return None,
    };
    match tokens.remove(place) {
        Token::Currency(name) => Some(name),
        _ => None,
    }
}

/// Where the unit begins; the number of tokens where there is none. Something must stand before it.
fn unit_start(tokens: &[Token]) -> usize {
    let mut start = tokens.len();
    for position in (1..tokens.len()).rev() {
        let (before, rest) = tokens.split_at(position);
        let follows_word = matches!(before.last(), Some(Token::Word { .. }));
        match rest.first() {
            Some(Token::Percent | Token::Degree | Token::Currency(_)) => start = position,
            Some(token @ Token::Word { .. }) if may_begin(token, start < tokens.len()) => start = position,
            // A power or a division belongs to a unit only between its words: 2^2 cm.
            Some(Token::Symbol('^')) if follows_word => {}
            Some(Token::Digit { digit: '2' | '3', .. })
                if matches!(before.last(), Some(Token::Symbol('^') | Token::Open)) => {}
            Some(Token::Open | Token::Close | Token::Symbol('.')) => {}
            Some(Token::Symbol('/')) if matches!(rest.get(1), Some(Token::Word { .. })) => {
                // `$5/hour` has no word before its slash.
                if !follows_word && start == position + 1 {
                    start = position;
                }
            }
            _ => break,
        }
    }
    start
}

/// Whether a word can be (the first one of) a unit. A short word that touches the number is a product of variables.
fn may_begin(token: &Token, inside: bool) -> bool {
    let Token::Word { text, spaced, upright } = token else { return false };
    let length = text.chars().count();
    let word = text.to_lowercase();
    *upright
        || (inside && *spaced)
        || (*spaced && length >= 3)
        || (length >= 2 && (known(&word).is_some() || scale(&word).is_some()))
}

/// The chosen spelling of a known unit.
fn known(word: &str) -> Option<&'static str> {
    UNITS.iter().find(|spellings| spellings.contains(&word)).and_then(|spellings| spellings.first().copied())
}

/// What a word multiplies with.
fn scale(word: &str) -> Option<i128> {
    SCALES.iter().find(|(name, _)| *name == word).map(|(_, factor)| *factor)
}

/// One spelling for the tokens of a unit; none where they are none.
fn spell_unit(tokens: &[Token]) -> Option<Company> {
    let mut company = Company::default();
    let mut words: Vec<String> = Vec::new();
    // `square` and `cubic` wait for their word.
    let mut power = None;
    let mut tokens = tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Percent => words.push("percent".to_owned()),
            Token::Degree => words.push("degree".to_owned()),
            Token::Currency(name) => words.push((*name).to_owned()),
            Token::Symbol('/') => words.push("/".to_owned()),
            Token::Symbol('.') => {}
            Token::Symbol('^') => {
                tokens.next_if(|token| matches!(token, Token::Open));
                let Some(Token::Digit { digit, .. }) = tokens.next() else { return None };
                tokens.next_if(|token| matches!(token, Token::Close));
                words.last_mut()?.extend(['^', *digit]);
            }
            Token::Word { text, .. } => {
                let word = text.to_lowercase();
                if CHANGING.contains(&word.as_str()) {
                    return None;
                }
                match word.as_str() {
                    "per" => words.push("/".to_owned()),
                    "square" | "sq" => power = Some("^2"),
                    "cubic" | "cu" => power = Some("^3"),
                    _ => match scale(&word) {
                        Some(factor) if words.is_empty() => {
                            let factor = Rational::whole(factor)?;
                            company.scale = Some(company.scale.unwrap_or(Rational::ONE).multiply(factor)?);
                        }
                        _ => words.push(singular(&word) + power.take().unwrap_or_default()),
                    },
                }
            }
            _ => return None,
        }
    }
    if words.len() > MAX_WORDS || power.is_some() {
        return None;
    }
    let unit = words.join(" ").replace(" / ", "/").replace("/ ", "/");
    // `square units` name none.
    company.unit = Some(unit).filter(|unit| !matches!(unit.as_str(), "" | "unit" | "unit^2" | "unit^3"));
    Some(company)
}

/// The chosen spelling of a known unit, and otherwise the word without its plural's s.
fn singular(word: &str) -> String {
    if let Some(name) = known(word) {
        return name.to_owned();
    }
    match word.strip_suffix('s') {
        Some(stem) if stem.len() >= 2 && !stem.ends_with('s') => stem.to_owned(),
        _ => word.to_owned(),
    }
}
