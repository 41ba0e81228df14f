//! A platform, and documents of a kind made for these tests: their spec is the canonical one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde::Deserialize as _;
use tidegate_core::rollout::Plan;
use tidegate_core::traffic::{Share, Target};
use tidegate_core::{Build, Code, FunctionKey, FunctionRef, FunctionSpec, Name, SecretUse};
use tidegate_platform::{
    Body, CallContext, Digest, Failure, Function, GradualRollout, Holds, ImageUse, KeptRevision,
    Lower, LowerError, Lowered, Object, ObjectKey, Parts, Platform, Preconditions, Prefix,
    QueueRules, ReplyBody, Scheduled, Status, Switch, TriggerRequest, new_id,
};

use crate::fake::{Fake, Handle};

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

const API_VERSION: &str = "tests/v1";
const KIND: &str = "Plain";
const HELD: &str = "Held";

pub(crate) struct World {
    pub(crate) fake: Arc<Fake>,
    pub(crate) platform: Platform,
    pub(crate) code: String,
}

/// Revisions that are kept: few enough to be gone through.
pub(crate) const KEPT: usize = 3;

struct Plain;

/// The member `schedules` of a spec has schedules.
fn schedules_of(object: &Object) -> Vec<Scheduled> {
    let all = object.spec().and_then(|s| s["schedules"].as_array());
    let all = all.into_iter().flatten().filter_map(|s| s.as_str());
    all.map(|schedule| Scheduled {
        schedule: schedule.to_owned(),
        request: TriggerRequest::default(),
    })
    .collect()
}

/// The member `paused` of a spec says that nothing of what is queued is run.
fn rules_of(object: &Object) -> QueueRules {
    let is_paused = object.spec().is_some_and(|s| s["paused"] == true);
    QueueRules {
        concurrency: is_paused.then_some(0),
        ..QueueRules::default()
    }
}

/// The member `traffic` of a spec has `REVISION|latest=PERCENT[:TAG]`, separated by spaces.
fn traffic_of(object: &Object) -> Vec<Share> {
    let words = object.spec().and_then(|s| s["traffic"].as_str());
    let words = words.unwrap_or_default();
    let share = |word: &str| {
        let (to, rest) = word.split_once('=').unwrap();
        let (percent, tag) = rest.split_once(':').unwrap_or((rest, ""));
        Share {
            to: if to == "latest" {
                Target::Latest
            } else {
                Target::Revision(to.to_owned())
            },
            percent: percent.parse().unwrap(),
            tag: (!tag.is_empty()).then(|| tag.to_owned()),
        }
    };
    words.split_whitespace().map(share).collect()
}

/// The member `rollout` of a spec has milliseconds; more than 5 % of failures among five calls take it back.
fn rollout_of(object: &Object) -> Option<GradualRollout> {
    let over = object.spec()?["rollout"].as_u64()?;
    Some(GradualRollout {
        plan: Plan {
            over: Duration::from_millis(over),
            steps: 100,
            max_errors_ppm: 50_000,
            min_requests: 5,
        },
        only: None,
    })
}

/// Documents that name code in the member `digest` of their spec.
struct Held;

impl Holds for Held {
    fn kind(&self) -> (&'static str, &'static str) {
        (API_VERSION, HELD)
    }

    fn code(&self, object: &Object) -> Vec<String> {
        let digest = object.spec().and_then(|spec| spec["digest"].as_str());
        digest.map(str::to_owned).into_iter().collect()
    }
}

impl Lower for Plain {
    fn kind(&self) -> (&'static str, &'static str) {
        (API_VERSION, KIND)
    }

