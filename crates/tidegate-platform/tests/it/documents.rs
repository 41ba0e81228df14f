//! From a document to what runs.

use tidegate_platform::Phase;

use crate::world::{World, until};

#[tokio::test]
async fn a_document_becomes_a_function_that_can_be_called() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let status = world.deploy("f", &world.spec("1")).await;
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    assert_eq!(world.fake.begun(), 1);
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    assert_eq!(world.newest_env("VERSION").as_deref(), Some("1"));
    world.end().await;
}

#[tokio::test]
async fn two_quick_changes_end_at_the_newer() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    world.deploy("f", &world.spec("1")).await;
    world.put("f", &world.spec("2")).await;
    let newest = world.put("f", &world.spec("3")).await;
    let status = world.settled(&newest).await;
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    assert_eq!(world.newest_env("VERSION").as_deref(), Some("3"));
    until("what was replaced has ended", || {
        world.fake.living().len() == 1
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn another_scale_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let mut spec = world.spec("1");
    let before = world.deploy("f", &spec).await;
    spec.scale.min = 2;
    let after = world.deploy("f", &spec).await;
    assert_eq!(before.revision, after.revision);
    until("two live", || world.fake.living().len() == 2).await;
    assert_eq!(world.fake.begun(), 2);
    world.end().await;
}

#[tokio::test]
async fn a_deleted_document_takes_its_function_away() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    world.deploy("f", &world.spec("1")).await;
    world.delete("f").await;
    assert!(world.function("f").is_none());
    until("its instance has ended", || world.fake.living().is_empty()).await;
    // And back again.
    let status = world.deploy("f", &world.spec("1")).await;
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    world.end().await;
}

#[tokio::test]
async fn a_generation_that_fails_says_why_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let good = world.deploy("f", &world.spec("1")).await;
    world.fake.fail_next("no module named numpy");
    let bad = world.deploy("f", &world.spec("2")).await;
    assert_eq!(bad.phase, Phase::Failed);
    assert_eq!(bad.message, "no module named numpy");
    assert_eq!(bad.revision, good.revision);
    assert_eq!(world.call("f").await.unwrap(), good.revision);
    let mut unknown = world.spec("3");
    unknown.contract = "carrier-pigeon".to_owned();
    let worse = world.deploy("f", &unknown).await;
    assert!(worse.message.contains("carrier-pigeon"), "{worse:?}");
    assert_eq!(world.call("f").await.unwrap(), good.revision);
    world.end().await;
}
