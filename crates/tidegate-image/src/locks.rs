//! One at a time for each key: who comes second waits, and finds the work done, or does it if the first gave up.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::ImageDigest;

/// Locks by digest. One is there as long as somebody has it or waits for it.
#[derive(Default)]
pub(crate) struct Locks(Mutex<HashMap<ImageDigest, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    fn of(&self, key: &ImageDigest) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock();
        if let Some(lock) = all.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        all.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        all.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }

    /// Waits for it.
    pub(crate) async fn lock(&self, key: &ImageDigest) -> OwnedMutexGuard<()> {
        self.of(key).lock_owned().await
    }

    /// As `lock`, on a thread that may wait.
    pub(crate) fn lock_blocking(&self, key: &ImageDigest) -> OwnedMutexGuard<()> {
        self.of(key).blocking_lock_owned()
    }

    /// Nothing where somebody has it.
    pub(crate) fn try_lock(&self, key: &ImageDigest) -> Option<OwnedMutexGuard<()>> {
        self.of(key).try_lock_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_one_a_key_and_gone_when_nobody_has_it() {
        let locks = Locks::default();
        let (a, b) = (ImageDigest::of(b"a"), ImageDigest::of(b"b"));
        let held = locks.lock(&a).await;
        assert!(locks.try_lock(&a).is_none());
        drop(locks.try_lock(&b).unwrap());
        drop(held);
        drop(locks.lock(&a).await);
        assert_eq!(locks.0.lock().len(), 1);
    }
}
