//! Variables of a stack file, put in before anything is understood.
//!
//! | written | becomes |
//! |---|---|
//! | `${NAME}` | the value; nothing where it is not set |
//! | `${NAME:-text}`, `${NAME-text}`, `${NAME:=text}`, `${NAME=text}` | the text where it is not set or empty |
//! | `$${` | `${` |
//!
//! The texts may hold variables themselves. A dollar sign without a brace is a dollar sign. Where each piece of the result
//! came from is kept, so that mistakes are told at their place in what was written, without the values of variables.

use std::ops::Range;

use tidegate_manifest::{Mistake, Mistakes};

/// Variables inside texts inside variables; deeper than anyone writes.
const MAX_DEPTH: usize = 16;

/// Longest result in bytes; several times the longest manifest.
const MAX_RESULT: usize = 4 << 20;

/// A text with its variables put in.
#[derive(Debug, Default)]
pub(super) struct Substituted {
    pub(super) text: String,
    /// Variables that became nothing because they are not set.
    pub(super) unset: Vec<String>,
    pieces: Vec<Piece>,
}

/// A part of the result, from `out` on, that stands in the file from `written` on.
#[derive(Debug)]
struct Piece {
    out: usize,
    written: usize,
    /// Whether it is as it was written, byte by byte.
    literal: bool,
}

impl Substituted {
    /// A text that has no variables.
    pub(super) fn plain(text: &str) -> Self {
        let mut plain = Self::default();
        plain.push(text, 0, true);
        plain
    }

    fn push(&mut self, text: &str, written: usize, literal: bool) {
        self.pieces.push(Piece {
            out: self.text.len(),
            written,
            literal,
        });
        self.text.push_str(text);
    }

    /// Where in the file a part of the result stands.
    pub(super) fn written(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.place(range.start);
        start..self.place(range.end).max(start)
    }

    fn place(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|p| p.out <= at);
        match after.checked_sub(1).map(|n| &self.pieces[n]) {
            Some(piece) if piece.literal => piece.written + (at - piece.out),
            Some(piece) => piece.written,
            None => 0,
        }
    }
}

/// Puts variables into the text of a file.
pub(super) fn substitute(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Substituted, Mistakes> {
    let mut result = Substituted::default();
    let mut unset = Vec::new();
    let wrong = |at: usize, message: String| {
        let mut mistakes = Mistakes::default();
        let end = text[at..].find('\n').map_or(text.len(), |n| at + n);
        mistakes.push(Mistake::at(file, text, at..end.min(at + 2), message));
        mistakes
    };
    let mut at = 0;
    while let Some(found) = text[at..].find('$') {
        let dollar = at + found;
        result.push(&text[at..dollar], at, true);
        let rest = &text[dollar..];
        if rest.starts_with("$${") {
            result.push("${", dollar + 1, true);
            at = dollar + 3;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let end = closing(inner)
                .ok_or_else(|| wrong(dollar, "\"${\" has no closing brace".to_owned()))?;
            let value = expand(&inner[..end], env, &mut unset, 0).map_err(|e| wrong(dollar, e))?;
            result.push(&value, dollar, false);
            at = dollar + 2 + end + 1;
        } else {
            result.push("$", dollar, true);
            at = dollar + 1;
        }
        if result.text.len() > MAX_RESULT {
            let most = MAX_RESULT >> 20;
            let message =
                format!("the file is longer than {most} MiB once its variables are put in");
            return Err(wrong(dollar, message));
        }
    }
    result.push(&text[at..], at, true);
    unset.sort();
    unset.dedup();
    result.unset = unset;
    Ok(result)
}

/// What stands between the braces.
fn expand(
    inner: &str,
    env: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err(format!("variables are nested more than {MAX_DEPTH} deep"));
    }
    let length = inner
        .bytes()
        .position(|b| !(b.is_ascii_alphanumeric() || b == b'_'))
        .unwrap_or(inner.len());
    let (name, rest) = inner.split_at(length);
    let malformed = || {
        let shown: String = inner.chars().take(40).collect();
        format!("\"${{{shown}}}\" is no variable; write ${{NAME}} or ${{NAME:-default}}")
    };
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(malformed());
    }
    let value = env(name);
    if rest.is_empty() {
        return Ok(value.unwrap_or_else(|| {
            unset.push(name.to_owned());
            String::new()
        }));
    }
    let default = rest.strip_prefix(':').unwrap_or(rest);
    let Some(default) = default.strip_prefix(['-', '=']) else {
        return Err(malformed());
    };
    if let Some(value) = value.filter(|v| !v.is_empty()) {
        return Ok(value);
    }
    let mut result = String::new();
    let mut left = default;
    while let Some(at) = left.find("${") {
        result.push_str(&left[..at]);
        let inner = &left[at + 2..];
        let end = closing(inner).ok_or_else(malformed)?;
        result.push_str(&expand(&inner[..end], env, unset, depth + 1)?);
        left = &inner[end + 1..];
        if result.len() > MAX_RESULT {
            return Err("the value is too long once its variables are put in".to_owned());
        }
    }
    result.push_str(left);
    Ok(result)
}

