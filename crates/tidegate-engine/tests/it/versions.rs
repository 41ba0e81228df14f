//! Several revisions of one function at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_core::{Access, FunctionSpec, Outcome};
use tidegate_engine::{Arrangement, Function, Revision, Share};

use crate::world::{World, context, failure, get, key, read, revision, until};

fn share(revision: Revision, percent: u8) -> Share {
    Share {
        revision,
        percent,
        tags: Vec::new(),
        latest: false,
    }
}

fn one(id: &str) -> Revision {
    revision(id, |s| s.scale.initial = 1)
}

fn arrangement(parts: &[(&str, u8)]) -> Arrangement {
    let shares = parts.iter().map(|(id, percent)| share(one(id), *percent));
    Arrangement::new(shares.collect()).expect("a whole")
}

async fn deploy(world: &World, parts: &[(&str, u8)]) -> Arc<Function> {
    world
        .engine
        .deploy(&key("f"), arrangement(parts))
        .await
        .unwrap();
    world.engine.function(key("f").borrowed()).unwrap()
}

/// Which revision answers a call that names one.
async fn named(world: &World, function: &Arc<Function>, word: &str) -> Result<String, String> {
    let chosen = world.engine.choose(function, word).await;
    let chosen = chosen.map_err(|unknown| unknown.there.join(" "))?;
    let answer = world
        .engine
        .call_chosen(function, chosen, get("/revision"), context())
        .await;
    let answer = answer.map_err(|failure| failure.to_string())?;
    assert_eq!(answer.headers()["x-tidegate-revision"], word_of(&answer));
    Ok(read(answer).await.unwrap())
}

