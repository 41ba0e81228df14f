//! Numbers of instances that somebody asks for.

use tidegate_core::{ByHand, FunctionSpec};

use crate::world::{World, until};

/// A function that has one instance at least, and this many by hand.
fn asked(world: &World, by_hand: Option<(u32, u64)>) -> FunctionSpec {
    let mut spec = world.spec("1");
    spec.scale.min = 1;
    spec.scale.by_hand = by_hand.map(|(instances, turn)| ByHand { instances, turn });
    spec
}

fn desired(world: &World) -> u32 {
    let function = world.function("f").expect("the function is known");
    world.platform.counts(&function).wanted
}

#[tokio::test]
async fn asking_for_another_number_makes_no_revision_and_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let status = world.deploy("f", &asked(&world, None)).await;
    let first = world.fake.living()[0].clone();
    for (turn, count) in [3, 1, 2].into_iter().enumerate() {
        let asked = asked(&world, Some((count, turn as u64)));
        assert_eq!(world.deploy("f", &asked).await.revision, status.revision);
        assert_eq!(desired(&world), count, "as soon as it is settled");
        until("so many are there", || {
            world.fake.living().len() == count as usize
        })
        .await;
        if turn == 0 {
            assert!(!first.is_gone());
        }
    }
    // Back to what the function began with.
    world.deploy("f", &asked(&world, None)).await;
    assert_eq!(desired(&world), 1);
    until("one is there", || world.fake.living().len() == 1).await;
    assert_eq!(world.revisions("f").await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_function_that_sleeps_is_woken_by_a_call_and_can_be_put_to_sleep_again() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let status = world.deploy("f", &asked(&world, None)).await;
    for turn in 1..4 {
        world.deploy("f", &asked(&world, Some((0, turn)))).await;
        assert_eq!(desired(&world), 0);
        until("none is there", || world.fake.living().is_empty()).await;
        assert_eq!(world.call("f").await.unwrap(), status.revision);
        assert_eq!(desired(&world), 1);
    }
    world.end().await;
}

#[tokio::test]
async fn what_was_asked_for_outlives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let status = world.deploy("f", &asked(&world, Some((3, 1)))).await;
    world.end().await;
    let world = World::on(folder.path()).await;
    until("three are back", || world.fake.living().len() == 3).await;
    world.deploy("f", &asked(&world, Some((0, 2)))).await;
    world.end().await;
    let world = World::on(folder.path()).await;
    assert_eq!(desired(&world), 0);
    assert_eq!(world.fake.begun(), 0);
    assert_eq!(world.call("f").await.unwrap(), status.revision);
    assert_eq!(world.fake.begun(), 1, "the call's, and no other");
    world.end().await;
}
