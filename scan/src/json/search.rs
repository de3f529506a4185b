//! The walk through a JSON document: which keys make a loader run code, and which stand twice in one object.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::{Reader, shown};
use crate::check::{Check, Observation};

/// Findings of one kind that are listed of a file.
const MOST: usize = 20;
/// Keys of all open objects that are remembered.
const REMEMBERED: usize = 2_000_000;
/// What in a text of a config is meant for an interpreter.
const CODE: [&str; 8] =
    ["__import__", "eval(", "exec(", "os.system", "subprocess.", "__reduce__", "pickle.loads", "importlib."];

/// Searches a document of one value.
pub(super) fn value(
    base: &str,
    bytes: &[u8],
    found: &mut Vec<Observation>,
    name: &str,
) -> Result<(), serde_json::Error> {
    let mut search = Search::of(base);
    // The parser gives up at 128 levels of nesting, so depth is bounded as well.
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let outcome = Node(&mut search).deserialize(&mut parser).and_then(|_| parser.end());
    search.finish(name, found);
    outcome
}

/// Searches a document of any number of values, such as rows of data.
pub(super) fn values(
    base: &str,
    bytes: &[u8],
    found: &mut Vec<Observation>,
    name: &str,
) -> Result<(), serde_json::Error> {
    let mut search = Search::of(base);
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let outcome = loop {
        if let Err(error) = Node(&mut search).deserialize(&mut parser) {
            break Err(error);
        }
        if parser.end().is_ok() {
            break Ok(());
        }
    };
    search.finish(name, found);
    outcome
}

/// A walk through a document.
#[expect(clippy::struct_excessive_bools, reason = "facts of the file, each asked by itself")]
struct Search {
    /// Keys that loaders act on and that the walk is inside of, the innermost last: texts are kept only there.
    inside: Vec<Demand>,
    /// Chat templates that the walk is inside of: programs of another kind, judged elsewhere.
    templates: usize,
    /// Keys that may yet be remembered.
    remembers: usize,
    forgot: bool,
    /// Whether a loader reads the file.
    is_loaded: bool,
    /// Whether its texts are settings, and no vocabulary or data.
    is_settings: bool,
    is_modules: bool,
    hits: Vec<Hit>,
    counts: [usize; 2],
}

/// What stands behind a key, and is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Code wherever it says anything.
    Code,
    /// A name that is built in, or a repository of kernels.
    Kernel,
    /// A library that is imported.
    Library,
    /// The class of a part of a sentence encoder.
    Module,
    /// A function that is imported by its name.
    Callable,
    /// An object of Python, put together when it is read.
    Object,
}

/// What a key was found to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Code { value: String, reason: &'static str },
    Twice,
}

/// A key that was found. Its path is put together on the way out, so that a document without any costs none.
struct Hit {
    /// The innermost first.
    path: Vec<String>,
    what: What,
}

impl Hit {
    fn observation(self, name: &str) -> Observation {
        let path: Vec<String> = self.path.into_iter().rev().collect();
        let place = path.join(".").replace(".[]", "[]");
        let (check, message) = match self.what {
            What::Code { value, reason } => (Check::RemoteCode, format!("`{place}` is {}: {reason}", shown(&value))),
            What::Twice => {
                let message = format!(
                    "`{place}` stands twice: Python's readers take the last, others the first or refuse, so that a \
                     reviewer and a loader see different files. Remove one of the two"
                );
                (Check::DuplicateKey, message)
            }
        };
        Observation::new(check, name, message).at(shown(&place))
    }
}

impl Demand {
    /// What a key asks for in the file that it stands in.
    fn of(key: &str, search: &Search) -> Option<Self> {
        match key {
            // Whoever trains may trust code; only what is loaded passes it on.
            "trust_remote_code" if !search.is_loaded => None,
            "auto_map" | "trust_remote_code" | "custom_pipelines" | "custom_pipeline" | "custom_generate"
            | "_target_" => Some(Self::Code),
            "parent_library" => Some(Self::Library),
            "type" | "types" if search.is_modules => Some(Self::Module),
            "activation_function" | "activation_fn" => Some(Self::Callable),
            "py/object" | "py/reduce" | "py/function" | "py/repr" | "py/newargs" | ":serialized:" => Some(Self::Object),
            "kernel_config" | "kernel_mapping" => Some(Self::Kernel),
            key if key.ends_with("_implementation") => Some(Self::Kernel),
            _ => None,
        }
    }

    /// Whether a text behind the key asks for what is not part of the usual libraries.
    fn objects_to(self, text: &str) -> bool {
        let begins = |known: &[&str]| known.iter().any(|known| text.starts_with(known));
        match self {
            Self::Code | Self::Object => true,
            Self::Kernel => text.contains('/'),
            // `__main__` is the program that loads, which runs already.
            Self::Library => {
                text != "__main__"
                    && !begins(&[
                        "transformers.",
                        "diffusers.",
                        "peft.",
                        "sentence_transformers.",
                        "torch.nn.",
                        "timm.",
                    ])
            }
            Self::Module => !begins(&["sentence_transformers."]),
            Self::Callable => text.contains('.') && !begins(&["torch.nn.", "transformers."]),
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Code => "a loader that trusts it imports and runs code that is no part of the weights",
            Self::Kernel => "the library fetches kernels from that repository and runs them",
            Self::Library => "the library imports a module of that name when it loads the adapter",
            Self::Module => "the library imports a class of that name when it loads the encoder",
            Self::Callable => "the library imports a function of that name and calls it",
            Self::Object => "a reader that rebuilds objects imports and calls what it names",
        }
    }
}

