use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::SignedDuration;
use parking_lot::Mutex;
use tidegate_core::schedule::{Missed, Schedule};
use tokio::task::JoinHandle;

use super::*;
use crate::{Fired, Id, Known, State, Unwritten, Wanted};

/// What is durable, and a clock that can be set.
struct World {
    triggers: Mutex<BTreeMap<String, Known>>,
    listener: Mutex<Option<mpsc::Sender<Change>>>,
    began: (Timestamp, Instant),
    set: AtomicI64,
    /// Ticks that were accepted, by key, and how often each came.
    accepted: Mutex<HashMap<String, usize>>,
    /// The same in order, without those that came again.
    order: Mutex<Vec<(String, Timestamp)>>,
    calls: AtomicUsize,
    /// Calls until the next crash: the tick is accepted, and nobody is told.
    crash_in: AtomicUsize,
    crashed: tokio::sync::Notify,
    refuse: Mutex<Option<Refused>>,
    panic_for: Mutex<Option<String>>,
    unwritable: Mutex<bool>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    writes: AtomicUsize,
}

const NEVER: usize = usize::MAX;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    fn at(now: &str) -> Arc<Self> {
        Arc::new(Self {
            triggers: Mutex::default(),
            listener: Mutex::default(),
            began: (time(now), Instant::now()),
            set: AtomicI64::new(0),
            accepted: Mutex::default(),
            order: Mutex::default(),
            calls: AtomicUsize::new(0),
            crash_in: AtomicUsize::new(NEVER),
            crashed: tokio::sync::Notify::new(),
            refuse: Mutex::default(),
            panic_for: Mutex::default(),
            unwritable: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        })
    }

    fn start(self: &Arc<Self>) -> JoinHandle<()> {
        let zones = TimeZoneDatabase::bundled();
        tokio::spawn(run(self.clone(), self.clone(), self.clone(), zones))
    }

    async fn put(&self, name: &str, change: impl FnOnce(&mut Wanted)) {
        let known = {
            let mut triggers = self.triggers.lock();
            let known = triggers.entry(name.to_owned()).or_insert_with(|| Known {
                id: Id {
                    namespace: "default".into(),
                    name: name.into(),
                    uid: format!("uid-{name}").into(),
                },
                made: self.now(),
                wanted: Wanted {
                    schedule: "* * * * *".to_owned(),
                    zone: "UTC".to_owned(),
                    missed: Missed::Once,
                    jitter: Duration::ZERO,
                    paused: false,
                },
                state: State::default(),
            });
            change(&mut known.wanted);
            known.clone()
        };
        self.tell(Change::Put(Box::new(known))).await;
    }

    async fn delete(&self, name: &str) {
        let gone = self.triggers.lock().remove(name).unwrap();
        self.tell(Change::Gone(gone.id)).await;
    }

    async fn tell(&self, change: Change) {
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            // Nobody listens after a crash.
            let _ = listener.send(change).await;
        }
    }

    fn set_clock(&self, by: SignedDuration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        self.set.fetch_add(by, Ordering::Relaxed);
    }

    fn state(&self, name: &str) -> State {
        self.triggers.lock()[name].state.clone()
    }

    /// The ticks of a trigger that were accepted, in the order in which they were.
    fn ticks(&self, name: &str) -> Vec<Timestamp> {
        let order = self.order.lock();
        let of = order.iter().filter(|(trigger, _)| trigger == name);
        of.map(|(_, tick)| *tick).collect()
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.1.elapsed().as_millis()).unwrap();
        let set = self.set.load(Ordering::Relaxed);
        let by = SignedDuration::from_millis(passed + set);
        self.began.0.checked_add(by).unwrap()
    }
}

#[async_trait]
impl Fire for World {
    async fn fire(&self, id: &Id, tick: Tick) -> Result<Fired, Refused> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        let panics = self.panic_for.lock().as_deref() == Some(&*id.name);
        assert!(!panics, "as the test asked");
        if let Some(refused) = self.refuse.lock().clone() {
            return Err(refused);
        }
        let key = tick.key(id);
        let times = {
            let mut accepted = self.accepted.lock();
            let times = accepted.entry(key.clone()).or_default();
            *times += 1;
            *times
        };
        if times == 1 {
            self.order.lock().push((id.name.to_string(), tick.at));
        }
        let left = self.crash_in.load(Ordering::Relaxed);
        if left != NEVER {
            self.crash_in
                .store(left.saturating_sub(1), Ordering::Relaxed);
            if left == 0 {
                self.crashed.notify_one();
                std::future::pending::<()>().await;
            }
        }
        Ok(Fired { invocation: key })
    }
}

