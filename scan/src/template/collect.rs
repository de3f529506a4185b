//! Finds the templates in a folder's files, as loaders do and a little beyond: of two keys of one name the last one
//! counts, and the first is looked at all the same. What should hold a template and could not be read is said.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Template;
use crate::check::{Check, Observation};
use crate::files::{Found, read_up_to};
use crate::json::{Key, shown};
use crate::kind::Kind;
use crate::limits::Limits;

/// Files of a model's folder that hold templates.
pub(crate) const FILES: [&str; 4] =
    ["chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json"];
/// The folder of further templates, a file each.
pub(crate) const FOLDER: &str = "additional_chat_templates";
const KEY: &str = "chat_template";
/// Faults that are listed of one file.
const MOST_FAULTS: usize = 10;

/// The templates in a folder's files.
pub(crate) fn collect(files: &[Found], limits: &Limits, found: &mut Vec<Observation>) -> Vec<Template> {
    let mut templates = Vec::new();
    for file in files {
        let name = file.record.path.as_str();
        let base = name.rsplit('/').next().unwrap_or(name);
        if Kind::of_name(name) == Kind::Template {
            match read_up_to(&file.path, limits.template_bytes + 1) {
                Ok(bytes) => push_file(name, bytes, &mut templates, found),
                Err(error) => {
                    found.push(Observation::new(Check::Unreadable, name, format!("cannot be read: {error}")));
                }
            }
        } else if FILES.contains(&base) {
            match crate::json::read(name, &file.path, limits.settings_bytes) {
                Ok(bytes) => collect_from_json(name, &bytes, &mut templates, found),
                Err(observation) => found.push(observation),
            }
        }
    }
    templates
}

fn push_file(name: &str, bytes: Vec<u8>, templates: &mut Vec<Template>, found: &mut Vec<Observation>) {
    match String::from_utf8(bytes) {
        Ok(text) => templates.push(Template { file: name.to_owned(), place: String::new(), text }),
        Err(error) => {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            templates.push(Template { file: name.to_owned(), place: String::new(), text });
            found.push(unread(name, "", "it is not UTF-8 text"));
        }
    }
}

fn unread(file: &str, place: &str, reason: &str) -> Observation {
    let message = format!("a chat template that could not be read: {reason}");
    Observation::new(Check::TemplateUnread, file, message).at(place)
}

/// Templates of a config, all that were met, and what was wrong with others.
#[derive(Default)]
struct Carried {
    templates: Vec<(String, String)>,
    faults: Vec<(String, String)>,
}

fn collect_from_json(file: &str, bytes: &[u8], templates: &mut Vec<Template>, found: &mut Vec<Observation>) {
    let mut carried = Carried::default();
    // Some loaders accept what others do not: a byte-order mark, for one.
    let body = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut parser = serde_json::Deserializer::from_slice(body);
    let outcome = Config(&mut carried).deserialize(&mut parser).and_then(|()| parser.end());
    if let Err(error) = outcome {
        // A key may be written with escapes. What is no JSON for any loader is said where all JSON is looked through.
        let text = String::from_utf8_lossy(body);
        let names_a_template = text.contains(KEY) || text.contains("\\u");
        if names_a_template {
            carried.faults.push((KEY.to_owned(), format!("the file is not valid JSON: {error}")));
        }
    }
    found.extend(carried.faults.iter().take(MOST_FAULTS).map(|(place, reason)| unread(file, place, reason)));
    let texts = carried.templates.into_iter();
    templates.extend(texts.map(|(place, text)| Template { file: file.to_owned(), place, text }));
}

/// The whole config; nothing of it is kept but the one key.
struct Config<'c>(&'c mut Carried);

impl<'de> DeserializeSeed<'de> for Config<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Config<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut times = 0;
        while let Some(Key(key)) = map.next_key::<Key>()? {
            if key != KEY {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            times += 1;
            let place = if times == 1 { KEY.to_owned() } else { format!("{KEY} ({times})") };
            map.next_value_seed(Named { carried: &mut *self.0, place })?;
        }
        Ok(())
    }
}

/// A template, a list of named ones, or an object of them.
struct Named<'c> {
    carried: &'c mut Carried,
    place: String,
}

impl Named<'_> {
    fn fault(self, what: &str) {
        self.carried.faults.push((self.place, format!("a text or a list of named texts is expected, found {what}")));
    }
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a template, or several with names")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.fault(&format!("`{value}`"));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.fault(&format!("`{value}`"));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.fault(&format!("`{value}`"));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.fault(&format!("`{value}`"));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.carried.templates.push((self.place, text.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(entry) = entries.next_element::<Entry>()? {
            let place = format!("{}[{}]", self.place, entry.name.as_deref().map_or_else(|| index.to_string(), shown));
            if entry.templates.is_empty() || entry.is_broken {
                self.carried.faults.push((place.clone(), "an entry without a text as its `template`".to_owned()));
            }
            // A text that stands in the list by itself is taken by no loader, and is looked at all the same.
            let texts = entry.templates.into_iter().chain(entry.text);
            self.carried.templates.extend(texts.map(|text| (place.clone(), text)));
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = map.next_key::<Key>()? {
            let place = format!("{}[{}]", self.place, shown(&name));
            match map.next_value::<Entry>()?.text {
                Some(text) => self.carried.templates.push((place, text)),
                None => self.carried.faults.push((place, "a text is expected".to_owned())),
            }
        }
        Ok(())
    }
}

/// Any value: a text, or the entry of a list with a name and every template that it gives.
#[derive(Default)]
struct Entry {
    text: Option<String>,
    name: Option<String>,
    templates: Vec<String>,
    is_broken: bool,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a template, or one with its name")
            }
            fn visit_unit<E>(self) -> Result<Entry, E> {
                Ok(Entry::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Entry, E> {
                Ok(Entry::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Entry, E> {
                Ok(Entry::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Entry, E> {
                Ok(Entry::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Entry, E> {
                Ok(Entry::default())
            }
            fn visit_str<E>(self, text: &str) -> Result<Entry, E> {
                Ok(Entry { text: Some(text.to_owned()), ..Entry::default() })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Entry, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Entry::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut entry = Entry::default();
                while let Some(Key(key)) = map.next_key::<Key>()? {
                    match &*key {
                        "name" => entry.name = map.next_value::<Entry>()?.text,
                        "template" => match map.next_value::<Entry>()?.text {
                            Some(text) => entry.templates.push(text),
                            None => entry.is_broken = true,
                        },
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_any(EntryVisitor)
    }
}
