//! An engine on the fake isolation, and callers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tidegate_contract::{Body, BodyFault, Contract, Prefix};
use tidegate_core::record::Cause;
use tidegate_core::{Code, FunctionKey, FunctionSpec, Name, Outcome};
use tidegate_engine::{
    CallContext, Engine, Failure, Function, Ledger, Materials, NoLedger, Options, PoolCounts,
    ReplyBody, Resources, Revision, UnknownRevision, new_id,
};
use tidegate_instance::StartError;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake::{Fake, Handle};

/// Longest wait for a condition, in paused time: beyond every limit that the tests set.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) struct World {
    pub(crate) fake: Arc<Fake>,
    pub(crate) engine: Engine,
    kept: Arc<Kept>,
}

/// Revisions that are kept, and nothing else.
#[derive(Default)]
struct Kept(parking_lot::Mutex<Vec<Revision>>);

/// The entry of functions whose bundles bring a bug to light.
pub(crate) const BUG: &str = "bug";

#[async_trait]
impl Resources for Kept {
    async fn revision(&self, _: &FunctionKey, word: &str) -> Result<Revision, UnknownRevision> {
        let kept = self.0.lock();
        let found = kept.iter().find(|r| *r.id == *word).cloned();
        found.ok_or_else(|| UnknownRevision {
            there: kept.iter().map(|r| r.id.to_string()).collect(),
        })
    }

    async fn materialize(
        &self,
        _: &FunctionKey,
        spec: &FunctionSpec,
    ) -> Result<Materials, StartError> {
        assert_ne!(spec.code.entry, BUG, "a bug that the test wants");
        Ok(Materials {
            bundle: PathBuf::from("/nowhere"),
            ..Materials::default()
        })
    }
}

pub(crate) fn options() -> Options {
    Options {
        lanes: 1,
        max_instances: 100,
        traces: None,
        max_waiting: 1000,
        max_wait: Duration::from_secs(10),
        ready_within: Duration::from_secs(10),
    }
}

pub(crate) fn key(name: &str) -> FunctionKey {
    FunctionKey::new(&Name::new("default").unwrap(), &Name::new(name).unwrap())
}