impl Search {
    fn of(base: &str) -> Self {
        let reader = Reader::of(base);
        Self {
            inside: Vec::new(),
            templates: 0,
            remembers: REMEMBERED,
            forgot: false,
            is_loaded: reader != Reader::Nobody,
            is_settings: reader == Reader::Loader,
            is_modules: ["modules.json", "router_config.json"].contains(&base),
            hits: Vec::new(),
            counts: [0; 2],
        }
    }

    fn finish(self, name: &str, found: &mut Vec<Observation>) {
        if self.forgot {
            let message =
                format!("more than {REMEMBERED} keys in one object: whether one stands twice was not looked at");
            found.push(Observation::new(Check::BeyondLimits, name, message));
        }
        found.extend(self.hits.into_iter().map(|hit| hit.observation(name)));
    }

    fn hit(&mut self, what: What) {
        let [others, twice] = &mut self.counts;
        let count = if what == What::Twice { twice } else { others };
        if *count < MOST {
            *count += 1;
            self.hits.push(Hit { path: Vec::new(), what });
        }
    }

    /// Judges the value of a key that loaders act on.
    fn judge(&mut self, demand: Demand, seen: &Seen) {
        let value = match demand {
            Demand::Code | Demand::Object if seen.asks => seen.text.clone().unwrap_or_else(|| "set".to_owned()),
            // A library that is named by something else than a text is none that is known.
            Demand::Library if seen.asks && seen.text.is_none() => "set".to_owned(),
            _ => match &seen.objectionable {
                Some(text) => text.clone(),
                None => return,
            },
        };
        self.hit(What::Code { value, reason: demand.reason() });
    }

    /// Puts a step before the paths of what was found since there were so many.
    fn lead(&mut self, since: usize, step: &str) {
        for hit in self.hits.iter_mut().skip(since) {
            hit.path.push(shown(step));
        }
    }
}

/// The keys of one object so far, as hashes.
#[derive(Default)]
struct Keys {
    /// Most objects have few.
    few: Vec<u64>,
    many: HashSet<u64>,
}

impl Keys {
    /// False where the key was there already.
    fn insert(&mut self, key: &str) -> bool {
        const FEW: usize = 16;
        // One key for all runs: what is found twice must not depend on chance.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        if self.few.contains(&hash) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(hash);
            return true;
        }
        self.many.insert(hash)
    }

    fn len(&self) -> usize {
        self.few.len() + self.many.len()
    }
}

/// A key that is copied only where it has escapes.
pub(crate) struct Key<'de>(pub(crate) Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// What a value amounts to.
#[derive(Default)]
struct Seen {
    /// Whether it asks for anything: null, false and what holds nothing else do not.
    asks: bool,
    /// A text, or the first text in a list or an object.
    text: Option<String>,
    /// The first text that the innermost key has an objection to.
    objectionable: Option<String>,
}

impl Seen {
    fn scalar(asks: bool) -> Self {
        Self { asks, ..Self::default() }
    }

    fn take(&mut self, other: Self) {
        self.asks |= other.asks;
        self.text = self.text.take().or(other.text);
        self.objectionable = self.objectionable.take().or(other.objectionable);
    }
}

/// One value of the document.
struct Node<'a>(&'a mut Search);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Seen;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::default())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Seen, E> {
        Ok(Seen::scalar(value))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::scalar(true))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::scalar(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::scalar(true))
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        let demand = self.0.inside.last().copied();
        let objectionable = demand.filter(|demand| demand.objects_to(text)).map(|_| shown(text));
        let is_code = || CODE.iter().any(|code| text.contains(code));
        if self.0.is_settings && self.0.templates == 0 && objectionable.is_none() && is_code() {
            let reason = "text that is meant for an interpreter, where settings are expected";
            self.0.hit(What::Code { value: shown(text), reason });
        }
        Ok(Seen { asks: true, text: demand.map(|_| shown(text)), objectionable })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
        let mut whole = Seen::default();
        let since = self.0.hits.len();
        loop {
            let item = items.next_element_seed(Node(self.0));
            if !matches!(item, Ok(Some(_))) {
                self.0.lead(since, "[]");
            }
            let Some(seen) = item? else { return Ok(whole) };
            whole.take(seen);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let mut whole = Seen::default();
        let mut keys = Keys::default();
        while let Some(Key(key)) = map.next_key::<Key>()? {
            let since = self.0.hits.len();
            if self.0.is_loaded && self.0.remembers > keys.len() {
                if !keys.insert(&key) {
                    self.0.hit(What::Twice);
                }
            } else {
                self.0.forgot |= self.0.is_loaded;
            }
            let demand = Demand::of(&key, self.0);
            let is_template = key == "chat_template";
            self.0.inside.extend(demand);
            self.0.templates += usize::from(is_template);
            self.0.remembers = self.0.remembers.saturating_sub(keys.len());
            let seen = map.next_value_seed(Node(self.0));
            self.0.remembers += keys.len();
            self.0.templates -= usize::from(is_template);
            if demand.is_some() {
                self.0.inside.pop();
            }
            if let (Some(demand), Ok(seen)) = (demand, &seen) {
                self.0.judge(demand, seen);
            }
            // A document that breaks off later still has what it had.
            self.0.lead(since, &key);
            whole.take(seen?);
        }
        Ok(whole)
    }
}
