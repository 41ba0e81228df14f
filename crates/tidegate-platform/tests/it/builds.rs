//! What is built before it runs.

use std::sync::atomic::Ordering;

use tidegate_platform::{BuildLineKind, Phase};

use crate::fake::OnJob;
use crate::world::{World, key, until};

fn jobs(world: &World) -> usize {
    world.fake.jobs.load(Ordering::SeqCst)
}

#[tokio::test]
async fn what_was_built_once_is_not_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let object = world.put_made("f", "make").await;
    let status = world.settled(&object).await;
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    assert_eq!((jobs(&world), &*status.build.bundle), (1, "built"));
    assert_eq!(world.call("f").await.unwrap(), status.revision);

    let same = world.put_made("g", "make").await;
    let same = world.settled(&same).await;
    assert_eq!((jobs(&world), &*same.build.bundle), (1, "cached"));
    assert_eq!(same.revision, status.revision);
    world.end().await;

    // Nor after a restart.
    let world = World::on(folder.path()).await;
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    assert_eq!(jobs(&world), 0);
    world.end().await;
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let good = world.deploy("f", &world.spec("1")).await;
    *world.fake.on_job.lock() = OnJob::Fail("main.c:3: expected ';'".to_owned());
    let object = world.put_made("f", "make").await;
    let bad = world.settled(&object).await;
    assert_eq!(bad.phase, Phase::Failed);
    assert!(bad.message.contains("exited with code 2"), "{bad:?}");
    assert!(bad.build.failed);
    assert_eq!(bad.build.log, ["main.c:3: expected ';'"]);
    assert_eq!(bad.revision, good.revision);
    assert_eq!(world.call("f").await.unwrap(), good.revision);
    let built = jobs(&world);
    world.end().await;

    // It would fail again: nobody asked for it.
    let world = World::on(folder.path()).await;
    assert_eq!(world.call("f").await.unwrap(), good.revision);
    assert_eq!((built, jobs(&world)), (1, 0));
    world.end().await;
}

#[tokio::test]
async fn a_build_that_fails_beside_pinned_traffic_is_tried_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let first = world.deploy("f", &world.spec("1")).await;
    let second = world.deploy("f", &world.spec("2")).await;
    *world.fake.on_job.lock() = OnJob::Fail("no rule".to_owned());
    let mut spec = world.spec("3");
    spec.runtime = "executable".to_owned();
    spec.code.entry = "made.sh".to_owned();
    // Puts the first in force, which is written into the status before the build has failed.
    let pinned = format!("{}=100", first.revision);
    let more = serde_json::json!({ "make": "make", "traffic": pinned });
    let object = world.put_with("f", &spec, &more).await;
    let status = world.settled(&object).await;
    assert!(status.build.failed, "{status:?}");
    assert_eq!(status.revision, second.revision);
    assert_eq!(status.traffic[0].revision, first.revision);
    assert_eq!(world.call("f").await.unwrap(), first.revision);
    assert_eq!(jobs(&world), 1);
    world.end().await;
}

#[tokio::test]
async fn what_a_build_says_can_be_followed_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    *world.fake.on_job.lock() = OnJob::Fail("no rule".to_owned());
    let object = world.put_made("f", "make").await;
    let mut tail = world.platform.build_log(&key("f"), object.generation());
    let mut said = Vec::new();
    while let Some(lines) = tail.next().await {
        said.extend(lines.into_iter().map(|l| (l.kind, l.text.to_string())));
    }
    assert_eq!(said[0].0, BuildLineKind::Step);
    assert_eq!(
        said.last().unwrap(),
        &(BuildLineKind::Stderr, "no rule".to_owned())
    );

    // Nothing to build, nothing to say.
    let plain = world.put("g", &world.spec("1")).await;
    let mut tail = world.platform.build_log(&key("g"), plain.generation());
    assert!(tail.next().await.is_none());
    world.end().await;
}

#[tokio::test]
async fn what_a_build_said_is_kept_when_its_result_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let put = |value: &'static [u8]| world.platform.put_secret("default", "token", value);
    put(b"one").await.unwrap();
    let mut spec = world.spec_with_secret("token");
    spec.runtime = "executable".to_owned();
    spec.code.entry = "made.sh".to_owned();
    let more = serde_json::json!({ "make": "make" });
    let object = world.put_with("f", &spec, &more).await;
    world.settled(&object).await;
    // Has it looked at once more.
    put(b"two").await.unwrap();
    until("an instance has the new value", || {
        world.newest_env("SECRET").as_deref() == Some("two")
    })
    .await;
    assert_eq!(jobs(&world), 1);
    let mut tail = world.platform.build_log(&key("f"), object.generation());
    let lines = tail.next().await.unwrap();
    assert_eq!(lines[0].kind, BuildLineKind::Step, "{lines:?}");
    world.end().await;
}

#[tokio::test]
async fn a_newer_generation_ends_the_build_of_the_older() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    *world.fake.on_job.lock() = OnJob::Hang("working".to_owned());
    world.put_made("f", "make").await;
    until("the build has begun", || jobs(&world) == 1).await;
    let newer = world.put("f", &world.spec("2")).await;
    let status = world.settled(&newer).await;
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    world.end().await;
}

#[tokio::test]
async fn a_build_cut_short_by_the_end_of_the_server_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    *world.fake.on_job.lock() = OnJob::Hang("working".to_owned());
    let object = world.put_made("f", "make").await;
    until("the build has begun", || jobs(&world) == 1).await;
    world.end().await;

    let world = World::on(folder.path()).await;
    let status = world.settled(&object).await;
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    assert_eq!(jobs(&world), 1);
    let left = std::fs::read_dir(folder.path().join("builds/work")).unwrap();
    assert_eq!(left.count(), 0, "work folders left behind");
    world.end().await;
}

#[tokio::test]
async fn the_next_of_a_name_does_not_get_the_downloads_of_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    world.platform.create_namespace("team").await.unwrap();
    let cache = folder.path().join("builds/cache");
    std::fs::create_dir_all(cache.join("team/pip")).unwrap();
    std::fs::create_dir_all(cache.join("default/pip")).unwrap();
    world.platform.delete_namespace("team").await.unwrap();
    assert!(!cache.join("team").exists() && cache.join("default/pip").exists());
    world.end().await;
}
