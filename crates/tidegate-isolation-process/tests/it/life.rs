//! Beginnings and ends: of many, of one, of the server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tidegate_escape::suite::PART;
use tidegate_instance::{Isolation, Reason};
use tidegate_isolation_process::{Cgroups, Error, Minimum, ProcessIsolation};

use crate::world::{World, call, exists, options, processes_with, until};

pub(crate) async fn fifty_starts_at_once(world: &World) {
    let script = "#!/bin/sh\necho ready\n";
    let bundle = world.bundle(&[("run", script)]);
    let starts = (0..50).map(|_| {
        let program = tidegate_instance::Program::PerCall {
            runtime: "executable".to_owned(),
            entry: "run".to_owned(),
            command: Vec::new(),
        };
        let (spec, _) = world.spec(&bundle, program);
        async move {
            let began = Instant::now();
            let instance = world.start(spec).await;
            let answer = call(&*instance, b"").await.expect("called");
            assert_eq!(answer.text(), "ready\n");
            began.elapsed()
        }
    });
    let mut times = join_all(starts).await;
    times.sort();
    println!(
        "       50 first calls at once: median {:?}, last {:?}",
        times[25], times[49]
    );
}

/// Polls all of them together on this task.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(move |cx| {
        let mut pending = false;
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(
                running
                    .iter_mut()
                    .filter_map(|(_, done)| done.take())
                    .collect(),
            )
        }
    })
    .await
}

pub(crate) async fn a_dropped_start_leaves_nothing(world: &World) {
    let word = format!("6{}", std::process::id());
    // Given up at every stage, as far as time hits them.
    for wait in [0, 300, 600, 1000, 2000, 5000, 20_000] {
        let (spec, _) = world.server(&format!("#!/bin/sh\nsleep {word}\n"));
        let start = world.isolation.start(spec);
        let given_up = tokio::time::timeout(Duration::from_micros(wait), start).await;
        assert!(given_up.is_err());
    }
    until("end of all of them", || {
        processes_with(&word).is_empty().then_some(())
    })
    .await;
    assert_eq!(world.once("#!/bin/sh\necho next\n").await.text(), "next\n");
}

pub(crate) async fn dropping_the_handle_ends_the_instance(world: &World) {
    let word = format!("5{}", std::process::id());
    let (spec, _) = world.per_call(&format!("#!/bin/sh\nexec sleep {word}\n"));
    let instance = world.start(spec).await;
    let process = instance
        .exec(tidegate_instance::Exec::default())
        .await
        .expect("it starts");
    let pid = until("sleeper", || processes_with(&word).first().copied()).await;
    drop(instance);
    until("end", || (!exists(pid)).then_some(())).await;
    assert!(process.exit.await.is_err(), "nobody is left to tell");
}

pub(crate) async fn kill_takes_everything(world: &World) {
    let word = format!("4{}", std::process::id());
    let (spec, _) = world.per_call(&format!(
        "#!/bin/bash\nfor i in 1 2 3; do setsid sleep {word} & done\nwait\n"
    ));
    let instance = world.start(spec).await;
    let process = instance
        .exec(tidegate_instance::Exec::default())
        .await
        .expect("it starts");
    until("three sleepers", || {
        (processes_with(&word).len() == 3).then_some(())
    })
    .await;
    instance.kill();
    assert!(instance.is_gone());
    let exit = instance.exited().await;
    assert_eq!((exit.signal, exit.reason), (Some(9), Reason::Killed));
    assert_eq!(processes_with(&word), [0; 0]);
    drop(process);
}

/// The part of a server that gets killed: starts instances, says which processes there are, and waits.
pub(crate) fn be_a_server() -> ExitCode {
    let world = World::new();
    let started = world.run("server", async {
        let (spec, _) = world.server(crate::server::SERVER);
        let server = world.start(spec).await;
        let (spec, _) = world.per_call("#!/bin/sh\nsleep 1000\n");
        let idle = world.start(spec).await;
        let busy = idle
            .exec(tidegate_instance::Exec::default())
            .await
            .expect("it starts");
        let _ = world.isolation.prepare("python").await;
        let (job, printed) = world.job(&["sh", "-c", "echo begun; sleep 1000"]);
        let mut job = world.isolation.run(job);
        tokio::select! {
            end = &mut job => panic!("{end:?}"),
            () = until("begun job", || printed.out().contains("begun").then_some(())) => {}
        }
        println!("children {}", descendants(std::process::id()).join(" "));
        std::future::pending::<()>().await;
        drop((server, idle, busy, job));
    });
    ExitCode::from(u8::from(!started))
}

/// All processes below this one.
fn descendants(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = vec![pid.to_string()];
    while let Some(pid) = look.pop() {
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                found.push(child.to_owned());
                look.push(child.to_owned());
            }
        }
    }
    found
}

