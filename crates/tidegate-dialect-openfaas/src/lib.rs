//! OpenFaaS's gateway, as its clients know it: documents, routes, errors, metrics.
//!
//! Control lives under `/system`, calls under `/function/NAME[.NAMESPACE]`, builds at `/build`. A deployment is stored
//! exactly as it was sent, beside what the image that it names was made into; [`Deployments`] lowers the two to a function.

#![forbid(unsafe_code)]

mod api;
mod builder;
mod images;
mod lower;
mod scaling;

use std::sync::Arc;

use axum::Router;
use tidegate_platform::Platform;

pub use builder::LastWords;
pub use images::Images;
pub use lower::Deployments;

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
}

impl OpenFaas {
    /// The dialect over a platform whose kinds include [`Deployments`], and its holders [`Images`].
    #[must_use]
    pub fn new(platform: Platform, config: Config) -> Self {
        Self(Arc::new(Inner { platform, config }))
    }

    /// Everything but calls. Credentials are looked at before.
    pub fn router(&self) -> Router {
        api::router(self.clone()).merge(builder::router(self.clone()))
    }

    pub(crate) fn platform(&self) -> &Platform {
        &self.0.platform
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }
}
