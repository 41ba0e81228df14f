//! An instance whose processes are this machine's, and whose server is in this process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_contract::{
    AnswerBody, Body, BodyFault, CallError, CallInfo, Contract, ContractError, Prefix,
    Surroundings, Target, Vacant,
};
use tidegate_core::{Code, FunctionSpec, InstanceId, InvocationId};
use tidegate_instance::{
    Exec, Exit, Instance, KillOnDrop, LogSink, LogStream, Process, Program, Reason, StartTimes,
    Stream, Usage,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

/// Where the function is called.
const PREFIX: &str = "/function/f";

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// A function that is being called.
pub(crate) struct World {
    pub(crate) target: Arc<Target>,
    pub(crate) logs: Arc<Recorder>,
    pub(crate) instance: Option<Arc<Loose>>,
    /// What the function itself writes.
    own: Arc<dyn LogSink>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// What the contract says happened, where the answer is its own.
    pub(crate) error: Option<String>,
    /// Why the body broke off.
    pub(crate) fault: Option<BodyFault>,
}

/// Lines as they come.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<String>>);

/// An instance without walls.
pub(crate) struct Loose {
    bundle: PathBuf,
    program: Program,
    env: Vec<(String, String)>,
    logs: Arc<dyn LogSink>,
    gone: watch::Sender<bool>,
}

/// A function of this contract, with these variables.
pub(crate) fn spec(contract: &str, env: &[(&str, &str)]) -> FunctionSpec {
    let code = Code {
        digest: format!("sha256:{}", "0".repeat(64)),
        entry: "handler".to_owned(),
        layer: None,
    };
    let mut spec = FunctionSpec::plain("executable", contract, code);
    spec.scale.max = 1;
    spec.scale.concurrency = 100;
    spec.env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    spec
}

/// What is wrong with a function.
pub(crate) fn refused(contract: &str, env: &[(&str, &str)]) -> ContractError {
    match Contract::of(&spec(contract, env)) {
        Ok(_) => panic!("{env:?} was taken"),
        Err(error) => error,
    }
}

impl World {
    /// A function whose bundle has nothing in it.
    pub(crate) fn new(contract: &str, env: &[(&str, &str)]) -> Self {
        Self::of(Path::new("/"), contract, env)
    }

    pub(crate) fn of(bundle: &Path, contract: &str, env: &[(&str, &str)]) -> Self {
        let spec = spec(contract, env);
        let contract = Contract::of(&spec).expect("it makes sense");
        let logs = Arc::<Recorder>::default();
        let own = contract.sink(logs.clone());
        let instance = contract.program(&spec).map(|program| {
            Arc::new(Loose {
                bundle: bundle.to_owned(),
                program,
                env: spec.env.clone().into_iter().collect(),
                logs: own.clone(),
                gone: watch::Sender::new(false),
            })
        });
        let shown: Arc<dyn Instance> = match &instance {
            Some(loose) => loose.clone(),
            None => Arc::new(Vacant::new(InstanceId(1))),
        };
        let surroundings = Surroundings {
            lanes: 1,
            bundle: bundle.to_owned(),
            logs: logs.clone(),
        };
        Self {
            target: Arc::new(Target::new(shown, contract, surroundings)),
            logs,
            instance,
            own,
        }
    }

    /// What comes of what the function writes.
    pub(crate) fn says(&self, stream: LogStream, line: &str) {
        self.own.line(InstanceId(1), stream, None, line.as_bytes());
    }

    pub(crate) async fn head(
        &self,
        request: Request<Body>,
    ) -> Result<Response<AnswerBody>, CallError> {
        let len = match request.uri().path().strip_prefix(PREFIX) {
            Some(_) => PREFIX.len(),
            None => 0,
        };
        let info = CallInfo {
            id: InvocationId::from_u128(7),
            prefix: Prefix { len },
            remaining: Duration::from_secs(60),
            caller: None,
        };
        self.target.call(request, &info).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (response, error) = match self.head(request).await {
            Ok(response) => (response, None),
            Err(CallError::Answered { response, error }) => (*response, Some(error.to_string())),
            Err(error) => panic!("no answer: {error}"),
        };
        let (parts, mut body) = response.into_parts();
        let (mut bytes, mut fault) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d)),
                Err(broken) => {
                    fault = Some(broken);
                    break;
                }
            }
        }
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: bytes,
            error,
            fault,
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &'static str) -> Answer {
        self.send(post(path, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(call("GET", path, &[], "")).await
    }
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<Body> {
    let length = body.len().to_string();
    call("POST", path, &[("content-length", &length)], body)
}

/// A request as the gateway passes it on, below the function's own path.
pub(crate) fn call(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{PREFIX}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::full(Bytes::from_static(body.as_bytes()));
    request.body(body).expect("a request")
}

/// A folder with these files, which may be executed.
pub(crate) fn bundle(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a mode");
    }
    folder
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

// === impl Answer ===

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().expect("text"))
    }

    /// Status and body.
    pub(crate) fn said(&self) -> (u16, &str) {
        (self.status.as_u16(), self.text())
    }

    /// Seconds with six digits.
    pub(crate) fn duration(&self) -> Option<f64> {
        let text = self.header("x-duration-seconds")?;
        let (_, digits) = text.split_once('.').expect("a point");
        assert_eq!(digits.len(), 6, "{text}");
        Some(text.parse().expect("a number"))
    }
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// Waits for a line, and gives it with what differs from run to run taken out: numbers of seconds become `T`.
    pub(crate) async fn wait_for(&self, part: &str) -> String {
        let find = || self.lines().into_iter().find(|line| line.contains(part));
        until(&format!("a line with {part:?}"), || find().is_some()).await;
        let line = find().expect("there");
        let mut parts: Vec<String> = Vec::new();
        for word in line.split(' ') {
            let bare = word.trim_start_matches('(').trim_end_matches(')');
            let digits = bare.strip_suffix('s').unwrap_or("");
            match digits.split_once('.') {
                Some((whole, rest)) if whole.parse::<u64>().is_ok() => {
                    assert!(rest.parse::<u64>().is_ok(), "{line}");
                    parts.push(word.replace(digits, &format!("T{}", rest.len())));
                }
                _ => parts.push(word.to_owned()),
            }
        }
        parts.join(" ")
    }
}

