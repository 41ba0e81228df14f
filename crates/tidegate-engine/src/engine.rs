//! The engine's handle: what the platform tells it, and what it answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use tidegate_contract::Body;
use tidegate_core::{FunctionKey, FunctionRef, Scale};
use tidegate_instance::{Isolation, StartError};
use tokio::time::Instant;

use crate::call::{self, CallContext, Failure};
use crate::functions::{Function, Functions};
use crate::host::Host;
use crate::pool::{Pool, PoolCounts, Revision};
use crate::reply::ReplyBody;
use crate::{Resources, StartFailed};

/// How long the tasks that watch instances may take to notice that all of them are gone.
const TASKS_END: Duration = Duration::from_secs(2);

/// What the engine is told about its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Serving threads: each has its own connections to every instance.
    pub lanes: usize,
    /// Instances on this host.
    pub max_instances: usize,
    /// Calls that may wait for one function.
    pub max_waiting: usize,
    /// Longest wait for a slot.
    pub max_wait: Duration,
    /// Longest time until a started instance can be called.
    pub ready_within: Duration,
}

/// The invocation path. A cheap handle.
#[derive(Clone)]
pub struct Engine {
    functions: Arc<Functions>,
    host: Arc<Host>,
}

impl Engine {
    /// Makes an engine whose instances are started and watched on the current runtime, which should not be one that
    /// serves calls.
    #[must_use]
    pub fn new(
        isolation: Arc<dyn Isolation>,
        resources: Arc<dyn Resources>,
        options: Options,
    ) -> Self {
        Self {
            functions: Arc::default(),
            host: Host::new(isolation, resources, options),
        }
    }

    /// The function, if it is known.
    #[must_use]
    pub fn function(&self, key: FunctionRef<'_>) -> Option<Arc<Function>> {
        self.functions.get(key)
    }

    /// Every function, a shard of the table at a time.
    pub fn for_each(&self, visit: impl FnMut(&Arc<Function>)) {
        self.functions.for_each(visit);
    }

    /// Makes a revision take the function's calls, without starting anything that its minimum does not ask for.
    pub fn install(&self, key: &FunctionKey, revision: Revision) {
        let function = self.functions.get_or_insert(key);
        let scale = revision.spec.scale;
        if let Some(current) = function.current.load_full()
            && current.revision.id == revision.id
        {
            current.rescale(scale);
            return;
        }
        let pool = self.pool(&function, revision);
        self.switch(&function, pool, scale);
    }

    /// Starts what the revision wants before it takes traffic, then makes it take the function's calls. The revision
    /// before it keeps them until then, and for good when this one fails.
    ///
    /// # Errors
    /// The revision's instances did not become ready; what their log says of it is in the function's log.
    pub async fn deploy(&self, key: &FunctionKey, revision: Revision) -> Result<(), StartFailed> {
        let scale = revision.spec.scale;
        let wanted = scale.initial.min(scale.max);
        let function = self.functions.get_or_insert(key);
        if wanted == 0
            || function
                .current
                .load()
                .as_ref()
                .is_some_and(|p| p.revision.id == revision.id)
        {
            self.install(key, revision);
            return Ok(());
        }
        // Whatever ends this early, instances that were started for nothing end too.
        let candidate = Candidate(Some(self.pool(&function, revision)));
        let Some(pool) = &candidate.0 else {
            return Ok(());
        };
        let mut progress = pool.progress();
        pool.warm(wanted);
        let reached = progress
            .wait_for(|p| p.ready >= wanted || p.failed.is_some())
            .await;
        if let Some(error) = reached.ok().and_then(|p| p.failed.clone()) {
            return Err(StartFailed(error));
        }
        if let Some(pool) = candidate.chosen() {
            self.switch(&function, pool, scale);
        }
        Ok(())
    }

    /// Forgets the function. Calls in flight finish.
    pub fn remove(&self, key: FunctionRef<'_>) {
        if let Some(pool) = self
            .functions
            .remove(key)
            .and_then(|f| f.current.swap(None))
        {
            pool.retire();
        }
    }

