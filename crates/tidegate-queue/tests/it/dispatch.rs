//! The dispatcher, with a runner that does as it is told and a clock that is moved by hand.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tidegate_core::Limit;
use tidegate_core::queue::Reason;
use tidegate_core::record::CauseKind;
use tidegate_queue::{
    Allowance, Attempt, Callback, Cancelled, DeadFilter, Destination, DispatchOptions, Dispatcher,
    Ending, Filter, Ran, Rate, Runner, Shown, TimeSource, Work,
};
use tokio::sync::Semaphore;

use crate::*;

/// Longer than any test takes, so that one which waits for nothing fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

// === a clock ===

#[derive(Debug)]
pub(crate) struct Hands(pub(crate) AtomicU64);

impl TimeSource for Hands {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.elapsed_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

// === a runner ===

#[derive(Clone)]
pub(crate) enum Do {
    /// Answers at once.
    At(Ran),
    /// Waits for a permit of the gate first.
    Gate(Ran),
    /// Works for so many milliseconds.
    Work(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    function: String,
    body: String,
    pub(crate) attempt: u32,
    at_ms: u64,
}

pub(crate) struct Fake {
    clock: Arc<Hands>,
    /// By function; what is not here answers at once.
    does: Mutex<HashMap<String, Do>>,
    lanes: Mutex<HashMap<String, Allowance>>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) delivered: Mutex<Vec<(String, Work)>>,
    pub(crate) gate: Semaphore,
    running: AtomicUsize,
    most: AtomicUsize,
    cut: AtomicUsize,
}

/// Counts what runs, and what is dropped before it is over.
struct Call<'a>(&'a Fake, bool);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.cut.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn body(work: &Work) -> String {
    match &work.submission.request.body {
        Body::Inline(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Body::Spooled(_) => String::new(),
    }
}

fn ran(outcome: Outcome, status: Option<u16>, retry_after_ms: Option<u64>) -> Ran {
    let answer = status.map(|status| Answer {
        status,
        headers: vec![("content-type".to_owned(), b"text/plain".to_vec())],
        body: Bytes::from_static(b"what it said"),
    });
    let ended = Ended {
        outcome,
        status,
        retry_after_ms,
    };
    Ran::ended(ended, answer)
}

pub(crate) fn fine() -> Ran {
    ran(Outcome::Ok, Some(200), None)
}

#[async_trait]
impl Runner for Fake {
    async fn run(&self, work: &Work, attempt: Attempt) -> Ran {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let mut call = Call(self, false);
        let name = work.submission.function.name.to_string();
        self.seen.lock().push(Seen {
            function: name.clone(),
            body: body(work),
            attempt: attempt.number,
            at_ms: self.clock.elapsed_ms(),
        });
        let does = self.does.lock().get(&name).cloned();
        let ran = match does.unwrap_or(Do::At(fine())) {
            Do::At(ran) => ran,
            Do::Gate(ran) => {
                self.gate.acquire().await.unwrap().forget();
                ran
            }
            Do::Work(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                fine()
            }
        };
        call.1 = true;
        ran
    }

    async fn deliver(&self, work: &Work, url: &str, _: Attempt) -> Ran {
        self.delivered.lock().push((url.to_owned(), work.clone()));
        fine()
    }

