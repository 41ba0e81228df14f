//! Which changes make a new revision.

use std::sync::Arc;

use tidegate_contract::Contract;
use tidegate_core::{FunctionSpec, Scale};
use tidegate_engine::Revision;
use tidegate_store::Digest;

use crate::LowerError;

/// Hexadecimal digits of a revision's word: enough that two of one function do not meet.
const WORD: usize = 12;

/// The revision of a specification. How many instances there may be is not part of its identity: scaling a function
/// restarts nothing.
pub(crate) fn of(spec: FunctionSpec) -> Result<Revision, LowerError> {
    let contract =
        Contract::of(&spec).map_err(|error| LowerError::new(error.field(), error.to_string()))?;
    let scaleless = without_scale(&spec);
    let text =
        serde_json::to_vec(&scaleless).map_err(|e| LowerError::new("spec", e.to_string()))?;
    let id: Arc<str> = Digest::of(&text).hex()[..WORD].into();
    Ok(Revision {
        id,
        spec: Arc::new(spec),
        contract,
    })
}

/// The specification as a revision keeps it: of the scale, only the concurrency is its own.
pub(crate) fn without_scale(spec: &FunctionSpec) -> FunctionSpec {
    FunctionSpec {
        scale: Scale {
            min: 0,
            max: 0,
            initial: 0,
            target_milli: 0,
            idle: std::time::Duration::ZERO,
            zero: None,
            by_hand: None,
            metric: tidegate_core::Metric::default(),
            waiting: None,
            ..spec.scale
        },
        ..spec.clone()
    }
}
