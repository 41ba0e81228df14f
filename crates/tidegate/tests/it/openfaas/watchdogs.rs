//! The watchdogs' own behaviour, around real processes.

use serde_json::{Value, json};

use super::{CLASSIC, NODE22, PYTHON, server};
use crate::harness::{Server, eventually, until};

/// A context of scripts behind a watchdog; `env` are lines of the Dockerfile.
fn scripts(server: &Server, name: &str, watchdog: &str, env: &[&str], script: &str) {
    let env: String = env.iter().map(|line| format!("ENV {line}\n")).collect();
    let dockerfile = format!(
        "FROM ghcr.io/openfaas/{watchdog}:latest AS watchdog\nFROM debian:12\nCOPY --from=watchdog /fwatchdog /usr/bin/fwatchdog\nWORKDIR /home/app\nCOPY run.sh .\nENV fprocess=\"./run.sh\"\n{env}CMD [\"fwatchdog\"]\n"
    );
    server
        .faas_build(
            &format!("{name}:latest"),
            &[
                ("template.yml", "language: dockerfile\n"),
                ("Dockerfile", &dockerfile),
                ("run.sh", script),
            ],
        )
        .ok();
    server
        .faas_deploy(&json!({"service": name, "image": format!("{name}:latest")}))
        .status(202);
    server.faas_ready(name);
}

#[test]
fn classic() {
    let server = server();
    let script = "#!/bin/sh
body=$(cat)
case \"$body\" in
  fail) echo out; echo err >&2; exit 3;;
  both) echo out; echo err >&2;;
  slow) sleep 20;;
  env) env | grep ^Http_ | sort;;
esac
";
    scripts(
        &server,
        "wd-classic",
        "classic-watchdog",
        &["exec_timeout=1s"],
        script,
    );
    let failed = server.faas_invoke("wd-classic", "fail").status(500);
    assert!(failed.text().starts_with("exit status 3\n"), "{failed}");
    assert!(failed.text().contains("out"), "{failed}");
    let both = server.faas_invoke("wd-classic", "both").ok();
    assert!(
        both.text().contains("out\n") && both.text().contains("err\n"),
        "{both}"
    );
    let slow = server.faas_invoke("wd-classic", "slow").status(408);
    assert_eq!(slow.text(), "Killed process.\n");
    let env = server
        .call("POST", "/function/wd-classic/a/b?x=1")
        .header("x-my-hdr", "v")
        .header("content-type", "text/plain")
        .body("env")
        .send()
        .ok();
    for line in [
        "Http_X_My_Hdr=v",
        "Http_Content_Type=text/plain",
        "Http_Method=POST",
        "Http_Query=x=1",
        "Http_Path=/a/b",
        "Http_ContentLength=3",
        "Http_Content_Length=3",
    ] {
        assert!(env.text().lines().any(|l| l == line), "{line}: {env}");
    }
    // These words are looked for by those who certify a provider.
    eventually("the watchdog's lines", || {
        let logs = server
            .faas("GET", "/system/logs?name=wd-classic&follow=false")
            .send()
            .ok();
        let text = logs.text().to_owned();
        (text.contains("Forking fprocess.")
            && text.contains("Wrote ")
            && text.contains(" Bytes - Duration: "))
        .then_some(())
    });
}

#[test]
fn streaming_and_serializing() {
    let server = server();
    let script =
        "#!/bin/sh\nread word\nprintf 'got %s' \"$word\"\n[ \"$word\" = fail ] && exit 1\nexit 0\n";
    scripts(
        &server,
        "wd-streaming",
        "of-watchdog",
        &["mode=streaming"],
        script,
    );
    let reply = server.faas_invoke("wd-streaming", "ebb").ok();
    assert_eq!(reply.text(), "got ebb");
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
    // The head has left before the process fails.
    assert_eq!(
        server.faas_invoke("wd-streaming", "fail").ok().text(),
        "got fail"
    );

    scripts(
        &server,
        "wd-serializing",
        "of-watchdog",
        &["mode=serializing", "content_type=text/x-tide"],
        script,
    );
    let reply = server.faas_invoke("wd-serializing", "ebb").ok();
    assert_eq!(reply.text(), "got ebb");
    assert_eq!(reply.header("content-type"), Some("text/x-tide"));
    assert!(reply.header("x-duration-seconds").is_some());
    let failed = server.faas_invoke("wd-serializing", "fail").status(500);
    assert_eq!(failed.text(), "exit status 1");
}

#[test]
fn http_limits() {
    let server = server();
    let source = "import time\ndef handle(event, context):\n    time.sleep(float(event.body or b'0'))\n    return 'done'\n";
    server.faas_up("wd-timeout", PYTHON, &[("handler.py", source)], json!({"envVars": {"exec_timeout": "1s", "max_inflight": "1"}, "labels": {"com.openfaas.scale.max": "1"}}));
    let late = server.faas_invoke("wd-timeout", "20").status(504);
    assert_eq!(late.header("x-openfaas-internal"), Some("of-watchdog"));
    assert!(late.body.is_empty(), "{late}");
    // What ran too long is ended, and until it has, there is no room.
    until("there is room again", || {
        server.faas_invoke("wd-timeout", "0").status == 200
    });

    // Of two at once, one is refused: whichever comes second.
    let full = eventually("it is full", || {
        let other = server.clone();
        let slow = std::thread::spawn(move || other.faas_invoke("wd-timeout", "0.8"));
        let mut replies = Vec::new();
        while !slow.is_finished() {
            replies.push(server.faas_invoke("wd-timeout", "0"));
        }
        replies.push(slow.join().expect("an answer"));
        replies.into_iter().find(|reply| reply.status == 429)
    });
    assert_eq!(
        full.text(),
        "Concurrent request limit exceeded. Max concurrent requests: 1\n"
    );
    assert_eq!(full.header("x-openfaas-internal"), Some("faas-middleware"));
}

#[test]
fn another_process_runs_as_it_is_named() {
    let server = server();
    server.faas_up(
        "wd-cat",
        CLASSIC,
        &[("handler.py", "def handle(req):\n    return 'never'\n")],
        json!({"envProcess": "cat"}),
    );
    assert_eq!(server.faas_invoke("wd-cat", "ebb").ok().text(), "ebb");
    let source = "module.exports = async () => 'x';\n";
    let refused = {
        server.faas_up("wd-mode", NODE22, &[("handler.js", source)], Value::Null);
        server.faas_deploy(&json!({"service": "wd-mode", "image": "wd-mode:latest", "envVars": {"mode": "afterburn"}}))
    };
    assert_eq!(refused.status, 400, "{refused}");
    assert!(refused.text().contains("afterburn"), "{refused}");
    // What ran goes on.
    assert_eq!(server.faas_invoke("wd-mode", "").ok().text(), "x");
}
