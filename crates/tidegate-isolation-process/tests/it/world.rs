//! What the cases share: an isolation, bundles, specs, and a recorder of lines.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_core::{InstanceId, InvocationId};
use tidegate_escape::suite;
use tidegate_instance::{
    Exec, Exit, Instance, InstanceSpec, Isolation, LogSink, LogStream, Program, StartError,
};
use tidegate_isolation_process::{Options, ProcessIsolation, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Names the launcher for the harness as another user.
pub(crate) const LAUNCHER: &str = "TIDEGATE_TEST_LAUNCHER";

/// A case that takes longer hangs.
const CASE: Duration = Duration::from_secs(60);

/// The same for a case that is a suite of its own.
const SUITE: Duration = Duration::from_secs(300);

pub(crate) fn launcher() -> PathBuf {
    std::env::var_os(LAUNCHER).map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_tidegate-launcher-test")),
        PathBuf::from,
    )
}

pub(crate) struct World {
    runtime: tokio::runtime::Runtime,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) isolation: ProcessIsolation,
    pub(crate) report: Report,
    next: AtomicU64,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) stream: LogStream,
    pub(crate) invocation: Option<InvocationId>,
    pub(crate) text: String,
}

#[derive(Default)]
pub(crate) struct Recorder {
    lines: Mutex<Vec<Line>>,
    bytes: AtomicU64,
}

impl LogSink for Recorder {
    fn line(
        &self,
        _: InstanceId,
        stream: LogStream,
        invocation: Option<InvocationId>,
        text: &[u8],
    ) {
        self.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        let mut lines = self.lines.lock();
        // A flood of lines is counted; what the platform says is kept in any case.
        if lines.len() < 10_000 || stream == LogStream::System {
            lines.push(Line {
                stream,
                invocation,
                text: String::from_utf8_lossy(text).into_owned(),
            });
        }
    }
}

impl Recorder {
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().clone()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until a line holds this text.
    pub(crate) async fn wait_for(&self, text: &str) -> Line {
        until(&format!("a line with {text:?}"), || {
            self.lines().into_iter().find(|l| l.text.contains(text))
        })
        .await
    }
}

