//! How much of the server functions take together.
//!
//! A connection of a function's is two descriptors and two buffers of the server's, and a name that is looked up is a
//! thread; and there are as many instances as the load wants. So beside what one instance may have there is a bound for a
//! namespace, and one for all: who takes all that is his leaves the others theirs, and the server what it needs itself.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of one instance at once: what a busy server keeps to its databases, several times over.
pub(crate) const CONNECTIONS: usize = 1024;

/// Connections of all functions at once, where the server has descriptors for more: each is some forty kilobytes.
const MOST_CONNECTIONS: usize = 16 * 1024;

/// Descriptors of the server for each connection of functions: two of the connection, and as many for all else.
const DESCRIPTORS: u64 = 4;

/// Names that are looked up at once: by one instance, by a namespace, by all functions together.
const LOOKUPS: [usize; 3] = [8, 32, 64];

/// What one instance, one namespace or all functions have.
struct Share {
    /// Whose it is, in messages.
    of: &'static str,
    most: usize,
    connections: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

/// The shares of a server.
pub(crate) struct Shares {
    all: Arc<Share>,
    namespaces: Mutex<HashMap<Arc<str>, Weak<Share>>>,
}

/// The shares that one instance's connections are of: its own, its namespace's, and everybody's.
pub(crate) struct Held([Arc<Share>; 3]);

/// A place among an instance's connections, to be held for as long as one is open.
pub struct Seat(#[expect(dead_code, reason = "its drop is what counts")] [OwnedSemaphorePermit; 3]);

/// The same among the names that are looked up.
pub(crate) struct Lookup(
    #[expect(dead_code, reason = "its drop is what counts")] Vec<OwnedSemaphorePermit>,
);

impl Share {
    fn new(of: &'static str, connections: usize, lookups: usize) -> Arc<Self> {
        Arc::new(Self {
            of,
            most: connections,
            connections: Arc::new(Semaphore::new(connections)),
            lookups: Arc::new(Semaphore::new(lookups)),
        })
    }
}

impl Shares {
    /// Of a server that may have so many descriptors.
    pub(crate) fn new(descriptors: u64) -> Self {
        let most = usize::try_from(descriptors / DESCRIPTORS).unwrap_or(MOST_CONNECTIONS);
        Self {
            all: Share::new("all functions", most.clamp(1, MOST_CONNECTIONS), LOOKUPS[2]),
            namespaces: Mutex::default(),
        }
    }

    /// Those of a new instance of this namespace. A namespace has half of everything.
    pub(crate) fn instance(&self, namespace: &Arc<str>) -> Held {
        let mut namespaces = self.namespaces.lock();
        let known = namespaces.get(namespace).and_then(Weak::upgrade);
        let of_namespace = known.unwrap_or_else(|| {
            namespaces.retain(|_, share| share.strong_count() > 0);
            let half = self.all.most.div_ceil(2);
            let share = Share::new("the functions of a namespace", half, LOOKUPS[1]);
            namespaces.insert(namespace.clone(), Arc::downgrade(&share));
            share
        });
        let own = Share::new("an instance", CONNECTIONS, LOOKUPS[0]);
        Held([own, of_namespace, self.all.clone()])
    }
}

impl Held {
    /// A place for one more connection; else who has as many as may be.
    pub(crate) fn seat(&self) -> Result<Seat, String> {
        let take = |share: &Share| {
            share.connections.clone().try_acquire_owned().map_err(|_| {
                format!(
                    "{} connections are open already, which is as many as {} may have",
                    share.most, share.of
                )
            })
        };
        let [own, of_namespace, all] = &self.0;
        Ok(Seat([take(own)?, take(of_namespace)?, take(all)?]))
    }

    /// Waits until one more name may be looked up.
    pub(crate) async fn lookup(&self) -> Lookup {
        let mut permits = Vec::with_capacity(self.0.len());
        for share in &self.0 {
            // Never closed, so there is always one in the end.
            permits.extend(share.lookups.clone().acquire_owned().await);
        }
        Lookup(permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_all_that_is_his_leaves_the_others_theirs() {
        let shares = Shares::new(40);
        let [one, same, other] = ["a", "a", "b"].map(|n| shares.instance(&n.into()));
        let take = |held: &Held| -> Vec<_> { std::iter::from_fn(|| held.seat().ok()).collect() };
        let first = take(&one);
        assert_eq!(first.len(), 5);
        let full = |held: &Held| held.seat().err().unwrap();
        assert!(full(&same).starts_with("5 connections") && full(&same).contains("a namespace"));
        let second = take(&other);
        assert_eq!(second.len(), 5);
        let third = shares.instance(&"c".into());
        assert!(
            full(&third).starts_with("10 connections") && full(&third).contains("all functions")
        );
        drop(first);
        assert_eq!(take(&same).len(), 5);
        drop((one, same));
        shares.instance(&"d".into());
        assert_eq!(shares.namespaces.lock().len(), 3, "a's is forgotten");
        let many = Shares::new(u64::MAX).instance(&"a".into());
        let all = take(&many);
        assert_eq!(all.len(), CONNECTIONS);
        assert!(full(&many).contains("an instance"));
    }

    #[tokio::test]
    async fn names_are_looked_up_by_some_of_each() {
        let shares = Shares::new(1024);
        let one = shares.instance(&"a".into());
        let mut lookups = Vec::new();
        for _ in 0..LOOKUPS[0] {
            lookups.push(one.lookup().await);
        }
        let late = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(late, one.lookup()).await.is_err());
        shares.instance(&"a".into()).lookup().await;
        drop(lookups);
        one.lookup().await;
    }
}
