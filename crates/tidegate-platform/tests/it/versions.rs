//! Revisions: kept, given traffic, rolled out, taken back.

use serde_json::json;
use tidegate_core::FunctionSpec;
use tidegate_platform::{Phase, RevisionPhase, RolloutPhase, Status, TrafficPart};

use crate::world::{KEPT, World, context, until};

fn part(revision: &str, percent: u8, tags: &[&str]) -> TrafficPart {
    TrafficPart {
        revision: revision.to_owned(),
        percent,
        tags: tags.iter().map(ToString::to_string).collect(),
    }
}

/// Calls that fail as the function's own fault, by what is said of a rollout.
async fn fail(world: &World, name: &str, calls: usize) {
    for _ in 0..calls {
        let function = world.function(name).unwrap();
        let request = http::Request::get("/status/500")
            .body(tidegate_platform::Body::empty())
            .unwrap();
        let answer = world.platform.call(&function, request, context()).await;
        drop(answer);
    }
}

#[tokio::test]
async fn every_change_is_kept_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let mut ids = Vec::new();
    for n in 1..=KEPT + 2 {
        ids.push(
            world
                .deploy("f", &world.spec(&n.to_string()))
                .await
                .revision,
        );
        // One whose name begins alike.
        world.deploy("f-g", &world.spec(&n.to_string())).await;
    }
    let kept = world.revisions("f").await;
    let seen: Vec<(u64, &str)> = kept.iter().map(|k| (k.number, k.id.as_str())).collect();
    assert_eq!(
        seen,
        [(5, &*ids[4]), (4, &*ids[3]), (3, &*ids[2])],
        "{ids:?}"
    );
    assert!(kept.iter().all(|k| k.phase == RevisionPhase::Ready));
    assert_eq!((kept[0].generation, &*kept[0].cause), (5, "deploy"));
    // Another scale makes none.
    let mut spec = world.spec("5");
    spec.scale.max = 9;
    world.deploy("f", &spec).await;
    assert_eq!(world.revisions("f").await.len(), KEPT);
    // What was deployed before is not made anew, but is the newest again.
    let again = world.deploy("f", &world.spec("3")).await;
    assert_eq!(again.revision, ids[2]);
    let kept = world.revisions("f").await;
    assert_eq!((kept[0].number, &*kept[0].id), (6, &*ids[2]));
    assert_eq!(kept.len(), KEPT);
    world.end().await;
}

#[tokio::test]
async fn revisions_go_with_their_function() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    world.deploy("f", &world.spec("1")).await;
    world.delete("f").await;
    let status = world.deploy("f", &world.spec("2")).await;
    let kept = world.revisions("f").await;
    assert_eq!((kept.len(), kept[0].number), (1, 1));
    assert_eq!(kept[0].id, status.revision);
    world.end().await;
}

#[tokio::test]
async fn a_failed_revision_keeps_its_reason_and_pushes_none_out() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let good = world.deploy("f", &world.spec("good")).await;
    for n in 0..KEPT + 1 {
        world.fake.fail_next("no module named numpy");
        let bad = world.deploy("f", &world.spec(&n.to_string())).await;
        assert_eq!((bad.phase, &bad.revision), (Phase::Failed, &good.revision));
        assert_eq!(bad.traffic, [part(&good.revision, 100, &[])]);
    }
    let kept = world.revisions("f").await;
    let failed: Vec<_> = kept
        .iter()
        .filter(|k| k.phase == RevisionPhase::Failed)
        .collect();
    assert_eq!((kept.len(), failed.len()), (KEPT + 1, KEPT));
    assert_eq!(failed[0].message, "no module named numpy");
    assert!(
        failed[0].log.iter().any(|l| l.contains("numpy")),
        "{:?}",
        failed[0]
    );
    assert_eq!(kept.last().unwrap().id, good.revision);
    world.end().await;
}

