//! Every language from a folder to an answer: the examples, deployed as they are, with packages from the real registries.

use std::sync::Arc;

use serde_json::json;

use crate::harness::{Server, Shared, example, sample};

static SERVER: Shared = Shared::new();

fn server() -> Arc<Server> {
    SERVER.get_or(|| Server::options().builder().start())
}

/// Deploys an example by nothing but its folder.
#[track_caller]
fn deployed(name: &str) -> Arc<Server> {
    let server = server();
    let folder = example(name);
    server.cli(&["deploy", folder.to_str().expect("text")]).ok();
    server
}

#[test]
fn python_with_packages_pinned_by_hash() {
    let server = deployed("yaml2json");
    let reply = server.post("/fn/yaml2json", sample("yaml2json/request/gauge.yaml"));
    let answer = reply.ok().json();
    assert_eq!(answer["since"], "1850-06-01");
    assert_eq!(
        answer["reports"]["south"],
        json!({"to": ["harbour"], "every": "1h", "quiet": false})
    );
    let wrong = server.post("/fn/yaml2json", "a: [1").status(422).json();
    assert_eq!(wrong["line"], 2, "{wrong}");
}

#[test]
fn the_python_package_is_the_one_that_was_asked_for() {
    let server = server();
    let source = "import idna\ndef handler(event):\n    return [idna.__version__, idna.__file__, idna.encode('hafén.example').decode()]\n";
    server.project(
        "python-layer",
        &[("handler.py", source), ("requirements.txt", "idna==3.4\n")],
        &[],
    );
    let answer = server.get("/fn/python-layer").ok().json();
    assert_eq!(answer[0], "3.4");
    assert!(
        answer[1]
            .as_str()
            .is_some_and(|file| file.starts_with("/layer/")),
        "{answer}"
    );
    assert_eq!(answer[2], "xn--hafn-dpa.example");
}

#[test]
fn node_with_a_lock() {
    let server = deployed("markdown");
    let text = sample("markdown/request/tides.md");
    let reply = server.post("/fn/markdown", text.clone()).ok();
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        reply
            .text()
            .starts_with("<h1>Tides at <em>Saint-Malo</em></h1>\n"),
        "{reply}"
    );
    server
        .post("/fn/markdown?page", text)
        .ok()
        .says(&["<title>Tides at Saint-Malo</title>", "class=\"footnotes\""]);
    assert_eq!(
        server.get("/fn/markdown").status(405).header("allow"),
        Some("POST")
    );
}

#[test]
fn node_in_the_shapes_that_its_users_write() {
    let server = server();
    for (name, file, source) in [
        (
            "node-fetch",
            "handler.mjs",
            "export default { async fetch(request) { return new Response((await request.text()).toUpperCase()); } };\n",
        ),
        (
            "node-function",
            "handler.mjs",
            "export default async (request) => new Response((await request.text()).toUpperCase());\n",
        ),
        (
            "node-event",
            "handler.cjs",
            "exports.handler = async (event, context) => event.text.toUpperCase();\n",
        ),
    ] {
        server.project(name, &[(file, source)], &[]);
        let reply = server.post(&format!("/fn/{name}"), "tide").ok();
        assert_eq!(reply.text(), "TIDE", "{name}");
    }
}

#[test]
fn typescript() {
    let server = deployed("ical");
    let reply = server.post(
        "/fn/ical?from=2026-10-19&to=2026-11-17",
        sample("ical/request/harbour.ics"),
    );
    let events = reply.ok().json();
    let starts: Vec<&str> = events
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event["start"].as_str())
        .collect();
    assert_eq!(
        starts,
        [
            "2026-10-19T07:00:00.000Z",
            "2026-10-24",
            "2026-10-26T08:00:00.000Z",
            "2026-11-09T13:00:00.000Z",
            "2026-11-16T08:00:00.000Z"
        ]
    );
}

