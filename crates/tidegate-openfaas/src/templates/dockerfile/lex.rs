//! From a Dockerfile's text to instructions' lines, and from a line to its words.
//!
//! The rules are those of the language: a comment is a line of its own, also between the lines of one instruction; a
//! backslash at a line's end, or what the directive `escape` names, joins the next; words are split at blanks outside of
//! quotes; variables are replaced outside of single quotes.

/// One instruction's text, its lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Line {
    /// The first of them, counted from one.
    pub(in super::super) number: usize,
    /// Without comments and continuations.
    pub(in super::super) text: String,
}

/// The instructions' lines, and the character that escapes.
pub(in super::super) fn lines(text: &str) -> (Vec<Line>, char) {
    let mut escape = '\\';
    let mut found: Vec<Line> = Vec::new();
    let mut open = false;
    let mut directives = true;
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix('#') {
            if directives
                && let Some((name, value)) = comment.split_once('=')
                && name.trim().eq_ignore_ascii_case("escape")
                && value.trim() == "`"
            {
                escape = '`';
            }
            directives &= comment.contains('=');
            continue;
        }
        if trimmed.is_empty() {
            directives = false;
            continue;
        }
        directives = false;
        let kept = line.trim_end();
        let (kept, goes_on) = match kept.strip_suffix(escape) {
            Some(kept) => (kept, true),
            None => (kept, false),
        };
        match found.last_mut() {
            Some(last) if open => last.text.push_str(kept),
            _ => found.push(Line {
                number: at + 1,
                text: kept.trim_start().to_owned(),
            }),
        }
        open = goes_on;
    }
    for line in &mut found {
        line.text.truncate(line.text.trim_end().len());
    }
    found.retain(|line| !line.text.is_empty());
    (found, escape)
}

/// Splits at blanks outside of quotes. Quotes and escapes stay in the words.
pub(in super::super) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A word without its quotes and escapes, its variables replaced: `$NAME`, `${NAME}`, `${NAME:-else}`, `${NAME:+then}`.
pub(in super::super) fn expand<'a>(
    word: &str,
    escape: char,
    value: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, String> {
    expand_in(word, escape, value, 0)
}

/// Deepest nesting of a default in a default.
const MAX_NESTING: usize = 8;

fn expand_in<'a>(
    word: &str,
    escape: char,
    value: &dyn Fn(&str) -> Option<&'a str>,
    depth: usize,
) -> Result<String, String> {
    let mut said = String::new();
    let mut quote = None;
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), c) => said.push(c),
            (None, '\'' | '"') => quote = Some(c),
            (_, c) if c == escape => {
                let next = rest.chars().next();
                match (quote, next) {
                    // Within quotes an escape is only one before what would else have a meaning.
                    (Some(_), Some(n)) if n != '"' && n != '$' && n != escape => said.push(c),
                    (_, Some(n)) => {
                        said.push(n);
                        rest = &rest[n.len_utf8()..];
                    }
                    (_, None) => said.push(c),
                }
            }
            (_, '$') => {
                let (text, left) = variable(rest, escape, value, depth)?;
                said.push_str(&text);
                rest = left;
            }
            (_, c) => said.push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("the quote {open} is not closed")),
        None => Ok(said),
    }
}

