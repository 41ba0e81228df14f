//! Process 1 of a container: starts programs, reaps, dials, carries streams, and ends when the server is gone.
//!
//! It is root of the container, and what it starts is not: so a program can neither signal nor read it, nor come near the
//! socket that it has to the server.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use crate::protocol::{Header, MAX_LINE, Order, RELAY, SOCKET, USER, What, Word};

/// Bytes carried at once.
const PIECE: usize = 16 * 1024;

/// Between looks at what is left of a run that was killed.
const AGAIN: Duration = Duration::from_millis(1);

/// Whether this process was started to be a relay. Ask before anything else.
#[must_use]
pub fn is_relay() -> bool {
    std::env::args_os().next().as_deref() == Some(OsStr::new(RELAY)) && std::process::id() == 1
}

/// The relay's whole life. Never returns.
pub fn relay_main() -> ! {
    std::process::exit(i32::from(live().is_err()))
}

struct Relay {
    words: Mutex<UnixStream>,
    /// Runs by the process number of their first process. Held while one is started, so that none ends unknown.
    runs: Mutex<HashMap<u32, u64>>,
    started: Condvar,
}

fn live() -> io::Result<()> {
    let orders = open(Header {
        what: What::Orders,
        n: 0,
    })?;
    let relay = Arc::new(Relay {
        words: Mutex::new(orders.try_clone()?),
        runs: Mutex::default(),
        started: Condvar::new(),
    });
    relay.say(&Word::Ready);
    let reaper = relay.clone();
    thread::spawn(move || reaper.reap());
    let mut orders = BufReader::new(orders);
    let mut line = Vec::new();
    loop {
        line.clear();
        let len = (&mut orders).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if len == 0 {
            return Ok(());
        }
        let order = serde_json::from_slice(&line)?;
        relay.obey(order);
    }
}

fn open(header: Header) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.write_all(&header.to_bytes())?;
    Ok(stream)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    fn say(&self, word: &Word) {
        let mut line = serde_json::to_vec(word).unwrap_or_default();
        line.push(b'\n');
        // A server that is gone is noticed where orders are read.
        let _ = lock(&self.words).write_all(&line);
    }

    fn obey(self: &Arc<Self>, order: Order) {
        match order {
            Order::Secret { name, value } => {
                let done = secret(&name, &value);
                if done.is_err() {
                    // A function without a secret of its own must not run.
                    std::process::exit(3);
                }
            }
            Order::Exec {
                n,
                argv,
                env,
                merged,
            } => {
                let errno = self.exec(n, &argv, env, merged).err();
                let errno = errno.map(|e| e.raw_os_error().unwrap_or(22));
                self.say(&Word::Begun { n, errno });
            }
            Order::Dial { n, port } => {
                let relay = self.clone();
                thread::spawn(move || relay.dial(n, port));
            }
            Order::Signal { n, signal } => {
                let runs = lock(&self.runs);
                let pid = runs.iter().find(|&(_, &run)| run == n).map(|(&pid, _)| pid);
                if let (Some(pid), Some(signal)) =
                    (pid.and_then(number), Signal::from_named_raw(signal))
                {
                    let _ = rustix::process::kill_process_group(pid, signal);
                }
            }
            Order::Sweep => kill_others(),
        }
    }

    fn exec(
        &self,
        n: u64,
        argv: &[String],
        env: Vec<(String, String)>,
        merged: bool,
    ) -> io::Result<()> {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let stream = |what| open(Header { what, n });
        let (stdin, stdout) = (stream(What::Stdin)?, stream(What::Stdout)?);
        let stderr = if merged {
            None
        } else {
            Some(stream(What::Stderr)?)
        };
        let (out, theirs) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(env)
            .current_dir("/function")
            .uid(USER)
            .gid(USER)
            .process_group(0)
            .stdin(Stdio::piped())
            .stderr(if merged {
                Stdio::from(theirs.try_clone()?)
            } else {
                Stdio::piped()
            })
            .stdout(theirs);
        let mut child = {
            let mut runs = lock(&self.runs);
            let child = command.spawn()?;
            runs.insert(child.id(), n);
            self.started.notify_all();
            child
        };
        // It holds the writing end of its own output.
        drop(command);
        if let Some(mut to) = child.stdin.take() {
            let mut from = stdin;
            thread::spawn(move || copy(&mut from, &mut to));
        }
        carry(out, stdout);
        if let (Some(from), Some(to)) = (child.stderr.take(), stderr) {
            carry(from, to);
        }
        Ok(())
    }

    fn dial(&self, n: u64, port: u16) {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpStream::connect((Ipv6Addr::LOCALHOST, port)));
        let both = tcp.and_then(|tcp| {
            tcp.set_nodelay(true)?;
            let unix = open(Header {
                what: What::Dialled,
                n,
            })?;
            Ok((tcp.try_clone()?, tcp, unix.try_clone()?, unix))
        });
        match both {
            Ok((mut from, to, mut back, mut unix)) => {
                thread::spawn(move || {
                    copy(&mut from, &mut back);
                    let _ = back.shutdown(Shutdown::Write);
                });
                let mut to = to;
                copy(&mut unix, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            }
            Err(error) => self.say(&Word::Refused {
                n,
                errno: error.raw_os_error().unwrap_or(111),
            }),
        }
    }

    /// Collects what ended. When the last run is over, what it left behind is killed and collected too, before the server
    /// is told.
    fn reap(&self) {
        loop {
            // Collected under the lock only: whoever starts a program collects it where it cannot be executed.
            let somebody = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let ended = rustix::process::waitid(WaitId::All, somebody);
            let mut runs = lock(&self.runs);
            let ended = ended.and_then(|_| rustix::process::wait(WaitOptions::NOHANG));
            let (pid, status) = match ended {
                Ok(Some(ended)) => ended,
                Ok(None) => continue,
                Err(_) => {
                    while runs.is_empty() {
                        runs = self
                            .started
                            .wait(runs)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                    continue;
                }
            };
            let Some(n) = runs.remove(&pid.as_raw_nonzero().get().cast_unsigned()) else {
                continue;
            };
            if runs.is_empty() {
                empty();
            } else {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
            drop(runs);
            self.say(&Word::Ended {
                n,
                code: status.exit_status(),
                signal: status.terminating_signal(),
            });
        }
    }
}

/// Kills and collects until nobody is left.
fn empty() {
    loop {
        kill_others();
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        thread::sleep(AGAIN);
    }
}

fn kill_others() {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(pid) = pid.filter(|&pid| pid != 1).and_then(number) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

fn number(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn carry(mut from: impl Read + Send + 'static, mut to: UnixStream) {
    thread::spawn(move || {
        copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// The library's own would have the kernel move the bytes, which gVisor's does not do for sockets of the machine.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut piece = [0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(len) if to.write_all(&piece[..len]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn secret(name: &str, value: &[u8]) -> io::Result<()> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(format!("/run/secrets/{name}"))?;
    file.write_all(value)
}
