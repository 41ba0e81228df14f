//! The engine's handle: what the platform tells it, and what it answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use tidegate_contract::Body;
use tidegate_core::trace::Sampling;
use tidegate_core::traffic::WHOLE;
use tidegate_core::{FunctionKey, FunctionRef, InstanceId};
use tidegate_instance::{Isolation, StartError, Usage};
use tokio::time::Instant;

use crate::arrangement::{
    self, Arrangement, Candidates, Chosen, Live, Member, Share, UnknownRevision,
};
use crate::call::{self, CallContext, Failure};
use crate::functions::{Function, Functions};
use crate::host::Host;
use crate::ledger::Ledger;
use crate::pool::{Lineage, Pool, PoolCounts, Revision};
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
    /// Which of the calls that come without a place in a trace begin one that is kept; none begins any where absent.
    pub traces: Option<Sampling>,
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
        ledger: Arc<dyn Ledger>,
        options: Options,
    ) -> Self {
        Self {
            functions: Arc::new(Functions::new(ledger)),
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

    /// Puts an arrangement in force, without starting anything that its minimum does not ask for.
    pub fn install(&self, key: &FunctionKey, arrangement: impl Into<Arrangement>) {
        let arrangement = arrangement.into();
        let function = self.functions.get_or_insert(key);
        let shares = arrangement.shares().iter();
        let pools = shares.map(|share| self.pool(&function, share).0).collect();
        self.switch(&function, &arrangement, pools);
    }

    /// Starts what an arrangement wants of revisions that had no traffic, then puts it in force. Until then, and for good
    /// where one of them does not start, everything stays as it is.
    ///
    /// # Errors
    /// A revision's instances did not become ready; what their log says of it is in the function's log.
    pub async fn deploy(
        &self,
        key: &FunctionKey,
        arrangement: impl Into<Arrangement>,
    ) -> Result<(), StartFailed> {
        let arrangement = arrangement.into();
        let function = self.functions.get_or_insert(key);
        // Whatever ends this early, instances that were started for nothing end too.
        let mut candidates = Candidates::new();
        let mut awaited = Vec::new();
        let mut pools = Vec::new();
        for share in arrangement.shares() {
            let before = function
                .live
                .load()
                .as_ref()
                .and_then(|live| live.percent(&share.revision.id));
            let (pool, is_new) = self.pool(&function, share);
            if is_new {
                candidates.add(&pool);
            }
            let scale = share.scale();
            let takes_traffic = share.percent > 0 && before.unwrap_or(0) == 0;
            // The newest has to show that it starts, traffic or not.
            let is_tried = share.latest && before.is_none();
            let wanted = scale.initial.min(scale.max);
            if (takes_traffic || is_tried) && wanted > 0 {
                pool.rescale(scale);
                let progress = pool.progress();
                pool.warm(wanted);
                awaited.push((progress, wanted));
            }
            pools.push(pool);
        }
        for (mut progress, wanted) in awaited {
            let reached = progress
                .wait_for(|p| p.ready >= wanted || p.failed.is_some())
                .await;
            if let Some(error) = reached.ok().and_then(|p| p.failed.clone()) {
                return Err(StartFailed(error));
            }
        }
        candidates.chosen();
        self.switch(&function, &arrangement, pools);
        Ok(())
    }

    /// Forgets the function. Calls in flight finish; whoever follows its log is told that it ends.
    pub fn remove(&self, key: FunctionRef<'_>) {
        if let Some(function) = self.functions.remove(key) {
            arrangement::clear(&function);
            function.log().close();
        }
    }

    /// The instances of all of the function's revisions, by state; those of revisions that were replaced do not count.
    #[must_use]
    pub fn counts(&self, function: &Function) -> PoolCounts {
        let mut sum = PoolCounts::default();
        if let Some(live) = function.live.load().as_ref() {
            live.pools().for_each(|pool| sum += pool.counts());
        }
        let aside = function.aside.lock();
        aside.iter().for_each(|pool| sum += pool.counts());
        sum
    }

    /// What each of the function's instances has used so far, where that is measured.
    #[must_use]
    pub fn usage(&self, function: &Function) -> Vec<(InstanceId, Usage)> {
        let live = function.live.load();
        let pools = live.iter().flat_map(|live| live.pools());
        let mut used: Vec<_> = pools.flat_map(|pool| pool.usage()).collect();
        let aside = function.aside.lock().clone();
        used.extend(aside.iter().flat_map(|pool| pool.usage()));
        used
    }

    /// What this instance of the function is doing, or did last. `None` where there is no such instance.
    #[must_use]
    pub fn lineage(&self, function: &Function, instance: InstanceId) -> Option<Lineage> {
        let live = function.live.load();
        let mut pools = live.iter().flat_map(|live| live.pools());
        let found = pools.find_map(|pool| pool.lineage(instance));
        found.or_else(|| {
            let aside = function.aside.lock().clone();
            aside.iter().find_map(|pool| pool.lineage(instance))
        })
    }

    /// The revision that takes most of the function's calls.
    #[must_use]
    pub fn current(&self, function: &Function) -> Option<Revision> {
        let live = function.live.load();
        live.as_ref().map(|live| live.first().revision.clone())
    }

    /// The function's revisions that are at work: those of the arrangement, then those that were called by name.
    #[must_use]
    pub fn members(&self, function: &Function) -> Vec<Member> {
        let live = function.live.load();
        let mut members: Vec<Member> = live.iter().flat_map(|live| live.members()).collect();
        members.extend(function.aside.lock().iter().map(|pool| Member {
            revision: pool.revision.clone(),
            scale: pool.scale(),
            percent: 0,
            tags: Vec::new(),
            latest: false,
            counts: pool.counts(),
            tally: pool.tally(),
        }));
        members
    }

    /// Who may call the function without naming a revision.
    #[must_use]
    pub fn access(&self, function: &Function) -> Option<tidegate_core::Access> {
        function.live.load().as_ref().map(|live| live.access())
    }

    /// A revision by its own word, a tag, or `latest`: any that is kept, traffic or not.
    ///
    /// # Errors
    /// Nobody goes by that name; the error says who there is.
    pub async fn choose(&self, function: &Function, word: &str) -> Result<Chosen, UnknownRevision> {
        arrangement::named(&self.host, function, word)
            .await
            .map(Chosen)
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
        call::call(&self.host, function, None, request, context).await
    }

    /// Calls a revision that was chosen by name.
    ///
    /// # Errors
    /// As [`Engine::call`].
    pub async fn call_chosen(
        &self,
        function: &Arc<Function>,
        chosen: Chosen,
        request: Request<Body>,
        context: CallContext,
    ) -> Result<Response<ReplyBody>, Failure> {
        call::call(&self.host, function, Some(chosen), request, context).await
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
        self.host.forget_pools();
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

    /// The pool of a share's revision, and whether it is a new one to the arrangement.
    fn pool(&self, function: &Function, share: &Share) -> (Arc<Pool>, bool) {
        let id = &share.revision.id;
        if let Some(pool) = function.live.load().as_ref().and_then(|live| live.of(id)) {
            return (pool.clone(), false);
        }
        // Taken out, so that nobody lets it go in the meantime.
        let mut aside = function.aside.lock();
        if let Some(at) = aside.iter().position(|pool| pool.revision.id == *id) {
            return (aside.swap_remove(at), true);
        }
        drop(aside);
        let pool = Pool::new(
            function.books().clone(),
            share.revision.clone(),
            share.scale(),
            self.host.clone(),
            function.log().clone(),
        );
        if let Some(live) = function.live.load().as_ref()
            && share.percent == WHOLE
        {
            pool.expect_load_of(live.first());
        }
        (pool, true)
    }

    fn switch(&self, function: &Function, arrangement: &Arrangement, pools: Vec<Arc<Pool>>) {
        for (share, pool) in arrangement.shares().iter().zip(&pools) {
            pool.rescale(share.scale());
        }
        arrangement::switch(function, Live::new(arrangement, pools));
    }
}