#[tokio::test]
async fn traffic_is_split_and_a_change_of_it_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let one = world.deploy("f", &world.spec("1")).await.revision;
    let two = world.deploy("f", &world.spec("2")).await.revision;
    let split = json!({ "traffic": format!("latest=90 {one}=10:old") });
    let status = world.deploy_with("f", &world.spec("2"), &split).await;
    assert_eq!(status.revision, two);
    assert_eq!(
        status.traffic,
        [part(&two, 90, &[]), part(&one, 10, &["old"])]
    );
    let begun = world.fake.begun();
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(world.call("f").await.unwrap());
    }
    let old = answers.iter().filter(|a| **a == one).count();
    assert!((3..=7).contains(&old), "{old} of 50");
    assert_eq!(world.call_named("f", "old").await.unwrap(), one);
    let split = json!({ "traffic": format!("latest=50 {one}=50") });
    world.deploy_with("f", &world.spec("2"), &split).await;
    assert_eq!(world.fake.begun(), begun);
    assert_eq!(world.revisions("f").await.len(), 2);
    // Restarts change nothing about it.
    world.end().await;
    let world = World::on(folder.path()).await;
    assert_eq!(world.fake.begun(), 0);
    let members = world.platform.members(&world.function("f").unwrap());
    let told: Vec<_> = members
        .iter()
        .map(|m| (&*m.revision.id, m.percent))
        .collect();
    assert!(
        told.contains(&(&one, 50)) && told.contains(&(&two, 50)),
        "{told:?}"
    );
    world.end().await;
}

#[tokio::test]
async fn kept_revisions_are_called_by_name_and_unknown_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let one = world.deploy("f", &world.spec("1")).await.revision;
    let two = world.deploy("f", &world.spec("2")).await.revision;
    assert_eq!(world.call_named("f", &one).await.unwrap(), one);
    assert_eq!(world.call_named("f", "latest").await.unwrap(), two);
    let unknown = world.call_named("f", "nobody/there").await.unwrap_err();
    assert_eq!(unknown, format!("latest {two} {one}"));
    world.end().await;
}

#[tokio::test]
async fn a_rollback_does_not_wait_for_a_deploy_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let one = world.deploy("f", &world.spec("1")).await.revision;
    let two = world.deploy("f", &world.spec("2")).await.revision;
    let pinned = json!({ "traffic": format!("{one}=100") });
    let status = world.deploy_with("f", &world.spec("2"), &pinned).await;
    assert_eq!(
        (&status.revision, &status.traffic[0].revision),
        (&two, &one)
    );
    world.fake.shut();
    let begun = world.fake.begun();
    let third = world.put("f", &world.spec("3")).await;
    until("the third is starting", || world.fake.begun() == begun + 1).await;
    // The two that is wanted now has no instance, and starts behind the gate too; the newer generation overtakes.
    let pinned = json!({ "traffic": format!("{one}=100") });
    let fourth = world.put_with("f", &world.spec("3"), &pinned).await;
    assert!(fourth.generation() > third.generation());
    assert_eq!(world.call("f").await.unwrap(), one);
    world.fake.open();
    let status = world.settled(&fourth).await;
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    assert_eq!(status.traffic, [part(&one, 100, &[])]);
    assert_eq!(world.call("f").await.unwrap(), one);
    assert_eq!(
        world.call_named("f", "latest").await.unwrap(),
        status.revision
    );
    world.end().await;
}

#[tokio::test]
async fn traffic_to_what_is_not_there_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let one = world.deploy("f", &world.spec("1")).await.revision;
    let wrong = json!({ "traffic": "0123456789ab=100" });
    let status = world.deploy_with("f", &world.spec("1"), &wrong).await;
    assert_eq!(status.phase, Phase::Failed);
    assert!(
        status.message.contains("0123456789ab") && status.message.contains(&one),
        "{status:?}"
    );
    assert_eq!(world.call("f").await.unwrap(), one);
    assert_eq!(world.revisions("f").await.len(), 1);
    world.end().await;
}

/// Deploys two versions, the second over a time.
async fn rolling(world: &World, over_ms: u64) -> (Status, Status, FunctionSpec) {
    let one = world.deploy("f", &world.spec("1")).await;
    let spec = world.spec("2");
    let two = world
        .deploy_with("f", &spec, &json!({ "rollout": over_ms }))
        .await;
    assert_eq!(two.phase, Phase::Ready, "{two:?}");
    (one, two, spec)
}

