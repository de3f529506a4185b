//! Weights in their files: memory-mapped safetensors, single or sharded, read strictly.
//!
//! A header that does not describe the file exactly (length, overlap, gap, trailing bytes, repeated key, size that does
//! not follow from dtype and shape) is refused with an error that names the tensor and the bytes; nothing that a header
//! claims is allocated before it is checked against the file. Tensors are never copied when opened: a [`Weight`] is a
//! view that widens rows to f32 on demand and can give its pages back to the system.
//!
//! Do not rewrite a file while it is mapped: the system answers a read past a new end with a signal, not an error. A
//! file of an adapter's size is read whole instead ([`SafetensorsFile::open_held`]), so that its digest is that of the
//! very bytes used.

mod error;
mod rows;
mod values;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use lcr_documents::digest::sha256;
use memmap2::{Mmap, UncheckedAdvice};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

pub use self::error::CheckpointError;

/// Longest header accepted, bytes; the limit of the reference implementation of the format.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// More dimensions than any tensor of a language model has.
const MAX_DIMENSIONS: usize = 8;

/// How an element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit float with f32's exponent.
    Bf16,
    /// Anything else the format knows: sized, listed, but not readable as weights.
    Other(&'static str, usize),
}

/// Dtypes of the format that are not weights here, with their size in bytes.
const OTHER_DTYPES: [(&str, usize); 10] = [
    ("F64", 8),
    ("I64", 8),
    ("U64", 8),
    ("I32", 4),
    ("U32", 4),
    ("I16", 2),
    ("U16", 2),
    ("I8", 1),
    ("U8", 1),
    ("BOOL", 1),
];
/// One-byte floats, listed apart because they too are weights that this program does not read.
const SMALL_FLOATS: [&str; 3] = ["F8_E4M3", "F8_E5M2", "F8_E8M0"];

impl Dtype {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            other => OTHER_DTYPES
                .iter()
                .find(|(known, _)| *known == other)
                .map(|&(known, size)| Self::Other(known, size))
                .or_else(|| SMALL_FLOATS.iter().find(|known| **known == other).map(|known| Self::Other(known, 1))),
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(_, size) => size,
        }
    }

    /// Little-endian elements as f32; those of [`Dtype::Other`] are left as they were.
    pub fn widen(self, source: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (value, raw) in out.iter_mut().zip(source.as_chunks().0) {
                    *value = f32::from_le_bytes(*raw);
                }
            }
            Self::Bf16 => {
                for (value, raw) in out.iter_mut().zip(source.as_chunks().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*raw)) << 16);
                }
            }
            Self::F16 => {
                for (value, raw) in out.iter_mut().zip(source.as_chunks().0) {
                    *value = half::f16::from_le_bytes(*raw).to_f32();
                }
            }
            Self::Other(..) => {}
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Other(name, _) => name,
        })
    }
}

/// A file's bytes.
#[derive(Debug)]
enum Content {
    Mapped(Mmap),
    Held(Vec<u8>),
}

impl std::ops::Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
struct MappedFile {
    path: PathBuf,
    map: Content,
}

impl MappedFile {
    /// SHA-256 of the bytes that tensors are read from, hexadecimal.
    fn sha256(&self) -> String {
        sha256(&self.map[..])
    }
}

/// One tensor in a mapped file. Cloning it copies no data.
#[derive(Debug, Clone)]
pub struct Weight {
    file: Arc<MappedFile>,
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Weight {
    /// Name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// File that holds it.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// How its elements are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its shape, as stored.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, little-endian, row-major.
    pub fn bytes(&self) -> &[u8] {
        self.file.map.get(self.bytes.clone()).unwrap_or(&[])
    }

    /// Widens `elements` (indices into the flattened tensor) to f32.
    ///
    /// `out` must be as long as `elements`; what lies outside the tensor is left as it was, which the shape checks of
    /// the callers exclude.
    pub fn widen(&self, elements: Range<usize>, out: &mut [f32]) {
        let size = self.dtype.size();
        let source = self.bytes().get(elements.start * size..elements.end * size).unwrap_or(&[]);
        self.dtype.widen(source, out);
    }

    /// The whole tensor, widened to f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.widen(0..self.len(), &mut values);
        values
    }

    /// Whether the file is in memory and not mapped.
    pub fn is_held(&self) -> bool {
        matches!(self.file.map, Content::Held(_))
    }

    /// SHA-256 of the whole file that holds it, as it is now: another one than when it was opened where the file is
    /// mapped and was rewritten.
    pub fn file_sha256(&self) -> String {
        self.file.sha256()
    }

