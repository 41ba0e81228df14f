//! Attempts that ended, and cannot be written.

use tidegate_queue::{Callback, Dispatcher, MAX_INLINE_BYTES, Ran};

use crate::dispatch::*;
use crate::*;

#[tokio::test]
async fn what_cannot_be_written_is_tried_until_it_can_and_not_run_again() {
    let bench = Bench::with(tiny).await;
    let (filler, dispatcher) = without_room(&bench).await;
    assert_eq!(bench.queue.stats().leased, 1);
    for id in filler {
        bench.queue.cancel(id).await.unwrap();
    }
    until("it is written and told", || dispatcher.stats().done == 2).await;
    assert_eq!(bench.seen("f").len(), 1);
    assert_eq!(bench.fake.delivered.lock().len(), 1);
}

#[test]
fn a_crash_between_the_answer_and_the_disk_has_it_run_again() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let (dir, seen) = first.block_on(async {
        let bench = Bench::with(tiny).await;
        without_room(&bench).await;
        (bench.dir, bench.fake.seen.lock().len())
    });
    assert_eq!(seen, 1);
    // Nothing of what was in memory survives.
    first.shutdown_timeout(PATIENCE);
    runtime().block_on(async {
        let bench = Bench::at(dir, |_| ()).await;
        bench.lane("filler", 0, None);
        let dispatcher = bench.start();
        until("it is done and told", || dispatcher.stats().done == 2).await;
        assert_eq!(bench.seen("f").len(), 1);
        assert_eq!(bench.seen("f")[0].attempt, 1);
    });
}

/// A queue that is soon full, and has little room for what ends.
fn tiny(options: &mut Options) {
    options.max_file_bytes = 2 * 1024 * 1024;
    options.ends_bytes = 64 * 1024;
}

/// A queue without room, and an attempt that ended in it with an answer which is to be sent on.
async fn without_room(bench: &Bench) -> (Vec<InvocationId>, Dispatcher) {
    bench.lane("filler", 0, None);
    bench.does("f", Do::Gate(large()));
    let mut one = submission("f", "");
    one.callback = Some(Callback {
        url: "https://example.org/back".to_owned(),
    });
    bench.queue.accept(one).await.unwrap();
    let dispatcher = bench.start();
    until("it runs", || bench.seen("f").len() == 1).await;
    let mut filler = Vec::new();
    while let Ok(accepted) = bench
        .queue
        .accept(submission("filler", &"x".repeat(50_000)))
        .await
    {
        filler.push(accepted.id);
    }
    bench.fake.gate.add_permits(1);
    until("there is no room for it", || dispatcher.stats().stuck == 1).await;
    (filler, dispatcher)
}

fn large() -> Ran {
    let mut ran = fine();
    if let Some(answer) = &mut ran.answer {
        answer.body = Bytes::from(vec![7; 500_000]);
    }
    ran
}

#[tokio::test]
async fn an_answer_that_cannot_be_spooled_is_sent_when_it_can_and_never_without_its_body() {
    let bench = Bench::new().await;
    let mut ran = fine();
    if let Some(answer) = &mut ran.answer {
        answer.body = Bytes::from(vec![7; MAX_INLINE_BYTES + 1]);
    }
    bench.does("f", Do::Gate(ran));
    let mut one = submission("f", "");
    one.callback = Some(Callback {
        url: "https://example.org/back".to_owned(),
    });
    bench.queue.accept(one).await.unwrap();
    // Where bodies go is no folder any more.
    let bodies = bench.dir.path().join("blobs/queue");
    let away = bench.dir.path().join("away");
    std::fs::rename(&bodies, &away).unwrap();
    std::fs::write(&bodies, []).unwrap();
    let dispatcher = bench.start();
    bench.fake.gate.add_permits(1);
    until("it cannot be written", || dispatcher.stats().stuck == 1).await;
    assert_eq!(bench.fake.delivered.lock().len(), 0);
    std::fs::remove_file(&bodies).unwrap();
    std::fs::rename(&away, &bodies).unwrap();
    until("it is told", || bench.fake.delivered.lock().len() == 1).await;
    let bytes = bench.fake.delivered.lock()[0]
        .1
        .submission
        .request
        .body_bytes();
    assert_eq!(bytes, MAX_INLINE_BYTES as u64 + 1);
    assert_eq!(bench.seen("f").len(), 1);
}
