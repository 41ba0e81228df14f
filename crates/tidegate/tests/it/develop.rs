//! Code without a server to speak of: `new`, `run` and `dev`; and manifests against a real one.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Call, Ran, Server, bare, program, until};

fn tidegate(home: &Path, words: &[&str]) -> Command {
    let mut command = bare(&program(), home);
    // What a command leaves behind would be here.
    command.env("TMPDIR", home.join("tmp")).args(words);
    command
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(home.path().join("tmp")).expect("a folder");
    home
}

/// Whether nothing is left of a command.
fn nothing_left(home: &Path) -> bool {
    let mut left = std::fs::read_dir(home.join("tmp")).expect("the folder");
    left.next().is_none()
}

#[test]
fn a_new_folder_runs_once_and_leaves_nothing() {
    let home = home();
    let at = |words: &[&str]| Ran::of(tidegate(home.path(), words), b"");
    at(&["new", "hello", "--lang", "python"]).ok();
    let ran = at(&["run", "hello", "-d", "@hello/request/hello.json"]).ok();
    assert_eq!(ran.text(), "{\"hello\":\"tide\"}");
    assert!(ran.stderr.contains("greeting tide"), "{ran}");
    assert!(nothing_left(home.path()));

    at(&["new", "say", "--lang", "sh"]).ok();
    let mut input = tidegate(home.path(), &["run", "say", "-q", "-d", "-"]);
    input.env("TIDEGATE_URL", "http://127.0.0.1:1");
    let ran = Ran::of(input, b"gate").ok();
    assert_eq!((ran.text(), &*ran.stderr), ("hello, gate\n", ""));

    std::fs::write(
        home.path().join("bad.py"),
        "def handler(event):\n    raise ValueError('no')\n",
    )
    .expect("written");
    at(&["run", "bad.py"]).code(1).says(&["ValueError: no"]);
    std::fs::write(home.path().join("broken.py"), "def handler(:\n").expect("written");
    at(&["run", "broken.py"])
        .code(1)
        .says(&["SyntaxError", "line 1"]);
    at(&["run", "nowhere.py"]).code(2).says(&["nowhere.py"]);
    assert!(nothing_left(home.path()));
}

/// A `dev` that runs.
struct Dev {
    child: Child,
    told: Arc<Mutex<String>>,
    written: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

fn follow(
    from: impl std::io::Read + Send + 'static,
    into: &Arc<Mutex<String>>,
) -> std::thread::JoinHandle<()> {
    let into = into.clone();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            into.lock().expect("a text").push_str(&line);
            line.clear();
        }
    })
}

impl Dev {
    fn start(home: &Path, words: &[&str], url: Option<&str>) -> Self {
        let mut command = tidegate(home, &[&["dev"], words].concat());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(url) = url {
            command.env("TIDEGATE_URL", url);
        } else {
            // Whatever runs on the usual port is not meant.
            command.args(["--data", home.join("data").to_str().expect("a path")]);
        }
        let mut child = command.spawn().expect("the command can be started");
        let (told, written) = <(Arc<Mutex<String>>, Arc<Mutex<String>>)>::default();
        let readers = vec![
            follow(child.stdout.take().expect("a pipe"), &written),
            follow(child.stderr.take().expect("a pipe"), &told),
        ];
        Self {
            child,
            told,
            written,
            readers,
        }
    }

    fn told(&self) -> String {
        self.told.lock().expect("a text").clone()
    }

    fn written(&self) -> String {
        self.written.lock().expect("a text").clone()
    }

    /// Where the function is called, once that is told.
    fn address(&self) -> (SocketAddr, String) {
        until("the address is told", || self.written().contains('\n'));
        let written = self.written();
        let url = written.lines().next().expect("a line");
        let rest = url.strip_prefix("http://").expect("a URL");
        let (address, path) = rest.split_once('/').expect("a path");
        (address.parse().expect("an address"), format!("/{path}"))
    }

    fn says(&self, part: &str) {
        until(part, || self.told().contains(part));
    }