    /// The first NaN or infinity and its index; none of a tensor that is not stored as floats. Nothing is kept in
    /// memory.
    pub fn first_non_finite(&self) -> Option<(usize, f32)> {
        const BLOCK: usize = 1 << 14;
        let mut values = vec![0.0; BLOCK.min(self.len())];
        for start in (0..self.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(self.len());
            values.truncate(end - start);
            self.widen(start..end, &mut values);
            if let Some((index, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Some((start + index, *value));
            }
        }
        None
    }

    /// The whole tensor, refused if any element is NaN or infinite.
    pub fn to_finite_f32(&self) -> Result<Vec<f32>, CheckpointError> {
        let values = self.to_f32();
        match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            None => Ok(values),
            Some((index, value)) => Err(self.non_finite(index, *value)),
        }
    }

    /// Refuses a tensor with a NaN or an infinity; nothing of it is kept in memory.
    pub fn check_finite(&self) -> Result<(), CheckpointError> {
        self.first_non_finite().map_or(Ok(()), |(index, value)| Err(self.non_finite(index, value)))
    }

    fn non_finite(&self, index: usize, value: f32) -> CheckpointError {
        CheckpointError::NonFinite { path: self.file.path.clone(), tensor: self.name.clone(), index, value }
    }

    /// Refuses a tensor of another shape, or one that is not stored as floats.
    pub fn expect(&self, shape: &[usize]) -> Result<(), CheckpointError> {
        if let Dtype::Other(..) = self.dtype {
            return Err(CheckpointError::NotFloat {
                path: self.file.path.clone(),
                tensor: self.name.clone(),
                dtype: self.dtype.to_string(),
            });
        }
        if self.shape == shape {
            Ok(())
        } else {
            Err(CheckpointError::Shape {
                path: self.file.path.clone(),
                tensor: self.name.clone(),
                found: self.shape.clone(),
                expected: shape.to_vec(),
            })
        }
    }

    /// Gives the tensor's pages back to the system; they are read from the file again when next needed.
    pub fn release(&self) {
        let Content::Mapped(map) = &self.file.map else { return };
        if self.bytes.is_empty() {
            return;
        }
        #[expect(
            unsafe_code,
            reason = "advice on a read-only file mapping cannot lose data: pages come back from the file"
        )]
        // SAFETY: the mapping is read-only and file-backed, so discarded pages are refilled with the same bytes; the
        // range was checked against the file when the header was read.
        let result =
            unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, self.bytes.start, self.bytes.len()) };
        if let Err(error) = result {
            tracing::debug!(tensor = self.name, %error, "pages kept");
        }
    }
}

/// One safetensors file, its header checked, its tensors mapped.
#[derive(Debug, Clone)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: Arc<MappedFile>,
    /// Tensors by name, in the order of their bytes.
    tensors: Vec<Weight>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsFile {
    /// Maps `path` and checks its header.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::open_within(path, MAX_HEADER_BYTES)
    }

    /// The same, with a header of at most `header_bytes`: what parsing it may take of memory grows with its length.
    pub fn open_within(path: &Path, header_bytes: u64) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
        let handle = std::fs::File::open(path).map_err(io)?;
        let length = handle.metadata().map_err(io)?.len();
        if length < 8 {
            return Err(truncated(path, "the header's length", 8, length));
        }
        Self::of(path, map(&handle).map_err(io)?, header_bytes)
    }

    /// The same with the bytes read into memory, where there are at most `most`, and mapped otherwise: what is read
    /// cannot change any more, whatever becomes of the file.
    pub fn open_held(path: &Path, most: u64) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_path_buf(), source };
        let mut handle = std::fs::File::open(path).map_err(io)?;
        if handle.metadata().map_err(io)?.len() > most {
            return Self::of(path, map(&handle).map_err(io)?, MAX_HEADER_BYTES);
        }
        let mut bytes = Vec::new();
        handle.by_ref().take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() < 8 {
            return Err(truncated(path, "the header's length", 8, bytes.len() as u64));
        }
        Self::of(path, Content::Held(bytes), MAX_HEADER_BYTES)
    }

    /// SHA-256 of the file's bytes as they are now, hexadecimal.
    pub fn sha256(&self) -> String {
        self.file.sha256()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.file.map.len() as u64
    }

    fn of(path: &Path, map: Content, header_bytes: u64) -> Result<Self, CheckpointError> {
        if map.starts_with(b"version https://git-lfs") {
            return Err(CheckpointError::LfsPointer { path: path.to_path_buf() });
        }
        let (header, data_start) = read_header(path, &map, header_bytes.min(MAX_HEADER_BYTES))?;
        let file = Arc::new(MappedFile { path: path.to_path_buf(), map });
        let tensors = check_tensors(&file, header.tensors, data_start)?;
        Ok(Self { path: path.to_path_buf(), file, tensors, metadata: header.metadata })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its tensors in the order of their bytes.
    pub fn tensors(&self) -> &[Weight] {
        &self.tensors
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// Maps a file.
fn map(handle: &std::fs::File) -> std::io::Result<Content> {
    #[expect(unsafe_code, reason = "mapping is what keeps a model larger than memory readable")]
    // SAFETY: the mapping is read-only; that the file must not be rewritten meanwhile is said in the module's header.
    let map = unsafe { Mmap::map(handle) }?;
    Ok(Content::Mapped(map))
}

fn truncated(path: &Path, what: &str, needed: u64, length: u64) -> CheckpointError {
    CheckpointError::Truncated { path: path.to_path_buf(), what: what.to_owned(), needed, length }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// A header's tensors in file order, and its metadata. Repeated names are an error, which a plain map would hide.
struct Header {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors by name")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
                let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("key `{name}` appears twice")));
                    }
                    if name == "__metadata__" {
                        // MLX writes null where it has nothing to say; the reference reader allows it.
                        header.metadata = map.next_value::<Option<Notes>>()?.unwrap_or_default().0;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Notes of a header; of two under one key some readers see the first and some the last.
#[derive(Default)]
struct Notes(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NotesVisitor;
        impl<'de> Visitor<'de> for NotesVisitor {
            type Value = Notes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of notes")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Notes, M::Error> {
                let mut notes = Notes::default();
                while let Some((key, note)) = map.next_entry::<String, String>()? {
                    if let Some(first) = notes.0.insert(key, note) {
                        return Err(serde::de::Error::custom(format!(
                            "two notes under one key, the first is `{first}`"
                        )));
                    }
                }
                Ok(notes)
            }
        }
        deserializer.deserialize_map(NotesVisitor)
    }
}

