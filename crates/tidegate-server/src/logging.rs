//! The server's own log, on standard error and wherever it is exported to.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::export;
use crate::settings::{LogFormat, Settings};

/// Starts writing. Called once, by the program; a second call changes nothing.
pub fn init(settings: &Settings, colour: bool) {
    // The settings were checked to parse.
    let filter: Targets = settings.log.parse().unwrap_or_default();
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let layer = match settings.log_format {
        LogFormat::Text => layer.with_target(false).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(export::log(settings))
        .try_init();
}