/// A revision of an HTTP function that takes one call at a time, at most four instances, none before it is called.
pub(crate) fn revision(id: &str, change: impl FnOnce(&mut FunctionSpec)) -> Revision {
    let code = Code {
        layer: None,
        digest: format!("sha256:{}", "0".repeat(64)),
        entry: "main".to_owned(),
    };
    let mut spec = FunctionSpec::plain("fake", "http", code);
    spec.limits.stream_idle = Duration::from_secs(30);
    change(&mut spec);
    Revision {
        id: id.into(),
        spec: Arc::new(spec),
        contract: Contract::Http,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::kept_by(Arc::new(NoLedger), options)
    }

    /// A world whose calls this ledger is told of.
    pub(crate) fn kept_by(ledger: Arc<dyn Ledger>, options: Options) -> Self {
        let fake = Arc::<Fake>::default();
        let kept = Arc::<Kept>::default();
        let engine = Engine::new(
            Arc::new(Handle(fake.clone())),
            kept.clone(),
            ledger,
            options,
        );
        Self { fake, engine, kept }
    }

    /// Keeps a revision that has no traffic.
    pub(crate) fn keep(&self, revision: Revision) {
        self.kept.0.lock().push(revision);
    }

    /// A world with one function `f`.
    pub(crate) fn of(change: impl FnOnce(&mut FunctionSpec)) -> (Self, Arc<Function>) {
        let world = Self::new();
        let function = world.install("f", revision("r1", change));
        (world, function)
    }

    pub(crate) fn install(&self, name: &str, revision: Revision) -> Arc<Function> {
        let key = key(name);
        self.engine.install(&key, revision);
        self.engine.function(key.borrowed()).unwrap()
    }

    pub(crate) fn counts(&self, function: &Function) -> PoolCounts {
        self.engine.counts(function)
    }

    /// Calls, and reads the answer whole.
    pub(crate) async fn get(
        &self,
        function: &Arc<Function>,
        path: &str,
    ) -> Result<String, Failure> {
        self.send(function, get(path)).await
    }

    pub(crate) async fn send(
        &self,
        function: &Arc<Function>,
        request: Request<Body>,
    ) -> Result<String, Failure> {
        let response = self.head(function, request).await?;
        Ok(read(response).await.expect("the body is whole"))
    }

    /// Calls, and waits for the head of the answer.
    pub(crate) async fn head(
        &self,
        function: &Arc<Function>,
        request: Request<Body>,
    ) -> Result<Response<ReplyBody>, Failure> {
        self.engine.call(function, request, context()).await
    }

    /// Begins a call, in a task of its own.
    pub(crate) fn begin(
        &self,
        function: &Arc<Function>,
        path: &str,
    ) -> JoinHandle<Result<String, Failure>> {
        let (engine, function, request) = (self.engine.clone(), function.clone(), get(path));
        tokio::spawn(async move {
            let response = engine.call(&function, request, context()).await?;
            Ok(read(response).await.expect("the body is whole"))
        })
    }

    /// Calls that hold an instance each, once their requests have reached the code.
    pub(crate) async fn hold(
        &self,
        function: &Arc<Function>,
        count: usize,
    ) -> Vec<JoinHandle<Result<String, Failure>>> {
        let before = self.running();
        let calls = (0..count).map(|_| self.begin(function, "/hold")).collect();
        until("calls are held", || self.running() == before + count).await;
        calls
    }

    /// Calls that the code works at.
    pub(crate) fn running(&self) -> usize {
        self.fake.instances().iter().map(|i| i.running()).sum()
    }

    /// Answers every held call.
    pub(crate) fn release(&self) {
        self.fake.living().iter().for_each(|i| i.release());
    }

    /// Waits until nothing is in flight and every slot is free, and checks that the books say so.
    pub(crate) async fn settled(&self, function: &Arc<Function>) {
        until("no call is under way", || {
            let counts = self.counts(function);
            function.metrics().in_flight() == 0 && counts.busy == 0 && counts.queued == 0
        })
        .await;
    }
}

pub(crate) fn context() -> CallContext {
    CallContext {
        id: new_id(),
        prefix: Prefix { len: 0 },
        caller: None,
        received: tokio::time::Instant::now(),
        depth: 0,
        cause: Cause::default(),
        trace: None,
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<Body> {
    Request::post(path)
        .header("content-length", body.len())
        .body(Body::full(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

/// A request as the listener gives it, and the caller's end of its connection, on which the rest is to be written.
pub(crate) async fn arriving(head: &str) -> (Request<Body>, UnixStream) {
    let (mut caller, listener) = UnixStream::pair().unwrap();
    let (give, taken) = oneshot::channel();
    let give = std::sync::Mutex::new(Some(give));
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request| {
            let give = give.lock().unwrap().take().expect("one request");
            let _ = give.send(request);
            // The engine's answer is looked at where it is made.
            std::future::pending::<Result<Response<String>, std::convert::Infallible>>()
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(listener), service)
            .await;
    });
    caller.write_all(head.as_bytes()).await.unwrap();
    let request: Request<hyper::body::Incoming> = taken.await.unwrap();
    let request = request.map(|body| Body::incoming(body, u64::MAX, Duration::MAX));
    (request, caller)
}

/// The body as text, or why it broke off.
pub(crate) async fn read(response: Response<ReplyBody>) -> Result<String, BodyFault> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.into()).expect("text"))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}");
}

/// The failure of a call that must not succeed.
pub(crate) fn failure(result: Result<String, Failure>) -> Failure {
    match result {
        Err(failure) => failure,
        Ok(text) => panic!("the call was answered {text:?}"),
    }
}

/// How many calls of a function ended this way.
pub(crate) fn ended(function: &Function, outcome: Outcome) -> u64 {
    let at = tidegate_engine::OUTCOMES
        .iter()
        .position(|o| *o == outcome)
        .unwrap();
    function.metrics().invocations()[at]
}