    fn lane(&self, function: &FunctionKey) -> Allowance {
        let all = Allowance {
            concurrency: 1000,
            rate: None,
        };
        *self.lanes.lock().get(&*function.name).unwrap_or(&all)
    }
}

// === both, with a queue ===

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<Hands>,
    pub(crate) fake: Arc<Fake>,
    pub(crate) queue: Queue,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change).await
    }

    pub(crate) async fn at(dir: tempfile::TempDir, change: impl FnOnce(&mut Options)) -> Self {
        let clock = Arc::new(Hands(AtomicU64::new(1000)));
        let mut options = Options::default();
        options.time = Arc::clone(&clock) as Arc<dyn TimeSource>;
        change(&mut options);
        let (queue, _) = open_with(dir.path(), options).await;
        let fake = Arc::new(Fake {
            clock: Arc::clone(&clock),
            does: Mutex::default(),
            lanes: Mutex::default(),
            seen: Mutex::default(),
            delivered: Mutex::default(),
            gate: Semaphore::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
        });
        Self {
            dir,
            clock,
            fake,
            queue,
        }
    }

    pub(crate) fn start(&self) -> Dispatcher {
        self.start_with(64)
    }

    pub(crate) fn start_with(&self, attempts: u32) -> Dispatcher {
        let mut options = DispatchOptions::default();
        options.attempts = attempts;
        let runner = Arc::clone(&self.fake) as Arc<dyn Runner>;
        Dispatcher::start(self.queue.clone(), runner, options)
    }

    pub(crate) fn does(&self, name: &str, does: Do) {
        self.fake.does.lock().insert(name.to_owned(), does);
    }

    pub(crate) fn lane(&self, name: &str, concurrency: u32, rate: Option<(f64, u32)>) {
        let rate = rate.map(|(per_second, burst)| Rate {
            per_second,
            burst: NonZeroU32::new(burst).unwrap(),
        });
        let allowance = Allowance { concurrency, rate };
        self.fake.lanes.lock().insert(name.to_owned(), allowance);
    }

    pub(crate) async fn accept(&self, name: &str, body: &str) -> InvocationId {
        self.queue.accept(submission(name, body)).await.unwrap().id
    }

    pub(crate) fn seen(&self, name: &str) -> Vec<Seen> {
        let seen = self.fake.seen.lock();
        seen.iter()
            .filter(|one| one.function == name)
            .cloned()
            .collect()
    }

    /// Moves the clock, and lets everyone know.
    pub(crate) async fn pass(&self, ms: u64, dispatcher: &Dispatcher) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
        self.queue.tick().await.unwrap();
        dispatcher.changed(None).await;
    }

    /// What could have begun by now has begun: another function's item ran from its acceptance to its end.
    pub(crate) async fn settle_down(&self) {
        let name = format!("barrier-{}", new_id().hyphenated());
        self.accept(&name, "").await;
        until("the barrier", || !self.seen(&name).is_empty()).await;
    }
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn in_namespace(namespace: &str, name: &str, body: &str) -> Submission {
    let mut one = submission(name, body);
    one.function.namespace = namespace.into();
    one
}

// === the tests ===

#[tokio::test]
async fn what_is_accepted_runs_once_and_its_result_is_kept() {
    let bench = Bench::new().await;
    let dispatcher = bench.start();
    let mut one = submission("f", "hello");
    one.keep_result_ms = 60_000;
    let id = bench.queue.accept(one).await.unwrap().id;
    until("it is done", || dispatcher.stats().done == 1).await;
    let finished = bench.queue.result(id).await.unwrap();
    assert!(matches!(finished.ended, Ending::Done(_)), "{finished:?}");
    assert_eq!(finished.answer.unwrap().body, "what it said");
    let seen = bench.seen("f");
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].body.as_str(), seen[0].attempt), ("hello", 1));
    until("nothing is left", || bench.queue.stats().queued == 0).await;
    assert_eq!(bench.queue.at_hand(), (0, 0));
}

#[tokio::test]
async fn slots_are_shared_alike_between_namespaces_and_then_functions_under_ten_times_their_load() {
    let bench = Bench::new().await;
    // Ten times what eight slots do in the time that is looked at, and most of it one namespace's, queued first.
    for n in 0..900 {
        let name = ["greedy-1", "greedy-2"][n % 2];
        bench.does(name, Do::Work(1));
        let one = in_namespace("greedy", name, "");
        bench.queue.accept(one).await.unwrap();
    }
    for n in 0..300 {
        for namespace in ["b", "c"] {
            let name = format!("{namespace}-{}", n % 3);
            bench.does(&name, Do::Work(1));
            let one = in_namespace(namespace, &name, "");
            bench.queue.accept(one).await.unwrap();
        }
    }
    let dispatcher = bench.start_with(8);
    until("enough ran", || bench.fake.seen.lock().len() >= 600).await;
    let first: Vec<Seen> = bench.fake.seen.lock()[..600].to_vec();
    let share = |begin: &str| {
        let ran = first.iter().filter(|seen| seen.function.starts_with(begin));
        ran.count()
    };
    for namespace in ["greedy", "b", "c"] {
        let share = share(namespace);
        assert!((160..=240).contains(&share), "{namespace}: {share} of 600");
    }
    for function in ["greedy-1", "greedy-2"] {
        let share = share(function);
        assert!((75..=125).contains(&share), "{function}: {share} of 200");
    }
    for function in ["b-0", "b-1", "b-2", "c-0", "c-1", "c-2"] {
        let share = share(function);
        assert!((45..=90).contains(&share), "{function}: {share} of 200");
    }
    assert!(bench.fake.most.load(Ordering::SeqCst) <= 8);
    dispatcher.drain(PATIENCE).await;
}

