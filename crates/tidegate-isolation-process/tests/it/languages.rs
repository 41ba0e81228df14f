//! Languages beside Python's own host: interpreters inside, layers of dependencies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_instance::{Instance, Isolation, Program, SecretFile, StartError};

use crate::world::{World, call, get};

/// Names the folder of the Java host's sources for the harness as another user.
pub(crate) const SOURCES: &str = "TIDEGATE_TEST_JAVA_HOST";

fn runtime(program: &str, entry: &str) -> Program {
    Program::Server {
        runtime: program.to_owned(),
        entry: entry.to_owned(),
        command: Vec::new(),
        port: None,
    }
}

fn layer(world: &World) -> PathBuf {
    world.bundle(&[
        ("python/colour.py", "NAME = 'green'\n"),
        ("python/evil.pth", "import os; os.environ['PTH'] = 'ran'\n"),
        ("python/own.py", "WHERE = 'layer'\n"),
        ("node_modules/left/index.js", "module.exports = 'left'\n"),
    ])
}

pub(crate) async fn every_language_is_listed_with_its_version_or_how_to_get_it(world: &World) {
    let all = world.isolation.runtimes();
    let names: Vec<_> = all.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "executable",
            "go",
            "java",
            "node",
            "php",
            "python",
            "ruby",
            "rust"
        ]
    );
    for runtime in all {
        let prepared = world.isolation.prepare(&runtime.name).await;
        match (&runtime.available, &runtime.version) {
            (Ok(place), Some(version)) => {
                assert!(place.starts_with("/usr/"), "{runtime:?}");
                assert!(version.contains('.'), "{runtime:?}");
                prepared.expect("prepared");
            }
            (Ok(place), None) => {
                assert!(place.contains("#!"), "{runtime:?}");
                prepared.expect("prepared");
            }
            (Err(missing), _) => {
                assert!(missing.contains("apt install"), "{missing}");
                let error = prepared.expect_err("refused");
                assert_eq!(error.to_string(), *missing);
            }
        }
    }
}

pub(crate) async fn a_layer_is_read_only_beside_the_code(world: &World) {
    let (mut spec, _) = world.per_call(
        "#!/bin/sh\ncat /layer/python/colour.py /node_modules/left/index.js\n\
         touch /layer/x 2>/dev/null && echo written\ngrep -c ' /layer ' /proc/self/mounts\n",
    );
    spec.layer = Some(layer(world));
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(
        answer.text(),
        "NAME = 'green'\nmodule.exports = 'left'\n1\n"
    );

    // Without one there is the folder, and nothing in it.
    let answer = world.once("#!/bin/sh\nls -A /layer | wc -l\n").await;
    assert_eq!(answer.text().trim(), "0");
}

pub(crate) async fn python_packages_of_a_layer_are_imported(world: &World) {
    let (mut spec, _) = world.python(
        "import colour, os, own, sys\n\
         def handler(event, context):\n    \
         return f'{colour.NAME} {own.WHERE} {os.environ.get(\"PTH\")} {sys.path[:2]}'\n",
    );
    std::fs::write(spec.bundle.join("own.py"), "WHERE = 'bundle'\n").expect("written");
    spec.layer = Some(layer(world));
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(
        answer.ends_with("green bundle None ['/function', '/layer/python']"),
        "{answer}"
    );
}

const SERVER: &str = "\
import colour, http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = colour.NAME.encode()
        self.send_response(200)
        self.send_header('content-length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

pub(crate) async fn a_python_server_is_run_by_its_interpreter(world: &World) {
    let bundle = world.bundle(&[("serve.py", SERVER)]);
    let (mut spec, _) = world.spec(&bundle, runtime("python", "serve.py"));
    spec.layer = Some(layer(world));
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(answer.ends_with("green"), "{answer}");
}

pub(crate) async fn a_python_program_is_run_once_a_call(world: &World) {
    let bundle = world.bundle(&[("run.py", "import sys\nprint(sys.stdin.read().upper())\n")]);
    let (spec, _) = world.spec(
        &bundle,
        Program::PerCall {
            runtime: "python".to_owned(),
            entry: "run.py".to_owned(),
            command: Vec::new(),
        },
    );
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"loud").await.expect("called");
    assert_eq!(answer.text(), "LOUD\n");
}

pub(crate) async fn an_unknown_runtime_is_refused(world: &World) {
    let bundle = world.bundle(&[("serve", "")]);
    let (spec, _) = world.spec(&bundle, runtime("cobol", "serve"));
    let error = world.refused(spec).await;
    assert!(matches!(error, StartError::Runtime(_)), "{error:?}");
    assert!(error.to_string().contains("\"cobol\""), "{error}");
}

