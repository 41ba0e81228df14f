//! A platform, and documents of a kind made for these tests: their spec is the canonical one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde::Deserialize as _;
use tidegate_core::{
    Access, Build, Code, FunctionKey, FunctionSpec, Limits, Name, Network, Scale, SecretUse,
};
use tidegate_engine::Options;
use tidegate_platform::{
    BUILD_LIMITS, Body, BuildOptions, CallContext, Digest, Failure, Function, Lower, LowerError,
    Lowered, Object, ObjectKey, Parts, Platform, Preconditions, Prefix, Status, Switch, ToolPaths,
    new_id,
};

use crate::fake::{Fake, Handle};

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

const API_VERSION: &str = "tests/v1";
const KIND: &str = "Plain";

pub(crate) struct World {
    pub(crate) fake: Arc<Fake>,
    pub(crate) platform: Platform,
    code: String,
}

struct Plain;

impl Lower for Plain {
    fn kind(&self) -> (&'static str, &'static str) {
        (API_VERSION, KIND)
    }

    fn lower(&self, object: &Object) -> Result<Lowered, LowerError> {
        let spec = object.spec().cloned().unwrap_or_default();
        let name = |text| Name::new(text).map_err(|e| LowerError::new("metadata", e.to_string()));
        Ok(Lowered {
            key: FunctionKey::new(
                &name(object.key().namespace())?,
                &name(object.key().name())?,
            ),
            build: Build {
                command: spec.get("make").and_then(|c| Some(c.as_str()?.to_owned())),
                ..Build::default()
            },
            spec: FunctionSpec::deserialize(spec)
                .map_err(|e| LowerError::new("spec", e.to_string()))?,
            switch: Switch::WhenReady,
        })
    }
}

impl World {
    /// A platform on what a folder holds.
    pub(crate) async fn on(folder: &Path) -> Self {
        let fake = Arc::<Fake>::default();
        Self::with(folder, fake).await
    }

    pub(crate) async fn with(folder: &Path, fake: Arc<Fake>) -> Self {
        let data = folder.join("data");
        let opened = tokio::task::spawn_blocking(move || tidegate_store::open(&data)).await;
        let (store, report) = opened.unwrap().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let platform = Platform::start(Parts {
            store,
            isolation: Arc::new(Handle(fake.clone())),
            engine: Options {
                lanes: 1,
                max_instances: 20,
                max_waiting: 100,
                max_wait: Duration::from_secs(10),
                ready_within: Duration::from_secs(10),
            },
            bundles: folder.join("bundles"),
            builds: BuildOptions {
                folder: folder.join("builds"),
                limits: BUILD_LIMITS,
                at_once: 2,
                egress: None,
                tools: ToolPaths::default(),
                env: Vec::new(),
            },
            kinds: vec![Arc::new(Plain)],
        })
        .await
        .unwrap();
        let code = upload(&platform, folder).await;
        Self {
            fake,
            platform,
            code,
        }
    }

    /// A specification; its environment makes one differ from another.
    pub(crate) fn spec(&self, version: &str) -> FunctionSpec {
        FunctionSpec {
            runtime: "fake".to_owned(),
            contract: "http".to_owned(),
            code: Code {
                layer: None,
                digest: self.code.clone(),
                entry: "main.sh".to_owned(),
            },
            handler: None,
            env: [("VERSION".to_owned(), version.to_owned())].into(),
            secrets: Vec::new(),
            limits: Limits {
                memory: 64 << 20,
                cpu_milli: 1000,
                pids: 16,
                tmp: 1 << 20,
                timeout: Duration::from_secs(20),
                first_byte: Duration::from_secs(20),
                stream_idle: Duration::from_secs(20),
                body: 1 << 20,
            },
            scale: Scale {
                min: 0,
                max: 4,
                initial: 1,
                concurrency: 1,
                target_milli: 1000,
                idle: Duration::from_secs(60),
            },
            network: Network::None,
            access: Access::Public,
            secrets_generation: 0,
        }
    }

    /// The same, naming a secret that is set in the environment.
    pub(crate) fn spec_with_secret(&self, secret: &str) -> FunctionSpec {
        let mut spec = self.spec("1");
        spec.secrets.push(SecretUse {
            name: secret.to_owned(),
            env: Some("SECRET".to_owned()),
        });
        spec
    }

    /// Puts a document whose code is made by a command.
    pub(crate) async fn put_made(&self, name: &str, command: &str) -> Object {
        let mut spec = self.spec("1");
        spec.runtime = "executable".to_owned();
        let mut spec = serde_json::to_value(spec).unwrap();
        spec["make"] = command.into();
        spec["code"]["entry"] = "made.sh".into();
        let object = Object::with_spec(&key(name), spec).unwrap();
        self.platform.put(object).await.unwrap().object()
    }

    pub(crate) async fn put(&self, name: &str, spec: &FunctionSpec) -> Object {
        let spec = serde_json::to_value(spec).unwrap();
        let object = Object::with_spec(&key(name), spec).unwrap();
        self.platform.put(object).await.unwrap().object()
    }

    /// Puts a document and waits until it was dealt with.
    pub(crate) async fn deploy(&self, name: &str, spec: &FunctionSpec) -> Status {
        let object = self.put(name, spec).await;
        self.settled(&object).await
    }

    /// How a generation of a document came out.
    pub(crate) async fn settled(&self, object: &Object) -> Status {
        let generation = object.generation();
        let object = self
            .platform
            .settle(object.key(), generation, PATIENCE)
            .await
            .unwrap();
        let status = Status::of(&object);
        assert!(status.is_settled(generation), "{status:?}");
        status
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.platform
            .delete(&key(name), Preconditions::default())
            .await
            .unwrap();
        self.platform
            .settle_deletion(place(name).borrowed(), PATIENCE)
            .await;
    }

    pub(crate) fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.platform.function(place(name).borrowed())
    }

    pub(crate) async fn call(&self, name: &str) -> Result<String, Failure> {
        let function = self.function(name).expect("the function is known");
        let context = CallContext {
            id: new_id(),
            prefix: Prefix::default(),
            caller: None,
            received: tokio::time::Instant::now(),
        };
        let request = Request::get("/revision").body(Body::empty()).unwrap();
        let response = self.platform.call(&function, request, context).await?;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(body.into()).unwrap())
    }

    /// The value of a variable of the newest instance.
    pub(crate) fn newest_env(&self, variable: &str) -> Option<String> {
        let newest = self.fake.instances().pop()?;
        let found = newest.env.iter().find(|(name, _)| name == variable);
        found.map(|(_, value)| value.clone())
    }

    /// Ends the platform, and gives the store back to whoever opens it next.
    pub(crate) async fn end(self) {
        self.platform.drain(Duration::ZERO).await;
    }
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

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new(API_VERSION, KIND, "default", name).unwrap()
}

fn place(name: &str) -> FunctionKey {
    FunctionKey::new(&Name::new("default").unwrap(), &Name::new(name).unwrap())
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}");
}