fn variable<'r, 'a>(
    rest: &'r str,
    escape: char,
    value: &dyn Fn(&str) -> Option<&'a str>,
    depth: usize,
) -> Result<(String, &'r str), String> {
    let Some(braced) = rest.strip_prefix('{') else {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let (name, left) = rest.split_at(end);
        return Ok(match name {
            "" => ("$".to_owned(), left),
            name => (value(name).unwrap_or_default().to_owned(), left),
        });
    };
    let mut nested = 0_usize;
    let end = braced
        .char_indices()
        .find(|&(at, c)| match c {
            '{' if braced[..at].ends_with('$') => {
                nested += 1;
                false
            }
            '}' if nested > 0 => {
                nested -= 1;
                false
            }
            c => c == '}',
        })
        .map(|(at, _)| at)
        .ok_or("a variable's ${ is not closed")?;
    if depth >= MAX_NESTING {
        return Err(format!("variables are nested deeper than {MAX_NESTING}"));
    }
    let (inner, left) = (&braced[..end], &braced[end + 1..]);
    let name_end = inner
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(inner.len());
    let (name, modifier) = inner.split_at(name_end);
    let set = value(name);
    let text = match modifier {
        "" if !name.is_empty() => set.unwrap_or_default().to_owned(),
        _ => {
            let full = modifier.starts_with(':');
            let is_set = set.is_some_and(|v| !(full && v.is_empty()));
            let modifier = modifier.trim_start_matches(':');
            if let Some(other) = modifier.strip_prefix('-') {
                match set.filter(|_| is_set) {
                    Some(value) => value.to_owned(),
                    None => expand_in(other, escape, value, depth + 1)?,
                }
            } else if let Some(then) = modifier.strip_prefix('+') {
                if is_set {
                    expand_in(then, escape, value, depth + 1)?
                } else {
                    String::new()
                }
            } else {
                return Err(format!(
                    "${{{inner}}} is not a form of variable that is known here"
                ));
            }
        }
    };
    Ok((text, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(text: &str) -> Vec<(usize, String)> {
        lines(text)
            .0
            .into_iter()
            .map(|l| (l.number, l.text))
            .collect()
    }

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let text = "# syntax=docker/dockerfile:1\nFROM a\n\n  # note\nRUN b \\\n  # between\n\n  && c \\  \n  d\nCMD e\\";
        let expected = [(2, "FROM a"), (5, "RUN b   && c   d"), (10, "CMD e")];
        let expected: Vec<_> = expected.map(|(at, text)| (at, text.to_owned())).into();
        assert_eq!(numbered(text), expected);
        assert_eq!(numbered(""), []);
        assert_eq!(numbered("\\\n\\\n"), []);
    }

    #[test]
    fn a_directive_names_the_escape() {
        let (found, escape) = lines("# escape=`\nRUN a `\n b\\\nCMD c\n");
        assert_eq!(escape, '`');
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].text, "RUN a  b\\");
        // A comment like any other once something else was read.
        assert_eq!(lines("FROM a\n# escape=`\n").1, '\\');
        assert_eq!(lines("# a comment\n# escape=`\n").1, '\\');
    }

    #[test]
    fn words_keep_their_quotes() {
        let words = split(r#"a "b c" d\ e 'f \' g"#, '\\');
        assert_eq!(words, ["a", "\"b c\"", "d\\ e", "'f \\'", "g"]);
    }

    #[test]
    fn variables_are_replaced() {
        let value = |name: &str| match name {
            "A" => Some("x"),
            "EMPTY" => Some(""),
            _ => None,
        };
        for (word, expected) in [
            ("$A", "x"),
            ("${A}b", "xb"),
            ("$Ab", ""),
            ("a$A/b", "ax/b"),
            ("'$A'", "$A"),
            ("\"$A c\"", "x c"),
            ("\\$A", "$A"),
            ("\"\\$A \\n\"", "$A \\n"),
            ("${B:-y}", "y"),
            ("${B:-$A}", "x"),
            ("${B:-${C:-z}}", "z"),
            ("${EMPTY:-y}", "y"),
            ("${EMPTY-y}", ""),
            ("${A:+y}", "y"),
            ("${B:+y}", ""),
            ("a$", "a$"),
            ("$$", "$$"),
            ("a\\", "a\\"),
            ("\u{e4}$A\u{f6}", "\u{e4}x\u{f6}"),
        ] {
            assert_eq!(
                expand(word, '\\', &value).as_deref(),
                Ok(expected),
                "{word}"
            );
        }
        for word in ["'a", "\"a", "${A", "${A:?x}", "${}", "${A:-${B"] {
            assert!(expand(word, '\\', &value).is_err(), "{word}");
        }
        let deep = "${X:-".repeat(50) + &"}".repeat(50);
        assert!(expand(&deep, '\\', &value).is_err());
    }
}
