//! Secrets and the functions that name them.

use tidegate_platform::{Error, Phase};

use crate::world::{World, until};

#[tokio::test]
async fn a_changed_secret_makes_a_new_revision_with_the_new_value() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let put = |value: &'static [u8]| world.platform.put_secret("default", "token", value);
    put(b"one").await.unwrap();
    let before = world.deploy("f", &world.spec_with_secret("token")).await;
    assert_eq!(before.phase, Phase::Ready, "{before:?}");
    assert_eq!(world.newest_env("SECRET").as_deref(), Some("one"));
    put(b"two").await.unwrap();
    until("an instance has the new value", || {
        world.newest_env("SECRET").as_deref() == Some("two")
    })
    .await;
    until("the one with the old value has ended", || {
        world.fake.living().len() == 1
    })
    .await;
    assert_ne!(world.call("f").await.unwrap(), before.revision);
    world.end().await;
}

#[tokio::test]
async fn a_secret_that_is_used_is_deleted_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let platform = &world.platform;
    platform
        .put_secret("default", "token", b"one")
        .await
        .unwrap();
    world.deploy("f", &world.spec_with_secret("token")).await;
    let refused = platform.delete_secret("default", "token", false).await;
    assert!(matches!(refused, Err(Error::InUse(_))), "{refused:?}");
    platform
        .delete_secret("default", "token", true)
        .await
        .unwrap();
    let again = platform.delete_secret("default", "token", true).await;
    assert!(matches!(again, Err(Error::NotFound(_))), "{again:?}");
    world.end().await;
}

#[tokio::test]
async fn a_missing_secret_fails_the_generation_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let status = world.deploy("f", &world.spec_with_secret("token")).await;
    assert_eq!(status.phase, Phase::Failed);
    assert!(status.message.contains("token"), "{status:?}");
    assert_eq!(world.fake.begun(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_secret_is_made_once_and_changed_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let platform = &world.platform;
    let absent = platform.update_secret("default", "tls.crt", b"a").await;
    assert!(matches!(absent, Err(Error::NotFound(_))), "{absent:?}");
    let made = platform.create_secret("default", "tls.crt", b"a").await;
    assert_eq!(made.unwrap().size, 1);
    let again = platform.create_secret("default", "tls.crt", b"bc").await;
    let is_taken = matches!(
        &again,
        Err(Error::Store(
            tidegate_platform::StoreError::AlreadyExists { .. }
        ))
    );
    assert!(is_taken, "{again:?}");
    let changed = platform.update_secret("default", "tls.crt", b"bc").await;
    assert_eq!(changed.unwrap().size, 2);
    for name in ["", "Not_One", "a..b", ".a", "a/b"] {
        let refused = platform.create_secret("default", name, b"a").await;
        assert!(
            matches!(refused, Err(Error::Invalid(_))),
            "{name}: {refused:?}"
        );
    }
    let nowhere = platform.create_secret("nowhere", "a", b"a").await;
    assert!(matches!(nowhere, Err(Error::NotFound(_))), "{nowhere:?}");
    world.end().await;
}