#[tokio::test]
async fn a_rollout_goes_by_steps_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let (one, two, _) = rolling(&world, 1500).await;
    assert_eq!(
        two.traffic,
        [part(&one.revision, 99, &[]), part(&two.revision, 1, &[])]
    );
    let half = world
        .until_status("f", "some of it", |s| {
            s.traffic.iter().all(|p| p.percent > 5)
        })
        .await;
    assert_eq!(half.rollout.unwrap().phase, RolloutPhase::Running);
    let done = world
        .until_status("f", "all of it", |s| {
            s.rollout
                .as_ref()
                .is_some_and(|r| r.phase == RolloutPhase::Done)
                && s.traffic.len() == 1
        })
        .await;
    assert_eq!(done.traffic, [part(&two.revision, 100, &[])]);
    assert_eq!(world.call("f").await.unwrap(), two.revision);
    until("what was replaced has ended", || {
        world.fake.living().len() == 1
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_rollout_is_taken_back_when_too_much_fails() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let (one, two, spec) = rolling(&world, 3_600_000).await;
    // One call of a hundred goes to the new one; named ones are as good.
    let function = world.function("f").unwrap();
    for _ in 0..6 {
        let chosen = world
            .platform
            .choose(&function, &two.revision)
            .await
            .unwrap();
        let request = http::Request::get("/status/503")
            .body(tidegate_platform::Body::empty())
            .unwrap();
        let answer = world
            .platform
            .call_chosen(&function, chosen, request, context())
            .await
            .unwrap();
        assert_eq!(answer.status(), 503);
    }
    let back = world
        .until_status("f", "taken back", |s| s.phase == Phase::Failed)
        .await;
    assert_eq!(back.revision, one.revision);
    assert_eq!(back.traffic, [part(&one.revision, 100, &[])]);
    for says in [&*two.revision, "6 of 6", "100.0 %", "5.0 %", &*one.revision] {
        assert!(back.message.contains(says), "{back:?}");
    }
    until("the new one has ended", || {
        world
            .fake
            .living()
            .iter()
            .all(|i| i.revision == one.revision)
    })
    .await;
    assert_eq!(world.call("f").await.unwrap(), one.revision);
    let kept = world.revisions("f").await;
    assert_eq!(kept[0].phase, RevisionPhase::RolledBack);
    assert_eq!(kept[0].message, back.message);
    // A restart does not try it again, nor does another scale.
    world.end().await;
    let world = World::on(folder.path()).await;
    assert_eq!(world.call("f").await.unwrap(), one.revision);
    let mut wider = spec.clone();
    wider.scale.max = 7;
    let same = world
        .deploy_with("f", &wider, &json!({ "rollout": 3_600_000 }))
        .await;
    assert_eq!((same.phase, &same.traffic), (Phase::Failed, &back.traffic));
    // Whoever asks for it once more gets it.
    let object = world.platform.get(&crate::world::key("f")).await.unwrap();
    let object = world.platform.retry(object).await.unwrap();
    let again = world.settled(&object).await;
    assert_eq!(
        (again.phase, again.traffic.len()),
        (Phase::Ready, 2),
        "{again:?}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_rollout_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let (one, two, _) = rolling(&world, 2500).await;
    let under_way = world
        .until_status("f", "under way", |s| {
            s.traffic.iter().all(|p| p.percent >= 20)
        })
        .await;
    world.end().await;
    let world = World::on(folder.path()).await;
    let now = world.status("f").await;
    let percent = |s: &Status| s.rollout.as_ref().unwrap().percent;
    assert!(percent(&now) >= percent(&under_way), "{now:?}");
    assert_eq!(now.rollout.as_ref().unwrap().from, one.revision);
    let done = world
        .until_status("f", "all of it", |s| s.traffic.len() == 1)
        .await;
    assert_eq!(done.traffic, [part(&two.revision, 100, &[])]);
    world.end().await;
}

#[tokio::test]
async fn failures_of_both_alike_take_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let (_, two, _) = rolling(&world, 1200).await;
    let failing = async {
        loop {
            fail(&world, "f", 1).await;
            tokio::task::yield_now().await;
        }
    };
    let done = world.until_status("f", "all of it", |s| s.traffic.len() == 1);
    let done = tokio::select! {
        () = failing => unreachable!("it has no end"),
        done = done => done,
    };
    assert_eq!(done.traffic[0].revision, two.revision, "{done:?}");
    world.end().await;
}
