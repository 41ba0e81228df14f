//! `.tidegateignore`: which files stay behind.
//!
//! The patterns are git's, less character classes. Git's own `.gitignore` is deliberately not read: it names what should
//! not be *committed*, and a compiled program, the very thing to deploy, is often in it.

use std::fs;
use std::io::Read;
use std::path::Path;

/// The file's name, at the root of what is packed.
pub(crate) const FILE: &str = ".tidegateignore";

/// Largest such file in bytes; a list of patterns is written by hand.
const MAX_FILE: u64 = 64 << 10;

/// Left out whatever the file says, unless it names them with `!`: version control, caches, what editors and systems drop.
const ALWAYS: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    "*.pyc",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".venv",
    ".DS_Store",
    ".tidegateignore",
];

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No pattern matches: packed, unless another rule says otherwise.
    Unnamed,
    /// The last matching pattern leaves it out.
    Leave,
    /// The last matching pattern begins with `!`: packed, even where another rule would leave it out.
    Keep,
}

/// Why the file is not understood.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// It cannot be read.
    #[error("cannot read {FILE}")]
    Read(#[source] std::io::Error),
    /// It is too long.
    #[error("{FILE} is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// A pattern uses what is not supported.
    #[error("{FILE} line {line}: {pattern:?} has '[', which is not supported; use *, ?, ** and !")]
    Unsupported {
        /// From 1.
        line: usize,
        /// As written.
        pattern: String,
    },
}

/// The patterns in force, in order.
pub(crate) struct Ignore(Vec<Pattern>);

struct Pattern {
    keep: bool,
    folder_only: bool,
    /// Segments from the root; a pattern without an inner slash begins with `**`.
    segments: Vec<String>,
}

// === impl Ignore ===

impl Ignore {
    /// The built-in patterns, and then those of the file in this folder, if there is one.
    pub(crate) fn read(root: &Path) -> Result<Self, IgnoreError> {
        let mut text = String::new();
        match fs::File::open(root.join(FILE)) {
            Ok(file) => {
                file.take(MAX_FILE + 1)
                    .read_to_string(&mut text)
                    .map_err(IgnoreError::Read)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(IgnoreError::Read(e)),
        }
        if text.len() as u64 > MAX_FILE {
            return Err(IgnoreError::TooLarge);
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut patterns: Vec<_> = ALWAYS.iter().filter_map(|p| Pattern::parse(p)).collect();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.starts_with('#') {
                continue;
            }
            if line.contains('[') {
                return Err(IgnoreError::Unsupported {
                    line: at + 1,
                    pattern: line.chars().take(80).collect(),
                });
            }
            patterns.extend(Pattern::parse(line));
        }
        Ok(Self(patterns))
    }

    /// What the last matching pattern says of this path, relative to the root, with `/` between its parts.
    pub(crate) fn verdict(&self, path: &str, folder: bool) -> Verdict {
        let parts: Vec<&str> = path.split('/').collect();
        self.0
            .iter()
            .rev()
            .find(|p| (folder || !p.folder_only) && segments_match(&p.segments, &parts))
            .map_or(Verdict::Unnamed, |p| {
                if p.keep {
                    Verdict::Keep
                } else {
                    Verdict::Leave
                }
            })
    }
}

// === impl Pattern ===

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (keep, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (folder_only, text) = match text.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let anchored = text.contains('/');
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() {
            return None;
        }
        let mut segments = if anchored {
            Vec::new()
        } else {
            vec!["**".to_owned()]
        };
        for segment in text.split('/').filter(|s| !s.is_empty()) {
            // Neighbouring `**` mean the same as one, and one keeps the matcher from trying every split between them.
            if segment != "**" || segments.last().is_none_or(|last| last != "**") {
                segments.push(segment.to_owned());
            }
        }
        Some(Self {
            keep,
            folder_only,
            segments,
        })
    }
}

/// Whether the segments match the whole path; `**` takes any number of parts.
fn segments_match(segments: &[String], parts: &[&str]) -> bool {
    wild(
        segments.len(),
        parts.len(),
        |s| segments[s] == "**",
        |s, p| name_matches(segments[s].as_bytes(), parts[p].as_bytes()),
    )
}

/// Whether a pattern of `*` and `?` matches the whole name.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    wild(
        pattern.len(),
        name.len(),
        |p| pattern[p] == b'*',
        |p, n| pattern[p] == b'?' || pattern[p] == name[n],
    )
}

/// Wildcard matching with one point of return: on a mismatch the *last* star takes one more. Never worse than the product
/// of the two lengths, where plain recursion is exponential in the stars.
fn wild(
    patterns: usize,
    items: usize,
    star: impl Fn(usize) -> bool,
    matches: impl Fn(usize, usize) -> bool,
) -> bool {
    let (mut p, mut i, mut back) = (0, 0, None);
    while i < items {
        if p < patterns && star(p) {
            back = Some((p, i));
            p += 1;
        } else if p < patterns && matches(p, i) {
            p += 1;
            i += 1;
        } else if let Some((star_at, taken)) = back {
            back = Some((star_at, taken + 1));
            p = star_at + 1;
            i = taken + 1;
        } else {
            return false;
        }
    }
    (p..patterns).all(star)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, path: &str, folder: bool) -> Verdict {
        Ignore::parse(rules).unwrap().verdict(path, folder)
    }

    #[test]
    fn patterns_read_as_gits_do() {
        use Verdict::{Keep, Leave, Unnamed};
        for (rules, path, folder, expected) in [
            ("", "main.py", false, Unnamed),
            ("", "a/__pycache__", true, Leave),
            ("", ".git", true, Leave),
            ("*.log", "deep/down/x.log", false, Leave),
            ("*.log\n!keep.log", "keep.log", false, Keep),
            ("/build", "build", true, Leave),
            ("/build", "src/build", true, Unnamed),
            ("data/", "data", true, Leave),
            ("data/", "data", false, Unnamed),
            ("a/**/z", "a/z", false, Leave),
            ("a/**/z", "a/b/c/z", false, Leave),
            ("a/*/z", "a/b/c/z", false, Unnamed),
            ("t?st", "test", false, Leave),
            ("# a comment\n\n", "# a comment", false, Unnamed),
            ("!.DS_Store", ".DS_Store", false, Keep),
        ] {
            assert_eq!(check(rules, path, folder), expected, "{rules:?} on {path}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let rules = "*a".repeat(200) + "b";
        assert_eq!(check(&rules, &"a".repeat(1000), false), Verdict::Unnamed);
    }

    #[test]
    fn classes_are_refused_rather_than_misread() {
        let error = Ignore::parse("ok\n[ab].txt").err().unwrap().to_string();
        assert_eq!(
            error,
            ".tidegateignore line 2: \"[ab].txt\" has '[', which is not supported; use *, ?, ** and !"
        );
    }
}
