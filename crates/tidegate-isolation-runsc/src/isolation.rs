//! The isolation as the engine sees it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tidegate_core::Network;
use tidegate_instance::output::Output;
use tidegate_instance::{
    Instance, InstanceSpec, Isolation, LogStream, Program, Runtime, StartError,
};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::bundle::{self, Parts};
use crate::group::{self, Group};
use crate::instance::{Inner, Kind, RunscInstance};
use crate::options::{Error, Options};
use crate::protocol::{MAIN, Order};
use crate::watch::{Accounts, EVERY, Memory};

/// The port that `$PORT` names.
const PORT: u16 = 8080;

/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Between two attempts to connect to a program that starts.
const AGAIN: Duration = Duration::from_millis(10);

/// The environment of every program, where it has none of its own.
const DEFAULT_ENV: [(&str, &str); 4] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/tmp"),
    ("TMPDIR", "/tmp"),
    ("LANG", "C.UTF-8"),
];

/// Containers of gVisor's on this machine.
pub struct RunscIsolation {
    options: Options,
    root: PathBuf,
    /// Whether the server is root: control groups, and users of the machine's own.
    privileged: bool,
    control: Handle,
    next: AtomicU64,
    closed: AtomicBool,
    running: Mutex<Vec<std::sync::Weak<Inner>>>,
}

