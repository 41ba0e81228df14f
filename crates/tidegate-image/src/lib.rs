//! Container images without a daemon.

#![forbid(unsafe_code)]

mod credentials;
mod digest;
mod error;
mod image;
mod images;
mod progress;
mod reference;
mod settings;

pub use credentials::Credentials;
pub use digest::{DigestError, ImageDigest};
pub use error::Error;
pub use image::{Config, Healthcheck, Image, Layer, Pruned, Source};
pub use images::Images;
pub use progress::{Event, Progress};
pub use reference::{Reference, ReferenceError};
pub use settings::{
    CONNECT, IDLE, MAX_ENTRIES, MAX_IMAGE_BYTES, MAX_LAYERS, MAX_MANIFEST_BYTES, Platform, RETRY,
    Settings,
};
