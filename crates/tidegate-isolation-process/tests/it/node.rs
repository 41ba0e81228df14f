//! The Node host: processes that waited, and those that did not.

use std::time::{Duration, Instant};

use tidegate_core::{InvocationId, Network};
use tidegate_instance::{Isolation, LogStream, Program, Reason, SecretFile, StartError};

use crate::world::{World, get, until};

const HELLO: &str = "
const fs = require('fs');
console.log('loaded');
exports.handler = async (event, context) => {
  switch (event.path) {
    case '/log':
      console.log('out of', context.requestId);
      console.error('err of', context.requestId);
      break;
    case '/raw': fs.writeSync(1, 'raw line\\n'); break;
    case '/env': return { ...process.env };
    case '/secret': return fs.readFileSync('/run/secrets/key', 'utf8') + fs.readdirSync('/run/secrets');
    case '/status': return fs.readFileSync('/proc/self/status', 'utf8') + process.cwd()
      + ' fds ' + fs.readdirSync('/proc/self/fd').length + ' ' + require('os').hostname();
    case '/write': return ['/function/x', '/layer/x', '/runtime/node/x', '/x', '/tmp/x'].map((path) => {
      try { fs.writeFileSync(path, 'x'); return 'written'; } catch (error) { return error.code; }
    });
    case '/pid': globalThis.calls = (globalThis.calls ?? 0) + 1; return { uptime: process.uptime(), calls, pid: process.pid };
    case '/wait': return new Promise((resolve) => context.signal.addEventListener('abort', () => resolve('late')));
    case '/hog': { const hog = []; for (;;) hog.push(Buffer.alloc(4 << 20, 1)); }
  }
  return 'hello from ' + event.path;
};
";

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

pub(crate) async fn a_handler_answers_and_its_lines_are_attributed(world: &World) {
    let (spec, logs) = world.node(HELLO);
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
    assert!(times.sandbox_us > 0 && times.load_us > 0, "{times:?}");
    assert!(instance.usage().expect("measured").memory > 0);
}

pub(crate) async fn packages_of_a_layer_are_found_by_require_and_by_import(world: &World) {
    let layer = world.bundle(&[
        (
            "node_modules/common/index.js",
            "module.exports = 'common of ' + require('deep');",
        ),
        ("node_modules/deep/index.js", "module.exports = 'deep';"),
        (
            "node_modules/@scope/esm/package.json",
            "{\"type\": \"module\", \"exports\": \"./main.js\"}",
        ),
        (
            "node_modules/@scope/esm/main.js",
            "import deep from 'deep'; export const name = 'esm of ' + deep;",
        ),
    ]);
    for (file, script) in [
        (
            "app.cjs",
            "const common = require('common'); exports.handler = async () => \
             common + ', ' + (await import('@scope/esm')).name;",
        ),
        (
            "app.mjs",
            "import common from 'common'; import { name } from '@scope/esm'; \
             export default { fetch: () => new Response(common + ', ' + name) };",
        ),
    ] {
        let (mut spec, _) = world.node_files(&[(file, script)]);
        spec.layer = Some(layer.clone());
        let instance = world.start(spec).await;
        let answer = get(&*instance, "/", None).await.expect("called");
        assert_eq!(body(&answer), "common of deep, esm of deep", "{file}");
    }
}

pub(crate) async fn what_cannot_be_loaded_is_quoted_with_file_and_line(world: &World) {
    for (files, wanted) in [
        (
            &[("app.cjs", "const a = 1;\nconst b = ;\n")][..],
            "app.cjs: app.cjs:2: SyntaxError: Unexpected token ';'",
        ),
        (
            &[("app.mjs", "export default 1;\n\nconst b = ;\n")],
            "app.mjs: app.mjs:3: SyntaxError: Unexpected token ';'",
        ),
        (
            &[
                ("app.cjs", "require('./lib');\n"),
                ("lib.js", "\nthrow new Error('boom');\n"),
            ],
            "app.cjs: lib.js:2: Error: boom",
        ),
        (
            &[("app.mjs", "import 'not-there';\n")],
            "add \"not-there\" to the dependencies in package.json",
        ),
        (
            &[("app.cjs", "require('not-there');\n")],
            "add \"not-there\" to the dependencies in package.json",
        ),
        (
            &[("app.cjs", "exports.handlr = () => 1;\n")],
            "exports nothing that can be called",
        ),
        (
            &[("app.cjs", "process.exit(3);\n")],
            "process.exit(3) was called while it was loaded",
        ),
    ] {
        let (spec, logs) = world.node_files(files);
        match world.refused(spec).await {
            StartError::Code { message } => {
                assert!(message.contains(wanted), "{message:?}, wanted {wanted:?}");
            }
            other => panic!("{other:?}"),
        }
        if wanted.contains("boom") {
            logs.wait_for("Error: boom").await;
        }
    }
}

pub(crate) async fn secrets_and_the_environment_are_the_functions_own(world: &World) {
    world.isolation.prepare("node").await.expect("prepared");
    let (mut spec, _) = world.node(HELLO);
    spec.secrets = vec![SecretFile {
        name: "key".to_owned(),
        value: b"s3cret ".to_vec().into(),
    }];
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/secret", None).await.expect("called");
    assert_eq!(body(&answer), "s3cret key");
    let answer = get(&*instance, "/env", None).await.expect("called");
    let env: std::collections::BTreeMap<String, String> =
        serde_json::from_str(body(&answer)).expect("an object");
    let names: Vec<_> = env.keys().map(String::as_str).collect();
    assert_eq!(names, ["GREETING", "HOME", "LANG", "PATH", "TMPDIR"]);
    assert_eq!(env["GREETING"], "hello");

    let (spec, _) = world.node(HELLO);
    let other = world.start(spec).await;
    let answer = get(&*other, "/secret", None).await.expect("called");
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
}

