//! What labels say of the number of instances.

use std::collections::BTreeMap;

use tidegate_core::Scale;
use tidegate_platform::LowerError;

/// The scale that labels ask for. `concurrency` is a hard limit of calls an instance takes at once; `waiting` is none where
/// calls above it are refused rather than queued; `replicas` is what a client has set by hand.
pub(crate) fn scale(
    labels: &BTreeMap<String, String>,
    concurrency: u32,
    replicas: Option<u32>,
) -> Result<Scale, LowerError> {
    let _ = (labels, concurrency, replicas);
    Err(LowerError::new("labels", "scaling is not there yet"))
}
