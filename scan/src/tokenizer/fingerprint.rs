//! JSON values known by a digest that does not depend on the order of keys: vocabularies are compared without being
//! kept.
//!
//! A value is written in one way only, then digested. A list is digested as it is read; of an object, each entry
//! becomes a digest, and these are sorted. So an object costs 16 bytes a key, and a list nothing.

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::json::Key;

/// Bytes of a list that are held before the digest takes them: many short pieces cost it more than a long one.
const HELD: usize = 1 << 14;

/// A JSON value by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    digest: Vec<u8>,
    /// Whether it says nothing: null, false, or empty.
    pub(super) is_idle: bool,
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut out = Vec::new();
        Written(&mut out).deserialize(deserializer)?;
        let is_idle = matches!(out.first(), Some(b'n')) || IDLE.contains(&out.as_slice());
        Ok(Self { digest: digest(&out), is_idle })
    }
}

/// How false, an empty text, an empty list and an empty object are written.
const IDLE: [&[u8]; 4] = [&[b'b', 0], b"s\0\0\0\0\0\0\0\0", b"[\0\0\0\0\0\0\0\0", b"{\0\0\0\0\0\0\0\0"];

fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// What a kind of value is written with: what it is, its length, its bytes, so that no two values are written alike.
fn write(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// A list on its way into a digest.
#[derive(Default)]
pub(super) struct List {
    hasher: Sha256,
    pending: Vec<u8>,
    items: u64,
    was_digested: bool,
}

impl List {
    fn next(&mut self) -> &mut Vec<u8> {
        if self.pending.len() >= HELD {
            self.hasher.update(&self.pending);
            self.pending.clear();
            self.was_digested = true;
        }
        self.items += 1;
        &mut self.pending
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        if self.was_digested {
            self.hasher.update(&self.pending);
            out.push(b'L');
            out.extend(self.items.to_le_bytes());
            out.extend(self.hasher.finalize());
        } else {
            out.push(b'[');
            out.extend(self.items.to_le_bytes());
            out.append(&mut self.pending);
        }
    }

    /// A pair of texts, as merges are.
    pub(super) fn pair(&mut self, left: &str, right: &str) {
        let out = self.next();
        let mut pair = Self::default();
        write(pair.next(), b's', left.as_bytes());
        write(pair.next(), b's', right.as_bytes());
        pair.finish(out);
    }

    /// The whole list.
    pub(super) fn fingerprint(self) -> Fingerprint {
        let is_idle = self.items == 0;
        let mut out = Vec::new();
        self.finish(&mut out);
        Fingerprint { digest: digest(&out), is_idle }
    }
}

/// An object on its way into a digest.
#[derive(Default)]
pub(super) struct Entries(Vec<[u8; 16]>);

impl Entries {
    /// A key, and the value that is read behind it.
    fn entry(&mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out, b's', key.as_bytes());
        value(&mut out);
        let mut short = [0; 16];
        short.iter_mut().zip(digest(&out)).for_each(|(to, from)| *to = from);
        self.0.push(short);
    }

    /// A piece of a vocabulary and its id.
    pub(super) fn piece(&mut self, piece: &str, id: u64) {
        self.entry(piece, |out| number(out, id));
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.0.sort_unstable();
        out.push(b'{');
        out.extend((self.0.len() as u64).to_le_bytes());
        let mut hasher = Sha256::new();
        self.0.chunks(1024).for_each(|entries| hasher.update(entries.concat()));
        if !self.0.is_empty() {
            out.extend(hasher.finalize());
        }
    }

    /// The whole object.
    pub(super) fn fingerprint(self) -> Fingerprint {
        let is_idle = self.0.is_empty();
        let mut out = Vec::new();
        self.finish(&mut out);
        Fingerprint { digest: digest(&out), is_idle }
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.push(b'u');
    out.extend(value.to_le_bytes());
}

/// A value, written at the end of these bytes.
struct Written<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Written<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Written<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(b'n');
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.extend([b'b', u8::from(value)]);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        number(self.0, value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.push(b'i');
        self.0.extend(value.to_le_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.push(b'f');
        self.0.extend(value.to_le_bytes());
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        write(self.0, b's', text.as_bytes());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut list = List::default();
        while items.next_element_seed(Written(list.next()))?.is_some() {}
        // The last asked for an item and got none.
        list.items -= 1;
        list.finish(self.0);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut entries = Entries::default();
        while let Some(Key(key)) = map.next_key::<Key>()? {
            let mut value = Vec::new();
            map.next_value_seed(Written(&mut value))?;
            entries.entry(&key, |out| out.append(&mut value));
        }
        entries.finish(self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Fingerprint {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn the_order_of_keys_is_no_difference_and_everything_else_is_one() {
        assert_eq!(of(r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#), of(r#"{"b": {"d": null, "c": [1, 2]}, "a": 1}"#));
        let all = [
            "null",
            "false",
            "true",
            "0",
            "1",
            "-1",
            "0.5",
            "\"\"",
            "\"a\"",
            "[]",
            "[[]]",
            "[0]",
            "[0, 1]",
            "[1, 0]",
            "{}",
            "{\"a\": 0}",
            "{\"a\": 1}",
            "{\"b\": 0}",
            "[{}]",
            "[[], []]",
            "[\"a\", \"b\"]",
            "[\"ab\"]",
            "{\"a\": {}}",
        ];
        for (index, left) in all.iter().enumerate() {
            for right in &all[index + 1..] {
                assert_ne!(of(left), of(right), "{left} {right}");
            }
        }
        let idle: Vec<&str> = all.into_iter().filter(|text| of(text).is_idle).collect();
        assert_eq!(idle, ["null", "false", "\"\"", "[]", "{}"]);
    }

    #[test]
    fn long_lists_are_told_apart_at_every_item() {
        let text = |changed: usize| {
            let items: Vec<String> =
                (0..20_000).map(|item| (item + usize::from(item == changed)).to_string()).collect();
            format!("[{}]", items.join(","))
        };
        assert_eq!(of(&text(20_000)), of(&text(20_001)));
        for changed in [0, 1_700, 19_999] {
            assert_ne!(of(&text(changed)), of(&text(20_000)));
        }
    }

    #[test]
    fn pairs_and_pieces_are_what_json_makes_of_them() {
        let mut merges = List::default();
        merges.pair("a", "b");
        merges.pair("ab", "c");
        assert_eq!(merges.fingerprint(), of(r#"[["a", "b"], ["ab", "c"]]"#));
        let mut vocabulary = Entries::default();
        vocabulary.piece("b", 1);
        vocabulary.piece("a", 0);
        assert_eq!(vocabulary.fingerprint(), of(r#"{"a": 0, "b": 1}"#));
    }
}
