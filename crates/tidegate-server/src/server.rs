//! The whole life of a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use tidegate_dialect_native::document::CapabilityInfo;
use tidegate_dialect_native::{Info, Native, router};
use tidegate_dialect_openfaas::{
    Config as OpenFaasConfig, Deployments, Door as QueueDoor, Images, OpenFaas,
};
use tidegate_egress::Outlets;
use tidegate_instance::Isolation;
use tidegate_isolation_process::{Capability, Minimum, Options, ProcessIsolation};
use tidegate_platform::{
    BuildOptions, DispatchOptions, ImageOptions, Parts, Platform, QueueFileOptions, QueueOptions,
    RecordOptions, RecordQuery, ToolPaths,
};
use tidegate_store::{OpenReport, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::auth::{ADMIN_KEY_FILE, Keys};
use crate::contained::Contained;
use crate::export::{Export, Running};
use crate::inside::Door;
use crate::serve::Protocol;
use crate::service::Service;
use crate::settings::{Auth, Settings};
use crate::worker::Workers;
use crate::{Error, listen, side, tls};

/// Threads for everything that is not serving: starts, the store's answers, logs.
const CONTROL_THREADS: usize = 2;

/// What is told where a client wants to know the commit: builds from a package have none.
const COMMIT: &str = match option_env!("TIDEGATE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// How long a control request's body may go without a byte: people's commands send theirs at once.
const BODY_IDLE: Duration = Duration::from_secs(30);

/// A server that accepts connections.
#[derive(Debug)]
pub struct Ready {
    /// Where it is reached from this machine.
    pub url: String,
    /// Where OpenFaaS's metrics are, `http://127.0.0.1:8082`, if anywhere.
    pub openfaas_metrics: Option<String>,
    /// Where everything is kept.
    pub data: PathBuf,
    /// The file of the admin key, where one is needed.
    pub key_file: Option<PathBuf>,
    /// Functions that can be called.
    pub functions: usize,
    /// What this machine does not permit, or not as meant.
    pub shortcomings: Vec<Capability>,
}

/// Runs a server until SIGTERM or SIGINT, then lets what is in flight finish. `on_ready` is called once it accepts
/// connections. A second signal ends the process at once.
///
/// # Errors
/// The server did not start; nothing of it is left.
pub fn run(settings: &Settings, on_ready: impl FnOnce(&Ready)) -> Result<(), Error> {
    live(settings, on_ready, || End::Signals(EndSignals::new()))
}

/// The same inside another program, which says when it is over: `told` resolves. Signals stay that program's business.
///
/// # Errors
/// As those of [`run`].
pub fn run_until(
    settings: &Settings,
    on_ready: impl FnOnce(&Ready),
    told: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    live(settings, on_ready, || End::Told(Some(Box::pin(told))))
}

fn live(
    settings: &Settings,
    on_ready: impl FnOnce(&Ready),
    end: impl FnOnce() -> End,
) -> Result<(), Error> {
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(Error::Thread)?;
    let ended = control.block_on(async {
        // From here on, so that whoever is told that the server is ready may end it at once, and cleanly.
        let end = end();
        let server = Server::build(settings).await?;
        on_ready(&server.ready);
        server.run(end).await
    });
    control.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Everything that was built and bound.
struct Server {
    ready: Ready,
    platform: Platform,
    accepting: tokio::task::JoinHandle<()>,
    threads: crate::worker::Threads,
    stop: CancellationToken,
    grace: Duration,
    lost: LauncherLost,
    door: Arc<Door>,
    exporter: Running,
}

/// Resolves when nothing can be started any more.
type LauncherLost = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Server {
    async fn build(settings: &Settings) -> Result<Self, Error> {
        // Bound first: a busy port is the likeliest mistake, and nothing has been touched yet.
        let listener = listen::bind(settings).await?;
        let address = listener.local_addr().map_err(Error::Thread)?;
        let metrics_listener = side::bind("OpenFaaS's metrics", settings.openfaas_metrics).await?;
        let tls = match &settings.tls {
            Some((certificate, key)) => Some(tls::config(certificate, key)?),
            None => None,
        };
        let store = open_store(&settings.data).await?;
        let keys = match settings.auth {
            Auth::Key => Keys::load(&settings.data)?,
            Auth::None => Keys::Open,
        };
        let (isolation, report) = ProcessIsolation::start(isolation_options(settings)).await?;
        let lost: LauncherLost = Box::pin(isolation.lost());
        let door = Arc::new(Door::default());
        let isolation: Arc<dyn Isolation> = if settings.runsc {
            Arc::new(Contained::start(isolation, settings)?)
        } else {
            Arc::new(isolation)
        };
        let queue_door = QueueDoor::default();
        let export = Export::new(settings);
        let platform = Platform::start(Parts {
            store,
            isolation,
            engine: tidegate_engine::Options {
                lanes: settings.threads,
                max_instances: settings.max_instances,
                max_waiting: settings.max_waiting,
                max_wait: settings.max_wait,
                ready_within: settings.ready_within,
                traces: export.sampling(),
            },
            bundles: settings.data.join("bundles"),
            builds: build_options(settings),
            images: ImageOptions {
                folder: settings.data.join("images"),
                settings: settings.images.clone(),
                registries: settings.registries.clone(),
                docker_config: settings.docker_config.clone(),
            },
            records: RecordOptions {
                folder: settings.data.join("records"),
                keep: settings.records.keep.clone(),
                level: settings.records.level,
                prices: settings.records.prices.clone(),
                bill: settings.records.bill,
            },
            outlets: settings
                .outbound
                .clone()
                .map(|policy| Outlets::new(policy, door.clone())),
            revisions: settings.revisions,
            kinds: vec![Arc::new(Native), Arc::new(Deployments)],
            holders: vec![Arc::new(Images)],
            queue: Some(queue_options(settings, &queue_door)),
            witness: export.witness(),
        })
        .await?;
        let records = platform.follow_records(&RecordQuery::default());

        let capabilities = report.capabilities.iter().map(capability).collect();
        let stop = CancellationToken::new();
        let openfaas = OpenFaas::with_door(
            platform.clone(),
            OpenFaasConfig {
                release: env!("CARGO_PKG_VERSION"),
                commit: COMMIT,
                // Whoever may deploy may build.
                payload_secret: keys.admin(),
            },
            &queue_door,
        );
        let service = Arc::new(Service {
            openfaas_control: openfaas.router(),
            openfaas: openfaas.clone(),
            control: router(platform.clone(), Info { capabilities }),
            platform: platform.clone(),
            keys,
            hosts: settings.hosts.clone(),
            body_idle: BODY_IDLE,
            connections: AtomicI64::new(0),
            export: export.clone(),
            stop: stop.clone(),
        });
        let exporter = export.start(records, &service)?;
        let protocol = Protocol::new(tls.clone(), settings.header_timeout);
        let (workers, threads) =
            Workers::start(settings.threads, &service, &protocol, &stop, settings.grace)?;
        let workers = Arc::new(workers);
        door.open(&platform, &workers, settings.max_connections);
        let accepting = tokio::spawn(listen::accept(
            listener,
            workers,
            settings.max_connections,
            stop.clone(),
        ));
        let mut openfaas_metrics = None;
        if let Some(listener) = metrics_listener {
            openfaas_metrics = side::address(&listener).map(|at| listen::url(at, false));
            tokio::spawn(side::serve(
                listener,
                openfaas,
                settings.hosts.clone().into(),
                settings.header_timeout,
                stop.clone(),
            ));
        }
        let mut functions = 0;
        platform.for_each_function(|_| functions += 1);
        let ready = Ready {
            url: listen::url(address, tls.is_some()),
            openfaas_metrics,
            key_file: (settings.auth == Auth::Key).then(|| settings.data.join(ADMIN_KEY_FILE)),
            data: settings.data.clone(),
            functions,
            shortcomings: report.shortcomings().cloned().collect(),
        };
        Ok(Self {
            ready,
            platform,
            accepting,
            threads,
            stop,
            grace: settings.grace,
            lost,
            door,
            exporter,
        })
    }

    async fn run(self, mut end: End) -> Result<(), Error> {
        let Self {
            platform,
            accepting,
            threads,
            stop,
            grace,
            lost,
            door,
            exporter,
            ..
        } = self;
        let lost = tokio::select! {
            () = end.next() => false,
            () = lost => true,
        };
        if let End::Signals(mut signals) = end {
            tracing::info!(
                ?grace,
                "ending: calls in flight finish, a second signal ends at once"
            );
            tokio::spawn(async move {
                signals.next().await;
                std::process::exit(130);
            });
        }
        stop.cancel();
        let _ = accepting.await;
        // Connections finish their requests, then the platform ends; what is left of the grace period is shared.
        let started = tokio::time::Instant::now();
        // What is queued begins no more, and what is accepted meanwhile is on disk.
        let serving = tokio::task::spawn_blocking(|| threads.join());
        let _ = tokio::join!(serving, platform.drain_queue(grace));
        platform
            .drain(grace.saturating_sub(started.elapsed()))
            .await;
        door.close();
        exporter.stop().await;
        tracing::info!("ended");
        if lost {
            Err(Error::LauncherLost)
        } else {
            Ok(())
        }
    }
}

/// What ends a server.
enum End {
    Signals(EndSignals),
    /// Somebody in the same process; once.
    Told(Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>),
}

impl End {
    async fn next(&mut self) {
        match self {
            Self::Signals(signals) => signals.next().await,
            Self::Told(told) => match told.take() {
                Some(told) => told.await,
                None => std::future::pending().await,
            },
        }
    }
}

/// SIGTERM and SIGINT, from the moment that this is made.
struct EndSignals(Option<(Signal, Signal)>);

impl EndSignals {
    fn new() -> Self {
        let both = signal(SignalKind::terminate())
            .and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
        if both.is_err() {
            tracing::error!("signals cannot be waited for; end the server by SIGKILL");
        }
        Self(both.ok())
    }

    /// Waits for the next of them.
    async fn next(&mut self) {
        let Some((term, int)) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

async fn open_store(data: &Path) -> Result<Store, Error> {
    let path = data.to_owned();
    let opened = tokio::task::spawn_blocking(move || tidegate_store::open(&path)).await;
    let (store, report) = opened
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        .map_err(|source| Error::Data {
            path: data.to_owned(),
            source,
        })?;
    tell(&report);
    Ok(store)
}

/// Says what the store found when it was opened.
fn tell(report: &OpenReport) {
    if let Some(from) = report.migrated_from {
        tracing::info!(from, "the data was brought to this version's form");
    }
    for object in &report.damaged {
        tracing::error!(object = %object.key, detail = object.detail, "damaged object: it is left out, the others keep working");
    }
    if let Some(wal) = &report.wal {
        tracing::error!(
            first_bad_frame = wal.first_bad_frame,
            commits = wal.commits,
            kept = %wal.kept.display(),
            "the write-ahead log is damaged: commits after the damage are lost, a copy was kept"
        );
    }
    if let Some((last, wanted)) = &report.missing {
        tracing::error!(%last, %wanted, "the newest acknowledged changes are missing from the data");
    }
    for problem in &report.structure {
        tracing::error!(problem, "the database is damaged");
    }
}

fn isolation_options(settings: &Settings) -> Options {
    let mut options = Options::new(settings.data.join("isolation"));
    options.python.clone_from(&settings.python);
    options.interpreters.clone_from(&settings.interpreters);
    if settings.minimum_limits {
        options.minimum = Minimum::Limits;
    }
    options
}

fn queue_options(settings: &Settings, door: &QueueDoor) -> QueueOptions {
    let queue = &settings.queue;
    let mut file = QueueFileOptions::default();
    file.max_items = queue.max_items;
    file.max_file_bytes = queue.max_bytes;
    // However small the queue is, what is kept of calls that ended leaves room in it for new ones.
    file.max_result_bytes = queue.results_bytes.min(queue.max_bytes / 4);
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    file.remember_ms = millis(queue.remember);
    file.dead_keep_ms = millis(queue.keep_dead);
    file.max_dead_bytes = queue.dead_bytes.min(queue.max_bytes / 2);
    let mut dispatch = DispatchOptions::default();
    dispatch.attempts = queue.at_once;
    QueueOptions {
        folder: settings.data.join("queue"),
        file,
        dispatch,
        max_body: queue.max_body,
        keep_result: queue.keep_results,
        callbacks: queue.callbacks.clone(),
        doors: vec![Arc::new(door.clone())],
    }
}

fn build_options(settings: &Settings) -> BuildOptions {
    let build = &settings.build;
    BuildOptions {
        folder: settings.data.join("builds"),
        limits: build.limits,
        at_once: build.at_once,
        egress: build.egress.clone(),
        tools: ToolPaths::from_env(|name| std::env::var_os(name)),
        env: build.env.clone(),
    }
}

fn capability(capability: &Capability) -> CapabilityInfo {
    CapabilityInfo {
        name: capability.name.clone(),
        state: capability.state.to_string(),
        detail: capability.detail.clone(),
    }
}
