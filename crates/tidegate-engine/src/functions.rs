//! The function table.
//!
//! Sharded, so that a deploy among a hundred thousand functions copies nothing and blocks one shard for the length of one
//! insertion, and looked up by borrowed parts of the key, so that a call allocates nothing to find its function.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{Mutex, RwLock};
use tidegate_core::{FunctionKey, FunctionRef};

use crate::arrangement::Live;
use crate::ledger::{Account, Books, Ledger};
use crate::logs::FunctionLog;
use crate::metrics::FunctionMetrics;
use crate::pool::Pool;

/// Shards of the table: enough that readers of different functions seldom share a cache line.
const SHARDS: usize = 64;

/// A function as the engine has it: a key, what runs it now, and what it has done. Counters are made at the first call.
pub struct Function {
    books: Arc<Books>,
    pub(crate) live: ArcSwapOption<Live>,
    /// Pools of revisions that are only called by name.
    pub(crate) aside: Mutex<Vec<Arc<Pool>>>,
    log: OnceLock<Arc<FunctionLog>>,
    metrics: OnceLock<Box<FunctionMetrics>>,
}

pub(crate) struct Functions {
    ledger: Arc<dyn Ledger>,
    hasher: RandomState,
    table: Box<[Shard]>,
}

/// A table that is told the hash, so that one hash both chooses the shard and finds the entry.
type Shard = RwLock<HashTable<Arc<Function>>>;

// === impl Function ===

impl Function {
    fn new(key: FunctionKey, ledger: &Arc<dyn Ledger>) -> Self {
        Self {
            books: Arc::new(Books::new(Arc::new(key), ledger.clone())),
            live: ArcSwapOption::empty(),
            aside: Mutex::default(),
            log: OnceLock::new(),
            metrics: OnceLock::new(),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &FunctionKey {
        self.books.key()
    }

    /// Who keeps account of it.
    #[must_use]
    pub fn account(&self) -> &dyn Account {
        self.books.account()
    }

    pub(crate) fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// What the function has written, if it has.
    #[must_use]
    pub fn log(&self) -> &Arc<FunctionLog> {
        let make = || Arc::new(FunctionLog::told_to(self.books.clone()));
        self.log.get_or_init(make)
    }

    /// What the function has done; made at the first call.
    #[must_use]
    pub fn metrics(&self) -> &FunctionMetrics {
        self.metrics.get_or_init(Box::default)
    }

    /// What the function has done, if it was ever called.
    #[must_use]
    pub fn metrics_if_called(&self) -> Option<&FunctionMetrics> {
        self.metrics.get().map(|m| &**m)
    }
}

// === impl Functions ===

impl Functions {
    pub(crate) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            ledger,
            hasher: RandomState::new(),
            table: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }

    pub(crate) fn get(&self, key: FunctionRef<'_>) -> Option<Arc<Function>> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).read();
        shard.find(hash, |f| f.key().borrowed() == key).cloned()
    }

    /// The function, made if it is new.
    pub(crate) fn get_or_insert(&self, key: &FunctionKey) -> Arc<Function> {
        if let Some(found) = self.get(key.borrowed()) {
            return found;
        }
        let hash = self.hasher.hash_one(key.borrowed());
        let mut shard = self.shard(hash).write();
        let rehash = |f: &Arc<Function>| self.hasher.hash_one(f.key().borrowed());
        match shard.entry(hash, |f| f.key() == key, rehash) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => entry
                .insert(Arc::new(Function::new(key.clone(), &self.ledger)))
                .get()
                .clone(),
        }
    }

    pub(crate) fn remove(&self, key: FunctionRef<'_>) -> Option<Arc<Function>> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).write();
        let found = shard.find_entry(hash, |f| f.key().borrowed() == key).ok()?;
        Some(found.remove().0)
    }

    /// Every function, a shard at a time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Function>)) {
        for shard in &self.table {
            shard.read().iter().for_each(&mut visit);
        }
    }

    /// Chosen by bits that the table itself does not use: it places by the lowest and compares by the highest, and with
    /// any of these all alike in a shard its entries would collide.
    fn shard(&self, hash: u64) -> &Shard {
        &self.table[(hash >> 40) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::Name;

    use super::*;
    use crate::NoLedger;

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed() {
        let functions = Functions::new(Arc::new(NoLedger));
        let namespace = Name::new("default").unwrap();
        let key = |n: u32| FunctionKey::new(&namespace, &Name::new(&format!("f{n}")).unwrap());
        for n in 0..1000 {
            let made = functions.get_or_insert(&key(n));
            assert!(Arc::ptr_eq(&made, &functions.get_or_insert(&key(n))));
        }
        let mut visited = 0;
        functions.for_each(|_| visited += 1);
        assert_eq!(visited, 1000);
        for n in 0..1000 {
            let key = key(n);
            assert_eq!(functions.get(key.borrowed()).unwrap().key(), &key);
            assert_eq!(functions.remove(key.borrowed()).unwrap().key(), &key);
            assert!(functions.remove(key.borrowed()).is_none());
            assert!(functions.get(key.borrowed()).is_none());
        }
    }
}