impl LogSink for Recorder {
    fn line(&self, _: InstanceId, stream: LogStream, _: Option<InvocationId>, text: &[u8]) {
        assert_ne!(stream, LogStream::System);
        let line = String::from_utf8_lossy(text).into_owned();
        self.0.lock().push(line);
    }
}

// === impl Loose ===

#[async_trait]
impl Instance for Loose {
    fn id(&self) -> InstanceId {
        InstanceId(1)
    }

    async fn connect(&self) -> io::Result<Stream> {
        if self.is_gone() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        let service = hyper::service::service_fn(crate::http::serve);
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(theirs), service)
            .with_upgrades();
        tokio::spawn(connection);
        Ok(Stream::Unix(ours))
    }

    async fn exec(&self, exec: Exec) -> io::Result<Process> {
        let Program::PerCall { command, .. } = &self.program else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let (stdin, our_stdin) = io::pipe()?;
        let (our_stdout, stdout) = io::pipe()?;
        let stderr = if exec.merged {
            Stdio::from(stdout.try_clone()?)
        } else {
            Stdio::piped()
        };
        let mut process = tokio::process::Command::new(&command[0]);
        process
            .args(&command[1..])
            .current_dir(&self.bundle)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(self.env.clone())
            .envs(exec.env)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        // What any process has open for writing cannot be executed, and one that another test has just forked has, for a
        // moment, what this one wrote.
        let mut child = loop {
            match process.spawn() {
                Err(busy) if busy.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    tokio::task::yield_now().await;
                }
                spawned => break spawned?,
            }
        };
        let (tell, exit) = oneshot::channel();
        let (kill, killed) = oneshot::channel::<()>();
        let (logs, errors) = (self.logs.clone(), child.stderr.take());
        tokio::spawn(async move {
            let status = tokio::select! {
                status = child.wait() => status,
                // The guard is let go without a word when the process has ended by itself.
                Ok(()) = killed => {
                    let _ = child.start_kill();
                    child.wait().await
                }
            };
            let mut text = String::new();
            if let Some(mut errors) = errors {
                let _ = errors.read_to_string(&mut text).await;
            }
            for line in text.lines() {
                logs.line(
                    InstanceId(1),
                    LogStream::Stderr,
                    exec.invocation,
                    line.as_bytes(),
                );
            }
            use std::os::unix::process::ExitStatusExt as _;
            let status = status.expect("it was started");
            let _ = tell.send(Exit {
                code: status.code(),
                signal: status.signal(),
                reason: Reason::Exited,
            });
        });
        let guard = KillOnDrop(Some(Box::new(move || {
            let _ = kill.send(());
        })));
        Ok(Process {
            stdin: pipe::Sender::from_owned_fd(OwnedFd::from(our_stdin))?,
            stdout: pipe::Receiver::from_owned_fd(OwnedFd::from(our_stdout))?,
            exit,
            guard,
        })
    }

    async fn cancel(&self, _: InvocationId) -> bool {
        false
    }

    fn drain(&self) {
        self.kill();
    }

    fn kill(&self) {
        self.gone.send_replace(true);
    }

    async fn exited(&self) -> Exit {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
        Exit::KILLED
    }

    fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    fn usage(&self) -> Option<Usage> {
        None
    }

    fn start_times(&self) -> StartTimes {
        StartTimes::default()
    }
}
