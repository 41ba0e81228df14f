//! Registries that are slow, broken, strict or wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_image::{Credentials, Error, Event, Image, ImageDigest, Reference};

use crate::fake::{Asked, Fake, Reply, Then, serve};
use crate::made::{Made, Tar, Told, World, gzip, index, noise};

async fn pull(world: &World, fake: &Fake) -> Result<Image, Error> {
    let name = fake.reference("a/b:1");
    world.pull(&name).await
}

fn small() -> Made {
    Made::of(&[
        Tar::default().file("lower", b"l"),
        Tar::default().file("upper", b"u"),
    ])
}

fn large() -> Made {
    Made::of(&[Tar::default().file("noise", &noise(1 << 20))])
}

fn basic() -> Credentials {
    Credentials::Basic {
        user: "user".to_owned(),
        password: "secret".to_owned(),
    }
}

fn is_blob(asked: &Asked, made: &Made) -> bool {
    asked
        .path
        .ends_with(ImageDigest::of(&made.layers[0]).as_str())
}

#[tokio::test]
async fn a_layer_goes_on_where_it_was_cut() {
    let made = large();
    let cut_at = made.layers[0].len() / 3;
    let image = made.clone();
    let fake = Fake::start(move |asked| {
        let reply = serve(std::slice::from_ref(&image), asked);
        // Each answer has a third of it.
        if is_blob(asked, &image) && reply.body.len() > cut_at + 10 {
            reply.cut(cut_at)
        } else {
            reply
        }
    })
    .await;
    let world = World::new();
    let image = pull(&world, &fake).await.unwrap();
    assert_eq!(image.size, 1 << 20);
    let from: Vec<usize> = fake
        .asked_for("/blobs/")
        .iter()
        .map(Asked::from)
        .filter(|it| *it > 0)
        .collect();
    assert_eq!(from, [cut_at, 2 * cut_at]);
    assert_eq!(world.count("parts") + world.count("scratch"), 0);
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_from_the_beginning() {
    let made = large();
    let tries = AtomicUsize::new(0);
    let image = made.clone();
    let fake = Fake::start(move |asked| {
        if !is_blob(asked, &image) {
            return serve(std::slice::from_ref(&image), asked);
        }
        let whole = Reply::ok(&image.layers[0]);
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => whole.cut(300_000),
            // Refuses the range, then gives another than was asked for, then all of it.
            1 => Reply::status(416),
            2 => whole.cut(200_000),
            3 => Reply::rest(&image.layers[0], 5),
            4 => whole.cut(100_000),
            _ => whole,
        }
    })
    .await;
    let world = World::new();
    assert_eq!(pull(&world, &fake).await.unwrap().size, 1 << 20);
}

#[tokio::test]
async fn a_part_outlives_a_restart_and_a_damaged_one_does_no_harm() {
    let made = large();
    for damaged in [false, true] {
        let cut = Arc::new(AtomicUsize::new(1));
        let (image, still) = (made.clone(), Arc::clone(&cut));
        let fake = Fake::start(move |asked| {
            let reply = serve(std::slice::from_ref(&image), asked);
            if !is_blob(asked, &image) || still.load(Ordering::Relaxed) == 0 {
                reply
            } else if asked.from() == 0 {
                reply.cut(500_000)
            } else {
                Reply::status(503)
            }
        })
        .await;
        let world = World::new();
        let error = pull(&world, &fake).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unreachable { reason, .. } if reason.contains("503")),
            "{error}"
        );
        let world = world.again();
        let part = world
            .folder
            .path()
            .join("parts")
            .join(ImageDigest::of(&made.layers[0]).hex());
        let mut content = std::fs::read(&part).unwrap();
        assert_eq!(content.len(), 500_000);
        if damaged {
            content[1000] ^= 1;
            std::fs::write(&part, content).unwrap();
        }
        cut.store(0, Ordering::Relaxed);
        let before = fake.asked_for("/blobs/").len();
        pull(&world, &fake).await.unwrap();
        let asked = fake.asked_for("/blobs/").split_off(before);
        let from: Vec<usize> = asked
            .iter()
            .filter(|it| is_blob(it, &made))
            .map(Asked::from)
            .collect();
        assert_eq!(
            from,
            if damaged {
                vec![500_000, 0]
            } else {
                vec![500_000]
            }
        );
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_and_told() {
    for status in [429, 500, 503] {
        let tries = AtomicUsize::new(0);
        let fake = Fake::start(
            move |asked| match tries.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => Reply::status(status).header("retry-after", "0"),
                _ => serve(&[small()], asked),
            },
        )
        .await;
        let (world, told) = (World::new(), Told::new());
        let name = fake.reference("a:1");
        world
            .images
            .pull(&name, &Credentials::Anonymous, told.clone())
            .await
            .unwrap();
        assert!(told.count(|it| matches!(it, Event::Retry { .. })) >= 4);
        assert!(matches!(told.all().last(), Some(Event::Done { .. })));
    }
}

