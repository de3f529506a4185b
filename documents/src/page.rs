//! THE content policy of the pages that are written: should an escape of a stranger's text ever be missed, nothing
//! comes of it.

use sha2::{Digest, Sha256};

/// The policy of a page with one style sheet and one script, both inline: these two texts are obeyed and no other, nor
/// any style attribute or handler, and nothing can be loaded, sent or framed. It holds no character that an attribute
/// in double quotes would need escaped.
pub fn content_policy(style: &str, script: &str) -> String {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        source(style),
        source(script)
    )
}

/// The source expression by which a policy knows an inline text.
fn source(content: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(content.as_bytes())))
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    let mut spelled = String::new();
    for chunk in bytes.chunks(3) {
        let joined =
            (0..3).fold(0_u32, |joined, index| joined << 8 | u32::from(chunk.get(index).copied().unwrap_or(0)));
        for index in 0..4 {
            let six = (joined >> (18 - 6 * index) & 63) as u8;
            spelled.push(match six {
                _ if index > chunk.len() => '=',
                0..=25 => char::from(b'A' + six),
                26..=51 => char::from(b'a' + six - 26),
                52..=61 => char::from(b'0' + six - 52),
                62 => '+',
                _ => '/',
            });
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_standard() {
        for (bytes, spelled) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), spelled);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    /// The digest of the example of Content Security Policy Level 3, section 6.7.2.
    #[test]
    fn inline_texts_are_known_as_browsers_compute_them() {
        assert_eq!(source("alert('Hello, world.');"), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
        assert!(!content_policy("a", "b").contains(['"', '<', '&']));
    }
}
