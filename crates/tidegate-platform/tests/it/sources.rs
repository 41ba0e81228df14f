//! What is built and kept without a document that is a function.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tidegate_core::{Build, BuildSecret, BuildSecretPlace, Code};
use tidegate_platform::{BuildOutput, BuildReader, BuildSource, Digest};

use crate::fake::OnJob;
use crate::world::{World, until};

fn source(world: &World) -> BuildSource {
    BuildSource {
        name: "hello".to_owned(),
        runtime: "executable".to_owned(),
        contract: "http".to_owned(),
        code: Code {
            digest: world.code.clone(),
            entry: "made.sh".to_owned(),
            layer: None,
        },
        handler: None,
        build: Build {
            command: Some("make".to_owned()),
            ..Build::default()
        },
        secrets: BTreeMap::new(),
    }
}

async fn said(mut reader: BuildReader) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(lines) = reader.next().await {
        said.extend(lines.into_iter().map(|line| line.text.to_string()));
    }
    said
}

#[tokio::test]
async fn a_source_is_built_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let mut results = Vec::new();
    for cached in [false, true] {
        let (output, reader) = BuildOutput::new();
        output.note("it begins");
        let built = world.platform.build(&source(&world), &output).await;
        drop(output);
        results.push(built.unwrap());
        let said = said(reader).await;
        assert_eq!(said[0], "it begins");
        assert_eq!(
            said.iter().any(|l| l.contains("cached")),
            cached,
            "{said:?}"
        );
    }
    assert_eq!(world.fake.jobs.load(Ordering::SeqCst), 1);
    assert_eq!(results[0], results[1]);
    assert_ne!(results[0].code.digest, world.code);
    assert_eq!(results[0].code.entry, "made.sh");

    // What runs as it is is its own result.
    let mut plain = source(&world);
    plain.build.command = None;
    let (output, _) = BuildOutput::new();
    let built = world.platform.build(&plain, &output).await.unwrap();
    assert_eq!(built.code, plain.code);
    world.end().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_built_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    *world.fake.on_job.lock() = OnJob::Fail("main.c:3: expected ';'".to_owned());
    let (output, _) = BuildOutput::new();
    let failed = world.platform.build(&source(&world), &output).await;
    let failed = failed.unwrap_err();
    assert!(failed.message.contains("exited with code 2"), "{failed:?}");
    assert_eq!(failed.last, ["main.c:3: expected ';'"]);

    let mut absent = source(&world);
    absent.code.digest = Digest::of(b"nowhere").to_string();
    let failed = world.platform.build(&absent, &output).await.unwrap_err();
    assert!(failed.message.contains("was not uploaded"), "{failed:?}");
    world.end().await;
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_ends_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    *world.fake.on_job.lock() = OnJob::Hang("working".to_owned());
    let (output, mut reader) = BuildOutput::new();
    let (platform, source) = (world.platform.clone(), source(&world));
    let attended = world
        .platform
        .attend(async move { platform.build(&source, &output).await });
    until("the build has begun", || {
        world.fake.jobs.load(Ordering::SeqCst) == 1
    })
    .await;
    drop(attended);
    // Its readers hear of it.
    while reader.next().await.is_some() {}
    let work = folder.path().join("builds/work");
    until("the folder is gone", || {
        work.read_dir().unwrap().count() == 0
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn the_end_of_the_platform_ends_what_it_attends_to() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let attended = world.platform.attend(std::future::pending::<()>());
    assert_eq!(world.platform.attend(async { 7 }).result().await, Some(7));
    world.end().await;
    assert_eq!(attended.result().await, None);
}

#[tokio::test]
async fn secrets_that_came_with_a_source_are_shown_to_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    // Not the one of a namespace that has the same name.
    let put = world.platform.put_secret("default", "token", b"other");
    put.await.unwrap();
    let mut source = source(&world);
    source.build.secrets = vec![BuildSecret {
        name: "token".to_owned(),
        place: BuildSecretPlace::Mount,
    }];
    let (output, reader) = BuildOutput::new();
    let failed = world.platform.build(&source, &output).await.unwrap_err();
    assert_eq!(
        failed.message,
        "secret \"token\" did not come with the source"
    );
    source
        .secrets
        .insert("token".to_owned(), b"s3cr3t-word".to_vec());
    *world.fake.on_job.lock() = OnJob::Fail("it is s3cr3t-word".to_owned());
    let failed = world.platform.build(&source, &output).await.unwrap_err();
    assert_eq!(failed.last, ["it is ***"]);
    let shown = world.fake.shown.lock().clone();
    assert_eq!(shown, [("token".to_owned(), b"s3cr3t-word".to_vec())]);
    drop(output);
    assert!(
        !said(reader)
            .await
            .iter()
            .any(|line| line.contains("s3cr3t"))
    );
    world.end().await;
}

#[tokio::test]
async fn code_that_somebody_holds_is_not_swept() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let mut kept = Vec::new();
    for name in ["held", "loose"] {
        let scratch = world.platform.scratch().unwrap();
        let tree = scratch.path("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("name"), name).unwrap();
        kept.push(world.platform.keep_folder(&tree).await.unwrap());
    }
    world.hold("x", &kept[0].to_string()).await;
    // What is unused only once may be about to be used.
    for _ in 0..2 {
        world.platform.sweep().await.unwrap();
    }
    let blobs = world.platform.has_code(&kept[0]).await.unwrap();
    assert!(blobs, "held code was swept");
    assert!(!world.platform.has_code(&kept[1]).await.unwrap());
    world.end().await;
}

#[tokio::test]
async fn a_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on(folder.path()).await;
    let made = world.platform.own_key("builder", || Ok(vec![1; 32])).await;
    assert_eq!(made.unwrap(), [1; 32]);
    world.end().await;
    let world = World::on(folder.path()).await;
    let kept = world.platform.own_key("builder", || Ok(vec![2; 32])).await;
    assert_eq!(kept.unwrap(), [1; 32]);
    let other = world.platform.own_key("other", || Ok(vec![2; 32])).await;
    assert_eq!(other.unwrap(), [2; 32]);
    world.end().await;
}
