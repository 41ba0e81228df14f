//! The instances of one revision, and the calls waiting there.
//!
//! One short lock a pool, held for bookkeeping only: never across an await, a start, a wake-up or a send. What has to
//! happen outside it is collected inside and done after.

mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tidegate_contract::{Contract, Surroundings, Target, Vacant};
use tidegate_core::record::{Cause, CauseKind, TraceContext};
use tidegate_core::rollout::Tally;
use tidegate_core::{
    Backoff, FunctionKey, FunctionSpec, InstanceId, InvocationId, Metric, Probe, Scale,
};
use tidegate_instance::{
    Exit, Instance, InstanceSpec, KillOnDrop, LogSink, LogStream, Program, Reason, RootFs,
    StartError, Usage,
};
use tokio::sync::{oneshot, watch};

use crate::Materials;
use crate::call::Led;
use crate::host::Host;
use crate::ledger::Books;
use crate::logs::FunctionLog;
use crate::meter::Meter;
use crate::slot::Slot;

use state::{Entry, State};

/// Pause after failed starts in a row: a function that cannot start must not keep the machine busy trying.
const START_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// How often the use of the processor is read of instances whose number depends on it: a file each.
const CPU_SAMPLE: Duration = Duration::from_secs(1);

/// How long an instance that is told to end may take before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// One immutable version of a function.
#[derive(Clone, Debug)]
pub struct Revision {
    /// A short word for it, derived from the code's digest and the configuration.
    pub id: Arc<str>,
    /// The specification. Its `scale` is the one the pool began with; the pool's own is what counts.
    pub spec: Arc<FunctionSpec>,
    /// How it is called.
    pub contract: Contract,
}

pub(crate) struct Pool {
    books: Arc<Books>,
    pub(crate) revision: Revision,
    /// The revision's word, as answers carry it.
    pub(crate) label: HeaderValue,
    /// Calls that ended, and those of them that failed by the code's own fault.
    calls: AtomicU64,
    errors: AtomicU64,
    host: Arc<Host>,
    log: Arc<FunctionLog>,
    state: Mutex<State>,
    /// Instances that became ready or failed to, since a deploy last asked for some: what it waits on.
    progress: watch::Sender<Progress>,
}

/// What an instance does, as far as it matters to whom it calls: nobody inside has to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The call that it has, or had last; `None` where it has had none, or has several at once.
    pub call: Option<InvocationId>,
    /// How many functions called one another until this: the most, where it has several calls.
    pub depth: u32,
    /// Where that call stands in a distributed trace, if it does.
    pub trace: Option<TraceContext>,
}

impl Lineage {
    /// What a call of this instance's carries.
    #[must_use]
    pub fn leads(self) -> Led {
        Led {
            depth: self.depth + 1,
            cause: Cause {
                kind: CauseKind::Function,
                parent: self.call,
                ..Cause::default()
            },
            trace: self.trace,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) ready: u32,
    pub(crate) failed: Option<Arc<StartError>>,
}

/// A start under way. Dropped without an end it was a failed one, so that a panic on the way leaves the count right.
struct Starting {
    pool: Arc<Pool>,
    id: InstanceId,
    ended: bool,
}

struct Waiter(oneshot::Sender<Grant>, Lineage);

/// What a waiting call gets.
pub(crate) type Grant = Result<Slot, Refusal>;

/// Why there is no slot.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The pool was replaced; ask the function again.
    Retired,
    /// Too many calls wait already.
    Full,
    /// The code does not start.
    Failing(Arc<StartError>),
}

/// The answer to asking for a slot.
pub(crate) enum Acquire {
    Granted(Slot),
    Queued(oneshot::Receiver<Grant>),
    Refused(Refusal),
}

/// A pool in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Instances that are starting.
    pub starting: u32,
    /// Instances without a call.
    pub idle: u32,
    /// Instances with a call.
    pub busy: u32,
    /// Instances that are ending.
    pub draining: u32,
    /// Calls that wait.
    pub queued: u32,
    /// Instances that there are to be, as scaling has it.
    pub wanted: u32,
}

