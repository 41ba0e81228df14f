//! An image as others see it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ImageDigest;

/// An image that is whole on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Of its manifest: the one for this machine's platform, where the name stands for several.
    pub digest: ImageDigest,
    /// Under which it was pulled or imported, and its aliases; full, sorted.
    pub names: Vec<String>,
    /// What its maker says of it.
    pub config: Config,
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// Sum of its files' sizes in bytes, of layers that other images have too as well.
    pub size: u64,
    /// When it was made, as its maker says, in RFC 3339.
    pub created: Option<String>,
}

/// One of the layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the layer's tar, not compressed.
    pub diff_id: ImageDigest,
    /// Sum of its files' sizes in bytes.
    pub size: u64,
}

/// What an image's maker says of how it is run. All of it is a stranger's word: whoever uses a value checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What is run, with `cmd` after it.
    pub entrypoint: Vec<String>,
    /// Words after the entry point, or all that is run. Both empty: the image has no command.
    pub cmd: Vec<String>,
    /// Environment, in the order it was written.
    pub env: Vec<(String, String)>,
    /// Where programs begin; empty means `/`.
    pub workdir: String,
    /// As [`crate::Images::user`] reads it.
    pub user: String,
    /// TCP ports that it says it listens on, sorted.
    pub ports: Vec<u16>,
    /// What asks it to end: `SIGQUIT` or a number.
    pub stop_signal: Option<String>,
    /// Its maker's notes.
    pub labels: BTreeMap<String, String>,
    /// Processor, as Go's compiler names it.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// How to ask whether it is well.
    pub healthcheck: Option<Healthcheck>,
}

/// What an image's maker would have run to see whether it is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", word…]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Between two looks, in nanoseconds; 0 is not said.
    pub interval: u64,
    /// Of one look, in nanoseconds; 0 is not said.
    pub timeout: u64,
    /// Before failures count, in nanoseconds; 0 is not said.
    pub start_period: u64,
    /// So many failures in a row mean that it is not well; 0 is not said.
    pub retries: u32,
}

/// Where an image is imported from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder in the OCI image layout.
    Layout(PathBuf),
    /// A tar, perhaps compressed by gzip or zstd, of an OCI image layout or as `docker save` makes it.
    Archive(PathBuf),
    /// A folder that becomes the only layer of an image without a command.
    Folder(PathBuf),
}

/// What [`crate::Images::prune`] has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Images, with their names.
    pub images: Vec<ImageDigest>,
    /// How many layers, and parts of some.
    pub layers: u64,
    /// What they held, in bytes.
    pub bytes: u64,
}
