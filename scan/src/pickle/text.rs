//! Strings of a pickle, as far as they can name something, and strings of a file made fit to be shown.

/// Bytes of a decoded string that are kept: names of modules are far shorter.
const MAX_KEPT: usize = 256;
/// Bytes of an encoded string that are looked at: one character may be written with ten.
const MAX_ENCODED: usize = 10 * MAX_KEPT;
/// Characters of a string of the file that a message shows.
const MAX_SHOWN: usize = 120;

/// How an opcode writes its string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8, or bytes.
    Plain,
    /// The escapes of a Python string literal (STRING).
    Literal,
    /// Latin-1 with `\uXXXX` and `\UXXXXXXXX` (UNICODE).
    RawUnicode,
}

/// The string that `bytes` encode. What is cut off ends in `…`, so that it equals no name that is known.
pub(super) fn decode(bytes: &[u8], encoding: Encoding) -> String {
    let looked_at = bytes.get(..MAX_ENCODED).unwrap_or(bytes);
    let mut text = match encoding {
        Encoding::Plain => String::from_utf8_lossy(looked_at).into_owned(),
        Encoding::Literal => literal(looked_at),
        Encoding::RawUnicode => raw_unicode(looked_at),
    };
    let cut = text.len() > MAX_KEPT || looked_at.len() < bytes.len();
    if text.len() > MAX_KEPT {
        let cut = (0..=MAX_KEPT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
    }
    if cut {
        text.push('…');
    }
    text
}

fn literal(bytes: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let Some((&escape, after)) = rest.split_first().filter(|_| byte == b'\\') else {
            decoded.push(byte);
            continue;
        };
        rest = after;
        match escape {
            b'\\' | b'\'' | b'"' => decoded.push(escape),
            b'a' => decoded.push(7),
            b'b' => decoded.push(8),
            b'f' => decoded.push(12),
            b'n' => decoded.push(b'\n'),
            b'r' => decoded.push(b'\r'),
            b't' => decoded.push(b'\t'),
            b'v' => decoded.push(11),
            b'x' => decoded.push(take_digits(&mut rest, 2, 16).unwrap_or(0) as u8),
            b'0'..=b'7' => {
                let more = rest.iter().take(2).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
                let first = u32::from(escape - b'0');
                let following = take_digits(&mut rest, more, 8).unwrap_or(0);
                decoded.push((first * 8_u32.pow(more as u32) + following) as u8);
            }
            _ => decoded.extend([byte, escape]),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn raw_unicode(bytes: &[u8]) -> String {
    let mut decoded = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(char::from(byte));
        let Some((&escape, after)) = rest.split_first().filter(|_| byte == b'\\') else { continue };
        rest = after;
        let digits = match escape {
            b'u' => 4,
            b'U' => 8,
            _ => {
                decoded.push(char::from(escape));
                continue;
            }
        };
        decoded.pop();
        let code = take_digits(&mut rest, digits, 16);
        decoded.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    decoded
}

/// Reads `count` digits off the front of `rest`.
fn take_digits(rest: &mut &[u8], count: usize, radix: u32) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(count)?;
    let mut value = 0_u32;
    for digit in digits {
        value = value.checked_mul(radix)?.checked_add(char::from(*digit).to_digit(radix)?)?;
    }
    *rest = after;
    Some(value)
}

/// A string of a file, fit for a message: cut, and with everything but printable ASCII escaped. Characters that turn
/// the direction of writing or look like others cannot deceive there.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == MAX_SHOWN {
            shown.push('…');
            break;
        }
        match character {
            '\\' => shown.push_str("\\\\"),
            ' '..='~' | '…' => shown.push(character),
            _ => shown.extend(character.escape_unicode()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{Encoding, decode, shown};

    #[test]
    fn escapes_are_read_as_python_reads_them() {
        assert_eq!(decode(br"s\x79s\164em\q", Encoding::Literal), r"system\q");
        assert_eq!(decode(br"\u0073ystem", Encoding::RawUnicode), "system");
        assert_eq!(decode(br"\\u0073", Encoding::RawUnicode), r"\\u0073");
        assert_eq!(decode(br"\U0000006fs", Encoding::RawUnicode), "os");
        assert_eq!(decode(br"s\x79s", Encoding::Plain), r"s\x79s");
    }

    #[test]
    fn long_strings_are_cut_and_marked() {
        let long = decode(&[b'a'; 10_000], Encoding::Plain);
        assert!(long.len() < 300 && long.ends_with('…'), "{} bytes", long.len());
    }

    #[test]
    fn nothing_deceptive_is_shown() {
        assert_eq!(shown("a\u{202e}b\n\\"), "a\\u{202e}b\\u{a}\\\\");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 121);
    }
}
