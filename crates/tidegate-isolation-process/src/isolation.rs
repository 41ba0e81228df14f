//! The isolation as the engine sees it.

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_instance::{
    Instance, InstanceSpec, Isolation, Job, JobEnd, Program, Runtime, StartError,
};
use tokio::runtime::Handle;

use crate::error::Error;
use crate::job;
use crate::language::Languages;
use crate::node::NodeStock;
use crate::options::{Minimum, Options};
use crate::python;
use crate::report::{Report, State};
use crate::start::{self, Means};
use crate::supervisor::{Supervisor, greet};
use crate::zygote::Zygotes;

/// What the kernel has to hold for [`Minimum::Limits`].
const HELD_BY_THE_KERNEL: [&str; 3] = ["memory limit", "cpu limit", "process limit"];

/// Sandboxed processes on this machine.
pub struct ProcessIsolation {
    supervisor: Arc<Supervisor>,
    languages: Languages,
    zygotes: Option<Arc<Zygotes>>,
    node: Option<Arc<NodeStock>>,
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
            let sources = python::write_sources(&options.state_dir)?;
            let (languages, greeted) = std::thread::scope(|scope| {
                let languages = scope.spawn(|| Languages::look(&options));
                (languages.join(), greet(&options))
            });
            let languages = languages.unwrap_or_default();
            Ok::<_, Error>((options, languages, sources, greeted?))
        });
        let (options, languages, sources, mut greeted) =
            started.await.map_err(|error| Error::Launcher {
                program: "launcher".into(),
                source: std::io::Error::other(error),
            })??;
        note(&mut greeted.report, &languages);
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
        let python = languages.interpreter("python").ok();
        let zygotes = python
            .and_then(|python| python.program.as_ref())
            .map(|python| {
                let argv = [
                    python.to_string_lossy().into_owned(),
                    "-I".to_owned(),
                    "-B".to_owned(),
                    sources.join("zygote.py").to_string_lossy().into_owned(),
                ];
                Zygotes::new(supervisor.clone(), argv.into())
            });
        let node = languages.interpreter("node").ok().and_then(|node| {
            let program = node.program.as_ref()?.to_string_lossy().into_owned();
            let version = node.version.as_deref().unwrap_or_default();
            Some(NodeStock::new(supervisor.clone(), program, version))
        });
        Ok((
            Self {
                supervisor,
                languages,
                zygotes,
                node,
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
    note(&mut report, &Languages::look(options));
    report
}

/// The languages of this machine, present or not, without starting a server. Blocks for about a tenth of a second.
#[must_use]
pub fn languages(options: &Options) -> Vec<Runtime> {
    Languages::look(options).runtimes()
}

/// What is there. Only Python is missed when it is not: who uses no Ruby lacks nothing.
fn note(report: &mut Report, languages: &Languages) {
    for runtime in languages.runtimes() {
        match (runtime.available, runtime.version) {
            (Ok(place), Some(version)) => {
                report.note(&runtime.name, State::Ok, format!("{version} at {place}"));
            }
            (Err(missing), _) if runtime.name == "python" => {
                report.note(&runtime.name, State::Missing, missing);
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Isolation for ProcessIsolation {
    fn name(&self) -> &'static str {
        "process"
    }

    fn runtimes(&self) -> Vec<Runtime> {
        self.languages.runtimes()
    }

    async fn prepare(&self, runtime: &str) -> Result<(), StartError> {
        self.languages.interpreter(runtime)?;
        match runtime {
            "python" => self.zygotes()?.get().await.map(drop),
            "node" => self.node()?.prepare().await,
            _ => Ok(()),
        }
    }

    async fn start(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, StartError> {
        if self.supervisor.is_closed() {
            return Err(StartError::ShuttingDown);
        }
        let command = self.languages.command(
            &spec.program,
            &spec.limits,
            spec.concurrency,
            spec.root.is_some(),
        )?;
        let means = match command {
            Some(command) => Means::Command(command),
            None if runtime(&spec.program) == "node" => Means::Node(self.node()?),
            None => Means::Zygote(self.zygotes()?),
        };
        start::start(&self.supervisor, means, spec).await
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
    fn node(&self) -> Result<&Arc<NodeStock>, StartError> {
        let node = self.languages.interpreter("node")?;
        self.node
            .as_ref()
            .ok_or_else(|| StartError::Runtime(format!("no program of {} is run", node.place())))
    }

    fn zygotes(&self) -> Result<&Arc<Zygotes>, StartError> {
        let python = self.languages.interpreter("python")?;
        self.zygotes
            .as_ref()
            .ok_or_else(|| StartError::Runtime(format!("no zygote runs {}", python.place())))
    }
}

fn runtime(program: &Program) -> &str {
    let (Program::Host { runtime, .. }
    | Program::Server { runtime, .. }
    | Program::PerCall { runtime, .. }) = program;
    runtime
}

impl Drop for ProcessIsolation {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}
