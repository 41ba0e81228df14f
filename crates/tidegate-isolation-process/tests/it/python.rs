//! The Python host, through its zygote.

use std::time::{Duration, Instant};

use tidegate_core::InvocationId;
use tidegate_instance::{Isolation, LogStream, Reason, StartError};

use crate::world::{World, exists, get, processes_with, until};

const HELLO: &str = "
import os, random, sys, time
print('loaded')
STARTED = random.random()
def handler(event, context):
    if event.path == '/log':
        print('out of', context.request_id)
        print('err of', context.request_id, file=sys.stderr)
    if event.path == '/spin':
        while True: pass
    if event.path == '/random': return str(STARTED)
    if event.path == '/raw': os.write(1, b'raw line\\n')
    if event.path == '/env': return dict(os.environ)
    if event.path == '/status': return open('/proc/self/status').read() + os.getcwd() + ' ' + ' '.join(os.listdir('/proc/self/fd'))
    if event.path == '/hog':
        hog = []
        while True: hog.append(bytearray(b'x') * (4 << 20))
    if event.path == '/fork':
        children = []
        try:
            while True:
                pid = os.fork()
                if pid == 0: time.sleep(1000)
                children.append(pid)
        except OSError:
            # They hold the connection open.
            for pid in children: os.kill(pid, 9)
            return str(len(children))
    return 'hello from ' + event.path
";

pub(crate) async fn a_handler_answers_and_its_lines_are_attributed(world: &World) {
    let (spec, logs) = world.python(HELLO);
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/x", None).await.expect("called");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello from /x"),
        "{answer}"
    );
    let loaded = logs.wait_for("loaded").await;
    assert_eq!(
        (loaded.stream, loaded.invocation),
        (LogStream::Stdout, None)
    );
    for number in [17, 18] {
        let id = InvocationId::from_u128(number);
        get(&*instance, "/log", Some(id)).await.expect("called");
        let out = logs.wait_for(&format!("out of {id}")).await;
        assert_eq!((out.stream, out.invocation), (LogStream::Stdout, Some(id)));
        let err = logs.wait_for(&format!("err of {id}")).await;
        assert_eq!((err.stream, err.invocation), (LogStream::Stderr, Some(id)));
    }
    get(&*instance, "/raw", None).await.expect("called");
    assert_eq!(logs.wait_for("raw line").await.invocation, None);
    let times = instance.start_times();
    assert!(
        times.sandbox_us > 0 && times.runtime_us > 0 && times.load_us > 0,
        "{times:?}"
    );
    assert!(instance.usage().expect("measured").memory > 0);

    // Two forks of one zygote draw different numbers.
    let (spec, _) = world.python(HELLO);
    let other = world.start(spec).await;
    let body = |answer: String| answer.rsplit("\r\n").next().map(str::to_owned);
    let one = body(get(&*instance, "/random", None).await.expect("called"));
    let two = body(get(&*other, "/random", None).await.expect("called"));
    assert_ne!(one, two);
}

