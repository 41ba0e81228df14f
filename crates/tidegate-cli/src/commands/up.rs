//! `up`: runs a server.

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::error::{Error, Result};

/// Run a server on this machine until it is told to end
///
/// Everything is embedded: give it nothing and it listens on 127.0.0.1:8080 and keeps its data in a folder of this user.
/// Ctrl-C ends it once the calls in flight have finished; a second Ctrl-C ends it at once.
#[derive(Args)]
pub(crate) struct Up {
    /// Where to listen; port 0 picks a free one
    ///
    /// An address alone is the main listener's, which serves Tidegate's own API and OpenFaaS's. OpenFaaS's metrics have one
    /// of their own: 'openfaas-metrics=ADDR', or 'openfaas-metrics=off'.
    #[arg(long, value_name = "[LISTENER=]ADDR")]
    listen: Vec<String>,
    /// The folder of everything that is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A settings file (TOML) [env: TIDEGATE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting by its key; --help lists them all
    #[arg(short, long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Say that the server is ready as a line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(not(target_os = "linux"))]
impl Up {
    pub(crate) fn run(self, _context: &mut Context) -> Result {
        Err(Error::failed(
            "a Tidegate server needs Linux: run it there, and set TIDEGATE_URL here to use it",
        ))
    }
}

/// The settings' reference, for the help page.
#[cfg(target_os = "linux")]
pub(crate) fn after_help() -> String {
    format!(
        "Settings, in a file, as TIDEGATE_ variables, or with --set:\n\n{}",
        tidegate_server::reference()
    )
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn after_help() -> String {
    String::new()
}

#[cfg(target_os = "linux")]
pub(super) use linux::announce;

#[cfg(target_os = "linux")]
mod linux {
    use std::path::{Path, PathBuf};

    use serde_json::json;
    use tidegate_server::{Ready, Settings};

    use super::{Context, Error, Result, Up};
    use crate::paths;

    /// The settings file of the machine.
    const MACHINE_CONFIG: &str = "/etc/tidegate/tidegate.toml";
    /// The only dialect there is so far.
    const NATIVE: &str = "native";
    const OPENFAAS_METRICS: &str = "openfaas-metrics";

    impl Up {
        pub(crate) fn run(self, context: &mut Context) -> Result {
            let flags = self.flags()?;
            let file = self.config_file(context);
            let settings = Settings::load(file.as_deref(), context.env(), &flags);
            let settings = settings.map_err(|error| {
                let mut mistakes = error.mistakes.into_iter();
                let told = Error::usage(mistakes.next().unwrap_or_default());
                // Each is a mistake of its own, not the cause of the first.
                mistakes.fold(told, |told, mistake| told.also(mistake))
            })?;
            tidegate_server::init_logging(&settings, context.colored_stderr());
            let mut announced = None;
            let ended = tidegate_server::run(&settings, |ready| {
                announced = ready
                    .key_file
                    .as_deref()
                    .and_then(|key| announce(context, &ready.url, key));
                tell(context, ready, self.json);
            });
            if let Some(file) = announced {
                // Gone already where the state folder was cleaned up.
                let _ = std::fs::remove_file(file);
            }
            ended.map_err(|error| match std::error::Error::source(&error) {
                Some(source) => Error::failed(&error).because(source),
                None => Error::failed(&error),
            })
        }

        fn flags(&self) -> Result<Vec<(String, String)>> {
            let mut flags = Vec::new();
            for set in &self.set {
                let (key, value) = set.split_once('=').ok_or_else(|| {
                    Error::usage(format!("--set {set:?} is not KEY=VALUE, such as grace=5s"))
                })?;
                flags.push((key.to_owned(), value.to_owned()));
            }
            for listen in &self.listen {
                let (dialect, address) = listen.split_once('=').unwrap_or((NATIVE, listen));
                let key = match dialect {
                    NATIVE => "listen",
                    OPENFAAS_METRICS => "openfaas.metrics",
                    _ => {
                        return Err(Error::usage(format!(
                            "--listen {listen:?}: there is no listener {dialect:?}; there are {NATIVE} and {OPENFAAS_METRICS}"
                        )));
                    }
                };
                flags.push((key.to_owned(), address.to_owned()));
            }
            if let Some(data) = &self.data {
                let data = std::path::absolute(data)
                    .map_err(|e| Error::usage(format!("--data {}", data.display())).because(&e))?;
                flags.push(("data".to_owned(), data.to_string_lossy().into_owned()));
            }
            Ok(flags)
        }

        /// The file named, else the user's, else the machine's, where there is one.
        fn config_file(&self, context: &Context) -> Option<PathBuf> {
            let named = self.config.clone();
            named
                .or_else(|| context.process.var("TIDEGATE_CONFIG").map(PathBuf::from))
                .or_else(|| {
                    let users =
                        paths::config_dir(context.env()).map(|dir| dir.join("tidegate.toml"));
                    users
                        .into_iter()
                        .chain([PathBuf::from(MACHINE_CONFIG)])
                        .find(|path| path.exists())
                })
        }
    }

    /// Leaves a note by which this user's commands find the server's key.
    pub(crate) fn announce(context: &mut Context, at: &str, key_file: &Path) -> Option<PathBuf> {
        let url = reqwest::Url::parse(at).ok()?;
        let file =
            paths::server_file(context.env(), url.host_str()?, url.port_or_known_default()?)?;
        let note = json!({ "url": at, "key_file": key_file, "pid": std::process::id() });
        match write(&file, &note.to_string()) {
            Ok(()) => Some(file),
            Err(error) => {
                context.warn(format!(
                    "commands will not find the key by themselves: {}: {error}; set TIDEGATE_TOKEN",
                    file.display()
                ));
                None
            }
        }
    }

    fn write(file: &Path, text: &str) -> std::io::Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, text)
    }

    fn tell(context: &mut Context, ready: &Ready, as_json: bool) {
        for capability in &ready.shortcomings {
            context.note(format!(
                "{} ({}): {}",
                capability.name, capability.state, capability.detail
            ));
        }
        context.note(format!(
            "data in {}, {} functions",
            ready.data.display(),
            ready.functions
        ));
        let told = if as_json {
            context.json_line(&json!({
                "event": "ready",
                "url": ready.url,
                "openfaas_metrics": ready.openfaas_metrics,
                "pid": std::process::id(),
                "data": ready.data,
                "functions": ready.functions,
            }))
        } else {
            context.line(format!("tidegate is ready on {}", ready.url))
        };
        // Whoever started it may have closed its output; it serves all the same.
        let _ = told.and_then(|()| context.bytes(b""));
        if ready.functions == 0 {
            context.note("next: 'tidegate deploy ./handler.py' in another terminal");
        }
    }
}
