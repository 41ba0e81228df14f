//! The invocation path.
//!
//! A call names a function; the function's arrangement says which revision takes the call; its pool grants a slot on an instance, starting
//! one if it must; the contract takes the call there; when the last byte has left the instance, the slot is free again.
//! The engine knows no contract and no isolation by name, no client, no document and no store: what an instance needs
//! beside its specification (the unpacked bundle, the secrets' values) comes through [`Resources`] when one is started.
//!
//! On the warm path there is no global lock and no I/O but the call itself: a read lock on one of many shards of the
//! function table, an atomic load of the arrangement, and the pool's own short lock.

#![forbid(unsafe_code)]

mod arrangement;
mod call;
mod engine;
mod functions;
mod host;
mod ids;
mod ledger;
mod logs;
mod meter;
mod metrics;
mod pool;
mod reply;
mod slot;
mod spool;
mod trace;

pub use arrangement::{Arrangement, Chosen, Member, Share, UnknownRevision};
pub use call::{CallContext, Failure, Led};
pub use engine::{Engine, Options};
pub use functions::Function;
pub use ids::new_id;
pub use ledger::{Account, Ended, Ledger, NoLedger, Spent};
pub use logs::{FunctionLog, LogLine, LogQuery, LogTail};
pub use metrics::{BUCKETS_SECONDS, FunctionMetrics, OUTCOMES};
pub use pool::{Lineage, PoolCounts, Revision};
pub use reply::ReplyBody;
pub use trace::place;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tidegate_core::{FunctionKey, FunctionSpec};
use tidegate_instance::{Outbound, SecretFile, StartError};

/// What an instance needs beside its specification, made ready when one is started and not before.
#[async_trait]
pub trait Resources: Send + Sync {
    /// The bundle on this machine, and the values of the secrets the function names.
    async fn materialize(
        &self,
        function: &FunctionKey,
        spec: &FunctionSpec,
    ) -> Result<Materials, StartError>;

    /// A revision that is kept but has no traffic, by its own word. Asked for when a call names one.
    async fn revision(
        &self,
        function: &FunctionKey,
        word: &str,
    ) -> Result<Revision, UnknownRevision>;
}

/// See [`Resources`].
#[derive(Default)]
pub struct Materials {
    /// The unpacked bundle, readable by everyone; an empty folder where all of the code is in the image.
    pub bundle: PathBuf,
    /// The unpacked layers of the function's image, the lowest first; empty where it has none.
    pub root: Vec<PathBuf>,
    /// The unpacked dependencies, where they are apart.
    pub layer: Option<PathBuf>,
    /// Secrets as environment variables.
    pub env: Vec<(String, String)>,
    /// Secrets as files.
    pub files: Vec<SecretFile>,
    /// What its instances reach, where the function asks for a way out and there is one.
    pub outbound: Option<Arc<dyn Outbound>>,
}

/// Why a revision did not take over: the first of its instances that did not start.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartFailed(pub Arc<StartError>);

/// Shared by everything that starts instances.
type SharedResources = Arc<dyn Resources>;
