//! Names, and the key under which a function is found.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A DNS label (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
///
/// Names of namespaces, native functions and secrets. Dialects whose clients allow more keep the real name in their own
/// document and use a slug here. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name {name:?} {why}: a name is 1 to 63 of a-z, 0-9 and '-', and begins and ends with a letter or digit"
)]
pub struct NameError {
    name: String,
    why: &'static str,
}

/// A function's key: (namespace, group, name). The group is an app or package in the dialects that have one, else empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionKey {
    /// The unit of tenancy.
    pub namespace: Arc<str>,
    /// App (Fn, IronFunctions) or package (OpenWhisk); empty elsewhere.
    pub group: Arc<str>,
    /// The name inside namespace and group.
    pub name: Arc<str>,
}

/// A borrowed [`FunctionKey`], for look-ups that must not allocate. Hashes as the owned key does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FunctionRef<'a> {
    /// See [`FunctionKey::namespace`].
    pub namespace: &'a str,
    /// See [`FunctionKey::group`].
    pub group: &'a str,
    /// See [`FunctionKey::name`].
    pub name: &'a str,
}

// === impl Name ===

impl Name {
    /// Longest name in bytes, the limit of a DNS label.
    pub const MAX: usize = 63;

    /// Checks the rule and makes a name of it.
    ///
    /// # Errors
    /// The text breaks the rule; the error says which part and what would do.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let why = if bytes.is_empty() {
            "is empty"
        } else if bytes.len() > Self::MAX {
            "is too long"
        } else if !bytes.iter().all(|&b| alnum(b) || b == b'-') {
            "has a character that is not allowed"
        } else if !alnum(bytes[0]) || !alnum(bytes[bytes.len() - 1]) {
            "begins or ends with '-'"
        } else {
            return Ok(Self(text.into()));
        };
        Err(NameError {
            name: text.chars().take(80).collect(),
            why,
        })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    #[must_use]
    pub fn to_arc(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

// === impl FunctionKey ===

impl FunctionKey {
    /// A key without a group.
    #[must_use]
    pub fn new(namespace: &Name, name: &Name) -> Self {
        Self {
            namespace: namespace.to_arc(),
            group: Arc::from(""),
            name: name.to_arc(),
        }
    }

    /// The key, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> FunctionRef<'_> {
        FunctionRef {
            namespace: &self.namespace,
            group: &self.group,
            name: &self.name,
        }
    }
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.namespace)?;
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        f.write_str(&self.name)
    }
}

impl fmt::Debug for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_and_errors_say_which_part_broke() {
        for good in ["a", "a-b", "0", "thumbnail-2", &"x".repeat(63)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "is empty"),
            (&*"x".repeat(64), "is too long"),
            ("Upper", "not allowed"),
            ("a_b", "not allowed"),
            ("a.b", "not allowed"),
            ("-a", "begins or ends"),
            ("a-", "begins or ends"),
        ] {
            let error = Name::new(bad).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("1 to 63"),
                "{bad}: {error}"
            );
        }
    }
}