pub(crate) async fn the_process_has_no_rights(world: &World) {
    // Once as one that has waited, once as one that is started now.
    for prepared in [true, false] {
        if prepared {
            world.isolation.prepare("node").await.expect("prepared");
        }
        let (mut spec, _) = world.node(HELLO);
        if !prepared {
            // A size that nobody waits with.
            spec.limits.memory = 97 << 20;
        }
        let instance = world.start(spec).await;
        let answer = get(&*instance, "/status", None).await.expect("called");
        for line in [
            "Uid:\t1000\t1000\t1000\t1000",
            "Gid:\t1000\t1000\t1000\t1000",
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(answer.contains(line), "{line} in {answer}");
        }
        assert!(answer.contains("/function fds "), "{answer}");
        assert!(answer.ends_with(" tested"), "{answer}");
        let answer = get(&*instance, "/write", None).await.expect("called");
        assert_eq!(
            body(&answer),
            "[\"EROFS\",\"EROFS\",\"EROFS\",\"EROFS\",\"written\"]"
        );
    }
}

/// How old the process was at this call, in seconds, and how many calls it has had.
async fn age(instance: &dyn tidegate_instance::Instance) -> (f64, u64) {
    let answer = get(instance, "/pid", None).await.expect("called");
    let value: serde_json::Value = serde_json::from_str(body(&answer)).expect("an object");
    (
        value["uptime"].as_f64().expect("a number"),
        value["calls"].as_u64().expect("a number"),
    )
}

/// Starts functions until one is of a process that had waited.
async fn waited(world: &World) {
    let began = Instant::now();
    loop {
        let (spec, _) = world.node(HELLO);
        let start = Instant::now();
        let instance = world.start(spec).await;
        let (uptime, _) = age(&*instance).await;
        // It is older than the whole of its start.
        if uptime > start.elapsed().as_secs_f64() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "none waits");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn one_that_waited_is_taken_and_replaced(world: &World) {
    world.isolation.prepare("node").await.expect("prepared");
    waited(world).await;
    // More than ever wait at once: those taken have been replaced.
    for _ in 0..6 {
        waited(world).await;
    }
}

pub(crate) async fn two_functions_never_share_a_process(world: &World) {
    world.isolation.prepare("node").await.expect("prepared");
    let mut instances = Vec::new();
    for _ in 0..5 {
        let (spec, _) = world.node(HELLO);
        instances.push(world.start(spec).await);
    }
    for instance in &instances {
        let (_, calls) = age(&**instance).await;
        assert_eq!(calls, 1);
    }
    for instance in &instances {
        assert_eq!(age(&**instance).await.1, 2);
    }
}

pub(crate) async fn a_cancelled_call_is_told_and_the_instance_lives_on(world: &World) {
    let (spec, _) = world.node(HELLO);
    let instance = world.start(spec).await;
    let id = InvocationId::from_u128(99);
    let waiting = get(&*instance, "/wait", Some(id));
    let cancelling = async {
        // Cancelled before it has begun, nothing is there to stop: ask until the call has ended.
        let began = Instant::now();
        loop {
            let told = tokio::time::timeout(Duration::from_secs(5), instance.cancel(id)).await;
            assert_eq!(told, Ok(true), "the host answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(began.elapsed() < Duration::from_secs(10), "it waits on");
        }
    };
    tokio::select! {
        answer = waiting => {
            let answer = answer.unwrap_or_default();
            assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        () = cancelling => {}
    }
    let answer = get(&*instance, "/after", None).await.expect("called");
    assert!(answer.ends_with("hello from /after"), "{answer}");
}

pub(crate) async fn drain_ends_a_host(world: &World) {
    let (spec, _) = world.node(HELLO);
    let instance = world.start(spec).await;
    get(&*instance, "/x", None).await.expect("called");
    instance.drain();
    let exit = instance.exited().await;
    assert_eq!((exit.code, exit.reason), (Some(0), Reason::Exited));
    assert!(get(&*instance, "/", None).await.is_err());
}

pub(crate) async fn a_memory_hog_dies_alone(world: &World) {
    let (spec, _) = world.node(HELLO);
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/hog", None).await.unwrap_or_default();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let exit = instance.exited().await;
    assert_eq!(exit.reason, Reason::Memory, "{exit:?}");
    let (spec, _) = world.node(HELLO);
    let other = world.start(spec).await;
    get(&*other, "/x", None).await.expect("called");
}

pub(crate) async fn a_server_of_its_own_is_run(world: &World) {
    let bundle = world.bundle(&[(
        "serve.js",
        "require('http').createServer((req, res) => res.end('served ' + req.url)).listen(process.env.PORT);",
    )]);
    let (spec, _) = world.spec(
        &bundle,
        Program::Server {
            runtime: "node".to_owned(),
            entry: "serve.js".to_owned(),
            command: Vec::new(),
            port: None,
        },
    );
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/x", None).await.expect("called");
    assert!(answer.contains("served /x"), "{answer}");
}

pub(crate) async fn the_machines_network_is_there_when_asked_for(world: &World) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let (mut spec, logs) = world.node(&format!(
        "require('net').connect({port}, '127.0.0.1', () => console.log('connected'));\n\
         exports.handler = () => 'on';"
    ));
    spec.network = Network::Host;
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert_eq!(body(&answer), "on");
    until("a connection", || {
        logs.lines()
            .into_iter()
            .find(|line| line.text == "connected")
    })
    .await;
}
