//! The one who decides what starts next.
//!
//! All of its state is here and nobody else's, so there is no lock: what happens elsewhere comes in as events. It never
//! waits for the file; fetches, renewals and attempts are tasks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_core::queue::{Lease, Settled};
use tidegate_core::{FunctionKey, InvocationId};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{Bench, End, Event};
use super::fair::Fair;
use super::flow::{Flow, Sign};
use super::follow::follow_ups;
use super::runner::{Allowance, Runner, Told};
use super::{DispatchOptions, DispatchStats, Drained};
use crate::dead::DeadLetter;
use crate::error::Error;
use crate::lanes::whose;
use crate::queue::{Queue, Work};
use crate::submission::{Ending, Submission};
use crate::writer::Taken;

/// Items of all functions that are leased ahead. Beyond it, one is leased when there is a slot for it.
const READY: usize = 1024;
/// Lanes that are read from the queue at once when it begins.
const PAGE: usize = 1024;
/// It looks again after this whatever happens: rates and pauses are kept well by it, and a clock that was set is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// How long a lane rests when its items cannot be read, in milliseconds.
const UNREADABLE_MS: u64 = 1000;
/// How long lanes that may not run are left before they are asked about again, in milliseconds: only in case that nobody
/// told of a change.
const STOPPED_MS: u64 = 5000;
/// How long attempts that were cut off have to notice.
const CUT: Duration = Duration::from_secs(1);
/// How many times the attempts at once may wait to be written before not even deliveries are begun. Of calls none is begun
/// beyond once as many.
const STUCK: usize = 4;

pub(super) enum Order {
    Changed(Option<FunctionKey>),
    Drain {
        grace: Duration,
        reply: oneshot::Sender<Drained>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    running: AtomicU64,
    ready: AtomicU64,
    settling: AtomicU64,
    functions: AtomicU64,
    started: AtomicU64,
    done: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    stale: AtomicU64,
    cut: AtomicU64,
    stuck: AtomicU64,
}

/// An attempt that is not over.
struct Running {
    id: InvocationId,
    lane: FunctionKey,
    /// By the queue's clock that never goes back.
    began: u64,
    cut: CancellationToken,
    /// Whether the call is over, and only what came of it is to be written.
    settling: bool,
}

pub(super) struct Director {
    bench: Arc<Bench>,
    events: mpsc::UnboundedReceiver<Event>,
    cancelled: broadcast::Receiver<InvocationId>,
    counters: Arc<Counters>,
    flows: HashMap<FunctionKey, Flow>,
    fair: Fair,
    timers: BTreeSet<(u64, FunctionKey)>,
    running: HashMap<Lease, Running>,
    by_id: HashMap<InvocationId, Lease>,
    /// Slots in use, and those spoken for by fetches.
    busy: usize,
    taking: usize,
    ready: usize,
    settling: usize,
    renewed_at: u64,
    /// Leases on their way back.
    releases: TaskTracker,
    draining: bool,
}

impl Director {
    pub(super) fn new(
        queue: Queue,
        runner: Arc<dyn Runner>,
        options: DispatchOptions,
        counters: Arc<Counters>,
    ) -> Self {
        // The runner may hold the queue, which must not hold the runner.
        let (weak, delivery) = (Arc::downgrade(&runner), options.delivery);
        queue.serve(move |submission, letter| {
            weak.upgrade().map_or_else(Vec::new, |runner| {
                given_up(&*runner, submission, letter, delivery)
            })
        });
        let (sender, events) = mpsc::unbounded_channel();
        let renewed_at = queue.elapsed_ms();
        let cancelled = queue.cancellations();
        Self {
            bench: Arc::new(Bench {
                queue,
                runner,
                options,
                events: sender,
            }),
            events,
            cancelled,
            counters,
            flows: HashMap::new(),
            fair: Fair::default(),
            timers: BTreeSet::new(),
            running: HashMap::new(),
            by_id: HashMap::new(),
            busy: 0,
            taking: 0,
            ready: 0,
            settling: 0,
            renewed_at,
            releases: TaskTracker::new(),
            draining: false,
        }
    }