impl std::ops::AddAssign for PoolCounts {
    fn add_assign(&mut self, other: Self) {
        self.starting += other.starting;
        self.idle += other.idle;
        self.busy += other.busy;
        self.draining += other.draining;
        self.queued += other.queued;
        self.wanted += other.wanted;
    }
}

/// What is to be done once the lock is released.
#[derive(Default)]
struct Effects {
    start: u32,
    stop: Vec<Entry>,
    grants: Vec<(Waiter, Grant)>,
    activate: bool,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(
        books: Arc<Books>,
        revision: Revision,
        scale: Scale,
        host: Arc<Host>,
        log: Arc<FunctionLog>,
    ) -> Arc<Self> {
        Arc::new(Self {
            books,
            // A word of hexadecimal digits is always a header's value.
            label: HeaderValue::from_str(&revision.id)
                .unwrap_or_else(|_| HeaderValue::from_static("")),
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            revision,
            state: Mutex::new(State::new(scale, host.now())),
            host,
            log,
            progress: watch::Sender::new(Progress::default()),
        })
    }

    pub(crate) fn function(&self) -> &FunctionKey {
        self.books.key()
    }

    /// Puts down what instances took beside what is told with calls.
    pub(crate) fn spent(&self, idle: Duration, cpu_us: u64) {
        let limit = self.revision.spec.limits.memory;
        self.books.spent(idle, cpu_us, limit);
    }

    pub(crate) fn concurrency(&self) -> u32 {
        self.revision.spec.scale.concurrency
    }