    fn dialect(&self) -> &'static str {
        "plain"
    }

    fn document(&self, key: FunctionRef<'_>) -> Option<ObjectKey> {
        ObjectKey::new(API_VERSION, KIND, key.namespace, key.name).ok()
    }

    fn lower(&self, object: &Object) -> Result<Lowered, LowerError> {
        let spec = object.spec().cloned().unwrap_or_default();
        let name = |text| Name::new(text).map_err(|e| LowerError::new("metadata", e.to_string()));
        Ok(Lowered {
            records: None,
            queue: rules_of(object),
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
            image: object
                .spec()
                .and_then(|spec| spec["image"].as_str())
                .map(|name| ImageUse {
                    name: name.to_owned(),
                    digest: object
                        .spec()
                        .and_then(|s| Some(s["imageDigest"].as_str()?.to_owned())),
                    ..ImageUse::default()
                }),
            switch: Switch::WhenReady,
            traffic: traffic_of(object),
            rollout: rollout_of(object),
            schedules: schedules_of(object),
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
        Self::made_of(folder, fake, |_| ()).await
    }

    /// One whose parts are changed before it starts.
    pub(crate) async fn made_of(
        folder: &Path,
        fake: Arc<Fake>,
        change: impl FnOnce(&mut Parts),
    ) -> Self {
        let data = folder.join("data");
        let opened = tokio::task::spawn_blocking(move || tidegate_store::open(&data)).await;
        let (store, report) = opened.unwrap().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let mut parts = Parts {
            revisions: KEPT,
            kinds: vec![Arc::new(Plain)],
            holders: vec![Arc::new(Held)],
            ..Parts::below(folder, store, Arc::new(Handle(fake.clone())))
        };
        change(&mut parts);
        let platform = Platform::start(parts).await.unwrap();
        let code = upload(&platform, folder).await;
        Self {
            fake,
            platform,
            code,
        }
    }

    /// A specification; its environment makes one differ from another.
    pub(crate) fn spec(&self, version: &str) -> FunctionSpec {
        let code = Code {
            layer: None,
            digest: self.code.clone(),
            entry: "main.sh".to_owned(),
        };
        let mut spec = FunctionSpec::plain("fake", "http", code);
        spec.env.insert("VERSION".to_owned(), version.to_owned());
        spec.limits.timeout = Duration::from_secs(20);
        spec.limits.first_byte = Duration::from_secs(20);
        spec.scale.initial = 1;
        spec
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

    /// Puts a document that is no function and names code.
    pub(crate) async fn hold(&self, name: &str, digest: &str) {
        let key = ObjectKey::new(API_VERSION, HELD, "", name).unwrap();
        let spec = serde_json::json!({ "digest": digest });
        let object = Object::with_spec(&key, spec).unwrap();
        self.platform.put(object).await.unwrap();
    }

    pub(crate) async fn put(&self, name: &str, spec: &FunctionSpec) -> Object {
        self.put_with(name, spec, &serde_json::json!({})).await
    }

    /// Puts a document with further members in its spec.
    pub(crate) async fn put_with(
        &self,
        name: &str,
        spec: &FunctionSpec,
        more: &serde_json::Value,
    ) -> Object {
        let mut spec = serde_json::to_value(spec).unwrap();
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let object = Object::with_spec(&key(name), spec).unwrap();
        self.platform.put(object).await.unwrap().object()
    }

    /// Puts a document and waits until it was dealt with.
    pub(crate) async fn deploy(&self, name: &str, spec: &FunctionSpec) -> Status {
        let object = self.put(name, spec).await;
        self.settled(&object).await
    }

    pub(crate) async fn deploy_with(
        &self,
        name: &str,
        spec: &FunctionSpec,
        more: &serde_json::Value,
    ) -> Status {
        let object = self.put_with(name, spec, more).await;
        self.settled(&object).await
    }

    pub(crate) async fn status(&self, name: &str) -> Status {
        Status::of(&self.platform.get(&key(name)).await.unwrap())
    }

    /// Waits until a function's status is so, and gives it.
    pub(crate) async fn until_status(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Status) -> bool,
    ) -> Status {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let status = self.status(name).await;
                if is_so(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("never came: {what}"))
    }

    pub(crate) async fn revisions(&self, name: &str) -> Vec<KeptRevision> {
        let object = self.platform.get(&key(name)).await.unwrap();
        self.platform.revisions(&object).await.unwrap()
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
        let request = Request::get("/revision").body(Body::empty()).unwrap();
        let response = self.platform.call(&function, request, context()).await?;
        Self::text(response).await
    }

    /// Calls a revision by its word, or says which there are.
    pub(crate) async fn call_named(&self, name: &str, word: &str) -> Result<String, String> {
        let function = self.function(name).expect("the function is known");
        let chosen = self.platform.choose(&function, word).await;
        let chosen = chosen.map_err(|unknown| unknown.there.join(" "))?;
        let request = Request::get("/revision").body(Body::empty()).unwrap();
        let response = self
            .platform
            .call_chosen(&function, chosen, request, context())
            .await;
        let response = response.map_err(|failure| failure.to_string())?;
        Self::text(response).await.map_err(|f| f.to_string())
    }

    async fn text(response: http::Response<ReplyBody>) -> Result<String, Failure> {
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

pub(crate) fn context() -> CallContext {
    CallContext {
        id: new_id(),
        prefix: Prefix::default(),
        caller: None,
        received: tokio::time::Instant::now(),
        depth: 0,
        cause: tidegate_core::record::Cause::default(),
        trace: None,
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