impl RunscIsolation {
    /// Looks whether `runsc` is there and lays the shared root out. The runtime that this is called in becomes the one on
    /// which output is read.
    ///
    /// # Errors
    /// It is not there, or the folder cannot be written.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(options: Options) -> Result<Self, Error> {
        if !options.runsc.exists() {
            return Err(Error::Missing);
        }
        let folder = |source| Error::Folder {
            path: options.state_dir.clone(),
            source,
        };
        let root = options.state_dir.join("root");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&options.state_dir)
            .map_err(folder)?;
        bundle::root(&root).map_err(folder)?;
        let privileged = rustix::process::geteuid().is_root();
        if privileged {
            group::tidy(Path::new(CGROUPS));
        }
        Ok(Self {
            root,
            privileged,
            options,
            control: Handle::current(),
            next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            running: Mutex::default(),
        })
    }

    fn runsc(&self) -> Command {
        let mut command = Command::new(&self.options.runsc);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("--root")
            .arg(self.options.state_dir.join("state"))
            .args(["--network=none", "--host-uds=open"]);
        if !self.privileged {
            command.args(["--rootless", "--ignore-cgroups"]);
        }
        command
    }

    /// Program and kind, or why this isolation does not run it.
    fn program(spec: &InstanceSpec) -> Result<(Vec<String>, Kind), StartError> {
        let refused = |what: &str| {
            Err(StartError::Runtime(format!(
                "the isolation \"runsc\" does not run {what}; choose \"process\" for this function, or give it a program \
                 that listens on $PORT or is run once a call"
            )))
        };
        if spec.root.is_some() {
            return refused("images yet");
        }
        if spec.network != Network::None {
            return refused("functions with a network yet: deploy it with the network \"none\"");
        }
        let (runtime, entry, command, kind) = match &spec.program {
            Program::Host { runtime, .. } => {
                return refused(&format!(
                    "handlers of {runtime}, whose host takes over an interpreter"
                ));
            }
            Program::Server {
                runtime,
                entry,
                command,
                port,
            } => (
                runtime,
                entry,
                command,
                Kind::Server {
                    port: port.unwrap_or(PORT),
                },
            ),
            Program::PerCall {
                runtime,
                entry,
                command,
            } => (runtime, entry, command, Kind::PerCall),
        };
        if !command.is_empty() {
            return Ok((command.clone(), kind));
        }
        if runtime != "executable" {
            return refused(&format!("files of {runtime} without a command"));
        }
        Ok((vec![format!("/function/{entry}")], kind))
    }

    async fn launch(&self, spec: &InstanceSpec) -> Result<RunscInstance, StartError> {
        let began = Instant::now();
        let (argv, kind) = Self::program(spec)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-{}-{number}", std::process::id());
        let folder = self.options.state_dir.join(number.to_string());
        let door = folder.join("d");
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&door);
        made.map_err(step("folder of the bundle"))?;
        let cleared = Cleared(folder.clone());
        let socket = door.join("s");
        let listener = {
            let _inside = self.control.enter();
            UnixListener::bind(&socket).map_err(step("socket"))?
        };
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&socket, private).map_err(step("socket"))?;
        let group =
            (self.privileged).then(|| Group::new(Path::new(CGROUPS), std::process::id(), number));
        let parts = Parts {
            root: &self.root,
            door: &door,
            relay: &self.options.relay,
            group: group.as_ref().map(Group::path),
            hostname: host_name(&spec.function.name),
        };
        let config = bundle::config(&parts, spec).to_string();
        fs::write(folder.join("config.json"), config).map_err(step("bundle"))?;

        let pid_file = folder.join("pid");
        let mut child = self
            .runsc()
            .arg("run")
            .arg("--bundle")
            .arg(&folder)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&name)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(step("start runsc"))?;
        let complaints = child.stderr.take();
        let process = pidfd(&child).map_err(step("handle of runsc"))?;
        let mut env = spec.env.clone();
        if let Kind::Server { port } = kind {
            env.retain(|(name, _)| name != "PORT");
            env.push(("PORT".to_owned(), port.to_string()));
        }
        for (name, value) in DEFAULT_ENV {
            if !env.iter().any(|(n, _)| n == name) {
                env.push((name.to_owned(), value.to_owned()));
            }
        }
        let output = Output::new(spec.id, spec.logs.clone());
        let (inner, orders) = Inner::new(
            spec.id,
            kind,
            (argv, env),
            output,
            self.control.clone(),
            process,
            Accounts {
                group: group.clone(),
                pid_file: pid_file.clone(),
            },
        );
        let ending = Ending {
            delete: {
                let mut command = self.runsc();
                command.args(["delete", "--force", &name]);
                command
            },
            group: group.clone(),
            folder: cleared,
        };
        self.control.spawn(watch(inner.clone(), spec.limits.memory));
        let (last, first_words) = oneshot::channel();
        let waiting = inner.clone();
        // A thread of its own: it waits for as long as the instance lives, and there are tens of them.
        std::thread::Builder::new()
            .name("runsc".to_owned())
            .spawn(move || {
                let said = complaints.map_or_else(String::new, |mut from| read_some(&mut from));
                let _ = last.send(said);
                let _ = child.wait();
                waiting.buried(ending.end());
            })
            .map_err(step("thread"))?;
        let (ready, is_ready) = oneshot::channel();
        self.control
            .spawn(inner.clone().accept(listener, Some(orders), ready));
        {
            let mut running = self.running.lock();
            running.retain(|weak| weak.strong_count() > 0);
            running.push(Arc::downgrade(&inner));
        }
        // Should this future be dropped, the instance goes with it.
        let held = RunscInstance(inner);
        let limit = spec.ready_within;
        match tokio::time::timeout(limit, is_ready).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                held.0.kill();
                let said = tokio::time::timeout(Duration::from_secs(5), first_words).await;
                let said = said.ok().and_then(Result::ok).unwrap_or_default();
                return Err(StartError::Sandbox {
                    step: "runsc".to_owned(),
                    source: io::Error::other(format!(
                        "it did not start a container: {}",
                        said.trim()
                    )),
                });
            }
        }
        held.0.times.lock().sandbox_us = micros(began);
        for secret in &spec.secrets {
            let order = Order::Secret {
                name: secret.name.clone(),
                value: secret.value.to_vec(),
            };
            held.0.order(order).await.map_err(step("secret"))?;
        }
        let inner = held.0.clone();
        if let Kind::Server { port } = inner.kind {
            let left = limit.saturating_sub(began.elapsed());
            serve(&inner, port, left, limit).await?;
        }
        {
            let mut times = inner.times.lock();
            times.load_us = micros(began).saturating_sub(times.sandbox_us);
        }
        Ok(held)
    }
}

