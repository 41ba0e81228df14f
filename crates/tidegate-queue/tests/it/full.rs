//! No room.

use tidegate_core::Outcome;
use tidegate_core::queue::Settled;
use tidegate_queue::AcceptError;

use crate::*;

#[tokio::test]
async fn a_full_file_refuses_what_is_new_settles_what_there_is_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_file_bytes = 2 * 1024 * 1024;
    let (queue, _) = open_with(dir.path(), options).await;
    let body = "x".repeat(100_000);
    let mut kept = 0;
    let refused = loop {
        match queue.accept(submission("f", &body)).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "the limit does not hold");
    };
    assert!(matches!(refused, AcceptError::Full { .. }), "{refused}");
    assert_eq!(queue.stats().queued, kept);
    // All that was accepted is there, and can be done although there is no room.
    let all = usize::try_from(kept).unwrap();
    for taken in take(&queue, "f", all).await {
        queue.load(&taken).await.unwrap();
        assert_eq!(settle(&queue, &taken, Outcome::Ok).await, Settled::Done);
    }
    queue.tick().await.unwrap();
    queue.accept(submission("f", &body)).await.unwrap();
    drop(queue);
    assert_eq!(open(dir.path()).await.stats().queued, 1);
}

#[tokio::test]
async fn the_number_of_items_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.max_items = 3;
    let (queue, _) = open_with(dir.path(), options).await;
    for _ in 0..3 {
        queue.accept(submission("f", "x")).await.unwrap();
    }
    assert!(matches!(
        queue.accept(submission("f", "x")).await,
        Err(AcceptError::Full { .. })
    ));
    let taken = take_one(&queue, "f").await;
    settle(&queue, &taken, Outcome::Ok).await;
    queue.accept(submission("f", "x")).await.unwrap();
}