#[tokio::test]
async fn items_of_one_key_run_one_at_a_time_and_in_order() {
    let bench = Bench::new().await;
    bench.does("f", Do::Work(1));
    // One fails in between: its key waits for it, the others do not.
    for n in 0..20 {
        for key in ["a", "b", "c"] {
            let mut one = submission("f", &format!("{key} {n}"));
            one.order_key = Some(key.to_owned());
            bench.queue.accept(one).await.unwrap();
        }
    }
    let dispatcher = bench.start();
    until("all are done", || dispatcher.stats().done == 60).await;
    for key in ["a", "b", "c"] {
        let ran = bench.seen("f");
        let ran: Vec<&str> = ran
            .iter()
            .map(|seen| seen.body.as_str())
            .filter(|body| body.starts_with(key))
            .collect();
        let expected: Vec<String> = (0..20).map(|n| format!("{key} {n}")).collect();
        assert_eq!(ran, expected);
    }
    assert!(bench.fake.most.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn failures_are_tried_again_when_it_is_time_and_no_sooner() {
    let bench = Bench::new().await;
    let dispatcher = bench.start();
    bench.does("f", Do::At(ran(Outcome::Function, None, None)));
    let mut one = submission("f", "");
    one.policy = Policy {
        retries: 2,
        min_delay_ms: 10_000,
        max_delay_ms: 60_000,
        spread: Spread::Exponential,
        ..Policy::default()
    };
    bench.queue.accept(one).await.unwrap();
    until("the first attempt", || dispatcher.stats().retried == 1).await;
    bench.pass(9999, &dispatcher).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("f").len(), 1);
    bench.pass(1, &dispatcher).await;
    until("the second attempt", || dispatcher.stats().retried == 2).await;
    bench.pass(19_999, &dispatcher).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("f").len(), 2);
    bench.pass(1, &dispatcher).await;
    until("it is dead", || dispatcher.stats().dead == 1).await;
    let at: Vec<(u32, u64)> = bench
        .seen("f")
        .iter()
        .map(|s| (s.attempt, s.at_ms))
        .collect();
    assert_eq!(at, [(1, 1000), (2, 11_000), (3, 31_000)]);
}

#[tokio::test]
async fn a_function_that_asks_for_time_gets_it() {
    let bench = Bench::new().await;
    let dispatcher = bench.start();
    let busy = ran(Outcome::Application, Some(503), Some(45_000));
    bench.does("f", Do::At(busy));
    bench.accept("f", "").await;
    until("the first attempt", || dispatcher.stats().retried == 1).await;
    bench.does("f", Do::At(fine()));
    bench.pass(44_999, &dispatcher).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("f").len(), 1);
    bench.pass(1, &dispatcher).await;
    until("it is done", || bench.seen("f").len() == 2).await;
}

