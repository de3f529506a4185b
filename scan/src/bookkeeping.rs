//! Files that tools leave in a folder and no loader reads: recognised by their content, never by the name alone.

use std::str;

use crate::kind::extension;

/// How the tag of a cache folder begins, as <https://bford.info/cachedir/> has it.
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// How the log of Weights & Biases begins.
const WANDB: &[u8] = b":W&B\xbe\xde";
/// What the first record of a TensorBoard file says, within so many bytes.
const EVENTS: &[u8] = b"brain.Event:";
const EVENTS_WITHIN: usize = 64;
/// Digits of the hashes that a download notes.
const HASHES: [usize; 2] = [40, 64];

/// Whether a file is one of them; `prefix` are its first bytes, `bytes` says how many there are.
pub(crate) fn is_known(name: &str, prefix: &[u8], bytes: u64) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    let text = || str::from_utf8(prefix).ok().filter(|text| text.len() as u64 == bytes);
    is_event_log(prefix)
        || prefix.starts_with(WANDB)
        || (base == "CACHEDIR.TAG" && prefix.starts_with(CACHE_TAG) && text().is_some())
        || (extension(base) == "metadata" && text().is_some_and(is_download_note))
        || (base == ".git" && text().is_some_and(is_git_pointer))
        || (extension(base) == "lock" && text().is_some_and(is_process))
}

/// TensorBoard's records: a length, its check sum, then an event that names the version.
fn is_event_log(prefix: &[u8]) -> bool {
    let Some((length, rest)) = prefix.split_first_chunk::<8>() else { return false };
    let first = rest.get(..EVENTS_WITHIN).unwrap_or(rest);
    u64::from_le_bytes(*length) < EVENTS_WITHIN as u64 && first.windows(EVENTS.len()).any(|window| window == EVENTS)
}

/// What `hf download` notes of a file: commit, hash, time.
fn is_download_note(text: &str) -> bool {
    let is_hash = |line: &str| HASHES.contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines: Vec<&str> = text.lines().collect();
    matches!(lines[..], [commit, etag, time] if is_hash(commit) && is_hash(etag) && time.parse::<f64>().is_ok())
}

/// Where a worktree or submodule has Git's folder.
fn is_git_pointer(text: &str) -> bool {
    text.starts_with("gitdir: ") && text.trim_end().lines().count() == 1
}

/// The number of the process that holds a lock.
fn is_process(text: &str) -> bool {
    let digits = text.trim_end();
    !digits.is_empty() && digits.len() < 12 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_known;

    fn known(name: &str, content: &[u8]) -> bool {
        is_known(name, content, content.len() as u64)
    }

    #[test]
    fn what_tools_leave_is_known_by_its_content() {
        let note = "0123456789abcdef0123456789abcdef01234567\n9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n1764460800.123\n";
        let events = b"\x18\0\0\0\0\0\0\0\x01\x02\x03\x04\x09\0\0\0\0\0\0\xd8A\x1a\x0dbrain.Event:2rest";
        let all: [(&str, &[u8]); 6] = [
            (".cache/huggingface/download/README.md.metadata", note.as_bytes()),
            (".cache/huggingface/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n"),
            ("events.out.tfevents.1700000000.host", events),
            (".lock", b"4711\n"),
            (".git", b"gitdir: ../.git/worktrees/a\n"),
            ("wandb/run-1/run-1.wandb", b":W&B\xbe\xde\0rest"),
        ];
        for (name, content) in all {
            assert!(known(name, content), "{name}");
            assert!(!known(name, b"cos\nsystem\n(S'id'\ntR."), "{name} by its name alone");
            assert!(
                !known(name, &[content, b"\xff"].concat()) || content.starts_with(b":W") || content == events,
                "{name}"
            );
        }
        assert!(!known("a.metadata", &[note.as_bytes(), b"more\n"].concat()));
        assert!(!known(".lock", b"print(1)\n"));
    }
}
