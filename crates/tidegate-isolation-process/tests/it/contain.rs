//! What a function does to itself hurts nobody else.

use std::time::Instant;

use tidegate_instance::{LogStream, Reason};

use crate::server::SERVER;
use crate::world::{World, call, get, until};

pub(crate) async fn a_fork_bomb_stays_in_its_box(world: &World) {
    let (mut spec, _) = world.per_call(
        "#!/usr/bin/python3
import os, sys, time
children = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        children += 1
except OSError as e:
    print(children, e.errno, flush=True)
    os._exit(9)
",
    );
    spec.limits.pids = 20;
    let instance = world.start(spec).await;
    let (neighbour, _) = world.per_call("#!/bin/sh\necho alive\n");
    let neighbour = world.start(neighbour).await;
    for _ in 0..2 {
        let answer = call(&*instance, b"").await.expect("called");
        assert_eq!(answer.text(), "19 11\n", "as many as it may, then EAGAIN");
        assert_eq!(answer.exit.code, Some(9));
        assert_eq!(answer.exit.reason, Reason::Processes);
        assert_eq!(
            call(&*neighbour, b"").await.expect("called").text(),
            "alive\n"
        );
    }
    // One that never stops forking, ended from outside.
    let (mut spec, _) = world.per_call(
        "#!/bin/bash\nbomb() { bomb | bomb & }; bomb 2>/dev/null; echo lit; wait; sleep 1000\n",
    );
    spec.limits.pids = 30;
    let bomb = world.start(spec).await;
    let process = bomb
        .exec(tidegate_instance::Exec::default())
        .await
        .expect("it starts");
    until("lit bomb", || bomb.usage().filter(|u| u.memory > 0)).await;
    assert_eq!(
        call(&*neighbour, b"").await.expect("called").text(),
        "alive\n"
    );
    bomb.kill();
    assert_eq!(bomb.exited().await.reason, Reason::Killed);
    drop(process);
}

const HOG: &str = "#!/usr/bin/python3
import time
hog = []
for _ in range(200):
    hog.append(bytearray(b'x') * (4 << 20))
    time.sleep(0.01)
print('NOT HELD')
";

pub(crate) async fn a_memory_hog_dies_alone(world: &World) {
    let (mut spec, _) = world.per_call(HOG);
    spec.limits.memory = 64 << 20;
    let hog = world.start(spec).await;
    let (spec, _) = world.per_call("#!/bin/sh\necho alive\n");
    let neighbour = world.start(spec).await;
    let (dead, alive) = tokio::join!(call(&*hog, b""), call(&*neighbour, b""));
    let dead = dead.expect("called");
    assert_eq!(
        (dead.text(), dead.exit.signal, dead.exit.reason),
        (String::new(), Some(9), Reason::Memory)
    );
    assert_eq!(alive.expect("called").text(), "alive\n");
    assert_eq!(
        call(&*neighbour, b"").await.expect("called").text(),
        "alive\n"
    );
}

pub(crate) async fn a_server_over_its_memory_is_told_so(world: &World) {
    let (mut spec, _) = world.server(SERVER);
    spec.limits.memory = 64 << 20;
    let instance = world.start(spec).await;
    assert_eq!(get(&*instance, "/hog", None).await.unwrap_or_default(), "");
    assert_eq!(instance.exited().await.reason, Reason::Memory);
}

pub(crate) async fn endless_output_is_bounded(world: &World) {
    let (spec, logs) = world.server("#!/bin/sh\nexec yes 'the same line again and again' >&2\n");
    let mut spec = spec;
    spec.ready_within = std::time::Duration::from_millis(700);
    let began = Instant::now();
    world.refused(spec).await;
    logs.wait_for("bytes of output were dropped").await;
    let most = (1 << 20) + 256 * 1024 * (began.elapsed().as_secs() + 2);
    assert!(
        logs.bytes() <= most,
        "{} bytes came through, {most} may",
        logs.bytes()
    );
    assert!(logs.lines().iter().any(|l| l.stream == LogStream::Stderr));
}

pub(crate) async fn a_full_tmp_is_an_error_for_its_writer(world: &World) {
    let (mut spec, _) = world.per_call(
        "#!/bin/sh\nhead -c 20000000 /dev/zero > /tmp/big 2>/tmp/err; echo $?; cat /tmp/err; stat -c %s /tmp/big\n",
    );
    spec.limits.tmp = 4 << 20;
    let instance = world.start(spec).await;
    let text = call(&*instance, b"").await.expect("called").text();
    assert!(
        text.starts_with("1\n") && text.trim_end().ends_with("4194304"),
        "{text}"
    );
}

pub(crate) async fn the_limit_that_ended_a_run_is_told_and_logged(world: &World) {
    // A file larger than it may be, from a program that knows nothing of the signal.
    let (mut spec, logs) = world.per_call(
        "#!/usr/bin/python3
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
os.ftruncate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1 << 40)
",
    );
    spec.limits.tmp = 4 << 20;
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(answer.exit.reason, Reason::Disk, "{answer:?}");
    let line = logs.wait_for("over its disk limit").await;
    assert_eq!(line.stream, LogStream::System);

    let (mut spec, logs) = world.per_call(HOG);
    spec.limits.memory = 64 << 20;
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(answer.exit.reason, Reason::Memory, "{answer:?}");
    // In the kernel's words or in the watchdog's.
    logs.wait_for("memory").await;
}

impl World {
    /// Whether a control group holds this limit here.
    pub(crate) fn counts_by_kernel(&self, name: &str) -> bool {
        self.report
            .get(name)
            .is_some_and(|c| c.detail.contains("held by a control group"))
    }
}