    /// Works until it is drained, the queue is closed, or nobody is left who could give an order.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut changes = self.bench.queue.changes();
        self.begin();
        loop {
            self.start_what_may();
            self.count();
            let wait = self.wait();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Changed(Some(function))) => self.changed(&function),
                    Some(Order::Changed(None)) => self.all_changed(),
                    Some(Order::Drain { grace, reply }) => {
                        let drained = self.drain(grace).await;
                        self.count();
                        // Whoever ordered it may be gone.
                        let _ = reply.send(drained);
                        return;
                    }
                    None => {
                        self.drain(Duration::ZERO).await;
                        return;
                    }
                },
                Some(event) = self.events.recv() => {
                    self.note(event);
                    while let Ok(event) = self.events.try_recv() {
                        self.note(event);
                    }
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    for lane in self.bench.queue.woken() {
                        self.look(&lane);
                    }
                }
                cancelled = self.cancelled.recv() => self.cancelled(&cancelled),
                () = tokio::time::sleep(wait) => {}
            }
            self.timers();
            self.renew();
        }
    }

    fn begin(&mut self) {
        let mut after = None;
        loop {
            let page = self.bench.queue.lanes(after.as_ref(), PAGE);
            let Some(last) = page.last() else { return };
            after = Some(last.function.clone());
            for lane in page {
                self.look(&lane.function);
            }
        }
    }

    // === one lane ===

    fn allowance(&self, lane: &FunctionKey) -> Allowance {
        match whose(lane) {
            (function, false) => self.bench.runner.lane(&function),
            // What is to be told is told, whether or not the function may run.
            (_, true) => Allowance {
                concurrency: self.bench.options.deliveries,
                rate: None,
            },
        }
    }

    /// Reads what the queue has of a lane.
    fn look(&mut self, lane: &FunctionKey) {
        let Some(found) = self.bench.queue.lane(lane) else {
            return;
        };
        if !self.flows.contains_key(lane) {
            if found.queued == 0 {
                return;
            }
            let flow = Flow::new(self.allowance(lane), self.bench.queue.elapsed_ms());
            self.flows.insert(lane.clone(), flow);
        }
        if let Some(flow) = self.flows.get_mut(lane) {
            (flow.queued, flow.next_due_ms) = (found.queued, found.next_due_ms);
        }
        self.consider(lane);
    }

    /// Whether a lane could be served, and when to ask that again.
    fn consider(&mut self, lane: &FunctionKey) {
        let (now, now_ms) = (self.bench.queue.elapsed_ms(), self.bench.queue.now_ms());
        let Some(flow) = self.flows.get_mut(lane) else {
            return;
        };
        if let Some(at) = flow.timer.take() {
            self.timers.remove(&(at, lane.clone()));
        }
        if flow.is_idle() {
            let until = flow.remembered_until(now);
            if until > now {
                flow.timer = Some(until);
                self.timers.insert((until, lane.clone()));
            } else {
                self.flows.remove(lane);
            }
            self.fair.forget(lane);
            return;
        }
        let due = flow.next_due_ms <= now_ms && !flow.taking;
        let work = !flow.ready.is_empty() || due;
        let willing = work && flow.may_start(now) && !self.draining;
        let at = if flow.is_stopped() {
            (flow.queued > 0).then_some(now + STOPPED_MS)
        } else if willing || flow.taking {
            None
        } else if work {
            flow.may_start_at(now).filter(|at| *at > now)
        } else if flow.next_due_ms == u64::MAX {
            None
        } else {
            Some(now.saturating_add(flow.next_due_ms.saturating_sub(now_ms)))
        };
        if let Some(at) = at {
            flow.timer = Some(at);
            self.timers.insert((at, lane.clone()));
        }
        self.fair.set(lane, willing);
    }

    /// What the runner allows is to be asked again.
    fn changed(&mut self, function: &FunctionKey) {
        let allowance = self.bench.runner.lane(function);
        if let Some(flow) = self.flows.get_mut(function) {
            flow.allowance = allowance;
            if flow.is_stopped() && !flow.ready.is_empty() {
                let ready: Vec<Taken> = flow.ready.drain(..).collect();
                self.ready -= ready.len();
                self.release(ready);
            }
        }
        self.consider(function);
    }

    fn all_changed(&mut self) {
        let functions: Vec<FunctionKey> = self.flows.keys().cloned().collect();
        for lane in functions.iter().filter(|lane| !whose(lane).1) {
            self.changed(lane);
        }
    }

    fn release(&self, taken: Vec<Taken>) {
        let bench = Arc::clone(&self.bench);
        self.releases
            .spawn(async move { bench.release(taken).await });
    }

    // === starting ===

    fn start_what_may(&mut self) {
        while let Some(lane) = self.next() {
            let Some(flow) = self.flows.get_mut(&lane) else {
                self.fair.forget(&lane);
                continue;
            };
            match flow.ready.pop_front() {
                Some(taken) => {
                    self.ready -= 1;
                    self.start(&lane, taken);
                    self.fetch_ahead(&lane);
                }
                None => {
                    let room = READY.saturating_sub(self.ready);
                    let wanted = flow.wanted().min(room).max(1);
                    self.fetch(&lane, wanted);
                }
            }
            self.consider(&lane);
        }
    }

    fn next(&self) -> Option<FunctionKey> {
        let most = self.bench.options.attempts.max(1) as usize;
        let begun = self.busy + self.taking;
        // What ended and cannot be written counts as well: with a disk that is full, nothing is begun that could not be
        // settled. Deliveries may be begun a little longer, for each that is done makes room.
        if begun + self.settling.saturating_sub(most) < most {
            self.fair.next()
        } else if begun < most && self.settling < STUCK * most {
            self.fair.next_of(|lane| whose(lane).1)
        } else {
            None
        }
    }

    fn start(&mut self, lane: &FunctionKey, taken: Taken) {
        if self.bench.queue.now_ms() >= taken.deadline_ms {
            // It waited here until it was too old. When it is leased the next time, that is seen to.
            self.release(vec![taken]);
            return;
        }
        let cut = CancellationToken::new();
        let running = Running {
            id: taken.id,
            lane: lane.clone(),
            began: self.bench.queue.elapsed_ms(),
            cut: cut.clone(),
            settling: false,
        };
        self.by_id.insert(taken.id, taken.lease);
        self.running.insert(taken.lease, running);
        if let Some(flow) = self.flows.get_mut(lane) {
            flow.began();
        }
        self.fair.began(lane);
        self.busy += 1;
        self.counters.started.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(Arc::clone(&self.bench).attempt(taken, cut));
    }

    /// Leases some more while there are some left, so that the next slot finds one.
    fn fetch_ahead(&mut self, lane: &FunctionKey) {
        let now_ms = self.bench.queue.now_ms();
        let room = READY.saturating_sub(self.ready + self.taking);
        let Some(flow) = self.flows.get(lane) else {
            return;
        };
        let wanted = flow.wanted().min(room);
        if wanted > 0 && !flow.taking && flow.next_due_ms <= now_ms {
            self.fetch(lane, wanted);
        }
    }

    fn fetch(&mut self, lane: &FunctionKey, most: usize) {
        let allowance = self.allowance(lane);
        let Some(flow) = self.flows.get_mut(lane) else {
            return;
        };
        flow.allowance = allowance;
        if flow.is_stopped() {
            self.changed(lane);
            return;
        }
        flow.taking = true;
        self.taking += 1;
        let (bench, lane) = (Arc::clone(&self.bench), lane.clone());
        tokio::spawn(async move { bench.take(lane, most).await });
    }

    // === what happened ===

    fn note(&mut self, event: Event) {
        match event {
            Event::Took { lane, taken } => self.took(&lane, taken),
            Event::Ran { lease, sign } => self.ran(lease, sign),
            Event::Stuck => {
                self.counters.stuck.fetch_add(1, Ordering::Relaxed);
            }
            Event::Settled { lease, end } => self.settled(lease, end),
            Event::Renewed(leases) => {
                for (lease, live) in leases {
                    if !live {
                        self.over(lease);
                    }
                }
            }
        }
    }

    fn took(&mut self, lane: &FunctionKey, taken: Result<Vec<Taken>, Error>) {
        self.taking -= 1;
        let now = self.bench.queue.elapsed_ms();
        let Some(flow) = self.flows.get_mut(lane) else {
            return;
        };
        flow.taking = false;
        match taken {
            Ok(taken) if self.draining || flow.is_stopped() => self.release(taken),
            Ok(taken) => {
                self.ready += taken.len();
                flow.ready.extend(taken);
            }
            Err(error) => {
                tracing::warn!(%error, "what is due could not be read; tried again soon");
                flow.pause(now, UNREADABLE_MS);
            }
        }
        self.look(lane);
    }

    fn ran(&mut self, lease: Lease, sign: Sign) {
        let now = self.bench.queue.elapsed_ms();
        let Some(running) = self.running.get_mut(&lease) else {
            return;
        };
        running.settling = true;
        self.busy -= 1;
        self.settling += 1;
        let (lane, began) = (running.lane.clone(), running.began);
        if let Some(flow) = self.flows.get_mut(&lane) {
            flow.ended(sign, began, now);
        }
        self.fair.ended(&lane);
        self.consider(&lane);
    }

    fn settled(&mut self, lease: Lease, end: End) {
        let Some(running) = self.running.remove(&lease) else {
            return;
        };
        self.settling -= 1;
        if self.by_id.get(&running.id) == Some(&lease) {
            self.by_id.remove(&running.id);
        }
        let counters = &self.counters;
        let counter = match end {
            End::Settled(Settled::Done) => Some(&counters.done),
            End::Settled(Settled::Again(_)) => Some(&counters.retried),
            End::Settled(Settled::Dead(_)) => Some(&counters.dead),
            End::Settled(Settled::Stale) => Some(&counters.stale),
            End::Cut => Some(&counters.cut),
            End::Gone => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.look(&running.lane);
    }

    /// A lease is over: whoever works under it works for nothing.
    fn over(&mut self, lease: Lease) {
        if let Some(running) = self.running.get(&lease) {
            running.cut.cancel();
            return;
        }
        for flow in self.flows.values_mut() {
            let before = flow.ready.len();
            flow.ready.retain(|taken| taken.lease != lease);
            self.ready -= before - flow.ready.len();
        }
    }

    fn cancelled(&mut self, cancelled: &Result<InvocationId, broadcast::error::RecvError>) {
        match cancelled {
            Ok(id) => {
                if let Some(running) = self.by_id.get(id).and_then(|lease| self.running.get(lease))
                {
                    running.cut.cancel();
                }
                // One that is leased ahead is found to be gone when it is loaded.
            }
            // Some were missed; which, the leases tell.
            Err(broadcast::error::RecvError::Lagged(_)) => self.renew_all(),
            Err(broadcast::error::RecvError::Closed) => {}
        }
    }

    // === time ===

    fn wait(&self) -> Duration {
        let now = self.bench.queue.elapsed_ms();
        let timer = self.timers.first().map_or(u64::MAX, |(at, _)| *at);
        LOOK.min(Duration::from_millis(timer.saturating_sub(now)))
    }

    fn timers(&mut self) {
        let now = self.bench.queue.elapsed_ms();
        while let Some((at, lane)) = self.timers.first()
            && *at <= now
        {
            let lane = lane.clone();
            self.timers.pop_first();
            if let Some(flow) = self.flows.get_mut(&lane) {
                flow.timer = None;
                if flow.is_stopped() {
                    self.changed(&lane);
                }
            }
            self.look(&lane);
        }
    }

    fn renew(&mut self) {
        let third = u64::try_from(self.bench.options.hold.as_millis() / 3).unwrap_or(u64::MAX);
        if self.bench.queue.elapsed_ms() >= self.renewed_at.saturating_add(third) {
            self.renew_all();
        }
    }

    fn renew_all(&mut self) {
        self.renewed_at = self.bench.queue.elapsed_ms();
        let ready = self.flows.values().flat_map(|flow| &flow.ready);
        let ready = ready.map(|taken| taken.lease);
        let leases: Vec<Lease> = self.running.keys().copied().chain(ready).collect();
        if !leases.is_empty() {
            let bench = Arc::clone(&self.bench);
            tokio::spawn(async move { bench.renew(leases).await });
        }
    }

    // === ending ===

    async fn drain(&mut self, grace: Duration) -> Drained {
        self.draining = true;
        let mut ready = Vec::new();
        for flow in self.flows.values_mut() {
            ready.extend(flow.ready.drain(..));
        }
        self.ready = 0;
        self.count();
        self.release(ready);
        self.wait_for_end(grace).await;
        let cut = self.running.len();
        for running in self.running.values() {
            running.cut.cancel();
        }
        self.wait_for_end(CUT).await;
        self.releases.close();
        if tokio::time::timeout(CUT, self.releases.wait())
            .await
            .is_err()
        {
            tracing::warn!("some leases were not given back in time, and run out by themselves");
        }
        Drained { cut }
    }

    async fn wait_for_end(&mut self, most: Duration) {
        let late = tokio::time::sleep(most);
        tokio::pin!(late);
        while !self.running.is_empty() || self.taking > 0 {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.note(event),
                () = &mut late => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            self.renew();
        }
    }

    fn count(&self) {
        let counters = &self.counters;
        let set =
            |counter: &AtomicU64, value: usize| counter.store(value as u64, Ordering::Relaxed);
        set(&counters.running, self.busy);
        set(&counters.ready, self.ready);
        set(&counters.settling, self.settling);
        set(&counters.functions, self.flows.len());
    }
}

