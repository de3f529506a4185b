//! What a file is: by its first bytes, and by its name where the bytes do not say.

use crate::pickle;
use crate::tokenizer;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Safetensors,
    Pickle,
    Npy,
    Archive,
    /// Machine code or bytecode.
    Executable,
    /// A program in source.
    Script,
    Json,
    Template,
    /// A tokenizer's file that is neither JSON nor plain text.
    Tokenizer,
    LfsPointer,
    /// Text or a picture: nothing that a loader reads.
    Harmless,
    Empty,
    Unknown,
}

/// Machine code and bytecode, by the first bytes.
const EXECUTABLE_MAGIC: [&[u8]; 8] = [
    b"\x7fELF",
    b"MZ",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\0asm",
];
const ARCHIVE_MAGIC: [&[u8]; 9] = [
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x04\x22\x4d\x18",
];
const PICTURE_MAGIC: [&[u8]; 5] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"%PDF-"];
/// Where tar keeps its magic.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");
/// How a pointer of Git's large-file storage begins.
const LFS_PREFIX: &[u8] = b"version https://git-lfs";

const SCRIPT_NAMES: [&str; 20] = [
    "py", "pyw", "pyx", "sh", "bash", "zsh", "fish", "ps1", "bat", "cmd", "js", "mjs", "ts", "rb", "pl", "lua", "php",
    "ipynb", "vbs", "jl",
];
const EXECUTABLE_NAMES: [&str; 10] = ["so", "dll", "dylib", "exe", "pyc", "pyd", "pyo", "wasm", "jar", "com"];
const PICKLE_NAMES: [&str; 9] = ["bin", "pt", "pth", "ckpt", "pkl", "pickle", "joblib", "dill", "mar"];
const ARCHIVE_NAMES: [&str; 11] = ["zip", "tar", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "npz", "whl"];
const PICTURE_NAMES: [&str; 7] = ["png", "jpg", "jpeg", "gif", "webp", "svg", "pdf"];
const TEXT_NAMES: [&str; 12] = ["md", "txt", "rst", "csv", "tsv", "jsonl", "yaml", "yml", "toml", "log", "cfg", "ini"];
/// Files without an extension that repositories hold.
const TEXT_FILES: [&str; 8] =
    ["license", "licence", "notice", "readme", ".gitattributes", ".gitignore", "copying", "authors"];

/// The extension in small letters.
pub(crate) fn extension(name: &str) -> String {
    let base = name.rsplit('/').next().unwrap_or(name);
    base.rsplit_once('.').map(|(_, extension)| extension.to_lowercase()).unwrap_or_default()
}

impl Kind {
    /// By the name alone.
    pub(crate) fn of_name(name: &str) -> Self {
        let extension = extension(name);
        let extension = extension.as_str();
        let base = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        match extension {
            _ if tokenizer::is_binary(&base) => Self::Tokenizer,
            "safetensors" => Self::Safetensors,
            "json" => Self::Json,
            "jinja" | "jinja2" | "j2" => Self::Template,
            "npy" => Self::Npy,
            _ if SCRIPT_NAMES.contains(&extension) => Self::Script,
            _ if EXECUTABLE_NAMES.contains(&extension) => Self::Executable,
            _ if PICKLE_NAMES.contains(&extension) => Self::Pickle,
            _ if ARCHIVE_NAMES.contains(&extension) => Self::Archive,
            _ if PICTURE_NAMES.contains(&extension) || TEXT_NAMES.contains(&extension) => Self::Harmless,
            _ if TEXT_FILES.contains(&base.as_str()) => Self::Harmless,
            _ => Self::Unknown,
        }
    }

    /// By its first bytes; `None` where they do not say.
    pub(crate) fn of_content(prefix: &[u8]) -> Option<Self> {
        let begins = |magic: &[&[u8]]| magic.iter().any(|magic| prefix.starts_with(magic));
        let is_tar = prefix.get(TAR_MAGIC.0..).is_some_and(|rest| rest.starts_with(TAR_MAGIC.1));
        match () {
            () if prefix.is_empty() => Some(Self::Empty),
            () if prefix.starts_with(LFS_PREFIX) => Some(Self::LfsPointer),
            () if begins(&ARCHIVE_MAGIC) || is_tar => Some(Self::Archive),
            () if looks_like_safetensors(prefix) => Some(Self::Safetensors),
            () if prefix.starts_with(b"\x93NUMPY") => Some(Self::Npy),
            () if begins(&EXECUTABLE_MAGIC) => Some(Self::Executable),
            () if prefix.starts_with(b"#!") => Some(Self::Script),
            // Before pictures: `G` is an opcode, and what follows may be the rest of the program.
            () if pickle::looks_like(prefix) => Some(Self::Pickle),
            () if is_picture(prefix) && !is_source(prefix) => Some(Self::Harmless),
            () if is_source(prefix) => Some(Self::Script),
            () => None,
        }
    }
}

