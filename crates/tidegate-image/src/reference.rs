//! Names of images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ImageDigest;

/// Where names without a registry are looked for.
const USUAL_REGISTRY: &str = "docker.io";
/// What names without a folder have before them there.
const USUAL_FOLDER: &str = "library/";
/// What names without a tag stand for.
const USUAL_TAG: &str = "latest";
/// Longest repository with its registry, in bytes, as the distribution specification has it.
const MAX_NAME: usize = 255;
/// Longest tag in bytes, likewise.
const MAX_TAG: usize = 128;

/// The full name of an image: `registry/repository:tag`, `registry/repository@digest`, or with both, of which the digest
/// counts.
///
/// Read as other tools read it: `alpine` is `docker.io/library/alpine:latest`, and the first part is a registry where it has
/// a point or a port, or is `localhost`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<ImageDigest>,
}

/// A name in a form that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("image name {name:?} {why}")]
pub struct ReferenceError {
    name: String,
    why: &'static str,
}

impl Reference {
    /// Host, and port where it was given: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where there is one; without a digest there is.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where the name has one.
    #[must_use]
    pub fn digest(&self) -> Option<&ImageDigest> {
        self.digest.as_ref()
    }

    /// The same repository at a digest, whatever tag it had.
    #[must_use]
    pub fn at(&self, digest: &ImageDigest) -> Self {
        Self {
            tag: None,
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }

    /// What the registry is asked for: the digest, or else the tag.
    pub(crate) fn wanted(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => USUAL_TAG,
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |why| ReferenceError {
            name: text.chars().take(300).collect(),
            why,
        };
        if text.is_empty() {
            return Err(refuse("is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| refuse("has a digest that is not sha256: and 64 digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(refuse(
                "has a tag that is not letters, digits, '_', '.' and '-', at most 128",
            ));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (USUAL_REGISTRY, path),
        };
        // The older names of the same registry.
        let registry = match registry.to_ascii_lowercase().as_str() {
            "index.docker.io" | "registry-1.docker.io" => USUAL_REGISTRY.to_owned(),
            other => other.to_owned(),
        };
        if !is_host(&registry) {
            return Err(refuse(
                "has a registry that is not a host, or a host and a port",
            ));
        }
        if repository.is_empty() || !repository.split('/').all(is_component) {
            return Err(refuse(
                "has a repository that is not lower-case letters and digits, parted by '/', '.', '_' or '-'",
            ));
        }
        let repository = if registry == USUAL_REGISTRY && !repository.contains('/') {
            format!("{USUAL_FOLDER}{repository}")
        } else {
            repository.to_owned()
        };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(refuse("is longer than 255 bytes"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(USUAL_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                ("address", rest)
            }
            _ => return false,
        },
        None => match registry.find(':') {
            Some(colon) => registry.split_at(colon),
            None => (registry, ""),
        },
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    port && host.split('.').all(|label| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Runs of lower-case letters and digits, with one point, one or two underscores or any number of hyphens between them.
fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && component.split(alphanumeric).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, full: &str) {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(reference.to_string(), full);
        assert_eq!(full.parse::<Reference>().as_ref(), Ok(&reference));
    }

    #[test]
    fn short_names_become_full_ones() {
        check("alpine", "docker.io/library/alpine:latest");
        check("functions/alpine:3", "docker.io/functions/alpine:3");
        check("ghcr.io/openfaas/alpine", "ghcr.io/openfaas/alpine:latest");
        check("localhost/a", "localhost/a:latest");
        check("localhost:5000/a/b_c:V1.0", "localhost:5000/a/b_c:V1.0");
        check("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest");
        check("[::1]:5000/a", "[::1]:5000/a:latest");
        check("index.docker.io/library/a", "docker.io/library/a:latest");
        check("a--b/c__d.e", "docker.io/a--b/c__d.e:latest");
        let digest = ImageDigest::of(b"");
        check(
            &format!("a@{digest}"),
            &format!("docker.io/library/a@{digest}"),
        );
        check(
            &format!("a:1@{digest}"),
            &format!("docker.io/library/a:1@{digest}"),
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "A",
            "a:",
            "a:.x",
            "a@sha256:12",
            "a b",
            "a//b",
            "../a",
            "a/../b",
            "-a",
            "a_",
            "a___b",
            "host.:1/a",
            "x.y:0/a",
            "x.y:99999/a",
            "x:y/a",
            "http://x.y/a",
            "user@x.y/a",
            "x.y/a?b",
            "[::1/a",
            "[::1]x/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(
            format!("x.y/{}", "a".repeat(252))
                .parse::<Reference>()
                .is_err()
        );
    }
}
