//! What a pickle would import and call, read from its opcodes without building any object.
//!
//! A pickle is a program. Loading one runs it, and a harmless-looking file of weights may carry any command in it. The
//! walk keeps just enough of the unpickler's state, a symbolic stack and memo, to tell the names that are looked up,
//! also where these are put together from memoised strings. What it cannot tell it reports as such: a name that is
//! built at run time counts as an import, never as nothing. A broken tail hides nothing either, because a payload runs
//! before the tail is reached: whatever was found before a fault stays found.
//!
//! It does not read the weights, and an import that is known to be needed for tensors is not a promise of safety.

mod safe;
mod text;
mod trainer;
mod walk;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trainer_tests;

use std::io;
use std::path::Path;

use thiserror::Error;

pub(crate) use safe::is_known_safe;
pub(crate) use text::shown;
pub(crate) use trainer::Expected;

use crate::check::{Check, Observation};
use crate::files::read_up_to;
use crate::limits::Limits;
use walk::Walker;

/// Imports that are listed one by one.
const MAX_LISTED: usize = 20;
/// Imports that the one-line summary names.
const MAX_SUMMARISED: usize = 4;
/// First pickle of torch's old layout: a magic number. Four more follow, and then raw storages.
const TORCH_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const TORCH_PICKLES: usize = 5;
/// Fewest opcodes of a file without imports that is taken for a pickle: shorter ones occur in text.
const MIN_DATA_OPCODES: usize = 4;

/// A name that a pickle looks up when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// The module as written; cut after 256 bytes.
    pub(crate) module: String,
    /// The name in it, with dots where it reaches through attributes; cut after 256 bytes.
    pub(crate) name: String,
    /// Byte of the first opcode that looks it up.
    pub(crate) offset: u64,
}

/// An import that the file does not spell out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unresolved {
    /// Why not.
    pub(crate) hidden: Hidden,
    /// Byte of the opcode.
    pub(crate) offset: u64,
}

/// Why an import cannot be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Module or name is the result of a call, or no string at all.
    BuiltName,
    /// A number that a registry of the loading process turns into a name.
    Extension(u32),
    /// Attributes are set on what was imported, which changes it for all who use it.
    ChangedImport,
}

impl Hidden {
    fn describe(self) -> String {
        match self {
            Self::BuiltName => "a name that is built while loading".to_owned(),
            Self::Extension(code) => format!("extension code {code}, which the loading process resolves"),
            Self::ChangedImport => "attributes set on an imported object".to_owned(),
        }
    }
}

/// What a pickle would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PickleContent {
    /// Highest protocol declared; 0 where none is.
    pub(crate) protocol: u8,
    /// Distinct imports in the order of their first appearance.
    pub(crate) imports: Vec<Import>,
    /// Imports without a name.
    pub(crate) unresolved: Vec<Unresolved>,
    /// Opcodes that call: REDUCE, BUILD, INST, OBJ, NEWOBJ, NEWOBJ_EX.
    pub(crate) calls: usize,
    /// Byte of the first call that is none of those by which trainers' files are put together.
    pub(crate) odd: Option<u64>,
    /// Objects that the loader is asked for: torch's storages.
    pub(crate) persistent_ids: usize,
    /// Opcodes followed.
    pub(crate) opcodes: usize,
    /// Bytes followed.
    pub(crate) end: u64,
}

/// Why a pickle cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PickleFault {
    /// The bytes end inside an opcode, or before STOP.
    #[error("the opcode at byte {at} needs more bytes than there are")]
    Truncated {
        /// Byte of the opcode.
        at: u64,
    },
    /// No such opcode.
    #[error("0x{opcode:02x} at byte {at} is no opcode")]
    UnknownOpcode {
        /// The byte found.
        opcode: u8,
        /// Its position.
        at: u64,
    },
    /// A protocol that does not exist.
    #[error("protocol {version} at byte {at} does not exist; 5 is the highest")]
    Protocol {
        /// The protocol declared.
        version: u8,
        /// Byte of the opcode.
        at: u64,
    },
    /// An operand that is not what its opcode takes.
    #[error("the opcode at byte {at} takes {what}, and something else follows")]
    Operand {
        /// What the opcode takes.
        what: &'static str,
        /// Byte of the opcode.
        at: u64,
    },
    /// The stack holds less than an opcode takes.
    #[error("the opcode at byte {at} takes more from the stack than lies on it")]
    Underflow {
        /// Byte of the opcode.
        at: u64,
    },
    /// No mark where an opcode needs one.
    #[error("the opcode at byte {at} needs a mark, and none is set")]
    NoMark {
        /// Byte of the opcode.
        at: u64,
    },
    /// A memo entry that was never written.
    #[error("the opcode at byte {at} reads memo entry {index}, which was never written")]
    MissingMemo {
        /// The entry.
        index: u64,
        /// Byte of the opcode.
        at: u64,
    },
    /// More of something than a file of weights has.
    #[error("too many {what} at byte {at}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// Byte of the opcode.
        at: u64,
    },
}

