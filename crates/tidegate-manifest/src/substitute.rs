//! Variables in texts, as compose files have them.
//!
//! | written | becomes |
//! |---|---|
//! | `$NAME`, `${NAME}` | the value; nothing, with a warning, where it is not set |
//! | `${NAME:-text}`, `${NAME-text}` | the text where it is not set; with the colon also where it is empty |
//! | `${NAME:+text}`, `${NAME+text}` | the text where it is set; with the colon only where it is not empty either |
//! | `${NAME:?text}`, `${NAME?text}` | a mistake that says the text where it is not set; with the colon also where it is empty |
//! | `$$` | a dollar sign |
//!
//! The texts may hold variables themselves.

/// Variables inside texts inside variables; deeper than anyone writes.
const MAX_DEPTH: usize = 16;

/// Longest result in bytes: more than a document may hold anyway.
const MAX_RESULT: usize = 256 << 10;

/// Why variables could not be put in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// A dollar sign that begins nothing.
    #[error(
        "{0:?} is no variable; write $NAME, ${{NAME}} or ${{NAME:-default}}, or $$ for a dollar sign"
    )]
    Malformed(String),
    /// A `${` without its `}`.
    #[error("{0:?} has no closing brace")]
    Open(String),
    /// A required variable that is missing.
    #[error("variable {name} is required: {message}")]
    Required {
        /// Which.
        name: String,
        /// What its text says.
        message: String,
    },
    /// See [`MAX_DEPTH`].
    #[error("variables are nested more than {MAX_DEPTH} deep")]
    Deep,
    /// See [`MAX_RESULT`].
    #[error("the text is longer than {} KiB once its variables are put in", MAX_RESULT >> 10)]
    Long,
}

/// Puts variables into a text. `unset` is told the name of every variable that became nothing because it is not set.
///
/// # Errors
/// The text is malformed, too deep or too long, or a required variable is missing.
pub fn substitute(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
) -> Result<String, SubstituteError> {
    expand(text, lookup, unset, 0)
}

/// The text such that putting variables in gives it back.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, SubstituteError> {
    if depth > MAX_DEPTH {
        return Err(SubstituteError::Deep);
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(more) = after.strip_prefix('$') {
            result.push('$');
            rest = more;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| SubstituteError::Open(excerpt(&rest[at..])))?;
            result.push_str(&braced(&inner[..end], lookup, unset, depth)?);
            rest = &inner[end + 1..];
        } else {
            let name = name(after);
            if name.is_empty() {
                return Err(SubstituteError::Malformed(excerpt(&rest[at..])));
            }
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => unset(name),
            }
            rest = &after[name.len()..];
        }
        if result.len() > MAX_RESULT {
            return Err(SubstituteError::Long);
        }
    }
    result.push_str(rest);
    if result.len() > MAX_RESULT {
        return Err(SubstituteError::Long);
    }
    Ok(result)
}

