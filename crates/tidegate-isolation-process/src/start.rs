//! Starting an instance: the walls, then what runs behind them, by kind of program.

mod host;

use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use tidegate_core::Network;
use tidegate_instance::{Exit, Instance, InstanceSpec, LogStream, Program, StartError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use self::host::{configuration, executed, host, node};
use crate::cgroup::GroupLimits;
use crate::instance::{Inner, Kind, MAIN, ProcessInstance};
use crate::language::{Command, NODE, PYTHON, word};
use crate::node::NodeStock;
use crate::outlet;
use crate::output::Output;
use crate::protocol::{Payload, Rlimits, Root};
use crate::supervisor::{Supervisor, Unclaimed, failed};
use crate::zygote::Zygotes;

/// The port that `$PORT` names, in a network namespace where nobody else is.
const PORT: u16 = 8080;

/// Open files of one process: enough for a server with ten thousand connections.
pub(crate) const OPEN_FILES: u64 = 16 * 1024;

/// The same where the machine gives the server few: at most half of them, so that who uses all it has leaves some of what
/// the kernel counts by user.
pub(crate) fn open_files() -> u64 {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    most.map_or(OPEN_FILES, |most| OPEN_FILES.min(most / 2))
}

/// Files may be as large as `/tmp` is, and a little more, so that a full disk and not a signal is what code meets.
const FILE_SLACK: u64 = 1024 * 1024;

/// Waits between dials until a server listens: short at first, since a small one is there after 2 ms, and never long
/// enough to be what a cold start waits for.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// How long the rest of the output may take after the end of an instance, before its last line is quoted.
const LAST_WORDS: Duration = Duration::from_millis(500);

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

/// Said where a function gets less than it asks for.
const NO_OUTBOUND: &str = "no connections are let out of sandboxes here ('tidegate doctor' says why, or network.outbound is off): network \"outbound\" is \"none\"";

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
        ) if matches!(word(runtime), PYTHON | NODE) => {
            let config = configuration(spec, entry, handler.as_deref());
            executed(
                supervisor,
                spec,
                entry,
                command,
                &config,
                word(runtime) == NODE,
            )
            .await
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
        cpu_milli: spec.limits.cpu_milli,
        network: if lacks_outbound(supervisor, spec) {
            Network::None
        } else {
            spec.network
        },
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
    let sockets = sandbox.outlet.take();
    let made_us = sandbox.made_us;
    let control = supervisor.control().clone();
    let output = Output::new(spec.id, spec.logs.clone());
    if lacks_outbound(supervisor, spec) {
        output.system(NO_OUTBOUND);
    }
    let inner = Inner::new(
        spec,
        entry,
        payload.rlimits.nproc,
        sandbox,
        output,
        control.clone(),
    );
    // From here on dropping the instance ends the sandbox.
    let instance = ProcessInstance {
        inner: inner.clone(),
    };
    if spec.network == Network::Outbound
        && let (Some(outbound), Some(sockets)) = (&spec.outbound, sockets)
    {
        let outlet = outbound.open(spec.id, spec.logs.clone());
        let served = outlet::serve(sockets, outlet, &control);
        instance
            .inner
            .serve_outlet(served.map_err(|e| failed("open the door", e))?);
    }
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

/// Whether it asks for a way out that there is none of: on this machine, or for want of anybody who would judge.
fn lacks_outbound(supervisor: &Supervisor, spec: &InstanceSpec) -> bool {
    spec.network == Network::Outbound && !(supervisor.outbound && spec.outbound.is_some())
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
        Network::None | Network::Outbound => PORT,
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
        nofile: open_files(),
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
