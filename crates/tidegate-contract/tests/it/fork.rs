//! Modes `streaming` and `serializing`.

use std::time::Duration;

use http_body_util::BodyExt as _;

use crate::world::{World, bundle, call, post};

const SCRIPT: &str = "#!/bin/sh
read -r word
case $word in
  fail) printf 'half'; echo trouble >&2; exit 1;;
  hang) printf 'half'; exec sleep 1000;;
  env) env | grep ^Http_ | sort;;
  drip) echo one; read -r _; echo two;;
  much) head -c 3000000 /dev/zero; exit 4;;
  *) printf 'got %s' \"$word\";;
esac
";

fn world(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> World {
    let mut env = vec![("fprocess", "./handler"), ("prefix_logs", "false")];
    env.extend(more);
    World::of(folder.path(), "of-watchdog", &env)
}

#[tokio::test]
async fn streaming_is_always_200() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let world = world(&folder, &[("exec_timeout", "200ms")]);
    let good = world.post("/a?q", "ebb").await;
    assert_eq!(good.said(), (200, "got ebb"));
    assert_eq!(
        good.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(good.duration(), None);
    assert_eq!(
        world.logs.wait_for("POST").await,
        "POST /a?q - 200 - ContentLength: 7B (T4s)"
    );
    for word in ["fail", "hang"] {
        let bad = world.post("", word).await;
        assert_eq!(bad.said(), (200, "half"), "{word}");
        assert_eq!((bad.error, bad.fault), (None, None), "{word}");
    }
    assert_eq!(world.logs.wait_for("trouble").await, "trouble");
}

#[tokio::test]
async fn streaming_streams() {
    let folder = bundle(&[("handler", "#!/bin/sh\necho one\nexec sleep 1000\n")]);
    let world = world(
        &folder,
        &[("exec_timeout", "0"), ("content_type", "text/x-tide")],
    );
    let mut drips = world.head(post("", "")).await.expect("a head");
    assert_eq!(drips.headers()["content-type"], "text/x-tide");
    let first = drips.body_mut().frame().await.expect("a piece");
    assert_eq!(first.expect("whole").into_data().expect("data"), "one\n");
    let more = tokio::time::timeout(Duration::from_millis(20), drips.body_mut().frame());
    assert!(more.await.is_err(), "it goes on");
}

#[tokio::test]
async fn serializing_looks_at_the_end_first() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let env = [("mode", "serializing"), ("exec_timeout", "200ms")];
    let world = world(&folder, &env);
    let good = world.post("/", "ebb").await;
    assert_eq!(good.said(), (200, "got ebb"));
    assert!(good.duration().is_some());
    for (word, want) in [("fail", "exit status 1"), ("hang", "signal: killed")] {
        let bad = world.post("/", word).await;
        assert_eq!(bad.said(), (500, want));
        assert_eq!(bad.header("content-type"), Some("application/octet-stream"));
        assert!(bad.duration().is_some());
        assert!(bad.error.is_some(), "{word}");
    }
    assert_eq!(
        world.logs.wait_for("- 500 -").await,
        "POST / - 500 - ContentLength: 13B (T4s)"
    );
    // More than is held back has been answered by the time the process fails: it is cut, and not ended as if whole.
    let much = world.post("/", "much").await;
    assert_eq!((much.status.as_u16(), much.body.len()), (200, 3_000_000));
    assert!(much.fault.is_some());
}

#[tokio::test]
async fn a_process_is_told_of_its_request() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let world = world(&folder, &[]);
    let headers = [
        ("host", "gateway:8080"),
        ("content-length", "3"),
        ("x-call-id", "7"),
        ("user-agent", "tide/1"),
    ];
    let answer = world.send(call("PUT", "/a/b?x=1&y", &headers, "env")).await;
    assert_eq!(
        answer.text(),
        "Http_Content_Length=3\nHttp_Method=PUT\nHttp_Path=/a/b\nHttp_Query=x=1&y\nHttp_User_Agent=tide/1\nHttp_X_Call_Id=7\n"
    );
    let answer = world.send(call("POST", "", &[], "env")).await;
    assert_eq!(
        answer.text(),
        "Http_Method=POST\nHttp_Path=/\nHttp_Transfer_Encoding=chunked\n"
    );
}

#[tokio::test]
async fn many_fork_at_once_and_one_too_many_is_refused() {
    let folder = bundle(&[("handler", "#!/bin/sh\necho up\nexec sleep 1000\n")]);
    let world = world(&folder, &[("max_inflight", "3")]);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(world.head(post("", "")).await.expect("a head"));
    }
    assert_eq!(world.post("", "").await.status, 429);
    assert_eq!(world.get("/_/ready").await.status, 429);
    drop(held.pop());
    assert!(
        world
            .head(post("", ""))
            .await
            .expect("a head")
            .status()
            .is_success()
    );
}

#[tokio::test]
async fn readiness_asks_the_function() {
    let script = "#!/bin/sh\n[ \"$Http_Path\" = /ready ]\n";
    let folder = bundle(&[("handler", script)]);
    for (path, status) in [("/ready", 200), ("ready", 200), ("/else", 500)] {
        let env = [("mode", "serializing"), ("ready_path", path)];
        let world = world(&folder, &env);
        assert_eq!(world.get("/_/ready").await.said(), (status, ""), "{path}");
    }
}

#[tokio::test]
async fn a_process_that_cannot_be_started_is_an_error() {
    let folder = bundle(&[]);
    let error = world(&folder, &[]).head(post("", "")).await;
    let error = error.expect_err("nothing to run");
    assert!(
        matches!(error, tidegate_contract::CallError::Exec(_)),
        "{error:?}"
    );
}