pub(crate) async fn a_killed_server_leaves_nothing(_: &World) {
    let mut server = Command::new(std::env::current_exe().expect("we have a file"))
        .env(PART, "server")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let pid = server.id();
    let out = BufReader::new(server.stdout.take().expect("piped"));
    let children: Vec<i32> = out
        .lines()
        .map_while(Result::ok)
        .find_map(|l| l.strip_prefix("children ").map(str::to_owned))
        .expect("it says")
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .collect();
    // Launcher, three inits, the server program, the sleeping script, the job.
    assert!(children.len() >= 7, "{children:?}");
    assert!(children.iter().all(|&p| exists(p)));
    server.kill().expect("killed");
    server.wait().expect("collected");
    until("end of every process", || {
        children
            .iter()
            .all(|&p| !exists(p) || is_zombie(p))
            .then_some(())
    })
    .await;
    until("end of its control groups", || {
        groups_of(pid).is_empty().then_some(())
    })
    .await;
}

/// A container's first process may be slow to collect strangers; they are dead all the same.
fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "))
}

fn groups_of(pid: u32) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut look = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = look.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&format!("{pid}-"))
                {
                    found.push(entry.path());
                }
                look.push(entry.path());
            }
        }
    }
    found
}

pub(crate) async fn shutdown_ends_everything(world: &World) {
    let folder = world.folder.path().join("second");
    let (isolation, _) = ProcessIsolation::start(options(&folder))
        .await
        .expect("it starts");
    let (spec, _) = world.server(crate::server::SERVER);
    let instance = isolation.start(spec).await.expect("started");
    isolation.shutdown().await;
    assert!(instance.is_gone());
    tokio::time::timeout(Duration::from_secs(5), instance.exited())
        .await
        .expect("it has ended");
    let (spec, _) = world.server(crate::server::SERVER);
    let error = isolation.start(spec).await.err().expect("refused");
    assert!(
        matches!(error, tidegate_instance::StartError::ShuttingDown),
        "{error:?}"
    );
}

pub(crate) async fn weaker_than_the_minimum_is_refused(world: &World) {
    let mut options = options(&world.folder.path().join("third"));
    options.cgroups = Cgroups::Off;
    options.minimum = Minimum::Limits;
    match ProcessIsolation::start(options).await {
        Err(Error::TooWeak { missing, .. }) => {
            assert!(missing.contains("memory limit"), "{missing}");
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
}

pub(crate) async fn the_watchdog_holds_memory_without_control_groups(world: &World) {
    let mut options = options(&world.folder.path().join("fourth"));
    options.cgroups = Cgroups::Off;
    let (isolation, report) = ProcessIsolation::start(options).await.expect("it starts");
    assert!(
        report
            .get("memory limit")
            .expect("reported")
            .detail
            .contains("watchdog")
    );
    let hog = "#!/usr/bin/python3\nimport time\nhog = []\nwhile True:\n    hog.append(bytearray(b'x') * (1 << 20)); time.sleep(0.002)\n";
    let (mut spec, logs) = world.per_call(hog);
    spec.limits.memory = 48 << 20;
    let instance = isolation.start(spec).await.expect("started");
    for _ in 0..2 {
        let answer = call(&*instance, b"").await.expect("called");
        assert_eq!(
            (answer.exit.signal, answer.exit.reason),
            (Some(9), Reason::Memory)
        );
    }
    logs.wait_for("over the limit").await;
    let (mut spec, _) = world.per_call("#!/usr/bin/python3\nimport os, time\nn = 0\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(1000)\n    n += 1\nexcept OSError: print(n)\n");
    spec.limits.pids = 10;
    let instance = isolation.start(spec).await.expect("started");
    assert_eq!(call(&*instance, b"").await.expect("called").text(), "9\n");
    // Forks that share nearly all their pages are no hogs; forks that each grow are.
    let fork = "#!/usr/bin/python3
import os, time
common = bytearray(b'x') * (20 << 20)
children = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        own = bytearray(b'x') * (int(os.environ['GROW']) << 20)
        time.sleep(0.5); os._exit(0)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children])
";
    for (grow, reason) in [("1", Reason::Exited), ("12", Reason::Memory)] {
        let (mut spec, _) = world.per_call(fork);
        spec.limits.memory = 64 << 20;
        spec.env.push(("GROW".to_owned(), grow.to_owned()));
        let instance = isolation.start(spec).await.expect("started");
        let answer = call(&*instance, b"").await.expect("called");
        assert_eq!(answer.exit.reason, reason, "growing by {grow}: {answer:?}");
    }
    isolation.shutdown().await;
}
