//! Starting an instance: the walls, then what runs behind them, by kind of program.

use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use rustix::net::SocketFlags;
use tidegate_core::{InvocationId, Network};
use tidegate_instance::{Exit, Instance, InstanceSpec, LogStream, Program, StartError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cgroup::GroupLimits;
use crate::channel::Channel;
use crate::instance::{Inner, Kind, MAIN, ProcessInstance};
use crate::language::{Command, NODE, PYTHON};
use crate::node::{NodeStock, Orders};
use crate::output::{MAX_LINE, Output, REST};
use crate::protocol::{Payload, Rlimits, Root};
use crate::supervisor::{Supervisor, Unclaimed, failed};
use crate::wire;
use crate::zygote::Zygotes;

/// The port that `$PORT` names, in a network namespace where nobody else is.
const PORT: u16 = 8080;

/// Open files of one process: enough for a server with ten thousand connections.
pub(crate) const OPEN_FILES: u64 = 16 * 1024;

/// Files may be as large as `/tmp` is, and a little more, so that a full disk and not a signal is what code meets.
const FILE_SLACK: u64 = 1024 * 1024;

/// Waits between dials until a server listens: short at first, since a small one is there after 2 ms, and never long
/// enough to be what a cold start waits for.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// How long the rest of the output may take after the end of an instance, before its last line is quoted.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Longest message of a host that has loaded, in bytes: a line with its stream and its invocation.
const MAX_HOST_LINE: usize = MAX_LINE + 64;

/// Where a layer's Python packages are, after the code's own folder and before the machine's packages.
const LAYER_PATH: &str = "/layer/python";

/// Steps of a host's start that run the function's own code; a failure of any other is ours or the machine's.
const CODE_STEPS: [&str; 3] = ["load", "start", "lifespan"];

/// Type of the message with which a host of Python's that was not forked is told whose it is.
const CONFIG: u8 = b'G';

/// What makes code load in time.
const LOAD_HINT: &str =
    "what a module does when it is loaded has to end; long work belongs into the handler";

/// What code finds set when it sets nothing itself.
pub(crate) const DEFAULT_ENV: [(&str, &str); 4] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/tmp"),
    ("TMPDIR", "/tmp"),
    ("LANG", "C.UTF-8"),
];

/// The same where an image says what is where; the home is what the image's list of users has.
const IMAGE_ENV: [(&str, &str); 1] = [(
    "PATH",
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)];

/// Where the bundle is inside.
const FUNCTION: &str = "/function";

/// Where the dependencies are inside.
const LAYER: &str = "/layer";

/// An environment.
type Variables = Vec<(String, String)>;