#[tokio::test]
async fn throttles_burn_no_attempts_and_end_with_the_greatest_age() {
    let bench = Bench::new().await;
    let dispatcher = bench.start();
    let throttled = ran(Outcome::Limit(Limit::Concurrency), None, None);
    bench.does("f", Do::At(throttled));
    for n in 0..50 {
        let mut one = submission("f", &n.to_string());
        one.policy.retries = 1;
        one.policy.max_age_ms = 120_000;
        one.on_failure = Some(Destination::Url(format!("https://example.org/{n}")));
        bench.queue.accept(one).await.unwrap();
    }
    for _ in 0..65 {
        bench.pass(2000, &dispatcher).await;
        bench.settle_down().await;
    }
    until("all who asked are told", || {
        bench.fake.delivered.lock().len() == 50
    })
    .await;
    let page = bench.queue.dead(DeadFilter::default(), None, 100).await;
    let letters = page.unwrap().items;
    assert_eq!(letters.len(), 50);
    for letter in &letters {
        assert_eq!((letter.reason, letter.failures), (Reason::TooOld, 0));
    }
    // A function that is throttled is asked now and then, not for each of its items every time.
    let asked = bench.seen("f").len();
    assert!((10..=200).contains(&asked), "{asked}");
}

#[tokio::test]
async fn what_always_fails_is_a_dead_letter_and_those_who_asked_are_told() {
    let bench = Bench::new().await;
    let dispatcher = bench.start();
    bench.does(
        "f",
        Do::At(ran(Outcome::Function, Some(500), None).because("boom")),
    );
    let mut one = submission("f", "the question");
    one.on_success = Some(Destination::Url("https://example.org/never".to_owned()));
    one.on_failure = Some(Destination::Function(function("undertaker")));
    one.callback = Some(Callback {
        url: "https://example.org/back".to_owned(),
    });
    let id = bench.queue.accept(one).await.unwrap().id;
    for _ in 0..3 {
        bench.settle_down().await;
        bench.pass(10, &dispatcher).await;
    }
    until("both are told", || {
        !bench.seen("undertaker").is_empty() && !bench.fake.delivered.lock().is_empty()
    })
    .await;
    assert_eq!(bench.seen("f").len(), 3);
    let Ok(Shown::Dead(letter)) = bench.queue.show(id).await else {
        panic!("it is not among the dead letters");
    };
    assert_eq!((letter.reason, letter.failures), (Reason::Failed, 2));
    assert_eq!(letter.finished.message.as_deref(), Some("boom"));

    let told: serde_json::Value = serde_json::from_str(&bench.seen("undertaker")[0].body).unwrap();
    assert_eq!(told["id"], id.hyphenated());
    assert_eq!(told["outcome"], "function");
    assert_eq!(told["attempts"], 3);
    assert_eq!(told["request"]["body"], "the question");
    assert_eq!(told["answer"]["body"], "what it said");
    let (url, work) = bench.fake.delivered.lock()[0].clone();
    assert_eq!(url, "https://example.org/back");
    assert_eq!(body(&work), "what it said");
    assert_eq!(work.submission.depth, 1);
    let cause = work.submission.cause;
    assert_eq!(
        (cause.kind, cause.parent),
        (CauseKind::Destination, Some(id))
    );
    assert_eq!(bench.fake.delivered.lock().len(), 1);
}

#[tokio::test]
async fn a_delivery_waits_for_no_backlog_of_its_function() {
    let bench = Bench::new().await;
    bench.does("f", Do::Gate(fine()));
    let mut first = submission("f", "");
    first.on_success = Some(Destination::Url("https://example.org/done".to_owned()));
    bench.queue.accept(first).await.unwrap();
    for _ in 0..100 {
        bench.accept("f", "").await;
    }
    bench.lane("f", 1, None);
    let dispatcher = bench.start();
    bench.fake.gate.add_permits(1);
    until("it is told", || bench.fake.delivered.lock().len() == 1).await;
    assert!(bench.seen("f").len() <= 2);
    let page = bench.queue.list(Filter::All, None, 1000).await.unwrap();
    assert!(
        page.items
            .iter()
            .all(|entry| entry.function == function("f"))
    );
    bench.fake.gate.add_permits(1000);
    until("all are done", || dispatcher.stats().done == 102).await;
}