#[test]
fn go_with_a_handle() {
    let server = deployed("qrcode");
    for (request, side) in [("?size=512", 512), ("", 256_u32)] {
        let reply = server
            .post(&format!("/fn/qrcode{request}"), "high water at six")
            .ok();
        assert_eq!(reply.header("content-type"), Some("image/png"));
        assert_eq!(&reply.body[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(reply.body[16..20], side.to_be_bytes());
    }
    server
        .get("/fn/qrcode")
        .status(400)
        .says(&["there is no text"]);
}

#[test]
fn go_with_a_main() {
    let server = server();
    server.project(
        "go-main",
        &[
            ("go.mod", "module example.com/m\n\ngo 1.19\n"),
            (
                "main.go",
                "package main\n\nimport (\n\t\"fmt\"\n\t\"net/http\"\n\t\"os\"\n)\n\nfunc main() {\n\thttp.ListenAndServe(\":\"+os.Getenv(\"PORT\"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {\n\t\tfmt.Fprintf(w, \"main saw %s\", r.URL.Path)\n\t}))\n}\n",
            ),
        ],
        &[],
    );
    assert_eq!(server.get("/fn/go-main/tide").ok().text(), "main saw /tide");
}

#[test]
fn rust_from_standard_input_to_standard_output() {
    let server = deployed("csv2json-rust");
    let reply = server.post(
        "/fn/csv2json-rust",
        sample("csv2json-rust/request/stations.csv"),
    );
    assert_eq!(
        reply.ok().json()[1],
        json!({"station": "Saint-Malo, \"La Rance\"", "depth_m": 13.5, "opened": 1966, "post": "035400", "staffed": true})
    );
    server.post("/fn/csv2json-rust", "a,b\n1\n").status(500);
    server.lines("csv2json-rust", |lines| {
        lines.iter().any(|line| {
            line["text"]
                .as_str()
                .is_some_and(|text| text.contains("line: 2"))
        })
    });
}

#[test]
fn rust_serving_http() {
    let server = server();
    server.project(
        "rust-http",
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"rust-http\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
            ),
            (
                "src/main.rs",
                "use std::io::{Read, Write};\n\nfn main() {\n    let port: u16 = std::env::var(\"PORT\").unwrap().parse().unwrap();\n    for stream in std::net::TcpListener::bind((\"127.0.0.1\", port)).unwrap().incoming() {\n        let mut stream = stream.unwrap();\n        let mut head = [0; 4096];\n        let _ = stream.read(&mut head);\n        let _ = stream.write_all(b\"HTTP/1.1 200 OK\\r\\ncontent-length: 4\\r\\nconnection: close\\r\\n\\r\\nrust\");\n    }\n}\n",
            ),
        ],
        &[],
    );
    assert_eq!(server.get("/fn/rust-http").ok().text(), "rust");
}

#[test]
fn java_with_maven() {
    let server = deployed("sanitize");
    let comment = sample("sanitize/request/comment.html");
    let reply = server.post("/fn/sanitize", comment.clone()).ok();
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let clean = reply.says(&["<b>Spring tide</b> tonight"]);
    for trap in ["script", "onclick", "javascript:", "iframe", "style"] {
        assert!(!clean.text().contains(trap), "{trap} is in {clean}");
    }
    server
        .post("/fn/sanitize?keep=all", comment)
        .status(400)
        .says(&["expected text, formatted or pictures"]);
}

#[test]
fn java_from_a_single_file() {
    let server = server();
    server.project(
        "java-file",
        &[(
            "Hello.java",
            "import java.util.Map;\n\npublic class Hello {\n  public String handle(Map<String, Object> event, Object context) {\n    return \"hello, \" + event.get(\"body\");\n  }\n}\n",
        )],
        &[],
    );
    assert_eq!(
        server.post("/fn/java-file", "tide").ok().text(),
        "hello, tide"
    );
}

#[test]
fn ruby_with_bundler() {
    let server = deployed("ledger");
    let statement = sample("ledger/request/statement.csv");
    let answer = server.post("/fn/ledger", statement.clone()).ok().json();
    assert_eq!(
        answer["all"],
        json!({"in": "2400.00", "out": "-1068.10", "left": "1331.90", "bookings": 7})
    );
    let answer = server.post("/fn/ledger?by=category", statement).ok().json();
    assert_eq!(answer["totals"][0]["category"], "boat");
    server
        .post("/fn/ledger", "date,text\n")
        .status(422)
        .says(&["no bookings"]);
}

#[test]
fn ruby_as_a_rack_app() {
    let server = server();
    server.project(
        "ruby-rack",
        &[(
            "config.ru",
            "run ->(env) { [200, { 'content-type' => 'text/plain' }, [\"rack saw #{env['PATH_INFO']}\"]] }\n",
        )],
        &[],
    );
    server
        .get("/fn/ruby-rack/tide")
        .ok()
        .says(&["rack saw", "/tide"]);
}

#[test]
fn php_with_composer() {
    let server = deployed("linkcard");
    let reply = server.post(
        "/fn/linkcard?url=https://harbour.example/news/2026/",
        sample("linkcard/request/page.html"),
    );
    let card = reply.ok().json();
    assert_eq!(card["title"], "Spring tide tonight – 13.4 m");
    assert_eq!(card["image"], "https://harbour.example/news/2026/quay.jpg");
}

#[test]
fn php_as_a_script() {
    let server = server();
    server.project(
        "php-script",
        &[(
            "index.php",
            "<?php\nheader('Content-Type: text/plain');\necho 'script saw ', $_GET['name'];\n",
        )],
        &[],
    );
    assert_eq!(
        server.get("/fn/php-script?name=tide").ok().text(),
        "script saw tide"
    );
}

#[test]
fn an_executable_in_a_folder_is_built_by_its_own_command() {
    let server = server();
    server.project(
        "built-script",
        &[("run.sh.in", "#!/bin/sh\necho \"built by @WHO@\"\n")],
        &[
            "--runtime",
            "executable",
            "--entry",
            "run.sh",
            "--build-command",
            "sed s/@WHO@/hand/ run.sh.in > run.sh && chmod +x run.sh",
        ],
    );
    assert_eq!(
        server.get("/fn/built-script").ok().text(),
        "built by hand\n"
    );
}