pub(crate) async fn a_busy_handler_is_cancelled_and_lives_on(world: &World) {
    let (spec, _) = world.python(HELLO);
    let instance = world.start(spec).await;
    let id = InvocationId::from_u128(99);
    let spinning = get(&*instance, "/spin", Some(id));
    let cancelling = async {
        // Cancelled before it has begun, nothing is there to stop: ask until the call has ended.
        let began = Instant::now();
        loop {
            let told = tokio::time::timeout(Duration::from_secs(5), instance.cancel(id)).await;
            assert_eq!(told, Ok(true), "the host answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(began.elapsed() < Duration::from_secs(10), "it spins on");
        }
    };
    tokio::select! {
        answer = spinning => {
            let answer = answer.unwrap_or_default();
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        () = cancelling => {}
    }
    let answer = get(&*instance, "/after", None).await.expect("called");
    assert!(answer.ends_with("hello from /after"), "{answer}");
}

pub(crate) async fn an_import_error_is_the_codes_fault_with_its_trace(world: &World) {
    let (spec, logs) = world.python("import not_there\ndef handler(event, context): pass\n");
    match world.refused(spec).await {
        StartError::Code { message } => {
            assert!(
                message.contains("app.py") && message.contains("not_there"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    let trace = logs.lines();
    assert!(
        trace.iter().any(|l| l.text.contains("Traceback")),
        "{trace:?}"
    );
    let (spec, _) = world.python("import os\nos._exit(5)\n");
    match world.refused(spec).await {
        StartError::Code { message } => {
            assert!(message.contains("exited with code 5"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let (mut spec, _) = world.python("while True: pass\n");
    spec.ready_within = Duration::from_millis(200);
    assert!(matches!(
        world.refused(spec).await,
        StartError::NotReady { .. }
    ));
}

pub(crate) async fn the_host_process_has_no_rights(world: &World) {
    let (mut spec, _) = world.python(HELLO);
    spec.limits.pids = 12;
    let instance = world.start(spec).await;
    let status = get(&*instance, "/status", None)
        .await
        .expect("called")
        .replace('\t', " ");
    for line in [
        "Uid: 1000 1000 1000 1000",
        "Gid: 1000 1000 1000 1000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "/function 0 1 2 3",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let env = get(&*instance, "/env", None).await.expect("called");
    assert!(
        env.contains("\"GREETING\": \"hello\"") || env.contains("\"GREETING\":\"hello\""),
        "{env}"
    );
    assert!(!env.contains("CARGO"), "{env}");
    let children = get(&*instance, "/fork", None).await.expect("called");
    assert!(children.ends_with("\r\n11"), "{children}");
    drop(instance);

    let (mut spec, _) = world.python(HELLO);
    spec.limits.memory = 96 << 20;
    let instance = world.start(spec).await;
    assert!(
        !get(&*instance, "/hog", None)
            .await
            .unwrap_or_default()
            .contains("200")
    );
    let exit = tokio::time::timeout(Duration::from_secs(10), instance.exited())
        .await
        .expect("it ends");
    assert_eq!(exit.reason, Reason::Memory);
}

pub(crate) async fn a_killed_zygote_is_replaced_and_its_children_live(world: &World) {
    let (spec, _) = world.python(HELLO);
    let instance = world.start(spec).await;
    let state = world.folder.path().to_string_lossy().into_owned();
    let zygotes = || processes_with(&format!("{state}/state/python-"));
    // The instances that the zygote forked carry its arguments; itself it is the oldest.
    let zygote = (zygotes().into_iter().min_by_key(|&pid| started(pid))).expect("it runs");
    let pid = rustix::process::Pid::from_raw(zygote).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    until("end of the zygote", || (!exists(zygote)).then_some(())).await;
    let (spec, _) = world.python(HELLO);
    let next = world.start(spec).await;
    for (instance, path) in [(&instance, "/old"), (&next, "/new")] {
        let answer = get(&**instance, path, None).await.expect("called");
        assert!(answer.ends_with(path), "{answer}");
    }
    // The launcher has inherited the first child, so its end is told all the same.
    instance.drain();
    let exit = tokio::time::timeout(Duration::from_secs(5), instance.exited())
        .await
        .expect("it ends");
    assert_eq!((exit.code, exit.reason), (Some(0), Reason::Exited));
    world
        .isolation
        .prepare("python")
        .await
        .expect("it is there");
    let error = world
        .isolation
        .prepare("cobol")
        .await
        .expect_err("unknown")
        .to_string();
    assert!(error.contains("executable, go, java"), "{error}");
}

/// When a process was started, in the kernel's ticks: numbers begin anew from time to time.
fn started(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().nth(19);
    ticks.and_then(|t| t.parse().ok()).unwrap_or(u64::MAX)
}

pub(crate) async fn drain_ends_a_host(world: &World) {
    let (spec, _) = world.python(HELLO);
    let instance = world.start(spec).await;
    instance.drain();
    let exit = tokio::time::timeout(Duration::from_secs(5), instance.exited())
        .await
        .expect("it ends");
    assert_eq!((exit.code, exit.reason), (Some(0), Reason::Exited));
    let (spec, _) = world.python("import os\ndef handler(event, context): os._exit(9)\n");
    let instance = world.start(spec).await;
    assert_eq!(get(&*instance, "/", None).await.unwrap_or_default(), "");
    assert_eq!(instance.exited().await.code, Some(9));
}