    fn end(mut self) -> (String, String) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let pid = Pid::from_raw(pid).expect("a pid");
        kill_process(pid, Signal::INT).expect("it runs");
        let status = self.child.wait().expect("it ends");
        for reader in self.readers.drain(..) {
            reader.join().expect("the output is read");
        }
        assert!(status.success(), "{status}: {}", self.told());
        (self.written(), self.told())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get((address, path): &(SocketAddr, String)) -> String {
    Call::new(*address, "GET", path)
        .send()
        .ok()
        .text()
        .to_owned()
}

#[test]
fn dev_deploys_what_is_typed_and_keeps_what_works() {
    let home = home();
    let file = home.path().join("say.py");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    write("def handler(event):\n    print('one was called')\n    return 'one'\n");
    let dev = Dev::start(home.path(), &["say.py"], None);
    let function = dev.address();
    assert_eq!(get(&function), "one");
    until("the log is shown", || {
        dev.written().contains("one was called")
    });

    write("def handler(event):\n    return 'two'\n");
    dev.says("redeployed say");
    assert_eq!(get(&function), "two");

    write("def handler(:\n");
    dev.says("SyntaxError");
    dev.says("waiting for a change");
    assert_eq!(get(&function), "two");

    write("def handler(event):\n    return 'three'\n");
    until("it is redeployed", || {
        dev.told().matches("redeployed").count() == 2
    });
    assert_eq!(get(&function), "three");

    let (_, told) = dev.end();
    assert!(
        told.contains("running a server at http://127.0.0.1:"),
        "{told}"
    );
    assert!(told.contains("deleted say"), "{told}");
}

#[test]
fn dev_uses_a_server_that_runs_and_leaves_it_as_it_was() {
    let server = Server::start();
    let home = server.home().to_owned();
    std::fs::create_dir_all(home.join("tmp")).expect("a folder");
    server.deploy("mine", "def handler(event):\n    return 'before'\n", &[]);
    let folder = home.join("shop");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("a.py"), "def handler(event):\n    return 'a'\n").expect("written");
    std::fs::write(
        folder.join("tidegate.toml"),
        "[functions.a]\npath = 'a.py'\nenv = { X = '1' }\n[functions.b]\npath = 'a.py'\n\
         [triggers.tick]\nfunction = 'a'\nschedule = '@daily'\n\
         [triggers.other]\nfunction = 'b'\nschedule = '@daily'\n\
         [triggers.far]\nnamespace = 'far'\nfunction = 'a'\nschedule = '@daily'\n",
    )
    .expect("written");
    let shop = folder.to_str().expect("a path");
    let dev = Dev::start(&home, &[shop, "--name", "a"], Some(&server.url));
    assert_eq!(get(&dev.address()), "a");
    std::fs::write(
        folder.join("a.py"),
        "def handler(event):\n    return 'aa'\n",
    )
    .expect("written");
    dev.says("redeployed a");
    server.get("/fn/a").ok().says(&["aa"]);
    // What calls the function that is worked at is there as long as it is.
    let triggers = || {
        let told = server.cli(&["trigger", "list", "--json"]).ok().json();
        let all = told.as_array().expect("a list").clone();
        let names = all.iter().map(|t| t["metadata"]["name"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(triggers(), ["tick"]);
    dev.end();
    assert!(triggers().is_empty());
    server.get("/fn/a").status(404);
    server.get("/fn/mine").ok().says(&["before"]);
}

#[test]
fn manifests_are_applied_exported_and_pruned() {
    let server = Server::start();
    server.file(
        "code/main.py",
        "import os\ndef handler(event):\n    return os.environ['WHO']\n",
    );
    let manifest = |who: &str, more: &str| {
        server.file(
            "code/tidegate.toml",
            format!("project = 'p'\n[functions.one]\npath = 'main.py'\nenv.WHO = '{who}'\n{more}"),
        )
    };
    let two = "[functions.two]\npath = 'main.py'\nenv.WHO = 'two'\n";
    let file = manifest("you", two);
    server
        .cli(&["apply", "-f", &file])
        .ok()
        .says(&["2 created"]);
    server.get("/fn/one").ok().says(&["you"]);
    server
        .cli(&["apply", "-f", &file])
        .ok()
        .says(&["2 unchanged"]);

    let exported = server.cli(&["export"]).ok();
    server
        .cli_with(&["apply", "-f", "-"], &exported.stdout)
        .ok()
        .says(&["2 unchanged"]);

    let file = manifest("me", "");
    let dry = server
        .cli(&["apply", "-f", &file, "--prune", "--dry-run"])
        .ok();
    assert!(
        dry.text().contains("WHO: you") && dry.text().contains("would delete two"),
        "{dry}"
    );
    server.get("/fn/one").ok().says(&["you"]);
    server
        .cli(&["apply", "-f", &file, "--prune"])
        .ok()
        .says(&["1 updated", "1 deleted"]);
    server.get("/fn/one").ok().says(&["me"]);
    server.get("/fn/two").status(404);

    let broken = server.file("code/broken.py", "raise ValueError('not today')\n");
    let file = manifest("us", &format!("[functions.bad]\npath = '{broken}'\n"));
    server.cli(&["apply", "-f", &file]).code(1).says(&[
        "bad could not be started",
        "not today",
        "1 failed",
    ]);
    server.get("/fn/one").ok().says(&["us"]);
}
