//! What a server finds when it comes back.

use tidegate_platform::{Phase, Status};

use crate::fake::Fake;
use crate::world::{World, key, until};

#[tokio::test]
async fn what_was_ready_is_called_again_without_being_started_before() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let status = world.deploy("f", &world.spec("1")).await;
    world.end().await;
    let world = World::on(folder.path()).await;
    assert!(world.function("f").is_some());
    assert_eq!(world.fake.begun(), 0);
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    assert_eq!(world.fake.begun(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_generation_that_failed_leaves_the_one_before_it_serving() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let good = world.deploy("f", &world.spec("1")).await;
    world.fake.fail_next("broken");
    assert_eq!(
        world.deploy("f", &world.spec("2")).await.phase,
        Phase::Failed
    );
    world.end().await;
    let world = World::on(folder.path()).await;
    assert_eq!(world.call("f").await.unwrap(), good.revision);
    assert_eq!(world.newest_env("VERSION").as_deref(), Some("1"));
    world.end().await;
}

#[tokio::test]
async fn a_deploy_that_was_cut_short_leaves_the_one_before_it_serving_and_is_carried_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let good = world.deploy("f", &world.spec("1")).await;
    world.fake.shut();
    world.put("f", &world.spec("2")).await;
    until("the new one is starting", || world.fake.begun() == 2).await;
    world.end().await;

    let fake = std::sync::Arc::<Fake>::default();
    fake.shut();
    let world = World::with(folder.path(), fake).await;
    until("it is starting again", || world.fake.begun() == 1).await;
    let stored = world.platform.get(&key("f")).await.unwrap();
    let status = Status::of(&stored);
    assert!(!status.is_settled(stored.generation()));
    assert_eq!(status.revision, good.revision);
    // The one before it takes the call, once it may start.
    let (answered, ()) = tokio::join!(world.call("f"), async {
        until("the old one is asked for", || world.fake.begun() == 2).await;
        world.fake.open();
    });
    assert!(answered.is_ok(), "{answered:?}");
    let status = world.settled(&stored).await;
    assert_eq!(status.phase, Phase::Ready);
    assert_ne!(status.revision, good.revision);
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    world.end().await;
}

#[tokio::test]
async fn what_was_deleted_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    world.deploy("f", &world.spec("1")).await;
    world.delete("f").await;
    world.end().await;
    let world = World::on(folder.path()).await;
    assert!(world.function("f").is_none());
    world.end().await;
}