fn word_of<T>(answer: &http::Response<T>) -> String {
    let header = &answer.headers()["x-tidegate-revision"];
    header.to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn calls_are_split_by_weight() {
    let world = World::new();
    let f = deploy(&world, &[("r1", 90), ("r2", 9), ("r3", 1)]).await;
    let mut answers = BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        let answer = world.head(&f, get("/revision")).await.unwrap();
        let label = word_of(&answer);
        assert_eq!(read(answer).await.unwrap(), label);
        *answers.entry(label).or_default() += 1;
    }
    let near = |id: &str, wanted: u32| answers[id].abs_diff(wanted) <= 4;
    assert!(
        near("r1", 360) && near("r2", 36) && near("r3", 4),
        "{answers:?}"
    );
    let members = world.engine.members(&f);
    let told: Vec<(&str, u8, u64)> = members
        .iter()
        .map(|m| (&*m.revision.id, m.percent, m.tally.calls))
        .collect();
    for (id, percent, calls) in told {
        assert!(
            calls == u64::from(answers[id]) && percent > 0,
            "{id} {percent} {calls}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn parts_that_make_no_whole_are_no_arrangement() {
    for parts in [&[("r1", 99)][..], &[("r1", 60), ("r2", 60)], &[]] {
        let shares = parts.iter().map(|(id, n)| share(one(id), *n)).collect();
        assert!(Arrangement::new(shares).is_none(), "{parts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn revisions_are_called_by_word_tag_or_latest() {
    let world = World::new();
    world.keep(one("r0"));
    let shares = vec![
        share(one("r1"), 100),
        Share {
            tags: vec!["beta".into()],
            latest: true,
            ..share(one("r2"), 0)
        },
    ];
    let shares = Arrangement::new(shares).unwrap();
    world.engine.deploy(&key("f"), shares).await.unwrap();
    let f = world.engine.function(key("f").borrowed()).unwrap();
    for (word, answers) in [
        ("r1", "r1"),
        ("r2", "r2"),
        ("beta", "r2"),
        ("latest", "r2"),
        ("r0", "r0"),
    ] {
        assert_eq!(
            named(&world, &f, word).await.as_deref(),
            Ok(answers),
            "{word}"
        );
    }
    assert_eq!(named(&world, &f, "gamma").await, Err("r0".to_owned()));
    // None of which changed where the others go.
    assert_eq!(world.get(&f, "/revision").await.unwrap(), "r1");
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_only_named_starts_on_demand_and_goes_again() {
    let world = World::new();
    world.keep(one("r0"));
    let f = deploy(&world, &[("r1", 100)]).await;
    assert_eq!(world.fake.begun(), 1);
    assert_eq!(named(&world, &f, "r0").await.as_deref(), Ok("r0"));
    assert_eq!(world.fake.begun(), 2);
    assert_eq!(named(&world, &f, "r0").await.as_deref(), Ok("r0"));
    assert_eq!(world.fake.begun(), 2);
    assert_eq!(world.engine.members(&f).len(), 2);
    until("it has ended", || world.fake.instances()[1].is_gone()).await;
    // The pool itself goes with the next change.
    let f = deploy(&world, &[("r2", 100)]).await;
    assert_eq!(world.engine.members(&f).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_by_name_goes_on_when_its_revision_loses_its_traffic() {
    let world = World::new();
    let limited = revision("r1", |s| {
        s.scale.initial = 1;
        s.scale.max = 1;
    });
    world.keep(limited.clone());
    world.engine.deploy(&key("f"), limited).await.unwrap();
    let f = world.engine.function(key("f").borrowed()).unwrap();
    let held = world.hold(&f, 1).await;
    let chosen = world.engine.choose(&f, "r1").await.unwrap();
    let (engine, of) = (world.engine.clone(), f.clone());
    let waiting = tokio::spawn(async move {
        let answer = engine
            .call_chosen(&of, chosen, get("/revision"), context())
            .await?;
        Ok::<_, tidegate_engine::Failure>(read(answer).await.unwrap())
    });
    until("it waits", || world.counts(&f).queued == 1).await;
    deploy(&world, &[("r2", 100)]).await;
    assert_eq!(waiting.await.unwrap().unwrap(), "r1");
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn promotion_and_rollback_under_load_lose_nothing() {
    let world = World::new();
    let f = deploy(&world, &[("r1", 100)]).await;
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (engine, f, done) = (world.engine.clone(), f.clone(), done.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = engine.call(&f, get("/revision"), context()).await.unwrap();
                    read(answer).await.unwrap();
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for parts in [
        &[("r1", 90), ("r2", 10)][..],
        &[("r2", 100)],
        &[("r1", 100)],
        &[("r3", 50), ("r1", 50)],
        &[("r3", 100)],
        &[("r1", 100)],
    ] {
        deploy(&world, parts).await;
        // Callers that are never idle stop the paused clock, so calls are what is waited for.
        let before = f.metrics().total();
        while f.metrics().total() < before + 50 {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    world.settled(&f).await;
    assert_eq!(world.get(&f, "/revision").await.unwrap(), "r1");
    until("the others have ended", || {
        world.fake.living().iter().all(|i| i.revision == "r1")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_split_of_the_same_revisions_restarts_nothing() {
    let world = World::new();
    let f = deploy(&world, &[("r1", 90), ("r2", 10)]).await;
    assert_eq!(world.fake.begun(), 2);
    for percent in [20, 50, 99] {
        deploy(&world, &[("r1", 100 - percent), ("r2", percent)]).await;
    }
    assert_eq!(world.fake.begun(), 2);
    assert_eq!(world.engine.members(&f)[0].percent, 99);
}

#[tokio::test(start_paused = true)]
async fn each_revision_has_its_part_of_the_bounds() {
    let world = World::new();
    let wide = |id: &str| revision(id, |s| (s.scale.max, s.scale.min) = (10, 4));
    let shares = vec![
        share(wide("r1"), 50),
        share(wide("r2"), 50),
        share(wide("r3"), 0),
    ];
    world
        .engine
        .install(&key("f"), Arrangement::new(shares).unwrap());
    let f = world.engine.function(key("f").borrowed()).unwrap();
    let living = |id: &str| {
        let living = world.fake.living();
        living.iter().filter(|i| i.revision == id).count()
    };
    until("each has its minimum", || {
        living("r1") == 2 && living("r2") == 2
    })
    .await;
    assert_eq!(living("r3"), 0);
    // More calls than there may be instances.
    let calls: Vec<_> = (0..20).map(|_| world.begin(&f, "/hold")).collect();
    until("each has its maximum", || {
        living("r1") == 5 && living("r2") == 5
    })
    .await;
    until("the others wait", || world.counts(&f).queued == 10).await;
    until("all are answered", || {
        world.release();
        calls.iter().all(tokio::task::JoinHandle::is_finished)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_where_they_happened() {
    let world = World::new();
    let f = deploy(&world, &[("r1", 50), ("r2", 50)]).await;
    for _ in 0..10 {
        world.get(&f, "/revision").await.unwrap();
    }
    let chosen = world.engine.choose(&f, "r2").await.unwrap();
    let failed = world
        .engine
        .call_chosen(&f, chosen, get("/hangup"), context())
        .await;
    assert_eq!(failed.unwrap_err().outcome, Outcome::Function);
    let chosen = world.engine.choose(&f, "r2").await.unwrap();
    let failed = world
        .engine
        .call_chosen(&f, chosen, get("/status/503"), context())
        .await;
    assert_eq!(failed.unwrap().status(), 503);
    let tally = |id: &str| {
        let members = world.engine.members(&f);
        let member = members.iter().find(|m| *m.revision.id == *id).unwrap();
        (member.tally.calls, member.tally.errors)
    };
    until("all are accounted for", || tally("r2").0 == 7).await;
    assert_eq!((tally("r1"), tally("r2")), ((5, 0), (7, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_what_does_not_start_changes_nothing() {
    let world = World::new();
    let f = deploy(&world, &[("r2", 100)]).await;
    world.fake.break_revision("r1");
    let error = world
        .engine
        .deploy(&key("f"), arrangement(&[("r1", 100)]))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "broken");
    assert_eq!(world.get(&f, "/revision").await.unwrap(), "r2");
    world.engine.remove(key("f").borrowed());
    failure(world.get(&f, "/revision").await);
}

#[tokio::test(start_paused = true)]
async fn a_function_is_private_as_soon_as_a_part_of_it_is() {
    let world = World::new();
    let private = |s: &mut FunctionSpec| s.access = Access::Private;
    let access = async |parts: Vec<Share>| {
        let parts = Arrangement::new(parts).unwrap();
        world.engine.deploy(&key("f"), parts).await.unwrap();
        let f = world.engine.function(key("f").borrowed()).unwrap();
        world.engine.access(&f).unwrap()
    };
    let (open, closed) = (one("r1"), revision("r2", private));
    let split = vec![share(open.clone(), 99), share(closed.clone(), 1)];
    assert_eq!(access(split).await, Access::Private);
    let aside = vec![share(open, 100), share(closed, 0)];
    assert_eq!(access(aside).await, Access::Public);
    let f = world.engine.function(key("f").borrowed()).unwrap();
    let chosen = world.engine.choose(&f, "r2").await.unwrap();
    assert_eq!(chosen.access(), Access::Private);
}
