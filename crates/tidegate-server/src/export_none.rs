//! In the place of `export.rs` where the server is built without it.

use std::sync::Arc;

use tidegate_core::trace::Sampling;
use tidegate_platform::{Follow, Witness};
use tracing_subscriber::layer::Identity;

use crate::Error;
use crate::metrics::Exported;
use crate::service::Service;
use crate::settings::Settings;

#[derive(Clone, Debug, Default)]
pub(crate) struct Export;

#[derive(Debug)]
pub(crate) struct Running;

impl Export {
    pub(crate) fn new(_: &Settings) -> Self {
        Self
    }

    pub(crate) fn witness(&self) -> Option<Arc<dyn Witness>> {
        None
    }

    pub(crate) fn sampling(&self) -> Option<Sampling> {
        None
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the other has it")]
    pub(crate) fn start(self, _: Follow, _: &Arc<Service>) -> Result<Running, Error> {
        Ok(Running)
    }

    pub(crate) fn told(&self) -> Vec<Exported> {
        Vec::new()
    }
}

impl Running {
    #[allow(clippy::unused_async, reason = "as the other has it")]
    pub(crate) async fn stop(self) {}
}

pub(crate) fn log(_: &Settings) -> Option<Identity> {
    None
}