/// A pickle that cannot be followed to its end, with what it would have done until there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{fault}")]
pub(crate) struct PickleError {
    /// Where and why.
    pub(crate) fault: PickleFault,
    /// What was found before.
    pub(crate) seen: Box<PickleContent>,
}

/// All pickles of a file, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PickleFile {
    /// What they would do together.
    pub(crate) content: PickleContent,
    /// Pickles followed to their end.
    pub(crate) pickles: usize,
    /// Why the last one could not be followed.
    pub(crate) fault: Option<PickleFault>,
    /// Bytes after the last pickle: raw storages.
    pub(crate) trailing: u64,
}

/// Follows one pickle at the front of `bytes`.
#[cfg_attr(not(test), expect(dead_code, reason = "files are read with `read_file`; this is the same for one pickle"))]
pub(crate) fn read(bytes: &[u8]) -> Result<PickleContent, PickleError> {
    let mut walker = Walker::new(bytes);
    let outcome = walker.pickle();
    let content = walker.into_content();
    match outcome {
        Ok(()) => Ok(content),
        Err(fault) => Err(PickleError { fault, seen: Box::new(content) }),
    }
}

/// Follows all pickles of a file: one, or torch's old layout of five with raw storages behind them.
///
/// In any other file the walk goes on for as long as pickles follow each other. Bytes after the first that are no
/// pickle count as trailing, unless something was imported among them before they ceased to be one.
pub(crate) fn read_file(bytes: &[u8]) -> PickleFile {
    let most = if bytes.starts_with(TORCH_MAGIC) { TORCH_PICKLES } else { usize::MAX };
    let mut walker = Walker::new(bytes);
    let (mut pickles, mut end, mut fault) = (0, 0, None);
    while pickles < most && (pickles == 0 || end < bytes.len() as u64) {
        let before = activity(walker.content());
        if let Err(found) = walker.pickle() {
            let is_storage = pickles > 0 && most == usize::MAX && activity(walker.content()) == before;
            let is_limit = matches!(found, PickleFault::Limit { .. });
            fault = (is_limit || !is_storage).then_some(found);
            break;
        }
        pickles += 1;
        end = walker.content().end;
    }
    let mut content = walker.into_content();
    if fault.is_none() {
        content.end = end;
    }
    let trailing = (bytes.len() as u64).saturating_sub(content.end);
    PickleFile { content, pickles, fault, trailing }
}

/// Everything that a pickle can do beyond holding data, counted.
fn activity(content: &PickleContent) -> (usize, usize, usize) {
    (content.imports.len(), content.unresolved.len(), content.calls)
}

/// What bytes say of whether they are a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glance {
    Pickle,
    Other,
    /// They end before it shows.
    Cut,
}

/// Whether the first bytes of a file are those of a pickle, whatever its name. `bytes` may be cut.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    glance(bytes, u64::MAX) == Glance::Pickle
}

/// Whether an opcode at byte `at` that needs more than `bytes` can have it: there are `length` in the file.
fn goes_on(bytes: &[u8], at: u64, length: u64) -> bool {
    let opcode = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    let short = |rest: &[u8]| rest.first_chunk().map(|claim| u64::from(u32::from_le_bytes(*claim)));
    let claimed = match opcode {
        [b'X' | b'B' | b'T' | 0x8b, rest @ ..] => short(rest),
        [0x8d | 0x8e | 0x96, rest @ ..] => rest.first_chunk().map(|claim| u64::from_le_bytes(*claim)),
        _ => None,
    };
    length > bytes.len() as u64 && at.saturating_add(claimed.unwrap_or(0)) < length
}

/// Whether bytes, all of a file of `length` bytes or its first, are those of a pickle.
///
/// Protocols 2 to 5 say so. Protocols 0 and 1 are made of letters, so that text may read like the beginning of one:
/// they are taken for a pickle only where the walk gets as far as a call of something imported, or is cut while
/// arguments are gathered for one, or ends exactly where the bytes end.
fn glance(bytes: &[u8], length: u64) -> Glance {
    let of = |is_pickle: bool| if is_pickle { Glance::Pickle } else { Glance::Other };
    if let [0x80, 2..=5, rest @ ..] = bytes {
        let mut walker = Walker::new(rest);
        return of(!matches!(walker.pickle(), Err(PickleFault::UnknownOpcode { at: 0, .. })));
    }
    let mut walker = Walker::new(bytes);
    let outcome = walker.pickle();
    let content = walker.content();
    let imports = !content.imports.is_empty() || !content.unresolved.is_empty();
    match outcome {
        _ if imports && content.calls > 0 => Glance::Pickle,
        Ok(()) => {
            let rest = usize::try_from(content.end).ok().and_then(|end| bytes.get(end..)).unwrap_or_default();
            let is_data = matches!(bytes, [b'(' | b']' | b'}', ..]) && content.opcodes >= MIN_DATA_OPCODES;
            of(rest.trim_ascii().is_empty() && (imports || is_data))
        }
        Err(PickleFault::Truncated { at }) if !goes_on(bytes, at, length) => Glance::Other,
        Err(PickleFault::Truncated { .. }) if imports && walker.is_gathering() => Glance::Pickle,
        Err(PickleFault::Truncated { .. }) => Glance::Cut,
        Err(_) => Glance::Other,
    }
}

