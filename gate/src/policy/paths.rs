//! Patterns of a policy, and where an adapter stands for them.
//!
//! A path can be written in many ways and lead through links; a section of the policy is about a place. So a path is
//! made relative to the policy's folder with all links resolved. Where that is another place than the one that was
//! written, both count, and the strictest of the two settings holds.

use std::path::{Component, Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher};
use lcr_documents::characters::{is_deceptive, visible};

/// Characters of a pattern.
const LONGEST: usize = 1_000;
/// Braces and commas of a pattern: each is an alternative to try.
const MOST_ALTERNATIVES: usize = 64;
/// Patterns of a policy, and characters of all of them: each is compiled and kept.
const MOST_PATTERNS: usize = 4_000;
const MOST_CHARACTERS: usize = 400_000;

/// Compiles the patterns of one policy, within bounds.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    count: usize,
    characters: usize,
}

impl Patterns {
    /// A pattern in which `*` and `?` stop at `/`; a mistake is noted.
    pub(super) fn compile(&mut self, field: &str, pattern: &str, problems: &mut Vec<String>) -> Option<GlobMatcher> {
        self.count += 1;
        self.characters += pattern.len();
        let alternatives = pattern.matches(['{', ',']).count();
        let problem = if pattern.len() > LONGEST {
            format!("{field}: a pattern of {} bytes, more than {LONGEST}", pattern.len())
        } else if alternatives > MOST_ALTERNATIVES {
            format!("{field}: `{}` has more than {MOST_ALTERNATIVES} alternatives", visible(pattern))
        } else if self.count > MOST_PATTERNS || self.characters > MOST_CHARACTERS {
            if self.count > MOST_PATTERNS + 1 {
                return None;
            }
            self.count = MOST_PATTERNS + 1;
            format!("{field}: more than {MOST_PATTERNS} patterns, or {MOST_CHARACTERS} bytes of them, in one policy")
        } else {
            match glob(pattern) {
                Ok(glob) => return Some(glob.compile_matcher()),
                Err(error) => format!("{field}: `{}` is not a pattern: {}", visible(pattern), error.kind()),
            }
        };
        problems.push(problem);
        None
    }

    /// The patterns of a list, if there is one.
    pub(super) fn list(
        &mut self,
        field: &str,
        list: Option<&Vec<String>>,
        problems: &mut Vec<String>,
    ) -> Option<Vec<GlobMatcher>> {
        Some(list?.iter().filter_map(|pattern| self.compile(field, pattern, problems)).collect())
    }
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// Whether a name, such as that of a base or of a revision, is on a list. One that climbs (`..`), that hides characters
/// or escapes them is on none, and what is not ASCII must stand in the pattern itself: a star does not vouch for a
/// look-alike.
pub(super) fn names_match(patterns: &[GlobMatcher], name: &str) -> bool {
    let odd = |character: char| is_deceptive(character) || matches!(character, '\\' | '%' | '?' | '#');
    let inner = name.strip_prefix('/').unwrap_or(name);
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.trim() == part;
    if name.chars().any(odd) || !inner.split('/').all(is_part) {
        return false;
    }
    patterns.iter().any(|pattern| {
        let written = pattern.glob().glob();
        let vouched = name.chars().all(|character| character.is_ascii() || written.contains(character));
        vouched && pattern.is_match(name)
    })
}

/// A place that a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Relative to the policy's folder, or else to the folder that the program runs in; none where it lies in neither.
    below: Option<PathBuf>,
    absolute: PathBuf,
}

impl Place {
    /// Whether a pattern names it. One that begins with `/` is of the whole path.
    pub(super) fn is_named_by(&self, pattern: &GlobMatcher) -> bool {
        let is_absolute = pattern.glob().glob().starts_with('/');
        let below = self.below.as_ref().filter(|_| !is_absolute);
        pattern.is_match(below.unwrap_or(&self.absolute))
    }
}

