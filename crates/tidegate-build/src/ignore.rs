//! `.gitignore` and `.tidegateignore`: which files stay behind.
//!
//! The patterns are git's. Those of `.gitignore`, in any folder, leave out what nobody commits, which is mostly what is
//! made anew; a compiled program that is meant all the same is kept by a line in `.tidegateignore`, whose patterns come
//! last and so win. Only a `!` there keeps what looks like credentials: that a file is committed does not mean that it
//! should be sent.

use std::fs;
use std::io::Read;
use std::path::Path;

/// The file's name, at the root of what is packed.
pub(crate) const FILE: &str = ".tidegateignore";

/// Git's own, in any folder.
const GIT: &str = ".gitignore";

/// Largest such file in bytes; a list of patterns is written by hand.
const MAX_FILE: u64 = 64 << 10;

/// Most patterns in force at once, since every path is compared with all of them.
const MAX_PATTERNS: usize = 5_000;

/// Left out whatever the files say, unless they name them with `!`: version control, caches, what editors and systems
/// drop.
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
    "__MACOSX",
    ".tidegateignore",
];

/// Folders that are made anew from a file beside them: the file, and the pattern.
const REBUILT: &[(&str, &str)] = &[
    ("package.json", "/node_modules/"),
    ("Cargo.toml", "/target/"),
    ("pom.xml", "/target/"),
];

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No pattern matches: packed, unless another rule says otherwise.
    Unnamed,
    /// The last matching pattern leaves it out.
    Leave,
    /// The last matching pattern of `.tidegateignore` begins with `!`: packed, even where another rule would leave it out.
    Keep,
}

/// Why a file of patterns is not understood.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// It cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// Relative to the root.
        file: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is too long.
    #[error("{file} is larger than {MAX_FILE} bytes")]
    TooLarge {
        /// Relative to the root.
        file: String,
    },
    /// There are too many together.
    #[error("{file} brings the patterns to more than {MAX_PATTERNS}")]
    TooMany {
        /// Relative to the root.
        file: String,
    },
}

/// The patterns in force while a tree is walked.
pub(crate) struct Ignore {
    /// Built in, then of the folders from the root to the one that is walked.
    found: Vec<Pattern>,
    /// Of `.tidegateignore`.
    own: Vec<Pattern>,
}

struct Pattern {
    keep: bool,
    folder_only: bool,
    /// Parts of the path of the folder that it stands in.
    below: usize,
    /// Segments from there; a pattern without an inner slash begins with [`Segment::Any`].
    segments: Vec<Segment>,
}

#[derive(Debug, PartialEq)]
enum Segment {
    /// `**`: any number of folders.
    Any,
    Name(Vec<Token>),
}

/// A piece of a name's pattern.
#[derive(Debug, PartialEq)]
enum Token {
    /// `*`
    Star,
    /// `?`
    One,
    /// `[a-z]`, or what is not in it.
    Class(bool, Vec<(char, char)>),
    Exactly(char),
}

// === impl Ignore ===

impl Ignore {
    /// The built-in patterns, and those of `.tidegateignore` in this folder, if there is one.
    pub(crate) fn read(root: &Path) -> Result<Self, IgnoreError> {
        let own = read(root, FILE, FILE)?;
        Ok(Self::parse(&own))
    }

    fn parse(own: &str) -> Self {
        Self {
            found: ALWAYS.iter().filter_map(|p| Pattern::parse(p, 0)).collect(),
            own: own.lines().filter_map(|l| Pattern::parse(l, 0)).collect(),
        }
    }

    /// Adds the patterns of a folder, whose path ends with `/` or is empty. Gives what [`Self::leave`] takes.
    pub(crate) fn enter(&mut self, folder: &Path, prefix: &str) -> Result<usize, IgnoreError> {
        let before = self.found.len();
        let below = prefix.matches('/').count();
        for (file, pattern) in REBUILT {
            if folder.join(file).is_file() {
                self.found.extend(Pattern::parse(pattern, below));
            }
        }
        let file = format!("{prefix}{GIT}");
        let text = read(folder, GIT, &file)?;
        self.add(&text, below);
        if self.found.len() > MAX_PATTERNS {
            return Err(IgnoreError::TooMany { file });
        }
        Ok(before)
    }

    /// Takes the patterns of a folder away again.
    pub(crate) fn leave(&mut self, before: usize) {
        self.found.truncate(before);
    }

    fn add(&mut self, text: &str, below: usize) {
        let patterns = text.lines().filter_map(|l| Pattern::parse(l, below));
        self.found.extend(patterns);
    }

    /// What the last matching pattern says of this path, relative to the root, with `/` between its parts.
    pub(crate) fn verdict(&self, path: &str, folder: bool) -> Verdict {
        let parts: Vec<&str> = path.split('/').collect();
        let last = |patterns: &[Pattern]| {
            let found = patterns.iter().rev().find(|p| p.matches(&parts, folder));
            found.map(|p| p.keep)
        };
        match (last(&self.own), last(&self.found)) {
            (Some(true), _) => Verdict::Keep,
            (Some(false), _) | (None, Some(false)) => Verdict::Leave,
            (None, Some(true) | None) => Verdict::Unnamed,
        }
    }
}

