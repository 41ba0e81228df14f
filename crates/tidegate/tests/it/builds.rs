//! Builds: what is installed once and used again, what goes wrong with its reason, and what a server makes of its own end
//! in the middle of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Files, Ran, Server, Shared, groups_of, is_alive, processes_of, until};

static SERVER: Shared = Shared::new();

/// Longest time for the end of a build that ran into a limit of a few seconds: the limit, its noticing, and a machine
/// that has other things to do.
const SOON: Duration = Duration::from_secs(60);

const NUMBERS_6: [&str; 2] = [
    include_str!("fixtures/numbers-6/package.json"),
    include_str!("fixtures/numbers-6/package-lock.json"),
];
const NUMBERS_7: [&str; 2] = [
    include_str!("fixtures/numbers-7/package.json"),
    include_str!("fixtures/numbers-7/package-lock.json"),
];
/// Answers which version of the package it finds.
const NUMBERS: &str = "import { createRequire } from 'node:module';\nimport isNumber from 'is-number';\nconst { version } = createRequire(import.meta.url)('is-number/package.json');\nexport default async () => new Response(`${version} ${isNumber('5')}`);\n";

fn server() -> Arc<Server> {
    SERVER.get_or(|| Server::options().builder().start())
}

fn pair(dependencies: &str, bundle: &str) -> (String, String) {
    (dependencies.to_owned(), bundle.to_owned())
}

// === What is kept

#[test]
fn node_packages_are_installed_once_for_a_lock() {
    let server = server();
    let deploy = |[manifest, lock]: [&str; 2], comment: &str| {
        let code = format!("{NUMBERS}// {comment}\n");
        server.project(
            "numbers",
            &[
                ("handler.js", &code),
                ("package.json", manifest),
                ("package-lock.json", lock),
            ],
            &[],
        )
    };
    deploy(NUMBERS_6, "one");
    assert_eq!(server.built("numbers"), pair("installed", ""));
    assert_eq!(server.get("/fn/numbers").ok().text(), "6.0.0 true");

    deploy(NUMBERS_6, "two");
    assert_eq!(server.built("numbers"), pair("cached", ""));
    assert_eq!(server.get("/fn/numbers").ok().text(), "6.0.0 true");

    deploy(NUMBERS_7, "two");
    assert_eq!(server.built("numbers"), pair("installed", ""));
    assert_eq!(server.get("/fn/numbers").ok().text(), "7.0.0 true");

    // What the first lock named is still there.
    deploy(NUMBERS_6, "three").says(&["cached"]);
    assert_eq!(server.built("numbers"), pair("cached", ""));
    assert_eq!(server.get("/fn/numbers").ok().text(), "6.0.0 true");
}

#[test]
fn python_packages_are_installed_once_for_their_list() {
    let server = server();
    let deploy = |version: &str, comment: &str| {
        let code =
            format!("import idna\ndef handler(event):\n    return idna.__version__\n# {comment}\n");
        let list = format!("idna=={version}\n");
        server.project(
            "idna",
            &[("handler.py", &code), ("requirements.txt", &list)],
            &[],
        );
        (
            server.built("idna").0,
            server.get("/fn/idna").ok().text().to_owned(),
        )
    };
    assert_eq!(deploy("3.4", "one"), pair("installed", "3.4"));
    assert_eq!(deploy("3.4", "two"), pair("cached", "3.4"));
    assert_eq!(deploy("3.7", "two"), pair("installed", "3.7"));
}

#[test]
fn compiled_code_is_built_again_when_it_changes_and_only_then() {
    let server = server();
    let deploy = |text: &str, more: &[&str]| {
        let code = format!(
            "package function\n\nimport (\n\t\"io\"\n\t\"net/http\"\n)\n\nfunc Handle(w http.ResponseWriter, r *http.Request) {{\n\tio.WriteString(w, {text:?})\n}}\n"
        );
        let files = [
            ("go.mod", "module example.com/function\n\ngo 1.19\n"),
            ("handler.go", code.as_str()),
        ];
        server.project("compiled", &files, more);
        (
            server.built("compiled").1,
            server.get("/fn/compiled").ok().text().to_owned(),
        )
    };
    assert_eq!(deploy("one", &[]), pair("built", "one"));
    let digest = |server: &Server| server.function("compiled")["status"]["revision"].clone();
    let first = digest(&server);
    assert_eq!(deploy("two", &[]), pair("built", "two"));
    assert_ne!(digest(&server), first);
    // Another environment is another revision of the same program; the first text again is the first program again.
    assert_eq!(deploy("two", &["--env", "A=1"]), pair("cached", "two"));
    assert_eq!(deploy("one", &["--reset"]), pair("cached", "one"));
    assert_eq!(
        digest(&server),
        first,
        "the same input gives the same revision"
    );
}