#[tokio::test]
async fn what_does_not_pass_is_given_up_on() {
    let world = World::new();
    let fake = Fake::start(|_| {
        Reply::status(503).body(br#"{"errors":[{"code":"X","message":"on holiday"}]}"#)
    })
    .await;
    let error = pull(&world, &fake).await.unwrap_err().to_string();
    assert!(
        error.contains("503") && error.contains("on holiday"),
        "{error}"
    );
    assert_eq!(fake.asked().len(), 5);

    let fake = Fake::start(|_| Reply::status(404)).await;
    let error = pull(&world, &fake).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(fake.asked().len(), 1);

    let nobody = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let name: Reference = format!("{address}/a").parse().unwrap();
    let error = world.pull(&name).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { reason, .. } if reason.starts_with("no connection")),
        "{error}"
    );
    world.assert_bare();
}

#[tokio::test]
async fn slow_and_silent_registries_are_given_up_on() {
    for then in [Then::Silence, Then::Trickle] {
        for blob in [false, true] {
            let made = small();
            let fake = Fake::start(move |asked| {
                let mut reply = serve(std::slice::from_ref(&made), asked);
                if is_blob(asked, &made) == blob {
                    // Something is always missing: what is whole is taken, though its answer has no end.
                    reply.body.pop();
                    reply.then(then)
                } else {
                    reply
                }
            })
            .await;
            let world = World::with(|settings| settings.idle = Duration::from_millis(100));
            let error = pull(&world, &fake).await.unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
            assert_eq!(world.count("images") + world.count("scratch"), 0);
        }
    }
}

#[tokio::test]
async fn endless_answers_end() {
    for blob in [false, true] {
        let made = small();
        let fake = Fake::start(move |asked| {
            let reply = serve(std::slice::from_ref(&made), asked);
            if is_blob(asked, &made) == blob {
                reply.then(Then::More)
            } else {
                reply
            }
        })
        .await;
        let world = World::new();
        let error = pull(&world, &fake).await.unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { .. } | Error::Invalid { .. }),
            "{error}"
        );
        world.assert_bare();
    }
}

#[tokio::test]
async fn wrong_digests_are_refused() {
    let made = small();
    let wrong = |what: &'static str| {
        let made = made.clone();
        move |asked: &Asked| {
            let mut reply = serve(std::slice::from_ref(&made), asked);
            let config = asked.path.ends_with(ImageDigest::of(&made.config).as_str());
            let hit = match what {
                "manifest" => asked.path.contains("/manifests/"),
                "config" => config,
                _ => asked.path.contains("/blobs/") && !config,
            };
            if hit {
                // As valid as before, and another.
                *reply.body.last_mut().unwrap() = b' ';
            }
            reply
        }
    };
    for what in ["manifest", "config", "layer"] {
        let fake = Fake::start(wrong(what)).await;
        let world = World::new();
        let name = fake.reference(&format!("a@{}", made.digest()));
        let error = world.pull(&name).await.unwrap_err();
        assert!(matches!(error, Error::Digest { .. }), "{what}: {error}");
        world.assert_bare();
    }
}