/// What stands between the braces.
fn braced(
    inner: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, SubstituteError> {
    let malformed = || SubstituteError::Malformed(excerpt(&format!("${{{inner}}}")));
    let name = name(inner);
    if name.is_empty() {
        return Err(malformed());
    }
    let rest = &inner[name.len()..];
    let value = lookup(name);
    let (colon, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let mut of = rest.chars();
    let (operator, text) = (of.next(), of.as_str());
    // With a colon, what is empty counts as not there.
    let there = value.as_ref().is_some_and(|v| !colon || !v.is_empty());
    match operator {
        None if !colon => Ok(value.unwrap_or_else(|| {
            unset(name);
            String::new()
        })),
        Some('-') if there => Ok(value.unwrap_or_default()),
        Some('+') if !there => Ok(String::new()),
        Some('-' | '+') => expand(text, lookup, unset, depth + 1),
        Some('?') if there => Ok(value.unwrap_or_default()),
        Some('?') => {
            let message = expand(text, lookup, unset, depth + 1)?;
            Err(SubstituteError::Required {
                name: name.to_owned(),
                message: if message.is_empty() {
                    "it is not set".to_owned()
                } else {
                    message
                },
            })
        }
        _ => Err(malformed()),
    }
}

/// Where the brace closes that was opened just before.
fn closing(inner: &str) -> Option<usize> {
    let mut depth = 0usize;
    let bytes = inner.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            // A doubled dollar is a dollar, and opens nothing.
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The variable's name that a text begins with.
fn name(text: &str) -> &str {
    let end = text
        .bytes()
        .enumerate()
        .find(|(at, b)| !(b.is_ascii_alphabetic() || *b == b'_' || *at > 0 && b.is_ascii_digit()))
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> (Result<String, String>, Vec<String>) {
        let lookup = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "D" => Some("$A".to_owned()),
            _ => None,
        };
        let mut unset = Vec::new();
        let result = substitute(text, &lookup, &mut |n| unset.push(n.to_owned()));
        (result.map_err(|e| e.to_string()), unset)
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A", "one"),
            ("$A-$A.", "one-one."),
            ("${A}b", "oneb"),
            ("$$A", "$A"),
            ("$$$A", "$one"),
            ("${A:-x}", "one"),
            ("${A-x}", "one"),
            ("${X:-x}", "x"),
            ("${X-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${X:-}", ""),
            ("${X:-${A}}", "one"),
            ("${X:-${Y:-deep}}", "deep"),
            ("${X:-a}b}", "ab}"),
            ("${X:-$${}", "${"),
            ("${A:+x}", "x"),
            ("${X:+x}", ""),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${A:?no}", "one"),
            ("${EMPTY?no}", ""),
            // A value is not read for variables again.
            ("$D", "$A"),
        ] {
            let (result, unset) = of(text);
            assert_eq!(result.as_deref(), Ok(expected), "{text}");
            assert_eq!(unset, [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_not_set_is_told() {
        let (result, unset) = of("a${X}b$Y");
        assert_eq!(result.as_deref(), Ok("ab"));
        assert_eq!(unset, ["X", "Y"]);
    }

    #[test]
    fn mistakes_are_told() {
        for (text, expected) in [
            ("5$", "\"$\" is no variable"),
            ("$1", "\"$1\" is no variable"),
            ("${}", "\"${}\" is no variable"),
            ("${A!}", "\"${A!}\" is no variable"),
            ("${A:}", "\"${A:}\" is no variable"),
            ("${A", "\"${A\" has no closing brace"),
            ("${X:?say who}", "variable X is required: say who"),
            ("${EMPTY:?}", "variable EMPTY is required: it is not set"),
            ("${X?for $A}", "variable X is required: for one"),
        ] {
            let told = of(text).0.unwrap_err();
            assert!(told.starts_with(expected), "{text}: {told}");
        }
        let deep = format!("{}{}", "${X:-".repeat(40), "}".repeat(40));
        assert_eq!(
            of(&deep).0.unwrap_err(),
            "variables are nested more than 16 deep"
        );
        let wide = "${LONG}".repeat(1000);
        let long = |_: &str| Some("x".repeat(1000));
        assert_eq!(
            substitute(&wide, &long, &mut |_| {}),
            Err(SubstituteError::Long)
        );
    }

    proptest! {
        #[test]
        fn an_escaped_text_comes_back(text in ".*") {
            let nothing = |_: &str| None;
            prop_assert_eq!(substitute(&escape(&text), &nothing, &mut |_| {}), Ok(text));
        }

        #[test]
        fn no_text_is_too_much(text in "[$A{}:?+\\-x]{0,40}") {
            let lookup = |name: &str| (name == "A").then(|| "v".to_owned());
            let _ = substitute(&text, &lookup, &mut |_| {});
        }

        #[test]
        fn a_set_variable_wins_over_its_default(value in "[^$]{1,20}", default in "[a-z]{0,10}") {
            let lookup = |_: &str| Some(value.clone());
            let text = format!("<${{V:-{default}}}>");
            prop_assert_eq!(substitute(&text, &lookup, &mut |_| {}), Ok(format!("<{value}>")));
        }
    }
}
