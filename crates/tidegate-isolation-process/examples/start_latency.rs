//! How long starts take, and their parts: `cargo run --release --example start_latency [COUNT]`.
//!
//! One after another with a short rest between, so that the stock is full, as a function's first call meets it; then a
//! burst. Times are of this process's clock, from the request to the instance that can be called. Processor time, which a
//! busy machine does not stretch as much, is what the sandbox's own account says.

#![allow(clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::{FunctionKey, InstanceId, InvocationId, Limits, Name, Network};
use tidegate_instance::{
    Exec, Instance, InstanceSpec, Isolation, LogSink, LogStream, Program, RootFs, StartTimes,
};
use tidegate_isolation_process::{Options, ProcessIsolation, is_launcher, launcher_main};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Starts of each kind.
const COUNT: usize = 200;

/// Between starts: the launcher fills its stock in about a millisecond.
const REST: Duration = Duration::from_millis(8);

/// Starts of each kind of Node: it takes a tenth of a second to have another waiting.
const NODE_COUNT: usize = 40;

/// Between them.
const NODE_REST: Duration = Duration::from_millis(400);

struct Nowhere;

impl LogSink for Nowhere {
    fn line(&self, _: InstanceId, _: LogStream, _: Option<InvocationId>, _: &[u8]) {}
}

fn main() {
    if is_launcher() {
        launcher_main();
    }
    let count = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(COUNT);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(count));
}

async fn measure(count: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    };
    write("program/run", "#!/bin/true\n");
    write(
        "python/app.py",
        "def handler(event, context):\n    return 'hello'\n",
    );
    write("node/app.cjs", "exports.handler = () => 'hello';\n");
    write(
        "esm/app.mjs",
        "export default { fetch: () => new Response('hello') };\n",
    );
    let (isolation, report) = ProcessIsolation::start(Options::new(folder.path().join("state")))
        .await
        .expect("it starts");
    println!("{report}");
    isolation.prepare("python").await.expect("python");

    let program = || Program::PerCall {
        runtime: "executable".to_owned(),
        entry: "run".to_owned(),
        command: Vec::new(),
    };
    let python = || Program::Host {
        runtime: "python".to_owned(),
        entry: "app.py".to_owned(),
        handler: None,
    };
    let mut calls = Vec::new();
    let mut rows = Vec::new();
    for _ in 0..count {
        let (instance, took) = one(&isolation, folder.path(), "program", program()).await;
        rows.push((took, instance.start_times()));
        let began = Instant::now();
        let process = instance.exec(Exec::default()).await.expect("called");
        let _ = process.exit.await;
        calls.push(began.elapsed());
        drop(instance);
        tokio::time::sleep(REST).await;
    }
    table("program: sandbox ready", &mut rows);
    line("program: one call", &mut calls);

    images(&isolation, folder.path(), count).await;

    let (mut rows, mut answers, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let began = Instant::now();
        let (instance, took) = one(&isolation, folder.path(), "python", python()).await;
        rows.push((took, instance.start_times()));
        cpu.push(Duration::from_micros(
            instance.usage().map_or(0, |u| u.cpu_us),
        ));
        hello(&*instance).await;
        answers.push(began.elapsed());
        drop(instance);
        tokio::time::sleep(REST).await;
    }
    table("python: ready", &mut rows);
    line("  processor time inside", &mut cpu);
    line("python: start and first answer", &mut answers);

    nodes(&isolation, folder.path(), count).await;
    interpreters(&isolation, folder.path(), count).await;

    let mut burst = tokio::task::JoinSet::new();
    let isolation = Arc::new(isolation);
    let root = folder.path().to_owned();
    let began = Instant::now();
    for _ in 0..100 {
        let (isolation, root, python) = (isolation.clone(), root.clone(), python());
        burst.spawn(async move {
            let began = Instant::now();
            let (instance, _) = one(&isolation, &root, "python", python).await;
            hello(&*instance).await;
            (began.elapsed(), instance)
        });
    }
    let all = burst.join_all().await;
    println!("python: 100 first calls at once took {:?}", began.elapsed());
    let (mut took, instances): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    line("python: one of 100 at once", &mut took);
    drop(instances);
    isolation.shutdown().await;
}

/// Layers of the images that are measured: one, and what a language's image has with a function's own on top.
const LAYERS: [usize; 2] = [1, 12];

