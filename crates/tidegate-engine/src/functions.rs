//! The function table.
//!
//! Sharded, so that a deploy among a hundred thousand functions copies nothing and blocks one shard for the length of one
//! insertion, and looked up by borrowed parts of the key, so that a call allocates nothing to find its function.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use hashbrown::{Equivalent, HashMap};
use parking_lot::RwLock;
use tidegate_core::{FunctionKey, FunctionRef};

use crate::logs::FunctionLog;
use crate::metrics::FunctionMetrics;
use crate::pool::Pool;

/// Shards of the table: enough that readers of different functions seldom share a cache line.
const SHARDS: usize = 64;

/// A function as the engine has it: a key, what runs it now, and what it has done. A function that nobody has called costs
/// its key and a few words.
pub struct Function {
    key: FunctionKey,
    pub(crate) current: ArcSwapOption<Pool>,
    log: OnceLock<Arc<FunctionLog>>,
    metrics: OnceLock<Box<FunctionMetrics>>,
}

pub(crate) struct Functions {
    hasher: RandomState,
    table: Box<[Shard]>,
}

type Shard = RwLock<HashMap<Key, Arc<Function>, RandomState>>;

#[derive(PartialEq, Eq, Hash)]
struct Key(FunctionKey);

// === impl Function ===

impl Function {
    fn new(key: FunctionKey) -> Self {
        Self {
            key,
            current: ArcSwapOption::empty(),
            log: OnceLock::new(),
            metrics: OnceLock::new(),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &FunctionKey {
        &self.key
    }

    /// What the function has written, if it has.
    #[must_use]
    pub fn log(&self) -> &Arc<FunctionLog> {
        self.log.get_or_init(Arc::default)
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

impl Default for Functions {
    fn default() -> Self {
        let hasher = RandomState::new();
        let table = (0..SHARDS)
            .map(|_| RwLock::new(HashMap::with_hasher(hasher.clone())))
            .collect();
        Self { hasher, table }
    }
}

impl Functions {
    pub(crate) fn get(&self, key: FunctionRef<'_>) -> Option<Arc<Function>> {
        self.shard(key).read().get(&key).cloned()
    }

    /// The function, made if it is new.
    pub(crate) fn get_or_insert(&self, key: &FunctionKey) -> Arc<Function> {
        if let Some(found) = self.get(key.borrowed()) {
            return found;
        }
        let mut shard = self.shard(key.borrowed()).write();
        shard
            .entry(Key(key.clone()))
            .or_insert_with(|| Arc::new(Function::new(key.clone())))
            .clone()
    }

    pub(crate) fn remove(&self, key: FunctionRef<'_>) -> Option<Arc<Function>> {
        self.shard(key).write().remove(&key)
    }

    /// Every function, a shard at a time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Function>)) {
        for shard in &self.table {
            shard.read().values().for_each(&mut visit);
        }
    }

    fn shard(&self, key: FunctionRef<'_>) -> &Shard {
        &self.table[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Equivalent<Key> for FunctionRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.0.borrowed()
    }
}
