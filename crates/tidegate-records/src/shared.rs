//! What serving threads, readers and the writer have in common.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;

use crate::pending::Pending;

/// What accounts add to, and how the writer learns of it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) records: Pending,
    pub(crate) lines: Pending,
    pub(crate) granularity_us: u64,
    /// Records that were not left: of calls turned away, and of namespaces beyond their share.
    pub(crate) refusals: AtomicU64,
    pub(crate) over_share: AtomicU64,
    /// Whether there are several namespaces.
    several: AtomicBool,
    writer: OnceLock<Thread>,
    /// Whether the writer knows that there is something. It sleeps without a timer when there is nothing.
    awake: AtomicBool,
    /// Whether it should not wait for more to come.
    hurry: AtomicBool,
}

impl Shared {
    pub(crate) fn new(records: Pending, lines: Pending, granularity_us: u64) -> Self {
        Self {
            records,
            lines,
            granularity_us,
            refusals: AtomicU64::new(0),
            over_share: AtomicU64::new(0),
            several: AtomicBool::new(false),
            writer: OnceLock::new(),
            awake: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
        }
    }

    /// There is more than one namespace from now on.
    pub(crate) fn share(&self) {
        self.several.store(true, Ordering::Relaxed);
    }

    /// Whether namespaces have to leave room to others.
    pub(crate) fn is_shared(&self) -> bool {
        self.several.load(Ordering::Relaxed)
    }

    /// Says which thread writes.
    pub(crate) fn set_writer(&self, writer: Thread) {
        // There is one writer for the life of this value.
        let _ = self.writer.set(writer);
    }

    /// Tells the writer that there is something. Two loads, but for the first after a pause.
    ///
    /// Nothing is missed although they are relaxed: a shard's lock was held before this, and the writer takes that lock
    /// after it said that it would sleep and before it does.
    pub(crate) fn wake(&self, hurry: bool) {
        let news = hurry && !self.hurry.load(Ordering::Relaxed) && {
            !self.hurry.swap(true, Ordering::Relaxed)
        };
        let asleep =
            !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::Relaxed);
        if (news || asleep)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    /// Wakes the writer, because somebody asks it for something.
    pub(crate) fn call(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Whether the writer should not wait for more to come.
    pub(crate) fn hurried(&self) -> bool {
        self.hurry.load(Ordering::Relaxed)
    }

    /// The writer begins to take what is pending.
    pub(crate) fn taking(&self) {
        self.hurry.store(false, Ordering::Relaxed);
    }

    /// The writer would sleep. Whether it may is for it to find out after this.
    pub(crate) fn sleepy(&self) {
        self.awake.store(false, Ordering::SeqCst);
    }

    /// It does not after all.
    pub(crate) fn stay_awake(&self) {
        self.awake.store(true, Ordering::SeqCst);
    }
}
