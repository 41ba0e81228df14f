//! What an instance does, and what it cannot.

use std::time::Instant;

use tidegate_core::Network;
use tidegate_escape::{Place, suite};
use tidegate_instance::{Exec, Exit, Instance, Isolation, Program, Reason, SecretFile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::World;

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(crate) fn run(world: &World, filter: &str) -> (usize, Vec<String>) {
            let mut ran = 0;
            let mut failed = Vec::new();
            $(
                let name = stringify!($case);
                if name.contains(filter) {
                    ran += 1;
                    if !world.run(name, $case(world)) {
                        failed.push(name.to_owned());
                    }
                }
            )*
            (ran, failed)
        }
    };
}

cases!(
    a_program_is_run_once_a_call,
    a_server_is_called_and_told_to_end,
    a_memory_hog_is_ended_and_told_so,
    what_cannot_be_run_is_told_and_the_instance_lives_on,
    processor_time_is_told,
    what_it_does_not_run_is_refused_in_words,
    every_attempt_is_answered_as_it_is_written_down,
    what_one_does_to_itself_its_neighbour_hardly_notices,
    nothing_is_left,
);

async fn call(instance: &dyn Instance, input: &[u8]) -> std::io::Result<(String, Exit)> {
    let process = instance.exec(Exec::default()).await?;
    let (mut stdin, mut stdout) = (process.stdin, process.stdout);
    let mut out = String::new();
    let write = async {
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (_, read) = tokio::join!(write, stdout.read_to_string(&mut out));
    read?;
    let exit = process.exit.await.map_err(std::io::Error::other)?;
    Ok((out, exit))
}

async fn a_program_is_run_once_a_call(world: &World) {
    let script = "#!/bin/sh
id -u; echo $GREETING; cat /run/secrets/key; cat; echo said >&2
cut -d' ' -f3 /proc/version; ls -d /proc/[0-9]* | wc -l; exit 7
";
    let (mut spec, logs) = world.spec("once", script, false);
    spec.secrets.push(SecretFile {
        name: "key".to_owned(),
        value: (*b"open sesame\n").into(),
    });
    let began = Instant::now();
    let instance = world.isolation.start(spec).await.expect("it starts");
    println!("  started in {:?}", began.elapsed());
    for input in ["one\n", "two\n"] {
        let (out, exit) = call(&*instance, input.as_bytes()).await.expect("called");
        let expected = format!("1000\nhello\nopen sesame\n{input}4.4.0\n");
        assert!(out.starts_with(&expected), "{out}");
        assert_eq!((exit.code, exit.reason), (Some(7), Reason::Exited));
    }
    logs.wait_for("said").await;
    instance.kill();
    assert_eq!(instance.exited().await.reason, Reason::Killed);
}

const SERVER: &str = "#!/usr/bin/python3 -I
import os, signal, socket, sys
def stop(*_): print('ends', flush=True); os._exit(4)
signal.signal(signal.SIGTERM, stop)
print('begins', flush=True)
server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
while True:
    s, _ = server.accept()
    s.sendall(b'answer to ' + s.recv(100)); s.close()
";

async fn a_server_is_called_and_told_to_end(world: &World) {
    let (spec, logs) = world.spec("server", SERVER, true);
    let instance = world.isolation.start(spec).await.expect("it starts");
    logs.wait_for("begins").await;
    for _ in 0..3 {
        let mut stream = instance.connect().await.expect("connected");
        stream.write_all(b"question").await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        assert_eq!(answer, "answer to question");
    }
    instance.drain();
    let exit = instance.exited().await;
    assert_eq!((exit.code, exit.reason), (Some(4), Reason::Exited));
    logs.wait_for("ends").await;
}

async fn a_memory_hog_is_ended_and_told_so(world: &World) {
    let script = "#!/usr/bin/python3 -I
hog = []
while True: hog.append(bytearray(b'x') * (4 << 20))
";
    let (spec, logs) = world.spec("hog", script, false);
    let instance = world.isolation.start(spec).await.expect("it starts");
    let called = call(&*instance, b"").await;
    assert!(
        called
            .as_ref()
            .map_or(true, |(_, exit)| exit.reason == Reason::Memory),
        "{called:?}"
    );
    assert_eq!(instance.exited().await.reason, Reason::Memory);
    if !instance.is_gone() {
        logs.wait_for("memory").await;
    }
}

async fn what_cannot_be_run_is_told_and_the_instance_lives_on(world: &World) {
    let (spec, _) = world.spec("unrunnable", "#!/nowhere\n", false);
    let instance = world.isolation.start(spec).await.expect("it starts");
    for _ in 0..30 {
        let error = call(&*instance, b"").await.expect_err("nothing runs it");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
    assert!(!instance.is_gone());
}

async fn processor_time_is_told(world: &World) {
    let script = "#!/usr/bin/python3 -I
import time
until = time.process_time() + 0.5
while time.process_time() < until: pass
";
    let (spec, _) = world.spec("busy", script, false);
    let instance = world.isolation.start(spec).await.expect("it starts");
    let used = |when: &str| instance.usage().map(|u| u.cpu_us).expect(when);
    let before = used("it is measured once it runs");
    call(&*instance, b"").await.expect("called");
    let after = used("it is there still");
    assert!(after >= before + 200_000, "{before} {after}");
}

async fn what_it_does_not_run_is_refused_in_words(world: &World) {
    let (mut spec, _) = world.spec("refused", "", false);
    spec.program = Program::Host {
        runtime: "python".to_owned(),
        entry: "app.py".to_owned(),
        handler: None,
    };
    let text = |r: Result<_, tidegate_instance::StartError>| {
        r.map(|_: std::sync::Arc<dyn Instance>| ())
            .expect_err("refused")
            .to_string()
    };
    let error = text(world.isolation.start(spec.clone()).await);
    assert!(error.contains("handlers of python"), "{error}");
    spec.program = Program::PerCall {
        runtime: "executable".to_owned(),
        entry: "run".to_owned(),
        command: Vec::new(),
    };
    spec.network = Network::Host;
    let error = text(world.isolation.start(spec).await);
    assert!(error.contains("network"), "{error}");
}

fn place(world: &World) -> Place<'_> {
    Place {
        isolation: &world.isolation,
        own_kernel: true,
        // What a neighbour notices is printed; its own kernel adds more to it than any attacker does.
        bearable: None,
        state: world.folder.path().join("state"),
        dress: Box::new(|_| {}),
    }
}

async fn every_attempt_is_answered_as_it_is_written_down(world: &World) {
    suite::withstands(&place(world)).await;
}

async fn what_one_does_to_itself_its_neighbour_hardly_notices(world: &World) {
    suite::bears(&place(world)).await;
}

/// Of all that ran before this case.
async fn nothing_is_left(world: &World) {
    world.isolation.shutdown().await;
    let state = world.folder.path().join("state");
    let mut left: Vec<_> = std::fs::read_dir(&state)
        .expect("it is there")
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "root" && name != "state")
        .collect();
    left.sort();
    assert!(left.is_empty(), "{left:?}");
    let mark = state.display().to_string();
    let processes: Vec<_> = std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten()
        .filter_map(|e| std::fs::read(e.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&mark))
        .collect();
    assert!(processes.is_empty(), "{processes:?}");
    let own = format!("tidegate-{}-", std::process::id());
    let groups: Vec<_> = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|hierarchy| std::fs::read_dir(hierarchy.path().join("tidegate-runsc")).ok())
        .flat_map(|groups| groups.flatten())
        .filter(|group| group.file_name().to_string_lossy().starts_with(&own))
        .map(|group| group.path())
        .collect();
    assert!(groups.is_empty(), "{groups:?}");
}