/// How an instance's first process comes to be.
pub(crate) enum Means<'a> {
    /// Executed in the sandbox.
    Command(Command),
    /// Forked into it.
    Zygote(&'a Arc<Zygotes>),
    /// One that has waited.
    Node(&'a Arc<NodeStock>),
}

/// Starts an instance. Dropping the future ends what had been started.
pub(crate) async fn start(
    supervisor: &Arc<Supervisor>,
    means: Means<'_>,
    spec: InstanceSpec,
) -> Result<Arc<dyn Instance>, StartError> {
    let (Program::PerCall { entry, .. }
    | Program::Server { entry, .. }
    | Program::Host { entry, .. }) = &spec.program;
    // In messages, a command of the function's own is what cannot be run or ends too early.
    let runs = match &spec.program {
        Program::PerCall { command, .. } | Program::Server { command, .. } => command.first(),
        Program::Host { .. } => None,
    };
    if let Some(root) = &spec.root
        && root.layers.is_empty()
    {
        return Err(StartError::Code {
            message: "the image has no layer, and so nothing that could be run".to_owned(),
        });
    }
    if runs.is_none() && !has_bundle(&spec) {
        return Err(StartError::Code {
            message:
                "neither the image nor the function says what to run; give the function a command"
                    .to_owned(),
        });
    }
    if runs.is_none() {
        check_entry(&spec, entry)?;
    }
    run(supervisor, means, &spec, runs.unwrap_or(entry)).await
}

async fn run(
    supervisor: &Arc<Supervisor>,
    means: Means<'_>,
    spec: &InstanceSpec,
    entry: &str,
) -> Result<Arc<dyn Instance>, StartError> {
    match (&spec.program, means) {
        (Program::PerCall { .. }, Means::Command(command)) => {
            let env = environment(spec, &command);
            let (instance, _) =
                walls(supervisor, spec, entry, Some((command.argv, env)), None).await?;
            let _ = instance.inner.kind.set(Kind::PerCall);
            Ok(Arc::new(instance))
        }
        (
            Program::Host {
                runtime, handler, ..
            },
            Means::Command(command),
        ) if matches!(runtime.as_str(), PYTHON | NODE) => {
            let config = configuration(spec, entry, handler.as_deref());
            executed(supervisor, spec, entry, command, &config, runtime == NODE).await
        }
        (_, Means::Command(command)) => server(supervisor, spec, entry, command).await,
        (Program::Host { handler, .. }, Means::Zygote(zygotes)) => {
            host(supervisor, zygotes, spec, entry, handler.as_deref()).await
        }
        (Program::Host { handler, .. }, Means::Node(stock)) => {
            node(supervisor, stock, spec, entry, handler.as_deref()).await
        }
        (_, Means::Zygote(_) | Means::Node(_)) => Err(StartError::Runtime(format!(
            "{entry:?} is no module for a language host"
        ))),
    }
}

fn check_entry(spec: &InstanceSpec, entry: &str) -> Result<(), StartError> {
    let inside = Path::new(entry)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(StartError::Code {
            message: format!("{entry:?} is not a path inside the bundle, such as \"bin/serve\""),
        });
    }
    let message = match std::fs::metadata(spec.bundle.join(entry)) {
        Ok(meta) if meta.is_file() => return Ok(()),
        Ok(_) => format!("{entry:?} is not a file"),
        Err(error) => format!("{entry:?} is not in the bundle: {error}"),
    };
    Err(StartError::Code { message })
}

/// Whether there is code beside what an image has. Where there is none its place is left to the image, which may have a
/// folder of that name.
fn has_bundle(spec: &InstanceSpec) -> bool {
    spec.root.is_none()
        || std::fs::read_dir(&spec.bundle).is_ok_and(|mut folder| folder.next().is_some())
}

/// What is hung into the sandbox of the function's own, and where.
fn code(spec: &InstanceSpec, has_bundle: bool) -> (Vec<PathBuf>, Vec<String>) {
    let bundle = has_bundle.then(|| (spec.bundle.clone(), FUNCTION.to_owned()));
    let layer = spec.layer.clone().map(|layer| (layer, LAYER.to_owned()));
    bundle.into_iter().chain(layer).unzip()
}

