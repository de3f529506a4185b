//! JSON as Python writes it for nobody but people: names in place of numbers, a mark of the byte order.

/// Names that Python writes and reads for numbers that JSON has none for, each with a number of the same length.
const NAMES: [(&[u8], &[u8]); 2] = [(b"NaN", b"0.0"), (b"Infinity", b"0.000000")];

/// Puts numbers where names of numbers stand outside of strings; one pass, no byte moves.
pub(super) fn without_names_of_numbers(bytes: &mut [u8]) {
    let mut at = 0;
    let mut is_text = false;
    while let Some(byte) = bytes.get(at).copied() {
        let named =
            NAMES.iter().find(|(name, _)| !is_text && bytes.get(at..).is_some_and(|rest| rest.starts_with(name)));
        if let Some((name, number)) = named {
            if let Some(place) = bytes.get_mut(at..at + name.len()) {
                place.copy_from_slice(number);
            }
            at += name.len();
            continue;
        }
        match byte {
            b'"' => is_text = !is_text,
            // What follows is part of the text, be it a quote.
            b'\\' if is_text => at += 1,
            _ => {}
        }
        at += 1;
    }
}

/// The same bytes without the mark that some editors put first.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}
