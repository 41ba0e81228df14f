//! Which of a manifest's functions are meant.

use regex::RegexBuilder;

use super::How;
use crate::error::{Error, Result};

/// Most memory that a compiled expression may take, in bytes: names are short, and so is what finds them.
const MAX_COMPILED: usize = 1 << 20;

/// See the module.
pub(super) enum Filter<'a> {
    All,
    /// `*` stands for any text.
    Glob(&'a str),
    Regex(regex::Regex),
}

impl<'a> Filter<'a> {
    pub(super) fn of(how: &'a How) -> Result<Self> {
        Ok(match (&how.filter, &how.regex) {
            (Some(glob), _) => Self::Glob(glob),
            (None, Some(text)) => Self::Regex(
                RegexBuilder::new(text)
                    .size_limit(MAX_COMPILED)
                    .build()
                    .map_err(|e| {
                        let told = e.to_string();
                        let why = told.lines().last().unwrap_or_default().trim().to_owned();
                        Error::usage(format!("--regex {text:?} is no regular expression: {why}"))
                    })?,
            ),
            (None, None) => Self::All,
        })
    }

    pub(super) fn takes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Glob(glob) => matches(glob, name),
            Self::Regex(regex) => regex.is_match(name),
        }
    }

    /// A filter that takes nothing is a mistake; a manifest without functions is none.
    pub(super) fn found_nothing(&self) -> Result {
        let what = match self {
            Self::All => return Ok(()),
            Self::Glob(glob) => format!("--filter {glob:?}"),
            Self::Regex(regex) => format!("--regex {:?}", regex.as_str()),
        };
        Err(Error::usage(format!("no function matches {what}")))
    }
}

fn matches(glob: &str, name: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == name;
    };
    let Some(mut left) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // The first place is as good as any, since what comes after can begin nowhere earlier.
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (glob, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*b", "ab", true),
            ("*b", "ba", false),
            ("a*b*c", "axbyc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*-*", "shop-cart", true),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn expressions_are_found_anywhere() {
        let how = |text: &str| How {
            regex: Some(text.to_owned()),
            ..How::default()
        };
        let yes = how("art$");
        assert!(Filter::of(&yes).is_ok_and(|f| f.takes("shop-cart") && !f.takes("artist")));
        for wrong in ["(", "a{1000}{1000}{1000}"] {
            assert!(Filter::of(&how(wrong)).is_err(), "{wrong}");
        }
    }
}