/// The places that a path leads to: the one that it is written as, and the one that its links end at.
pub(super) fn places(path: &Path, folder: Option<&Path>) -> Vec<Place> {
    let here = std::env::current_dir().ok();
    let written = without_climbing(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let resolved = resolved(&written, path);
    let roots = [folder, here.as_deref()];
    let place = |path: PathBuf| {
        let below = roots.iter().flatten().find_map(|root| path.strip_prefix(root).ok().map(Path::to_owned));
        let below = below.map(|below| if below.as_os_str().is_empty() { PathBuf::from(".") } else { below });
        Place { below, absolute: path }
    };
    let (resolved, written) = (place(resolved), place(written));
    // Another way into the same folder, such as a link above it, is no place of its own.
    if resolved == written || (resolved.below.is_some() && written.below.is_none()) {
        return vec![resolved];
    }
    vec![resolved, written]
}

/// The path with every link in it followed, as far as it exists.
fn resolved(written: &Path, given: &Path) -> PathBuf {
    if let Ok(path) = given.canonicalize() {
        return path;
    }
    let mut rest = Vec::new();
    for existing in written.ancestors() {
        if let Ok(path) = existing.canonicalize() {
            return rest.iter().rev().fold(path, |path, name| path.join(name));
        }
        rest.extend(existing.file_name().map(ToOwned::to_owned));
    }
    written.to_owned()
}

/// The path without `.`, and with each `..` taken back, as text: links are not looked at.
fn without_climbing(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_listed(pattern: &str, name: &str) -> bool {
        let mut problems = Vec::new();
        let matcher = Patterns::default().compile("test", pattern, &mut problems).expect("a pattern");
        names_match(&[matcher], name)
    }

    #[test]
    fn a_star_stops_at_a_slash_and_vouches_for_nothing_odd() {
        for (pattern, name) in [
            ("Qwen/*", "Qwen/Qwen3-0.6B"),
            ("Qwen/Qwen3-{0.6B,4B}", "Qwen/Qwen3-4B"),
            ("/models/*", "/models/nano"),
            ("**", "any/base"),
            ("日本/*", "日本/base"),
        ] {
            assert!(is_listed(pattern, name), "{name} under {pattern}");
        }
        for (pattern, name) in [
            ("Qwen/*", "Qwen/../evil/base"),
            ("Qwen/**", "Qwen/../evil/base"),
            ("Qwen/**", "Qwen/./../evil"),
            ("Qwen/*", "Qwen/sub/base"),
            ("Qwen/**", "Qwen//base"),
            ("Qwen/*", "Qwen/.."),
            ("Qwen/*", "Qwen/"),
            ("Qwen/*", "Qwen/a\\..\\..\\evil"),
            ("Qwen/*", "Qwen/%2e%2e%2fevil"),
            ("Qwen/*", "Qwen/base\u{200b}"),
            ("Qwen/*", "Qwen/ base"),
            ("Qwen/*", "qwen/base"),
            ("Q*/base", "Qw\u{435}n/base"),
            ("**", "Qw\u{435}n/base"),
            ("**", ""),
            ("**", ".."),
        ] {
            assert!(!is_listed(pattern, name), "{name:?} under {pattern}");
        }
    }

    #[test]
    fn patterns_are_bounded() {
        let mut problems = Vec::new();
        let mut patterns = Patterns::default();
        assert!(patterns.compile("f", &"{a,b}".repeat(32), &mut problems).is_some());
        assert!(patterns.compile("f", &"{a,b}".repeat(33), &mut problems).is_none());
        assert!(patterns.compile("f", &"a".repeat(1_001), &mut problems).is_none());
        assert!(patterns.compile("f", "[", &mut problems).is_none());
        assert_eq!(problems.len(), 3, "{problems:?}");
        for _ in 0..2 * MOST_PATTERNS {
            patterns.compile("f", "a*", &mut problems);
        }
        assert_eq!(problems.len(), 4, "{}", problems.last().expect("a problem"));
    }

    #[test]
    fn every_way_to_write_a_path_is_one_place() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("resolved");
        for folder in ["prod/x", "exp/y", "elsewhere/z"] {
            std::fs::create_dir_all(root.join("repository").join(folder)).expect("created");
        }
        std::fs::rename(root.join("repository/elsewhere"), root.join("elsewhere")).expect("moved");
        let repository = root.join("repository");
        std::os::unix::fs::symlink("prod", repository.join("p2")).expect("linked");
        std::os::unix::fs::symlink(&repository, root.join("checkout")).expect("linked");
        std::os::unix::fs::symlink(root.join("elsewhere/z"), repository.join("exp/z")).expect("linked");
        let of = |path: &str| -> Vec<String> {
            let places = places(&root.join(path), Some(&repository));
            places.iter().map(|place| place.below.as_ref().unwrap_or(&place.absolute).display().to_string()).collect()
        };
        let written = ["", "./", "exp/../", "prod/../", "prod/./../"].map(|way| format!("repository/{way}prod/x"));
        for path in written.iter().map(String::as_str).chain(["repository//prod//x/", "checkout/prod/x"]) {
            assert_eq!(of(path), ["prod/x"], "{path}");
        }
        assert_eq!(of("repository/p2/x"), ["prod/x", "p2/x"]);
        assert_eq!(of("repository/p2/gone"), ["prod/gone", "p2/gone"]);
        assert_eq!(of("repository"), ["."]);
        let outside = root.join("elsewhere/z").display().to_string();
        assert_eq!(of("elsewhere/z"), std::slice::from_ref(&outside));
        assert_eq!(of("repository/exp/z"), [outside, "exp/z".to_owned()]);
        let is_named = |pattern: &str, path: &str| {
            let matcher = glob(pattern).expect("a pattern").compile_matcher();
            places(&root.join(path), Some(&repository)).iter().any(|place| place.is_named_by(&matcher))
        };
        let whole = format!("{}/**", repository.join("prod").display());
        assert!(is_named(&whole, "repository/p2/x") && !is_named(&whole, "repository/exp/y"));
        assert!(is_named("prod/*", "repository/p2/x") && !is_named("repository/**", "repository/prod/x"));
    }
}
