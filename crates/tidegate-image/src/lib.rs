//! Container images without a daemon: pulled from registries, imported from archives and folders, unpacked, kept.
//!
//! What runs an image wants folders to mount, so that is what an image becomes here: a folder a layer, named by the digest of
//! the layer's tar and shared by all images that have it. The compressed layers, which registries deal in, are gone once they
//! are unpacked; nothing here pushes. Unpacking at pull and not at start keeps a cold start to a mount, and keeps whatever a
//! stranger put into an archive away from the moment when somebody waits.
//!
//! All of an image is outside input, whoever is said to have made it. So every document and count has a bound before memory
//! or disk is spent, every digest is compared before its content is used, and unpacking (`unpack`) follows no link, gives
//! nothing an owner, and keeps no right beyond reading, writing and running.
//!
//! [`Images`] is the only way in. Reading is from memory; changes are made whole in a scratch folder and renamed (`store`), so
//! that a killed process leaves nothing that looks like an image and is none. Work on one layer is done once, however many
//! wait for it (`locks`), and stops when nobody does.
//!
//! Who may use which image is not known here: a name that one caller pulled with a password resolves for every other.

#![forbid(unsafe_code)]

mod compression;
mod credentials;
mod digest;
mod error;
mod image;
mod images;
mod import;
mod locks;
mod manifest;
mod progress;
mod pull;
mod reference;
mod registry;
mod settings;
mod store;
mod tar;
mod unpack;
mod users;
mod view;

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