/// Whether a file is a pickle, as far as that shows within the limits; `prefix` are its first bytes, `length` is its
/// own.
pub(crate) fn glance_at(path: &Path, prefix: &[u8], length: u64, limits: &Limits) -> io::Result<Glance> {
    match glance(prefix, length) {
        Glance::Cut => Ok(glance(&read_up_to(path, limits.pickle_bytes)?, length)),
        told => Ok(told),
    }
}

/// Whether a loader that takes bytes for a pickle gets anywhere with them. `bytes` may be cut.
///
/// For files that are named like one, of `length` bytes. A loader has run whatever comes before a fault, so that is
/// enough; where it fails before it has imported or called anything, the file is no pickle, and what stands further on
/// is out of its reach.
pub(crate) fn loads(bytes: &[u8], length: u64) -> bool {
    if matches!(bytes, [0x80, 2..=5, ..]) {
        return glance(bytes, length) == Glance::Pickle;
    }
    let read = read_file(bytes);
    let is_cut = match read.fault {
        Some(PickleFault::Truncated { at }) => goes_on(bytes, at, length),
        Some(PickleFault::Limit { .. }) => true,
        _ => false,
    };
    let content = &read.content;
    let imports = content.imports.iter().any(|import| is_dotted(&import.module) && is_dotted(&import.name));
    read.pickles > 0
        || is_cut
        || imports
        || !content.unresolved.is_empty()
        || content.calls > 0 && !content.imports.is_empty()
}

/// Whether a text is a dotted name and not the first line of some prose.
fn is_dotted(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.chars().all(|character| character.is_alphanumeric() || character == '_'))
}

/// Reports what the pickle in `bytes` would do. `file` is the name shown, `expected` what the file's name lets expect.
///
/// A trainer's file that holds what such files hold, and nothing else, is told in one line.
pub(crate) fn observe(file: &str, bytes: &[u8], expected: Expected, found: &mut Vec<Observation>) {
    let read = read_file(bytes);
    if let Some(message) = trainer::message(expected, &read) {
        return found.push(Observation::new(Check::TrainerState, file, message));
    }
    found.push(Observation::new(Check::Pickle, file, summary(&read)));
    let unknown = read.content.imports.iter().filter(|import| !is_known_safe(&import.module, &import.name));
    let named = unknown.map(|import| (qualified(import), import.offset));
    let hidden = read.content.unresolved.iter().map(|import| (import.hidden.describe(), import.offset));
    let suspicious: Vec<_> = named.chain(hidden).collect();
    for (what, offset) in suspicious.iter().take(MAX_LISTED) {
        let message = format!("Loading it imports what no file of tensors needs: {what}");
        found.push(Observation::new(Check::PickleImport, file, message).at(format!("{what}, byte {offset}")));
    }
    if let Some(more) = suspicious.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        let message = format!("Loading it imports {more} more things that no file of tensors needs");
        found.push(Observation::new(Check::PickleImport, file, message).measured(suspicious.len() as f64));
    }
    if let Some(fault) = read.fault {
        let message = format!(
            "It cannot be followed to its end: {fault}. What comes before would already have run, what comes after was \
             not seen"
        );
        found.push(Observation::new(Check::PickleMalformed, file, message).at(format!("byte {}", read.content.end)));
    }
}

fn summary(read: &PickleFile) -> String {
    let names: Vec<String> = read.content.imports.iter().take(MAX_SUMMARISED).map(qualified).collect();
    let more = read.content.imports.len().saturating_sub(names.len());
    let imports = match (names.is_empty(), more) {
        (true, _) => "names no import".to_owned(),
        (false, 0) => format!("imports {}", names.join(", ")),
        (false, more) => format!("imports {} and {more} more", names.join(", ")),
    };
    let protocol = read.content.protocol;
    let calls = read.content.calls;
    let trailing = match read.trailing {
        0 => String::new(),
        _ => " Raw bytes follow it.".to_owned(),
    };
    format!(
        "A pickle (protocol {protocol}), which is a program that loading runs: it {imports} and makes {calls} calls.\
         {trailing} The weights in it are not read; convert it to safetensors in a sandbox"
    )
}

fn qualified(import: &Import) -> String {
    format!("{}.{}", shown(&import.module), shown(&import.name))
}
