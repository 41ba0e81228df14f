//! The part of the engine that owns instances on this machine: admission, the tick, and what pools share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::InstanceId;
use tidegate_instance::Isolation;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pool::Pool;
use crate::{Options, SharedResources};

/// How often pools with instances are looked at: the resolution of idle times and of restarts after a failed start.
const TICK: Duration = Duration::from_millis(100);

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
    /// Pools that have an instance, a start, a waiting call or a minimum. Only touched when a pool enters or leaves this
    /// state, never by a warm call.
    active: Mutex<Vec<Arc<Pool>>>,
    pub(crate) draining: AtomicBool,
}

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
            active: Mutex::default(),
            draining: AtomicBool::new(false),
            options,
        });
        let ticking = host.clone();
        control.spawn(async move {
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
        });
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

    /// Room for one more instance, made by stopping the longest idle one of another pool where there is none.
    pub(crate) fn admit(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok().or_else(|| {
            let now = self.now();
            let victim = self
                .active
                .lock()
                .iter()
                .filter_map(|pool| pool.longest_idle().map(|since| (since, pool.clone())))
                .min_by_key(|(since, _)| *since);
            if let Some((since, pool)) = victim {
                tracing::debug!(function = %pool.function(), idle = ?(now.saturating_sub(since)), "stopping an idle instance to make room");
                pool.stop_longest_idle();
            }
            // The permit comes back when the instance is gone; whoever asked tries again.
            None
        })
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

    /// Pools that are active now.
    pub(crate) fn active(&self) -> Vec<Arc<Pool>> {
        self.active.lock().clone()
    }
}
