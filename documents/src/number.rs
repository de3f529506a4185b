//! How numbers are spelled for a reader, in one place so that every table and chart spells them alike.
//!
//! Three significant digits, and `3.1e-7` for what is small: the audit's subject is small changes, and fixed decimals
//! would print most of them as zero. What is missing or not finite is a dash, never `NaN`.

/// What stands where there is no number.
pub const ABSENT: &str = "–";

/// Below this a difference from one is the rounding of the subtraction itself.
const ROUNDING: f64 = 1e-13;

/// A number with three significant digits, a whole number with nothing after the point; `3.1e-7` below a thousandth and
/// from a million on.
pub fn plain(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        return format!("{:.0}", value.abs().copysign(if value == 0.0 { 1.0 } else { value }));
    }
    three_digits(value)
}

/// [`plain`] without the exception for whole numbers, for columns in which they would stand out by chance.
fn three_digits(value: f64) -> String {
    if !value.is_finite() {
        return ABSENT.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.1e}");
    }
    // Rounding may carry into the next power of ten (9.996 is 10.0), so the digits are chosen from the rounded number.
    let rounded: f64 = format!("{size:.2e}").parse().unwrap_or(size);
    let decimals = (2 - rounded.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// [`plain`], or a dash.
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), plain)
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    let spelled = three_digits(share * 100.0);
    if spelled == ABSENT { spelled } else { format!("{spelled}\u{a0}%") }
}

/// A whole number with its thousands apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut spelled = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            spelled.push(',');
        }
        spelled.push(digit);
    }
    spelled
}

/// A size in bytes, in the largest unit that leaves at least one.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut size = value as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// 1 − x of a quantity that is one where nothing changed. What rounding leaves of it is zero.
pub fn below_one(value: f64) -> f64 {
    let rest = 1.0 - value;
    if rest.abs() < ROUNDING { 0.0 } else { rest }
}

/// `1 module`, `2 modules`.
pub fn plural(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number as u64))
}

/// Three significant digits without thousands; `3.1e-7` for what is smaller than a thousandth or a million and larger.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return ABSENT.to_owned();
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
pub fn percent_of(part: usize, whole: usize) -> String {
    if whole == 0 { ABSENT.to_owned() } else { format!("{:.0}\u{a0}%", 100.0 * part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_keep_three_digits() {
        for (value, spelled) in
            [(0.0, "0"), (-0.0, "0"), (17.0, "17"), (9.996, "10.0"), (0.012_345, "0.0123"), (3.1e-7, "3.1e-7")]
        {
            assert_eq!(short(value), spelled);
        }
        assert_eq!(percent_of(1, 3), "33\u{a0}%");
        assert_eq!(percent_of(0, 0), "–");
    }

    #[test]
    fn three_significant_digits() {
        let cases = [
            (0.0, "0"),
            (3.14e-7, "3.1e-7"),
            (-3.14e-7, "-3.1e-7"),
            (0.001, "0.00100"),
            (0.031_24, "0.0312"),
            (9.996, "10.0"),
            (999.6, "1000"),
            (123_456.0, "123456"),
            (1e6, "1.0e6"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ];
        for (value, spelled) in cases {
            assert_eq!(plain(value), spelled, "{value}");
        }
    }

    #[test]
    fn counts_and_sizes() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(123), "123");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(percent(0.0423), "4.23\u{a0}%");
    }

    #[test]
    fn rounding_is_not_a_difference() {
        assert_eq!(below_one(1.0 + 2.0 * f64::EPSILON), 0.0);
        assert_eq!(below_one(0.75), 0.25);
    }
}
