//! `kill -9` of a server that accepts calls to be made later, again and again; nothing accepted is lost.
//!
//! Senders number their calls and note which were answered 202; the function tells a witness outside of the server which
//! it got. The server is killed after a random number of acceptances, and started again on the same folder and port, while
//! the senders go on; and some more times while what is left is worked off. In the end every call that was accepted must
//! have run, and one that ran twice must have done so in the lives of two servers.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use super::witness::Witness;
use crate::http::Connection;
use crate::scratch::Scratch;
use crate::server::Server;
use crate::{report, signals};

/// Who sends at once.
const SENDERS: usize = 16;
/// Kills while calls are accepted, about; and while what is left is worked off.
const KILLS: u64 = 30;
const KILLS_AFTER: u64 = 10;
/// Instances of the function, each of which takes one call at a time: no more than these can be begun again for a kill.
const INSTANCES: u64 = 4;
/// How long a sender waits before it tries again to reach a server that is down.
const AGAIN: Duration = Duration::from_millis(20);
/// How often it is looked how far it is, and how often that is printed.
const LOOK: Duration = Duration::from_millis(2);
const TELL: Duration = Duration::from_secs(5);
/// Longest time without any progress.
const STUCK: Duration = Duration::from_secs(120);

/// What the senders have in common.
struct Sending {
    url: String,
    wanted: u64,
    next: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    stop: AtomicBool,
}

pub(super) fn run(binary: &Path, root: &Path, wanted: u64) -> Result<ExitCode> {
    let began = Instant::now();
    let witness = Witness::listen()?;
    let scratch = Scratch::new("soak")?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut lives = Lives {
        binary,
        listen: format!("127.0.0.1:{port}"),
        home: scratch.path(),
        begun: Vec::new(),
        server: None,
    };
    lives.start()?;
    let function = root.join("crates/tidegate-bench/functions/witness.py");
    let port = format!("WITNESS={}", witness.port);
    let most = INSTANCES.to_string();
    let flags = [
        "--runtime",
        "python",
        "--concurrency",
        "1",
        "--network",
        "host",
    ];
    let flags = [&flags[..], &["--max", &most, "--env", &port]].concat();
    let url = lives.server()?.deploy(&function, "witness", &flags)?;
    let path = url
        .strip_prefix(lives.server()?.url())
        .context("the function is elsewhere")?
        .to_owned();

    let sending = Sending {
        url: lives.server()?.url().to_owned(),
        wanted,
        next: AtomicU64::new(0),
        accepted: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        cut: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let accepted = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| scope.spawn(|| send(&sending, &path)))
            .collect();
        let killed = kill_while(&mut lives, wanted / KILLS, wanted, || {
            let accepted = sending.accepted.load(Ordering::Relaxed);
            (
                accepted,
                format!("{accepted} accepted, {} ran", witness.count()),
            )
        });
        sending.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for sender in senders {
            all.extend(sender.join().expect("a sender does not panic")?);
        }
        killed.map(|()| all)
    })?;
    let accepting = began.elapsed();
    let done = witness.count() as u64;
    let left = (accepted.len() as u64).saturating_sub(done);
    kill_while(&mut lives, left / KILLS_AFTER, left, || {
        let ran = witness.count() as u64;
        (
            ran - done,
            format!("{} accepted, {ran} ran", accepted.len()),
        )
    })?;
    let depth = empty(lives.server()?)?;
    let dead = lives.server()?.control("/dead-letters?limit=1")?;
    let dead = dead["items"].as_array().map_or(0, Vec::len);
    let begun = std::mem::take(&mut lives.begun);
    if let Some(server) = lives.server.take() {
        server.stop()?;
    }

    let kills = begun.len() as u64 - 1;
    let ran = witness.ran();
    let found = judge(&accepted, &ran, &begun);
    println!(
        "{} accepted in {}, {kills} kills, {} cut off without an answer, {} refused with 503, \
         {} ran, {} of them twice after a kill, {} twice without one, {} lost, {depth} left, {}; took {}",
        accepted.len(),
        report::seconds(accepting),
        sending.cut.load(Ordering::Relaxed),
        sending.refused.load(Ordering::Relaxed),
        ran.len(),
        found.again,
        found.wrong,
        found.lost,
        if dead == 0 {
            "no dead letters"
        } else {
            "dead letters"
        },
        report::seconds(began.elapsed()),
    );
    let few = found.again <= kills * INSTANCES;
    let right = found.lost == 0 && found.wrong == 0 && dead == 0 && depth == 0 && few;
    Ok(if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The servers that there were on one folder.
struct Lives<'a> {
    binary: &'a Path,
    listen: String,
    home: &'a Path,
    /// When each was started, in seconds since the Unix epoch.
    begun: Vec<f64>,
    server: Option<Server>,
}