#[tokio::test]
async fn an_answer_after_the_lease_ended_changes_nothing() {
    let bench = Bench::new().await;
    bench.does("f", Do::Gate(ran(Outcome::Function, None, None)));
    bench.accept("f", "").await;
    // Leases are held by somebody who neither renews them nor is told: another dispatcher would not be allowed.
    let taken = take_one(&bench.queue, "f").await;
    bench.clock.0.fetch_add(61_000, Ordering::SeqCst);
    bench.queue.tick().await.unwrap();
    let dispatcher = bench.start();
    until("it runs again", || bench.seen("f").len() == 1).await;
    let late = bench
        .queue
        .settle(settlement(&taken, ended(Outcome::Ok)))
        .await;
    assert_eq!(late.unwrap(), Settled::Stale);
    assert_eq!(bench.queue.stats().queued, 1);
    bench.does("f", Do::At(fine()));
    bench.fake.gate.add_permits(1);
    until("it failed once", || dispatcher.stats().retried == 1).await;
    bench.pass(10, &dispatcher).await;
    until("it is done", || dispatcher.stats().done == 1).await;
}

#[tokio::test]
async fn leases_go_on_while_the_work_does() {
    let bench = Bench::new().await;
    bench.does("f", Do::Gate(fine()));
    bench.accept("f", "").await;
    let dispatcher = bench.start();
    until("it runs", || bench.seen("f").len() == 1).await;
    // Ten times as long as a lease is held, in steps in which the dispatcher is awake.
    for _ in 0..60 {
        bench.pass(5000, &dispatcher).await;
        bench.settle_down().await;
    }
    bench.fake.gate.add_permits(1);
    until("it is done", || bench.queue.stats().queued == 0).await;
    assert_eq!(bench.seen("f").len(), 1);
    assert_eq!((dispatcher.stats().stale, dispatcher.stats().cut), (0, 0));
}

#[tokio::test]
async fn what_is_cancelled_while_it_runs_is_cut_off() {
    let bench = Bench::new().await;
    bench.does("f", Do::Gate(fine()));
    bench.lane("f", 1, None);
    let (running, waiting) = (bench.accept("f", "1").await, bench.accept("f", "2").await);
    let dispatcher = bench.start();
    until("one runs", || bench.seen("f").len() == 1).await;
    let cancelled = bench.queue.cancel(waiting).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Waiting | Cancelled::Running));
    assert_eq!(
        bench.queue.cancel(running).await.unwrap(),
        Cancelled::Running
    );
    until("the call ended", || {
        bench.fake.cut.load(Ordering::SeqCst) == 1
    })
    .await;
    until("it is counted", || dispatcher.stats().cut == 1).await;
    until("nothing is left", || bench.queue.stats().queued == 0).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("f").len(), 1);
}

#[tokio::test]
async fn concurrency_rate_and_pause_of_a_function_are_kept() {
    let bench = Bench::new().await;
    bench.lane("three", 3, None);
    bench.does("three", Do::Gate(fine()));
    bench.lane("rated", 100, Some((2.0, 4)));
    bench.lane("paused", 0, None);
    for name in ["three", "rated", "paused"] {
        for _ in 0..12 {
            bench.accept(name, "").await;
        }
    }
    let dispatcher = bench.start();
    until("three run", || bench.seen("three").len() == 3).await;
    until("the burst ran", || bench.seen("rated").len() == 4).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("three").len(), 3);
    assert_eq!(bench.seen("rated").len(), 4);
    assert_eq!(bench.seen("paused").len(), 0);
    bench.pass(1000, &dispatcher).await;
    until("two more by rate", || bench.seen("rated").len() == 6).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("rated").len(), 6);

    bench.lane("paused", 10, None);
    dispatcher.changed(Some(&function("paused"))).await;
    until("it goes on", || bench.seen("paused").len() == 12).await;
    // What is paused while it has some leased ahead gives them back.
    bench.lane("three", 0, None);
    dispatcher.changed(Some(&function("three"))).await;
    bench.fake.gate.add_permits(100);
    let leased = || {
        let lanes = bench.queue.lanes(None, 100);
        let three = lanes.iter().find(|lane| lane.function == function("three"));
        three.unwrap().leased
    };
    until("nothing of it is leased", || leased() == 0).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("three").len(), 3);
}

