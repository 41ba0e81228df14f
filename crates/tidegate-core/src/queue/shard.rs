//! One shard of the queue, and what may happen in it.

use std::collections::BTreeMap;

use super::{Ended, Next, Policy, Progress, Reason};

/// The number of an item within its shard: in the order of acceptance, never given twice.
pub type Seq = i64;

/// What the rules need to know of an item. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Its number.
    pub seq: Seq,
    /// When it may run next, in milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// Whether another of its ordering key is ahead, so that it is nobody's turn yet.
    pub behind: bool,
    /// When it is given up, in milliseconds since the Unix epoch.
    pub deadline_ms: u64,
    /// The ordering key's number, where it has one.
    pub key: Option<i64>,
    /// What it has behind it.
    pub progress: Progress,
    /// What becomes of it if it does not succeed.
    pub policy: Policy,
}

/// The right to work on an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// Of which item.
    pub seq: Seq,
    /// The owner that gave it.
    pub epoch: u64,
    /// Which of that owner's leases.
    pub number: u64,
}

/// How an item left the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// It succeeded, or answered.
    Done,
    /// It was given up.
    Dead(Reason),
    /// Somebody wanted it gone.
    Cancelled,
}

/// What is durable, as the rules see it. Everything done to it between a beginning and a commit becomes durable as a whole
/// or not at all.
pub trait Table {
    /// What is to be stored of a new item beside what the rules look at.
    type New;
    /// How an item is named outside.
    type Id;
    /// Why the table cannot be read or written.
    type Error;

    /// The item that was accepted under these words, if they are still remembered.
    fn remembered(&mut self, new: &Self::New) -> Result<Option<Self::Id>, Self::Error>;
    /// The ordering key of a new item.
    fn key(new: &Self::New) -> Option<i64>;
    /// Stores it, `behind` another of its key or not, and remembers its words. Nothing is stored if its name is taken.
    fn insert(&mut self, new: Self::New, behind: bool) -> Result<Option<Seq>, Self::Error>;
    /// Reads an item.
    fn item(&mut self, seq: Seq) -> Result<Option<Item>, Self::Error>;
    /// The first item of an ordering key.
    fn first_of_key(&mut self, key: i64) -> Result<Option<Item>, Self::Error>;
    /// Writes `due_ms`, `behind` and `progress`.
    fn change(&mut self, item: &Item) -> Result<(), Self::Error>;
    /// Takes it out, and keeps of it what such an end leaves.
    fn remove(&mut self, item: &Item, end: End) -> Result<(), Self::Error>;
}

/// The comparisons that keep the promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// A word that is remembered accepts nothing new.
    Remembered,
    /// An item that comes behind another of its key waits for it.
    Turn,
    /// An item whose turn has not come is not leased.
    TurnAtLease,
    /// When an item leaves, the next of its key gets its turn.
    NextOfKey,
    /// An item that is leased is not leased again.
    OneLease,
    /// An item is not leased before it is due.
    Due,
    /// An item that is too old is not leased but given up.
    AgeAtLease,
    /// An item is not made to wait for a time at which it is too old.
    AgeAtRetry,
    /// A wish to be asked later does not end what has time left.
    Wish,
    /// Failures of the function are counted.
    Attempts,
    /// A lease of an earlier owner is over.
    Epoch,
    /// A lease that ended is over, though the item may be leased again.
    Number,
    /// What is cancelled is no longer leased.
    CancelEndsLease,
    /// What could not be committed did not happen to the leases either.
    Undo,
}

/// Which guards are in force. Production has [`AllGuards`].
pub trait Guards {
    /// Whether this one is.
    fn on(&self, guard: Guard) -> bool;
}

/// Every guard, at no cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AllGuards;

/// The owner's side of a shard: which items are leased. Times are milliseconds of a clock that never goes back, from any
/// beginning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shard<G = AllGuards> {
    guards: G,
    epoch: u64,
    last_number: u64,
    leases: BTreeMap<Seq, Held>,
    /// What leases were before the changes that are not committed yet, oldest first.
    undo: Vec<(Seq, Option<Held>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    number: u64,
    until: u64,
}

/// What came of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted<Id> {
    /// It is a new item.
    New(Seq),
    /// Its words are remembered from this one.
    Duplicate(Id),
    /// Its name is taken by an item that is still there.
    Taken,
}

