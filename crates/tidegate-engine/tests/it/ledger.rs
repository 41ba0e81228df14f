//! What the ledger is told of calls: each once, and all that there is to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_contract::Body;
use tidegate_core::record::{Cause, CauseKind, ColdStart, Used};
use tidegate_core::{FunctionKey, FunctionSpec, Limit, Outcome};
use tidegate_engine::{
    Account, Ended, Failure, Function, Ledger, LogLine, NoLedger, Spent, new_id,
};
use tidegate_instance::{LogSink as _, LogStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::fake::FakeInstance;
use crate::world::{World, arriving, context, failure, get, options, post, read, revision, until};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Remembers everything.
#[derive(Default)]
struct Notes {
    ended: Mutex<Vec<Ended>>,
    lines: Mutex<Vec<String>>,
    idle_us: AtomicU64,
    cpu_us: AtomicU64,
    refusing: AtomicBool,
}

struct Noting(Arc<Notes>);

impl Ledger for Noting {
    fn account(&self, _: &Arc<FunctionKey>) -> Arc<dyn Account> {
        Arc::new(Self(self.0.clone()))
    }
}

impl Account for Noting {
    fn admit(&self) -> Result<(), Failure> {
        match self.0.refusing.load(Ordering::SeqCst) {
            true => Err(Failure::busy(Limit::Quota, "all is used up".to_owned())),
            false => Ok(()),
        }
    }

    fn ended(&self, ended: Ended) {
        self.0.cpu_us.fetch_add(ended.cpu_us, Ordering::SeqCst);
        self.0.ended.lock().push(ended);
    }

    fn line(&self, line: &LogLine) {
        self.0.lines.lock().push(line.text.to_string());
    }

    fn spent(&self, spent: Spent) {
        self.0.cpu_us.fetch_add(spent.cpu_us, Ordering::SeqCst);
        let idle = spent.idle.as_micros() as u64;
        self.0.idle_us.fetch_add(idle, Ordering::SeqCst);
    }
}

impl Notes {
    /// What was told last, which must be all that there is to tell.
    fn only(&self) -> Ended {
        let ended = self.ended.lock();
        assert_eq!(ended.len(), 1, "{ended:#?}");
        ended[0].clone()
    }

    fn take(&self) -> Vec<Ended> {
        std::mem::take(&mut self.ended.lock())
    }
}

fn world(change: impl FnOnce(&mut FunctionSpec)) -> (World, Arc<Function>, Arc<Notes>) {
    let notes = Arc::<Notes>::default();
    let world = World::kept_by(Arc::new(Noting(notes.clone())), options());
    world.fake.counting.store(true, Ordering::SeqCst);
    let function = world.install("f", revision("r1", change));
    (world, function, notes)
}

fn works(instance: &FakeInstance, us: u64) {
    instance.cpu_us.fetch_add(us, Ordering::SeqCst);
}

#[tokio::test(start_paused = true)]
async fn a_call_leaves_all_that_there_is_to_tell_before_its_caller_knows_its_end() {
    let (world, f, notes) = world(|spec| spec.limits.memory = 1 << 27);
    let parent = new_id();
    let mut context = context();
    context.cause = Cause {
        kind: CauseKind::Function,
        parent: Some(parent),
        ..Cause::default()
    };
    let id = context.id;
    let mut request = post("/echo", "hello");
    let headers = request.headers_mut();
    headers.insert("traceparent", TRACEPARENT.parse().unwrap());
    let response = world.engine.call(&f, request, context).await.unwrap();
    assert_eq!(read(response).await.unwrap(), "hello");

    let Ended {
        record, admitted, ..
    } = notes.only();
    assert!(admitted);
    assert_eq!(record.id, id);
    assert_eq!(record.cause.parent, Some(parent));
    let trace = record.trace.unwrap();
    assert_eq!(trace.parent, 0xb7ad_6b71_6920_3331);
    assert_eq!(&*record.revision, "r1");
    assert_eq!(*record.function, *f.key());
    assert_eq!((record.outcome, record.status), (Outcome::Ok, Some(200)));
    assert_eq!((record.bytes_in, record.bytes_out), (5, 5));
    assert_eq!(record.memory_limit, 1 << 27);
    assert_eq!(record.instance.unwrap().0, world.fake.only().number());
    let cold = ColdStart {
        sandbox_us: 1,
        runtime_us: 2,
        load_us: 3,
    };
    assert_eq!(record.times.cold, Some(cold));
    assert!(record.received_us / 1000 >= id.unix_ms() - 1000);
    let alone = |cpu_us| Used::Alone {
        cpu_us,
        memory_peak: 4096,
    };
    assert_eq!(record.used, alone(0));

    // And a warm one, which waits for nothing and works for a while.
    notes.take();
    let held = world.hold(&f, 1).await;
    works(&world.fake.only(), 700);
    tokio::time::advance(Duration::from_millis(20)).await;
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    let record = notes.only().record;
    assert_eq!(record.times.cold, None);
    assert!(record.times.run_us >= 20_000, "{record:?}");
    assert!(record.times.queue_us < record.times.run_us);
    assert_eq!(record.used, alone(700));
    assert_eq!(record.trace, None);
}

#[tokio::test(start_paused = true)]
async fn code_is_told_its_place_in_the_trace() {
    let (world, f, notes) = world(|_| {});
    let mut request = get("/header/traceparent");
    let headers = request.headers_mut();
    headers.insert("traceparent", TRACEPARENT.parse().unwrap());
    let told = world.send(&f, request).await.unwrap();
    let trace = notes.only().record.trace.unwrap();
    assert_eq!(told, trace.traceparent());
    assert!(told.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_once() {
    let (world, f, notes) = world(|spec| {
        spec.limits.body = 8;
        spec.limits.timeout = Duration::from_secs(5);
        spec.limits.first_byte = Duration::from_secs(4);
        spec.scale.max = 1;
        spec.scale.waiting = Some(0);
    });
    let told = |outcome: Outcome, part: &str| {
        let ended = notes.only();
        assert_eq!(ended.record.outcome, outcome, "{ended:?}");
        let message = ended.record.message.clone().unwrap_or_default();
        assert!(message.contains(part), "{message:?}");
        notes.take();
        ended
    };

    world.get(&f, "/who").await.unwrap();
    told(Outcome::Ok, "");
    world.get(&f, "/status/404").await.unwrap();
    assert_eq!(told(Outcome::Application, "").record.status, Some(404));

    failure(world.send(&f, post("/echo", "much too long")).await);
    let early = told(Outcome::Limit(Limit::Body), "8 bytes");
    assert_eq!((early.record.bytes_in, early.record.instance), (0, None));

    // A body that goes on for longer than it may: some of it was read.
    let (request, mut caller) = arriving(
        "POST /echo HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    )
    .await;
    caller.write_all(b"5\r\nworld\r\n0\r\n\r\n").await.unwrap();
    failure(world.send(&f, request).await);
    assert_eq!(
        told(Outcome::Limit(Limit::Body), "8 bytes").record.bytes_in,
        5
    );
    world.settled(&f).await;

    failure(world.get(&f, "/hold").await);
    told(Outcome::Limit(Limit::FirstByte), "within 4s");
    world.settled(&f).await;

    let held = world.hold(&f, 1).await;
    failure(world.get(&f, "/who").await);
    let busy = told(Outcome::Limit(Limit::Concurrency), "none may wait");
    assert_eq!(busy.record.instance, None);
    held[0].abort();
    until("the caller's leaving is told", || {
        !notes.ended.lock().is_empty()
    })
    .await;
    told(Outcome::Cancelled, "the caller left");
    world.settled(&f).await;

    let response = world.head(&f, get("/stream")).await.unwrap();
    assert!(notes.ended.lock().is_empty());
    drop(response);
    until("the caller's leaving is told", || {
        !notes.ended.lock().is_empty()
    })
    .await;
    told(Outcome::Cancelled, "");
    world.settled(&f).await;

    let held = world.hold(&f, 1).await;
    world.fake.living()[0].crash();
    for call in held {
        failure(call.await.unwrap());
    }
    told(Outcome::Function, "exited with code 3");

    notes.refusing.store(true, Ordering::SeqCst);
    failure(world.get(&f, "/who").await);
    let refused = told(Outcome::Limit(Limit::Quota), "all is used up");
    assert!(!refused.admitted);
    assert_eq!(f.metrics().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_share_a_look_share_what_it_tells() {
    let (world, f, notes) = world(|spec| spec.scale.max = 1);
    // The first end is looked at, those within the next millisecond are not.
    for _ in 0..3 {
        world.get(&f, "/who").await.unwrap();
        works(&world.fake.only(), 100);
    }
    let used: Vec<_> = notes.take().iter().map(|e| e.record.used).collect();
    assert!(matches!(used[0], Used::Alone { cpu_us: 0, .. }), "{used:?}");
    assert_eq!(used[1..], [Used::Shared, Used::Shared]);

    // A later end finds what all of them used, and does not take it for its own.
    tokio::time::advance(Duration::from_millis(2)).await;
    world.get(&f, "/who").await.unwrap();
    let ended = notes.only();
    assert_eq!((ended.record.used, ended.cpu_us), (Used::Shared, 300));
    notes.take();

    // After a rest, what happened meanwhile is nobody's.
    works(&world.fake.only(), 50);
    tokio::time::advance(Duration::from_millis(200)).await;
    world.get(&f, "/who").await.unwrap();
    let ended = notes.only();
    assert!(matches!(ended.record.used, Used::Alone { cpu_us: 0, .. }));
    assert_eq!(notes.cpu_us.load(Ordering::SeqCst), 350);
}

#[tokio::test(start_paused = true)]
async fn calls_beside_one_another_are_not_measured_apart() {
    let (world, f, notes) = world(|spec| {
        spec.scale.max = 1;
        spec.scale.concurrency = 2;
    });
    let held = world.hold(&f, 2).await;
    tokio::time::advance(Duration::from_millis(20)).await;
    world.release();
    for call in held {
        call.await.unwrap().unwrap();
    }
    let used: Vec<_> = notes.take().iter().map(|e| e.record.used).collect();
    assert_eq!(used, [Used::Shared, Used::Shared]);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_an_instance_used_is_told_twice_or_not_at_all() {
    let (world, f, notes) = world(|spec| spec.scale.max = 1);
    let began = tokio::time::Instant::now();
    for n in 0..20 {
        let held = world.hold(&f, 1).await;
        works(&world.fake.only(), 10 + n);
        tokio::time::advance(Duration::from_micros(n * 300)).await;
        world.release();
        for call in held {
            call.await.unwrap().unwrap();
        }
    }
    let instance = world.fake.only();
    works(&instance, 7);
    tokio::time::advance(Duration::from_secs(3)).await;
    world.engine.remove(f.key().borrowed());
    until("the instance is stopped", || instance.is_gone()).await;
    let used = instance.cpu_us.load(Ordering::SeqCst);
    assert_eq!(notes.cpu_us.load(Ordering::SeqCst), used);
    let idle = Duration::from_micros(notes.idle_us.load(Ordering::SeqCst));
    assert!(idle >= Duration::from_secs(3), "{idle:?}");
    assert!(idle <= began.elapsed(), "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_counted_is_not_looked_at_again() {
    let world = World::kept_by(Arc::new(NoLedger), options());
    let f = world.install("f", revision("r1", |_| {}));
    for _ in 0..5 {
        world.get(&f, "/who").await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(world.fake.only().looks.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn lines_are_told() {
    let (world, f, notes) = world(|_| {});
    let request = Request::get("/who").body(Body::empty()).unwrap();
    world.send(&f, request).await.unwrap();
    let id = world.fake.only().number();
    f.log().line(
        tidegate_core::InstanceId(id),
        LogStream::Stdout,
        None,
        b"hello",
    );
    assert_eq!(*notes.lines.lock(), ["hello"]);
}

#[tokio::test]
async fn an_upgraded_connection_counts_what_it_carried() {
    let (world, f, notes) = world(|_| {});
    let (mut caller, listener) = UnixStream::pair().unwrap();
    let engine = world.engine.clone();
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (engine, f) = (engine.clone(), f.clone());
            let request = request.map(|body| Body::incoming(body, u64::MAX, Duration::MAX));
            async move { engine.call(&f, request, context()).await }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(listener), service)
            .with_upgrades();
        let _ = connection.await;
    });
    caller
        .write_all(
            b"GET /socket HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        )
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(caller.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    caller.write_all(b"ebb and flow").await.unwrap();
    let mut back = [0; 12];
    caller.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ebb and flow");
    assert!(notes.ended.lock().is_empty());
    drop(caller);
    until("the call has ended", || !notes.ended.lock().is_empty()).await;
    let record = notes.only().record;
    assert_eq!((record.bytes_in, record.bytes_out), (12, 12));
    assert_eq!(record.status, Some(101));
}
