//! Functions in containers, and builds as processes: what a build runs is the machine's own tools, with folders of the
//! machine's to write to.

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_instance::{Instance, InstanceSpec, Isolation, Job, JobEnd, Runtime, StartError};
use tidegate_isolation_process::ProcessIsolation;
use tidegate_isolation_runsc::{Error, Options, RunscIsolation};

use crate::settings::Settings;

pub(crate) struct Contained {
    instances: RunscIsolation,
    builds: ProcessIsolation,
}

impl Contained {
    pub(crate) fn start(builds: ProcessIsolation, settings: &Settings) -> Result<Self, Error> {
        let path = std::env::var("PATH").unwrap_or_default();
        let relay = std::env::current_exe().map_err(|source| Error::Folder {
            path: "/proc/self/exe".into(),
            source,
        })?;
        let instances = RunscIsolation::start(Options {
            state_dir: settings.data.join("runsc"),
            runsc: tidegate_isolation_runsc::find(&path)?,
            relay,
        })?;
        Ok(Self { instances, builds })
    }
}

#[async_trait]
impl Isolation for Contained {
    fn name(&self) -> &'static str {
        self.instances.name()
    }

    fn runtimes(&self) -> Vec<Runtime> {
        // What is built is built by the machine's languages, whatever runs it.
        self.builds.runtimes()
    }

    async fn prepare(&self, runtime: &str) -> Result<(), StartError> {
        self.instances.prepare(runtime).await
    }

    async fn start(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, StartError> {
        self.instances.start(spec).await
    }

    async fn run(&self, job: Job) -> Result<JobEnd, StartError> {
        self.builds.run(job).await
    }

    async fn shutdown(&self) {
        tokio::join!(self.instances.shutdown(), self.builds.shutdown());
    }
}
