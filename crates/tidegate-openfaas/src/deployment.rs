//! What a client asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The body of a deploy. Unknown members are ignored, as OpenFaaS's own gateway does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionDeployment {
    /// Name of the function.
    pub service: String,
    /// Image, as the client wrote it.
    pub image: String,
    /// Namespace; the default one where empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Program that the watchdog runs, split on single spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_process: Option<String>,
    /// Environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Where it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<String>>,
    /// Names of secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// Labels; some have a meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations; some have a meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Most that an instance may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// What an instance is meant to get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Resources>,
    /// Whether only `/tmp` can be written to.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only_root_filesystem: bool,
}

/// Memory and processor, as Kubernetes quantities, echoed exactly as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `128Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// `100m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Devices and whatever else: `nvidia.com/gpu`.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

fn is_false(value: &bool) -> bool {
    !value
}