/// What follows from an item that became too old before it could be run once more.
fn given_up(
    runner: &dyn Runner,
    submission: Submission,
    letter: &DeadLetter,
    delivery: tidegate_core::queue::Policy,
) -> Vec<Submission> {
    let finished = &letter.finished;
    let work = Work {
        submission,
        accepted_ms: letter.accepted_ms,
        tries: finished.tries,
    };
    let told = Told {
        done: false,
        ended: match finished.ended {
            Ending::Done(ended) => Some(ended),
            Ending::Dead(_) | Ending::Cancelled => finished.last,
        },
        message: finished
            .message
            .as_deref()
            .or(Some("it became too old before it could be run")),
        tries: finished.tries,
        took: Duration::ZERO,
        answer: finished.answer.as_ref(),
    };
    follow_ups(runner, &work, &told, delivery)
}

impl Counters {
    pub(super) fn read(&self) -> DispatchStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DispatchStats {
            running: get(&self.running),
            ready: get(&self.ready),
            settling: get(&self.settling),
            functions: get(&self.functions),
            started: get(&self.started),
            done: get(&self.done),
            retried: get(&self.retried),
            dead: get(&self.dead),
            stale: get(&self.stale),
            cut: get(&self.cut),
            stuck: get(&self.stuck),
            oldest_ms: 0,
        }
    }
}