/// Where the brace closes that was opened just before.
fn closing(inner: &str) -> Option<usize> {
    let mut depth = 0usize;
    let bytes = inner.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "D" => Some("${A}".to_owned()),
            "LONG" => Some("x".repeat(1 << 20)),
            _ => None,
        }
    }

    #[test]
    fn every_form() {
        for (text, expected, unset) in [
            ("plain $A $1 100$", "plain $A $1 100$", ""),
            ("a: ${A}b", "a: oneb", ""),
            ("${X}.", ".", "X"),
            ("${X:-x}${X-x}${X:=x}${X=x}", "xxxx", ""),
            ("${EMPTY:-x}${EMPTY=x}", "xx", ""),
            ("${A:-x}${A=x}", "oneone", ""),
            ("${X:-}", "", ""),
            ("${X:-pre-${A}-post}", "pre-one-post", ""),
            ("${X:-${Y:-${A}}}", "one", ""),
            ("${X:-${Y}}", "", "Y"),
            // A value is not read for variables again.
            ("${D}", "${A}", ""),
            ("$${A} ${A}", "${A} one", ""),
            ("${X:-http://host:80/}", "http://host:80/", ""),
        ] {
            let result = substitute("f", text, &env).unwrap();
            assert_eq!(result.text, expected, "{text}");
            assert_eq!(result.unset.join(","), unset, "{text}");
        }
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, line, column, says) in [
            ("a: 1\nb: ${A", 2, 4, "\"${\" has no closing brace"),
            ("${}", 1, 1, "\"${}\" is no variable"),
            ("x ${1A}", 1, 3, "\"${1A}\" is no variable"),
            ("${A^^}", 1, 1, "\"${A^^}\" is no variable"),
            ("${X:-${A^^}}", 1, 1, "\"${A^^}\" is no variable"),
        ] {
            let mistakes = substitute("f", text, &env).unwrap_err();
            let first = &mistakes.0[0];
            assert_eq!((first.line, first.column), (line, column), "{text}");
            assert!(first.message.starts_with(says), "{text}: {first}");
        }
        let deep = format!("{}{}", "${X:-".repeat(40), "}".repeat(40));
        assert!(substitute("f", &deep, &env).is_err());
        let wide = "${LONG}".repeat(10);
        assert!(substitute("f", &wide, &env).is_err());
    }

    #[test]
    fn places_are_those_of_the_file() {
        let text = "a: ${A}\nb: $${x}\nc: d";
        let result = substitute("f", text, &env).unwrap();
        let of = |what: &str| {
            let at = result.text.find(what).unwrap();
            &text[result.written(&(at..at + what.len()))]
        };
        assert_eq!(of("c: d"), "c: d");
        assert_eq!(of("b:"), "b:");
        assert_eq!(of("one\n"), "${A}\n");
    }
}