#[test]
fn a_build_with_nothing_to_do_is_none() {
    let server = server();
    let code = [("handler.py", "def handler(event):\n    return 'plain'\n")];
    server.project("plain", &code, &[]);
    assert_eq!(server.built("plain"), pair("", ""));
}

// === What goes wrong

/// A second version that cannot be built or started: the deploy says why, and the first one answers on.
#[track_caller]
fn refuses(name: &str, good: &Files<'_>, bad: &Files<'_>, parts: &[&str]) -> Ran {
    let server = server();
    server.project(name, good, &[]);
    assert_eq!(server.get(&format!("/fn/{name}")).ok().text(), "good");
    let ran = server
        .try_project(name, bad, &[])
        .code(1)
        .says(parts)
        .says(&["keeps serving"]);
    assert_eq!(server.get(&format!("/fn/{name}")).ok().text(), "good");
    let status = &server.function(name)["status"];
    assert_eq!(status["phase"], "Failed", "{status}");
    ran
}

const GOOD_NODE: &Files<'static> = &[(
    "handler.mjs",
    "export default async () => new Response('good');\n",
)];
const GOOD_PYTHON: &Files<'static> = &[("handler.py", "def handler(event):\n    return 'good'\n")];
const GOOD_RUBY: &Files<'static> =
    &[("handler.rb", "def handler(event, context)\n  'good'\nend\n")];
const GOOD_PHP: &Files<'static> = &[(
    "handler.php",
    "<?php\nfunction handler($event, $context)\n{\n    return 'good';\n}\n",
)];
const GOOD_JAVA: &Files<'static> = &[(
    "Hello.java",
    "import java.util.Map;\n\npublic class Hello {\n  public String handle(Map<String, Object> event, Object context) {\n    return \"good\";\n  }\n}\n",
)];
const GO_MOD: (&str, &str) = ("go.mod", "module example.com/function\n\ngo 1.19\n");
const GOOD_GO: &Files<'static> = &[
    GO_MOD,
    (
        "handler.go",
        "package function\n\nimport (\n\t\"io\"\n\t\"net/http\"\n)\n\nfunc Handle(w http.ResponseWriter, r *http.Request) {\n\tio.WriteString(w, \"good\")\n}\n",
    ),
];

#[test]
fn a_broken_lock() {
    let [manifest, lock] = NUMBERS_7;
    let code = ("handler.js", NUMBERS);
    let cut = &lock[..lock.len() / 2];
    refuses(
        "lock-broken",
        GOOD_NODE,
        &[code, ("package.json", manifest), ("package-lock.json", cut)],
        &["package-lock.json"],
    );
    // The manifest asks for another version than the lock has.
    refuses(
        "lock-behind",
        GOOD_NODE,
        &[
            code,
            ("package.json", NUMBERS_6[0]),
            ("package-lock.json", lock),
        ],
        &["npm ci", "is-number@6.0.0"],
    );
    let tampered = lock.replace("sha512-41Cifkg6", "sha512-41Cifkg7");
    assert_ne!(tampered, lock);
    refuses(
        "lock-tampered",
        GOOD_NODE,
        &[
            code,
            ("package.json", manifest),
            ("package-lock.json", &tampered),
        ],
        &["npm ci", "EINTEGRITY"],
    );
    let python = ("handler.py", GOOD_PYTHON[0].1);
    let hash = "0".repeat(64);
    refuses(
        "hash-wrong",
        GOOD_PYTHON,
        &[
            python,
            (
                "requirements.txt",
                &format!("idna==3.4 --hash=sha256:{hash}\n"),
            ),
        ],
        &["idna"],
    );
}