/// The hosts' functions of their own contract suite are larger; here it matters that they run behind the walls.
const HANDLERS: [(&str, &str, &str); 2] = [
    (
        "ruby",
        "handler.rb",
        "def handler(event, context)\n  case event.path\n  when '/layer' then require('colour') && COLOUR\n  \
         when '/secret' then File.read('/run/secrets/key')\n  when '/env' then ENV.to_h\n  \
         when '/write' then File.write('/function/x', '')\n  else \"hello from #{event.path}\"\n  end\nend\n",
    ),
    (
        "php",
        "handler.php",
        "<?php\nfunction handler($event, $context) {\n  return match ($event->path) {\n    \
         '/layer' => Colour\\NAME,\n    '/secret' => file_get_contents('/run/secrets/key'),\n    \
         '/env' => getenv(),\n    '/write' => file_put_contents('/function/x', '') === false ? throw new Exception('no') : 1,\n    \
         default => 'hello from ' . $event->path,\n  };\n}\n",
    ),
];

fn host(runtime: &str, entry: &str, handler: Option<&str>) -> Program {
    Program::Host {
        runtime: runtime.to_owned(),
        entry: entry.to_owned(),
        handler: handler.map(str::to_owned),
    }
}

/// The version of a language that has to be here: without it these cases would show nothing.
fn version(world: &World, name: &str) -> String {
    let runtime = world
        .isolation
        .runtimes()
        .into_iter()
        .find(|r| r.name == name);
    let runtime = runtime.expect("it is known");
    runtime.available.expect("it is installed");
    runtime.version.expect("it says its version")
}

async fn answers(instance: &dyn Instance, path: &str, status: u16, body: &str) {
    let answer = get(instance, path, None).await.expect("called");
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    assert!(answer.ends_with(body), "{answer}");
}

pub(crate) async fn ruby_and_php_handlers_answer_behind_the_walls(world: &World) {
    for (runtime, entry, text) in HANDLERS {
        let version = version(world, runtime);
        let minor: Vec<_> = version.split('.').take(2).collect();
        let gem = format!("ruby/{}.0", minor.join("."));
        let layer = world.bundle(&[
            (
                &format!("{gem}/specifications/colour-1.0.gemspec"),
                "Gem::Specification.new { |s| s.name = 'colour'; s.version = '1.0'; s.summary = s.author = 'x' }",
            ),
            (&format!("{gem}/gems/colour-1.0/lib/colour.rb"), "COLOUR = 'green'"),
            ("vendor/autoload.php", "<?php namespace Colour; const NAME = 'green';"),
        ]);
        let bundle = world.bundle(&[(entry, text)]);
        let (mut spec, _) = world.spec(&bundle, host(runtime, entry, None));
        // As little as is allowed.
        spec.limits.memory = 32 << 20;
        spec.layer = Some(layer);
        spec.secrets.push(SecretFile {
            name: "key".to_owned(),
            value: Arc::from(&b"hidden"[..]),
        });
        let instance = world.start(spec).await;
        answers(&*instance, "/x", 200, "hello from /x").await;
        answers(&*instance, "/layer", 200, "green").await;
        answers(&*instance, "/secret", 200, "hidden").await;
        answers(&*instance, "/write", 500, "\"requestId\":null}").await;
        let env = get(&*instance, "/env", None).await.expect("called");
        assert!(env.contains("\"GREETING\":\"hello\""), "{env}");
        assert!(!env.contains("CARGO") && !env.contains("/root"), "{env}");
        instance.drain();
        let exit = tokio::time::timeout(Duration::from_secs(5), instance.exited()).await;
        assert_eq!(exit.expect("it ends").code, Some(0), "{runtime}");
    }
}

pub(crate) async fn a_php_script_is_served(world: &World) {
    let bundle = world.bundle(&[(
        "index.php",
        "<?php http_response_code(201); echo 'script ', $_GET['q'];",
    )]);
    let (spec, _) = world.spec(&bundle, host("php", "index.php", None));
    let instance = world.start(spec).await;
    answers(&*instance, "/?q=1", 201, "script 1").await;
    answers(&*instance, "/?q=2", 201, "script 2").await;
}

