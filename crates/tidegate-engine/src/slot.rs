//! A place on an instance, held for the length of a call.

use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::Target;
use tidegate_core::InvocationId;
use tidegate_core::record::ColdStart;

use crate::meter::Meter;
use crate::pool::Pool;

/// How long the code of a cancelled call may take to come to an end where an instance takes one call at a time; after
/// that the instance is killed, since nothing else can use it.
const CANCEL_GRACE: Duration = Duration::from_millis(100);

/// How long a slot of an instance that takes many calls stays taken after a cancel that the code does not acknowledge.
const CANCEL_WAIT: Duration = Duration::from_secs(30);

/// A place on an instance. Dropping it frees it: the instance is idle again as far as this call goes.
pub(crate) struct Slot {
    pool: Arc<Pool>,
    target: Arc<Target>,
    meter: Arc<Meter>,
    /// The call waited for this instance to start.
    started: bool,
}

impl Slot {
    pub(crate) const fn new(
        pool: Arc<Pool>,
        target: Arc<Target>,
        meter: Arc<Meter>,
        started: bool,
    ) -> Self {
        Self {
            pool,
            target,
            meter,
            started,
        }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The parts of the start that the call waited for, if it did.
    pub(crate) fn cold(&self) -> Option<ColdStart> {
        let started = self.started.then(|| self.target.instance().start_times());
        started.map(|times| ColdStart {
            sandbox_us: times.sandbox_us,
            runtime_us: times.runtime_us,
            load_us: times.load_us,
        })
    }

    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Gives up the slot and the instance with it.
    pub(crate) fn discard(self) {
        self.pool.discard(self.target.instance().id());
    }

    /// Gives up a call whose code may still be running. The slot comes back when the code is known to be done with it.
    pub(crate) fn cancel(self, invocation: InvocationId) {
        let host = self.pool.host().clone();
        let alone = self.pool.concurrency() == 1;
        self.pool.cut_off();
        host.tasks.spawn_on(
            async move {
                let instance = self.target.instance();
                let bound = if alone { CANCEL_GRACE } else { CANCEL_WAIT };
                let told = tokio::time::timeout(bound, instance.cancel(invocation)).await;
                self.pool.cut_off_ended();
                // Where many share an instance and it cannot be told, closing the call's connection was all there is.
                if alone && !told.unwrap_or(false) {
                    self.pool.discard(instance.id());
                }
            },
            &host.control,
        );
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.release(self.target.instance().id());
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.target).finish()
    }
}