#[tokio::test]
async fn the_image_for_this_machine_is_chosen() {
    let ours = small();
    let platform = tidegate_image::Platform::machine().architecture;
    let other = Made::from_parts(ours.tars.clone(), ours.layers.clone(), &json!({}), "s390x");
    let list = index(&[(&other.manifest, "s390x"), (&ours.manifest, &platform)]).to_string();
    let digest = ImageDigest::of(list.as_bytes());
    let images = [ours.clone(), other.clone()];
    let fake = Fake::start(move |asked| {
        if asked.path.ends_with("/manifests/1") || asked.path.ends_with(digest.as_str()) {
            Reply::ok(list.as_bytes())
        } else {
            serve(&images, asked)
        }
    })
    .await;
    let world = World::new();
    let image = pull(&world, &fake).await.unwrap();
    assert_eq!(image.digest, ours.digest());
    assert_eq!(image.names, [fake.reference("a/b:1").to_string()]);
    assert_eq!(image.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    assert_eq!(image.config.env, [("A".to_owned(), "b".to_owned())]);

    // By the index's digest, which the image does not have itself.
    let by_index = fake.reference(&format!(
        "a/b@{}",
        ImageDigest::of(
            index(&[(&other.manifest, "s390x"), (&ours.manifest, &platform)])
                .to_string()
                .as_bytes()
        )
    ));
    world.pull(&by_index).await.unwrap();
    assert_eq!(world.images.resolve(&by_index), Some(ours.digest()));

    for (list, found) in [
        (
            index(&[(&other.manifest, "s390x"), (&other.manifest, "arm")]).to_string(),
            vec!["linux/arm", "linux/s390x"],
        ),
        (
            String::from_utf8(other.manifest.clone()).unwrap(),
            vec!["linux/s390x"],
        ),
    ] {
        let others = [other.clone()];
        let fake = Fake::start(move |asked| {
            if asked.path.ends_with("/manifests/1") {
                Reply::ok(list.as_bytes())
            } else {
                serve(&others, asked)
            }
        })
        .await;
        let world = World::new();
        match pull(&world, &fake).await.unwrap_err() {
            Error::Architecture { found: there, .. } => assert_eq!(there, found),
            other => panic!("{other}"),
        }
        world.assert_bare();
    }
}

#[tokio::test]
async fn all_compressions_make_the_same_layers() {
    let tars = [Tar::default()
        .file("f", &noise(300_000))
        .file("g", &[7; 300_000])];
    let config = json!({});
    let all = [
        Made::with(&tars, &config, gzip),
        Made::with(&tars, &config, crate::made::zstd),
        Made::with(&tars, &config, <[u8]>::to_vec),
    ];
    let world = World::new();
    for made in &all {
        pull(&world, &Fake::serving(&[made]).await).await.unwrap();
    }
    assert_eq!((world.count("images"), world.count("layers")), (3, 1));
    for made in &all[1..] {
        let world = World::new();
        let image = pull(&world, &Fake::serving(&[made]).await).await.unwrap();
        assert_eq!(
            world
                .images
                .read(&image.digest, "f", 1 << 20)
                .unwrap()
                .unwrap(),
            noise(300_000)
        );
    }
}

/// A registry whose blobs are elsewhere, behind a token service that is elsewhere too.
#[tokio::test]
async fn tokens_and_passwords_stay_where_they_belong() {
    let made = small();
    let blobs = {
        let made = made.clone();
        Fake::start(move |asked| {
            let digest = asked.path.rsplit('/').next().unwrap();
            Reply::ok(made.find(digest).unwrap())
        })
        .await
    };
    let tokens = Fake::start(|asked| {
        assert!(
            asked.path.contains("scope=repository%3Aa%2Fb%3Apull"),
            "{}",
            asked.path
        );
        match asked.header("authorization") {
            "Basic dXNlcjpzZWNyZXQ=" => Reply::ok(br#"{"access_token":"t0ken","expires_in":60}"#),
            _ => Reply::status(401).body(br#"{"details":"who are you"}"#),
        }
    })
    .await;
    let (elsewhere, realm) = (blobs.address, tokens.address);
    let image = made.clone();
    let fake = Fake::start(move |asked| {
        if asked.header("authorization") != "Bearer t0ken" {
            let ask = format!(
                r#"Bearer realm="http://{realm}/token",service="r",scope="repository:a/b:pull""#
            );
            return Reply::status(401).header("www-authenticate", ask);
        }
        if asked.path.contains("/blobs/") {
            return Reply::status(307)
                .header("location", format!("http://{elsewhere}{}", asked.path));
        }
        serve(std::slice::from_ref(&image), asked)
    })
    .await;
    let name = fake.reference("a/b:1");
    let world = World::new();
    for (credentials, words) in [
        (
            Credentials::Anonymous,
            "no credentials were given: who are you",
        ),
        (
            Credentials::Basic {
                user: "user".to_owned(),
                password: "wrong".to_owned(),
            },
            "do not suffice",
        ),
        (Credentials::Token("wrong".to_owned()), "do not suffice"),
    ] {
        let error = world
            .images
            .pull(&name, &credentials, Arc::new(()))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    world
        .images
        .pull(&name, &basic(), Arc::new(()))
        .await
        .unwrap();
    assert!(!blobs.asked().is_empty());
    for asked in blobs.asked() {
        assert_eq!(asked.header("authorization"), "");
    }
    for asked in fake.asked() {
        assert!(
            !asked.header("authorization").contains("dXNl"),
            "a password went to the registry"
        );
    }
}

#[tokio::test]
async fn redirects_have_bounds() {
    for (to, words) in [
        ("/v2/a/b/manifests/1", "more than 5"),
        ("ftp://x/", "neither http nor https"),
        ("http://", "no valid address"),
    ] {
        let fake = Fake::start(move |_| Reply::status(302).header("location", to)).await;
        let error = pull(&World::new(), &fake).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // A store of blobs that asks for a password gets none.
    let asks =
        Fake::start(|_| Reply::status(401).header("www-authenticate", "Basic realm=x")).await;
    let to = asks.address;
    let fake = Fake::start(move |asked| match asked.header("authorization") {
        "" => Reply::status(401).header("www-authenticate", "Basic realm=x"),
        _ => Reply::status(302).header("location", format!("http://{to}/")),
    })
    .await;
    let error = World::new()
        .images
        .pull(&fake.reference("a"), &basic(), Arc::new(()))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(
        asks.asked()
            .iter()
            .all(|asked| asked.header("authorization").is_empty())
    );
}

#[tokio::test]
async fn pulls_of_one_layer_share_the_work() {
    let made = large();
    let fake = Fake::serving(&[&made]).await;
    let world = World::new();
    let (one, two, three) = tokio::join!(
        pull(&world, &fake),
        pull(&world, &fake),
        pull(&world, &fake)
    );
    assert_eq!(one.unwrap().digest, two.unwrap().digest);
    three.unwrap();
    let blobs = fake.asked_for("/blobs/");
    assert_eq!(blobs.iter().filter(|it| is_blob(it, &made)).count(), 1);
}

#[tokio::test]
async fn a_dropped_pull_leaves_only_what_can_be_gone_on_with() {
    let made = large();
    let image = made.clone();
    let fake = Fake::start(move |asked| {
        let mut reply = serve(std::slice::from_ref(&image), asked);
        if is_blob(asked, &image) && asked.from() == 0 {
            reply.body.truncate(600_000);
            reply = reply.then(Then::Silence);
        }
        reply
    })
    .await;
    let (world, told) = (World::new(), Told::new());
    let name = fake.reference("a/b:1");
    {
        let pulling = world
            .images
            .pull(&name, &Credentials::Anonymous, told.clone());
        let stop = told.until(|it| matches!(it, Event::Bytes { .. }));
        tokio::select! {
            _ = pulling => panic!("it ended"),
            () = stop => {}
        }
    }
    for folder in ["layers", "images", "names", "scratch"] {
        assert_eq!(world.count(folder), 0, "{folder}");
    }
    assert_eq!(world.count("parts"), 1);
    // Another goes on with it, as with any part.
    let image = pull(&world, &fake).await.unwrap();
    assert_eq!(image.digest, made.digest());
    let from: Vec<usize> = fake
        .asked_for("/blobs/")
        .iter()
        .map(Asked::from)
        .filter(|it| *it > 0)
        .collect();
    assert!(from.len() == 1 && from[0] <= 600_000, "{from:?}");
}

/// On a file system of 3 MB, which only root can make.
#[tokio::test]
async fn a_full_disk_is_said_and_cleaned_up() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, words: &[&str]| {
        let done = std::process::Command::new(program)
            .args(words)
            .arg(folder.path())
            .status();
        assert!(done.unwrap().success(), "{program}");
    };
    run("mount", &["-t", "tmpfs", "-o", "size=3m", "tmpfs"]);
    // In the part, in the layer, and before anything has come.
    let large = Made::of(&[Tar::default().file("noise", &noise(2 << 20))]);
    let swells = Made::of(&[Tar::default().file("zeros", &[0; 6 << 20])]);
    let hopeless = Made::of(&[Tar::default().file("noise", &noise(4 << 20))]);
    let images =
        tidegate_image::Images::open(folder.path(), tidegate_image::Settings::default()).unwrap();
    for made in [&large, &swells, &hopeless] {
        let fake = Fake::serving(&[made]).await;
        let name = fake.reference("a");
        let error = images
            .pull(&name, &Credentials::Anonymous, Arc::new(()))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        for name in ["layers", "images", "names", "parts", "scratch"] {
            let left = std::fs::read_dir(folder.path().join(name)).unwrap().count();
            assert_eq!(left, 0, "{name}");
        }
    }
    let fits = Fake::serving(&[&small()]).await;
    images
        .pull(&fits.reference("a"), &Credentials::Anonymous, Arc::new(()))
        .await
        .unwrap();
    run("umount", &[]);
}
