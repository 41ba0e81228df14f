//! The part of the engine that owns instances on this machine: admission, the tick, and what pools share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::InstanceId;
use tidegate_instance::{Isolation, StartError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pool::Pool;
use crate::{Options, SharedResources};

/// How often pools with instances are looked at: the resolution of idle times and of restarts after a failed start.
const TICK: Duration = Duration::from_millis(100);

/// How often a start that waits for room looks for an instance that has become idle since.
const ROOM_POLL: Duration = Duration::from_millis(20);

/// What all pools of a host share.
pub(crate) struct Host {
    pub(crate) isolation: Arc<dyn Isolation>,
    pub(crate) resources: SharedResources,
    pub(crate) options: Options,
    /// Where instances are started and watched: never on a serving thread.
    pub(crate) control: Handle,
    /// Every task of the engine's; a drain waits for them.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the host ends.
    pub(crate) ending: CancellationToken,
    epoch: Instant,
    next_instance: AtomicU64,
    /// A permit an instance, starting ones included.
    room: Arc<Semaphore>,
    /// Starts that wait for room, and instances that are ending to make some: one is stopped for one that waits.
    waiting: AtomicUsize,
    evicted: AtomicUsize,
    /// Pools that have an instance, a start, a waiting call or a minimum. Only touched when a pool enters or leaves this
    /// state, never by a warm call.
    active: Mutex<Vec<Arc<Pool>>>,
    /// Takes no new call.
    pub(crate) closed: AtomicBool,
    /// Starts nothing and keeps no call waiting.
    pub(crate) draining: AtomicBool,
}

/// Counts while it lives.
struct Counted(Arc<Host>, fn(&Host) -> &AtomicUsize);

impl Host {
    pub(crate) fn new(
        isolation: Arc<dyn Isolation>,
        resources: SharedResources,
        options: Options,
    ) -> Arc<Self> {
        let control = Handle::current();
        let host = Arc::new(Self {
            isolation,
            resources,
            control: control.clone(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            epoch: Instant::now(),
            next_instance: AtomicU64::new(1),
            room: Arc::new(Semaphore::new(options.max_instances)),
            waiting: AtomicUsize::new(0),
            evicted: AtomicUsize::new(0),
            active: Mutex::default(),
            closed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            options,
        });
        let ticking = host.clone();
        let tick = async move {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while ticking
                .ending
                .run_until_cancelled(interval.tick())
                .await
                .is_some()
            {
                ticking.tick();
            }
        };
        host.tasks.spawn_on(tick, &control);
        host
    }

    /// Time since the host began, for idle times and decisions.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub(crate) fn next_instance(&self) -> InstanceId {
        InstanceId(self.next_instance.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Room for one more instance, made by stopping the longest idle one of another pool where there is none. Waits at
    /// most as long as a call does.
    pub(crate) async fn room(self: &Arc<Self>) -> Result<OwnedSemaphorePermit, StartError> {
        if let Ok(room) = self.room.clone().try_acquire_owned() {
            return Ok(room);
        }
        let _waiting = Counted::new(self, |host| &host.waiting);
        let until = Instant::now() + self.options.max_wait;
        let mut room = std::pin::pin!(self.room.clone().acquire_owned());
        while !self.is_draining() && Instant::now() < until {
            if self.evicted.load(Ordering::Relaxed) < self.waiting.load(Ordering::Relaxed) {
                self.evict();
            }
            // The permit comes when an instance is gone, in the order it was asked for.
            if let Ok(Ok(room)) = tokio::time::timeout(ROOM_POLL, &mut room).await {
                return Ok(room);
            }
        }
        Err(if self.is_draining() {
            StartError::ShuttingDown
        } else {
            let max = self.options.max_instances;
            StartError::NoRoom { max }
        })
    }

    /// Stops the longest idle instance of all, if there is one that may be stopped.
    fn evict(self: &Arc<Self>) {
        let victim = self
            .active
            .lock()
            .iter()
            .filter_map(|pool| pool.longest_idle().map(|since| (since, pool.clone())))
            .min_by_key(|(since, _)| *since);
        let Some((since, pool)) = victim else { return };
        if let Some(stopping) = pool.evict() {
            let idle = self.now().saturating_sub(since);
            tracing::debug!(function = %pool.function(), ?idle, "stopping an idle instance to make room");
            let evicted = Counted::new(self, |host| &host.evicted);
            self.tasks.spawn_on(
                async move {
                    // A panic of the other task is that task's; the instance is gone with it.
                    let _ = stopping.await;
                    drop(evicted);
                },
                &self.control,
            );
        }
    }

    pub(crate) fn activate(&self, pool: &Arc<Pool>) {
        self.active.lock().push(pool.clone());
    }

    fn tick(&self) {
        let pools: Vec<_> = self.active.lock().clone();
        let mut left = false;
        for pool in &pools {
            left |= !pool.tick();
        }
        if left {
            self.active.lock().retain(|pool| !pool.deactivate());
        }
    }

    /// Lets go of the pools, which have the host and with it one another: nothing looks at them any more.
    pub(crate) fn forget_pools(&self) {
        self.active.lock().clear();
    }

    /// Pools that are active now. A function may have two, while calls of a revision that was replaced finish.
    pub(crate) fn active(&self) -> Vec<Arc<Pool>> {
        self.active.lock().clone()
    }
}

impl Counted {
    fn new(host: &Arc<Host>, counter: fn(&Host) -> &AtomicUsize) -> Self {
        counter(host).fetch_add(1, Ordering::Relaxed);
        Self(host.clone(), counter)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}
