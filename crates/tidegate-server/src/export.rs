//! What the server hands to the exporter: who is told of lines and steps, the page of metrics, the records.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_core::trace::{Sampling, Step};
use tidegate_otlp::{Exporter, Outlet, ServerLog, Signal};
use tidegate_platform::{Follow, Line, Witness};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::Error;
use crate::metrics::{self, Exported};
use crate::service::Service;
use crate::settings::{ExportSettings, Settings};

/// How long the last of it may take once the server has ended: a collector that is there takes it at once.
const LAST: Duration = Duration::from_secs(5);

/// The log of a process is one, so what is exported of it goes into one outlet, made with the log.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// What is exported; of a server that exports nothing, nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Export(Option<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    settings: ExportSettings,
    outlet: Outlet,
}

/// Sends until it is stopped.
#[derive(Debug)]
pub(crate) struct Running(Option<Exporter>);

struct Told(Outlet);

impl Witness for Told {
    fn line(&self, line: &Line) {
        self.0.line(line);
    }

    fn step(&self, step: Step) {
        self.0.step(step);
    }
}

impl Export {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self(settings.otlp.as_ref().map(|settings| Parts {
            settings: settings.clone(),
            outlet: outlet(settings),
        }))
    }

    pub(crate) fn witness(&self) -> Option<Arc<dyn Witness>> {
        let parts = self.0.as_ref()?;
        Some(Arc::new(Told(parts.outlet.clone())))
    }

    pub(crate) fn sampling(&self) -> Option<Sampling> {
        self.0.as_ref()?.settings.sampling
    }

    /// Begins to send.
    pub(crate) fn start(self, follow: Follow, service: &Arc<Service>) -> Result<Running, Error> {
        let Some(Parts { settings, outlet }) = self.0 else {
            return Ok(Running(None));
        };
        let options = settings.options;
        tracing::info!(
            endpoint = %options.endpoint,
            traces = options.traces,
            metrics = options.metrics,
            logs = options.logs,
            "exporting"
        );
        let service = service.clone();
        let page = Box::new(move || metrics::render(&service).ok());
        let exporter = Exporter::start(options, &outlet, follow, page);
        let exporter = exporter.map_err(|error| {
            Error::Tls(format!(
                "otlp.endpoint: the machine's roots of trust, against which it is checked, cannot be read: {error}"
            ))
        })?;
        Ok(Running(Some(exporter)))
    }

    /// How it goes, for whoever scrapes.
    pub(crate) fn told(&self) -> Vec<Exported> {
        let Some(parts) = &self.0 else {
            return Vec::new();
        };
        let of = |signal: Signal| {
            let stats = parts.outlet.stats(signal);
            Exported {
                signal: signal.as_str(),
                sent: stats.sent,
                refused: stats.refused,
                dropped: stats.dropped,
                failures: stats.failures,
            }
        };
        Signal::ALL.map(of).into()
    }
}

impl Running {
    /// Sends what is there, and ends.
    pub(crate) async fn stop(self) {
        if let Some(exporter) = self.0 {
            exporter.stop(LAST).await;
        }
    }
}

/// The part of the server's log that is exported.
pub(crate) fn log<S>(settings: &Settings) -> Option<impl Layer<S> + use<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let settings = settings.otlp.as_ref()?;
    // The settings were checked to parse.
    let filter: Targets = settings.log.parse().unwrap_or_default();
    Some(ServerLog::new(outlet(settings)).with_filter(filter))
}

fn outlet(settings: &ExportSettings) -> Outlet {
    let options = &settings.options;
    let bytes = options.bounds.queue_bytes;
    let make = || Outlet::new(bytes, options.traces, options.logs);
    OUTLET.get_or_init(make).clone()
}
