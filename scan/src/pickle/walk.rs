//! Follows a pickle's opcodes on a symbolic stack: strings and imports keep their identity, all else is opaque.
//!
//! Operands are read exactly as CPython's unpickler reads them, so that no byte can mean one thing here and another
//! there. Where the unpickler would fail, this fails too; where it would go on and this cannot, this fails as well, and
//! what had been found until then stays found.

use std::collections::HashMap;

use super::text::{Encoding, decode};
use super::trainer::How;
use super::{Hidden, Import, PickleContent, PickleFault, Unresolved};

/// Highest protocol that exists.
const MAX_PROTOCOL: u8 = 5;
/// Opcodes followed in one file.
const MAX_OPCODES: usize = 1 << 24;
/// Items on the stack, and marks.
const MAX_STACK: usize = 1 << 20;
/// Entries of the memo.
const MAX_MEMO: usize = 1 << 19;
/// Distinct imports, and imports that cannot be resolved.
const MAX_IMPORTS: usize = 1 << 12;

/// Items of a tuple that are kept, and of all tuples together.
const MAX_TUPLE: usize = 16;
const MAX_KEPT: usize = 1 << 18;

/// What is known of an object on the stack.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// Cannot name anything.
    Opaque,
    /// An imported object, before any call: its place among the imports, where it has a name.
    Global(Option<u32>),
    /// What a call of an import gave.
    Made(u32),
    /// A string: where its encoded bytes lie. Lengths beyond 4 GiB are not told apart, only the front is ever read.
    Text { start: usize, length: u32, encoding: Encoding },
    /// A whole number of at most 32 bits.
    Number(i64),
    /// A short tuple: where its items are kept.
    Tuple { start: u32, length: u32 },
    /// A dictionary.
    Mapping,
}

/// One walk through one pickle.
pub(super) struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Start of the opcode that is being followed.
    opcode_at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    /// Items of tuples.
    items: Vec<Value>,
    imported: HashMap<(String, String), u32>,
    content: PickleContent,
}

