//! Ids of invocations.

use tidegate_core::InvocationId;
use uuid::{ContextV7, Timestamp, Uuid};

thread_local! {
    // A context a thread keeps ids of one thread in order without a lock between threads.
    static CONTEXT: ContextV7 = const { ContextV7::new() };
}

/// A new id: a UUIDv7.
#[must_use]
pub fn new_id() -> InvocationId {
    let id = CONTEXT.with(|context| Uuid::new_v7(Timestamp::now(context)));
    InvocationId::from_u128(id.as_u128())
}
