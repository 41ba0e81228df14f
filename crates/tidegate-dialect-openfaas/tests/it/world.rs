//! A platform with two dialects, an image that was built, and a client that remembers what was said.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tidegate_core::{FunctionKey, FunctionRef, FunctionSpec, InstanceId, Name};
use tidegate_dialect_openfaas::{Config, Deployments, Images, OpenFaas};
use tidegate_instance::{LogSink as _, LogStream};
use tidegate_platform::{
    Digest, Function, Lower, LowerError, Lowered, Object, ObjectKey, Parts, Platform, Status,
    Switch,
};
use tower::ServiceExt as _;

use crate::fake::{Fake, Handle};

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// Headers that are part of what a client relies on; the others are the server's and the framework's.
const TOLD: [header::HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::LOCATION,
    header::CONTENT_SECURITY_POLICY,
    header::HeaderName::from_static("x-tidegate-unchanged"),
];

pub(crate) struct World {
    pub(crate) platform: Platform,
    pub(crate) fake: Arc<Fake>,
    openfaas: OpenFaas,
    code: String,
    transcript: String,
    _folder: tempfile::TempDir,
}

/// Documents of another dialect, whose spec is the canonical one.
struct Plain;

impl Lower for Plain {
    fn kind(&self) -> (&'static str, &'static str) {
        ("tests/v1", "Plain")
    }

    fn dialect(&self) -> &'static str {
        "native"
    }

    fn document(&self, key: FunctionRef<'_>) -> Option<ObjectKey> {
        ObjectKey::new("tests/v1", "Plain", key.namespace, key.name).ok()
    }

    fn lower(&self, object: &Object) -> Result<Lowered, LowerError> {
        let spec = object.spec().cloned().unwrap_or_default();
        Ok(Lowered {
            records: None,
            queue: tidegate_platform::QueueRules::default(),
            key: place(object.key().namespace(), object.key().name()),
            spec: serde_json::from_value::<FunctionSpec>(spec)
                .map_err(|e| LowerError::new("spec", e.to_string()))?,
            image: None,
            build: tidegate_core::Build {
                skip: true,
                ..Default::default()
            },
            switch: Switch::WhenReady,
            traffic: Vec::new(),
            rollout: None,
            schedules: Vec::new(),
        })
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::<Fake>::default();
        let data = folder.path().join("data");
        let opened = tokio::task::spawn_blocking(move || tidegate_store::open(&data)).await;
        let (store, report) = opened.unwrap().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let platform = Platform::start(Parts {
            kinds: vec![Arc::new(Plain), Arc::new(Deployments)],
            holders: vec![Arc::new(Images)],
            ..Parts::below(folder.path(), store, Arc::new(Handle(fake.clone())))
        })
        .await
        .unwrap();
        let code = upload(&platform, folder.path()).await;
        let openfaas = OpenFaas::new(
            platform.clone(),
            Config {
                release: "0.1.0",
                commit: "0123456789abcdef",
                payload_secret: None,
            },
        );
        let world = Self {
            platform,
            fake,
            openfaas,
            code,
            transcript: String::new(),
            _folder: folder,
        };
        world.keep_image("hello:latest").await;
        world
    }

    /// Keeps an image as a build leaves it: a document under the digest of its name.
    pub(crate) async fn keep_image(&self, name: &str) {
        self.keep_image_of(name, &self.code).await;
    }

    /// The same, of other code.
    pub(crate) async fn keep_image_of(&self, name: &str, digest: &str) {
        let spec = json!({
            "name": name,
            "digest": digest,
            "language": "python3-http",
            "runtime": "fake",
            "entry": "main.sh",
            "hosted": true,
            "watchdog": "of-watchdog",
            "process": "python index.py",
            "env": { "mode": "http", "upstream_url": "http://127.0.0.1:5000" },
            "concurrency": 4,
            "build": { "skip": true, "command": null, "env": {}, "secrets": [] },
        });
        let word = Digest::of(name.as_bytes()).hex();
        let key = ObjectKey::new("openfaas.tidegate.dev/v1", "Image", "", &word[..32]).unwrap();
        let object = Object::with_spec(&key, spec).unwrap();
        self.platform.put(object).await.unwrap();
    }

    /// Deploys a function of the other dialect, and waits until it was dealt with.
    pub(crate) async fn deploy_native(&self, namespace: &str, name: &str) {
        self.deploy_native_with(namespace, name, json!([])).await;
    }

    /// The same, naming secrets.
    pub(crate) async fn deploy_native_with(&self, namespace: &str, name: &str, secrets: Value) {
        let spec = json!({
            "runtime": "fake",
            "contract": "http",
            "code": { "digest": self.code, "entry": "main.sh" },
            "env": { "WHO": "me" },
            "secrets": secrets,
            "limits": {
                "memory": 64 << 20, "cpu_milli": 500, "pids": 16, "tmp": 1 << 20,
                "timeout": { "secs": 20, "nanos": 0 }, "first_byte": { "secs": 20, "nanos": 0 },
                "stream_idle": { "secs": 20, "nanos": 0 }, "body": 1 << 20,
            },
            "scale": {
                "min": 1, "max": 4, "initial": 1, "concurrency": 1, "target_milli": 1000,
                "idle": { "secs": 60, "nanos": 0 },
            },
            "network": "none",
            "access": "public",
        });
        let key = ObjectKey::new("tests/v1", "Plain", namespace, name).unwrap();
        let object = Object::with_spec(&key, spec).unwrap();
        let put = self.platform.put(object).await.unwrap().object();
        let settled = self
            .platform
            .settle(&key, put.generation(), PATIENCE)
            .await
            .unwrap();
        let status = Status::of(&settled);
        assert!(status.is_settled(put.generation()), "{status:?}");
    }

    /// Waits until what was deployed last under a name was dealt with, and says how it came out.
    pub(crate) async fn settled(&self, namespace: &str, name: &str) -> Status {
        let key = ObjectKey::new("openfaas.com/v1", "Function", namespace, name).unwrap();
        let generation = self.platform.get(&key).await.unwrap().generation();
        let settled = self
            .platform
            .settle(&key, generation, PATIENCE)
            .await
            .unwrap();
        let status = Status::of(&settled);
        assert!(status.is_settled(generation), "{status:?}");
        status
    }

    pub(crate) fn function(&self, namespace: &str, name: &str) -> Option<Arc<Function>> {
        self.platform.function(place(namespace, name).borrowed())
    }

    /// Writes lines as an instance of a function.
    pub(crate) fn write(&self, namespace: &str, name: &str, instance: u64, lines: &[&str]) {
        let function = self
            .function(namespace, name)
            .expect("the function is known");
        for line in lines {
            function.log().line(
                InstanceId(instance),
                LogStream::Stdout,
                None,
                line.as_bytes(),
            );
        }
    }

    /// Sends requests and remembers the exchanges: a line each, method, path and what is sent.
    pub(crate) async fn talk(&mut self, lines: &str) {
        for line in lines.trim().lines() {
            let mut words = line.trim().splitn(3, ' ');
            let (Some(method), Some(path)) = (words.next(), words.next()) else {
                panic!("{line:?} is no request");
            };
            self.say(method, path, words.next().unwrap_or_default())
                .await;
        }
    }

    /// Sends a request and remembers the exchange.
    pub(crate) async fn say(&mut self, method: &str, path: &str, body: impl Into<Sent>) -> u16 {
        let body = body.into();
        let response = self.send(method, path, body.to_body()).await;
        let (parts, body_back) = response.into_parts();
        let back = body_back.collect().await.unwrap().to_bytes();
        let back = String::from_utf8(back.into()).unwrap();
        let told = &mut self.transcript;
        writeln!(told, "> {method} {path}").unwrap();
        if !body.0.is_empty() {
            writeln!(told, "> {}", body.0).unwrap();
        }
        writeln!(told, "< {}", parts.status).unwrap();
        for name in &TOLD {
            if let Some(value) = parts.headers.get(name) {
                writeln!(told, "< {name}: {}", value.to_str().unwrap()).unwrap();
            }
        }
        match serde_json::from_str::<Value>(&back) {
            Ok(value) if !back.ends_with('\n') => {
                writeln!(told, "{}", serde_json::to_string_pretty(&value).unwrap()).unwrap();
            }
            // The end of the last line shows.
            _ if back.ends_with('\n') => told.push_str(&back),
            _ if back.is_empty() => {}
            _ => writeln!(told, "{back}(no newline)").unwrap(),
        }
        told.push('\n');
        parts.status.as_u16()
    }

    /// Sends a request and gives the answer.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Body) -> http::Response<Body> {
        let request = Request::builder().method(method).uri(path).body(body);
        self.openfaas
            .router()
            .oneshot(request.unwrap())
            .await
            .unwrap()
    }

    /// A function as it is told of.
    pub(crate) async fn describe(&self, name: &str) -> Value {
        let path = format!("/system/function/{name}");
        let response = self.send("GET", &path, Body::empty()).await;
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    /// What is stored of a function.
    pub(crate) async fn stored(&self, name: &str) -> Value {
        let key = ObjectKey::new("openfaas.com/v1", "Function", "default", name).unwrap();
        let object = self.platform.get(&key).await.unwrap();
        object.spec().cloned().unwrap()
    }

    /// What was said. Times and revisions are not the test's.
    #[track_caller]
    pub(crate) fn transcript(self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]");
        settings.add_filter(r"tidegate/fake:[0-9a-f]{12}", "tidegate/fake:[revision]");
        settings.bind(|| insta::assert_snapshot!(name, self.transcript));
    }
}