/// Starts a server and waits until it listens.
async fn serve(
    inner: &Arc<Inner>,
    port: u16,
    left: Duration,
    limit: Duration,
) -> Result<(), StartError> {
    let begun = inner.begin(MAIN, Vec::new(), false, None).await;
    let (input, output, mut ended) = begun.map_err(|error| StartError::Code {
        message: format!("{} cannot be run: {error}", inner.argv[0]),
    })?;
    drop(input);
    let lines = inner.output.clone();
    inner
        .control
        .spawn(lines.pump(output, LogStream::Stdout, None));
    let listens = async {
        loop {
            if inner.dial(port).await.is_ok() {
                return Ok(());
            }
            tokio::select! {
                _ = &mut ended => {
                    return Err(StartError::Code {
                        message: format!(
                            "{} ended before it listened on port {port}: {}",
                            inner.argv[0],
                            inner.output.last_line()
                        ),
                    });
                }
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    };
    match tokio::time::timeout(left, listens).await {
        Ok(done) => done,
        Err(_) => Err(StartError::NotReady {
            limit,
            hint: "it has to listen on the port that $PORT names",
        }),
    }
}

/// Looks at the memory in use until the instance is gone.
async fn watch(inner: Arc<Inner>, limit: u64) {
    let mut memory = Memory::default();
    while !inner.is_over() {
        let kernel = inner.accounts.kernel();
        if let Some(used) = kernel.and_then(|pid| memory.used(pid)) {
            inner.measured(used, limit);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What is left to do when `runsc` has ended.
struct Ending {
    delete: Command,
    group: Option<Group>,
    folder: Cleared,
}

impl Ending {
    /// Removes what is left. True when the kernel ended it for want of memory.
    fn end(mut self) -> bool {
        let killed = self.group.as_ref().is_some_and(|g| g.memory_kills() > 0);
        let done = self
            .delete
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = done {
            tracing::warn!(%error, folder = %self.folder.0.display(), "a container is not deleted");
        }
        // One that was killed on its way has made a group, and knows of nothing to delete.
        if let Some(group) = &self.group {
            group.remove();
        }
        drop(self.folder);
        killed
    }
}

/// A folder that goes with its owner.
struct Cleared(PathBuf);

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[async_trait]
impl Isolation for RunscIsolation {
    fn name(&self) -> &'static str {
        "runsc"
    }

    fn runtimes(&self) -> Vec<Runtime> {
        vec![Runtime {
            name: "executable".to_owned(),
            version: None,
            available: Ok("any program of the machine's architecture".to_owned()),
        }]
    }

    async fn prepare(&self, runtime: &str) -> Result<(), StartError> {
        if runtime == "executable" {
            return Ok(());
        }
        Err(StartError::Runtime(format!(
            "the isolation \"runsc\" has no runtime {runtime:?}; it has \"executable\""
        )))
    }

    async fn start(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, StartError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StartError::ShuttingDown);
        }
        Ok(Arc::new(self.launch(&spec).await?))
    }

    async fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
        let running: Vec<_> = self
            .running
            .lock()
            .drain(..)
            .filter_map(|w| w.upgrade())
            .collect();
        for inner in &running {
            inner.kill();
        }
        for inner in running {
            let instance = RunscInstance(inner);
            instance.exited().await;
        }
        if self.privileged {
            group::tidy(Path::new(CGROUPS));
        }
    }
}

fn pidfd(child: &Child) -> io::Result<std::os::fd::OwnedFd> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::pidfd_open(
        pid,
        rustix::process::PidfdFlags::empty(),
    )?)
}

/// The beginning of what `runsc` complains of; the rest is read and dropped, so that it never waits for a reader.
fn read_some(from: &mut impl io::Read) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(1..) = from.read(&mut piece).inspect(|&len| {
        let room = 2048_usize.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..len.min(room)]);
    }) {}
    String::from_utf8_lossy(&kept).into_owned()
}

fn step(name: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Sandbox {
        step: name.to_owned(),
        source,
    }
}

fn host_name(name: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(clean).take(63).collect();
    if name.is_empty() {
        "function".to_owned()
    } else {
        name
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
