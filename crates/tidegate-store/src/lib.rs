//! What Tidegate keeps: objects, blobs and the key that seals secrets, in one folder owned by one server.
//!
//! **Objects** are JSON documents with Kubernetes-shaped metadata. They live in SQLite because an operator can open the
//! file with any SQLite, because group commit in one writer thread already reaches about half of what the bare disk
//! gives, and because the cluster's store (the Kubernetes API) offers nothing more: one object a commit,
//! compare-and-swap, list and watch. What must hold together is held by owner references, never by a transaction over
//! several objects. A commit that was answered is on disk; killed at any moment, an object is its old self or its new.
//!
//! SQLite alone does not notice damage to what it stores, and silently drops everything behind a damaged frame of its
//! write-ahead log. So each row carries a checksum, the log is examined before SQLite sees it, and the last
//! acknowledged version is noted in a file of its own. All findings are in the [`OpenReport`]; a damaged object answers
//! [`Error::Damaged`] and the others keep working.
//!
//! **Blobs** are addressed by the digest of their bytes and appear under it whole or not at all. **Secrets** are sealed
//! by the [`Keyring`] before they enter an object or a blob.
//!
//! There is no trait over the store yet: the second implementation, over the Kubernetes API, will show which of these
//! calls deserve one. [`Objects`] stays narrow so that it can become one.

#![forbid(unsafe_code)]

mod blobs;
mod database;
mod digest;
mod document;
mod error;
mod folder;
mod key;
mod keyring;
mod mark;
mod objects;
mod query;
mod readers;
mod rows;
mod rules;
mod scan;
mod schema;
mod selector;
mod store;
mod version;
mod wal;
mod watch;
mod writer;

pub mod sqlite;

pub use blobs::{BlobError, Blobs, PUT_PART_BYTES};
pub use digest::{Digest, DigestError};
pub use document::{MAX_DEPTH, MAX_DOCUMENT_BYTES, Object, OwnerReference};
pub use error::{Error, OpenError};
pub use key::ObjectKey;
pub use keyring::{Keyring, KeyringError};
pub use objects::{Deletion, Objects, Preconditions, Put};
pub use query::{MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Page, Query};
pub use scan::{DamagedObject, MAX_REPORTED};
pub use selector::{LabelSelector, MAX_SELECTOR_BYTES, Requirement, SelectorError};
pub use store::{OpenReport, Options, Store, open, open_with};
pub use version::ResourceVersion;
pub use wal::WalDamage;
pub use watch::{Event, HISTORY_BYTES, HISTORY_EVENTS, Watch};
