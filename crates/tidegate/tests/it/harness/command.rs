//! A command line of the binary under test, and what came of it.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The binary under test: the one named, or the one that this test was built with.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("TIDEGATE_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_tidegate")),
        |path| std::path::absolute(path).expect("a path"),
    )
}

/// The binary with nothing of the caller's environment but a search path.
pub(crate) fn bare(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .current_dir(home);
    command
}

/// What came of a command.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a prepared command with this on its standard input.
    pub(crate) fn of(mut command: Command, stdin: &[u8]) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command can be started");
        let mut input = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            // A command that does not read its input closes it, which is no failure of the test.
            scope.spawn(move || drop(input.write_all(stdin)));
            child.wait_with_output().expect("the command ends")
        });
        output.into()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The same, when it did not fail.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// The same, when it ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// The same, when it failed and says all of this.
    #[track_caller]
    pub(crate) fn fails(self, parts: &[&str]) -> Self {
        assert_ne!(self.code, Some(0), "{self}");
        self.says(parts)
    }

    /// Both of its outputs.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }

    /// The same, when standard error has all of this.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self}");
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self
            .code
            .map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
        let stdout = String::from_utf8_lossy(&self.stdout);
        write!(
            f,
            "exit {code}\n--- stdout\n{stdout}--- stderr\n{}",
            self.stderr
        )
    }
}
