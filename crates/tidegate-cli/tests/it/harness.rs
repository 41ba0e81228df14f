//! A command line and what came of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tidegate_cli::{Checks, Process, Terminal, run};

use crate::fake::Fake;

/// A home folder, and the command lines given in it.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) env: BTreeMap<String, OsString>,
}

/// Shared bytes that are written to.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that is gone.
pub(crate) struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = [("HOME".to_owned(), dir.path().as_os_str().to_owned())];
        Self {
            dir,
            env: env.into(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file and gives its path as an argument.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs the command line against the server and tells exit code and output, with what differs from run to run taken
    /// out.
    pub(crate) fn run(&self, fake: &Fake, args: &[&str]) -> String {
        self.with_input(fake, args, "")
    }

    pub(crate) fn with_input(&self, fake: &Fake, args: &[&str], stdin: &str) -> String {
        let url = ["--url", &fake.url];
        let text = self.plain(&[&url, args].concat(), stdin, Vec::new());
        text.replace(&fake.url, "URL")
    }

    /// The same, where output is a terminal of a hundred columns.
    pub(crate) fn on_terminal(&self, fake: &Fake, args: &[&str]) -> String {
        let url = ["--url", &fake.url];
        let terminal = Terminal {
            stdout: true,
            stderr: false,
            stdin: false,
            width: Some(100),
        };
        let text = self.with(&[&url, args].concat(), "", Vec::new(), terminal);
        text.replace(&fake.url, "URL").replace('\x1b', "ESC")
    }

    /// The same, without a server.
    pub(crate) fn plain(&self, args: &[&str], stdin: &str, checks: Checks) -> String {
        let terminal = Terminal {
            width: Some(100),
            ..Terminal::default()
        };
        self.with(args, stdin, checks, terminal)
    }

    fn with(&self, args: &[&str], stdin: &str, checks: Checks, terminal: Terminal) -> String {
        let (out, err) = (Captured::default(), Captured::default());
        let code = run(
            std::iter::once("tidegate")
                .chain(args.iter().copied())
                .map(Into::into),
            Process {
                env: self.env.clone(),
                stdin: Some(Box::new(io::Cursor::new(stdin.as_bytes().to_vec()))),
                stdout: Box::new(out.clone()),
                stderr: Box::new(err.clone()),
                terminal,
                checks,
            },
        );
        let text = |c: &Captured| String::from_utf8(c.0.lock().unwrap().clone()).unwrap();
        let home = self.path().canonicalize().unwrap();
        format!(
            "exit {code}\n--- stdout\n{}--- stderr\n{}",
            text(&out),
            text(&err)
        )
        .replace(home.to_str().unwrap(), "HOME")
        .replace(self.path().to_str().unwrap(), "HOME")
    }

    /// Runs with output that nobody reads, and gives the exit code.
    pub(crate) fn unread(&self, args: &[&str]) -> u8 {
        run(
            std::iter::once("tidegate")
                .chain(args.iter().copied())
                .map(Into::into),
            Process {
                env: self.env.clone(),
                stdin: None,
                stdout: Box::new(Closed),
                stderr: Box::new(io::sink()),
                terminal: Terminal::default(),
                checks: Vec::new(),
            },
        )
    }
}

/// A function as the server tells it.
pub(crate) fn function(name: &str, phase: &str) -> Value {
    json!({
        "apiVersion": "tidegate.dev/v1",
        "kind": "Function",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": "0192f0c12b3d7a4e8f50112233445566",
            "resourceVersion": "41",
            "generation": 2,
            "creationTimestamp": "2020-01-01T00:00:00Z",
            "labels": { "app": "demo" },
        },
        "spec": {
            "runtime": "python",
            "contract": "host",
            "code": { "digest": "sha256:00", "entry": "handler.py" },
            "env": { "SIZE": "200", "SECRET_SAUCE": "x" },
            "secrets": [{ "name": "db", "env": "DB" }, { "name": "key" }],
            "limits": { "memory": "256Mi" },
            "scale": { "max": 10, "idle": "60s" },
        },
        "status": {
            "observedGeneration": 2,
            "phase": phase,
            "revision": "3f2a1b4c5d6e7f8091a2b3c4",
            "url": format!("/fn/{name}"),
            "instances": { "starting": 1, "idle": 1, "busy": 1, "draining": 0, "queued": 3 },
            "invocations": 1234,
        },
    })
}

/// An error as the server tells it.
pub(crate) fn error(text: &str, reason: &str) -> Value {
    json!({ "error": text, "reason": reason, "requestId": "0192f0c12b3d7a4e8f50112233445566" })
}

/// A list of functions.
pub(crate) fn list(items: &[Value]) -> Value {
    json!({ "items": items, "resourceVersion": "41" })
}

/// Compares with the snapshot of this name, whatever the clock says.
pub(crate) fn check(name: &str, output: &str) {
    insta::with_settings!({
        filters => [
            (r" in \d+\.\ds", " in TIME"),
            (r"\(\d+d ago\)", "(AGE ago)"),
            (r" \d{4}d ago", " AGE ago"),
            (r" \d{4}d\b", " AGE"),
            (r"sha256:[0-9a-f]{64}", "sha256:DIGEST"),
        ],
        omit_expression => true,
        prepend_module_to_snapshot => false,
    }, {
        insta::assert_snapshot!(name, output);
    });
}