/// The sandbox with an init that is ready, and the doors of its control groups.
async fn walls(
    supervisor: &Arc<Supervisor>,
    spec: &InstanceSpec,
    entry: &str,
    program: Option<(Vec<String>, Variables)>,
    waiting: Option<Unclaimed>,
) -> Result<(ProcessInstance, Vec<OwnedFd>), StartError> {
    let began = Instant::now();
    let (argv, env) = program.unwrap_or_default();
    let engine = &base64::engine::general_purpose::STANDARD;
    let has_bundle = has_bundle(spec);
    let (folders, code) = code(spec, has_bundle);
    let root = spec.root.as_ref().map(|root| Root {
        user: root.user,
        workdir: root.workdir.clone(),
        read_only: root.read_only,
        hosts: has_bundle,
    });
    let payload = Payload {
        hostname: host_name(&spec.function.name),
        argv,
        env,
        workdir: match &spec.root {
            Some(root) if !has_bundle => format!("/{}", root.workdir.trim_start_matches('/')),
            _ => FUNCTION.to_owned(),
        },
        code,
        root,
        secrets: spec
            .secrets
            .iter()
            .map(|secret| (secret.name.clone(), engine.encode(&secret.value)))
            .collect(),
        tmp: spec.limits.tmp,
        memory: spec.limits.memory,
        rlimits: rlimits(supervisor, spec),
    };
    let limits = GroupLimits {
        memory: spec.limits.memory,
        cpu_milli: spec.limits.cpu_milli,
        pids: processes(spec),
    };
    let host_network = spec.network == Network::Host;
    let layers = spec.root.as_ref().map_or(&[][..], |root| &root.layers);
    let (mut sandbox, gone) = match waiting {
        Some(waiting) => {
            supervisor
                .settle(waiting, &folders, limits, &payload)
                .await?
        }
        None => {
            supervisor
                .sandbox(&folders, layers, limits, host_network, &payload)
                .await?
        }
    };
    let doors = std::mem::take(&mut sandbox.doors);
    let made_us = sandbox.made_us;
    let control = supervisor.control().clone();
    let output = Output::new(spec.id, spec.logs.clone());
    let inner = Inner::new(spec, entry, sandbox, output, control.clone());
    // From here on dropping the instance ends the sandbox.
    let instance = ProcessInstance {
        inner: inner.clone(),
    };
    let (ready, is_ready) = oneshot::channel();
    // Both end with the sandbox: the one when its init closes the channel, the other when the launcher has buried it.
    control.spawn(inner.clone().listen(ready));
    control.spawn(async move {
        let last = gone.await.unwrap_or_default();
        inner.buried(last);
    });
    match is_ready.await {
        Ok(Ok(setup_us)) => {
            instance.inner.times.lock().sandbox_us = micros(began);
            tracing::trace!(instance = %spec.id, made_us, setup_us, "sandbox");
            Ok((instance, doors))
        }
        Ok(Err((step, errno))) => Err(failed(step, io::Error::from_raw_os_error(errno))),
        Err(_) if supervisor.is_closed() => Err(StartError::ShuttingDown),
        Err(_) => {
            let exit = instance.inner.exited().await;
            Err(failed(
                "set the sandbox up",
                io::Error::other(format!("its init {exit}")),
            ))
        }
    }
}