    /// The scale that counts.
    pub(crate) fn scale(&self) -> Scale {
        self.state.lock().scale
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Says in the log what became of a call, where its caller is not told.
    pub(crate) fn tell(&self, target: &Target, id: InvocationId, message: &str) {
        self.log.line(
            target.instance().id(),
            LogStream::System,
            Some(id),
            message.as_bytes(),
        );
    }

    /// Accounts for a call that ended.
    pub(crate) fn ended(&self, failed: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// Has this pool begin with another's load, which it is about to take over: else it would begin with the fewest
    /// instances under the most calls.
    pub(crate) fn expect_load_of(&self, before: &Self) {
        let load = before.state.lock().load_for(&self.revision.spec.scale);
        if load.is_some() {
            self.state.lock().set_load(load);
        }
    }

    /// Asks for a slot. Never waits.
    pub(crate) fn acquire(self: &Arc<Self>, call: Lineage) -> Acquire {
        let mut effects = Effects::default();
        let answer = {
            let mut state = self.state.lock();
            if state.retired {
                return Acquire::Refused(Refusal::Retired);
            }
            state.arrived += 1;
            if let Some(entry) = state.find_room() {
                let slot = entry.take(self, call, false);
                state.wake();
                if state.wants_more() {
                    self.decide(&mut state, &mut effects, false);
                }
                Acquire::Granted(slot)
            } else if let Some(failure) = state.failing(self.host.now()) {
                Acquire::Refused(Refusal::Failing(failure))
            } else if state.waiting.len() >= state.may_wait(self.host.options.max_waiting) {
                Acquire::Refused(Refusal::Full)
            } else {
                let (grant, granted) = oneshot::channel();
                state.waiting.push_back(Waiter(grant, call));
                state.wake();
                self.decide(&mut state, &mut effects, false);
                Acquire::Queued(granted)
            }
        };
        self.perform(effects);
        answer
    }

    /// A call is over for its caller, and its code may go on for a moment.
    pub(crate) fn cut_off(&self) {
        self.state.lock().cut_off += 1;
    }

    /// The code of such a call has ended, or is not waited for any more.
    pub(crate) fn cut_off_ended(&self) {
        self.state.lock().cut_off -= 1;
    }

    /// Frees a slot.
    pub(crate) fn release(self: &Arc<Self>, id: InstanceId) {
        let mut effects = Effects::default();
        {
            let now = self.host.now();
            let mut state = self.state.lock();
            state.call_ended(now);
            let Some(at) = state.ready.iter().position(|e| e.id == id) else {
                return;
            };
            let entry = &mut state.ready[at];
            entry.in_flight -= 1;
            entry.idle_since = now;
            entry.counted_until = now;
            let (free, leaving) = (entry.in_flight == 0, entry.leaving);
            // Above a maximum that was lowered, a free instance goes even while calls wait.
            let unwanted = state.retired || leaving || state.usable() > state.scale.max;
            if free && unwanted {
                let entry = state.ready.remove(at);
                state.stopping += 1;
                effects.stop.push(entry);
            } else if !state.retired && !state.waiting.is_empty() {
                self.grant(&mut state, &mut effects, false);
            }
        }
        self.perform(effects);
    }

    /// Gives the instance no more calls, and kills it unless it has others than the one that asks for this.
    pub(crate) fn discard(self: &Arc<Self>, id: InstanceId) {
        let killed = {
            let mut state = self.state.lock();
            state.call_ended(self.host.now());
            let Some(at) = state.ready.iter().position(|e| e.id == id) else {
                return;
            };
            if state.ready[at].in_flight > 1 {
                state.ready[at].leaving = true;
                None
            } else {
                state.stopping += 1;
                Some(state.ready.remove(at))
            }
        };
        if let Some(entry) = killed {
            // What it used was looked at when the call that asks for this ended.
            self.spent(entry.idle, 0);
            entry.target.instance().kill();
        }
        self.revisit();
    }

    /// Starts instances until `count` are live, so that a deploy can wait for them. What failed before does not count.
    pub(crate) fn warm(self: &Arc<Self>, count: u32) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let live = state.live();
            let start = count.min(state.scale.max).saturating_sub(live);
            state.wanted(self.host.now(), count);
            let ready = state.usable();
            self.progress.send_replace(Progress {
                ready,
                failed: None,
            });
            state.starting += start;
            effects.start = start;
            effects.activate = !std::mem::replace(&mut state.active, true);
        }
        self.perform(effects);
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Changes how many instances there may be. Where somebody asks for another number of them, the pool goes there now.
    pub(crate) fn rescale(self: &Arc<Self>, scale: Scale) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let told = state.rescale(scale, self.host.now());
            state.waiting.retain(|w| !w.0.is_closed());
            self.decide(&mut state, &mut effects, told);
            // Calls that wait wake it again, once what was there before is on its way out.
            if !state.waiting.is_empty() && state.wake() {
                self.decide(&mut state, &mut effects, false);
            }
        }
        self.perform(effects);
    }

    /// Takes no more calls; those waiting are sent back to ask the function again, those in flight finish.
    pub(crate) fn retire(self: &Arc<Self>) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            state.retired = true;
            effects.grants = state
                .waiting
                .drain(..)
                .map(|w| (w, Err(Refusal::Retired)))
                .collect();
            let (idle, busy) = std::mem::take(&mut state.ready)
                .into_iter()
                .partition(|e| e.in_flight == 0);
            state.ready = busy;
            let idle: Vec<Entry> = idle;
            state.stopping += idle.len() as u32;
            effects.stop = idle;
        }
        self.perform(effects);
    }

    /// Retires a pool that has nothing to do, and says whether it did.
    pub(crate) fn retire_unless_working(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        let idle = !state.has_work(self.host.now()) && state.stopping == 0;
        state.retired |= idle;
        idle
    }

    pub(crate) fn counts(&self) -> PoolCounts {
        let state = self.state.lock();
        let busy = state.ready.iter().filter(|e| e.in_flight > 0).count() as u32;
        PoolCounts {
            starting: state.starting,
            // One that is leaving has calls, so it is among the busy.
            idle: state.ready.len() as u32 - busy,
            busy,
            draining: state.stopping,
            queued: state.waiting.len() as u32,
            wanted: state.desired(self.host.now()),
        }
    }

    /// What each instance has used so far, where that is measured.
    pub(crate) fn lineage(&self, id: InstanceId) -> Option<Lineage> {
        let state = self.state.lock();
        let entry = state.ready.iter().find(|entry| entry.id == id)?;
        Some(entry.lineage)
    }

    pub(crate) fn usage(&self) -> Vec<(InstanceId, Usage)> {
        // Asked outside the lock: the answer is in files.
        let targets: Vec<_> = {
            let state = self.state.lock();
            state.ready.iter().map(|e| e.target.clone()).collect()
        };
        let used = targets.iter().map(|target| target.instance());
        used.filter_map(|instance| Some((instance.id(), instance.usage()?)))
            .collect()
    }

    /// Since when the longest idle instance is idle, if one may be stopped to make room.
    pub(crate) fn longest_idle(&self) -> Option<Duration> {
        let state = self.state.lock();
        state
            .longest_idle(self.host.now())
            .map(|at| state.ready[at].idle_since)
    }

    /// Stops the longest idle instance to make room. The task that does so, which ends when the instance has; `None`
    /// where there is none any more.
    pub(crate) fn evict(self: &Arc<Self>) -> Option<tokio::task::JoinHandle<()>> {
        let entry = {
            let mut state = self.state.lock();
            let at = state.longest_idle(self.host.now())?;
            state.stopping += 1;
            state.ready.remove(at)
        };
        let host = &self.host;
        Some(host.tasks.spawn_on(self.clone().stop(entry), &host.control))
    }

    /// Looks at the pool; false when nothing keeps it active.
    pub(crate) fn tick(self: &Arc<Self>) -> bool {
        self.read_cpu();
        self.count_idle();
        self.revisit();
        self.state.lock().has_work(self.host.now())
    }

    /// Marks the pool inactive if nothing keeps it active, and says whether it did.
    pub(crate) fn deactivate(&self) -> bool {
        let mut state = self.state.lock();
        if state.has_work(self.host.now()) {
            return false;
        }
        state.active = false;
        true
    }

    /// Adds up the time that instances were there without a call.
    fn count_idle(&self) {
        let now = self.host.now();
        let idle = self.state.lock().count_idle(now);
        self.spent(idle, 0);
    }

    fn revisit(self: &Arc<Self>) {
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            // Calls that gave up waiting want nothing any more.
            state.waiting.retain(|w| !w.0.is_closed());
            self.decide(&mut state, &mut effects, false);
        }
        self.perform(effects);
    }

    /// Reads what the instances have used of the processor, where that says how many there should be.
    fn read_cpu(&self) {
        let now = self.host.now();
        let targets: Vec<(InstanceId, Arc<Target>)> = {
            let mut state = self.state.lock();
            let due = now.saturating_sub(state.sampled) >= CPU_SAMPLE;
            if !due || !matches!(state.scale.metric, Metric::Cpu { .. }) {
                return;
            }
            state.sampled = now;
            let ready = state.ready.iter();
            ready.map(|e| (e.id, e.target.clone())).collect()
        };
        // Files are read for this: not under the lock.
        let used: Vec<(InstanceId, u64)> = targets
            .iter()
            .filter_map(|(id, target)| Some((*id, target.instance().usage()?.cpu_us)))
            .collect();
        self.state.lock().count_cpu(now, &used);
    }

    /// Starts and stops what is to be. `told` when somebody has just said how many there are to be.
    fn decide(&self, state: &mut State, effects: &mut Effects, told: bool) {
        if state.retired || self.host.is_draining() {
            return;
        }
        let now = self.host.now();
        state.count_arrivals(now);
        let decision = state.decide(now, told);
        if now >= state.not_before {
            state.starting += decision.start;
            effects.start += decision.start;
        }
        for id in decision.stop {
            if let Some(at) = state.ready.iter().position(|e| e.id == id) {
                let entry = state.ready.remove(at);
                state.stopping += 1;
                effects.stop.push(entry);
            }
        }
        for entry in &mut state.ready {
            entry.leaving |= decision.leave.contains(&entry.id);
        }
        if !state.active && state.has_work(now) {
            state.active = true;
            effects.activate = true;
        }
    }

    /// Hands free slots to calls that wait. `started` where they are a new instance's, for which these calls waited.
    fn grant(self: &Arc<Self>, state: &mut State, effects: &mut Effects, started: bool) {
        while let Some(waiter) = state.waiting.pop_front() {
            if waiter.0.is_closed() {
                continue;
            }
            let Some(entry) = state.find_room() else {
                state.waiting.push_front(waiter);
                break;
            };
            let slot = entry.take(self, waiter.1, started);
            effects.grants.push((waiter, Ok(slot)));
        }
    }

    fn perform(self: &Arc<Self>, effects: Effects) {
        for (waiter, grant) in effects.grants {
            // A call that gave up meanwhile drops the slot, which frees it for the next.
            let _ = waiter.0.send(grant);
        }
        if effects.activate {
            self.host.activate(self);
        }
        for _ in 0..effects.start {
            let starting = Starting {
                pool: self.clone(),
                id: self.host.next_instance(),
                ended: false,
            };
            self.host.tasks.spawn_on(starting.run(), &self.host.control);
        }
        for entry in effects.stop {
            self.host
                .tasks
                .spawn_on(self.clone().stop(entry), &self.host.control);
        }
    }

    async fn launch(
        &self,
        id: InstanceId,
    ) -> Result<(Target, tokio::sync::OwnedSemaphorePermit), StartError> {
        let room = self.host.room().await?;
        let spec = &self.revision.spec;
        let contract = &self.revision.contract;
        let materials = self
            .host
            .resources
            .materialize(self.function(), spec)
            .await?;
        let bundle = materials.bundle.clone();
        let instance = match contract.program(spec) {
            Some(program) => self.start(id, program, materials).await?,
            None => Arc::new(Vacant::new(id)),
        };
        let surroundings = Surroundings {
            lanes: self.host.options.lanes,
            bundle,
            logs: self.log.clone(),
        };
        let target = Target::new(instance, contract.clone(), surroundings);
        if let Some(probe) = spec.root.as_ref().and_then(|root| root.ready.as_ref()) {
            self.answers(&target, probe).await?;
        }
        Ok((target, room))
    }

    /// Waits until the instance says that it is ready; one that does not is not left running.
    async fn answers(&self, target: &Target, probe: &Probe) -> Result<(), StartError> {
        // A start that is given up, as when the server ends, must not leave it either.
        let mut unready = KillOnDrop(Some(Box::new({
            let instance = target.instance().clone();
            move || instance.kill()
        })));
        target
            .ready(probe, self.ready_within())
            .await
            .map_err(|error| StartError::Code {
                message: format!("the function did not become ready: {error}"),
            })?;
        unready.0 = None;
        Ok(())
    }

    fn ready_within(&self) -> Duration {
        let limit = self.revision.spec.limits.timeout;
        self.host.options.ready_within.min(limit)
    }

    async fn start(
        &self,
        id: InstanceId,
        program: Program,
        materials: Materials,
    ) -> Result<Arc<dyn Instance>, StartError> {
        let spec = &self.revision.spec;
        let mut env: Vec<_> = spec
            .env
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        env.extend(materials.env);
        env.push((
            "TIDEGATE_FUNCTION".to_owned(),
            self.function().name.as_ref().to_owned(),
        ));
        env.push((
            "TIDEGATE_NAMESPACE".to_owned(),
            self.function().namespace.as_ref().to_owned(),
        ));
        env.push((
            "TIDEGATE_REVISION".to_owned(),
            self.revision.id.as_ref().to_owned(),
        ));
        self.host
            .isolation
            .start(InstanceSpec {
                id,
                function: self.function().clone(),
                revision: self.revision.id.clone(),
                bundle: materials.bundle,
                layer: materials.layer,
                root: spec.root.as_ref().map(|root| RootFs {
                    layers: materials.root,
                    user: (root.user, root.group),
                    workdir: root.workdir.clone(),
                    read_only: root.read_only,
                    stop_signal: root.stop_signal,
                }),
                program,
                env,
                secrets: materials.files,
                limits: spec.limits,
                network: spec.network,
                outbound: materials.outbound,
                concurrency: spec.scale.concurrency,
                ready_within: self.ready_within(),
                logs: self.revision.contract.sink(self.log.clone()),
            })
            .await
    }

    /// Puts a started instance to work, unless the pool was retired meanwhile.
    fn started(self: &Arc<Self>, id: InstanceId, target: Arc<Target>) {
        let meter = Arc::new(Meter::new(target.instance().clone()));
        self.spent(Duration::ZERO, meter.so_far_us());
        let idle_since = self.host.now();
        let entry = Entry {
            id,
            target,
            meter,
            in_flight: 0,
            idle_since,
            counted_until: idle_since,
            idle: Duration::ZERO,
            leaving: false,
            cpu_us: None,
            lineage: Lineage::default(),
        };
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            state.starting -= 1;
            state.failures = 0;
            state.last_failure = None;
            if state.retired {
                state.stopping += 1;
                effects.stop.push(entry);
            } else {
                state.ready.push(entry);
                self.grant(&mut state, &mut effects, true);
            }
        }
        self.progress.send_modify(|p| p.ready += 1);
        self.perform(effects);
    }

    fn start_failed(self: &Arc<Self>, id: InstanceId, error: StartError) {
        tracing::info!(function = %self.function(), instance = %id, %error, "an instance did not start");
        self.log.line(
            id,
            LogStream::System,
            None,
            format!("start failed: {error}").as_bytes(),
        );
        let error = Arc::new(error);
        let mut effects = Effects::default();
        {
            let mut state = self.state.lock();
            let now = self.host.now();
            state.starting -= 1;
            // Starts that fail together are one failure, and a full host is none of the function's.
            if now >= state.not_before {
                if !matches!(*error, StartError::NoRoom { .. }) {
                    state.failures += 1;
                }
                state.not_before = now + START_BACKOFF.delay(state.failures.max(1));
            }
            state.last_failure = Some(error.clone());
            // Calls wait on while anything else could still take them.
            if state.ready.is_empty() && state.starting == 0 {
                effects.grants = state
                    .waiting
                    .drain(..)
                    .map(|w| (w, Err(Refusal::Failing(error.clone()))))
                    .collect();
            }
        }
        self.progress.send_modify(|p| p.failed = Some(error));
        self.perform(effects);
    }

    fn gone(self: &Arc<Self>, id: InstanceId, exit: Exit) {
        let mut gone = None;
        let expected = {
            let mut state = self.state.lock();
            match state.ready.iter().position(|e| e.id == id) {
                Some(at) => {
                    gone = Some(state.ready.remove(at));
                    false
                }
                None => {
                    state.stopping -= 1;
                    true
                }
            }
        };
        if let Some(entry) = gone {
            self.spent(entry.idle_until(self.host.now()), 0);
        }
        // What a limit ended is told in any case.
        let unlimited = matches!(exit.reason, Reason::Exited | Reason::Killed);
        if !expected || !unlimited {
            tracing::info!(function = %self.function(), instance = %id, %exit, "an instance ended");
            self.log.line(
                id,
                LogStream::System,
                None,
                format!("the instance {exit}").as_bytes(),
            );
        }
        self.revisit();
    }

    async fn stop(self: Arc<Self>, entry: Entry) {
        let instance = entry.target.instance().clone();
        self.spent(entry.idle_until(self.host.now()), entry.meter.rest());
        // With it go the kept connections, which a server that drains would wait for.
        drop(entry);
        instance.drain();
        if tokio::time::timeout(STOP_GRACE, instance.exited())
            .await
            .is_err()
        {
            instance.kill();
            instance.exited().await;
        }
    }
}

// === impl Starting ===

impl Starting {
    /// Starts the instance and stays with it until it is gone.
    async fn run(mut self) {
        let launched = self.pool.launch(self.id).await;
        self.ended = true;
        match launched {
            Ok((target, _room)) => {
                let instance = target.instance().clone();
                self.pool.started(self.id, Arc::new(target));
                let exit = instance.exited().await;
                drop(instance);
                self.pool.gone(self.id, exit);
            }
            Err(error) => self.pool.start_failed(self.id, error),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.ended {
            let error =
                StartError::Runtime("the start broke off; the server's log says why".into());
            self.pool.start_failed(self.id, error);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("function", self.function())
            .finish_non_exhaustive()
    }
}
