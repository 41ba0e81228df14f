//! A server inside this process, for the length of a command.
//!
//! It is the same server that `up` runs, on a free port of this machine and with a key of its own, ended when the command
//! ends. Only its warnings are told: its log is nobody's interest here, a function's is.

#[cfg(not(target_os = "linux"))]
use std::path::Path;

use crate::context::Context;
use crate::error::{Error, Result};

/// A running server.
pub(crate) struct Local {
    pub(crate) url: String,
    #[cfg(target_os = "linux")]
    running: linux::Running,
}

#[cfg(not(target_os = "linux"))]
impl Local {
    /// Says that there can be none.
    pub(crate) fn start(_context: &mut Context, _data: &Path) -> Result<Self> {
        Err(Error::failed(
            "a Tidegate server needs Linux: run it there, and set TIDEGATE_URL here to use it",
        ))
    }

    /// Nothing to end.
    pub(crate) fn stop(self) -> Result {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::{Path, PathBuf};
    use std::sync::mpsc;
    use std::thread::JoinHandle;

    use tidegate_server::Settings;
    use tokio::sync::oneshot;

    use super::{Context, Error, Local, Result};

    /// How long calls in flight may take to finish: nobody waits for them any more.
    const GRACE: &str = "1s";

    pub(crate) struct Running {
        /// The note by which other commands of this user find it.
        note: Option<PathBuf>,
        end: oneshot::Sender<()>,
        thread: JoinHandle<Result<(), tidegate_server::Error>>,
    }

    impl Local {
        /// Starts a server that keeps its data in a folder, and makes it this command's.
        pub(crate) fn start(context: &mut Context, data: &Path) -> Result<Self> {
            let flags = [
                ("data", data.to_string_lossy().into_owned()),
                ("listen", "127.0.0.1:0".to_owned()),
                ("auth", "key".to_owned()),
                ("grace", GRACE.to_owned()),
                ("log.level", "error".to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value));
            let settings = {
                // A certificate for elsewhere would only be in the way.
                let env = |name: &str| {
                    let tls = name.starts_with("TIDEGATE_TLS");
                    (!tls).then(|| context.process.var(name)).flatten()
                };
                Settings::load(None, env, &flags)
            };
            let settings = settings.map_err(|error| {
                let mut mistakes = error.mistakes.into_iter();
                let told = Error::usage(mistakes.next().unwrap_or_default());
                mistakes.fold(told, |told, mistake| told.also(mistake))
            })?;
            tidegate_server::init_logging(&settings, context.colored_stderr());
            let (end, ended) = oneshot::channel();
            let (ready, told) = mpsc::sync_channel(1);
            let thread = std::thread::Builder::new()
                .name("server".to_owned())
                .spawn(move || {
                    tidegate_server::run_until(
                        &settings,
                        |is| {
                            // Whoever started it waits for this, or is gone, which ends the server as well.
                            let _ = ready.send((is.url.clone(), is.key_file.clone()));
                        },
                        async move {
                            let _ = ended.await;
                        },
                    )
                })
                .map_err(|e| Error::failed("cannot start a thread").because(&e))?;
            let Ok((url, key_file)) = told.recv() else {
                return Err(failure(thread));
            };
            let mut note = None;
            if let Some(file) = key_file {
                note = super::super::up::announce(context, &url, &file);
                let key = std::fs::read_to_string(&file).map_err(|e| {
                    Error::failed(format!("cannot read {}", file.display())).because(&e)
                })?;
                context.token = Some(key.trim().to_owned());
            }
            context.url.clone_from(&url);
            let running = Running { note, end, thread };
            Ok(Self { url, running })
        }

        /// Ends it, and waits until nothing of it is left.
        pub(crate) fn stop(self) -> Result {
            let Running { note, end, thread } = self.running;
            if let Some(note) = note {
                let _ = std::fs::remove_file(note);
            }
            // An error means that it has ended by itself, which the thread tells.
            let _ = end.send(());
            match thread.join() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(of(&error)),
                Err(_) => Err(Error::unexpected("the server inside this command panicked")),
            }
        }
    }

    fn failure(thread: JoinHandle<Result<(), tidegate_server::Error>>) -> Error {
        match thread.join() {
            Ok(Err(error)) => of(&error),
            Ok(Ok(())) | Err(_) => {
                Error::unexpected("the server inside this command ended at once")
            }
        }
    }

    fn of(error: &tidegate_server::Error) -> Error {
        match std::error::Error::source(error) {
            Some(source) => Error::failed(error).because(source),
            None => Error::failed(error),
        }
    }
}
