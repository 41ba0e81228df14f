//! OpenFaaS's gateway, as its clients know it: documents, routes, errors, metrics.
//!
//! Control lives under `/system`, calls under `/function/NAME[.NAMESPACE]`, builds at `/build`. A deployment is stored
//! exactly as it was sent, beside what the image that it names was made into; [`Deployments`] lowers the two to a function.

#![forbid(unsafe_code)]

mod annotations;
mod api;
mod asynchronous;
mod builder;
mod call;
mod images;
mod lower;
mod metrics;
mod registry;
mod scaling;

use std::sync::Arc;

use axum::Router;
use metrics::Metrics;
use tidegate_core::FunctionKey;
use tidegate_platform::{DEFAULT_NAMESPACE, Platform};

pub use asynchronous::Door;
pub use builder::LastWords;
pub use call::{CountedBody, Routed};
pub use images::Images;
pub use lower::Deployments;
pub use metrics::METRICS_TYPE;

/// What the server tells of itself and allows.
#[derive(Clone, Debug)]
pub struct Config {
    /// Version of this program.
    pub release: &'static str,
    /// Commit it was built from; never empty.
    pub commit: &'static str,
    /// With what build contexts are signed; unsigned ones are taken where it is absent.
    pub payload_secret: Option<Arc<[u8]>>,
}

/// The dialect. A cheap handle.
#[derive(Clone)]
pub struct OpenFaas(Arc<Inner>);

struct Inner {
    platform: Platform,
    config: Config,
    metrics: Arc<Metrics>,
}

impl OpenFaas {
    /// The dialect over a platform whose kinds include [`Deployments`], and its holders [`Images`].
    #[must_use]
    pub fn new(platform: Platform, config: Config) -> Self {
        Self::with_door(platform, config, &Door::default())
    }

    /// The same over a platform whose queue has this door.
    #[must_use]
    pub fn with_door(platform: Platform, config: Config, door: &Door) -> Self {
        Self(Arc::new(Inner {
            platform,
            config,
            metrics: door.metrics(),
        }))
    }

    /// Everything but calls. Credentials are looked at before.
    pub fn router(&self) -> Router {
        api::router(self.clone()).merge(builder::router(self.clone()))
    }

    /// Whether a path is the router's.
    #[must_use]
    pub fn claims(path: &str) -> bool {
        matches!(path, "/" | "/ui" | "/build" | "/publickey")
            || path.starts_with("/system/")
            || path.starts_with("/ui/")
            || path == "/function"
    }

    /// Whether a path that is claimed needs no credential: build contexts are signed, and a public key is public.
    #[must_use]
    pub fn is_open(path: &str) -> bool {
        matches!(path, "/" | "/build" | "/publickey" | "/function")
    }

    /// The page of metrics; see [`METRICS_TYPE`].
    #[must_use]
    pub fn metrics_page(&self) -> String {
        self.0.metrics.render(self.platform())
    }

    /// Calls through this dialect that ended, since the server started.
    pub(crate) fn invocations(&self, key: &FunctionKey) -> u64 {
        self.0.metrics.invocations(key)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.0.platform
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }
}

/// A namespace as it is told to clients.
pub(crate) fn shown_namespace(namespace: &str) -> &str {
    if namespace == DEFAULT_NAMESPACE {
        metrics::NAMESPACE
    } else {
        namespace
    }
}