impl<'a> Walker<'a> {
    /// Starts at the front of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            opcode_at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            items: Vec::new(),
            imported: HashMap::new(),
            content: PickleContent::default(),
        }
    }

    /// Follows one pickle to its STOP. What is found adds to what earlier pickles of the same bytes held.
    pub(super) fn pickle(&mut self) -> Result<(), PickleFault> {
        self.stack.clear();
        self.marks.clear();
        // A new map: clearing a large one costs its size again for every short pickle that follows.
        self.memo = HashMap::new();
        self.items.clear();
        let outcome = loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        self.content.end = self.at as u64;
        outcome
    }

    /// What was found so far.
    pub(super) fn content(&self) -> &PickleContent {
        &self.content
    }

    /// Whether arguments were being gathered when the walk ended.
    pub(super) fn is_gathering(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Everything that was found.
    pub(super) fn into_content(self) -> PickleContent {
        self.content
    }

    /// Follows one opcode; false at the end of the pickle.
    fn step(&mut self) -> Result<bool, PickleFault> {
        self.opcode_at = self.at;
        if self.content.opcodes >= MAX_OPCODES {
            return Err(self.limit("opcodes"));
        }
        let opcode = self.array::<1>()?[0];
        self.content.opcodes += 1;
        match opcode {
            b'.' => return self.pop().map(|_| false),
            0x80 => self.protocol()?,
            // Frames only say how many bytes to read ahead.
            0x95 => drop(self.array::<8>()?),
            b'N' | 0x88 | 0x89 | b']' | 0x8f | 0x97 => self.push(Value::Opaque)?,
            b'}' => self.push(Value::Mapping)?,
            b')' => self.push(Value::Tuple { start: 0, length: 0 })?,
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Number(i64::from(number)))?;
            }
            b'K' => {
                let number = self.array::<1>()?[0];
                self.push(Value::Number(i64::from(number)))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Number(i64::from(number)))?;
            }
            b'G' => self.number(8)?,
            b'I' | b'L' | b'F' | 0x8a | 0x8b => self.written_number(opcode)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c | 0x8d | 0x8e | 0x96 => self.string(opcode)?,
            b'p' | b'q' | b'r' | b'g' | b'h' | b'j' | 0x94 => self.memorise(opcode)?,
            b'c' | b'i' | 0x93 | 0x82 | 0x83 | 0x84 | b'P' | b'Q' => self.import(opcode)?,
            b'R' | b'b' | b'o' | 0x81 | 0x92 => self.call(opcode)?,
            _ => self.arrange(opcode)?,
        }
        Ok(true)
    }

    /// Opcodes that move objects and put them into others.
    fn arrange(&mut self, opcode: u8) -> Result<(), PickleFault> {
        match opcode {
            b'(' => self.mark(),
            b'0' => self.pop_or_unmark(),
            b'1' => self.pop_mark(),
            b'2' => self.top().and_then(|top| self.push(top)),
            // Containers of all above the mark.
            b't' => {
                let count = self.stack.len() - self.marks.last().copied().ok_or(self.no_mark())?;
                let tuple = self.tuple(count);
                self.pop_mark().and_then(|()| self.push(tuple))
            }
            b'd' => self.pop_mark().and_then(|()| self.push(Value::Mapping)),
            b'l' | 0x91 => self.pop_mark().and_then(|()| self.push(Value::Opaque)),
            // All above the mark goes into what lies below it.
            b'e' | b'u' | 0x90 => self.pop_mark().and_then(|()| self.filled(opcode == b'u')),
            b'a' => self.pop().and_then(|_| self.filled(false)),
            b's' => self.replace(2, None).and_then(|()| self.filled(true)),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let tuple = self.tuple(count);
                self.replace(count, Some(tuple))
            }
            0x98 => self.top().map(drop),
            _ => Err(PickleFault::UnknownOpcode { opcode, at: self.opcode_at as u64 }),
        }
    }

    /// Opcodes that import, or take an object from outside.
    fn import(&mut self, opcode: u8) -> Result<(), PickleFault> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let import = self.found(decode(module, Encoding::Plain), decode(name, Encoding::Plain))?;
                self.push(Value::Global(Some(import)))
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.found(decode(module, Encoding::Plain), decode(name, Encoding::Plain))?;
                self.pop_mark()?;
                self.content.calls += 1;
                self.odd();
                self.push(Value::Opaque)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let import = if let (Some(module), Some(name)) = (self.text(module), self.text(name)) {
                    Some(self.found(module, name)?)
                } else {
                    self.unresolved(Hidden::BuiltName)?;
                    None
                };
                self.push(Value::Global(import))
            }
            b'P' => {
                self.line()?;
                self.content.persistent_ids += 1;
                self.push(Value::Opaque)
            }
            b'Q' => {
                self.content.persistent_ids += 1;
                self.replace(1, Some(Value::Opaque))
            }
            _ => {
                let code = match opcode {
                    0x82 => u32::from(self.array::<1>()?[0]),
                    0x83 => u32::from(u16::from_le_bytes(self.array()?)),
                    _ => u32::from_le_bytes(self.array()?),
                };
                self.unresolved(Hidden::Extension(code))?;
                self.push(Value::Global(None))
            }
        }
    }

    /// Opcodes that call.
    fn call(&mut self, opcode: u8) -> Result<(), PickleFault> {
        match opcode {
            b'o' => {
                let mark = self.marks.last().copied().ok_or(self.no_mark())?;
                if self.stack.len() <= mark {
                    return Err(self.underflow());
                }
                self.pop_mark()?;
                self.odd();
                self.push(Value::Opaque)?;
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                // Setting attributes of an imported class or function changes it for the whole process.
                if matches!(object, Value::Global(_)) {
                    self.unresolved(Hidden::ChangedImport)?;
                }
                if !self.is_usual_state(object, state) {
                    self.odd();
                }
            }
            0x92 => {
                self.odd();
                self.replace(3, Some(Value::Opaque))?;
            }
            _ => {
                let how = if opcode == b'R' { How::Reduce } else { How::New };
                let made = self.called(how)?;
                self.push(made)?;
            }
        }
        self.content.calls += 1;
        Ok(())
    }

    /// Takes arguments and what is called off the stack, and gives what the call makes.
    fn called(&mut self, how: How) -> Result<Value, PickleFault> {
        let (arguments, called) = (self.pop()?, self.pop()?);
        if !self.is_usual_call(how, called, arguments) {
            self.odd();
        }
        Ok(match called {
            Value::Global(Some(import)) => Value::Made(import),
            _ => Value::Opaque,
        })
    }

    /// Something that files of trainers do not do; the first place is kept.
    fn odd(&mut self) {
        self.content.odd.get_or_insert(self.opcode_at as u64);
    }

    /// Things were put into what is now on top.
    fn filled(&mut self, keyed: bool) -> Result<(), PickleFault> {
        let container = self.top()?;
        if !self.takes_items(container, keyed) {
            self.odd();
        }
        Ok(())
    }

    /// The uppermost `count` objects as a tuple; they stay on the stack. Nothing is known of a long one.
    fn tuple(&mut self, count: usize) -> Value {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.fence());
        let items = from.and_then(|from| self.stack.get(from..)).filter(|items| items.len() <= MAX_TUPLE);
        match items {
            Some(items) if self.items.len() + items.len() <= MAX_KEPT => {
                let start = saturated(self.items.len());
                self.items.extend_from_slice(items);
                Value::Tuple { start, length: saturated(count) }
            }
            _ => Value::Opaque,
        }
    }

    /// Items of a tuple that is known.
    pub(super) fn items(&self, value: Value) -> Option<&[Value]> {
        let Value::Tuple { start, length } = value else { return None };
        let start = start as usize;
        self.items.get(start..start.checked_add(length as usize)?)
    }

    /// Module and name of an import.
    pub(super) fn name_of(&self, import: u32) -> Option<(&str, &str)> {
        let import = self.content.imports.get(import as usize)?;
        Some((import.module.as_str(), import.name.as_str()))
    }

    fn protocol(&mut self) -> Result<(), PickleFault> {
        let version = self.array::<1>()?[0];
        if version > MAX_PROTOCOL {
            return Err(PickleFault::Protocol { version, at: self.opcode_at as u64 });
        }
        self.content.protocol = self.content.protocol.max(version);
        Ok(())
    }

    fn number(&mut self, width: u64) -> Result<(), PickleFault> {
        self.take(width)?;
        self.push(Value::Opaque)
    }

    /// Numbers written as a line of text or with their own length.
    fn written_number(&mut self, opcode: u8) -> Result<(), PickleFault> {
        match opcode {
            0x8a => {
                let length = self.array::<1>()?[0];
                return self.number(u64::from(length));
            }
            0x8b => {
                let length = self.signed_length()?;
                return self.number(length);
            }
            _ => {}
        }
        let line = self.line()?;
        // Every spelling of a number that Python knows, with `0x` and the `L` of Python 2.
        let may_belong = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._ ".contains(byte);
        let is_number = line.iter().any(u8::is_ascii_digit) && line.iter().all(may_belong);
        if !is_number && !matches!(line, b"inf" | b"-inf" | b"nan") {
            return Err(PickleFault::Operand { what: "a number", at: self.opcode_at as u64 });
        }
        self.push(Value::Opaque)
    }

    fn string(&mut self, opcode: u8) -> Result<(), PickleFault> {
        let length = match opcode {
            b'S' | b'V' => return self.string_line(opcode),
            b'U' | b'C' | 0x8c => u64::from(self.array::<1>()?[0]),
            b'T' => self.signed_length()?,
            b'X' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let start = self.at;
        let length = self.take(length)?.len();
        self.push(Value::Text { start, length: saturated(length), encoding: Encoding::Plain })
    }

    fn string_line(&mut self, opcode: u8) -> Result<(), PickleFault> {
        let start = self.at;
        let line = self.line()?;
        if opcode == b'V' {
            return self.push(Value::Text { start, length: saturated(line.len()), encoding: Encoding::RawUnicode });
        }
        let quoted = match line {
            [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner.len(),
            _ => return Err(PickleFault::Operand { what: "a quoted string", at: self.opcode_at as u64 }),
        };
        self.push(Value::Text { start: start + 1, length: saturated(quoted), encoding: Encoding::Literal })
    }

    fn memorise(&mut self, opcode: u8) -> Result<(), PickleFault> {
        let index = match opcode {
            b'p' | b'g' => self.written_index()?,
            b'q' | b'h' => u64::from(self.array::<1>()?[0]),
            b'r' | b'j' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let at = self.opcode_at as u64;
            let value = self.memo.get(&index).copied().ok_or(PickleFault::MissingMemo { index, at })?;
            return self.push(value);
        }
        let top = self.top()?;
        if self.memo.len() >= MAX_MEMO && !self.memo.contains_key(&index) {
            return Err(self.limit("memo entries"));
        }
        self.memo.insert(index, top);
        Ok(())
    }

    fn written_index(&mut self) -> Result<u64, PickleFault> {
        let fault = PickleFault::Operand { what: "a memo index", at: self.opcode_at as u64 };
        let line = self.line()?;
        std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok()).ok_or(fault)
    }

    /// Notes an import and gives its place among them.
    fn found(&mut self, module: String, name: String) -> Result<u32, PickleFault> {
        let import = (module, name);
        if let Some(place) = self.imported.get(&import) {
            return Ok(*place);
        }
        if self.content.imports.len() >= MAX_IMPORTS {
            return Err(self.limit("imports"));
        }
        let place = saturated(self.content.imports.len());
        let (module, name) = import.clone();
        self.content.imports.push(Import { module, name, offset: self.opcode_at as u64 });
        self.imported.insert(import, place);
        Ok(place)
    }

    fn unresolved(&mut self, hidden: Hidden) -> Result<(), PickleFault> {
        if self.content.unresolved.len() >= MAX_IMPORTS {
            return Err(self.limit("unresolved imports"));
        }
        self.content.unresolved.push(Unresolved { hidden, offset: self.opcode_at as u64 });
        Ok(())
    }

    pub(super) fn text(&self, value: Value) -> Option<String> {
        let Value::Text { start, length, encoding } = value else { return None };
        let bytes = self.bytes.get(start..start.checked_add(length as usize)?)?;
        Some(decode(bytes, encoding))
    }

    /// Position below which nothing may be popped: the last mark.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn push(&mut self, value: Value) -> Result<(), PickleFault> {
        if self.stack.len() >= MAX_STACK {
            return Err(self.limit("items on the stack"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, PickleFault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Value, PickleFault> {
        let above = self.stack.get(self.fence()..).and_then(<[Value]>::last);
        above.copied().ok_or(self.underflow())
    }

    /// Pops `count` objects and pushes `result`; without a result something must be left to put them into.
    fn replace(&mut self, count: usize, result: Option<Value>) -> Result<(), PickleFault> {
        let below = self.stack.len().checked_sub(count).filter(|below| *below >= self.fence());
        self.stack.truncate(below.ok_or(self.underflow())?);
        match result {
            Some(value) => self.push(value),
            None => self.top().map(drop),
        }
    }

    fn mark(&mut self) -> Result<(), PickleFault> {
        if self.marks.len() >= MAX_STACK {
            return Err(self.limit("marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_mark(&mut self) -> Result<(), PickleFault> {
        let mark = self.marks.pop().ok_or(self.no_mark())?;
        self.stack.truncate(mark);
        Ok(())
    }

    /// POP takes the mark itself where nothing lies above it.
    fn pop_or_unmark(&mut self) -> Result<(), PickleFault> {
        if self.marks.last().is_some_and(|mark| *mark == self.stack.len()) {
            return self.pop_mark();
        }
        self.pop().map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleFault> {
        let taken = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).copied();
        let array = taken.ok_or(self.truncated())?;
        self.at += N;
        Ok(array)
    }

    /// The next `length` bytes. A length is only a claim: it is compared with what is there, never allocated.
    fn take(&mut self, length: u64) -> Result<&'a [u8], PickleFault> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(self.truncated())?;
        self.at += taken.len();
        Ok(taken)
    }

    /// The bytes up to the next line feed, which is passed over.
    fn line(&mut self) -> Result<&'a [u8], PickleFault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(self.truncated())?;
        let line = self.take(length as u64)?;
        self.at += 1;
        Ok(line)
    }

    fn signed_length(&mut self) -> Result<u64, PickleFault> {
        let length = i32::from_le_bytes(self.array()?);
        u64::try_from(length).map_err(|_| PickleFault::Operand { what: "a length", at: self.opcode_at as u64 })
    }

    fn truncated(&self) -> PickleFault {
        PickleFault::Truncated { at: self.opcode_at as u64 }
    }

    fn underflow(&self) -> PickleFault {
        PickleFault::Underflow { at: self.opcode_at as u64 }
    }

    fn no_mark(&self) -> PickleFault {
        PickleFault::NoMark { at: self.opcode_at as u64 }
    }

    fn limit(&self, what: &'static str) -> PickleFault {
        PickleFault::Limit { what, at: self.opcode_at as u64 }
    }
}

fn saturated(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
