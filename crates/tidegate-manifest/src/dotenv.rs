//! Files of variables: `.env` beside a manifest, or the one that is named.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::substitute::{SubstituteError, substitute};

/// Largest file of variables in bytes; an environment has to fit into a process.
pub const MAX_ENV_FILE: u64 = 256 << 10;

/// Why a file of variables cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DotenvError {
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// See [`MAX_ENV_FILE`].
    #[error("{} is larger than {} KiB", .0.display(), MAX_ENV_FILE >> 10)]
    Large(PathBuf),
    /// A line is not understood.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads a file of variables over those that are known.
pub(crate) fn read(
    path: &Path,
    known: &dyn Fn(&str) -> Option<String>,
    into: &mut BTreeMap<String, String>,
) -> Result<(), DotenvError> {
    let failed = |source| DotenvError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|f| f.take(MAX_ENV_FILE + 1).read_to_string(&mut text))
        .map_err(failed)?;
    if text.len() as u64 > MAX_ENV_FILE {
        return Err(DotenvError::Large(path.to_owned()));
    }
    parse(&text, known, into).map_err(|(line, why)| DotenvError::Line {
        path: path.to_owned(),
        line,
        why,
    })
}

/// `NAME=VALUE` lines with comments, `export`, and quotes over as many lines as they take. Variables are put in outside
/// single quotes: those of the environment, and those of the lines above.
fn parse(
    text: &str,
    known: &dyn Fn(&str) -> Option<String>,
    into: &mut BTreeMap<String, String>,
) -> Result<(), (usize, String)> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let (this, _) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = this.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = &rest[(this.len() + 1).min(rest.len())..];
            line += 1;
            continue;
        }
        let fail = |why: String| (line, why);
        let (name, value) = this
            .split_once('=')
            .ok_or_else(|| fail(format!("{trimmed:?} is not NAME=VALUE")))?;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim_start();
        check_name(name).map_err(fail)?;
        let from = this.len() - value.len();
        let after = &rest[from..];
        let lead = after.len() - after.trim_start_matches([' ', '\t']).len();
        let after = &after[lead..];
        let (raw, quote, used) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let (raw, length) = quoted(after, quote)
                    .ok_or_else(|| fail(format!("the quoted value of {name} does not end")))?;
                let tail = after[length..].split('\n').next().unwrap_or("");
                let comment = tail.trim();
                if !comment.is_empty() && !comment.starts_with('#') {
                    return Err(fail(format!(
                        "the value of {name} goes on after its closing quote"
                    )));
                }
                (raw, Some(quote), length + tail.len())
            }
            _ => {
                let tail = after.split('\n').next().unwrap_or("");
                let value = tail.split(" #").next().unwrap_or("").trim();
                let value = if value.starts_with('#') { "" } else { value };
                (value.to_owned(), None, tail.len())
            }
        };
        let value = if quote == Some('\'') {
            raw
        } else {
            let lookup = |n: &str| known(n).or_else(|| into.get(n).cloned());
            // Within double quotes a backslash makes a dollar sign one.
            let raw = match quote {
                Some(_) => raw.replace("\\$", "$$"),
                None => raw,
            };
            put_in(&raw, &lookup).map_err(|e| fail(e.to_string()))?
        };
        let value = if quote == Some('"') {
            unescape(&value)
        } else {
            value
        };
        let consumed = from + lead + used;
        line += rest[..consumed].matches('\n').count() + 1;
        into.insert(name.to_owned(), value);
        rest = &rest[(consumed + 1).min(rest.len())..];
    }
    Ok(())
}

/// A dollar that begins no variable is one, in these files.
fn put_in(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, SubstituteError> {
    match substitute(text, lookup, &mut |_| {}) {
        Err(SubstituteError::Malformed(_)) => Ok(text.to_owned()),
        other => other,
    }
}

/// What stands between quotes, and how many bytes they took with it.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return Some((text[1..at].to_owned(), at + 1));
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some('t') => result.push('\t'),
            Some(c @ ('"' | '\\' | '$')) => result.push(c),
            Some(other) => result.extend(['\\', other]),
            None => result.push('\\'),
        }
    }
    result
}

fn check_name(name: &str) -> Result<(), String> {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if letters && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(())
    } else {
        Err(format!(
            "variable {name:?} is not letters, digits and '_', beginning with no digit"
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<BTreeMap<String, String>, (usize, String)> {
        let known = |name: &str| (name == "HOST").then(|| "host".to_owned());
        let mut into = BTreeMap::new();
        parse(text, &known, &mut into).map(|()| into)
    }

    #[test]
    fn every_form_of_a_line() {
        let text = "# comment\nA=1\nexport B=\"two words\" # said\n\nC='x=$A'\nD=\"\\$A\"\nE=$A-${HOST}-${NO:-d} # c\n\
                    F=\"first\nsecond \\\"q\\\" \\n\"\nG = spaced \r\nH=5$\nI=#none\nJ=a#b";
        let read = of(text).unwrap();
        let shown: Vec<String> = read.iter().map(|(n, v)| format!("{n}:{v}")).collect();
        assert_eq!(
            shown,
            [
                "A:1",
                "B:two words",
                "C:x=$A",
                "D:$A",
                "E:1-host-d",
                "F:first\nsecond \"q\" \n",
                "G:spaced",
                "H:5$",
                "I:",
                "J:a#b"
            ]
        );
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, line, expected) in [
            ("A=1\nnothing", 2, "is not NAME=VALUE"),
            ("1A=1", 1, "is not letters"),
            ("A=\"x\ny\"\nB='open", 3, "does not end"),
            ("A=\"x\" y", 1, "goes on after"),
            ("A=${X:?tell}", 1, "variable X is required: tell"),
        ] {
            let (at, why) = of(text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_file_is_too_much(text in "[A=\"'\\\\ #$\n{}x]{0,60}") {
            let _ = of(&text);
        }

        #[test]
        fn single_quotes_keep_what_they_hold(value in "[^']{0,40}") {
            let read = of(&format!("A='{value}'\nB=1")).unwrap();
            prop_assert_eq!(&read["A"], &value);
            prop_assert_eq!(&read["B"], "1");
        }
    }
}