/// Why an item was not leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLeased {
    /// It is leased.
    Held,
    /// It is not there any more.
    Gone,
    /// It is not due, or another of its key is ahead.
    NotYet,
    /// It was too old, and has been given up now.
    TooOld,
}

/// How an attempt came out, in the words of whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It ended; the policy decides what follows.
    Ended(Ended),
    /// It can never succeed.
    Refused,
    /// It was not begun; whoever is next may have it at once.
    Release,
}

/// What a verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The item is done.
    Done,
    /// It is due again then, in milliseconds since the Unix epoch.
    Again(u64),
    /// It was given up.
    Dead(Reason),
    /// Nothing: the lease was over.
    Stale,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The lease goes on.
    Yes,
    /// It was over: stop working.
    Over,
}

// === impl AllGuards ===

impl Guards for AllGuards {
    #[inline]
    fn on(&self, _: Guard) -> bool {
        true
    }
}

// === impl Shard ===

impl Shard {
    /// The shard under a new owner. `epoch` must be greater than that of any owner before, and durable.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self::with_guards(AllGuards, epoch)
    }
}

impl<G: Guards> Shard<G> {
    /// The same with guards of one's own.
    #[must_use]
    pub fn with_guards(guards: G, epoch: u64) -> Self {
        Self {
            guards,
            epoch,
            last_number: 0,
            leases: BTreeMap::new(),
            undo: Vec::new(),
        }
    }

    /// Takes a submission in.
    ///
    /// # Errors
    /// Those of the table.
    pub fn accept<T: Table>(
        &mut self,
        table: &mut T,
        new: T::New,
    ) -> Result<Accepted<T::Id>, T::Error> {
        if self.guards.on(Guard::Remembered)
            && let Some(id) = table.remembered(&new)?
        {
            return Ok(Accepted::Duplicate(id));
        }
        let behind = match T::key(&new) {
            Some(key) if self.guards.on(Guard::Turn) => table.first_of_key(key)?.is_some(),
            _ => false,
        };
        Ok(match table.insert(new, behind)? {
            Some(seq) => Accepted::New(seq),
            None => Accepted::Taken,
        })
    }

    /// Leases an item until `until`. `now_ms` is since the Unix epoch.
    ///
    /// # Errors
    /// Those of the table.
    pub fn lease<T: Table>(
        &mut self,
        table: &mut T,
        seq: Seq,
        now_ms: u64,
        until: u64,
    ) -> Result<Result<(Lease, Item), NotLeased>, T::Error> {
        if self.guards.on(Guard::OneLease) && self.leases.contains_key(&seq) {
            return Ok(Err(NotLeased::Held));
        }
        let Some(item) = table.item(seq)? else {
            return Ok(Err(NotLeased::Gone));
        };
        let early = self.guards.on(Guard::Due) && item.due_ms > now_ms;
        if early || self.guards.on(Guard::TurnAtLease) && item.behind {
            return Ok(Err(NotLeased::NotYet));
        }
        if self.guards.on(Guard::AgeAtLease) && now_ms >= item.deadline_ms {
            self.leave(table, &item, End::Dead(Reason::TooOld))?;
            return Ok(Err(NotLeased::TooOld));
        }
        self.last_number += 1;
        let number = self.last_number;
        self.set(seq, Some(Held { number, until }));
        let lease = Lease {
            seq,
            epoch: self.epoch,
            number,
        };
        Ok(Ok((lease, item)))
    }

    /// Lets a lease go on until `until`. Changes nothing durable.
    pub fn renew(&mut self, lease: &Lease, until: u64) -> Renewed {
        if !self.is_live(lease) {
            return Renewed::Over;
        }
        if let Some(held) = self.leases.get_mut(&lease.seq) {
            held.until = until;
        }
        Renewed::Yes
    }

    /// Ends the leases that were not renewed by `now`; their items may be leased again.
    pub fn expire(&mut self, now: u64) -> Vec<Seq> {
        let over: Vec<Seq> = self
            .leases
            .iter()
            .filter(|(_, held)| held.until <= now)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in &over {
            self.set(*seq, None);
        }
        over
    }

