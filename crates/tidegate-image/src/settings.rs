//! Limits and habits.

use std::path::PathBuf;
use std::time::Duration;

/// Largest image, unpacked, in bytes: the largest in common use (machine learning with its libraries) are about as large.
pub const MAX_IMAGE_BYTES: u64 = 16 << 30;
/// Most layers: builders stop at 127, and so do sandboxes. Overlayfs would take 500 in one mount.
pub const MAX_LAYERS: usize = 127;
/// Most entries of an image, its layers added up: a distribution with a compiler has fifty thousand.
pub const MAX_ENTRIES: u64 = 1_000_000;
/// Largest manifest, index or configuration in bytes, held in memory. Registries refuse larger ones than this themselves.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// How long a connection may take.
pub const CONNECT: Duration = Duration::from_secs(10);
/// How long nothing, or next to nothing, may come over a connection.
pub const IDLE: Duration = Duration::from_secs(30);
/// First wait before a request is made again; it doubles.
pub const RETRY: Duration = Duration::from_millis(250);

/// How images are fetched and what they may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`MAX_IMAGE_BYTES`].
    pub max_image_bytes: u64,
    /// See [`MAX_LAYERS`].
    pub max_layers: usize,
    /// See [`MAX_ENTRIES`].
    pub max_entries: u64,
    /// See [`MAX_MANIFEST_BYTES`].
    pub max_manifest_bytes: usize,
    /// See [`CONNECT`].
    pub connect: Duration,
    /// See [`IDLE`].
    pub idle: Duration,
    /// See [`RETRY`].
    pub retry: Duration,
    /// Registries beyond this machine that are spoken to without TLS, as `host` or `host:port`. Those on loopback are, as
    /// with other tools, unless they say that they want TLS.
    pub insecure: Vec<String>,
    /// A file of certificates (PEM) that are trusted beside those of the system: of authorities, or of a registry itself.
    /// Read when the first registry is spoken to that has TLS.
    pub ca_file: Option<PathBuf>,
    /// Which of the images under one name.
    pub platform: Platform,
}

/// What an image was made for, in the words of Go's compiler, as in the specification.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64` and so on.
    pub architecture: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_image_bytes: MAX_IMAGE_BYTES,
            max_layers: MAX_LAYERS,
            max_entries: MAX_ENTRIES,
            max_manifest_bytes: MAX_MANIFEST_BYTES,
            connect: CONNECT,
            idle: IDLE,
            retry: RETRY,
            insecure: Vec::new(),
            ca_file: None,
            platform: Platform::machine(),
        }
    }
}

impl Platform {
    /// Linux on this machine's processor.
    #[must_use]
    pub fn machine() -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                "powerpc64" => "ppc64le",
                other => other,
            }
            .to_owned(),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}
