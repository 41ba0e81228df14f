//! Servers that are measured beside Tidegate, and waiting for them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::child::{self, Group};
use crate::signals;

/// Longest time for a server to come up; functions-framework takes a fifth of a second on a quiet machine.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for the answer that shows a server is up.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest answer read.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// A server that says `listening on ADDR`, and where.
pub(super) fn start(command: &mut Command) -> Result<(Group, SocketAddr)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut group = Group::spawn(command)?;
    let (sender, lines) = sync_channel(1);
    child::follow(
        group
            .child()
            .stdout
            .take()
            .expect("the pipe was asked for above"),
        sender,
    );
    let line = lines
        .recv_timeout(READY_LIMIT)
        .context("a ceiling did not come up")?;
    let at = line
        .strip_prefix("listening on ")
        .and_then(|at| at.parse().ok())
        .with_context(|| format!("a ceiling said {line:?}; expected where it listens"))?;
    Ok((group, at))
}

/// A port of loopback that nobody listens on just now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until `at` answers 200.
pub(super) fn answering(group: &mut Group, at: SocketAddr) -> Result<()> {
    let until = Instant::now() + READY_LIMIT;
    loop {
        if get(at).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
            return Ok(());
        }
        if let Some(status) = group.try_wait()? {
            bail!("it ended with {status}");
        }
        if signals::interrupted() || Instant::now() > until {
            bail!("it did not answer 200 within {} s", READY_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn get(at: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
