//! Contexts sent to a builder on a real platform with a real store, against an isolation whose tools are the test's.

// The engine's own fake: one file, so that the two cannot come to differ.
#[allow(dead_code, reason = "the engine's tests use all of it")]
#[path = "../../../tidegate-engine/tests/it/fake.rs"]
mod fake;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use tar::EntryType;
use tidegate_core::Build;
use tidegate_openfaas::build::{
    BuildResult, BuildState, CONFIG_ENTRY, Content, ContextFile, NDJSON, PublicKey,
    SIGNATURE_HEADER, sign, write_context,
};
use tidegate_openfaas::seal::{KeyPair, seal};
use tidegate_openfaas::templates::TemplateError;
use tidegate_openfaas::{BuildConfig, Image, Prepared, WatchdogKind, templates};
use tidegate_platform::{Object, ObjectKey, Parts, Phase, Platform, Preconditions, Status};
use tower::ServiceExt as _;

use super::{AT_HAND, LastWords, MAX_CONTEXT_BYTES, router_with};
use crate::{Config, Deployments, Images, OpenFaas, images};
use fake::{Fake, Handle, OnJob};

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

const SECRET: &[u8] = b"payload-secret\n";

struct World {
    fake: Arc<Fake>,
    platform: Platform,
    router: Router,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(Some(SECRET)).await
    }

    async fn with(secret: Option<&[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let opened = tokio::task::spawn_blocking(move || tidegate_store::open(&data)).await;
        let (store, report) = opened.unwrap().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let fake = Arc::<Fake>::default();
        let platform = Platform::start(Parts {
            kinds: vec![Arc::new(Deployments)],
            holders: vec![Arc::new(Images)],
            ..Parts::below(folder.path(), store, Arc::new(Handle(fake.clone())))
        })
        .await
        .unwrap();
        let config = Config {
            release: "0.1.0",
            commit: "0123456789abcdef",
            payload_secret: secret.map(Into::into),
        };
        let openfaas = OpenFaas::new(platform.clone(), config);
        Self {
            fake,
            platform,
            router: router_with(openfaas, prepare),
            folder,
        }
    }

    async fn post(
        &self,
        archive: Vec<u8>,
        accept: &str,
        signature: Option<&str>,
    ) -> Response<Body> {
        let mut request = Request::post("/build");
        if !accept.is_empty() {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(signature) = signature {
            request = request.header(SIGNATURE_HEADER, signature);
        }
        let request = request.body(Body::from(archive)).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a signed archive, and gives the lines of the answer.
    async fn lines(&self, archive: Vec<u8>) -> Vec<BuildResult> {
        let signature = sign(SECRET, &archive);
        let response = self.post(archive, NDJSON, Some(&signature)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], NDJSON);
        read_lines(response).await
    }

    /// Sends a signed archive that does not become an image, and gives the error.
    async fn error(&self, archive: Vec<u8>) -> String {
        let lines = self.lines(archive).await;
        let last = lines.last().unwrap();
        assert_eq!(last.status, BuildState::Failed, "{lines:?}");
        assert!(!last.error.is_empty());
        last.error.clone()
    }

    async fn image(&self, name: &str) -> Option<Image> {
        images::find(&self.platform, name).await.unwrap()
    }

    async fn no_work_is_left(&self) {
        let work = self.folder.path().join("builds/work");
        until("the folders of work are gone", || {
            work.read_dir().unwrap().count() == 0
        })
        .await;
    }
}

/// What a template of these tests makes of a handler: a program that a command makes, unless it is one that says it is.
fn prepare(root: &Path, _: &BuildConfig, out: &Path) -> Result<Prepared, TemplateError> {
    let template = templates::template(root)?;
    if template.language != "test" {
        return Err(TemplateError::Unknown {
            language: template.language,
            known: "test".to_owned(),
        });
    }
    let handler = std::fs::read(root.join("function/handler.txt"));
    let handler = handler.map_err(|source| TemplateError::Io {
        what: "function/handler.txt".to_owned(),
        source,
    })?;
    let command = (!handler.starts_with(b"program")).then(|| "make".to_owned());
    std::fs::write(out.join("handler.txt"), handler).unwrap();
    Ok(Prepared {
        language: template.language,
        runtime: "executable".to_owned(),
        entry: "made.sh".to_owned(),
        handler: None,
        hosted: false,
        watchdog: WatchdogKind::OfWatchdog,
        process: "./made.sh".to_owned(),
        env: [("mode".to_owned(), "streaming".to_owned())].into(),
        concurrency: 4,
        build: Build {
            command,
            ..Build::default()
        },
        notes: vec!["the Dockerfile is not read".to_owned()],
    })
}

fn config(image: &str) -> BuildConfig {
    BuildConfig {
        image: image.to_owned(),
        build_args: [("ADDITIONAL_PACKAGE".to_owned(), String::new())].into(),
        ..BuildConfig::default()
    }
}

fn files(handler: &str) -> Vec<ContextFile> {
    let file = |path: &str, text: &str| ContextFile {
        path: path.to_owned(),
        mode: 0o644,
        content: Content::Bytes(text.into()),
    };
    vec![
        file("template.yml", "language: test\nfprocess: ./made.sh\n"),
        file("Dockerfile", "FROM scratch\n"),
        file("function/handler.txt", handler),
    ]
}

fn context(image: &str, handler: &str) -> Vec<u8> {
    write_context(Vec::new(), &config(image), files(handler), None).unwrap()
}

async fn read_lines(response: Response<Body>) -> Vec<BuildResult> {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn log(lines: &[BuildResult]) -> Vec<&str> {
    let texts = lines.iter().flat_map(|line| &line.log);
    texts.map(String::as_str).collect()
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}");
}

#[tokio::test]
async fn a_context_becomes_an_image_line_by_line() {
    let world = World::new().await;
    let lines = world.lines(context("local/hello:latest", "one")).await;
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(last.status, BuildState::Success);
    assert_eq!((&*last.image, &*last.error), ("local/hello:latest", ""));
    assert!(before.iter().all(|l| l.status == BuildState::InProgress));
    let log = log(&lines);
    assert_eq!(
        log[..2],
        [
            "template test: handler in ./function",
            "the Dockerfile is not read"
        ]
    );
    assert!(log[2].starts_with("> "), "{log:?}");
    let ready = log.last().unwrap();
    assert!(
        ready.starts_with("image local/hello:latest is ready ("),
        "{ready}"
    );

    // What is kept needs no building any more, and is found by each of its names.
    let image = world.image("docker.io/local/hello").await.unwrap();
    assert_eq!(image.name, "local/hello:latest");
    assert!(image.prepared.build.skip && image.prepared.notes.is_empty());
    assert_eq!(image.code().entry, "made.sh");
    let digest = image.digest.parse().unwrap();
    assert!(world.platform.has_code(&digest).await.unwrap());
    world.no_work_is_left().await;
}

#[tokio::test]
async fn a_client_that_wants_no_lines_gets_one_document() {
    let world = World::new().await;
    let archive = context("hello", "one");
    let signature = sign(SECRET, &archive);
    let response = world.post(archive, "", Some(&signature)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let result: BuildResult = serde_json::from_slice(&body).unwrap();
    assert_eq!(result.status, BuildState::Success);
    assert_eq!(result.image, "hello");
    assert_eq!(result.log[0], "template test: handler in ./function");
    assert!(world.image("hello:latest").await.is_some());

    *world.fake.on_job.lock() = OnJob::Fail("main.c:3: expected ';'".to_owned());
    let archive = context("hello", "two");
    let signature = sign(SECRET, &archive);
    let response = world.post(archive, "", Some(&signature)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let result: BuildResult = serde_json::from_slice(&body).unwrap();
    assert_eq!(result.status, BuildState::Failed);
    assert!(result.error.contains("exited with code 2"), "{result:?}");
    assert_eq!(result.log.last().unwrap(), "  main.c:3: expected ';'");
}

#[tokio::test]
async fn only_what_is_signed_is_looked_at() {
    let world = World::new().await;
    let archive = context("hello:latest", "one");
    let good = sign(b"payload-secret", &archive);
    let other = sign(b"other", &archive);
    let mut changed = archive.clone();
    changed[600] ^= 1;
    let cases = [
        (&archive, None),
        (&archive, Some("")),
        (&archive, Some(&*other)),
        (&archive, Some(good.trim_start_matches("sha256="))),
        (&archive, Some(&good[..good.len() - 1])),
        (&changed, Some(&*good)),
    ];
    for (archive, signature) in cases {
        let response = world.post(archive.clone(), NDJSON, signature).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{signature:?}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "invalid signature\n");
    }
    assert!(world.image("hello").await.is_none());
    world.no_work_is_left().await;
    let response = world.post(archive.clone(), NDJSON, Some(&good)).await;
    assert_eq!(
        read_lines(response).await.pop().unwrap().status,
        BuildState::Success
    );

    // Where nothing is signed, anything is taken.
    let open = World::with(None).await;
    for signature in [None, Some("sha256=00")] {
        let response = open.post(archive.clone(), NDJSON, signature).await;
        let last = read_lines(response).await.pop().unwrap();
        assert_eq!(last.status, BuildState::Success);
    }
}

#[tokio::test]
async fn other_methods_are_not_for_it() {
    let world = World::new().await;
    for (method, path) in [("GET", "/build"), ("PUT", "/build"), ("POST", "/publickey")] {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).unwrap();
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
    }
}

/// An archive with one more entry, before all others.
fn with_entry(name: &[u8], kind: EntryType, target: &str, size: Option<u64>) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size.unwrap_or(0));
    if !target.is_empty() {
        header.set_link_name(target).unwrap();
    }
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend(context("hello", "one"));
    archive
}

