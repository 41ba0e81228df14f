//! Which objects a list or a watch is about, and a page of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Error, LabelSelector, Object, ObjectKey, ResourceVersion};

/// Most objects on one page, whatever the caller asks for.
pub const MAX_PAGE_ITEMS: usize = 1000;
/// A page ends early when its documents reach this many bytes of JSON, so that large objects do not fill memory.
pub const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// Longest continue token that is read, in bytes: longer than any this store gives out.
const MAX_TOKEN_BYTES: usize = 2048;

/// Chooses objects: all parts must fit, and a part not given fits everything. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub(crate) api_version: Option<Arc<str>>,
    pub(crate) kind: Option<Arc<str>>,
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) name_prefix: Option<Arc<str>>,
    pub(crate) labels: Arc<LabelSelector>,
}

impl Query {
    /// All objects of the store.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The objects of one kind.
    pub fn kind(api_version: &str, kind: &str) -> Self {
        Self {
            api_version: Some(api_version.into()),
            kind: Some(kind.into()),
            ..Self::default()
        }
    }

    /// Only those in this namespace; the empty one holds the objects that belong to none.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only those whose names begin so; found by the index, however many others there are.
    #[must_use]
    pub fn name_prefix(mut self, prefix: &str) -> Self {
        self.name_prefix = Some(prefix.into());
        self
    }

    /// Only those with these labels.
    #[must_use]
    pub fn labels(mut self, labels: LabelSelector) -> Self {
        self.labels = Arc::new(labels);
        self
    }

    /// Whether the parts other than labels fit.
    pub(crate) fn covers(&self, key: &ObjectKey) -> bool {
        let fits = |wanted: &Option<Arc<str>>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        fits(&self.api_version, key.api_version())
            && fits(&self.kind, key.kind())
            && fits(&self.namespace, key.namespace())
            && self
                .name_prefix
                .as_deref()
                .is_none_or(|prefix| key.name().starts_with(prefix))
    }
}

/// Some of the objects asked for, ordered by apiVersion, kind, namespace and name.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects.
    pub items: Vec<Object>,
    /// Objects that belong here but are damaged on disk.
    pub damaged: Vec<ObjectKey>,
    /// Where a watch must start to miss nothing: the version of the *first* page of this list. Later pages may show
    /// newer objects, which a watch from here then reports once more.
    pub resource_version: ResourceVersion,
    /// Gives the next page; none on the last.
    pub next: Option<String>,
}

/// Where a list goes on.
#[derive(Debug, PartialEq)]
pub(crate) struct Continue {
    pub(crate) version: u64,
    pub(crate) after: ObjectKey,
}

impl Continue {
    pub(crate) fn encode(&self) -> String {
        let key = &self.after;
        let parts = (
            self.version,
            key.api_version(),
            key.kind(),
            key.namespace(),
            key.name(),
        );
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&parts).expect("numbers and strings are JSON"))
    }

    pub(crate) fn decode(token: &str) -> Result<Self, Error> {
        let refused =
            || Error::invalid("continue", token, "the token of the page before, unchanged");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refused())?;
        let (version, api_version, kind, namespace, name): (u64, String, String, String, String) =
            serde_json::from_slice(&bytes).map_err(|_| refused())?;
        Ok(Self {
            version,
            after: ObjectKey::raw(&api_version, &kind, &namespace, &name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_foreign_ones_are_refused() {
        let key = ObjectKey::new("tidegate.dev/v1", "Function", "default", "a").unwrap();
        let token = Continue {
            version: 42,
            after: key,
        };
        assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
        for foreign in ["", "%%%", "e30", &"A".repeat(5000)] {
            assert!(
                matches!(Continue::decode(foreign), Err(Error::Invalid { .. })),
                "{foreign}"
            );
        }
    }
}
