//! Names of objects, checked once at the door.
//!
//! The rules are those of the Kubernetes API, although SQLite would take anything: an object that can be stored on a
//! laptop must be storable in a cluster. Names that do not fit (spaces, capitals, 256 characters) are turned into a
//! slug by the dialect that has them, and stand unchanged inside the document.

use std::fmt;
use std::sync::Arc;

use crate::Error;

/// Longest `metadata.name`, in bytes.
const MAX_NAME: usize = 253;
/// Longest namespace, in bytes.
const MAX_NAMESPACE: usize = 63;
/// Longest kind, in bytes.
const MAX_KIND: usize = 63;
/// Longest apiVersion: a group as long as a name, a slash, a version as long as a label.
const MAX_API_VERSION: usize = MAX_NAME + 1 + 63;

/// Which object: (apiVersion, kind, namespace, name). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<Parts>);

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Parts {
    api_version: Box<str>,
    kind: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
}

impl ObjectKey {
    /// The key of these parts; an empty namespace means an object that belongs to none.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the part and its rule.
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Self, Error> {
        check_name("metadata.name", name)?;
        Self::unnamed(api_version, kind, namespace).map(|key| key.named(name))
    }

    /// A key whose name is still to be made from `generateName`.
    pub(crate) fn unnamed(api_version: &str, kind: &str, namespace: &str) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        let mut parts = api_version.split('/');
        let fits = (1..=2).contains(&api_version.split('/').count())
            && parts.all(|part| !part.is_empty() && part.bytes().all(plain));
        if !fits || api_version.len() > MAX_API_VERSION {
            return Err(Error::invalid(
                "apiVersion",
                api_version,
                "a version, or a group, a slash and a version",
            ));
        }
        if kind.is_empty()
            || kind.len() > MAX_KIND
            || !kind.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(Error::invalid("kind", kind, "1 to 63 letters and digits"));
        }
        if !namespace.is_empty() && !is_dns_label(namespace, MAX_NAMESPACE) {
            return Err(Error::invalid(
                "metadata.namespace",
                namespace,
                "up to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
            ));
        }
        Ok(Self::raw(api_version, kind, namespace, ""))
    }

    /// A key as found on disk, where it may be damaged.
    pub(crate) fn raw(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self(Arc::new(Parts {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }))
    }

    /// The same place with another name.
    pub(crate) fn named(&self, name: &str) -> Self {
        Self::raw(self.api_version(), self.kind(), self.namespace(), name)
    }

    /// Group and version, as `tidegate.dev/v1`.
    pub fn api_version(&self) -> &str {
        &self.0.api_version
    }

    /// The kind, as `Function`.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The namespace; empty if the object belongs to none.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The name; empty only in a document that waits for its `generateName`.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.api_version(), self.kind())?;
        if !self.namespace().is_empty() {
            write!(f, "{}/", self.namespace())?;
        }
        f.write_str(self.name())
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectKey({self})")
    }
}

/// Checks an object's name, or the whole of a generated one.
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), Error> {
    if name.len() <= MAX_NAME && name.split('.').all(|label| is_dns_label(label, MAX_NAME)) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        name,
        "1 to 253 lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit",
    ))
}

fn is_dns_label(text: &str, max: usize) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= max
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_each_part() {
        let ok = |a: &str, k: &str, ns: &str, n: &str| ObjectKey::new(a, k, ns, n).is_ok();
        assert!(ok("v1", "Secret", "default", "a"));
        assert!(ok("tidegate.dev/v1", "Function", "", "a.b-c.9"));
        assert!(ok("v1", "Secret", "default", &"a".repeat(253)));
        for name in [
            "",
            "A",
            "a b",
            "a/b",
            "-a",
            "a-",
            ".a",
            "a.",
            "a..b",
            "ä",
            &"a".repeat(254),
        ] {
            assert!(!ok("v1", "Secret", "default", name), "{name:?}");
        }
        for namespace in ["A", "a.b", "_", "-", &"a".repeat(64)] {
            assert!(!ok("v1", "Secret", namespace, "a"), "{namespace:?}");
        }
        for api_version in ["", "/v1", "a/", "a/b/c", "a b"] {
            assert!(
                !ok(api_version, "Secret", "default", "a"),
                "{api_version:?}"
            );
        }
        for kind in ["", "a/b", "a b", &"a".repeat(64)] {
            assert!(!ok("v1", kind, "default", "a"), "{kind:?}");
        }
    }

    #[test]
    fn messages_name_value_and_rule() {
        let error = ObjectKey::new("v1", "Secret", "default", "Big Name")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("metadata.name is \"Big Name\"; expected 1 to 253 lower-case"),
            "{error}"
        );
    }
}