/// What a client sends: JSON, text, or nothing.
pub(crate) struct Sent(String);

impl Sent {
    /// In chunks, as a client sends what it does not know the length of.
    fn to_body(&self) -> Body {
        if self.0.is_empty() {
            return Body::empty();
        }
        let parts: Vec<_> = self
            .0
            .as_bytes()
            .chunks(7)
            .map(|part| Ok::<_, std::io::Error>(Bytes::copy_from_slice(part)))
            .collect();
        Body::from_stream(futures_util::stream::iter(parts).boxed())
    }
}

impl From<Value> for Sent {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

impl From<&str> for Sent {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<()> for Sent {
    fn from((): ()) -> Self {
        Self(String::new())
    }
}

fn place(namespace: &str, name: &str) -> FunctionKey {
    FunctionKey::new(&Name::new(namespace).unwrap(), &Name::new(name).unwrap())
}

async fn upload(platform: &Platform, folder: &Path) -> String {
    let main = folder.join("main.sh");
    std::fs::write(&main, "#!/bin/sh\ncat\n").unwrap();
    let packed = tidegate_build::pack(&main, &tidegate_build::PackOptions::default()).unwrap();
    let (mut archive, mut bytes) = (packed.archive, Vec::new());
    std::io::Read::read_to_end(&mut archive, &mut bytes).unwrap();
    let digest: Digest = packed.digest.parse().unwrap();
    let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
    platform.put_code(digest, stream, 1 << 20).await.unwrap();
    packed.digest
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}");
}