#[tokio::test]
async fn archives_that_are_traps_are_refused_with_a_sentence() {
    let world = World::new().await;
    let plain = |name: &[u8]| with_entry(name, EntryType::Regular, "", None);
    let special = |kind, target| with_entry(b"context/x", kind, target, None);
    for (archive, said) in [
        (plain(b"/etc/cron.d/x"), "is absolute"),
        (plain(b"context/../../x"), "has '..'"),
        (plain(b"context/\xff"), "is not clean UTF-8 text"),
        (
            special(EntryType::Symlink, "/etc/passwd"),
            "points to \"/etc/passwd\"",
        ),
        (
            special(EntryType::Symlink, "../../x"),
            "points to \"../../x\"",
        ),
        (
            special(EntryType::Link, "context/template.yml"),
            "is a hard link",
        ),
        (special(EntryType::Char, ""), "is a device"),
        (special(EntryType::Fifo, ""), "is a pipe"),
        (
            plain(b"context/template.yml"),
            "collides with an earlier one",
        ),
        (
            with_entry(b"context/x", EntryType::Regular, "", Some(1 << 40)),
            "more than",
        ),
        (b"not an archive".repeat(100), "archive is damaged"),
        (
            context("hello", "one")[..700].to_vec(),
            "archive is damaged",
        ),
        (Vec::new(), "comes without \"com.openfaas.docker.config\""),
    ] {
        let error = world.error(archive).await;
        assert!(error.contains(said), "{said}: {error}");
    }
    assert!(world.image("hello").await.is_none());
    assert_eq!(world.fake.jobs.load(Ordering::SeqCst), 0);
    world.no_work_is_left().await;
}

