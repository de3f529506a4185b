//! `strftime_now` as Python writes it.

use super::ChatDate;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `strftime` for the fields of a date; the time of day is midnight, since a prompt must not depend on the clock.
pub(super) fn format_date(date: ChatDate, format: &str) -> Result<String, String> {
    let (year, month, day) = (date.year, date.month, date.day);
    let month_name = MONTHS.get(usize::from(month).wrapping_sub(1)).copied().unwrap_or_default();
    let weekday = WEEKDAYS.get(weekday(date)).copied().unwrap_or_default();
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut field = characters.next();
        let padded = field != Some('-');
        if !padded {
            field = characters.next();
        }
        let two = |number: u8| {
            if padded { padded_number(number.into()) } else { number.to_string() }
        };
        match field {
            Some('Y') => text.push_str(&year.to_string()),
            Some('y') => text.push_str(&padded_number(year % 100)),
            Some('m') => text.push_str(&two(month)),
            Some('d') => text.push_str(&two(day)),
            Some('B') => text.push_str(month_name),
            Some('b' | 'h') => text.extend(month_name.chars().take(3)),
            Some('A') => text.push_str(weekday),
            Some('a') => text.extend(weekday.chars().take(3)),
            Some('H' | 'M' | 'S') => text.push_str(&two(0)),
            Some('I') => text.push_str("12"),
            Some('p') => text.push_str("AM"),
            Some('F') => {
                let numbers = [year.to_string(), padded_number(month.into()), padded_number(day.into())];
                text.push_str(&numbers.join("-"));
            }
            Some('T') => text.push_str("00:00:00"),
            Some('%') => text.push('%'),
            Some(other) => return Err(format!("`strftime_now` does not know the field `%{other}`")),
            None => return Err("`strftime_now` was given a format that ends in `%`".to_owned()),
        }
    }
    Ok(text)
}

fn padded_number(number: u16) -> String {
    format!("{number:02}")
}

/// Day of the week from 0, Sunday, by Sakamoto's congruence.
fn weekday(date: ChatDate) -> usize {
    const OFFSETS: [usize; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let month = usize::from(date.month.clamp(1, 12));
    let offset = OFFSETS.get(month - 1).copied().unwrap_or_default();
    let year = usize::from(date.year) + 400 - usize::from(month < 3);
    (year + year / 4 - year / 100 + year / 400 + offset + usize::from(date.day)) % 7
}
