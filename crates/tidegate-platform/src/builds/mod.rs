//! Builds: from the source that a client sent to what instances run.
//!
//! What has to be done is told by `tidegate-build` from the source alone; done it is here, a step at a time, each behind
//! the walls of the isolation. What comes out is kept as archives among the blobs: a layer of dependencies, a bundle, or
//! neither, where the source runs as it is. Both are found again by what they were made from, so that a change of code
//! installs nothing, and a restart builds nothing.
//!
//! A build belongs to one generation of a document. A newer generation ends it, and so does the server's end: nothing but
//! a work folder is left, which the next start clears.

mod cache;
mod log;
mod run;
mod scratch;
mod source;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_build::{ToolPaths, Tools};
use tidegate_core::FunctionSpec;
use tidegate_egress::Policy;
use tidegate_instance::{Isolation, JobLimits};
use tidegate_store::{Digest, Object, ObjectKey};
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore};

pub use log::{BuildLine, BuildLineKind};
pub use scratch::Scratch;
pub(crate) use scratch::joined;
pub use source::{BuildFailure, BuildOutput, BuildReader, BuildSource, Built};

use crate::{Lowered, Platform, Status};
use cache::Cache;
use log::BuildLog;
use source::Source;

/// Folder of builds under way.
const WORK: &str = "work";

/// Logs of builds that are kept after the build's end, for who asks why; the newest.
const KEPT_LOGS: usize = 64;

/// Last lines of a failed build that stay with the function's status.
const LAST_LINES: usize = 20;

