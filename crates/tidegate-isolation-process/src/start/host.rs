//! Language hosts: forked by a zygote, made of a process that waited, or run by an image's interpreter; told whose they
//! are, and heard from then on.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::net::SocketFlags;
use tidegate_core::{InvocationId, Network};
use tidegate_instance::{Instance, InstanceSpec, LogStream, StartError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{LAST_WORDS, LOAD_HINT, died, micros, rlimits, streams, walls, with_defaults};
use crate::channel::Channel;
use crate::instance::{Inner, Kind, MAIN, ProcessInstance};
use crate::language::Command;
use crate::node::{NodeStock, Orders};
use crate::output::{MAX_LINE, REST};
use crate::supervisor::{Supervisor, failed};
use crate::wire;
use crate::zygote::Zygotes;

/// Longest message of a host that has loaded, in bytes: a line with its stream and its invocation.
const MAX_HOST_LINE: usize = MAX_LINE + 64;

/// Where a layer's Python packages are, after the code's own folder and before the machine's packages.
const LAYER_PATH: &str = "/layer/python";

/// Steps of a host's start that run the function's own code; a failure of any other is ours or the machine's.
const CODE_STEPS: [&str; 3] = ["load", "start", "lifespan"];

/// Type of the message with which a host of Python's that was not forked is told whose it is.
const CONFIG: u8 = b'G';

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

pub(super) async fn host(
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
pub(super) async fn node(
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
pub(super) async fn executed(
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
pub(super) fn configuration(
    spec: &InstanceSpec,
    entry: &str,
    handler: Option<&str>,
) -> serde_json::Value {
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
