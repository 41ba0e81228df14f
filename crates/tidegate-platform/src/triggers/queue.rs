//! The durable queue as that which accepts calls.

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::InvocationId;
use tidegate_core::queue::Policy;
use tidegate_queue::{AcceptError, Body, Payload, Queue, Submission, Target};

use super::run::{Enqueue, NotQueued, QueuedCall};

/// The door that such calls come through: nobody waits for an answer of its own shape.
const DOOR: &str = "native";

#[async_trait]
impl Enqueue for Queue {
    async fn enqueue(&self, call: QueuedCall) -> Result<InvocationId, NotQueued> {
        let accepted = self.accept(submission(call)).await;
        accepted
            .map(|accepted| accepted.id)
            .map_err(|e| not_queued(&e))
    }
}

fn submission(call: QueuedCall) -> Submission {
    let request = &call.request;
    Submission {
        id: call.id,
        function: call.function,
        target: Target::Function,
        door: DOOR.to_owned(),
        request: Payload {
            method: request.method().to_owned(),
            path_and_query: request.path().to_owned(),
            headers: request.all_headers(),
            body: Body::Inline(
                request
                    .body
                    .as_ref()
                    .map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body.as_bytes())),
            ),
        },
        cause: call.cause,
        trace: None,
        due_ms: 0,
        policy: Policy::default(),
        order_key: None,
        idempotency: call.idempotency,
        on_success: None,
        on_failure: None,
        callback: None,
        keep_result_ms: 0,
    }
}

fn not_queued(error: &AcceptError) -> NotQueued {
    let message = error.to_string();
    match error {
        AcceptError::Full { retry_after, .. } | AcceptError::Store { retry_after, .. } => {
            NotQueued::Later {
                message,
                after: Some(*retry_after),
            }
        }
        // A new one is made at the next try.
        AcceptError::IdTaken { .. } => NotQueued::Later {
            message,
            after: None,
        },
        _ => NotQueued::Never { message },
    }
}