fn read_header(path: &Path, map: &[u8], limit: u64) -> Result<(Header, usize), CheckpointError> {
    let length = map.len() as u64;
    // Whoever opens a file has refused those that are shorter.
    let header_length = u64::from_le_bytes(map.first_chunk().copied().unwrap_or_default());
    if header_length > limit {
        return Err(CheckpointError::HeaderTooLarge { path: path.to_path_buf(), length: header_length, limit });
    }
    let end = 8 + header_length;
    let Some(text) = map.get(8..end as usize) else {
        return Err(truncated(path, "the header", end, length));
    };
    let invalid = |reason: String| CheckpointError::Header { path: path.to_path_buf(), end, reason };
    let text = std::str::from_utf8(text).map_err(|error| invalid(error.to_string()))?;
    let header = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    Ok((header, end as usize))
}

/// Checks every tensor against dtype, shape and file, and all of them against each other.
fn check_tensors(
    file: &Arc<MappedFile>,
    entries: Vec<(String, Entry)>,
    data_start: usize,
) -> Result<Vec<Weight>, CheckpointError> {
    let path = &file.path;
    let data_length = file.map.len() - data_start;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        tensors.push(check_tensor(file, name, &entry, data_start, data_length)?);
    }
    tensors.sort_by_key(|tensor| (tensor.bytes.start, tensor.bytes.end));
    let mut claimed = data_start;
    for (position, tensor) in tensors.iter().enumerate() {
        if tensor.bytes.start < claimed {
            let before = position.checked_sub(1).and_then(|before| tensors.get(before));
            let first = before.map_or(String::new(), |tensor| tensor.name.clone());
            let at = (tensor.bytes.start - data_start) as u64;
            return Err(CheckpointError::Overlap { path: path.clone(), first, second: tensor.name.clone(), at });
        }
        if tensor.bytes.start > claimed {
            return Err(unclaimed(path, claimed, tensor.bytes.start, data_start));
        }
        claimed = tensor.bytes.end;
    }
    if claimed < file.map.len() {
        return Err(unclaimed(path, claimed, file.map.len(), data_start));
    }
    Ok(tensors)
}

fn unclaimed(path: &Path, start: usize, end: usize, data_start: usize) -> CheckpointError {
    CheckpointError::Unclaimed {
        path: path.to_path_buf(),
        start: (start - data_start) as u64,
        end: (end - data_start) as u64,
    }
}

