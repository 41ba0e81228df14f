//! Images, and runtimes that are images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a function's image was when it was deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// As the function names it.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
}

/// An image that the server has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Digest of its manifest.
    pub digest: String,
    /// Full names of it.
    pub names: Vec<String>,
    /// Bytes of its files.
    pub size: u64,
    /// When it was made, as its maker says; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What it is for: `linux/amd64`.
    pub platform: String,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// What is run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments of that, or what is run where there is no entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Environment variables. Its maker's, and known to whoever has the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where the program begins.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workdir: String,
    /// Whom the program is run as.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// TCP ports that it exposes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// What asks its program to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A layer of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Digest of its content, as an archive without compression.
    pub digest: String,
    /// Bytes of its files.
    pub size: u64,
}

/// Images.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// By name.
    pub items: Vec<Image>,
}

/// Asks for an image from its registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullRequest {
    /// `registry/repository:tag`, or with `@sha256:…`.
    pub image: String,
    /// Whose secrets those are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Secrets with credentials of registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
}

/// Gives an image a further name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AliasRequest {
    /// Which, by name or digest.
    pub image: String,
    /// The name.
    pub name: String,
}

/// A line of what a pull or an import says: newline-delimited JSON, the last line being `done` or `failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullEvent {
    /// `resolved`, `layer` (one begins), `bytes` (so much of one has come), `retry`, `unpacking`, `exists` (one is here
    /// already), `unpacked`, `done` or `failed`. There may be others.
    pub event: String,
    /// Which layer, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// How many layers there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Bytes of the layer, or of all of them, as they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes of the layer that have come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// What was pulled or imported, where it is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Why not, or why it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A word for why not, as that of any error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// So many images.
    pub images: usize,
    /// Bytes that they held on the disk.
    pub bytes: u64,
}

/// A runtime that is an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// What functions call it: `python:3.13`.
    pub name: String,
    /// Name of the image, as it was given.
    pub image: String,
    /// Digest of what that was.
    pub digest: String,
}

/// Makes a runtime of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeRequest {
    /// An image that the server has, by name or digest.
    pub image: String,
}

/// Runtimes that are images.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RuntimeList {
    /// By name.
    pub items: Vec<Runtime>,
}
