//! Questions about records and lines.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tidegate_core::{FunctionKey, InvocationId, Outcome};

use crate::Error;

/// Which records. Those that ended last come first.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only of this namespace.
    pub namespace: Option<Arc<str>>,
    /// Only of this function.
    pub function: Option<FunctionKey>,
    /// Only those that arrived at this moment or later, in microseconds since the Unix epoch.
    pub since_us: Option<u64>,
    /// Only those that arrived before this moment, in microseconds since the Unix epoch.
    pub until_us: Option<u64>,
    /// Only those that ended in one of these ways; empty for any.
    pub outcomes: Vec<Outcome>,
    /// Only those that this invocation asked for.
    pub parent: Option<InvocationId>,
    /// Only those of this trigger or event.
    pub trigger: Option<Arc<str>>,
    /// Most records of the page; 0 stands for [`MAX_PAGE`], which is also the most.
    pub limit: usize,
    /// Where an earlier page ended.
    pub after: Option<Token>,
}

/// Which lines. The newest come first.
#[derive(Clone, Debug, Default)]
pub struct LineQuery {
    /// Only of this namespace.
    pub namespace: Option<Arc<str>>,
    /// Only of this function.
    pub function: Option<FunctionKey>,
    /// Only those that arrived at this moment or later, in microseconds since the Unix epoch.
    pub since_us: Option<u64>,
    /// Only those that arrived before this moment, in microseconds since the Unix epoch.
    pub until_us: Option<u64>,
    /// Most lines of the page; 0 stands for [`MAX_PAGE`], which is also the most.
    pub limit: usize,
    /// Where an earlier page ended.
    pub after: Option<Token>,
}

/// Most entries of a page: bounds what an answer holds in memory.
pub const MAX_PAGE: usize = 1000;

/// Some of what matches.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The entries. May be fewer than were asked for, or none, with more to come: how much is read for a page is bounded.
    pub items: Vec<T>,
    /// Where the next page begins; absent at the end.
    pub next: Option<Token>,
}

/// A place between two entries. It stays valid over restarts; entries that are removed meanwhile are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Where in it the batch begins.
    pub(crate) offset: u32,
    /// So many of the batch's items, from its beginning, are still to come.
    pub(crate) items: u32,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.segment, self.offset, self.items)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (segment, rest) = text.split_once('-')?;
            let (offset, items) = rest.split_once('-')?;
            Some(Self {
                segment: u64::from_str_radix(segment, 16).ok()?,
                offset: u32::from_str_radix(offset, 16).ok()?,
                items: u32::from_str_radix(items, 16).ok()?,
            })
        };
        parse().ok_or_else(|| Error::Token {
            token: text.chars().take(64).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let token = Token {
            segment: u64::MAX,
            offset: 17,
            items: 3,
        };
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        for bad in ["", "1", "1-2", "1-2-x", "1-2-3-4", "é-1-1"] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
