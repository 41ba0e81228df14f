//! Programs that listen on `$PORT`.

use std::time::Duration;

use tidegate_core::Network;
use tidegate_instance::{LogStream, Program, Reason, StartError};

use crate::world::{World, get};

pub(crate) const SERVER: &str = "#!/usr/bin/python3
import os, signal, sys, threading, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        if self.path == '/crash': os._exit(3)
        if self.path == '/hog':
            hog = []
            while True: hog.append(bytearray(b'x') * (4 << 20))
        body = ('%s on %s' % (self.path, os.environ['PORT'])).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
print('starting', flush=True)
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler)
def stop(*_):
    print('draining', flush=True); threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, stop)
server.serve_forever()
";

pub(crate) async fn a_server_on_its_port_is_called(world: &World) {
    let (spec, logs) = world.server(SERVER);
    let instance = world.start(spec).await;
    for path in ["/a", "/b"] {
        let answer = get(&*instance, path, None).await.expect("called");
        assert!(answer.ends_with(&format!("{path} on 8080")), "{answer}");
    }
    let line = logs.wait_for("starting").await;
    assert_eq!((line.stream, line.invocation), (LogStream::Stdout, None));
    let usage = instance.usage().expect("measured");
    assert!(
        usage.memory > 0 && usage.memory_peak >= usage.memory,
        "{usage:?}"
    );
    let times = instance.start_times();
    assert!(times.sandbox_us > 0 && times.load_us > 0, "{times:?}");
    let error = instance
        .exec(tidegate_instance::Exec::default())
        .await
        .expect_err("it serves");
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

pub(crate) async fn a_server_on_the_machines_network_is_called(world: &World) {
    let (mut spec, _) = world.server(SERVER);
    spec.network = Network::Host;
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/x", None).await.expect("called");
    assert!(
        answer.contains("/x on ") && !answer.contains("8080"),
        "{answer}"
    );
}

pub(crate) async fn a_server_that_ends_early_is_quoted(world: &World) {
    let (spec, _) = world.server("#!/bin/sh\necho 'no such configuration' >&2\nexit 4\n");
    match world.refused(spec).await {
        StartError::Code { message } => assert_eq!(
            message,
            "serve exited with code 4 before it listened on port 8080: no such configuration"
        ),
        other => panic!("{other:?}"),
    }
    let (spec, _) = world.server("#!/opt/missing\n");
    match world.refused(spec).await {
        StartError::Code { message } => assert!(message.contains("/opt/missing"), "{message}"),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_server_that_does_not_listen_is_not_ready(world: &World) {
    let (mut spec, _) = world.server("#!/bin/sh\nsleep 1000\n");
    spec.ready_within = Duration::from_millis(200);
    let error = world.refused(spec).await;
    assert!(matches!(error, StartError::NotReady { .. }), "{error:?}");
    assert!(error.to_string().contains("$PORT"), "{error}");
}

pub(crate) async fn drain_lets_it_finish(world: &World) {
    let (spec, logs) = world.server(SERVER);
    let instance = world.start(spec).await;
    assert!(!instance.is_gone());
    instance.drain();
    let exit = instance.exited().await;
    assert_eq!((exit.code, exit.reason), (Some(0), Reason::Exited));
    logs.wait_for("draining").await;
    assert!(get(&*instance, "/", None).await.is_err());
}

pub(crate) async fn a_crash_is_told(world: &World) {
    let (spec, _) = world.server(SERVER);
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/crash", None).await.unwrap_or_default();
    assert_eq!(answer, "");
    let exit = instance.exited().await;
    assert_eq!(
        (exit.code, exit.signal, exit.reason),
        (Some(3), None, Reason::Exited)
    );
    assert!(instance.is_gone());
}

pub(crate) async fn a_command_with_a_port_of_its_own_is_called_there(world: &World) {
    let script = SERVER.replace("int(os.environ['PORT'])", "5000");
    let bundle = world.bundle(&[("app.py", &script)]);
    for (set, want) in [(None, "/a on 5000"), (Some("elsewhere"), "/a on elsewhere")] {
        let (mut spec, _) = world.spec(
            &bundle,
            Program::Server {
                runtime: "python".to_owned(),
                entry: "not-there".to_owned(),
                command: vec!["python".to_owned(), "app.py".to_owned()],
                port: Some(5000),
            },
        );
        spec.env
            .extend(set.map(|value| ("PORT".to_owned(), value.to_owned())));
        let instance = world.start(spec).await;
        let answer = get(&*instance, "/a", None).await.expect("called");
        assert!(answer.ends_with(want), "{answer}");
    }
}
