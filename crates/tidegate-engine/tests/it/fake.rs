//! An isolation whose instances are HTTP servers in this process, each behind socket pairs, and all of whose moves are the
//! test's.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_core::{InstanceId, InvocationId};
use tidegate_instance::{
    Exec, Exit, Instance, InstanceSpec, Isolation, Job, JobEnd, LogStream, Process, Reason,
    Runtime, StartError, StartTimes, Stream, Usage,
};
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
    /// Starts wait here while it is shut.
    gate: Mutex<Option<Arc<Semaphore>>>,
    /// Starts that were asked for.
    pub(crate) begun: AtomicUsize,
    /// The most instances that were alive or starting at one moment.
    pub(crate) peak: AtomicUsize,
    alive: AtomicUsize,
    /// What instances started from now on do when a call is cancelled.
    pub(crate) on_cancel: Mutex<OnCancel>,
    /// Instances started from now on go on living after they were told to drain.
    pub(crate) stubborn: AtomicBool,
    /// What jobs do from now on.
    pub(crate) on_job: Mutex<OnJob>,
    /// Jobs that were begun.
    pub(crate) jobs: AtomicUsize,
    /// The use of instances started from now on is counted.
    pub(crate) counting: AtomicBool,
    /// Secrets that jobs were shown as files of their own.
    pub(crate) shown: Mutex<Vec<(String, Vec<u8>)>>,
}

/// What a tool does.
#[allow(dead_code, reason = "the platform's tests use all of it")]
#[derive(Clone, Debug, Default)]
pub(crate) enum OnJob {
    /// Leaves a program in the folder of results, and ends well.
    #[default]
    Make,
    /// Says a line and ends badly.
    Fail(String),
    /// Says a line and never ends.
    Hang(String),
}

#[derive(Default)]
struct State {
    instances: Vec<Arc<FakeInstance>>,
    failures: VecDeque<String>,
    /// Revisions none of whose instances start.
    broken: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnCancel {
    /// The code ends and says so.
    #[default]
    Acknowledge,
    /// The code cannot be told.
    Refuse,
    /// The code is told and never answers.
    Ignore,
}

pub(crate) struct FakeInstance {
    id: InstanceId,
    pub(crate) revision: String,
    pub(crate) env: Vec<(String, String)>,
    on_cancel: OnCancel,
    stubborn: bool,
    life: watch::Sender<Option<Exit>>,
    gone: CancellationToken,
    /// Closes the connections there are.
    closing: Mutex<CancellationToken>,
    /// Connections are refused.
    pub(crate) unreachable: AtomicBool,
    pub(crate) connections: AtomicUsize,
    /// Requests that reached the code.
    pub(crate) requests: AtomicUsize,
    /// Requests that the code has not answered.
    pub(crate) running: AtomicUsize,
    /// Bytes of response bodies that connections took from the code.
    pub(crate) written: AtomicUsize,
    pub(crate) cancelled: Mutex<Vec<InvocationId>>,
    pub(crate) drained: AtomicBool,
    /// Processor time so far, in microseconds; none is measured while it is zero.
    pub(crate) cpu_us: AtomicU64,
    counting: bool,
    /// Looks at its counters.
    pub(crate) looks: AtomicUsize,
    /// Wakes the calls that are held.
    release: Notify,
    /// Frames for the streams that are open, in the order they were opened.
    streams: Mutex<Vec<mpsc::UnboundedSender<Bytes>>>,
}

struct Alive(Arc<Fake>);

// === impl Fake ===

impl Fake {
    /// Lets no start come to its end before [`Fake::open`].
    pub(crate) fn shut(&self) {
        *self.gate.lock() = Some(Arc::new(Semaphore::new(0)));
    }

    /// Lets all through, now and from now on.
    pub(crate) fn open(&self) {
        if let Some(gate) = self.gate.lock().take() {
            gate.close();
        }
    }

    /// Makes the next start fail.
    pub(crate) fn fail_next(&self, message: &str) {
        self.state.lock().failures.push_back(message.to_owned());
    }