#[async_trait]
impl Cursors for World {
    async fn follow(&self, changes: mpsc::Sender<Change>) {
        *self.listener.lock() = Some(changes.clone());
        let all: Vec<Known> = self.triggers.lock().values().cloned().collect();
        let _ = changes.send(Change::Listing).await;
        for known in all {
            let _ = changes.send(Change::Put(Box::new(known))).await;
        }
        let _ = changes.send(Change::Listed).await;
        changes.closed().await;
    }

    async fn write(&self, id: &Id, state: &State) -> Result<(), Unwritten> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if *self.unwritable.lock() {
            return Err(Unwritten("the disk is full".to_owned()));
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let known = {
            let mut triggers = self.triggers.lock();
            let known = triggers.get_mut(&*id.name).filter(|k| k.id.uid == id.uid);
            known.map(|known| {
                known.state = state.clone();
                known.clone()
            })
        };
        if let Some(known) = known {
            // As a store tells of every write.
            self.tell(Change::Put(Box::new(known))).await;
        }
        Ok(())
    }
}

/// Lets time pass: the runtime's clock goes on by itself when nobody has anything to do.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn expected(schedule: &str, after: &str, count: usize) -> Vec<Timestamp> {
    let zones = TimeZoneDatabase::bundled();
    let schedule = Schedule::parse(schedule, "UTC", &zones).unwrap();
    schedule
        .counted_from(time(after))
        .upcoming(time(after), count)
}

const NOON: &str = "2026-11-23T12:00:00Z";

#[tokio::test(start_paused = true)]
async fn ticks_are_acted_on_once_each_and_on_time() {
    let world = World::at(NOON);
    let running = world.start();
    world.put("minutely", |_| {}).await;
    world
        .put("often", |w| w.schedule = "@every 7s".to_owned())
        .await;
    world
        .put("once", |w| {
            w.schedule = "@at 2026-11-23T12:03:00Z".to_owned();
        })
        .await;
    world
        .put("never", |w| {
            w.schedule = "@at 2026-11-22T12:03:00Z".to_owned();
        })
        .await;
    pass(10 * MINUTE + Duration::from_secs(1)).await;
    assert_eq!(world.ticks("minutely"), expected("* * * * *", NOON, 10));
    assert_eq!(world.ticks("often"), expected("@every 7s", NOON, 85));
    assert_eq!(world.ticks("once"), [time("2026-11-23T12:03:00Z")]);
    assert_eq!(world.ticks("never"), []);
    assert!(world.accepted.lock().values().all(|times| *times == 1));
    let state = world.state("minutely");
    assert_eq!((state.fired, state.error.as_str()), (10, ""));
    assert_eq!(state.last_tick, Some(time("2026-11-23T12:10:00Z")));
    let late = state
        .last_tick
        .unwrap()
        .duration_until(state.last_fired.unwrap());
    assert!(late < SignedDuration::from_millis(20), "{late}");
    assert_eq!(state.last_invocation, "uid-minutely@2026-11-23T12:10:00Z");
    running.abort();
}

