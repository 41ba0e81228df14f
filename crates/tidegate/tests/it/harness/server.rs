//! A server of the built binary.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::command::{Ran, bare, program};
use super::http::Call;
use super::{eventually, is_root, until};

/// A user and group that own nothing.
pub(crate) const UNPRIVILEGED: u32 = 64_123;
/// Longest time for a server to end after it was told to: its own grace period, and some.
const END_LIMIT: Duration = Duration::from_secs(45);

/// How a server is to be started.
#[derive(Default)]
pub(crate) struct Options {
    set: Vec<(String, String)>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    uid: Option<u32>,
    data: Option<PathBuf>,
}

/// A server that accepts connections; told to end, and seen to, when it is dropped.
pub(crate) struct Server {
    child: Option<Child>,
    options: Options,
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    home: TempDir,
    program: PathBuf,
    /// Where OpenFaaS's metrics are, where they were asked for.
    metrics: Option<SocketAddr>,
    /// What a start wrote on standard output after the line that told it was ready.
    rest: Option<std::thread::JoinHandle<String>>,
}

/// What came of starting a server.
pub(crate) enum Start {
    Ready(Box<Server>),
    /// It ended.
    Failed(Ran),
}

// === impl Options ===

impl Options {
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.set.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As this user, and group of the same number.
    pub(crate) fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// With its data there, not below its home.
    pub(crate) fn data(mut self, data: &Path) -> Self {
        self.data = Some(data.to_owned());
        self
    }

    #[track_caller]
    pub(crate) fn start(self) -> Server {
        match self.try_start() {
            Start::Ready(server) => *server,
            Start::Failed(ran) => panic!("the server did not start: {ran}"),
        }
    }

    /// Starts a server that is expected to refuse.
    #[track_caller]
    pub(crate) fn refused(self) -> Ran {
        match self.try_start() {
            Start::Ready(_) => panic!("the server started"),
            Start::Failed(ran) => ran,
        }
    }

    pub(crate) fn try_start(self) -> Start {
        let home = tempfile::Builder::new()
            .prefix("tidegate-test-")
            .tempdir()
            .expect("a folder");
        let mut program = program();
        if let Some(uid) = self.uid {
            chown(home.path(), Some(uid), Some(uid)).expect("the folder is given away");
            // The build's folder may lie where another user cannot reach.
            let copy = home.path().join("tidegate");
            // By a process of its own: a file that any process has open for writing cannot be executed, and whatever another
            // test starts at this moment would have inherited this one.
            let copied = Command::new("cp").arg(&program).arg(&copy).status();
            assert!(copied.expect("cp can be started").success());
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("executable");
            program = copy;
        }
        let mut server = Server {
            child: None,
            options: self,
            url: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            home,
            program,
            metrics: None,
            rest: None,
        };
        match server.spawn() {
            Ok(()) => Start::Ready(Box::new(server)),
            Err(ran) => Start::Failed(ran),
        }
    }
}

// === impl Server ===

impl Server {
    #[track_caller]
    pub(crate) fn start() -> Self {
        Options::default().start()
    }

    pub(crate) fn options() -> Options {
        Options::default()
    }