fn check_tensor(
    file: &Arc<MappedFile>,
    name: String,
    entry: &Entry,
    data_start: usize,
    data_length: usize,
) -> Result<Weight, CheckpointError> {
    let path = &file.path;
    let wrong = |reason: String| CheckpointError::Tensor { path: path.clone(), tensor: name.clone(), reason };
    let dtype = Dtype::parse(&entry.dtype).ok_or_else(|| wrong(format!("unknown dtype `{}`", entry.dtype)))?;
    if entry.shape.len() > MAX_DIMENSIONS {
        return Err(wrong(format!("{} dimensions", entry.shape.len())));
    }
    let size = entry
        .shape
        .iter()
        .try_fold(dtype.size() as u64, |bytes, &dimension| bytes.checked_mul(dimension))
        .ok_or_else(|| wrong(format!("shape {:?} overflows", entry.shape)))?;
    let [start, end] = entry.data_offsets;
    if start > end {
        return Err(wrong(format!("data_offsets run backwards: {start}..{end}")));
    }
    if end > data_length as u64 {
        let what = format!("tensor `{name}`");
        return Err(truncated(path, &what, (data_start as u64).saturating_add(end), file.map.len() as u64));
    }
    if end - start != size {
        return Err(wrong(format!(
            "{} of shape {:?} takes {size} bytes, data_offsets {start}..{end} give {}",
            entry.dtype,
            entry.shape,
            end - start
        )));
    }
    let shape = entry.shape.iter().map(|&dimension| dimension as usize).collect();
    let bytes = data_start + start as usize..data_start + end as usize;
    Ok(Weight { file: Arc::clone(file), name, dtype, shape, bytes })
}

/// All tensors of a model folder.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    tensors: BTreeMap<String, Weight>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        if !folder.is_dir() {
            return Err(CheckpointError::NotAFolder { path: folder.to_path_buf() });
        }
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let tensors = if single.is_file() {
            by_name(SafetensorsFile::open(&single)?.tensors)
        } else if index.is_file() {
            open_shards(folder, &index)?
        } else {
            return Err(CheckpointError::NoWeights { folder: folder.to_path_buf(), pickles: pickles_in(folder) });
        };
        Ok(Self { folder: folder.to_path_buf(), tensors })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tensor of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<&Weight> {
        self.tensors.get(name)
    }

    /// The tensor of that name and shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Weight, CheckpointError> {
        let weight = self.tensors.get(name).ok_or_else(|| CheckpointError::Missing {
            folder: self.folder.clone(),
            tensor: name.to_owned(),
            nearest: self.nearest(name),
        })?;
        weight.expect(shape)?;
        Ok(weight.clone())
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &Weight> {
        self.tensors.values()
    }

    /// Parameters in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|weight| weight.len() as u64).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|weight| weight.bytes.len() as u64).sum()
    }

    /// Dtypes of the tensors, joined by `+`.
    pub fn storage_dtype(&self) -> String {
        let mut names: Vec<String> = self.tensors.values().map(|weight| weight.dtype.to_string()).collect();
        names.sort();
        names.dedup();
        names.join("+")
    }

    /// A present name that ends like the one asked for.
    fn nearest(&self, name: &str) -> Option<String> {
        let tail = name.rsplit('.').take(3).collect::<Vec<_>>();
        self.tensors
            .keys()
            .max_by_key(|candidate| candidate.rsplit('.').zip(&tail).take_while(|(left, right)| left == *right).count())
            .filter(|candidate| candidate.rsplit('.').next() == tail.first().copied())
            .cloned()
    }
}

fn by_name(tensors: Vec<Weight>) -> BTreeMap<String, Weight> {
    tensors.into_iter().map(|weight| (weight.name.clone(), weight)).collect()
}

fn open_shards(folder: &Path, index: &Path) -> Result<BTreeMap<String, Weight>, CheckpointError> {
    let wrong = |reason: String| CheckpointError::Index { path: index.to_path_buf(), reason };
    let text = std::fs::read(index).map_err(|source| CheckpointError::Io { path: index.to_path_buf(), source })?;
    let parsed: ShardIndex =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("not a shard index: {error}")))?;
    let shards: std::collections::BTreeSet<&String> = parsed.weight_map.values().collect();
    let mut tensors = BTreeMap::new();
    for shard in shards {
        // An index comes from a stranger: it names files of this folder, nothing above or beside it.
        let named = matches!(Path::new(shard).components().next(), Some(Component::Normal(_)));
        let plain = named && !shard.contains(['/', '\\']);
        if !plain {
            return Err(wrong(format!("shard `{shard}` leaves the folder")));
        }
        for (name, weight) in by_name(SafetensorsFile::open(&folder.join(shard))?.tensors) {
            match parsed.weight_map.get(&name) {
                Some(expected) if expected == shard => {
                    tensors.insert(name, weight);
                }
                Some(expected) => {
                    return Err(wrong(format!("tensor `{name}` is in {shard}, the index says {expected}")));
                }
                None => return Err(wrong(format!("tensor `{name}` of {shard} is not in the index"))),
            }
        }
    }
    match parsed.weight_map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        Some((name, shard)) => Err(wrong(format!("tensor `{name}` is not in {shard}"))),
        None => Ok(tensors),
    }
}

/// Names of the pickle files in `folder`, for error messages; they are never opened.
pub(crate) fn pickles_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|end| name.ends_with(end)))
        .collect();
    names.sort();
    names
}