/// Killed at many points, most of them between acting and writing: each tick comes of it once.
#[tokio::test(start_paused = true)]
async fn restarts_neither_repeat_nor_lose_a_tick() {
    let world = World::at(NOON);
    for (name, schedule) in [("a", "@every 10s"), ("b", "* * * * *"), ("c", "@every 13s")] {
        let change = |wanted: &mut Wanted| {
            wanted.schedule = schedule.to_owned();
            wanted.missed = Missed::All;
        };
        world.put(name, change).await;
    }
    let mut again = 0;
    for round in 0..40_usize {
        world.crash_in.store(round * 7 % 29, Ordering::Relaxed);
        let running = world.start();
        world.crashed.notified().await;
        running.abort();
        let _ = running.await;
        // Down for a while, for longer and longer.
        pass(Duration::from_secs(round as u64)).await;
        again = world
            .accepted
            .lock()
            .values()
            .filter(|times| **times > 1)
            .count();
    }
    world.crash_in.store(NEVER, Ordering::Relaxed);
    let running = world.start();
    pass(MINUTE).await;
    running.abort();
    for (name, schedule) in [("a", "@every 10s"), ("b", "* * * * *"), ("c", "@every 13s")] {
        let ticks = world.ticks(name);
        assert!(ticks.len() > 20, "{name}: {}", ticks.len());
        assert_eq!(ticks, expected(schedule, NOON, ticks.len()), "{name}");
        let after = ticks.last().unwrap().duration_until(world.now());
        assert!(
            after <= SignedDuration::from_secs(61),
            "{name}: the last {after} ago"
        );
    }
    assert!(
        again >= 35,
        "only {again} ticks were acted on before a crash and after it"
    );
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_what_was_missed_is_made_up_for_as_asked() {
    let world = World::at(NOON);
    for missed in [Missed::Skip, Missed::Once, Missed::All] {
        world
            .put(missed.as_str(), |w| {
                (w.schedule, w.missed) = ("@hourly".to_owned(), missed);
            })
            .await;
    }
    pass(5 * HOUR + MINUTE).await;
    let running = world.start();
    pass(MINUTE).await;
    let counts = ["skip", "once", "all"].map(|name| world.ticks(name).len());
    assert_eq!(counts, [0, 1, 5]);
    assert!(world.state("skip").last_missed.is_some());
    assert_eq!(world.state("all").last_missed, None);
    pass(HOUR).await;
    let counts = ["skip", "once", "all"].map(|name| world.ticks(name).len());
    assert_eq!(counts, [1, 2, 6]);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_tried_again_or_given_up() {
    let world = World::at(NOON);
    let running = world.start();
    *world.refuse.lock() = Some(Refused::Later {
        message: "the queue is full".to_owned(),
        after: None,
    });
    world.put("a", |w| w.schedule = "@hourly".to_owned()).await;
    pass(HOUR + 20 * MINUTE).await;
    assert_eq!(world.state("a").error, "the queue is full");
    assert_eq!(world.state("a").fired, 0);
    let calls = world.calls.load(Ordering::Relaxed);
    assert!((20..60).contains(&calls), "{calls} tries in twenty minutes");
    *world.refuse.lock() = None;
    pass(2 * MINUTE).await;
    assert_eq!(world.ticks("a"), [time("2026-11-23T13:00:00Z")]);
    assert_eq!(world.state("a").error, "");
    *world.refuse.lock() = Some(Refused::Never {
        message: "function \"f\" does not exist".to_owned(),
    });
    let before = world.calls.load(Ordering::Relaxed);
    pass(HOUR).await;
    assert_eq!(world.calls.load(Ordering::Relaxed), before + 1);
    assert!(world.state("a").error.contains("does not exist"));
    *world.refuse.lock() = None;
    pass(HOUR).await;
    assert_eq!(world.ticks("a").last(), Some(&time("2026-11-23T15:00:00Z")));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pause_misses_nothing_whether_somebody_looks_or_not() {
    let world = World::at(NOON);
    let running = world.start();
    world.put("a", |w| w.missed = Missed::All).await;
    pass(3 * MINUTE + Duration::from_secs(5)).await;
    world.put("a", |w| w.paused = true).await;
    pass(10 * MINUTE).await;
    assert_eq!(world.ticks("a").len(), 3);
    assert!(world.state("a").paused);
    world.put("a", |w| w.paused = false).await;
    pass(2 * MINUTE).await;
    assert_eq!(world.ticks("a").len(), 5);
    world.put("a", |w| w.paused = true).await;
    pass(MINUTE).await;
    running.abort();
    let _ = running.await;
    // Let go on again while nobody runs.
    pass(10 * MINUTE).await;
    world.put("a", |w| w.paused = false).await;
    let running = world.start();
    pass(Duration::from_secs(2)).await;
    assert_eq!(world.ticks("a").len(), 5);
    pass(MINUTE).await;
    assert_eq!(world.ticks("a").len(), 6);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn another_schedule_begins_when_it_is_seen() {
    let world = World::at(NOON);
    let running = world.start();
    world
        .put("a", |w| {
            (w.schedule, w.missed) = ("@daily".to_owned(), Missed::All);
        })
        .await;
    pass(HOUR + MINUTE).await;
    world
        .put("a", |w| w.schedule = "* * * * *".to_owned())
        .await;
    pass(2 * MINUTE + Duration::from_secs(1)).await;
    assert_eq!(world.ticks("a").len(), 2);
    running.abort();
    let _ = running.await;
    pass(HOUR).await;
    world
        .put("a", |w| w.schedule = "*/2 * * * *".to_owned())
        .await;
    let running = world.start();
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.ticks("a").len(), 2);
    pass(2 * MINUTE).await;
    assert_eq!(world.ticks("a").len(), 3);
    // A zone is a part of it.
    world
        .put("a", |w| {
            (w.schedule, w.zone) = ("0 14 * * *".to_owned(), "UTC".to_owned());
        })
        .await;
    world.put("a", |w| w.zone = "Asia/Tokyo".to_owned()).await;
    pass(24 * HOUR).await;
    assert_eq!(world.ticks("a").last(), Some(&time("2026-11-24T05:00:00Z")));
    // What became no schedule says so, and what it becomes then goes on.
    world.put("a", |w| w.zone = "Nowhere/Land".to_owned()).await;
    pass(MINUTE).await;
    assert!(
        world
            .state("a")
            .error
            .contains("\"Nowhere/Land\" is unknown")
    );
    world
        .put("a", |w| {
            (w.zone, w.schedule) = ("UTC".to_owned(), "* * * * *".to_owned());
        })
        .await;
    let before = world.ticks("a").len();
    pass(2 * MINUTE).await;
    assert_eq!(world.ticks("a").len(), before + 2);
    assert_eq!(world.state("a").error, "");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_trigger_that_is_gone_is_gone_and_one_made_again_is_another() {
    let world = World::at(NOON);
    let running = world.start();
    world.put("a", |_| {}).await;
    pass(2 * MINUTE + Duration::from_secs(1)).await;
    world.delete("a").await;
    pass(5 * MINUTE).await;
    assert_eq!(world.ticks("a").len(), 2);
    world.put("a", |_| {}).await;
    pass(MINUTE).await;
    assert_eq!(world.ticks("a").len(), 3);
    // Gone while changes were lost.
    world.put("b", |_| {}).await;
    world.triggers.lock().remove("a");
    let b = world.triggers.lock()["b"].clone();
    for change in [Change::Listing, Change::Put(Box::new(b)), Change::Listed] {
        world.tell(change).await;
    }
    pass(3 * MINUTE).await;
    assert_eq!((world.ticks("a").len(), world.ticks("b").len()), (3, 3));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn clocks_that_jump_make_no_storm_and_lose_no_timer() {
    const TRIGGERS: usize = 50;
    let world = World::at(NOON);
    let running = world.start();
    for n in 0..TRIGGERS {
        world.put(&format!("t{n}"), |_| {}).await;
    }
    pass(MINUTE + Duration::from_secs(1)).await;
    assert_eq!(world.order.lock().len(), TRIGGERS);
    let year = SignedDuration::from_hours(365 * 24);
    world.set_clock(year);
    pass(2 * LOOK).await;
    // One each, though half a million were missed.
    assert_eq!(world.order.lock().len(), 2 * TRIGGERS);
    pass(3 * MINUTE).await;
    assert_eq!(world.order.lock().len(), 5 * TRIGGERS);
    // Right again: they go on at once, not in a year.
    world.set_clock(-year);
    pass(2 * LOOK).await;
    assert_eq!(world.order.lock().len(), 5 * TRIGGERS);
    pass(3 * MINUTE).await;
    assert_eq!(world.order.lock().len(), 8 * TRIGGERS);
    assert_eq!(world.state("t7").rewinds, 1);
    // A minute back: what ran does not run again.
    world.set_clock(SignedDuration::from_secs(-90));
    pass(80 * LOOK / 5).await;
    assert_eq!(world.order.lock().len(), 8 * TRIGGERS);
    pass(MINUTE).await;
    assert_eq!(world.order.lock().len(), 9 * TRIGGERS);
    assert!(world.accepted.lock().values().all(|times| *times == 1));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_is_written_later_and_nothing_runs_twice() {
    let world = World::at(NOON);
    let running = world.start();
    world.put("a", |_| {}).await;
    pass(Duration::from_secs(10)).await;
    *world.unwritable.lock() = true;
    pass(3 * MINUTE).await;
    assert_eq!(world.ticks("a").len(), 3);
    assert_eq!(world.state("a").fired, 0);
    *world.unwritable.lock() = false;
    pass(2 * MINUTE).await;
    assert_eq!(world.ticks("a").len(), 5);
    assert_eq!(world.state("a").fired, 5);
    assert!(world.accepted.lock().values().all(|times| *times == 1));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_keeps_nobody_else_from_going_on() {
    let world = World::at(NOON);
    let running = world.start();
    *world.panic_for.lock() = Some("bad".to_owned());
    world.put("bad", |_| {}).await;
    world.put("good", |_| {}).await;
    pass(3 * MINUTE + Duration::from_secs(1)).await;
    assert_eq!(
        (world.ticks("bad").len(), world.ticks("good").len()),
        (0, 3)
    );
    *world.panic_for.lock() = None;
    pass(2 * MINUTE).await;
    assert_eq!(world.ticks("good").len(), 5);
    assert!(world.ticks("bad").len() >= 2);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_have_one_timer_each_and_are_acted_on_a_few_at_a_time() {
    const MANY: usize = 10_000;
    let world = World::at(NOON);
    for n in 0..MANY {
        world
            .put(&format!("t{n}"), |w| w.schedule = "@hourly".to_owned())
            .await;
    }
    let running = world.start();
    pass(30 * MINUTE).await;
    let writes = world.writes.load(Ordering::Relaxed);
    assert_eq!(writes, MANY);
    pass(31 * MINUTE).await;
    assert_eq!(world.order.lock().len(), MANY);
    assert_eq!(world.writes.load(Ordering::Relaxed), 2 * MANY);
    assert_eq!(world.most_at_once.load(Ordering::Relaxed), AT_ONCE);
    running.abort();
    let _ = running.await;
    // A restart writes nothing, and acts on nothing a second time.
    let running = world.start();
    pass(10 * MINUTE).await;
    assert_eq!(world.writes.load(Ordering::Relaxed), 2 * MANY);
    assert_eq!(world.order.lock().len(), MANY);
    running.abort();
}

#[test]
fn the_table_grows_with_triggers_and_with_nothing_else() {
    let mut table = Table::new(TimeZoneDatabase::bundled());
    let mut now = time(NOON);
    let known = |n: usize, schedule: &str| Known {
        id: Id {
            namespace: "default".into(),
            name: format!("t{n}").into(),
            uid: format!("u{n}").into(),
        },
        made: time(NOON),
        wanted: Wanted {
            schedule: schedule.to_owned(),
            zone: String::new(),
            missed: Missed::Once,
            jitter: Duration::from_secs(5),
            paused: false,
        },
        state: State::default(),
    };
    for round in 0..50 {
        for n in 0..200 {
            let schedule = if round % 2 == 0 {
                "* * * * *"
            } else {
                "@every 30s"
            };
            table.put(known(n, schedule), now);
        }
        now = now.checked_add(SignedDuration::from_secs(60)).unwrap();
        while let Some(work) = table.due(now) {
            let state = State {
                cursor: work
                    .decision
                    .map_or(work.state.cursor, |d| Some(d.cursor.at)),
                ..work.state
            };
            let worked = Worked {
                epoch: work.epoch,
                written: Some(state.clone()),
                state,
                again: None,
            };
            table.done(work.slot, worked, now);
        }
        table.look_at_all(now);
        assert_eq!(table.sizes(), [200, 200, 200], "round {round}");
    }
    table.listing();
    table.put(known(3, "* * * * *"), now);
    table.listed();
    assert_eq!(table.sizes(), [1, 1, 1]);
    table.gone(&known(3, "").id);
    assert_eq!(table.sizes(), [0, 0, 0]);
}