    /// The instances of the function's current revision, by state.
    #[must_use]
    pub fn counts(&self, function: &Function) -> PoolCounts {
        function
            .current
            .load()
            .as_ref()
            .map(|pool| pool.counts())
            .unwrap_or_default()
    }

    /// The revision that takes the function's calls.
    #[must_use]
    pub fn current(&self, function: &Function) -> Option<Revision> {
        function
            .current
            .load()
            .as_ref()
            .map(|pool| pool.revision.clone())
    }

    /// Who may call the function, without copying its revision.
    #[must_use]
    pub fn access(&self, function: &Function) -> Option<tidegate_core::Access> {
        function
            .current
            .load()
            .as_ref()
            .map(|pool| pool.revision.spec.access)
    }

    /// Calls the function.
    ///
    /// # Errors
    /// There is no response from the code; the failure says why and whose fault it is.
    pub async fn call(
        &self,
        function: &Arc<Function>,
        request: Request<Body>,
        context: CallContext,
    ) -> Result<Response<ReplyBody>, Failure> {
        call::call(&self.host, function, request, context).await
    }

    /// Gets ready for functions of this runtime, off the path of their first call.
    ///
    /// # Errors
    /// The runtime cannot be used on this machine.
    pub async fn prepare(&self, runtime: &str) -> Result<(), StartError> {
        self.host.isolation.prepare(runtime).await
    }

    /// The runtimes of this host.
    #[must_use]
    pub fn runtimes(&self) -> Vec<tidegate_instance::Runtime> {
        self.host.isolation.runtimes()
    }

    /// Functions that have instances now, by key, with their number by state: of all their revisions together.
    #[must_use]
    pub fn active(&self) -> Vec<(FunctionKey, PoolCounts)> {
        let mut active = std::collections::BTreeMap::<_, PoolCounts>::new();
        for pool in self.host.active() {
            *active.entry(pool.function().clone()).or_default() += pool.counts();
        }
        active.into_iter().collect()
    }

    /// Ends the engine: no new call, those in flight get `grace` to finish, then every instance ends.
    pub async fn drain(&self, grace: Duration) {
        self.host.closed.store(true, Ordering::Relaxed);
        let until = Instant::now() + grace;
        let mut in_flight = self.in_flight();
        while in_flight > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
            in_flight = self.in_flight();
        }
        if in_flight > 0 {
            tracing::warn!(
                in_flight,
                ?grace,
                "calls were still under way at the end of the grace period"
            );
        }
        self.host.draining.store(true, Ordering::Relaxed);
        for pool in self.host.active() {
            pool.retire();
        }
        self.host.ending.cancel();
        self.host.isolation.shutdown().await;
        self.host.tasks.close();
        if tokio::time::timeout(TASKS_END, self.host.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("tasks of the engine were still running after its last instance");
        }
    }

    fn in_flight(&self) -> i64 {
        let mut sum = 0;
        self.for_each(|f| {
            sum += f
                .metrics_if_called()
                .map_or(0, crate::FunctionMetrics::in_flight);
        });
        sum
    }

    fn pool(&self, function: &Function, revision: Revision) -> Arc<Pool> {
        let scale: Scale = revision.spec.scale;
        Pool::new(
            function.key().clone(),
            revision,
            scale,
            self.host.clone(),
            function.log().clone(),
        )
    }

    fn switch(&self, function: &Function, pool: Arc<Pool>, scale: Scale) {
        pool.rescale(scale);
        if let Some(before) = function.current.swap(Some(pool)) {
            before.retire();
        }
    }
}

/// A pool that is to take over, unless it is dropped first.
struct Candidate(Option<Arc<Pool>>);

impl Candidate {
    fn chosen(mut self) -> Option<Arc<Pool>> {
        self.0.take()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.retire();
        }
    }
}
