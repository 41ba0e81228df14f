//! A process a call.

use std::time::Duration;

use tidegate_core::InvocationId;
use tidegate_instance::{Exec, LogStream, Reason};
use tokio::io::AsyncReadExt;

use crate::world::{World, call, call_with, processes_with, until};

pub(crate) async fn a_script_answers_with_its_exit_code(world: &World) {
    let (spec, _) =
        world.per_call("#!/bin/sh\nread line\necho \"$GREETING, $line, $EXTRA\"\nexit 7\n");
    let instance = world.start(spec).await;
    let exec = Exec {
        env: vec![
            ("EXTRA".to_owned(), "more".to_owned()),
            ("GREETING".to_owned(), "good day".to_owned()),
        ],
        invocation: None,
    };
    let answer = call_with(&*instance, b"world\n", exec)
        .await
        .expect("called");
    assert_eq!(answer.text(), "good day, world, more\n");
    assert_eq!(
        (answer.exit.code, answer.exit.signal, answer.exit.reason),
        (Some(7), None, Reason::Exited)
    );
    let (spec, _) = world.per_call("#!/bin/sh\nkill -SEGV $$\n");
    let instance = world.start(spec).await;
    let exit = call(&*instance, b"").await.expect("called").exit;
    assert_eq!(
        (exit.code, exit.signal, exit.reason),
        (None, Some(11), Reason::Exited)
    );
    // A long environment goes beside the message.
    let (spec, _) = world.per_call("#!/bin/sh\nprintf %s \"$LONG\" | wc -c\n");
    let instance = world.start(spec).await;
    let exec = Exec {
        env: vec![("LONG".to_owned(), "x".repeat(100_000))],
        invocation: None,
    };
    assert_eq!(
        call_with(&*instance, b"", exec)
            .await
            .expect("called")
            .text(),
        "100000\n"
    );
}

pub(crate) async fn ten_mebibytes_go_through_unchanged(world: &World) {
    let (spec, _) = world.per_call("#!/bin/sh\nexec cat\n");
    let instance = world.start(spec).await;
    let input: Vec<u8> = (0..10_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    let answer = call(&*instance, &input).await.expect("called");
    assert!(answer.exit.is_success());
    assert!(answer.out == input, "{} bytes came back", answer.out.len());
}

pub(crate) async fn what_cannot_be_run_is_explained(world: &World) {
    for (script, expected) in [
        ("#!/opt/missing -x\n", "first line names \"/opt/missing\""),
        ("echo no first line\n", "`#!` line"),
        ("#!/bin/sh\r\necho\r\n", "carriage return"),
    ] {
        let (spec, _) = world.per_call(script);
        let instance = world.start(spec).await;
        let error = call(&*instance, b"")
            .await
            .expect_err("it cannot run")
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!instance.is_gone(), "the instance takes the next call");
    }
    let (mut spec, _) = world.per_call("");
    spec.program = tidegate_instance::Program::PerCall {
        runtime: "executable".to_owned(),
        entry: "nothing".to_owned(),
        command: Vec::new(),
    };
    let error = world.refused(spec).await.to_string();
    assert!(
        error.contains("\"nothing\" is not in the bundle"),
        "{error}"
    );
}

pub(crate) async fn grandchildren_are_gone_when_the_call_is_over(world: &World) {
    let word = format!("7{}", std::process::id());
    let script = format!(
        "#!/bin/bash\nsetsid sleep {word} </dev/null >/dev/null 2>&1 &\n(sleep {word} &) >/dev/null 2>&1\necho done\n"
    );
    let (spec, _) = world.per_call(&script);
    let instance = world.start(spec).await;
    for _ in 0..3 {
        let answer = call(&*instance, b"").await.expect("called");
        assert_eq!(answer.text(), "done\n");
        // No waiting here: the exit is reported once they are gone.
        assert_eq!(processes_with(&word), [0; 0]);
    }
}

pub(crate) async fn standard_error_is_attributed_to_the_call(world: &World) {
    let (spec, logs) =
        world.per_call("#!/bin/sh\necho \"said $1\" >&2; read x; echo \"about $x\" >&2\n");
    let instance = world.start(spec).await;
    for number in [5, 6] {
        let id = InvocationId::from_u128(number);
        let exec = Exec {
            env: Vec::new(),
            invocation: Some(id),
        };
        call_with(&*instance, format!("call {number}\n").as_bytes(), exec)
            .await
            .expect("called");
        let line = logs.wait_for(&format!("about call {number}")).await;
        assert_eq!(
            (line.stream, line.invocation),
            (LogStream::Stderr, Some(id))
        );
    }
}

pub(crate) async fn a_dropped_call_is_killed_and_the_instance_lives(world: &World) {
    let word = format!("8{}", std::process::id());
    let (spec, _) = world.per_call(&format!(
        "#!/bin/sh\nread x\nif [ \"$x\" = wait ]; then echo waiting; sleep {word}; fi\necho answered\n"
    ));
    let instance = world.start(spec).await;
    let mut process = instance.exec(Exec::default()).await.expect("it starts");
    tokio::io::AsyncWriteExt::write_all(&mut process.stdin, b"wait\n")
        .await
        .expect("written");
    let mut word_of_it = [0; 8];
    process
        .stdout
        .read_exact(&mut word_of_it)
        .await
        .expect("it says so");
    until("sleeper", || {
        (!processes_with(&word).is_empty()).then_some(())
    })
    .await;
    let exit = process.exit;
    drop(process.guard);
    let exit = tokio::time::timeout(Duration::from_secs(5), exit)
        .await
        .expect("in time")
        .expect("told");
    assert_eq!((exit.signal, exit.reason), (Some(9), Reason::Killed));
    assert_eq!(processes_with(&word), [0; 0]);
    assert_eq!(
        call(&*instance, b"x\n").await.expect("called").text(),
        "answered\n"
    );
}

pub(crate) async fn streams_can_be_opened_by_name(world: &World) {
    let (spec, logs) =
        world.per_call("#!/bin/sh\ncat /dev/stdin > /dev/stdout\necho complaint > /dev/stderr\n");
    let instance = world.start(spec).await;
    assert_eq!(
        call(&*instance, b"by name").await.expect("called").text(),
        "by name"
    );
    logs.wait_for("complaint").await;
}