    /// Makes every start of a revision fail.
    pub(crate) fn break_revision(&self, revision: &str) {
        self.state.lock().broken.push(revision.to_owned());
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Instances that live.
    pub(crate) fn living(&self) -> Vec<Arc<FakeInstance>> {
        let state = self.state.lock();
        state
            .instances
            .iter()
            .filter(|i| !i.is_gone())
            .cloned()
            .collect()
    }

    /// All there ever were, in the order they started.
    pub(crate) fn instances(&self) -> Vec<Arc<FakeInstance>> {
        self.state.lock().instances.clone()
    }

    /// The only living instance.
    pub(crate) fn only(&self) -> Arc<FakeInstance> {
        let living = self.living();
        assert_eq!(living.len(), 1, "living instances");
        living[0].clone()
    }

    fn outcome(&self, spec: &InstanceSpec) -> Result<(), StartError> {
        let mut state = self.state.lock();
        let message = if state.broken.iter().any(|r| **r == *spec.revision) {
            Some("broken".to_owned())
        } else {
            state.failures.pop_front()
        };
        message.map_or(Ok(()), |message| Err(StartError::Code { message }))
    }

    fn count(self: &Arc<Self>) -> Alive {
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(alive, Ordering::SeqCst);
        Alive(self.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the engine holds: the trait wants `&self`, the instances the fake itself.
pub(crate) struct Handle(pub(crate) Arc<Fake>);

#[async_trait]
impl Isolation for Handle {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn runtimes(&self) -> Vec<Runtime> {
        Vec::new()
    }

    async fn prepare(&self, _: &str) -> Result<(), StartError> {
        Ok(())
    }

    async fn run(&self, job: Job) -> Result<JobEnd, StartError> {
        self.0.jobs.fetch_add(1, Ordering::SeqCst);
        let secrets = job.folders.iter().find(|f| f.inside == "/run/secrets");
        for file in secrets
            .into_iter()
            .flat_map(|f| f.outside.read_dir().unwrap())
        {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let shown = (name, std::fs::read(file.path()).unwrap());
            self.0.shown.lock().push(shown);
        }
        let on_job = self.0.on_job.lock().clone();
        let code = match on_job {
            OnJob::Make => {
                let out = job.folders.iter().find(|f| f.inside == "/out");
                let out = &out.expect("a folder of results").outside;
                std::fs::write(out.join("made.sh"), "#!/bin/sh\ncat\n").unwrap();
                0
            }
            OnJob::Fail(line) => {
                job.output.line(LogStream::Stderr, line.as_bytes());
                2
            }
            OnJob::Hang(line) => {
                job.output.line(LogStream::Stdout, line.as_bytes());
                std::future::pending().await
            }
        };
        let exit = Exit {
            code: Some(code),
            signal: None,
            reason: Reason::Exited,
        };
        Ok(JobEnd { exit, usage: None })
    }

    async fn start(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, StartError> {
        let fake = &self.0;
        fake.begun.fetch_add(1, Ordering::SeqCst);
        let alive = fake.count();
        let gate = fake.gate.lock().clone();
        if let Some(gate) = gate
            && let Ok(permit) = gate.acquire().await
        {
            permit.forget();
        }
        fake.outcome(&spec)?;
        let instance = Arc::new(FakeInstance {
            id: spec.id,
            revision: spec.revision.to_string(),
            env: spec.env,
            on_cancel: *fake.on_cancel.lock(),
            stubborn: fake.stubborn.load(Ordering::SeqCst),
            life: watch::Sender::new(None),
            gone: CancellationToken::new(),
            closing: Mutex::default(),
            unreachable: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            cancelled: Mutex::default(),
            drained: AtomicBool::new(false),
            cpu_us: AtomicU64::new(0),
            counting: fake.counting.load(Ordering::SeqCst),
            looks: AtomicUsize::new(0),
            release: Notify::new(),
            streams: Mutex::default(),
        });
        fake.state.lock().instances.push(instance.clone());
        let gone = instance.gone.clone();
        tokio::spawn(async move {
            gone.cancelled().await;
            drop(alive);
        });
        Ok(Arc::new(InstanceHandle(instance)))
    }

    async fn shutdown(&self) {
        for instance in self.0.living() {
            instance.exit(Exit::KILLED);
        }
    }
}

// === impl FakeInstance ===

impl FakeInstance {
    pub(crate) fn number(&self) -> u64 {
        self.id.0
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.life.borrow().is_some_and(|exit| exit == Exit::KILLED)
    }

    /// Ends it.
    pub(crate) fn exit(&self, exit: Exit) {
        self.life.send_if_modified(|life| {
            let first = life.is_none();
            life.get_or_insert(exit);
            first
        });
        self.gone.cancel();
    }

    /// Ends it as the kernel does one that used too much of something.
    pub(crate) fn exhaust(&self, reason: Reason) {
        self.exit(Exit {
            code: None,
            signal: Some(9),
            reason,
        });
    }

    pub(crate) fn crash(&self) {
        self.exit(Exit {
            code: Some(3),
            signal: None,
            reason: Reason::Exited,
        });
    }

    /// Closes the connections there are; new ones are taken.
    pub(crate) async fn exit_connections(&self) {
        std::mem::take(&mut *self.closing.lock()).cancel();
        while self.connections.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        // The other side has to see it, too.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }

    /// Answers the calls that are held.
    pub(crate) fn release(&self) {
        self.release.notify_waiters();
    }

    /// Sends a frame on the only open stream.
    pub(crate) fn send(&self, text: &'static str) {
        let streams = self.streams.lock();
        assert_eq!(streams.len(), 1, "open streams");
        // A stream that was cut takes no more.
        let _ = streams[0].send(Bytes::from_static(text.as_bytes()));
    }

    /// Ends the open streams.
    pub(crate) fn end_streams(&self) {
        self.streams.lock().clear();
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn serve(self: &Arc<Self>) -> UnixStream {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        self.connections.fetch_add(1, Ordering::SeqCst);
        let (instance, served) = (self.clone(), self.clone());
        let (gone, closing) = (self.gone.clone(), self.closing.lock().clone());
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request| answer(served.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades();
            // Dropping the connection closes it, as the end of a process does. Broken ones are part of the tests.
            let _ = gone
                .run_until_cancelled(closing.run_until_cancelled(connection))
                .await;
            instance.connections.fetch_sub(1, Ordering::SeqCst);
        });
        near
    }
}

/// One that counts as running until it is dropped.
pub(crate) struct Run(Arc<FakeInstance>);

impl Run {
    fn new(instance: &Arc<FakeInstance>) -> Self {
        instance.running.fetch_add(1, Ordering::SeqCst);
        Self(instance.clone())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the code does is in the path.
async fn answer(
    instance: Arc<FakeInstance>,
    request: Request<Incoming>,
) -> Result<Response<Script>, io::Error> {
    let released = instance.release.notified();
    instance.requests.fetch_add(1, Ordering::SeqCst);
    let run = Run::new(&instance);
    let path = request.uri().path().to_owned();
    let mut words = path.trim_start_matches('/').split('/');
    let body = match (words.next().unwrap_or(""), words.next()) {
        // Which instance answered.
        ("who", None) => Script::whole(instance.id.0.to_string()),
        ("revision", None) => Script::whole(instance.revision.clone()),
        ("echo", None) => {
            let body = request
                .into_body()
                .collect()
                .await
                .map_err(io::Error::other)?;
            Script::whole(body.to_bytes())
        }
        // Answers when released.
        ("hold", None) => {
            released.await;
            Script::whole(instance.id.0.to_string())
        }
        // Answers at once and reads nothing.
        ("early", None) => Script::whole("early"),
        // So many bytes, of a declared length.
        ("big", Some(n)) => Script::large(&instance, n.parse().expect("a number"), true),
        // So many bytes, of a length that is not declared.
        ("long", Some(n)) => Script::large(&instance, n.parse().expect("a number"), false),
        // Frames of the test's.
        ("stream", None) => {
            let (frames, taken) = mpsc::unbounded_channel();
            instance.streams.lock().push(frames);
            Script::Stream {
                frames: taken,
                _run: run,
            }
        }
        // Answers with this status.
        ("status", Some(code)) => {
            let mut answer = Response::new(Script::whole("so it is"));
            *answer.status_mut() = code.parse().expect("a status");
            return Ok(answer);
        }
        ("hangup", None) => return Err(io::Error::other("the test wants this connection closed")),
        ("header", Some(name)) => {
            let value = request.headers().get(name).map(|v| v.as_bytes().to_vec());
            Script::whole(value.unwrap_or_default())
        }
        // Says back what it is sent, on an upgraded connection.
        ("socket", None) => {
            tokio::spawn(async move {
                let _run = run;
                let upgraded = hyper::upgrade::on(request).await.expect("an upgrade");
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            let response = Response::builder()
                .status(http::StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "upgrade")
                .header("upgrade", "echo");
            let response = response.body(Script::whole(""));
            return Ok(response.expect("a head"));
        }
        _ => panic!("no script for {path}"),
    };
    Ok(Response::new(body))
}

/// A response body.
pub(crate) enum Script {
    Whole(Option<Bytes>),
    Large {
        instance: Arc<FakeInstance>,
        left: usize,
        declared: bool,
        _run: Run,
    },
    Stream {
        frames: mpsc::UnboundedReceiver<Bytes>,
        _run: Run,
    },
}

impl Script {
    fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    fn large(instance: &Arc<FakeInstance>, left: usize, declared: bool) -> Self {
        Self::Large {
            instance: instance.clone(),
            left,
            declared,
            _run: Run::new(instance),
        }
    }
}

/// Bytes of a frame of a large body.
const FRAME: usize = 8 * 1024;

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Large { left: 0, .. } => Poll::Ready(None),
            Self::Large { left, instance, .. } => {
                let len = FRAME.min(*left);
                *left -= len;
                instance.written.fetch_add(len, Ordering::SeqCst);
                Poll::Ready(Some(Bytes::from_static(&[b'x'; FRAME]).slice(..len)))
            }
            Self::Stream { frames, .. } => frames.poll_recv(cx),
        };
        frame.map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Large {
                left,
                declared: true,
                ..
            } => SizeHint::with_exact(*left as u64),
            Self::Large { .. } | Self::Stream { .. } => SizeHint::default(),
        }
    }
}

/// What the engine holds of an instance; dropping the last one ends it.
struct InstanceHandle(Arc<FakeInstance>);

impl Drop for InstanceHandle {
    fn drop(&mut self) {
        self.0.exit(Exit::KILLED);
    }
}

#[async_trait]
impl Instance for InstanceHandle {
    fn id(&self) -> InstanceId {
        self.0.id
    }

    async fn connect(&self) -> io::Result<Stream> {
        if self.0.is_gone() || self.0.unreachable.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Stream::Unix(self.0.serve()))
    }

    async fn exec(&self, _: Exec) -> io::Result<Process> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn cancel(&self, invocation: InvocationId) -> bool {
        self.0.cancelled.lock().push(invocation);
        match self.0.on_cancel {
            OnCancel::Acknowledge => true,
            OnCancel::Refuse => false,
            OnCancel::Ignore => std::future::pending().await,
        }
    }

    fn drain(&self) {
        self.0.drained.store(true, Ordering::SeqCst);
        if !self.0.stubborn {
            self.0.exit(Exit {
                code: Some(0),
                signal: None,
                reason: Reason::Exited,
            });
        }
    }

    fn kill(&self) {
        self.0.exit(Exit::KILLED);
    }

    async fn exited(&self) -> Exit {
        let mut life = self.0.life.subscribe();
        match life.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::KILLED),
            Err(_) => Exit::KILLED,
        }
    }

    fn is_gone(&self) -> bool {
        self.0.is_gone()
    }

    fn usage(&self) -> Option<Usage> {
        let cpu_us = self.0.cpu_us.load(Ordering::SeqCst);
        (cpu_us > 0).then_some(Usage {
            cpu_us,
            ..Usage::default()
        })
    }

    fn cpu_us(&self) -> Option<u64> {
        let counted = self.0.counting && !self.0.is_gone();
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        counted.then(|| self.0.cpu_us.load(Ordering::SeqCst))
    }

    fn memory_peak(&self) -> Option<u64> {
        Some(4096)
    }

    fn start_times(&self) -> StartTimes {
        StartTimes {
            sandbox_us: 1,
            runtime_us: 2,
            load_us: 3,
        }
    }
}