#[test]
fn a_package_that_does_not_exist() {
    const NONE: &str = "tidegate-there-is-no-such-package";
    let manifest = format!(r#"{{"name":"x","type":"module","dependencies":{{"{NONE}":"1.0.0"}}}}"#);
    let code = GOOD_NODE[0];
    refuses(
        "package-node",
        GOOD_NODE,
        &[code, ("package.json", &manifest)],
        &[NONE],
    );
    let python = ("handler.py", GOOD_PYTHON[0].1);
    refuses(
        "package-python",
        GOOD_PYTHON,
        &[python, ("requirements.txt", &format!("{NONE}==1.0\n"))],
        &[NONE],
    );
    refuses(
        "package-go",
        GOOD_GO,
        &[
            (
                "go.mod",
                "module example.com/function\n\ngo 1.19\n\nrequire example.com/there-is-no-such-module v1.0.0\n",
            ),
            (
                "handler.go",
                "package function\n\nimport (\n\t\"net/http\"\n\n\tnone \"example.com/there-is-no-such-module\"\n)\n\nfunc Handle(w http.ResponseWriter, r *http.Request) { none.Do() }\n",
            ),
        ],
        &["example.com/there-is-no-such-module"],
    );
}

#[test]
fn code_that_does_not_compile_is_told_with_its_line() {
    refuses(
        "compile-go",
        GOOD_GO,
        &[
            GO_MOD,
            (
                "handler.go",
                "package function\n\nimport \"net/http\"\n\nfunc Handle(w http.ResponseWriter, r *http.Request) {\n\tnowhere()\n}\n",
            ),
        ],
        &["handler.go:6", "undefined: nowhere"],
    );
    refuses(
        "compile-java",
        GOOD_JAVA,
        &[(
            "Hello.java",
            "import java.util.Map;\n\npublic class Hello {\n  public String handle(Map<String, Object> event, Object context) {\n    return nowhere();\n  }\n}\n",
        )],
        &["Hello.java:5", "cannot find symbol"],
    );
    let server = server();
    let rust = |body: &str| {
        let source = format!("fn main() {{\n    {body}\n}}\n");
        server.try_project(
            "compile-rust",
            &[
                (
                    "Cargo.toml",
                    "[package]\nname = \"compile-rust\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
                ),
                ("src/main.rs", &source),
            ],
            &[],
        )
    };
    rust("println!(\"good\");").ok();
    rust("nowhere();")
        .code(1)
        .says(&["src/main.rs:2", "nowhere", "keeps serving"]);
    assert_eq!(server.get("/fn/compile-rust").ok().text(), "good\n");
}

#[test]
fn a_syntax_error_is_told_with_its_line() {
    for (name, good, file, bad, place) in [
        (
            "syntax-python",
            GOOD_PYTHON,
            "handler.py",
            "def handler(event):\n    return (\n",
            "handler.py",
        ),
        (
            "syntax-node",
            GOOD_NODE,
            "handler.mjs",
            "const a = 1;\nexport default async () => { return new ;\n",
            "handler.mjs:2",
        ),
        (
            "syntax-ruby",
            GOOD_RUBY,
            "handler.rb",
            "def handler(event, context)\n  [1,\nend\n",
            "handler.rb:3",
        ),
        (
            "syntax-php",
            GOOD_PHP,
            "handler.php",
            "<?php\nfunction handler($event, $context)\n{\n    return [;\n}\n",
            "handler.php",
        ),
    ] {
        let ran = refuses(name, good, &[(file, bad)], &[place]);
        let line = match name {
            "syntax-python" => "line 2",
            "syntax-php" => "4",
            _ => place,
        };
        assert!(
            ran.stderr.contains(line),
            "{name}: {line:?} is not in {ran}"
        );
    }
}

#[test]
fn a_missing_handler_and_a_wrong_export_are_named() {
    refuses(
        "wrong-node",
        GOOD_NODE,
        &[("handler.mjs", "export const helper = () => 1;\n")],
        &["handler.mjs", "export", "helper"],
    );
    refuses(
        "wrong-node-kind",
        GOOD_NODE,
        &[("handler.mjs", "export default 7;\n")],
        &["exports nothing that can be called", "expected"],
    );
    refuses(
        "wrong-node-module",
        GOOD_NODE,
        &[(
            "handler.mjs",
            "import 'there-is-no-such-module';\nexport default async () => new Response('x');\n",
        )],
        &["there-is-no-such-module"],
    );
    refuses(
        "wrong-ruby",
        GOOD_RUBY,
        &[("handler.rb", "def other(event)\n  1\nend\n")],
        &["handler.rb", "handler"],
    );
    refuses(
        "wrong-php",
        GOOD_PHP,
        &[(
            "handler.php",
            "<?php\nfunction other($event)\n{\n    return 1;\n}\n",
        )],
        &["handler.php", "handler"],
    );
}

#[test]
fn a_build_command_that_fails_shows_its_last_lines() {
    let server = server();
    server.project("command", GOOD_PYTHON, &[]);
    server
        .try_project(
            "command",
            GOOD_PYTHON,
            &[
                "--build-command",
                "for n in 1 2 3; do echo \"step $n\"; done; echo 'the mould is cracked' >&2; exit 7",
            ],
        )
        .code(1)
        .says(&["step 3", "the mould is cracked", "exited with code 7", "keeps serving"]);
    assert_eq!(server.get("/fn/command").ok().text(), "good");
    let log = &server.function("command")["status"]["build"]["log"];
    assert!(log.to_string().contains("the mould is cracked"), "{log}");
}

// === What never ends

/// Deploys with a build command on a server with tight limits; gives what came of it, which has to come soon.
#[track_caller]
fn limited(command: &str, reason: &str) {
    let server = Server::options()
        .builder()
        .set("build.timeout", "8s")
        .set("build.disk", "64Mi")
        .set("build.pids", "64")
        .set("build.memory", "256Mi")
        .start();
    server.project("limited", GOOD_PYTHON, &[]);
    let began = Instant::now();
    server
        .try_project("limited", GOOD_PYTHON, &["--build-command", command])
        .code(1)
        .says(&[reason, "keeps serving"]);
    let took = began.elapsed();
    assert!(took < SOON, "it took {took:?}");
    assert_eq!(server.get("/fn/limited").ok().text(), "good");
    until("nothing of the build is left", || {
        let work = server.data().join("builds/work");
        std::fs::read_dir(work).is_ok_and(|mut entries| entries.next().is_none())
    });
}

#[test]
fn a_build_that_hangs_ends() {
    limited("sleep 600", "over its time limit");
}

#[test]
fn a_build_that_fills_the_disk_ends() {
    limited("yes tide > /out/full", "over its disk limit");
    limited(
        "n=0; while :; do head -c 1000000 /dev/zero > /out/$n; n=$((n+1)); done",
        "over its disk limit",
    );
}

#[test]
fn a_build_that_forks_without_end_ends() {
    limited("bomb() { bomb | bomb & }; bomb; sleep 600", "limit");
}

#[test]
fn a_build_that_takes_all_memory_ends() {
    limited(
        "exec python3 -c 'a = []\nwhile True: a.append(bytearray(1 << 20))'",
        "over its memory limit",
    );
}

#[test]
fn a_build_does_not_reach_the_machine() {
    let server = server();
    // The server itself is what there is to reach on loopback.
    let target = server.address;
    let command = format!(
        "python3 -c 'import socket; socket.create_connection((\"{}\", {}), 5)'",
        target.ip(),
        target.port()
    );
    server
        .try_project("walled", GOOD_PYTHON, &["--build-command", &command])
        .code(1)
        .says(&["refused"]);
}

// === Several at once, and the server's end

#[test]
fn deploys_at_once_all_come_through_or_say_why_not() {
    let server = server();
    // Different functions with the same new packages: one installs them, and all have them.
    // Called otherwise than in other tests, whose packages these would be.
    let [manifest, lock] = &NUMBERS_7.map(|text| text.replace("\"numbers\"", "\"at-once\""));
    let names = ["at-once-a", "at-once-b", "at-once-c"];
    std::thread::scope(|scope| {
        for name in names {
            let server = &server;
            scope.spawn(move || {
                let files = [
                    ("handler.js", NUMBERS),
                    ("package.json", manifest),
                    ("package-lock.json", lock),
                ];
                server.project(name, &files, &[]);
            });
        }
    });
    for name in names {
        assert_eq!(server.get(&format!("/fn/{name}")).ok().text(), "7.0.0 true");
    }

    // One function twice at once: what wins serves, and whoever lost was told so.
    server.project("contested", GOOD_PYTHON, &[]);
    let codes: Vec<(&str, Ran)> = std::thread::scope(|scope| {
        let deploys = ["one", "two"].map(|word| {
            let server = &server;
            scope.spawn(move || {
                let code = format!("def handler(event):\n    return '{word}'\n");
                let folder = server.folder(&format!("contested-{word}"), &[("handler.py", &code)]);
                let ran = server.cli(&["deploy", &folder, "--name", "contested"]);
                (word, ran)
            })
        });
        deploys
            .map(|deploy| deploy.join().expect("no panic"))
            .into()
    });
    let (won, lost): (Vec<_>, Vec<_>) = codes.into_iter().partition(|(_, ran)| ran.code == Some(0));
    assert!(!won.is_empty(), "{}", lost[0].1);
    for (_, ran) in lost {
        let told = ran.code(1);
        assert!(
            told.stderr.contains("another deploy") || told.stderr.contains("newer deploy"),
            "{told}"
        );
    }
    let serves = server.get("/fn/contested").ok();
    assert!(
        won.iter().any(|(word, _)| serves.text() == *word),
        "{serves} was told to have lost"
    );
}

#[test]
fn deploys_that_build_lose_no_call() {
    let server = server();
    let deploy = |n: u32| {
        let code = format!(
            "package function\n\nimport (\n\t\"io\"\n\t\"net/http\"\n)\n\nfunc Handle(w http.ResponseWriter, r *http.Request) {{\n\tio.WriteString(w, \"{n}\")\n}}\n"
        );
        server.project("busy", &[GO_MOD, ("handler.go", &code)], &[]);
    };
    deploy(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut calls, mut last) = (0, 0);
                    while !done.load(Ordering::Relaxed) {
                        let reply = server.get("/fn/busy").ok();
                        let n: u32 = reply.text().parse().expect("a number");
                        assert!(n >= last, "{n} answered after {last}");
                        (calls, last) = (calls + 1, n);
                    }
                    calls
                })
            })
            .collect();
        for n in 1..=3 {
            deploy(n);
        }
        done.store(true, Ordering::Relaxed);
        for caller in callers {
            assert!(caller.join().expect("no lost call") > 5);
        }
    });
    assert_eq!(server.get("/fn/busy").ok().text(), "3");
}