async fn server(
    supervisor: &Arc<Supervisor>,
    spec: &InstanceSpec,
    entry: &str,
    command: Command,
) -> Result<Arc<dyn Instance>, StartError> {
    let own = match &spec.program {
        Program::Server { port, .. } => *port,
        _ => None,
    };
    let port = match spec.network {
        _ if own.is_some() => own.unwrap_or(PORT),
        Network::None => PORT,
        Network::Host => free_port().map_err(|e| failed("choose a port", e))?,
    };
    let mut env = environment(spec, &command);
    if own.is_none() {
        env.retain(|(name, _)| name != "PORT");
    }
    // A program with a port of its own may know the variable for something else.
    if !env.iter().any(|(name, _)| name == "PORT") {
        env.push(("PORT".to_owned(), port.to_string()));
    }
    let (instance, _) = walls(supervisor, spec, entry, Some((command.argv, env)), None).await?;
    let began = Instant::now();
    let inner = &instance.inner;
    let _ = inner.kind.set(Kind::Server { port });
    let fds = streams(inner).map_err(|e| failed("output pipes", e))?;
    inner
        .begin(MAIN, fds, &[], None)
        .await
        .map_err(|error| StartError::Code {
            message: error.to_string(),
        })?;
    inner.times.lock().runtime_us = micros(began);
    let began = Instant::now();
    let listens = async {
        let mut wait = FIRST_WAIT;
        // The connection is closed again: a server that takes one at a time would wait on it.
        while inner.dial(port).await.is_err() {
            if inner.is_gone() {
                return false;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        true
    };
    match timeout(spec.ready_within, listens).await {
        Ok(true) => {
            inner.times.lock().load_us = micros(began);
            Ok(Arc::new(instance))
        }
        Ok(false) if command.is_host => Err(not_loaded(&instance).await),
        Ok(false) => Err(died(&instance, &format!("before it listened on port {port}")).await),
        Err(_) if command.is_host => Err(StartError::NotReady {
            limit: spec.ready_within,
            hint: LOAD_HINT,
        }),
        Err(_) => Err(StartError::NotReady {
            limit: spec.ready_within,
            hint: match own {
                None => "it has to listen on 127.0.0.1 or 0.0.0.0 at the port that $PORT names",
                Some(_) => {
                    "it has to listen on 127.0.0.1 or 0.0.0.0 at the port that it is called on"
                }
            },
        }),
    }
}

/// What a host says about its start.
enum Loaded {
    Ready,
    Failed(LoadFailure),
}

#[derive(serde::Deserialize)]
struct LoadFailure {
    step: String,
    error: String,
    #[serde(default)]
    trace: Option<String>,
}

async fn host(
    supervisor: &Arc<Supervisor>,
    zygotes: &Arc<Zygotes>,
    spec: &InstanceSpec,
    entry: &str,
    handler: Option<&str>,
) -> Result<Arc<dyn Instance>, StartError> {
    let config = configuration(spec, entry, handler);
    // The zygote may have to start: that goes on while the walls are made.
    let (walls, zygote) = tokio::join!(walls(supervisor, spec, entry, None, None), zygotes.get());
    let (instance, doors) = walls?;
    zygote?;
    let inner = &instance.inner;
    let began = Instant::now();
    let (ours, theirs) = wire::pair(SocketFlags::empty()).map_err(|e| failed("socket pair", e))?;
    let channel =
        Channel::new(ours, supervisor.control()).map_err(|e| failed("register channel", e))?;
    let forked = {
        let streams = streams(inner).map_err(|e| failed("output pipes", e))?;
        let mut fds = vec![inner.sandbox.pidfd.as_fd(), theirs.as_fd()];
        fds.extend(streams.iter().chain(&doors).map(AsFd::as_fd));
        zygotes
            .fork(
                &config,
                rlimits(supervisor, spec),
                spec.network != Network::Host,
                &fds,
            )
            .await?
    };
    drop((theirs, doors));
    inner.times.lock().runtime_us = micros(began);
    let began = Instant::now();
    let _ = inner.kind.set(Kind::Host {
        channel,
        main: Some(forked.pidfd),
    });
    let (tell, told) = oneshot::channel();
    supervisor.control().spawn(hear(inner.clone(), tell));
    let watched = inner.clone();
    let ended = forked.ended;
    supervisor.control().spawn(async move {
        match ended.await {
            Ok(ended) => watched.main_ended(ended),
            // Nobody is left who could tell.
            Err(_) => watched.kill(),
        }
    });
    loaded(instance, spec, entry, told, began).await
}

/// Makes one of the processes that wait the function's.
async fn node(
    supervisor: &Arc<Supervisor>,
    stock: &Arc<NodeStock>,
    spec: &InstanceSpec,
    entry: &str,
    handler: Option<&str>,
) -> Result<Arc<dyn Instance>, StartError> {
    let config = configuration(spec, entry, handler);
    let host_network = spec.network == Network::Host;
    let limits = rlimits(supervisor, spec);
    let process = stock.take(spec.limits.memory, host_network, limits).await?;
    let (channel, orders) = (process.control, process.orders);
    let (instance, _) = walls(supervisor, spec, entry, None, Some(process.unclaimed)).await?;
    let inner = &instance.inner;
    let began = Instant::now();
    for (pipe, stream) in [
        (process.stdout, LogStream::Stdout),
        (process.stderr, LogStream::Stderr),
    ] {
        inner
            .pump(pipe, stream, None)
            .map_err(|e| failed("output pipes", e))?;
    }
    let _ = inner.kind.set(Kind::Node { channel, orders });
    let told = tell(supervisor, spec, inner, &config).await;
    inner.times.lock().runtime_us = micros(began);
    let instance = loaded(instance, spec, entry, told, Instant::now()).await;
    stock.refill();
    instance
}

/// Tells a Node process whose it is, and has it heard. Gives back what it says of its start.
async fn tell(
    supervisor: &Supervisor,
    spec: &InstanceSpec,
    inner: &Arc<Inner>,
    config: &serde_json::Value,
) -> oneshot::Receiver<Loaded> {
    let (tell, told) = oneshot::channel();
    supervisor.control().spawn(hear(inner.clone(), tell));
    if let Some(Kind::Node { orders, .. }) = inner.kind.get() {
        // A process that has died is told of by the end of its sandbox, and one that hangs is not ready in time.
        let _ = timeout(spec.ready_within, orders.config(config)).await;
    }
    let taken = inner.clone();
    supervisor.control().spawn(async move {
        if let Some(Kind::Node { orders, .. }) = taken.kind.get() {
            orders.until_closed().await;
        }
    });
    told
}

/// A host that an image's own interpreter runs: no zygote has that one loaded, and none of it waits.
async fn executed(
    supervisor: &Arc<Supervisor>,
    spec: &InstanceSpec,
    entry: &str,
    command: Command,
    config: &serde_json::Value,
    is_node: bool,
) -> Result<Arc<dyn Instance>, StartError> {
    let mut env = with_defaults(spec.env.clone(), spec);
    if is_node {
        env.push(("NODE_CHANNEL_FD".to_owned(), "4".to_owned()));
    }
    let program = command.argv.first().cloned().unwrap_or_default();
    let (instance, _) = walls(supervisor, spec, entry, Some((command.argv, env)), None).await?;
    let inner = &instance.inner;
    let began = Instant::now();
    let (ours, theirs) = wire::pair(SocketFlags::empty()).map_err(|e| failed("socket pair", e))?;
    let channel =
        Channel::new(ours, supervisor.control()).map_err(|e| failed("register channel", e))?;
    // What the host finds as descriptor 3, and Node as 4.
    let mut fds = streams(inner).map_err(|e| failed("output pipes", e))?;
    fds.push(theirs);
    let orders = if is_node {
        let (orders, told) =
            Orders::pair(supervisor.control()).map_err(|e| failed("socket pair", e))?;
        fds.push(told);
        Some(orders)
    } else {
        None
    };
    inner.begin(MAIN, fds, &[], None).await.map_err(|error| {
        StartError::Runtime(format!("the image has to bring {program}: {error}"))
    })?;
    let told = if let Some(orders) = orders {
        let _ = inner.kind.set(Kind::Node { channel, orders });
        tell(supervisor, spec, inner, config).await
    } else {
        let mut message = vec![CONFIG];
        serde_json::to_writer(&mut message, config)
            .map_err(|e| failed("configuration", e.into()))?;
        let sent = channel.send(&message, &[]).await;
        let main = None;
        let _ = inner.kind.set(Kind::Host { channel, main });
        // Nobody reads it where the host has ended already, which is told of below.
        if let Err(error) = sent
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(failed("configuration", error));
        }
        let (tell, told) = oneshot::channel();
        supervisor.control().spawn(hear(inner.clone(), tell));
        told
    };
    inner.times.lock().runtime_us = micros(began);
    loaded(instance, spec, entry, told, Instant::now()).await
}

/// What a host is told of its function.
fn configuration(spec: &InstanceSpec, entry: &str, handler: Option<&str>) -> serde_json::Value {
    serde_json::json!({
        "function": &*spec.function.name,
        "namespace": &*spec.function.namespace,
        "revision": &*spec.revision,
        "entry": format!("/function/{entry}"),
        "handler": handler,
        "concurrency": spec.concurrency,
        "path": spec.layer.iter().map(|_| LAYER_PATH).collect::<Vec<_>>(),
        "env": with_defaults(spec.env.clone(), spec).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "memory": spec.limits.memory,
        "timeout_ms": u64::try_from(spec.limits.timeout.as_millis()).unwrap_or(u64::MAX),
        "max_body": spec.limits.body,
    })
}

/// Waits until a host has loaded the code.
async fn loaded(
    instance: ProcessInstance,
    spec: &InstanceSpec,
    entry: &str,
    told: oneshot::Receiver<Loaded>,
    began: Instant,
) -> Result<Arc<dyn Instance>, StartError> {
    let inner = &instance.inner;
    match timeout(spec.ready_within, told).await {
        Ok(Ok(Loaded::Ready)) => {
            inner.times.lock().load_us = micros(began);
            Ok(Arc::new(instance))
        }
        Ok(Ok(Loaded::Failed(failure))) => {
            for line in failure.trace.iter().flat_map(|trace| trace.lines()) {
                inner.output.line(LogStream::Stderr, None, line.as_bytes());
            }
            if CODE_STEPS.contains(&failure.step.as_str()) {
                let message = format!("{entry}: {}", failure.error);
                Err(StartError::Code { message })
            } else {
                let error = io::Error::other(failure.error);
                Err(failed(format!("host: {}", failure.step), error))
            }
        }
        Ok(Err(_)) => Err(died(&instance, "while it was loaded").await),
        Err(_) => Err(StartError::NotReady {
            limit: spec.ready_within,
            hint: LOAD_HINT,
        }),
    }
}

/// Hears what a host says, until it ends.
async fn hear(inner: Arc<Inner>, loaded: oneshot::Sender<Loaded>) {
    let Some(Kind::Host { channel, .. } | Kind::Node { channel, .. }) = inner.kind.get() else {
        return;
    };
    let mut loaded = Some(loaded);
    let mut buffer = vec![0; wire::MAX_MESSAGE];
    loop {
        let len = match channel.receive(&mut buffer).await {
            Ok((0, _)) => break,
            Ok((len, _)) => len,
            Err(error) => {
                inner
                    .output
                    .system(&format!("the control channel failed: {error}"));
                break;
            }
        };
        let (kind, message) = (buffer[0], &buffer[1..len]);
        match kind {
            b'R' => {
                if let Some(loaded) = loaded.take() {
                    let _ = loaded.send(Loaded::Ready);
                }
                // From here on only lines come.
                buffer.truncate(MAX_HOST_LINE);
                buffer.shrink_to_fit();
            }
            b'F' => {
                let failure = serde_json::from_slice(message).unwrap_or_else(|_| LoadFailure {
                    step: "load".to_owned(),
                    error: String::from_utf8_lossy(message).into_owned(),
                    trace: None,
                });
                if let Some(loaded) = loaded.take() {
                    let _ = loaded.send(Loaded::Failed(failure));
                }
            }
            b'I' => {
                if let Some(id) = invocation(message) {
                    inner.is_idle(id);
                }
            }
            b'L' if message.len() > InvocationId::HEX_LEN => {
                let stream = match message[0] {
                    b'e' => LogStream::Stderr,
                    _ => LogStream::Stdout,
                };
                let (id, text) = message[1..].split_at(InvocationId::HEX_LEN);
                inner.output.line(stream, invocation(id), text);
                if inner.output.is_dropping() {
                    tokio::time::sleep(REST).await;
                }
            }
            // A process that waited has said so, and nobody asked.
            b'W' => {}
            // The code inside can write to this channel too, so nothing on it may upset us.
            _ => tracing::debug!(instance = %inner.id, kind, "a host said something unknown"),
        }
    }
    // A host that ends closes its channel a moment before its end is told. One that closed it and lives on can be neither
    // called nor cancelled.
    drop(loaded);
    if timeout(LAST_WORDS, inner.exited()).await.is_err() {
        inner.kill();
    }
}

fn invocation(hex: &[u8]) -> Option<InvocationId> {
    std::str::from_utf8(hex).ok()?.parse().ok()
}

/// How an instance ended, and the last line that it wrote to its standard error.
async fn last_words(instance: &ProcessInstance) -> (Exit, String) {
    let inner = &instance.inner;
    let exit = inner.exited().await;
    inner.pumps.close();
    let _ = timeout(LAST_WORDS, inner.pumps.wait()).await;
    (exit, inner.output.last_line())
}

/// Why a host that speaks on its standard error could not load the code: it ends with code 1, and its last line says so.
async fn not_loaded(instance: &ProcessInstance) -> StartError {
    let entry = &instance.inner.entry;
    let (exit, last) = last_words(instance).await;
    let message = if last.is_empty() {
        format!("{entry} {exit} while it was loaded")
    } else if exit.code != Some(1) {
        format!("{entry} {exit} while it was loaded: {last}")
    } else if last.starts_with(&**entry) {
        last
    } else {
        format!("{entry}: {last}")
    };
    StartError::Code { message }
}

/// Why an instance ended before it could be called, with its own last words.
async fn died(instance: &ProcessInstance, when: &str) -> StartError {
    let inner = &instance.inner;
    let (exit, last) = last_words(instance).await;
    let quote = if last.is_empty() {
        String::new()
    } else {
        format!(": {last}")
    };
    StartError::Code {
        message: format!("{} {exit} {when}{quote}", inner.entry),
    }
}

/// Standard input from nowhere, and output to the log.
fn streams(inner: &Inner) -> io::Result<Vec<OwnedFd>> {
    let stdin = OpenOptions::new().read(true).open("/dev/null")?;
    let (out, stdout) = inner.output_pipe()?;
    let (err, stderr) = inner.output_pipe()?;
    inner.pump(out, LogStream::Stdout, None)?;
    inner.pump(err, LogStream::Stderr, None)?;
    Ok(vec![stdin.into(), stdout, stderr])
}

fn environment(spec: &InstanceSpec, command: &Command) -> Variables {
    let mut env = spec.env.clone();
    env.retain(|(name, _)| !command.fixed.iter().any(|(fixed, _)| fixed == name));
    env.extend(command.fixed.iter().cloned());
    add(&mut env, command.defaults.iter().map(|(n, v)| (&**n, &**v)));
    match &spec.root {
        Some(_) => add(&mut env, IMAGE_ENV),
        None => add(&mut env, DEFAULT_ENV),
    }
    env
}

/// The environment of a host that is told it.
fn with_defaults(mut env: Variables, spec: &InstanceSpec) -> Variables {
    if spec.root.is_some() {
        add(&mut env, IMAGE_ENV);
    }
    add(&mut env, DEFAULT_ENV);
    env
}

/// Adds what is not there.
fn add<'a>(env: &mut Variables, defaults: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (name, value) in defaults {
        if !env.iter().any(|(n, _)| n == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// The sandbox's init is a process too.
fn processes(spec: &InstanceSpec) -> u32 {
    spec.limits.pids.saturating_add(1)
}

fn rlimits(supervisor: &Supervisor, spec: &InstanceSpec) -> Rlimits {
    Rlimits {
        nofile: OPEN_FILES,
        fsize: spec.limits.tmp.saturating_add(FILE_SLACK),
        core: 0,
        nproc: supervisor.nproc.then(|| u64::from(processes(spec))),
    }
}

/// The function's name as a host name: what the kernel and resolvers take.
pub(crate) fn host_name(name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    if clean.is_empty() {
        "function".to_owned()
    } else {
        clean
    }
}

/// A port that nobody listens on at this moment: with the machine's own network there can be no fixed one.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