/// The same program out of an image: its sandbox, one call, and one that serves.
async fn images(isolation: &ProcessIsolation, folder: &Path, count: usize) {
    const BUSYBOX: &str = "/usr/bin/busybox";
    if !Path::new(BUSYBOX).exists() {
        println!("image: busybox-static, of which it is made, is not installed");
        return;
    }
    fs::create_dir_all(folder.join("no-code")).expect("a folder");
    for layers in LAYERS {
        let layers: Vec<_> = (0..layers)
            .map(|n| folder.join(format!("layer-{layers}-{n}")))
            .collect();
        for (n, layer) in layers.iter().enumerate() {
            fs::create_dir_all(layer.join("bin")).expect("a folder");
            fs::write(layer.join(format!("bin/file-{n}")), "x").expect("written");
        }
        fs::copy(BUSYBOX, layers[0].join("bin/busybox")).expect("copied");
        let what = format!("image of {}", layers.len());
        let root = RootFs {
            layers,
            user: (1000, 1000),
            workdir: "/".to_owned(),
            read_only: false,
            stop_signal: 15,
        };
        let command = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let (mut rows, mut calls) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let program = Program::PerCall {
                runtime: "executable".to_owned(),
                entry: String::new(),
                command: command(&["busybox", "true"]),
            };
            let (instance, took) = rooted(isolation, folder, program, root.clone()).await;
            rows.push((took, instance.start_times()));
            let began = Instant::now();
            let process = instance.exec(Exec::default()).await.expect("called");
            let _ = process.exit.await;
            calls.push(began.elapsed());
            drop(instance);
            tokio::time::sleep(REST).await;
        }
        table(&format!("{what}: sandbox ready"), &mut rows);
        line(&format!("{what}: one call"), &mut calls);
        let mut rows = Vec::new();
        for _ in 0..count {
            let program = Program::Server {
                runtime: "executable".to_owned(),
                entry: String::new(),
                command: command(&["busybox", "httpd", "-f", "-p", "8080"]),
                port: None,
            };
            let (instance, took) = rooted(isolation, folder, program, root.clone()).await;
            rows.push((took, instance.start_times()));
            drop(instance);
            tokio::time::sleep(REST).await;
        }
        table(&format!("{what}: server ready"), &mut rows);
    }
}

/// Languages whose hosts are an interpreter each: `(runtime, entry, source)`.
const HOSTS: [(&str, &str, &str); 4] = [
    ("ruby", "handler.rb", "def handler(event) = 'hello'\n"),
    (
        "php",
        "handler.php",
        "<?php function handler() { return 'hello'; }\n",
    ),
    ("php", "index.php", "<?php echo 'hello';\n"),
    (
        "java",
        "Handler.class",
        "public class Handler { public String handle() { return \"hello\"; } }\n",
    ),
];