/// What builds may use.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Where they work, and keep what tools have downloaded.
    pub folder: PathBuf,
    /// Walls of each step; `time` is that of the whole build.
    pub limits: JobLimits,
    /// Builds at the same time.
    pub at_once: usize,
    /// What a step that fetches may reach. `None` where none may reach anything.
    pub egress: Option<Policy>,
    /// Where the languages' tools are looked for.
    pub tools: ToolPaths,
    /// Environment of every step: where registries are.
    pub env: Vec<(String, String)>,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The source is not there or cannot be unpacked.
    #[error(transparent)]
    Bundle(#[from] crate::bundles::BundleError),
    /// It cannot be told what to do, or with what.
    #[error(transparent)]
    Plan(#[from] tidegate_build::PlanError),
    /// A tool did not do it.
    #[error("build failed: {title} {how}")]
    Step {
        /// What was run.
        title: String,
        /// How it ended, and the line that says why if there is one.
        how: String,
        /// The tool's last lines.
        last: Vec<String>,
    },
    /// The machine did not let the step run.
    #[error("build failed: {0}")]
    Start(#[from] tidegate_instance::StartError),
    /// What was made cannot be kept.
    #[error("build failed: what {title} made cannot be kept: {source}")]
    Result {
        /// The stage.
        title: &'static str,
        /// Why not.
        source: tidegate_build::PackError,
    },
    /// A secret that it names is not there.
    #[error(transparent)]
    Platform(#[from] crate::Error),
    /// The machine's disk.
    #[error("build folder: {0}")]
    Io(#[from] io::Error),
}

/// How the build of a generation went, for its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildStatus {
    /// `installed`, `cached`, or empty where there was nothing to install.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dependencies: String,
    /// `built`, `cached`, or empty where there was nothing to compile.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bundle: String,
    /// Whether it failed: nothing but a change of the document, or asking again, starts it once more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// The tool's last lines, where it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

pub(crate) struct Builds {
    options: BuildOptions,
    tools: Arc<Tools>,
    isolation: Arc<dyn Isolation>,
    results: Cache,
    room: Semaphore,
    /// One build at a time uses a namespace's download cache: the tools lock it against themselves, but nothing says what
    /// happens when two sandboxes' ids meet in it.
    caches: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    logs: Mutex<Logs>,
    begun: Notify,
}

#[derive(Default)]
struct Logs {
    /// By document: the generation that was built, and what was said.
    of: HashMap<ObjectKey, (u64, Arc<BuildLog>)>,
    /// In the order they began.
    order: std::collections::VecDeque<ObjectKey>,
}

/// A reader of a build's lines.
pub struct BuildTail {
    platform: Platform,
    key: ObjectKey,
    generation: u64,
    log: Option<Arc<BuildLog>>,
    from: usize,
}

impl Builds {
    pub(crate) fn new(options: BuildOptions, isolation: Arc<dyn Isolation>) -> io::Result<Self> {
        // What a killed server was at.
        match std::fs::remove_dir_all(options.folder.join(WORK)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(options.folder.join(WORK))?;
        Ok(Self {
            results: Cache::new(options.folder.join("results"))?,
            room: Semaphore::new(options.at_once.max(1)),
            tools: Arc::new(Tools::find(options.tools.clone())),
            options,
            isolation,
            caches: Mutex::default(),
            logs: Mutex::default(),
            begun: Notify::new(),
        })
    }

    /// The languages' tools that this machine has, and how to get those that it lacks.
    pub(crate) fn tools(&self) -> &Arc<Tools> {
        &self.tools
    }

    pub(crate) fn scratch(&self) -> io::Result<Scratch> {
        Scratch::new(&self.options.folder.join(WORK))
    }

    /// Results of earlier builds that must be kept, after those were forgotten that nobody uses and nobody asked for in a
    /// long time.
    pub(crate) fn sweep(&self, used: &HashSet<Digest>) -> io::Result<HashSet<Digest>> {
        self.results.sweep(used)
    }

    pub(crate) fn forget(&self, key: &ObjectKey) {
        let mut logs = self.logs.lock();
        logs.of.remove(key);
        logs.order.retain(|k| k != key);
    }

    /// Removes what tools have downloaded for a namespace that is gone: whoever has its name next trusts none of it.
    pub(crate) async fn forget_namespace(&self, namespace: &str) {
        let _cache = self.cache_of(namespace).await;
        let folder = self.downloads(namespace);
        let shown = folder.display().to_string();
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = shown, %error, "a namespace's downloads could not be removed");
            }
            _ => {}
        }
    }

    /// What tools have downloaded for a namespace.
    fn downloads(&self, namespace: &str) -> PathBuf {
        self.options.folder.join("cache").join(namespace)
    }

    async fn cache_of(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let lock = self
            .caches
            .lock()
            .entry(namespace.to_owned())
            .or_default()
            .clone();
        lock.lock_owned().await
    }

    /// The log of a build that begins. Of a generation that is looked at again (`is_settled`), the log of when it was
    /// built stays: that everything was found says nothing to anybody.
    fn begin_log(&self, key: &ObjectKey, generation: u64, is_settled: bool) -> BuildOutput {
        let (output, _) = BuildOutput::new();
        let log = output.0.clone();
        let mut logs = self.logs.lock();
        if is_settled && logs.of.get(key).is_some_and(|(of, _)| *of == generation) {
            return output;
        }
        if logs.of.insert(key.clone(), (generation, log)).is_some() {
            logs.order.retain(|k| k != key);
        }
        logs.order.push_back(key.clone());
        if logs.order.len() > KEPT_LOGS
            && let Some(oldest) = logs.order.pop_front()
        {
            logs.of.remove(&oldest);
        }
        drop(logs);
        self.begun.notify_waiters();
        output
    }

    fn log_of(&self, key: &ObjectKey, generation: u64) -> Option<Arc<BuildLog>> {
        let logs = self.logs.lock();
        let (of, log) = logs.of.get(key)?;
        (*of >= generation).then(|| log.clone())
    }
}

impl BuildError {
    /// The tool's own last words.
    pub(crate) fn last(&self) -> Vec<String> {
        match self {
            Self::Step { last, .. } => last.clone(),
            _ => Vec::new(),
        }
    }
}

impl Platform {
    /// What a document's code is once it is built, and how that went. `None` when a newer generation came meanwhile.
    pub(crate) async fn built(
        &self,
        object: &Object,
        lowered: &Lowered,
    ) -> Option<(Result<FunctionSpec, BuildError>, BuildStatus)> {
        let began = std::time::Instant::now();
        let mut status = BuildStatus::default();
        let source = Source::of(lowered);
        let building = async {
            let Some(work) = run::look(self, &source).await? else {
                return Ok(source.as_it_is());
            };
            let is_settled = Status::of(object).is_settled(object.generation());
            let key = object.key();
            let output = self
                .builds()
                .begin_log(key, object.generation(), is_settled);
            run::carry_out(self, &source, work, &output.0, &mut status).await
        };
        let built = tokio::select! {
            built = building => Some(built),
            () = self.overtaken(object.key(), object.generation()) => None,
        };
        let built = built?.map(|built| FunctionSpec {
            code: built.code,
            handler: built.handler,
            ..lowered.spec.clone()
        });
        if let Err(error) = &built {
            status.failed = true;
            status.log = error.last();
        }
        let was_at_work = !(status.dependencies.is_empty() && status.bundle.is_empty());
        if was_at_work || built.is_err() {
            let elapsed = began.elapsed();
            status.milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        }
        Some((built, status))
    }

    /// A reader of what the build of a generation, or a newer one, says. Its lines end with the build, or at once where
    /// there is nothing to build.
    #[must_use]
    pub fn build_log(&self, key: &ObjectKey, generation: u64) -> BuildTail {
        BuildTail {
            platform: self.clone(),
            key: key.clone(),
            generation,
            log: None,
            from: 0,
        }
    }
}

impl BuildTail {
    /// The next lines. `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<BuildLine>> {
        loop {
            if let Some(log) = &self.log {
                return log.read(&mut self.from).await;
            }
            let platform = self.platform.clone();
            let mut begun = std::pin::pin!(platform.builds().begun.notified());
            let mut settled = std::pin::pin!(platform.settled());
            begun.as_mut().enable();
            settled.as_mut().enable();
            self.log = platform.builds().log_of(&self.key, self.generation);
            if self.log.is_some() {
                continue;
            }
            let object = platform.get(&self.key).await.ok()?;
            if Status::of(&object).is_settled(self.generation) {
                return None;
            }
            tokio::select! {
                () = begun => {}
                () = settled => {}
            }
        }
    }
}

/// The default of [`BuildOptions::limits`].
pub const BUILD_LIMITS: JobLimits = JobLimits {
    // A linker, or a type checker, over a project of some size.
    memory: 2 << 30,
    cpu_milli: 4_000,
    pids: 1_024,
    tmp: 512 << 20,
    // Dependencies, a compiler's work and its result side by side.
    disk: 8 << 30,
    time: Duration::from_secs(15 * 60),
};
