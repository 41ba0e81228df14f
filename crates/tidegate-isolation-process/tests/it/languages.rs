//! Languages beside Python's own host: interpreters inside, layers of dependencies.

use std::path::PathBuf;

use tidegate_instance::{Instance, Isolation, Program, StartError};

use crate::world::{World, call, get};

fn runtime(program: &str, entry: &str) -> Program {
    Program::Server {
        runtime: program.to_owned(),
        entry: entry.to_owned(),
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
