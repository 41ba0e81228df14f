//! Where a function is: its name, and its namespace in whichever of three ways it was said.
//!
//! A namespace stands in the body, in the query, or behind the last dot of a name. The more deliberate wins: the body over
//! the query, the query over the name; older clients send the second only, and calls the third.

use axum::extract::{FromRequestParts, Path};
use http::StatusCode;
use http::request::Parts;
use tidegate_core::FunctionRef;
use tidegate_platform::{
    DEFAULT_NAMESPACE, Error, Object, ObjectKey, Platform, StoreError, canonical_namespace,
};

use super::answer::{Answer, Params, Refusal};
use crate::lower::{API_VERSION, KIND};
use crate::shown_namespace;

/// A function's name and namespace, the latter as the platform calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A segment of a path that names something. Another than can be one is no page.
pub(super) struct Segment(pub(super) String);

/// The namespace that is meant, as the platform calls it: the default one where none is said.
pub(super) fn namespace(said: &[Option<&str>]) -> String {
    let said = said.iter().flatten().find(|word| !word.is_empty());
    canonical_namespace(said.unwrap_or(&DEFAULT_NAMESPACE)).to_owned()
}

/// Says that a namespace is not there, where it is not.
pub(super) async fn require_namespace(platform: &Platform, namespace: &str) -> Answer<()> {
    match platform.require_namespace(namespace).await {
        Err(Error::NotFound(_)) => Err(no_namespace(namespace)),
        there => Ok(there?),
    }
}

pub(super) fn no_namespace(namespace: &str) -> Refusal {
    Refusal::not_found(format!(
        "namespace {} not found",
        shown_namespace(namespace)
    ))
}

// === impl Place ===

impl Place {
    /// The place that a word names, with a namespace said elsewhere or behind its last dot.
    pub(super) fn of(word: &str, body: Option<&str>, params: &Params) -> Self {
        let (name, behind) = match word.rsplit_once('.') {
            Some((name, namespace)) => (name, Some(namespace)),
            None => (word, None),
        };
        Self {
            namespace: namespace(&[body, params.get("namespace"), behind]),
            name: name.to_owned(),
        }
    }

    /// Where it is called.
    pub(super) fn key(&self) -> FunctionRef<'_> {
        FunctionRef {
            namespace: &self.namespace,
            group: "",
            name: &self.name,
        }
    }

    /// The key of its document, if there can be one of this name.
    pub(super) fn document(&self) -> Option<ObjectKey> {
        ObjectKey::new(API_VERSION, KIND, &self.namespace, &self.name).ok()
    }

    /// Its document, if it is there and ours.
    pub(super) async fn find(&self, platform: &Platform) -> Answer<Option<Object>> {
        let Some(key) = self.document() else {
            return Ok(None);
        };
        match platform.get(&key).await {
            Err(Error::Store(StoreError::NotFound { .. })) => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    /// Its document, to change it: one that is another dialect's is refused with its name, one that is not there with 404.
    pub(super) async fn own(&self, platform: &Platform) -> Answer<Object> {
        match self.find(platform).await? {
            Some(object) => Ok(object),
            None => {
                platform
                    .require_own(self.key(), (API_VERSION, KIND))
                    .await?;
                Err(self.not_found())
            }
        }
    }

    pub(super) fn not_found(&self) -> Refusal {
        Refusal::not_found(format!(
            "function {} not found in namespace {}",
            self.name,
            shown_namespace(&self.namespace)
        ))
    }
}

// === impl Segment ===

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(word)) if word.bytes().all(allowed) => Ok(Self(word)),
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts as _;

    use super::*;

    async fn place(word: &str, body: Option<&str>, query: &str) -> String {
        let request = http::Request::get(format!("/x?{query}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        let params = match Params::from_request_parts(&mut parts, &()).await {
            Ok(params) => params,
            Err(never) => match never {},
        };
        let place = Place::of(word, body, &params);
        format!("{}/{}", place.namespace, place.name)
    }

    #[tokio::test]
    async fn a_namespace_is_said_in_three_ways_and_the_body_wins() {
        for (word, body, query, wanted) in [
            ("f", None, "", "default/f"),
            ("f", Some(""), "namespace=", "default/f"),
            ("f", Some("openfaas-fn"), "", "default/f"),
            ("f.openfaas-fn", None, "", "default/f"),
            ("f.dev", None, "", "dev/f"),
            ("f", None, "namespace=dev", "dev/f"),
            ("f", None, "namespace=dev&namespace=prod", "prod/f"),
            ("f", Some("dev"), "namespace=prod", "dev/f"),
            ("f.dev", Some("prod"), "", "prod/f"),
            ("f.dev", None, "namespace=prod", "prod/f"),
            ("a.b.dev", None, "", "dev/a.b"),
            (".dev", None, "", "dev/"),
        ] {
            assert_eq!(
                place(word, body, query).await,
                wanted,
                "{word} {body:?} {query}"
            );
        }
    }
}
