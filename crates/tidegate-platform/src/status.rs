//! The status that the controller keeps on every document that is a function, whatever its dialect.

use serde::{Deserialize, Serialize};
use tidegate_store::Object;

use crate::builds::BuildStatus;
use crate::images::ImageStatus;
use crate::traffic::{Rollout, TrafficPart};

/// Where a document stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation that this speaks of.
    pub observed_generation: u64,
    /// Where that generation stands.
    pub phase: Phase,
    /// One line of why, where it is not ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The newest revision that is ready, and was not taken back.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Who takes the calls, the largest part first: what serves after a restart, whatever the document says by then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficPart>,
    /// The last gradual change of the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What the image of that generation, or of one before it, was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageStatus>,
    /// How the build of that generation went.
    #[serde(skip_serializing_if = "is_nothing")]
    pub build: BuildStatus,
}

fn is_nothing(build: &BuildStatus) -> bool {
    *build == BuildStatus::default()
}

/// Where a generation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Being made ready.
    #[default]
    Pending,
    /// Takes traffic.
    Ready,
    /// Could not be made ready.
    Failed,
}

impl Status {
    /// The status of a document; the default one where there is none or it cannot be read.
    #[must_use]
    pub fn of(object: &Object) -> Self {
        object
            .status()
            .and_then(|s| Self::deserialize(s).ok())
            .unwrap_or_default()
    }

    /// Whether the document's own generation has been dealt with.
    #[must_use]
    pub fn is_settled(&self, generation: u64) -> bool {
        self.observed_generation >= generation && self.phase != Phase::Pending
    }
}
