//! What a build context was made into.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::{Build, Code};

/// What a context was made into, under the name that its sender gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The name: `hello:latest`.
    pub name: String,
    /// What runs, an archive among the blobs: `sha256:<64 hex>`. It is built: the tree that the template makes, or where that
    /// had to be compiled, what came out.
    pub digest: String,
    /// Its installed dependencies, an archive too, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub prepared: Prepared,
}

/// What a template makes of a handler: everything but its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The template's language: `python3-http`.
    pub language: String,
    /// The runtime, by Tidegate's name: `python`.
    pub runtime: String,
    /// The file that is loaded or run, relative to the tree.
    pub entry: String,
    /// Which attribute of it, where a language host of Tidegate's loads it.
    #[serde(default)]
    pub handler: Option<String>,
    /// Whether a language host of Tidegate's loads `entry` and stands for `process`. A deployment that names another
    /// process gets that one, literally.
    #[serde(default)]
    pub hosted: bool,
    /// Which watchdog the template's image has.
    pub watchdog: WatchdogKind,
    /// The template's own `fprocess`, such as `python index.py`; split on single spaces.
    pub process: String,
    /// `ENV` of the template's image: `mode`, `upstream_url`, timeouts. A deployment's own environment wins.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Calls that an instance takes at once unless the deployment says otherwise.
    pub concurrency: u32,
    /// How the tree is built. An [`Image`]'s says that nothing is left to be done.
    #[serde(default)]
    pub build: Build,
    /// Remarks for whoever builds, one sentence each: what of the context has no effect here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A process that stands between HTTP and a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogKind {
    /// A process a call.
    ClassicWatchdog,
    /// By its `mode`: an HTTP server that is kept, or a process a call.
    OfWatchdog,
}

/// What comes with a build context, as `com.openfaas.docker.config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildConfig {
    /// The name to keep the result under.
    pub image: String,
    /// Arguments; `ADDITIONAL_PACKAGE` is always among those that the CLI sends.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub build_args: BTreeMap<String, String>,
    /// Platforms such as `linux/amd64`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

impl Image {
    /// What a function that runs it has for its code. Nothing of it is built again: not in another namespace, where the
    /// secrets of its build are not, and not when a tool of the machine's is a newer one.
    #[must_use]
    pub fn code(&self) -> Code {
        Code {
            digest: self.digest.clone(),
            entry: self.prepared.entry.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl WatchdogKind {
    /// The word for it: a contract's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClassicWatchdog => "classic-watchdog",
            Self::OfWatchdog => "of-watchdog",
        }
    }
}
