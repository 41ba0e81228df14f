//! The isolation as the engine sees it.

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_instance::{
    Instance, InstanceSpec, Isolation, Job, JobEnd, Program, Runtime, StartError,
};
use tokio::runtime::Handle;

use crate::error::Error;
use crate::job;
use crate::options::{Minimum, Options};
use crate::python::{self, Python};
use crate::report::{Report, State};
use crate::start;
use crate::supervisor::{Supervisor, greet};
use crate::zygote::Zygotes;

/// What the kernel has to hold for [`Minimum::Limits`].
const HELD_BY_THE_KERNEL: [&str; 3] = ["memory limit", "cpu limit", "process limit"];

/// Sandboxed processes on this machine.
pub struct ProcessIsolation {
    supervisor: Arc<Supervisor>,
    python: Result<Python, String>,
    zygotes: Option<Arc<Zygotes>>,
}

impl ProcessIsolation {
    /// Starts the launcher and looks at what the machine permits. The runtime that this is called in becomes the one on
    /// which output is read and launcher, inits and hosts are listened to: the control runtime.
    ///
    /// # Errors
    /// The state folder cannot be written, the launcher does not start, the machine does not let a sandbox be made, or
    /// the limits would be weaker than [`Options::minimum`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(options: Options) -> Result<(Self, Report), Error> {
        let control = Handle::current();
        let minimum = options.minimum;
        let started = tokio::task::spawn_blocking(move || {
            let python = python::find(options.python.as_deref());
            let sources = python::write_sources(&options.state_dir)?;
            let greeted = greet(&options)?;
            Ok::<_, Error>((options, python, sources, greeted))
        });
        let (options, python, sources, mut greeted) =
            started.await.map_err(|error| Error::Launcher {
                program: "launcher".into(),
                source: std::io::Error::other(error),
            })??;
        note_python(&mut greeted.report, &python);
        let report = greeted.report.clone();
        if minimum == Minimum::Limits {
            let missing: Vec<_> = HELD_BY_THE_KERNEL
                .iter()
                .filter_map(|name| report.get(name))
                .filter(|c| c.state != State::Ok)
                .map(|c| format!("{} ({})", c.name, c.detail))
                .collect();
            if !missing.is_empty() {
                let _ = greeted.child.kill();
                let _ = greeted.child.wait();
                return Err(Error::TooWeak {
                    missing: missing.join(", "),
                    report,
                });
            }
        }
        let supervisor = Supervisor::new(greeted, &control).map_err(|source| Error::Launcher {
            program: options.launcher,
            source,
        })?;
        let zygotes = python.as_ref().ok().map(|python| {
            let argv = [
                python.interpreter.to_string_lossy().into_owned(),
                "-I".to_owned(),
                "-B".to_owned(),
                sources.join("zygote.py").to_string_lossy().into_owned(),
            ];
            Zygotes::new(supervisor.clone(), argv.into())
        });
        Ok((
            Self {
                supervisor,
                python,
                zygotes,
            },
            report,
        ))
    }

    /// Resolves when the launcher has ended without being told to. Nothing can be started from then on, and what ran has
    /// ended with it.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.supervisor.lost()
    }
}

/// What this machine permits, without starting a server. Blocks for about a tenth of a second.
#[must_use]
pub fn probe(options: &Options) -> Report {
    let mut report = match greet(options) {
        Ok(mut greeted) => {
            drop(greeted.socket);
            // It has nothing running, so it ends at once when its socket closes.
            let _ = greeted.child.wait();
            greeted.report
        }
        Err(Error::Refused { report, .. }) => report,
        Err(error) => {
            let mut report = Report::default();
            report.note("launcher", State::Missing, error.to_string());
            report
        }
    };
    note_python(&mut report, &python::find(options.python.as_deref()));
    report
}

fn note_python(report: &mut Report, python: &Result<Python, String>) {
    match python {
        Ok(python) => report.note(
            "python",
            State::Ok,
            format!("{} at {}", python.version, python.interpreter.display()),
        ),
        Err(missing) => report.note("python", State::Missing, missing.clone()),
    }
}

#[async_trait]
impl Isolation for ProcessIsolation {
    fn name(&self) -> &'static str {
        "process"
    }

    fn runtimes(&self) -> Vec<Runtime> {
        vec![
            Runtime {
                name: "executable".to_owned(),
                version: None,
                available: Ok("programs for this machine, and scripts with a `#!` line".to_owned()),
            },
            Runtime {
                name: "python".to_owned(),
                version: self.python.as_ref().ok().map(|p| p.version.clone()),
                available: self
                    .python
                    .as_ref()
                    .map(|p| p.interpreter.display().to_string())
                    .map_err(Clone::clone),
            },
        ]
    }

    async fn prepare(&self, runtime: &str) -> Result<(), StartError> {
        match runtime {
            "executable" => Ok(()),
            "python" => self.zygotes()?.get().await.map(drop),
            other => Err(unknown(other)),
        }
    }

    async fn start(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, StartError> {
        if self.supervisor.is_closed() {
            return Err(StartError::ShuttingDown);
        }
        let zygotes = match &spec.program {
            Program::Host { runtime, .. } if runtime == "python" => Some(self.zygotes()?),
            Program::Host { runtime, .. } => return Err(unknown(runtime)),
            Program::Server { .. } | Program::PerCall { .. } => None,
        };
        start::start(&self.supervisor, zygotes, spec).await
    }

    async fn run(&self, job: Job) -> Result<JobEnd, StartError> {
        if self.supervisor.is_closed() {
            return Err(StartError::ShuttingDown);
        }
        job::run(&self.supervisor, job).await
    }

    async fn shutdown(&self) {
        self.supervisor.shutdown().await;
    }
}

impl ProcessIsolation {
    fn zygotes(&self) -> Result<&Arc<Zygotes>, StartError> {
        match (&self.zygotes, &self.python) {
            (Some(zygotes), _) => Ok(zygotes),
            (None, Err(missing)) => Err(StartError::Runtime(missing.clone())),
            (None, Ok(_)) => Err(unknown("python")),
        }
    }
}

impl Drop for ProcessIsolation {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}

fn unknown(runtime: &str) -> StartError {
    StartError::Runtime(format!(
        "runtime {runtime:?} is unknown to the process isolation, which has executable and python"
    ))
}
