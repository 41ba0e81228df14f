//! Walks through every order of events within small bounds, and checks the promises after each.
//!
//! The world has a durable table, an owner that may crash and come back with a new epoch, commits that fail, workers that
//! answer late or twice, time that passes, and somebody who cancels. What should be true is kept beside it in *ghosts*,
//! which the rules cannot see. With all guards no order of events breaks a promise; with any one of them switched off some
//! order does, so none is there for show.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::*;
use crate::{Limit, Outcome};

/// More worlds than this mean that a bound is missing.
const MOST_WORLDS: usize = 1_000_000;

/// What is submitted, and how far the walk goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    senders: Vec<New>,
    /// The greatest age; time ends one tick later.
    ticks: u64,
    retries: u32,
    /// Leases in all.
    leases: u64,
    /// Owners, one after another.
    epochs: u64,
    /// Commits that fail.
    failed_commits: u8,
    /// Cancellations.
    cancels: u8,
}

/// Switches one guard off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Without(Option<Guard>);

impl Guards for Without {
    fn on(&self, guard: Guard) -> bool {
        self.0 != Some(guard)
    }
}

/// What breaks without each guard, shortest way first.
const GUARDS: [(Guard, &str); 14] = [
    (Guard::Remembered, "one word was accepted twice"),
    (
        Guard::Turn,
        "leased before one of its key that came earlier",
    ),
    (
        Guard::TurnAtLease,
        "leased before one of its key that came earlier",
    ),
    (Guard::NextOfKey, "waits for a turn that never comes"),
    (Guard::OneLease, "two live leases of one item"),
    (Guard::Due, "leased before it was due"),
    (Guard::AgeAtLease, "leased though too old"),
    (Guard::AgeAtRetry, "waits for a time at which it is too old"),
    (Guard::Wish, "given up though there was time"),
    (Guard::Attempts, "failed more often than the policy allows"),
    (
        Guard::Epoch,
        "an answer under a lease that was over counted",
    ),
    (
        Guard::Number,
        "an answer under a lease that was over counted",
    ),
    (Guard::CancelEndsLease, "is leased and gone"),
    (Guard::Undo, "two live leases of one item"),
];

type Name = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct New {
    name: Name,
    word: Option<u8>,
    key: Option<i64>,
    due_ms: u64,
}

/// The durable side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Stored {
    items: BTreeMap<Seq, (Name, Item)>,
    last: Seq,
    words: BTreeMap<u8, Name>,
    ends: BTreeMap<Name, Vec<End>>,
    policy: Policy,
}

impl Table for Stored {
    type New = New;
    type Id = Name;
    type Error = ();

    fn remembered(&mut self, new: &New) -> Result<Option<Name>, ()> {
        Ok(new.word.and_then(|word| self.words.get(&word).copied()))
    }

    fn key(new: &New) -> Option<i64> {
        new.key
    }

    fn insert(&mut self, new: New, behind: bool) -> Result<Option<Seq>, ()> {
        if self.items.values().any(|(name, _)| *name == new.name) {
            return Ok(None);
        }
        self.last += 1;
        let policy = self.policy;
        let item = Item {
            seq: self.last,
            due_ms: new.due_ms,
            behind,
            deadline_ms: policy.deadline_ms(new.due_ms),
            key: new.key,
            progress: Progress::default(),
            policy,
        };
        self.items.insert(self.last, (new.name, item));
        if let Some(word) = new.word {
            self.words.insert(word, new.name);
        }
        Ok(Some(self.last))
    }

    fn item(&mut self, seq: Seq) -> Result<Option<Item>, ()> {
        Ok(self.items.get(&seq).map(|(_, item)| item.clone()))
    }

    fn first_of_key(&mut self, key: i64) -> Result<Option<Item>, ()> {
        let mut items = self.items.values().map(|(_, item)| item);
        Ok(items.find(|item| item.key == Some(key)).cloned())
    }

    fn change(&mut self, item: &Item) -> Result<(), ()> {
        self.items.get_mut(&item.seq).unwrap().1 = item.clone();
        Ok(())
    }