/// Waits until there is something; fails the case when there is not within ten seconds.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "no {what} within 10 s"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a call of a program gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) out: Vec<u8>,
    pub(crate) exit: Exit,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let (isolation, report) = runtime
            .block_on(ProcessIsolation::start(options(folder.path())))
            .expect("the isolation starts");
        Self {
            runtime,
            folder,
            isolation,
            report,
            next: AtomicU64::new(1),
        }
    }

    /// Runs a case on this runtime; false when it panicked or hung.
    pub(crate) fn run(&self, name: &str, case: impl Future<Output = ()>) -> bool {
        let limit = if name.starts_with("escape::") {
            SUITE
        } else {
            CASE
        };
        let began = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.runtime
                .block_on(async { tokio::time::timeout(limit, case).await })
        }));
        let ok = matches!(result, Ok(Ok(())));
        let word = match result {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "HUNG",
            Err(_) => "FAILED",
        };
        println!("{word:<6} {name} ({} ms)", began.elapsed().as_millis());
        ok
    }

    pub(crate) fn end(self) {
        self.runtime.block_on(self.isolation.shutdown());
    }

    /// A bundle with these files, executable.
    pub(crate) fn bundle(&self, files: &[(&str, &str)]) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let bundle = self.folder.path().join(format!("bundle-{number}"));
        for (name, text) in files {
            let path = bundle.join(name);
            fs::create_dir_all(path.parent().expect("it is in the bundle")).expect("a folder");
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        bundle
    }

    pub(crate) fn spec(&self, bundle: &Path, program: Program) -> (InstanceSpec, Arc<Recorder>) {
        let logs = Arc::new(Recorder::default());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut spec = suite::plain(id, bundle.to_owned(), program, logs.clone());
        spec.ready_within = Duration::from_secs(10);
        (spec, logs)
    }

    pub(crate) fn per_call(&self, script: &str) -> (InstanceSpec, Arc<Recorder>) {
        let bundle = self.bundle(&[("run", script)]);
        self.spec(
            &bundle,
            Program::PerCall {
                runtime: "executable".to_owned(),
                entry: "run".to_owned(),
                command: Vec::new(),
            },
        )
    }

    pub(crate) fn server(&self, script: &str) -> (InstanceSpec, Arc<Recorder>) {
        let bundle = self.bundle(&[("serve", script)]);
        self.spec(
            &bundle,
            Program::Server {
                runtime: "executable".to_owned(),
                entry: "serve".to_owned(),
                command: Vec::new(),
                port: None,
            },
        )
    }

    pub(crate) fn python(&self, script: &str) -> (InstanceSpec, Arc<Recorder>) {
        let bundle = self.bundle(&[("app.py", script)]);
        self.spec(
            &bundle,
            Program::Host {
                runtime: "python".to_owned(),
                entry: "app.py".to_owned(),
                handler: None,
            },
        )
    }

    /// A Node function of one CommonJS file.
    pub(crate) fn node(&self, script: &str) -> (InstanceSpec, Arc<Recorder>) {
        self.node_files(&[("app.cjs", script)])
    }

    /// A Node function whose first file is the entry.
    pub(crate) fn node_files(&self, files: &[(&str, &str)]) -> (InstanceSpec, Arc<Recorder>) {
        let bundle = self.bundle(files);
        self.spec(
            &bundle,
            Program::Host {
                runtime: "node".to_owned(),
                entry: files[0].0.to_owned(),
                handler: None,
            },
        )
    }

    pub(crate) async fn start(&self, spec: InstanceSpec) -> Arc<dyn Instance> {
        self.isolation
            .start(spec)
            .await
            .expect("the instance starts")
    }

    pub(crate) async fn refused(&self, spec: InstanceSpec) -> StartError {
        match self.isolation.start(spec).await {
            Ok(_) => panic!("the instance started"),
            Err(error) => error,
        }
    }

    /// Starts a script, calls it once.
    pub(crate) async fn once(&self, script: &str) -> Answer {
        let (spec, _) = self.per_call(script);
        let instance = self.start(spec).await;
        call(&*instance, b"").await.expect("the call works")
    }
}

pub(crate) fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder.join("state"));
    options.launcher = launcher();
    options
}

/// One call: writes the input while it reads the output.
pub(crate) async fn call(instance: &dyn Instance, input: &[u8]) -> io::Result<Answer> {
    call_with(instance, input, Exec::default()).await
}

pub(crate) async fn call_with(
    instance: &dyn Instance,
    input: &[u8],
    exec: Exec,
) -> io::Result<Answer> {
    let process = instance.exec(exec).await?;
    let (mut stdin, mut stdout) = (process.stdin, process.stdout);
    let mut out = Vec::new();
    let write = async {
        // A program that does not read its input closes it: no failure of the call.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (_, read) = tokio::join!(write, stdout.read_to_end(&mut out));
    read?;
    let exit = process
        .exit
        .await
        .map_err(|_| io::Error::other("the instance died"))?;
    Ok(Answer { out, exit })
}

/// A GET on a fresh connection: the whole response.
pub(crate) async fn get(
    instance: &dyn Instance,
    path: &str,
    id: Option<InvocationId>,
) -> io::Result<String> {
    let mut stream = instance.connect().await?;
    let id = id.map_or(String::new(), |id| format!("X-Request-Id: {id}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{id}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut out = Vec::new();
    stream.read_to_end(&mut out).await?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Whether a process of this number exists.
pub(crate) fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Processes with this word in their environment or arguments, wherever they are.
pub(crate) fn processes_with(word: &str) -> Vec<i32> {
    fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|c| String::from_utf8_lossy(&c).contains(word))
        })
        .collect()
}
