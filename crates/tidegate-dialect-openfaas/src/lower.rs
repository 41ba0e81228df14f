//! From a deployment to a canonical function.

use tidegate_openfaas::{FunctionDeployment, Image};
use tidegate_platform::{Lower, LowerError, Lowered, Object};

/// `apiVersion` and `kind` of a stored deployment.
pub(crate) const API_VERSION: &str = "openfaas.com/v1";
pub(crate) const KIND: &str = "Function";

/// Deployments as functions.
pub struct Deployments;

/// What is stored of a deployment.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stored {
    /// As the client sent it.
    pub(crate) deployment: serde_json::Value,
    /// What its image was when it was deployed: a name may come to mean another, and a restart must not change what runs.
    pub(crate) image: Image,
    /// Replicas that a client asked for since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replicas: Option<u32>,
}

impl Lower for Deployments {
    fn kind(&self) -> (&'static str, &'static str) {
        (API_VERSION, KIND)
    }

    fn lower(&self, object: &Object) -> Result<Lowered, LowerError> {
        let spec = object
            .spec()
            .ok_or_else(|| LowerError::new("spec", "is missing"))?;
        let stored: Stored = serde_json::from_value(spec.clone())
            .map_err(|e| LowerError::new("spec", e.to_string()))?;
        let deployment: FunctionDeployment = serde_json::from_value(stored.deployment)
            .map_err(|e| LowerError::new("spec.deployment", e.to_string()))?;
        let labels = deployment.labels.unwrap_or_default();
        crate::scaling::scale(&labels, stored.image.prepared.concurrency, stored.replicas)?;
        Err(LowerError::new("spec", "deployments cannot be run yet"))
    }
}