/// A file of patterns, or nothing where there is none.
fn read(folder: &Path, name: &str, shown: &str) -> Result<String, IgnoreError> {
    let mut bytes = Vec::new();
    let path = folder.join(name);
    // A folder or a link of that name is not what git reads either.
    if !fs::symlink_metadata(&path).is_ok_and(|m| m.is_file()) {
        return Ok(String::new());
    }
    fs::File::open(&path)
        .and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|source| IgnoreError::Read {
            file: shown.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(IgnoreError::TooLarge {
            file: shown.to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

// === impl Pattern ===

impl Pattern {
    fn parse(line: &str, below: usize) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let mut text = line.trim_end_matches(['\r', '\n']);
        // A space at the end counts only behind a backslash.
        while text.ends_with(' ') && !text.ends_with("\\ ") {
            text = &text[..text.len() - 1];
        }
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
            vec![Segment::Any]
        };
        for segment in text.split('/').filter(|s| !s.is_empty()) {
            if segment != "**" {
                segments.push(Segment::Name(tokens(segment)));
            } else if segments.last() != Some(&Segment::Any) {
                // Neighbouring `**` mean the same as one, and one keeps the matcher from trying every split between them.
                segments.push(Segment::Any);
            }
        }
        Some(Self {
            keep,
            folder_only,
            below,
            segments,
        })
    }

    fn matches(&self, parts: &[&str], folder: bool) -> bool {
        (folder || !self.folder_only)
            && parts.len() > self.below
            && segments_match(&self.segments, &parts[self.below..])
    }
}

fn tokens(segment: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = segment.chars();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => Token::Exactly(rest.next().unwrap_or('\\')),
            '[' => match class(rest.as_str()) {
                Some((token, after)) => {
                    rest = after.chars();
                    token
                }
                None => Token::Exactly('['),
            },
            c => Token::Exactly(c),
        });
    }
    tokens
}

/// The class that begins behind a `[`, and what stands after its `]`.
fn class(text: &str) -> Option<(Token, &str)> {
    let mut rest = text.chars();
    let mut next = rest.next()?;
    let negated = next == '!' || next == '^';
    if negated {
        next = rest.next()?;
    }
    let mut ranges = Vec::new();
    let mut first = true;
    // A `]` that comes first stands for itself.
    while first || next != ']' {
        first = false;
        if next == '\\' {
            next = rest.next()?;
        }
        let low = next;
        next = rest.next()?;
        let mut ahead = rest.clone();
        match (next, ahead.next()) {
            ('-', Some(high)) if high != ']' => {
                ranges.push((low, high));
                rest = ahead;
                next = rest.next()?;
            }
            _ => ranges.push((low, low)),
        }
    }
    Some((Token::Class(negated, ranges), rest.as_str()))
}

/// Whether the segments match the whole path; [`Segment::Any`] takes any number of parts.
fn segments_match(segments: &[Segment], parts: &[&str]) -> bool {
    wild(
        segments.len(),
        parts.len(),
        |s| segments[s] == Segment::Any,
        |s, p| match &segments[s] {
            Segment::Any => true,
            Segment::Name(tokens) => name_matches(tokens, parts[p]),
        },
    )
}

/// Whether a pattern matches the whole name.
fn name_matches(tokens: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    wild(
        tokens.len(),
        name.len(),
        |t| tokens[t] == Token::Star,
        |t, n| match &tokens[t] {
            Token::Star | Token::One => true,
            Token::Exactly(c) => *c == name[n],
            Token::Class(negated, ranges) => {
                ranges.iter().any(|(a, b)| (*a..=*b).contains(&name[n])) != *negated
            }
        },
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
        Ignore::parse(rules).verdict(path, folder)
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
    fn classes_and_escapes_are_gits() {
        use Verdict::{Leave, Unnamed};
        for (rules, path, expected) in [
            ("*.py[cod]", "a.pyd", Leave),
            ("*.py[cod]", "a.py", Unnamed),
            ("[!a-c]x", "dx", Leave),
            ("[!a-c]x", "bx", Unnamed),
            ("[]x]", "]", Leave),
            ("[a-]", "-", Leave),
            ("a[b", "a[b", Leave),
            ("\\#x", "#x", Leave),
            ("\\!x", "!x", Leave),
            ("x\\ ", "x ", Leave),
            ("x  ", "x", Leave),
        ] {
            assert_eq!(check(rules, path, false), expected, "{rules:?} on {path}");
        }
    }

    #[test]
    fn gits_own_files_nest_and_ours_win() {
        use Verdict::{Keep, Leave, Unnamed};
        let mut ignore = Ignore::parse("!dist\n!kept.log\n");
        ignore.add("*.log\n/dist\n.env\n!.netrc\n", 0);
        let before = ignore.found.len();
        ignore.add("!loud.log\n/build\n", 1);
        for (path, expected) in [
            ("dist", Keep),
            ("a.log", Leave),
            ("kept.log", Keep),
            ("sub/loud.log", Unnamed),
            ("sub/build", Leave),
            ("sub/deep/build", Unnamed),
            (".netrc", Unnamed),
        ] {
            assert_eq!(ignore.verdict(path, false), expected, "{path}");
        }
        ignore.leave(before);
        assert_eq!(ignore.verdict("sub/loud.log", false), Leave);
    }
}
