//! Finding an interpreter and asking it for its version.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Language;

/// How long an interpreter may take to say its version. A cold disk is slow; a wrapper that hangs is worse.
const ANSWER: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read.
const ANSWER_BYTES: u64 = 1024;

/// What runs a language's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Under `/usr`, without symbolic links, which may lead through folders that are not seen from inside. `None` where
    /// the kernel runs the code itself.
    pub(crate) program: Option<PathBuf>,
    /// `3.11.2`.
    pub(crate) version: Option<String>,
}

impl Interpreter {
    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        self.program.as_ref().map_or_else(
            || "programs for this machine, and scripts with a `#!` line".to_owned(),
            |program| program.display().to_string(),
        )
    }
}

/// How to get it, as one clause.
fn how_to_get(language: &Language) -> String {
    format!(
        "in Debian: apt install {}; or name an interpreter under /usr as 'runtimes.{}'",
        language.package, language.name
    )
}

/// Finds the interpreter, or says in one sentence what is missing.
pub(crate) fn find(language: &Language, wanted: Option<&Path>) -> Result<Interpreter, String> {
    if language.programs.is_empty() {
        return Ok(Interpreter {
            program: None,
            version: None,
        });
    }
    let how = || how_to_get(language);
    let path = match wanted {
        Some(path) => path,
        None => language
            .programs
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .ok_or_else(|| format!("{} is not installed; {}", language.title, how()))?,
    };
    let real = path.canonicalize().map_err(|e| {
        format!(
            "no {} at {}: {e}; {}",
            language.title,
            path.display(),
            how()
        )
    })?;
    if !real.starts_with("/usr") {
        return Err(format!(
            "{} is {}, outside of /usr, which is all a sandbox sees of the machine; {}",
            path.display(),
            real.display(),
            how()
        ));
    }
    let version = match release(&real) {
        Some(version) => version,
        None => ask(&real, language.version)
            .map_err(|e| format!("{} does not run: {e}; {}", path.display(), how()))?,
    };
    let mut numbers = version.split('.').filter_map(|n| n.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < language.oldest {
        return Err(format!(
            "{} is {} {version}; at least {}.{} is needed; {}",
            path.display(),
            language.title,
            language.oldest.0,
            language.oldest.1,
            how()
        ));
    }
    Ok(Interpreter {
        // As it was named where that is seen from inside: a virtual environment is known by its link.
        program: Some(match wanted {
            Some(path) if path.starts_with("/usr") => path.to_owned(),
            _ => real,
        }),
        version: Some(version),
    })
}

/// A Java keeps its version in a file, which is read in a moment; asking takes it a tenth of a second.
fn release(program: &Path) -> Option<String> {
    let text = std::fs::read_to_string(program.parent()?.parent()?.join("release")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("JAVA_VERSION="))?;
    Some(line.trim().trim_matches('"').to_owned())
}

/// The first word of the answer that begins with a digit, a `v` before it left out: `3.1.2`.
fn ask(program: &Path, arguments: &[&str]) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let status = match wait(&mut child) {
        Ok(status) => status,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    // It printed a few bytes, which fit in the pipe, so reading after its end loses nothing.
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES).read_to_end(&mut output)?;
    }
    let text = String::from_utf8_lossy(&output);
    let version = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    match version {
        Some(version) if status.success() => Ok(version.to_owned()),
        _ => Err(io::Error::other(format!("{status}"))),
    }
}

fn wait(child: &mut std::process::Child) -> io::Result<std::process::ExitStatus> {
    let until = Instant::now() + ANSWER;
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
            Ok(_) => return child.wait(),
        }
    }
}