pub(crate) async fn what_a_host_cannot_load_is_quoted(world: &World) {
    for (runtime, entry, text, expected) in [
        (
            "ruby",
            "handler.rb",
            "def handler\n  1 +\nend\n",
            "handler.rb:3: syntax error",
        ),
        (
            "ruby",
            "src/handler.rb",
            "require 'nope'\n",
            "src/handler.rb:1: cannot load such file -- nope (LoadError); name its gem in the Gemfile",
        ),
        (
            "php",
            "handler.php",
            "<?php\nfunction handler() { return 1 }\n",
            "handler.php:2: syntax error",
        ),
        (
            "php",
            "handler.php",
            "<?php\nreturn new Nope();\n",
            "handler.php:2: Class \"Nope\" not found",
        ),
    ] {
        let bundle = world.bundle(&[(entry, text)]);
        let (spec, logs) = world.spec(&bundle, host(runtime, entry, None));
        let error = world.refused(spec).await;
        assert!(matches!(error, StartError::Code { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(expected), "{message}");
        assert!(!logs.lines().is_empty());
    }
}

/// Compiles sources and our host into a bundle, as a build does.
pub(crate) fn java_bundle(world: &World, files: &[(&str, &str)]) -> PathBuf {
    let bundle = world.bundle(files);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/java/dev/tidegate/host");
    // As an ordinary user the workspace may be out of reach; then the sources are beside the binary.
    let ours = std::env::var_os(SOURCES).map_or(ours, PathBuf::from);
    let sources = std::fs::read_dir(&ours)
        .expect("the host's sources")
        .flatten();
    let status = std::process::Command::new("javac")
        .args([
            "-J-XX:TieredStopAtLevel=1",
            "-J-XX:+UseSerialGC",
            "--release",
            "11",
            "-encoding",
            "UTF-8",
            "-XDstringConcat=inline",
            "-d",
        ])
        .arg(&bundle)
        .args(sources.map(|entry| entry.path()))
        .args(files.iter().map(|(name, _)| bundle.join(name)))
        .env_clear()
        .status()
        .expect("javac runs");
    assert!(status.success(), "javac failed");
    bundle
}

pub(crate) async fn java_handlers_answer_behind_the_walls(world: &World) {
    version(world, "java");
    let bundle = java_bundle(
        world,
        &[
            (
                "Handler.java",
                "public class Handler { public Object handle(String body, dev.tidegate.host.Context c) throws Exception {\n\
                 if (body.equals(\"throw\")) throw new Exception(\"thrown\");\n\
                 return java.util.Map.of(\"hello\", String.valueOf(System.getenv(\"GREETING\")), \"host\", \
                 java.nio.file.Files.readString(java.nio.file.Path.of(\"/etc/hostname\")).trim()); } }",
            ),
            (
                "Broken.java",
                "public class Broken { static int N = 1;\nstatic { if (N == 1) throw new RuntimeException(\"boom\"); }\n\
                 public String handle() { return \"\"; } }",
            ),
            (
                "Server.java",
                "import java.net.*; public class Server { public static void main(String[] a) throws Exception {\n\
                 ServerSocket s = new ServerSocket(Integer.parseInt(System.getenv(\"PORT\")));\n\
                 while (true) { try (Socket c = s.accept()) { c.getOutputStream().write(\
                 \"HTTP/1.1 200 OK\\r\\ncontent-length: 4\\r\\n\\r\\nmain\".getBytes()); } } } }",
            ),
        ],
    );
    let with_room = |program| {
        let (mut spec, logs) = world.spec(&bundle, program);
        spec.ready_within = Duration::from_secs(30);
        (spec, logs)
    };
    let (mut spec, _) = with_room(host("java", "Handler.class", None));
    // As little as is allowed.
    spec.limits.memory = 96 << 20;
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(answer.contains("\"hello\":\"hello\""), "{answer}");
    instance.drain();
    let exit = tokio::time::timeout(Duration::from_secs(10), instance.exited()).await;
    assert_eq!(exit.expect("it ends").code, Some(0));

    let (spec, _) = with_room(host("java", "Broken.class", None));
    assert_eq!(
        world.refused(spec).await.to_string(),
        "Broken.class: Broken.java:2: java.lang.RuntimeException: boom"
    );
    let (spec, _) = with_room(host("java", "Handler.class", Some("Handler::run")));
    assert_eq!(
        world.refused(spec).await.to_string(),
        "Handler.class: class Handler has no method run(event, context); it has handle"
    );
    let (spec, _) = with_room(runtime("java", "Server.class"));
    let instance = world.start(spec).await;
    answers(&*instance, "/", 200, "main").await;

    let (mut spec, _) = with_room(host("java", "Handler.class", None));
    spec.limits.memory = 64 << 20;
    let error = world.refused(spec).await.to_string();
    assert!(error.contains("at least 96 MiB"), "{error}");
}

pub(crate) async fn a_node_program_finds_the_packages_of_a_layer(world: &World) {
    version(world, "node");
    let files = [
        ("run.cjs", "console.log(require('left'))\n"),
        ("run.mjs", "import left from 'left'\nconsole.log(left)\n"),
    ];
    let bundle = world.bundle(&files);
    for (entry, _) in files {
        let (mut spec, _) = world.spec(
            &bundle,
            Program::PerCall {
                runtime: "node".to_owned(),
                entry: entry.to_owned(),
                command: Vec::new(),
            },
        );
        spec.limits.memory = 64 << 20;
        spec.layer = Some(layer(world));
        let instance = world.start(spec).await;
        let answer = call(&*instance, b"").await.expect("called");
        assert_eq!(answer.text(), "left\n", "{entry}");
    }
}
