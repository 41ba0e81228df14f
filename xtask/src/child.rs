//! Other programs, run with a limit on their time and their output.
//!
//! Each runs in a process group of its own: Ctrl-C reaches this program alone, which then ends its children in the right
//! order, and a program that leaves children behind does not keep a chore waiting on a pipe they hold.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::signals;

/// How often a waiting chore looks whether its child ended.
const POLL: Duration = Duration::from_millis(10);
/// How long a child may take to end once asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(20);
/// How long output is read after the child ended, for what its own children still write.
const LINGER: Duration = Duration::from_secs(2);
/// Longest line taken as one; a longer one arrives in parts.
const LONGEST_LINE: u64 = 64 * 1024;
/// Lines waiting to be printed; the program waits when it is faster than the terminal.
const LINES_WAITING: usize = 1024;
/// Most output kept of one captured stream; more is a program gone wrong.
const MOST_OUTPUT: u64 = 64 * 1024 * 1024;

/// A child and its process group; dropped before the child has ended, it kills the group.
pub(crate) struct Group {
    child: Child,
    name: String,
    ended: bool,
}

impl Group {
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            child,
            name,
            ended: false,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status where the child has ended.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.ended |= status.is_some();
        Ok(status)
    }

    /// Waits for the end, but not beyond `limit` or Ctrl-C.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            self.check(until, limit)?;
            thread::sleep(POLL);
        }
    }

    fn check(&self, until: Instant, limit: Duration) -> Result<()> {
        if signals::interrupted() {
            bail!("interrupted");
        }
        if Instant::now() > until {
            bail!("{} did not end within {} s", self.name, limit.as_secs());
        }
        Ok(())
    }

    /// Asks the child to end and waits for it; kills it where it does not. Also after Ctrl-C, when nothing else waits.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        signals::send(self.signed_pid(), libc::SIGTERM);
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        bail!(
            "{} did not end within {} s of SIGTERM and was killed",
            self.name,
            GRACE.as_secs()
        );
    }

    /// Kills the child alone, not what it started, and waits for its end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.ended = true;
        Ok(())
    }

    fn signed_pid(&self) -> i32 {
        i32::try_from(self.child.id())
            .expect("process ids fit in pid_t, which is what they came from")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            // Not sent once the leader was waited for: its number may then belong to somebody else.
            signals::send(-self.signed_pid(), libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// What a captured program left.
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Captured {
    /// The standard output of a program that succeeded; what it complained about otherwise.
    pub(crate) fn success(self, what: &str) -> Result<String> {
        if !self.status.success() {
            bail!("{what} failed ({}): {}", self.status, self.stderr.trim());
        }
        String::from_utf8(self.stdout).with_context(|| format!("{what} printed no UTF-8"))
    }
}

/// Runs a program that reads nothing, and keeps what it prints.
pub(crate) fn capture(command: &mut Command, limit: Duration) -> Result<Captured> {
    capture_given(command.stdin(Stdio::null()), limit)
}

/// The same with the standard input that `command` already has.
pub(crate) fn capture_given(command: &mut Command, limit: Duration) -> Result<Captured> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group::spawn(command)?;
    let stdout = keep(
        group
            .child
            .stdout
            .take()
            .expect("the pipe was asked for above"),
    );
    let stderr = keep(
        group
            .child
            .stderr
            .take()
            .expect("the pipe was asked for above"),
    );
    let status = group.wait(limit)?;
    let collect = |from: Receiver<Vec<u8>>| {
        from.recv_timeout(LINGER)
            .context("its output stayed open after its end")
    };
    Ok(Captured {
        status,
        stdout: collect(stdout)?,
        stderr: String::from_utf8_lossy(&collect(stderr)?).into_owned(),
    })
}

/// Runs a program, prints its lines as they come, and hands each to `look`.
pub(crate) fn tee(
    command: &mut Command,
    limit: Duration,
    mut look: impl FnMut(&str),
) -> Result<ExitStatus> {
    lines(command, limit, |line| {
        println!("{line}");
        look(line);
    })
}

/// Runs a program and hands each of its lines, of both streams, to `look`.
pub(crate) fn lines(
    command: &mut Command,
    limit: Duration,
    mut look: impl FnMut(&str),
) -> Result<ExitStatus> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::spawn(command)?;
    let (sender, lines) = sync_channel(LINES_WAITING);
    follow(
        group
            .child
            .stdout
            .take()
            .expect("the pipe was asked for above"),
        sender.clone(),
    );
    follow(
        group
            .child
            .stderr
            .take()
            .expect("the pipe was asked for above"),
        sender,
    );
    let until = Instant::now() + limit;
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match lines.recv_timeout(POLL * 5) {
            Ok(line) => {
                look(&line);
                if ended.is_none() {
                    group.check(until, limit)?;
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        match ended {
            Some((_, at)) if at.elapsed() > LINGER => break,
            Some(_) => {}
            None => {
                ended = group.try_wait()?.map(|status| (status, Instant::now()));
                group.check(until, limit)?;
            }
        }
    }
    match ended {
        Some((status, _)) => Ok(status),
        None => group.wait(limit),
    }
}

/// Runs a program whose output goes where ours goes.
pub(crate) fn show(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    Group::spawn(command.stdin(Stdio::null()))?.wait(limit)
}

fn keep(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut kept = Vec::new();
        // A read error ends the output like its end does; the exit status tells the rest.
        let _ = from.by_ref().take(MOST_OUTPUT).read_to_end(&mut kept);
        let _ = sender.send(kept);
    });
    receiver
}

/// Sends the lines of `from`, without their ends, until it closes or nobody listens.
pub(crate) fn follow(from: impl Read + Send + 'static, to: SyncSender<String>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = from
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if to.send(text).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{capture, tee};
    use std::process::Command;
    use std::time::{Duration, Instant};

    const SECOND: Duration = Duration::from_secs(1);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_captured() {
        let done = capture(&mut sh("echo out; echo err >&2; exit 3"), SECOND * 20).unwrap();
        assert_eq!(done.status.code(), Some(3));
        assert_eq!(done.stdout, b"out\n");
        assert_eq!(done.stderr, "err\n");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let began = Instant::now();
        let error = capture(&mut sh("sleep 60"), SECOND).err().unwrap();
        assert!(error.to_string().contains("did not end within 1 s"));
        assert!(began.elapsed() < SECOND * 30);
    }

    #[test]
    fn lines_of_both_streams_are_seen_and_a_pipe_left_open_is_not_waited_for() {
        let mut seen = Vec::new();
        let began = Instant::now();
        let status = tee(
            &mut sh("sleep 60 & echo one; echo two >&2; echo three"),
            SECOND * 50,
            |line| seen.push(line.to_owned()),
        )
        .unwrap();
        assert!(status.success());
        seen.sort();
        assert_eq!(seen, ["one", "three", "two"]);
        assert!(began.elapsed() < SECOND * 30);
    }
}