    fn remove(&mut self, item: &Item, end: End) -> Result<(), ()> {
        let (name, _) = self.items.remove(&item.seq).unwrap();
        if end == End::Cancelled {
            self.words.retain(|_, remembered| *remembered != name);
        }
        self.ends.entry(name).or_default().push(end);
        Ok(())
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    bounds: Rc<Bounds>,
    table: Stored,
    shard: Shard<Without>,
    now: u64,
    /// Submissions that were not answered yet.
    senders: Vec<New>,
    /// Workers: what they hold, and until when they believe to.
    workers: BTreeMap<Lease, u64>,
    ghosts: Ghosts,
}

/// What is true, whatever the rules think.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Ghosts {
    /// Answered with yes.
    accepted: BTreeSet<Name>,
    /// Of those, which word brought them.
    by_word: BTreeMap<u8, u8>,
    /// The leases that are not over.
    current: BTreeMap<Seq, Lease>,
    /// Failures of the function that were settled.
    failures: BTreeMap<Seq, u32>,
    leases: u64,
    failed_commits: u8,
    cancels: u8,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Accept(usize),
    Lease(Seq),
    Settle(Lease, Verdict),
    Renew(Lease),
    Expire,
    Cancel(Seq),
    Crash,
    Tick,
}

struct Step {
    event: Event,
    committed: bool,
    before: Option<Rc<Step>>,
}

fn ended(outcome: Outcome) -> Verdict {
    Verdict::Ended(Ended {
        outcome,
        status: None,
        retry_after_ms: None,
    })
}

/// A failure of a function that wants to be left alone for longer than there is time.
fn asked() -> Verdict {
    Verdict::Ended(Ended {
        outcome: Outcome::Function,
        status: None,
        retry_after_ms: Some(u64::MAX),
    })
}

