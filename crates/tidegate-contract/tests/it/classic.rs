//! The older watchdog.

use base64::Engine as _;

use crate::world::{World, bundle, call};

const SCRIPT: &str = "#!/bin/sh
body=$(cat)
case $body in
  fail) echo out; echo err >&2; exit 3;;
  both) echo out; echo err >&2;;
  hang) exec sleep 1000;;
  env) env | grep ^Http_ | sort;;
  page) echo '<html>';;
  *) printf %s \"$body\";;
esac
";

fn world(folder: &tempfile::TempDir, more: &[(&str, &str)]) -> World {
    let mut env = vec![("fprocess", "./handler")];
    env.extend(more);
    World::of(folder.path(), "classic-watchdog", &env)
}

#[tokio::test]
async fn success_failure_and_time() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let world = world(&folder, &[("exec_timeout", "300ms")]);
    let good = world.post("/", "ebb").await;
    assert_eq!(good.said(), (200, "ebb"));
    assert!(good.duration().is_some());
    assert_eq!(
        good.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(world.logs.lines()[0], "Forking fprocess.");
    assert_eq!(
        world.logs.wait_for("Wrote").await,
        "Wrote 3 Bytes - Duration: T6s"
    );
    let failed = world.post("/", "fail").await;
    assert_eq!(failed.said(), (500, "exit status 3\nout\nerr\n"));
    assert_eq!(failed.duration(), None);
    assert!(failed.error.is_some());
    let late = world.post("/", "hang").await;
    assert_eq!(late.said(), (408, "Killed process.\n"));
    assert!(late.error.is_some());
}

#[tokio::test]
async fn the_type_is_the_settings_or_the_requests_or_guessed() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let plain = world(&folder, &[]);
    let asked = [("content-type", "text/x-tide")];
    let answer = plain.send(call("POST", "/", &asked, "page")).await;
    assert_eq!(answer.header("content-type"), Some("text/x-tide"));
    let answer = plain.post("/", "page").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let answer = plain.get("/").await;
    assert_eq!(
        (answer.said(), answer.header("content-type")),
        ((200, ""), None)
    );
    let set = world(&folder, &[("content_type", "image/x-wave")]);
    let answer = set.send(call("POST", "/", &asked, "page")).await;
    assert_eq!(answer.header("content-type"), Some("image/x-wave"));
}

#[tokio::test]
async fn output_is_combined_unless_it_says_no() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let both = world(&folder, &[]).post("/", "both").await;
    assert_eq!(both.text(), "out\nerr\n");
    let apart = world(&folder, &[("combine_output", "false")]);
    assert_eq!(apart.post("/", "both").await.text(), "out\n");
    assert_eq!(apart.logs.wait_for("err").await, "err");
}

#[tokio::test]
async fn five_methods_are_taken() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let world = world(&folder, &[]);
    for (method, status) in [
        ("GET", 200),
        ("POST", 200),
        ("PUT", 200),
        ("PATCH", 200),
        ("DELETE", 200),
        ("HEAD", 405),
        ("OPTIONS", 405),
    ] {
        let answer = world.send(call(method, "/", &[], "")).await;
        assert_eq!(answer.status, status, "{method}");
    }
    assert_eq!(world.get("/_/health").await.said(), (200, "OK"));
    assert_eq!(world.post("/_/health", "").await.status, 405);
    // It has no readiness of its own, so the path is the function's.
    assert_eq!(world.post("/_/ready", "ebb").await.said(), (200, "ebb"));
}

#[tokio::test]
async fn a_process_is_told_of_its_request_as_cgi_unless_it_says_no() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let headers = [("host", "gateway:8080"), ("x-my-hdr", "v")];
    let request = || call("POST", "/a?x=1", &headers, "env");
    let told = world(&folder, &[]).send(request()).await;
    assert_eq!(
        told.text(),
        "Http_ContentLength=-1\nHttp_Content_Length=-1\nHttp_Host=gateway:8080\nHttp_Method=POST\nHttp_Path=/a\nHttp_Query=x=1\nHttp_Transfer_Encoding=chunked\nHttp_X_My_Hdr=v\n"
    );
    let silent = world(&folder, &[("cgi_headers", "false")]);
    assert_eq!(silent.send(request()).await.said(), (200, ""));
}

#[tokio::test]
async fn a_request_can_be_given_as_json() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let world = world(&folder, &[("marshal_request", "true")]);
    let headers = [("x-a", "b"), ("host", "gateway:8080")];
    let answer = world.send(call("POST", "/", &headers, "ebb")).await;
    let raw = base64::engine::general_purpose::STANDARD.encode("ebb");
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON"),
        serde_json::json!({"header": {"X-A": ["b"]}, "body": {"raw": raw}})
    );
}

#[tokio::test]
async fn what_is_answered_is_logged_where_that_is_asked_for() {
    let folder = bundle(&[("handler", SCRIPT)]);
    let world = world(&folder, &[("write_debug", "true")]);
    world.post("/", "ebb").await;
    assert_eq!(world.logs.wait_for("Duration").await, "Duration: T6s");
    assert!(world.logs.lines().contains(&"ebb".to_owned()));
}

#[tokio::test]
async fn a_megabyte_goes_through_and_there_is_no_limit_of_time() {
    let folder = bundle(&[("handler", "#!/bin/sh\nhead -c 2500000 /dev/zero\n")]);
    let world = world(&folder, &[]);
    let answer = world.get("/").await;
    assert_eq!((answer.body.len(), answer.fault), (2_500_000, None));
    assert_eq!(
        world.logs.wait_for("Wrote").await,
        "Wrote 2500000 Bytes - Duration: T6s"
    );
}