/// Starts of those that are here. Each takes tens of milliseconds, so a tenth of the count tells as much.
async fn interpreters(isolation: &ProcessIsolation, folder: &Path, count: usize) {
    for (runtime, entry, source) in HOSTS {
        if isolation.prepare(runtime).await.is_err() {
            println!("{runtime}: not installed");
            continue;
        }
        let name = format!("{runtime}-{entry}");
        let bundle = folder.join(&name);
        fs::create_dir_all(&bundle).expect("a folder");
        if runtime == "java" {
            compile(&bundle, source);
        } else {
            fs::write(bundle.join(entry), source).expect("written");
        }
        let (mut rows, mut answers, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        let mut memory = 0;
        for _ in 0..(count / 10).max(5) {
            let program = Program::Host {
                runtime: runtime.to_owned(),
                entry: entry.to_owned(),
                handler: None,
            };
            let began = Instant::now();
            let (instance, took) = one(isolation, folder, &name, program).await;
            rows.push((took, instance.start_times()));
            hello(&*instance).await;
            answers.push(began.elapsed());
            let usage = instance.usage().unwrap_or_default();
            cpu.push(Duration::from_micros(usage.cpu_us));
            memory = usage.memory;
            drop(instance);
            tokio::time::sleep(REST).await;
        }
        table(&format!("{runtime} ({entry}): ready"), &mut rows);
        line("  processor time inside, first answer included", &mut cpu);
        line(
            &format!("{runtime} ({entry}): start and first answer"),
            &mut answers,
        );
        println!("  memory after it: {} KiB", memory / 1024);
    }
}

/// The handler and the host beside it, as a build does.
fn compile(bundle: &Path, source: &str) {
    let file = bundle.join("Handler.java");
    fs::write(&file, source).expect("written");
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/java/dev/tidegate/host");
    let status = std::process::Command::new("javac")
        .args([
            "-J-XX:TieredStopAtLevel=1",
            "-J-XX:+UseSerialGC",
            "--release",
            "11",
            "-XDstringConcat=inline",
            "-d",
        ])
        .arg(bundle)
        .arg(file)
        .args(
            fs::read_dir(host)
                .expect("the host")
                .flatten()
                .map(|e| e.path()),
        )
        .status()
        .expect("javac runs");
    assert!(status.success(), "javac failed");
}

/// Node: started then and there, and from those that wait, with each kind of module.
async fn nodes(isolation: &ProcessIsolation, folder: &Path, count: usize) {
    let node = |entry: &str| Program::Host {
        runtime: "node".to_owned(),
        entry: entry.to_owned(),
        handler: None,
    };
    // The first has nothing waiting for it: Node is started then and there.
    let (mut rows, mut answers, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..count.min(NODE_COUNT) {
        // A size of memory that none has been asked for with, and so none waits with.
        let memory = (200 + at as u64) << 20;
        let began = Instant::now();
        let (instance, took) = sized(isolation, folder, "node", node("app.cjs"), memory).await;
        rows.push((took, instance.start_times()));
        let used = instance.usage().map_or(0, |u| u.cpu_us);
        cpu.push(Duration::from_micros(used));
        hello(&*instance).await;
        answers.push(began.elapsed());
        drop(instance);
        tokio::time::sleep(NODE_REST).await;
    }
    table("node, none waits: ready", &mut rows);
    line("  processor time inside", &mut cpu);
    line("node, none waits: first answer", &mut answers);
    for (bundle, entry) in [("node", "app.cjs"), ("esm", "app.mjs")] {
        let (mut rows, mut answers, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        // The first of this size brings two that wait.
        drop(one(isolation, folder, bundle, node(entry)).await);
        for _ in 0..count.min(NODE_COUNT) {
            tokio::time::sleep(NODE_REST).await;
            let began = Instant::now();
            let (instance, took) = one(isolation, folder, bundle, node(entry)).await;
            rows.push((took, instance.start_times()));
            hello(&*instance).await;
            answers.push(began.elapsed());
            memory.push(instance.usage().map_or(0, |u| u.memory));
        }
        table(&format!("node, {entry}: ready"), &mut rows);
        line(
            &format!("node, {entry}: start and first answer"),
            &mut answers,
        );
        memory.sort_unstable();
        println!(
            "  memory of its own after that     p50 {:>6} KiB",
            memory[memory.len() / 2] / 1024
        );
    }
}

async fn one(
    isolation: &ProcessIsolation,
    folder: &Path,
    bundle: &str,
    program: Program,
) -> (Arc<dyn Instance>, Duration) {
    sized(isolation, folder, bundle, program, 256 << 20).await
}

async fn sized(
    isolation: &ProcessIsolation,
    folder: &Path,
    bundle: &str,
    program: Program,
    memory: u64,
) -> (Arc<dyn Instance>, Duration) {
    started(isolation, spec(folder, bundle, program, memory)).await
}

async fn rooted(
    isolation: &ProcessIsolation,
    folder: &Path,
    program: Program,
    root: RootFs,
) -> (Arc<dyn Instance>, Duration) {
    let mut spec = spec(folder, "no-code", program, 256 << 20);
    spec.root = Some(root);
    started(isolation, spec).await
}

fn spec(folder: &Path, bundle: &str, program: Program, memory: u64) -> InstanceSpec {
    let name = |text| Name::new(text).expect("a name");
    InstanceSpec {
        layer: None,
        root: None,
        id: InstanceId(0),
        function: FunctionKey::new(&name("default"), &name("measured")),
        revision: Arc::from("1"),
        bundle: folder.join(bundle),
        program,
        env: Vec::new(),
        secrets: Vec::new(),
        limits: Limits {
            memory,
            cpu_milli: 1000,
            pids: 64,
            tmp: 64 << 20,
            timeout: Duration::from_secs(60),
            first_byte: Duration::from_secs(60),
            stream_idle: Duration::from_secs(60),
            body: 1 << 20,
        },
        network: Network::None,
        outbound: None,
        concurrency: 1,
        ready_within: Duration::from_secs(10),
        logs: Arc::new(Nowhere),
    }
}

async fn started(
    isolation: &ProcessIsolation,
    spec: InstanceSpec,
) -> (Arc<dyn Instance>, Duration) {
    let began = Instant::now();
    let instance = isolation.start(spec).await.expect("it starts");
    (instance, began.elapsed())
}

async fn hello(instance: &dyn Instance) {
    let mut stream = instance.connect().await.expect("connected");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answered");
    assert!(answer.ends_with(b"hello"));
}

fn table(what: &str, rows: &mut [(Duration, StartTimes)]) {
    line(what, &mut rows.iter().map(|r| r.0).collect::<Vec<_>>());
    let part = |name: &str, of: fn(&StartTimes) -> u64| {
        let mut times: Vec<_> = rows
            .iter()
            .map(|r| Duration::from_micros(of(&r.1)))
            .collect();
        line(name, &mut times);
    };
    part("  sandbox", |t| t.sandbox_us);
    part("  runtime", |t| t.runtime_us);
    part("  load", |t| t.load_us);
}

fn line(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what:<32} p50 {:>9.1?}  p99 {:>9.1?}", at(50), at(99));
}