impl World {
    fn new(bounds: &Bounds, without: Option<Guard>) -> Self {
        let policy = Policy {
            retries: bounds.retries,
            min_delay_ms: 1,
            max_delay_ms: 1,
            spread: Spread::Exponential,
            retried: Retried::default(),
            max_age_ms: bounds.ticks,
        };
        Self {
            table: Stored {
                policy,
                ..Stored::default()
            },
            shard: Shard::with_guards(Without(without), 1),
            now: 0,
            senders: bounds.senders.clone(),
            workers: BTreeMap::new(),
            ghosts: Ghosts::default(),
            bounds: Rc::new(bounds.clone()),
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events: Vec<Event> = (0..self.senders.len()).map(Event::Accept).collect();
        if self.ghosts.leases < self.bounds.leases {
            events.extend(self.table.items.keys().map(|seq| Event::Lease(*seq)));
        }
        for lease in self.workers.keys() {
            for verdict in [
                ended(Outcome::Ok),
                ended(Outcome::Function),
                ended(Outcome::Limit(Limit::Capacity)),
                Verdict::Refused,
                Verdict::Release,
            ] {
                events.push(Event::Settle(*lease, verdict));
            }
            // In a shorter world no time is left after a failure.
            if self.bounds.ticks > 1 {
                events.push(Event::Settle(*lease, asked()));
            }
            events.push(Event::Renew(*lease));
        }
        if self.ghosts.cancels < self.bounds.cancels {
            events.extend(self.table.items.keys().map(|seq| Event::Cancel(*seq)));
        }
        events.push(Event::Expire);
        if self.shard.epoch() < self.bounds.epochs {
            events.push(Event::Crash);
        }
        if self.now <= self.bounds.ticks {
            events.push(Event::Tick);
        }
        events
    }

    /// Does it; `commits` says whether what it writes becomes durable. What broke, if a promise did.
    fn step(&mut self, event: Event, commits: bool) -> Result<(), String> {
        let before = self.table.clone();
        let durable = |world: &mut Self| {
            if commits {
                world.shard.committed();
            } else {
                world.ghosts.failed_commits += 1;
                world.table = before.clone();
                world.shard.undone();
            }
            commits
        };
        match event {
            Event::Accept(at) => {
                let new = self.senders[at];
                let accepted = self.shard.accept(&mut self.table, new).unwrap();
                if durable(self) {
                    self.senders.remove(at);
                    if matches!(accepted, Accepted::New(_)) {
                        self.ghosts.accepted.insert(new.name);
                        if let Some(word) = new.word {
                            *self.ghosts.by_word.entry(word).or_default() += 1;
                        }
                    }
                }
            }
            Event::Lease(seq) => {
                let until = self.now + 1;
                let item = self.table.items[&seq].1.clone();
                let leased = self
                    .shard
                    .lease(&mut self.table, seq, self.now, until)
                    .unwrap();
                if !durable(self) {
                    return self.check();
                }
                if let Ok((lease, _)) = leased {
                    self.ghosts.leases += 1;
                    self.ghosts.current.insert(seq, lease);
                    self.workers.insert(lease, until);
                    if item.due_ms > self.now {
                        return Err("leased before it was due".to_owned());
                    }
                    if item.deadline_ms <= self.now {
                        return Err("leased though too old".to_owned());
                    }
                    let mut others = self.table.items.range(..seq);
                    if item.key.is_some() && others.any(|(_, (_, other))| other.key == item.key) {
                        return Err("leased before one of its key that came earlier".to_owned());
                    }
                }
            }
            Event::Settle(lease, verdict) => {
                let current = self.ghosts.current.get(&lease.seq) == Some(&lease);
                let settled = self
                    .shard
                    .settle(&mut self.table, &lease, &verdict, self.now, 0)
                    .unwrap();
                let changed = self.table != before;
                if !durable(self) {
                    return self.check();
                }
                self.workers.remove(&lease);
                if !current {
                    if changed || settled != Settled::Stale {
                        return Err("an answer under a lease that was over counted".to_owned());
                    }
                    return self.check();
                }
                if settled == Settled::Stale {
                    return Err("an answer under a live lease did not count".to_owned());
                }
                self.ghosts.current.remove(&lease.seq);
                let policy = self.table.policy;
                let again = self.now + policy.max_delay_ms;
                let deadline = before.items[&lease.seq].1.deadline_ms;
                if settled == Settled::Dead(Reason::TooOld) && again < deadline {
                    return Err("given up though there was time".to_owned());
                }
                if verdict == ended(Outcome::Function) || verdict == asked() {
                    let failures = self.ghosts.failures.entry(lease.seq).or_default();
                    *failures += 1;
                    if *failures > self.bounds.retries + 1 {
                        return Err("failed more often than the policy allows".to_owned());
                    }
                }
            }
            Event::Renew(lease) => {
                let current = self.ghosts.current.get(&lease.seq) == Some(&lease);
                match self.shard.renew(&lease, self.now + 1) {
                    Renewed::Yes if current => {
                        self.workers.insert(lease, self.now + 1);
                    }
                    Renewed::Yes => return Err("a lease that was over was renewed".to_owned()),
                    Renewed::Over if current => {
                        return Err("a live lease was not renewed".to_owned());
                    }
                    Renewed::Over => {
                        self.workers.remove(&lease);
                    }
                }
            }
            Event::Expire => {
                for seq in self.shard.expire(self.now) {
                    self.ghosts.current.remove(&seq);
                }
                self.shard.committed();
            }
            Event::Cancel(seq) => {
                let name = self.table.items[&seq].0;
                self.shard.cancel(&mut self.table, seq).unwrap();
                if durable(self) {
                    // Whoever cancels it may send its word again.
                    let mut sent = self.bounds.senders.iter();
                    let sent = sent.find(|new| new.name == name);
                    if let Some(word) = sent.and_then(|new| new.word) {
                        self.ghosts.by_word.remove(&word);
                    }
                    self.ghosts.cancels += 1;
                    self.ghosts.current.remove(&seq);
                }
            }
            Event::Crash => {
                self.shard = Shard::with_guards(*self.shard.guards(), self.shard.epoch() + 1);
                self.ghosts.current.clear();
            }
            Event::Tick => self.now += 1,
        }
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        for name in &self.ghosts.accepted {
            let waiting = self.table.items.values().any(|(other, _)| other == name);
            let ends = self.table.ends.get(name).map_or(0, Vec::len);
            if usize::from(waiting) + ends != 1 {
                return Err(format!(
                    "{name} is there: {waiting}, and ended {ends} times"
                ));
            }
        }
        if self.ghosts.by_word.values().any(|count| *count > 1) {
            return Err("one word was accepted twice".to_owned());
        }
        let mut live = BTreeSet::new();
        for (lease, until) in &self.workers {
            let believes = lease.epoch == self.shard.epoch() && *until > self.now;
            let item = self.table.items.contains_key(&lease.seq);
            if believes && item && !live.insert(lease.seq) {
                return Err("two live leases of one item".to_owned());
            }
        }
        let mut keys = BTreeSet::new();
        for (seq, (_, item)) in &self.table.items {
            if let Some(key) = item.key
                && keys.insert(key)
                && item.behind
            {
                return Err(format!("{seq} waits for a turn that never comes"));
            }
            if item.due_ms >= item.deadline_ms {
                return Err(format!("{seq} waits for a time at which it is too old"));
            }
        }
        let leased = (1..=self.table.last).filter(|seq| self.shard.is_leased(*seq));
        for seq in leased {
            if !self.table.items.contains_key(&seq) {
                return Err(format!("{seq} is leased and gone"));
            }
        }
        Ok(())
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// How many worlds there are, or the shortest way to one in which a promise is broken.
fn explore(bounds: &Bounds, without: Option<Guard>) -> Result<usize, String> {
    let first = World::new(bounds, without);
    // Worlds are told apart by 64 bits: with a few hundred thousand of them a collision is one in a hundred million.
    let mut seen = HashSet::from([first.fingerprint()]);
    let mut open: VecDeque<(World, Option<Rc<Step>>)> = VecDeque::from([(first, None)]);
    while let Some((world, way)) = open.pop_front() {
        for event in world.events() {
            let writes = !matches!(
                event,
                Event::Renew(_) | Event::Expire | Event::Crash | Event::Tick
            );
            let may_fail = writes && world.ghosts.failed_commits < bounds.failed_commits;
            for commits in [true, false] {
                if !commits && !may_fail {
                    continue;
                }
                let mut next = world.clone();
                let result = next.step(event, commits);
                let step = Rc::new(Step {
                    event,
                    committed: commits,
                    before: way.clone(),
                });
                if let Err(broken) = result {
                    return Err(format!("{broken}:{}", tell(&step)));
                }
                if seen.insert(next.fingerprint()) {
                    assert!(seen.len() < MOST_WORLDS, "a bound is missing");
                    open.push_back((next, Some(step)));
                }
            }
        }
    }
    Ok(seen.len())
}

fn tell(step: &Rc<Step>) -> String {
    let (mut steps, mut at) = (Vec::new(), Some(step));
    while let Some(step) = at {
        let failed = if step.committed { "" } else { ", commit fails" };
        steps.push(format!("\n  {:?}{failed}", step.event));
        at = step.before.as_ref();
    }
    steps.into_iter().rev().collect()
}

fn submission(name: Name) -> New {
    New {
        name,
        word: None,
        key: None,
        due_ms: 0,
    }
}

/// Small worlds that together have everything in them.
fn scenarios() -> Vec<Bounds> {
    let keyed = |name| New {
        key: Some(7),
        ..submission(name)
    };
    let worded = |name| New {
        word: Some(1),
        ..submission(name)
    };
    let later = New {
        due_ms: 1,
        ..submission(1)
    };
    let two = |one, other| Bounds {
        senders: vec![one, other],
        ticks: 1,
        retries: 0,
        leases: 2,
        epochs: 2,
        failed_commits: 1,
        cancels: 1,
    };
    let alone = |one| Bounds {
        senders: vec![one],
        ticks: 3,
        retries: 1,
        leases: 3,
        epochs: 2,
        failed_commits: 1,
        cancels: 1,
    };
    // The smallest first: most guards are missed there already.
    vec![
        two(worded(1), worded(2)),
        two(keyed(1), keyed(2)),
        alone(later),
        alone(submission(1)),
        two(submission(1), submission(2)),
    ]
}

#[test]
fn no_order_of_events_breaks_a_promise() {
    let mut worlds = 0;
    for bounds in scenarios() {
        let found = explore(&bounds, None).unwrap_or_else(|broken| panic!("{broken}"));
        worlds += found;
    }
    assert!(worlds > 20_000, "only {worlds} worlds");
}

#[test]
fn without_any_one_guard_some_order_does() {
    for (guard, promise) in GUARDS {
        let found = scenarios()
            .iter()
            .find_map(|bounds| explore(bounds, Some(guard)).err());
        let broken = found.unwrap_or_else(|| panic!("{guard:?} guards nothing"));
        let (what, _) = broken.split_once(":\n").unwrap();
        assert!(what.ends_with(promise), "without {guard:?}: {broken}");
    }
}