/// Whether the first bytes are those of a picture or a page for print.
pub(crate) fn is_picture(prefix: &[u8]) -> bool {
    PICTURE_MAGIC.iter().any(|magic| prefix.starts_with(magic))
}

/// Whether what begins like a picture may be read as a program: the first bytes of all pictures have a zero among them,
/// which interpreters refuse. `GIF89a = 1` is Python.
fn is_source(prefix: &[u8]) -> bool {
    is_picture(prefix) && !prefix.starts_with(b"%PDF-") && !prefix.contains(&0)
}

/// A header's length that is not absurd, then a JSON object, with blanks wherever a reader of JSON takes them: readers
/// differ in what they let stand before the brace, and all take it behind.
fn looks_like_safetensors(prefix: &[u8]) -> bool {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let blanks = |bytes: &[u8]| bytes.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
    let Some((length, rest)) = prefix.split_first_chunk::<8>() else { return false };
    let length = u64::from_le_bytes(*length);
    if !(2..1 << 40).contains(&length) {
        return false;
    }
    let rest = rest.strip_prefix(BYTE_ORDER_MARK).unwrap_or(rest);
    match rest.get(blanks(rest)..) {
        Some([b'{', inner @ ..]) => match inner.get(blanks(inner)..) {
            Some([first, ..]) => matches!(first, b'"' | b'}'),
            // Blanks as far as was looked.
            _ => !inner.is_empty(),
        },
        Some([]) => rest.len() >= 64,
        _ => false,
    }
}

/// Whether bytes are readable text: UTF-8 but for a cut at the end, no control characters but blanks.
pub(crate) fn is_text(prefix: &[u8]) -> bool {
    let text = match std::str::from_utf8(prefix) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            prefix.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t' | '\u{c}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_goes_before_the_name() {
        assert_eq!(Kind::of_content(b"PK\x03\x04rest"), Some(Kind::Archive));
        assert_eq!(Kind::of_content(b"\x7fELF\x02\x01"), Some(Kind::Executable));
        assert_eq!(Kind::of_content(b"\x80\x02ccollections\nOrderedDict\n"), Some(Kind::Pickle));
        assert_eq!(Kind::of_content(b"\x08\0\0\0\0\0\0\0{\"a\":1}"), Some(Kind::Safetensors));
        assert_eq!(Kind::of_content(b"# A readme\n"), None);
    }

    #[test]
    fn tensors_are_told_by_structure() {
        let of = |header: &[u8]| Kind::of_content(&[&(header.len() as u64).to_le_bytes(), header].concat());
        let long = [b"{".as_slice(), &[b' '; 5000], b"\"a\":1}"].concat();
        let late = [[b'\n'; 5000].as_slice(), b"{\"a\":1}"].concat();
        for header in [
            b"{\"a\":1}".as_slice(),
            b"{ \"a\":1}",
            b"{\n\t\"a\":1}",
            b" {\"a\":1}",
            b"\xef\xbb\xbf{\"a\":1}",
            b"{}",
            b"{\r}",
        ] {
            assert_eq!(of(header), Some(Kind::Safetensors), "{}", header.escape_ascii());
        }
        for header in [long, late] {
            let bytes = [&(header.len() as u64).to_le_bytes(), header.as_slice()].concat();
            assert_eq!(Kind::of_content(&bytes[..4096]), Some(Kind::Safetensors));
        }
        for header in [b"[1, 2, 3]".as_slice(), b"{a: 1}", b"some text", b"   "] {
            assert_eq!(of(header), None, "{}", header.escape_ascii());
        }
        assert_eq!(Kind::of_content(b"        {\"a\": 1}"), None, "JSON behind blanks");
        assert_eq!(Kind::of_content(&[b' '; 4096]), None, "blanks alone");
    }

    #[test]
    fn what_begins_like_a_picture_is_not_always_one() {
        assert_eq!(Kind::of_content(b"GIF89a\x01\0\x01\0\x80\0\0"), Some(Kind::Harmless));
        assert_eq!(Kind::of_content(b"GIF89aaaa(cos\nsystem\nS'id'\no."), Some(Kind::Pickle));
        assert_eq!(Kind::of_content(b"GIF89a = 1\nimport os\n"), Some(Kind::Script));
        assert_eq!(Kind::of_content(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Some(Kind::Harmless));
        assert_eq!(Kind::of_content(b"%PDF-1.4\n1 0 obj\n"), Some(Kind::Harmless));
    }

    #[test]
    fn names_are_told_by_their_extension() {
        assert_eq!(Kind::of_name("a/b/Model.SAFETENSORS"), Kind::Safetensors);
        assert_eq!(Kind::of_name("LICENSE"), Kind::Harmless);
        assert_eq!(Kind::of_name("adapter_model.bin"), Kind::Pickle);
        assert_eq!(Kind::of_name("what"), Kind::Unknown);
    }

    #[test]
    fn text_may_be_cut_inside_a_character() {
        assert!(is_text(&"über".as_bytes()[..1]));
        assert!(!is_text(b"a\0b"));
        assert!(!is_text(&[0xff, 0xfe, 0x41]));
    }
}