#[tokio::test]
async fn a_context_that_is_too_large_is_not_taken() {
    let world = World::new().await;
    const PART: usize = 1 << 20;
    let part = Bytes::from(vec![0; PART]);
    let parts = usize::try_from(MAX_CONTEXT_BYTES).unwrap() / PART + 1;
    let stream = futures_util::stream::repeat(part)
        .take(parts)
        .map(Ok::<_, std::io::Error>);
    let request = Request::post("/build")
        .body(Body::from_stream(stream))
        .unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let result: BuildResult = serde_json::from_slice(&body).unwrap();
    assert!(result.error.contains("larger than 256 MiB"), "{result:?}");

    // Nor one that does not come whole.
    let cut = futures_util::stream::iter([Ok(Bytes::from("half")), Err("cut")]);
    let request = Request::post("/build")
        .body(Body::from_stream(cut))
        .unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    world.no_work_is_left().await;
}

#[tokio::test]
async fn what_a_context_is_asked_to_become_is_checked() {
    let world = World::new().await;
    let of = |config: &BuildConfig| write_context(Vec::new(), config, files("one"), None).unwrap();
    let raw = |text: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        };
        // What describes it may come first as well.
        add(CONFIG_ENTRY, text);
        add("context/template.yml", "language: test\n");
        add("context/function/handler.txt", "one");
        archive.into_inner().unwrap()
    };
    let mut elsewhere = config("hello");
    elsewhere.platforms = vec!["linux/s390x".to_owned()];
    let mut none = files("one");
    none.remove(0);
    none.remove(0);
    let mut cobol = files("one");
    cobol[0].content = Content::Bytes(b"language: cobol\n".to_vec());
    let mut broken = files("one");
    broken[0].content = Content::Bytes(b"language: [\n".to_vec());
    let write = |files| write_context(Vec::new(), &config("hello"), files, None).unwrap();
    for (archive, said) in [
        (of(&config("")), "\"\" is no name of an image"),
        (of(&config("a b")), "\"a b\" is no name of an image"),
        (raw("{"), "com.openfaas.docker.config: EOF"),
        (raw(&"x".repeat(70_000)), "is larger than 65536 bytes"),
        (
            of(&elsewhere),
            "platform linux/s390x cannot be built for here: this machine is linux/",
        ),
        (write(none), "template.yml"),
        (
            write(cobol),
            "template \"cobol\" is not one of those that are known here: test",
        ),
        (write(broken), "template.yml"),
    ] {
        let error = world.error(archive).await;
        assert!(error.contains(said), "{said}: {error}");
    }
    assert_eq!(world.fake.jobs.load(Ordering::SeqCst), 0);
    let lines = world
        .lines(raw(r#"{"image":"hello","skipPush":true}"#))
        .await;
    assert_eq!(lines.last().unwrap().status, BuildState::Success);

    // Packages of the system are said to have no effect, and nobody tests here.
    let mut packages = config("hello");
    let args = [
        ("ADDITIONAL_PACKAGE", "gcc musl-dev"),
        ("TEST_ENABLED", "true"),
    ];
    packages.build_args = args.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let lines = world.lines(of(&packages)).await;
    assert!(log(&lines)[1].starts_with("ADDITIONAL_PACKAGE (gcc musl-dev) has no effect"));
    world.no_work_is_left().await;
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_leaves_the_image_before_it() {
    let world = World::new().await;
    world.lines(context("hello", "one")).await;
    let before = world.image("hello").await.unwrap();
    *world.fake.on_job.lock() =
        OnJob::Fail("ERROR: No matching distribution found for flaskk".to_owned());
    let lines = world.lines(context("hello", "two")).await;
    let last = lines.last().unwrap();
    assert_eq!(last.status, BuildState::Failed);
    assert_eq!(last.image, "hello");
    assert!(
        last.error
            .contains("exited with code 2: No matching distribution found for flaskk"),
        "{}",
        last.error
    );
    assert_eq!(
        log(&lines).last().unwrap(),
        &"  ERROR: No matching distribution found for flaskk"
    );
    assert_eq!(world.image("hello").await.unwrap(), before);
    world.no_work_is_left().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_build() {
    let world = World::new().await;
    *world.fake.on_job.lock() = OnJob::Hang("working".to_owned());
    // As often as there is room, and more.
    for n in 1..=AT_HAND + 1 {
        let archive = context("hello", &format!("{n}"));
        let signature = sign(SECRET, &archive);
        let response = world.post(archive, NDJSON, Some(&signature)).await;
        let mut body = response.into_body();
        until("the build has begun", || {
            world.fake.jobs.load(Ordering::SeqCst) == n
        })
        .await;
        assert!(body.frame().await.unwrap().is_ok());
        drop(body);
        world.no_work_is_left().await;
    }
    // Without lines the answer is what is given up.
    let archive = context("hello", "last");
    let signature = sign(SECRET, &archive);
    {
        let mut post = std::pin::pin!(world.post(archive, "", Some(&signature)));
        let begun = until("the build has begun", || {
            world.fake.jobs.load(Ordering::SeqCst) == AT_HAND + 2
        });
        tokio::select! {
            _ = &mut post => panic!("it was answered"),
            () = begun => {}
        }
    }
    world.no_work_is_left().await;
    assert!(world.image("hello").await.is_none());
    *world.fake.on_job.lock() = OnJob::Make;
    let lines = world.lines(context("hello", "one")).await;
    assert_eq!(lines.last().unwrap().status, BuildState::Success);
}

#[tokio::test]
async fn a_build_that_the_servers_end_cuts_short_has_failed() {
    let world = World::new().await;
    *world.fake.on_job.lock() = OnJob::Hang("working".to_owned());
    let archive = context("hello", "one");
    let signature = sign(SECRET, &archive);
    let response = world.post(archive, NDJSON, Some(&signature)).await;
    let LastWords(words) = response.extensions().get::<LastWords>().unwrap().clone();
    until("the build has begun", || {
        world.fake.jobs.load(Ordering::SeqCst) == 1
    })
    .await;
    world.platform.drain(Duration::ZERO).await;
    let last = read_lines(response).await.pop().unwrap();
    assert_eq!(last.status, BuildState::Failed);
    assert!(last.error.contains("the server is ending"), "{last:?}");
    assert_eq!(serde_json::from_slice::<BuildResult>(&words).unwrap(), last);
    assert!(words.ends_with(b"\n"));
}

#[tokio::test]
async fn a_function_keeps_the_image_that_it_was_deployed_with() {
    let world = World::new().await;
    world.lines(context("hello", "program one")).await;
    let first = world.image("hello").await.unwrap();
    let spec = serde_json::json!({
        "deployment": { "service": "f", "image": "hello" },
        "image": first,
    });
    let key = ObjectKey::new("openfaas.com/v1", "Function", "default", "f").unwrap();
    let object = Object::with_spec(&key, spec).unwrap();
    let put = world.platform.put(object).await.unwrap().object();
    let generation = put.generation();
    let settled = world.platform.settle(&key, generation, PATIENCE).await;
    let status = Status::of(&settled.unwrap());
    assert!(status.is_settled(generation), "{status:?}");
    assert_eq!(status.phase, Phase::Ready, "{status:?}");
    // Nothing was left to build for it.
    assert_eq!(status.build, tidegate_platform::BuildStatus::default());

    world.lines(context("hello", "program two")).await;
    let second = world.image("hello").await.unwrap();
    assert_ne!(first.digest, second.digest);
    let swept = async || {
        let mut kept = Vec::new();
        for _ in 0..2 {
            world.platform.sweep().await.unwrap();
        }
        for image in [&first, &second] {
            let digest = image.digest.parse().unwrap();
            kept.push(world.platform.has_code(&digest).await.unwrap());
        }
        kept
    };
    assert_eq!(swept().await, [true, true]);
    world
        .platform
        .delete(&key, Preconditions::default())
        .await
        .unwrap();
    // Its revisions go after it.
    let gone = tokio::time::timeout(PATIENCE, async { while swept().await != [false, true] {} });
    assert!(gone.await.is_ok(), "the code of nobody is kept");
}

#[tokio::test]
async fn the_code_of_images_is_kept_and_that_of_replaced_ones_is_not() {
    let world = World::new().await;
    let image = |n: u32, digest: String| Image {
        name: format!("hello:{n}"),
        digest,
        layer: None,
        prepared: Prepared {
            language: "test".to_owned(),
            runtime: "executable".to_owned(),
            entry: "run".to_owned(),
            handler: None,
            hosted: false,
            watchdog: WatchdogKind::ClassicWatchdog,
            process: "./run".to_owned(),
            env: std::collections::BTreeMap::new(),
            concurrency: 1,
            build: Build::default(),
            notes: Vec::new(),
        },
    };
    let mut digests = Vec::new();
    for n in 0..4 {
        let scratch = world.platform.scratch().unwrap();
        let tree = scratch.path("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("run"), format!("{n}")).unwrap();
        digests.push(world.platform.keep_folder(&tree).await.unwrap());
    }
    let put = async |n, digest: usize, layer: Option<usize>| {
        let mut image = image(n, digests[digest].to_string());
        image.layer = layer.map(|layer| digests[layer].to_string());
        images::put(&world.platform, &image).await.unwrap();
    };
    put(0, 0, None).await;
    put(1, 1, Some(2)).await;
    // In place of the first.
    put(0, 3, None).await;
    for _ in 0..2 {
        world.platform.sweep().await.unwrap();
    }
    let mut kept = Vec::new();
    for digest in &digests {
        kept.push(world.platform.has_code(digest).await.unwrap());
    }
    assert_eq!(kept, [false, true, true, true]);

    // The one that was built longest ago goes first.
    images::forget_oldest(&world.platform, 1).await.unwrap();
    assert!(world.image("hello:0").await.is_some());
    assert!(world.image("hello:1").await.is_none());
}

#[tokio::test]
async fn secrets_are_opened_for_the_build_alone() {
    let world = World::new().await;
    let key = async || {
        let request = Request::get("/publickey").body(Body::empty()).unwrap();
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<PublicKey>(&body).unwrap()
    };
    let public = key().await;
    assert_eq!(public, key().await);
    assert_eq!(public.key_id.len(), 8);
    assert_eq!(public.algorithm, "nacl/box");

    let secrets = [
        ("api_key".to_owned(), b"sk-live-1234".to_vec()),
        (
            "pip_index_url".to_owned(),
            b"https://u:p4ssw0rd@pypi.example/simple\n".to_vec(),
        ),
    ];
    let sealed = |to: &PublicKey| seal(to, &secrets.clone().into()).unwrap();
    let archive = |sealed: &[u8]| {
        write_context(Vec::new(), &config("hello"), files("one"), Some(sealed)).unwrap()
    };
    *world.fake.on_job.lock() = OnJob::Fail("it is sk-live-1234 at p4ssw0rd".to_owned());
    let lines = world.lines(archive(&sealed(&public))).await;
    let shown = world.fake.shown.lock().clone();
    for secret in &secrets {
        assert!(shown.contains(secret), "{shown:?}");
    }
    let told = serde_json::to_string(&lines).unwrap();
    assert!(told.contains("it is *** at ***"), "{told}");
    assert!(
        !told.contains("1234") && !told.contains("p4ssw0rd"),
        "{told}"
    );
    assert!(log(&lines).contains(&"build secret api_key: /run/secrets/api_key"));
    assert!(
        log(&lines)
            .contains(&"build secret pip_index_url: /run/secrets/pip_index_url and $PIP_INDEX_URL"),
        "{lines:?}"
    );

    let theirs = KeyPair::new().unwrap().public();
    let text = String::from_utf8(sealed(&public)).unwrap();
    for (sealed, said) in [
        (sealed(&theirs), "fetch it from /publickey and seal again"),
        (
            text.replace("\"v1\"", "\"v2\"").into(),
            "have version \"v2\"",
        ),
        (
            text.replace("nacl/box", "age").into(),
            "are sealed with \"age\"",
        ),
        (b"secrets: [".to_vec(), "build secrets cannot be read"),
    ] {
        let error = world.error(archive(&sealed)).await;
        assert!(error.contains(said), "{said}: {error}");
    }
    let bad_name = [("../x".to_owned(), Vec::new())].into();
    let error = world
        .error(archive(&seal(&public, &bad_name).unwrap()))
        .await;
    assert!(error.contains("has no name for a file"), "{error}");
}