    /// Takes what came of an attempt. Under a lease that is over this changes nothing.
    ///
    /// # Errors
    /// Those of the table; then the group is to be undone.
    pub fn settle<T: Table>(
        &mut self,
        table: &mut T,
        lease: &Lease,
        verdict: &Verdict,
        now_ms: u64,
        random: u64,
    ) -> Result<Settled, T::Error> {
        if !self.is_live(lease) {
            return Ok(Settled::Stale);
        }
        let Some(mut item) = table.item(lease.seq)? else {
            return Ok(Settled::Stale);
        };
        let next = match verdict {
            Verdict::Ended(ended) => item.policy.after(
                &self.guards,
                ended,
                item.progress,
                item.deadline_ms,
                now_ms,
                random,
            ),
            Verdict::Refused => Next::Dead(Reason::Refused),
            Verdict::Release => {
                self.set(lease.seq, None);
                return Ok(Settled::Again(item.due_ms));
            }
        };
        Ok(match next {
            Next::Done => {
                self.leave(table, &item, End::Done)?;
                Settled::Done
            }
            Next::Dead(reason) => {
                self.leave(table, &item, End::Dead(reason))?;
                Settled::Dead(reason)
            }
            Next::Again { due_ms, progress } => {
                (item.due_ms, item.progress) = (due_ms, progress);
                table.change(&item)?;
                self.set(lease.seq, None);
                Settled::Again(due_ms)
            }
        })
    }

    /// Takes an item out, leased or not; false if there is none. Whoever works on it finds its lease over.
    ///
    /// # Errors
    /// Those of the table; then the group is to be undone.
    pub fn cancel<T: Table>(&mut self, table: &mut T, seq: Seq) -> Result<bool, T::Error> {
        let Some(item) = table.item(seq)? else {
            return Ok(false);
        };
        let held = self.leases.get(&seq).copied();
        self.leave(table, &item, End::Cancelled)?;
        if !self.guards.on(Guard::CancelEndsLease) {
            self.set(seq, held);
        }
        Ok(true)
    }

    /// Takes out an item of which no more can be read than this.
    ///
    /// # Errors
    /// Those of the table; then the group is to be undone.
    pub fn lose<T: Table>(&mut self, table: &mut T, item: &Item) -> Result<(), T::Error> {
        self.leave(table, item, End::Dead(Reason::Damaged))
    }

    /// What was done since the last commit is durable.
    pub fn committed(&mut self) {
        self.undo.clear();
    }

    /// What was done to the table since the last commit is undone, so the leases are again what they were.
    pub fn undone(&mut self) {
        let undo = std::mem::take(&mut self.undo);
        if !self.guards.on(Guard::Undo) {
            return;
        }
        for (seq, before) in undo.into_iter().rev() {
            match before {
                Some(held) => self.leases.insert(seq, held),
                None => self.leases.remove(&seq),
            };
        }
    }

    /// The epoch of this owner.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    #[cfg(test)]
    pub(super) fn guards(&self) -> &G {
        &self.guards
    }

    /// Whether an item is leased.
    pub fn is_leased(&self, seq: Seq) -> bool {
        self.leases.contains_key(&seq)
    }

    /// How many items are leased.
    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    /// Whether this lease is not over.
    pub fn is_live(&self, lease: &Lease) -> bool {
        let same_owner = !self.guards.on(Guard::Epoch) || lease.epoch == self.epoch;
        same_owner
            && self
                .leases
                .get(&lease.seq)
                .is_some_and(|held| !self.guards.on(Guard::Number) || held.number == lease.number)
    }

    /// Takes an item out and lets the next of its key have its turn.
    fn leave<T: Table>(&mut self, table: &mut T, item: &Item, end: End) -> Result<(), T::Error> {
        table.remove(item, end)?;
        self.set(item.seq, None);
        if let Some(key) = item.key
            && self.guards.on(Guard::NextOfKey)
            && let Some(mut next) = table.first_of_key(key)?
            && next.behind
        {
            next.behind = false;
            table.change(&next)?;
        }
        Ok(())
    }

    fn set(&mut self, seq: Seq, to: Option<Held>) {
        let before = match to {
            Some(held) => self.leases.insert(seq, held),
            None => self.leases.remove(&seq),
        };
        if before.is_some() || to.is_some() {
            self.undo.push((seq, before));
        }
    }
}
