//! Revisions of a function, and who of them takes its calls.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{FunctionSpec, Instances, Metadata};

/// One part of a function's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Traffic {
    /// The revision's word; this or `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The newest revision that is ready, whichever that is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub latest: bool,
    /// Percent of the calls that name no revision; all parts together make 100.
    #[serde(default)]
    pub percent: u8,
    /// A name under which the revision can be called: `TAG---NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// How traffic comes to a new revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// How long it takes from nothing to everything, `10m`.
    pub over: String,
    /// In how many steps, 1 to 100; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Share of failed calls above which the new revision is taken back, 0 to 1; 0.05 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_error_rate: Option<Rate>,
    /// Calls of the new revision before they are judged; 20 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u64>,
    /// Only to this revision; to every new one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// A share, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Rate(pub f64);

// JSON has no value that differs from itself.
impl Eq for Rate {}

/// A change of who takes the calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficChange {
    /// Takes the place of what was; nothing gives all to the newest. Revisions can be named by word, tag or `latest`.
    pub traffic: Vec<Traffic>,
}

/// A step back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The revision to go back to, by word or tag; the ready one before the one with most of the traffic where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// All of the traffic to one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Promotion {
    /// The revision by word, tag or `latest`; `latest` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Little by little; at once where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// A revision's part in the traffic, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficStatus {
    /// The revision.
    pub revision: String,
    /// Percent of the calls that name no revision.
    pub percent: u8,
    /// Names under which it is called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its instances now. Filled in when read, never stored.
    pub instances: Instances,
    /// Its calls since it was last put to work. Filled in when read, never stored.
    pub invocations: u64,
    /// Those of them that failed by its own fault. Filled in when read, never stored.
    pub errors: u64,
}

/// A gradual change of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// The revision that takes over.
    pub revision: String,
    /// The one that had the traffic.
    pub from: String,
    /// What the new one has of it.
    pub percent: u8,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// One line of why, where it was taken back.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where a gradual change stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum RolloutPhase {
    /// Under way.
    #[default]
    Running,
    /// The new revision has everything.
    Done,
    /// The old one has everything again.
    RolledBack,
}

/// A revision of a function: what it was at one moment, built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// `tidegate.dev/v1`.
    pub api_version: String,
    /// `Revision`.
    pub kind: String,
    /// Its name is the revision's word.
    pub metadata: Metadata,
    /// What it is.
    pub spec: RevisionSpec,
    /// How it came out, and what it does.
    pub status: RevisionStatus,
}

/// What a revision is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSpec {
    /// Which one of the function it is, from 1; what is deployed once more is the newest once more.
    pub number: u64,
    /// The generation of the function that it was made from.
    pub generation: u64,
    /// What made it: `deploy`, `secret`, or what the function's annotation `tidegate.dev/cause` said.
    pub cause: String,
    /// Code and configuration. How many instances there may be is the function's.
    pub function: FunctionSpec,
}

/// How a revision came out, and what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RevisionStatus {
    /// How it came out.
    pub phase: RevisionPhase,
    /// One line of why, where it is not ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What its code wrote last, where it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Whether it is the newest that is ready.
    pub latest: bool,
    /// Percent of the calls that name no revision.
    pub percent: u8,
    /// Names under which it is called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its instances now.
    pub instances: Instances,
    /// Its calls since it was last put to work.
    pub invocations: u64,
    /// Those of them that failed by its own fault.
    pub errors: u64,
}

/// How a revision came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum RevisionPhase {
    /// Not known: the server ended at a bad moment.
    #[default]
    Unknown,
    /// It has shown that it starts.
    Ready,
    /// It could not be made ready.
    Failed,
    /// It failed too many calls while it was rolled out, and was taken back.
    RolledBack,
}

/// The revisions that are kept of a function.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RevisionList {
    /// The newest first.
    pub items: Vec<Revision>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}