#[tokio::test]
async fn delays_are_kept() {
    let bench = Bench::new().await;
    let dispatcher = bench.start();
    let mut later = submission("f", "later");
    later.due_ms = bench.queue.now_ms() + 3_600_000;
    bench.queue.accept(later).await.unwrap();
    bench.accept("f", "now").await;
    until("one ran", || bench.seen("f").len() == 1).await;
    bench.pass(3_599_999, &dispatcher).await;
    bench.settle_down().await;
    assert_eq!(bench.seen("f").len(), 1);
    bench.pass(1, &dispatcher).await;
    until("both ran", || bench.seen("f").len() == 2).await;
    assert_eq!(bench.seen("f")[1].body, "later");
}

#[tokio::test]
async fn memory_holds_little_of_a_long_queue() {
    let bench = Bench::new().await;
    bench.does("f", Do::Gate(fine()));
    let dispatcher = bench.start_with(16);
    let text = "x".repeat(10_000);
    let accepts = (0..3000).map(|_| bench.accept("f", &text));
    stream::iter(accepts).buffer_unordered(64).count().await;
    until("all slots are in use", || dispatcher.stats().running == 16).await;
    let (items, bytes) = bench.queue.at_hand();
    assert!(
        bytes <= 16 * 1024 * 1024 && items <= 1700,
        "{items} {bytes}"
    );
    let stats = dispatcher.stats();
    assert!(stats.ready <= 64 && stats.functions <= 2, "{stats:?}");
    assert_eq!(bench.queue.stats().queued, 3000);
    bench.fake.gate.add_permits(3000);
    until("all are done", || dispatcher.stats().done == 3000).await;
    assert_eq!(bench.seen("f").len(), 3000);
    assert_eq!(bench.queue.at_hand(), (0, 0));
    until("it is forgotten", || dispatcher.stats().functions == 0).await;
}

#[tokio::test]
async fn a_rate_is_kept_for_calls_that_come_one_by_one() {
    let bench = Bench::new().await;
    bench.lane("rated", 10, Some((2.0, 2)));
    let dispatcher = bench.start();
    for ran in 1..=2 {
        bench.accept("rated", "").await;
        until("it is done", || dispatcher.stats().done == ran).await;
    }
    bench.accept("rated", "").await;
    bench.settle_down().await;
    assert_eq!(bench.seen("rated").len(), 2);
    bench.pass(500, &dispatcher).await;
    until("time makes it one more", || bench.seen("rated").len() == 3).await;
    // And is forgotten when it could begin all again.
    bench.pass(1000, &dispatcher).await;
    until("it is forgotten", || dispatcher.stats().functions == 0).await;
}

#[tokio::test]
async fn a_drain_lets_what_runs_end_and_leaves_the_rest_queued() {
    let bench = Bench::new().await;
    bench.does("quick", Do::Gate(fine()));
    bench.does("endless", Do::Gate(fine()));
    bench.lane("quick", 2, None);
    for _ in 0..5 {
        bench.accept("quick", "").await;
    }
    let dispatcher = bench.start();
    until("two run", || bench.seen("quick").len() == 2).await;
    until("some are ahead", || dispatcher.stats().ready > 0).await;
    let drained = async {
        until("it is drained", || dispatcher.stats().ready == 0).await;
        bench.fake.gate.add_permits(2);
    };
    let (drained, ()) = tokio::join!(dispatcher.drain(PATIENCE), drained);
    assert_eq!(drained.cut, 0);
    assert_eq!(bench.seen("quick").len(), 2);
    let left = 3;
    assert_eq!(bench.queue.stats().queued, left);
    assert_eq!(bench.queue.stats().leased, 0);

    // The next one goes on, and is cut off in turn.
    bench.lane("quick", 0, None);
    bench.accept("endless", "").await;
    let dispatcher = bench.start();
    until("it runs", || bench.seen("endless").len() == 1).await;
    let drained = dispatcher.drain(Duration::ZERO).await;
    assert_eq!(drained.cut, 1);
    assert_eq!(bench.fake.cut.load(Ordering::SeqCst), 1);
    let stats = bench.queue.stats();
    assert_eq!((stats.queued, stats.leased), (left + 1, 0));
}
