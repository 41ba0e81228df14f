//! The server: configure, build, bind, run, drain.
//!
//! [`Settings`] come from defaults, a file, the environment and flags, every mistake reported at once. [`run`] is the
//! whole life of the process on one screen: open the store, start the isolation and the platform, bind, say so, serve
//! until a signal, stop accepting, let what is in flight finish, end.
//!
//! Connections are accepted on the control runtime and handed to serving threads, each with a runtime of its own: a
//! request, its connection and its connection to the instance stay on one thread. What may block or take long
//! (starts, the store) lives elsewhere; a control route only waits for it there.

#![forbid(unsafe_code)]

mod auth;
mod body;
mod contained;
mod error;
#[cfg(feature = "otlp")]
mod export;
#[cfg(not(feature = "otlp"))]
#[path = "export_none.rs"]
mod export;
mod guard;
mod inside;
mod listen;
mod logging;
mod metrics;
mod patience;
mod serve;
mod server;
mod service;
mod settings;
mod side;
mod tls;
mod worker;

pub use auth::ADMIN_KEY_FILE;
pub use error::Error;
pub use logging::init as init_logging;
pub use server::{Ready, run, run_until};
#[cfg(feature = "otlp")]
pub use settings::ExportSettings;
pub use settings::{Auth, LogFormat, Settings, SettingsError, SideListener, Source, reference};
