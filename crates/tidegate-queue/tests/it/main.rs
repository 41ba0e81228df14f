//! The queue as its users see it.

mod courier;
mod damage;
mod dead;
mod dispatch;
mod full;
mod kill;
mod stuck;
mod work;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::queue::{Ended, Policy, Settled, Spread, Verdict};
use tidegate_core::record::Cause;
use tidegate_core::{FunctionKey, InvocationId, Outcome};
use tidegate_queue::{
    Answer, Body, OpenReport, Options, Payload, Queue, Settlement, Submission, Taken, Target,
};

const HOLD: Duration = Duration::from_secs(60);

/// Opens a store and a queue in this folder.
async fn open_with(folder: &Path, options: Options) -> (Queue, OpenReport) {
    let (store, _) = tidegate_store::open(folder).unwrap();
    Queue::open(&folder.join("queue"), store.blobs(), options)
        .await
        .unwrap()
}

async fn open(folder: &Path) -> Queue {
    let (queue, report) = open_with(folder, Options::default()).await;
    assert!(report.is_clean(), "{report:?}");
    queue
}

fn function(name: &str) -> FunctionKey {
    FunctionKey {
        namespace: "default".into(),
        group: "".into(),
        name: name.into(),
    }
}

fn new_id() -> InvocationId {
    InvocationId::from_u128(uuid::Uuid::now_v7().as_u128())
}

/// Retries come back at once, so that tests need not wait.
fn submission(name: &str, body: &str) -> Submission {
    Submission {
        id: new_id(),
        function: function(name),
        target: Target::Function,
        door: "native".to_owned(),
        request: Payload {
            method: "POST".to_owned(),
            path_and_query: "/a?b=c".to_owned(),
            headers: vec![("x-one".to_owned(), b"1".to_vec())],
            body: Body::Inline(Bytes::copy_from_slice(body.as_bytes())),
        },
        cause: Cause::default(),
        trace: None,
        depth: 0,
        due_ms: 0,
        policy: Policy {
            min_delay_ms: 1,
            max_delay_ms: 1,
            spread: Spread::None,
            ..Policy::default()
        },
        order_key: None,
        idempotency: None,
        on_success: None,
        on_failure: None,
        callback: None,
        keep_result_ms: 0,
    }
}

fn ended(outcome: Outcome) -> Verdict {
    Verdict::Ended(Ended {
        outcome,
        status: None,
        retry_after_ms: None,
    })
}

fn settlement(taken: &Taken, verdict: Verdict) -> Settlement {
    Settlement {
        lease: taken.lease,
        verdict,
        message: Some("so it went".to_owned()),
        answer: Some(Answer {
            status: 200,
            headers: Vec::new(),
            body: Bytes::from_static(b"the answer"),
        }),
        on_done: Vec::new(),
        on_dead: Vec::new(),
    }
}

async fn settle(queue: &Queue, taken: &Taken, outcome: Outcome) -> Settled {
    queue
        .settle(settlement(taken, ended(outcome)))
        .await
        .unwrap()
}

/// Waits for this many to be due, and leases them.
async fn take(queue: &Queue, name: &str, count: usize) -> Vec<Taken> {
    let mut all = Vec::new();
    while all.len() < count {
        let most = count - all.len();
        let taken = queue.take(&function(name), most, HOLD).await.unwrap();
        if taken.is_empty() {
            tokio::task::yield_now().await;
        }
        all.extend(taken);
    }
    all
}

async fn take_one(queue: &Queue, name: &str) -> Taken {
    take(queue, name, 1).await.remove(0)
}
