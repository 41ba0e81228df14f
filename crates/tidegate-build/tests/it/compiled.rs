use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_build::Runtime;

use crate::run::{Place, output, wanted};

/// A server, ended with the test.
struct Server(Child, u16);

impl Server {
    fn start(command: &mut Command) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = command
            .env("PORT", port.to_string())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child, port)
    }

    /// The answer to a GET, connecting until the server listens.
    fn get(&self, path: &str) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.1)) {
                Ok(stream) => break stream,
                Err(e) => assert!(Instant::now() < until, "{e}"),
            }
        };
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: r1\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks it to end and gives what it wrote to standard error.
    fn end(&mut self) -> String {
        let pid = self.0.id().to_string();
        output(Command::new("kill").arg(pid));
        assert!(
            self.0.wait().unwrap().success(),
            "ends by itself when asked to"
        );
        let mut text = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn same(one: &Path, two: &Path) {
    output(Command::new("diff").arg("-r").args([one, two]));
}

const HANDLE: &str = "
import (
\t\"fmt\"
\t\"net/http\"
)

func Handle(w http.ResponseWriter, r *http.Request) {
\tif r.URL.Path == \"/panic\" {
\t\tpanic(\"on purpose\")
\t}
\tfmt.Fprint(w, \"hello \", r.URL.Path)
}
";

#[test]
fn a_go_handler_becomes_a_server() {
    let place = Place::new();
    for (name, files) in [
        (
            "module",
            vec![
                ("go.mod", "module example.com/shop\n\ngo 1.20\n".to_owned()),
                ("shop.go", format!("package shop\n{HANDLE}")),
                ("page.html", "kept".to_owned()),
            ],
        ),
        (
            "main",
            vec![("handler.go", format!("package main\n{HANDLE}"))],
        ),
        (
            "alone",
            vec![("handler.go", format!("package alone\n{HANDLE}"))],
        ),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(n, c)| (*n, &**c)).collect();
        let source = place.source(name, &files);
        let wanted = wanted(
            Runtime::Go,
            "http",
            files
                .last()
                .filter(|f| f.0.ends_with(".go"))
                .map_or("shop.go", |f| f.0),
        );
        let one = place.build(&source, &wanted, &format!("{name}1")).unwrap();
        let out = one.out.unwrap();
        if name == "module" {
            let two = place.build(&source, &wanted, "again").unwrap();
            same(&out, &two.out.unwrap());
            assert!(out.join("page.html").is_file() && !out.join("shop.go").exists());
        }
        let mut server = Server::start(&mut Command::new(out.join("app")));
        assert!(server.get("/a").ends_with("hello /a"));
        let answer = server.get("/panic");
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(
            answer.ends_with(r#"{"error":"function failed","requestId":"r1"}"#),
            "{answer}"
        );
        let log = server.end();
        assert!(log.contains("panic in request r1: on purpose"), "{log}");
    }
}

#[test]
fn a_go_error_has_its_line() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            ("go.mod", "module x\n\ngo 1.20\n"),
            ("main.go", "package main\n\nfunc main() {\n\tx := 1\n}\n"),
        ],
    );
    let wanted = wanted(Runtime::Go, "http", "main.go");
    let said = place.build(&source, &wanted, "1").err().unwrap();
    assert!(
        said.contains("./main.go:4:2: declared and not used: x"),
        "{said}"
    );
}

#[test]
fn a_cargo_project_becomes_a_program() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"shout\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"=1.0.15\"\n",
            ),
            (
                "src/main.rs",
                "fn main() { let mut b = itoa::Buffer::new(); println!(\"{}\", b.format(42)); }\n",
            ),
            ("words.txt", "kept"),
        ],
    );
    let wanted = wanted(Runtime::Rust, "stdio", "Cargo.toml");
    let one = place.build(&source, &wanted, "1").unwrap();
    assert_eq!(
        one.plan.notes,
        ["there is no Cargo.lock; with one, every deploy uses the same versions"]
    );
    let out = one.out.unwrap();
    assert_eq!(output(&mut Command::new(out.join("app"))), "42\n");
    assert!(out.join("words.txt").is_file() && !out.join("src").exists());
}

#[test]
fn a_rust_file_alone_becomes_a_program_and_its_error_has_a_line() {
    let place = Place::new();
    let wanted = wanted(Runtime::Rust, "stdio", "x.rs");
    let source = place.source("a", &[("x.rs", "fn main() { println!(\"hi\"); }\n")]);
    let one = place.build(&source, &wanted, "1").unwrap();
    assert_eq!(
        output(&mut Command::new(one.out.unwrap().join("app"))),
        "hi\n"
    );
    let source = place.source("b", &[("x.rs", "fn main() {\n    let a: u8 = \"x\";\n}\n")]);
    let said = place.build(&source, &wanted, "2").err().unwrap();
    assert!(said.contains("--> x.rs:2:17"), "{said}");
}

const HANDLER: &str = "import java.util.Map;\n\npublic class Handler {\n    public Object handle(Object event) {\n        \
                       return Map.of(\"is\", 1);\n    }\n}\n";

#[test]
fn java_files_are_compiled_with_the_host() {
    let place = Place::new();
    let source = place.source("a", &[("Handler.java", HANDLER), ("words.txt", "kept")]);
    let wanted = wanted(Runtime::Java, "host", "Handler.java");
    let one = place.build(&source, &wanted, "1").unwrap();
    let two = place.build(&source, &wanted, "2").unwrap();
    assert_eq!(one.plan.compile.unwrap().entry, "Handler.class");
    let out = one.out.unwrap();
    same(&out, &two.out.unwrap());
    assert!(out.join("dev/tidegate/host/Main.class").is_file());
    assert!(out.join("words.txt").is_file() && !out.join("Handler.java").exists());

    let source = place.source(
        "b",
        &[(
            "Handler.java",
            "public class Handler {\n    public Object handle(Object event) {\n        return x;\n    }\n}\n",
        )],
    );
    let said = place.build(&source, &wanted, "3").err().unwrap();
    assert!(
        said.contains("Handler.java:3: error: cannot find symbol"),
        "{said}"
    );
}

#[test]
fn a_maven_project_keeps_its_classes_and_jars() {
    let place = Place::new();
    let source = place.source(
        "a",
        &[
            (
                "pom.xml",
                "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
                 <groupId>shop</groupId><artifactId>shop</artifactId><version>1</version><properties>\
                                  <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties><dependencies><dependency>\
                 <groupId>org.slf4j</groupId><artifactId>slf4j-api</artifactId><version>2.0.13</version></dependency>\
                 </dependencies></project>",
            ),
            (
                "src/main/java/shop/Orders.java",
                "package shop;\n\nimport dev.tidegate.host.Context;\n\npublic class Orders {\n    public String handle(Object \
                 event, Context context) {\n        return org.slf4j.event.Level.INFO.name();\n    }\n}\n",
            ),
            ("src/main/resources/words.txt", "kept"),
        ],
    );
    let wanted = wanted(Runtime::Java, "host", "pom.xml");
    let one = place.build(&source, &wanted, "1").unwrap();
    assert_eq!(one.plan.compile.unwrap().entry, "shop/Orders.class");
    let out = one.out.unwrap();
    for file in [
        "words.txt",
        "dev/tidegate/host/Main.class",
        "lib/slf4j-api-2.0.13.jar",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
}