impl Lives<'_> {
    fn start(&mut self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let settings = ["openfaas.metrics=off"];
        let server = Server::start_with(self.binary, &self.listen, self.home, &settings)?;
        self.begun.push(now);
        self.server = Some(server);
        Ok(())
    }

    fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("there is no server")
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(server) = self.server.take() {
            server.kill()?;
        }
        self.start()
    }
}

/// Kills the server each time that `progress` went on by a random number, `every` on average, until it is at `wanted`.
fn kill_while(
    lives: &mut Lives<'_>,
    every: u64,
    wanted: u64,
    progress: impl Fn() -> (u64, String),
) -> Result<()> {
    let step = || 1 + random() % (2 * every.max(1));
    let (mut last, mut moved, mut told) = (0, Instant::now(), Instant::now());
    let mut next = step();
    loop {
        let (at, text) = progress();
        if at >= wanted {
            return Ok(());
        }
        if told.elapsed() > TELL {
            println!("{text}, {} kills", lives.begun.len() - 1);
            told = Instant::now();
        }
        if at > last {
            (last, moved) = (at, Instant::now());
        } else if moved.elapsed() > STUCK {
            bail!("nothing went on for {} s: {text}", STUCK.as_secs());
        }
        if at >= next {
            lives.kill()?;
            next = progress().0 + step();
            moved = Instant::now();
        } else if signals::interrupted() {
            bail!("interrupted");
        } else {
            thread::sleep(LOOK);
        }
    }
}

/// Sends until enough was accepted, to whichever server there is; gives the numbers that were answered 202.
fn send(sending: &Sending, path: &str) -> Result<Vec<u64>> {
    let mut accepted = Vec::new();
    let mut connection = None;
    let headers = [("prefer", "respond-async"), ("content-type", "text/plain")];
    let over = || {
        sending.stop.load(Ordering::Relaxed)
            || sending.accepted.load(Ordering::Relaxed) >= sending.wanted
    };
    while !over() {
        let Some(open) = &mut connection else {
            connection = Connection::open(&sending.url).ok();
            if connection.is_none() {
                thread::sleep(AGAIN);
            }
            continue;
        };
        let number = sending.next.fetch_add(1, Ordering::Relaxed);
        match open.call("POST", path, &headers, number.to_string().as_bytes()) {
            Ok(answer) if answer.status == 202 => {
                accepted.push(number);
                sending.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) if answer.status == 503 && answer.header("retry-after").is_some() => {
                sending.refused.fetch_add(1, Ordering::Relaxed);
                // It may have been closed, with the body unread.
                connection = None;
                thread::sleep(AGAIN);
            }
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                bail!("call {number} was answered {}: {text}", answer.status);
            }
            // It may have been accepted, and nobody was told so.
            Err(_) => {
                sending.cut.fetch_add(1, Ordering::Relaxed);
                connection = None;
            }
        }
    }
    Ok(accepted)
}

/// Waits until nothing is queued; what is left where that does not come about.
fn empty(server: &Server) -> Result<u64> {
    let until = Instant::now() + STUCK;
    loop {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        let depth = server.metric("tidegate_queue_depth", "")? as u64;
        if depth == 0 || Instant::now() > until {
            return Ok(depth);
        }
        thread::sleep(AGAIN);
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Accepted, and never run.
    lost: u64,
    /// Run more than once, each time in another server's life.
    again: u64,
    /// Run more than once in one server's life.
    wrong: u64,
}

/// `begun` are the starts of the servers, in their order; `ran` tells when the processes were born in which a call ran.
fn judge(accepted: &[u64], ran: &HashMap<u64, Vec<f64>>, begun: &[f64]) -> Found {
    let mut found = Found::default();
    for number in accepted {
        found.lost += u64::from(!ran.contains_key(number));
    }
    for born in ran.values().filter(|born| born.len() > 1) {
        let mut lives: Vec<usize> = born
            .iter()
            .map(|born| begun.partition_point(|begun| begun <= born))
            .collect();
        lives.sort_unstable();
        if lives.windows(2).any(|two| two[0] == two[1]) {
            found.wrong += 1;
        } else {
            found.again += 1;
        }
    }
    found
}

/// The keys of a new hasher are random, and nothing here needs more.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::{Found, judge};
    use std::collections::HashMap;

    #[test]
    fn what_ran_is_judged_by_the_lives_of_servers() {
        let begun = [100.0, 200.0, 300.0];
        let ran = HashMap::from([
            (1, vec![110.0]),
            (2, vec![110.0, 210.0]),
            (3, vec![210.0, 220.0]),
            // Cut off without an answer, and run all the same.
            (9, vec![310.0]),
        ]);
        let found = Found {
            lost: 1,
            again: 1,
            wrong: 1,
        };
        assert_eq!(judge(&[1, 2, 3, 4], &ran, &begun), found);
    }
}