    /// Starts it and waits until it says where it listens.
    fn spawn(&mut self) -> Result<(), Ran> {
        let mut command = self.bare();
        command.args(["up", "--listen"]);
        let port = self.address.port();
        command.arg(if self.url.is_empty() {
            "127.0.0.1:0".to_owned()
        } else {
            format!("127.0.0.1:{port}")
        });
        command.arg("--data").arg(self.data());
        for (key, value) in &self.options.set {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(&self.options.args);
        // Only one server of a machine can have the port that is the default.
        if !self
            .options
            .args
            .iter()
            .any(|arg| arg.starts_with("openfaas-metrics="))
        {
            command.args(["--listen", "openfaas-metrics=off"]);
        }
        command.envs(self.options.env.iter().map(|(k, v)| (k, v)));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a log file");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line, or the end");
        let url = match serde_json::from_str::<Value>(&line) {
            Ok(ready) => {
                let metrics = ready["openfaas_metrics"].as_str().map(authority);
                self.metrics = metrics.map(|at| at.parse().expect("an address"));
                ready["url"].as_str().map(str::to_owned)
            }
            Err(_) => line
                .strip_prefix("tidegate is ready on ")
                .map(|url| url.trim().to_owned()),
        };
        let Some(url) = url else {
            let status = child.wait().expect("it ended");
            return Err(Ran {
                code: status.code(),
                stdout: line.into_bytes(),
                stderr: self.log(),
            });
        };
        self.address = authority(&url).parse().expect("an address");
        self.url = url;
        self.child = Some(child);
        self.rest = Some(std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = std::io::Read::read_to_string(&mut stdout, &mut rest);
            rest
        }));
        Ok(())
    }

    /// Where OpenFaaS's metrics are; asked for with `--json` and `--listen openfaas-metrics=127.0.0.1:0`.
    #[track_caller]
    pub(crate) fn openfaas_metrics(&self) -> SocketAddr {
        self.metrics.expect("metrics were asked for")
    }

    /// The binary in this server's home, as its user.
    fn bare(&self) -> Command {
        let mut command = bare(&self.program, self.home.path());
        if let Some(uid) = self.options.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        let data = self.options.data.clone();
        data.unwrap_or_else(|| self.home.path().join("data"))
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    /// What the server wrote on standard error.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child
            .as_ref()
            .expect("it runs")
            .id()
            .try_into()
            .expect("a pid")
    }

    /// The admin key.
    pub(crate) fn key(&self) -> String {
        let key = fs::read_to_string(self.data().join("admin.key")).expect("a key");
        key.trim().to_owned()
    }

    // --- commands

    /// A command line for this server.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare();
        command.env("TIDEGATE_URL", &self.url).args(words);
        command
    }

    pub(crate) fn cli(&self, words: &[&str]) -> Ran {
        self.cli_with(words, b"")
    }

    pub(crate) fn cli_with(&self, words: &[&str], stdin: &[u8]) -> Ran {
        Ran::of(self.command(words), stdin)
    }

    /// Writes a file below the home, as the server's user, and gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.home.path().join(name);
        let folder = path.parent().expect("a file has a folder");
        fs::create_dir_all(folder).expect("a folder");
        fs::write(&path, content).expect("a file");
        if let Some(uid) = self.options.uid {
            chown(folder, Some(uid), Some(uid)).expect("given away");
            chown(&path, Some(uid), Some(uid)).expect("given away");
        }
        path.to_str().expect("text").to_owned()
    }

    /// Deploys a source file under a name, with further arguments; it has to become ready.
    #[track_caller]
    pub(crate) fn deploy(&self, name: &str, source: &str, more: &[&str]) -> Ran {
        self.try_deploy(name, source, more).ok()
    }

    pub(crate) fn try_deploy(&self, name: &str, source: &str, more: &[&str]) -> Ran {
        let file = if source.starts_with("#!") {
            format!("code/{name}/run.sh")
        } else {
            format!("code/{name}/handler.py")
        };
        let path = self.file(&file, source);
        let words = ["deploy", &path, "--name", name];
        self.cli(&[&words, more].concat())
    }

    // --- requests

    pub(crate) fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.address, method, target)
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> super::Reply {
        self.call("GET", target).send()
    }

    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: impl Into<Vec<u8>>) -> super::Reply {
        self.call("POST", target).body(body).send()
    }

    /// A control request with the admin key; `route` is what follows `/tidegate/v1`.
    pub(crate) fn control(&self, method: &str, route: &str) -> Call {
        self.call(method, &format!("/tidegate/v1{route}"))
            .bearer(&self.key())
    }

    /// A function's document.
    #[track_caller]
    pub(crate) fn function(&self, name: &str) -> Value {
        let (name, namespace) = name.split_once('.').unwrap_or((name, "default"));
        let route = format!("/namespaces/{namespace}/functions/{name}");
        self.control("GET", &route).send().ok().json()
    }

    /// Changes a function's specification through the API, and waits until it is ready.
    #[track_caller]
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) -> super::Reply {
        let mut document = self.function(name);
        change(&mut document["spec"]);
        let route = format!("/namespaces/default/functions/{name}?wait=30");
        self.control("PUT", &route)
            .body(document.to_string())
            .send()
    }

    /// A count of a function's instances: `idle`, `busy`, `starting`, `draining`, `queued`.
    #[track_caller]
    pub(crate) fn count(&self, name: &str, state: &str) -> u64 {
        let function = self.function(name);
        function["status"]["instances"][state]
            .as_u64()
            .expect("a number")
    }

    /// Waits until so many calls of a function are under way or wait.
    #[track_caller]
    pub(crate) fn until_busy(&self, name: &str, busy: u64) {
        until(&format!("{busy} instances of {name} are busy"), || {
            self.count(name, "busy") == busy
        });
    }

    /// The lines that a function has written, as JSON, once they satisfy.
    #[track_caller]
    pub(crate) fn lines(&self, name: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        eventually(&format!("the log of {name}"), || {
            let ran = self.cli(&["logs", name, "--json"]).ok();
            let lines: Vec<Value> = ran
                .text()
                .lines()
                .map(|line| serde_json::from_str(line).expect("a line of JSON"))
                .collect();
            enough(&lines).then_some(lines)
        })
    }

    // --- the end

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("not zero");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let until = Instant::now() + END_LIMIT;
        loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                return status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server did not end within {END_LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Tells it to end, and gives what it wrote on standard output after the first line.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(
            status.success(),
            "the server ended with {status}: {}",
            self.log()
        );
        self.rest
            .take()
            .and_then(|rest| rest.join().ok())
            .unwrap_or_default()
    }

    /// Kills it as a crash would.
    pub(crate) fn crash(&mut self) {
        self.signal(Signal::KILL);
        let status = self.wait();
        assert_eq!(status.signal(), Some(9), "it was killed");
    }

    /// Starts it again on the same data and port.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        if let Err(ran) = self.spawn() {
            panic!("the server did not start again: {ran}");
        }
    }

    /// Starts it again when it is expected to refuse.
    #[track_caller]
    pub(crate) fn refuses_restart(&mut self) -> Ran {
        // Only what this start says.
        let _ = fs::remove_file(self.log_file());
        match self.spawn() {
            Ok(()) => panic!("the server started again"),
            Err(ran) => ran,
        }
    }

    pub(crate) fn is_privileged(&self) -> bool {
        is_root() && self.options.uid.is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.url, self.log());
            if self.child.is_some() {
                self.signal(Signal::TERM);
                let until = Instant::now() + Duration::from_secs(5);
                while let Some(child) = &mut self.child {
                    if child.try_wait().is_ok_and(|status| status.is_some()) {
                        break;
                    }
                    if Instant::now() > until {
                        let _ = child.kill();
                        let _ = child.wait();
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        } else if self.child.is_some() {
            self.stop();
        }
    }
}

/// What stands between the scheme of a URL and its end.
fn authority(url: &str) -> &str {
    url.split_once("://").map_or("", |(_, rest)| rest)
}
