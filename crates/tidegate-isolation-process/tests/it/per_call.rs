//! A process a call.

use std::time::Duration;

use tidegate_core::InvocationId;
use tidegate_instance::{Exec, LogStream, Program, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        merged: false,
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
        ..Exec::default()
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
    spec.program = Program::PerCall {
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
            invocation: Some(id),
            ..Exec::default()
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
    process.stdin.write_all(b"wait\n").await.expect("written");
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

fn command(runtime: &str, words: &[&str]) -> Program {
    Program::PerCall {
        runtime: runtime.to_owned(),
        entry: "not-there".to_owned(),
        command: words.iter().map(|&word| word.to_owned()).collect(),
    }
}

pub(crate) async fn a_command_is_found_as_a_shell_would_find_it(world: &World) {
    let bundle = world.bundle(&[
        ("handler", "#!/bin/sh\necho \"$0 in $(pwd) with $#\"\n"),
        ("show.py", "import os, sys\nprint(sys.version_info.major, os.getcwd(), os.environ['PYTHONPATH'])\n"),
    ]);
    for (runtime, words, want) in [
        ("executable", &["cat"][..], "input"),
        ("executable", &["wc", "-c"], "5\n"),
        (
            "executable",
            &["./handler", "", "two"],
            "./handler in /function with 2\n",
        ),
        (
            "executable",
            &["/home/app/handler"],
            "/home/app/handler in /function with 0\n",
        ),
        (
            "python",
            &["python3", "show.py"],
            "3 /function /layer/python\n",
        ),
        // A machine need not have what an image has.
        (
            "python",
            &["python", "show.py"],
            "3 /function /layer/python\n",
        ),
    ] {
        let (spec, _) = world.spec(&bundle, command(runtime, words));
        let instance = world.start(spec).await;
        let answer = call(&*instance, b"input").await.expect("called");
        assert_eq!(answer.text(), want, "{words:?}");
    }
    for (words, want) in [
        (
            &["handler"][..],
            "no folder in PATH has a program of this name",
        ),
        (&["./nothing"], "\"./nothing\" cannot be run"),
    ] {
        let (spec, _) = world.spec(&bundle, command("executable", words));
        let instance = world.start(spec).await;
        let error = call(&*instance, b"").await.expect_err("it cannot run");
        assert!(error.to_string().contains(want), "{error}");
    }
}

pub(crate) async fn many_run_at_once_and_end_each_alone(world: &World) {
    let word = format!("9{}", std::process::id());
    let (mut spec, _) = world.per_call(&format!(
        "#!/bin/bash\nsetsid sleep {word} </dev/null >/dev/null 2>&1 &\nread x\necho \"$x\"\n"
    ));
    spec.concurrency = 10;
    let instance = world.start(spec).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(instance.exec(Exec::default()).await.expect("it starts"));
    }
    let sleepers = || processes_with(&word).len();
    until("all have begun", || (sleepers() == 5).then_some(())).await;
    // One that is killed, and one that ends by itself, leave the others to go on.
    let killed = held.pop().expect("five");
    drop(killed.guard);
    let exit = killed.exit.await.expect("told");
    assert_eq!((exit.signal, exit.reason), (Some(9), Reason::Killed));
    assert_eq!(
        call(&*instance, b"sixth\n").await.expect("called").text(),
        "sixth\n"
    );
    for (number, mut process) in held.into_iter().enumerate() {
        let line = format!("call {number}\n");
        process
            .stdin
            .write_all(line.as_bytes())
            .await
            .expect("written");
        drop(process.stdin);
        let mut said = String::new();
        process
            .stdout
            .read_to_string(&mut said)
            .await
            .expect("read");
        assert_eq!(said, line);
        assert!(process.exit.await.expect("told").is_success());
    }
    // What they left is gone with the last of them, without any waiting.
    assert_eq!(sleepers(), 0);
    assert!(!instance.is_gone());
}

pub(crate) async fn standard_error_can_go_with_standard_output(world: &World) {
    let (spec, logs) = world.per_call("#!/bin/sh\necho one\necho two >&2\necho three\n");
    let instance = world.start(spec).await;
    let exec = Exec {
        merged: true,
        ..Exec::default()
    };
    let answer = call_with(&*instance, b"", exec).await.expect("called");
    assert_eq!(answer.text(), "one\ntwo\nthree\n");
    assert!(logs.lines().is_empty(), "{:?}", logs.lines());
}
