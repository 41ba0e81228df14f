//! Resource versions: which commit of the store an object or a list shows.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A commit of the store, counted from 1 over all objects. Written as a decimal string in documents.
///
/// Versions of one store can be ordered; those of different stores have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceVersion(u64);

impl ResourceVersion {
    /// The version with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the commit.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ResourceVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // `u64` would take a leading plus sign, which no store ever writes.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Self(number)),
            _ => Err(Error::invalid(
                "resourceVersion",
                text,
                "a decimal number this store gave out",
            )),
        }
    }
}
