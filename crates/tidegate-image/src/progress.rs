//! What somebody who waits is told.

use serde::{Deserialize, Serialize};

use crate::ImageDigest;

/// Takes news of a pull or import. Called from several threads, often: it must not block.
pub trait Progress: Send + Sync {
    /// Something has come about.
    fn report(&self, event: Event);
}

/// Nobody waits.
impl Progress for () {
    fn report(&self, _: Event) {}
}

/// News of a pull or import. Layers are counted from 0, the lowest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The name stands for this image.
    Resolved {
        /// Of its manifest.
        digest: ImageDigest,
        /// How many it has.
        layers: usize,
        /// Of its layers as they are sent, in bytes.
        size: u64,
    },
    /// A layer is being fetched or read.
    Layer {
        /// Which.
        index: usize,
        /// Of how many.
        of: usize,
        /// As it is sent, in bytes.
        size: u64,
    },
    /// So much of a layer is here. What an earlier pull left counts.
    Bytes {
        /// Which.
        layer: usize,
        /// As it is sent, in bytes.
        done: u64,
    },
    /// The registry failed at something that is tried again.
    Retry {
        /// Which layer; a manifest otherwise.
        layer: Option<usize>,
        /// How it failed.
        reason: String,
        /// How long until the next attempt, in milliseconds.
        wait_ms: u64,
    },
    /// A layer is here and is being unpacked.
    Unpacking {
        /// Which.
        layer: usize,
    },
    /// A layer was here already, or has just been unpacked for another image.
    Exists {
        /// Which.
        layer: usize,
    },
    /// A layer is unpacked.
    Unpacked {
        /// Which.
        layer: usize,
        /// Sum of its files' sizes, in bytes.
        size: u64,
        /// Devices and pipes left out of it.
        skipped: u64,
    },
    /// The image is whole.
    Done {
        /// Of its manifest.
        digest: ImageDigest,
        /// Unpacked, in bytes.
        size: u64,
    },
}