#[test]
fn a_kill_during_a_build_leaves_the_function_as_it_was() {
    let mut server = Server::options().builder().start();
    server.project("survivor", GOOD_PYTHON, &[]);
    let marker = "tidegate-build-marker";
    let folder = server.folder("survivor-next", GOOD_PYTHON);
    let deploy = server.command(&[
        "deploy",
        &folder,
        "--name",
        "survivor",
        "--build-command",
        &format!("echo {marker}; exec sleep 600"),
    ]);
    let (pid, below) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Ran::of(deploy, b""));
        until("the build is under way", || sleeps(server.pid()));
        let (pid, below) = (server.pid(), processes_of(server.pid()));
        server.signal(Signal::KILL);
        let told = waiting.join().expect("the command ends");
        assert_ne!(told.code, Some(0), "{told}");
        (pid, below)
    });
    server.wait();
    until("every process of the build has ended", || {
        !below.iter().any(|&pid| is_alive(pid))
    });
    until("every control group is gone", || groups_of(pid).is_empty());

    // The build that was cut short is begun again, since its document is what is wanted; what served before serves.
    server.restart();
    assert_eq!(server.get("/fn/survivor").ok().text(), "good");
    server.project(
        "survivor",
        &[("handler.py", "def handler(event):\n    return 'next'\n")],
        &["--reset"],
    );
    assert_eq!(server.get("/fn/survivor").ok().text(), "next");
}

/// Whether a build's `sleep` runs below a server.
fn sleeps(server: i32) -> bool {
    processes_of(server).iter().any(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x00600\x00")
    })
}
