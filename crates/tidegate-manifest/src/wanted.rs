//! One function, or one trigger, that is wanted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value as Json};
use tidegate_core::Name;

/// The annotation that says which project's manifest a function or trigger is from.
pub const MANIFEST: &str = "tidegate.dev/manifest";

/// A function as a manifest wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub name: Name,
    /// Its namespace, where one is named.
    pub namespace: Option<Name>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, [`MANIFEST`] among them.
    pub annotations: BTreeMap<String, String>,
    /// Where its code is.
    pub source: Source,
    /// `spec` of its document, without `code`; `runtime` and `contract` only where they are named.
    pub spec: Map<String, Json>,
    /// Where it is wanted.
    pub origin: Origin,
}

/// A trigger as a manifest wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedTrigger {
    /// Its name.
    pub name: Name,
    /// Its namespace, where one is named for it or for its function.
    pub namespace: Option<Name>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, [`MANIFEST`] among them.
    pub annotations: BTreeMap<String, String>,
    /// `spec` of its document.
    pub spec: Map<String, Json>,
    /// Where it is wanted.
    pub origin: Origin,
}

impl WantedTrigger {
    /// The function that it calls.
    #[must_use]
    pub fn function(&self) -> &str {
        let function = self.spec.get("function").and_then(Json::as_str);
        function.unwrap_or_default()
    }
}

/// Where code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Here, to be packed.
    Path {
        /// As it was written: perhaps a URL.
        written: String,
        /// Relative to the manifest's folder, if it was a path.
        path: PathBuf,
        /// The file to load or run, where it is named.
        entry: Option<String>,
    },
    /// At the server.
    Blob {
        /// `sha256:` and 64 hexadecimal digits.
        digest: String,
        /// The file to load or run.
        entry: String,
    },
    /// In an image.
    Image {
        /// As it was written.
        name: String,
    },
}

/// A line of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// As it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
