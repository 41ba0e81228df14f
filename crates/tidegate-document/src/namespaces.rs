//! What a namespace may use.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is wanted of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespaceSpec {
    /// What it may use; anything where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
}

/// What a namespace may use. What is absent is not limited. A change counts at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Quotas {
    /// Invocations a second, on average; more answer 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Invocations at once before that average counts; a second's worth where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Invocations under way at once, waiting ones included; more answer 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Invocations that were accepted to run later and have not ended; more answer 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
    /// GB-seconds (2³⁰ bytes) from midnight to midnight UTC; invocations beyond them answer 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gb_seconds_per_day: Option<u64>,
    /// Functions; more answer 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<u32>,
    /// Code of all functions together, `10Gi`, each archive counted once; more answers 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

impl NamespaceSpec {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
