//! Attempts on what is shared: processor, memory, files, descriptors, output. A neighbour is called all the while.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidegate_core::Limits;
use tidegate_instance::{Exit, Reason};

use crate::ground::{Ground, Place, bundle, limits, server, spec};
use crate::run::{Tally, make};

/// How long the neighbour is called before each strain, and how long a strain lasts at least. A thousand calls or so.
const LOOK: Duration = Duration::from_millis(1200);

/// A neighbour's p99 that is nobody's fault where the kernel shares the processor out: a scheduler's slice or two on a
/// machine that does other things as well.
pub const SHARED_OUT: Duration = Duration::from_millis(100);

/// The same where a watchdog does: it takes its looks until it knows.
pub const WATCHED: Duration = Duration::from_millis(250);

/// How much slower a neighbour's p99 may be in a test that must not fail for other reasons. The aim is 1.5.
const LOOSE: u32 = 5;

/// Most bytes of log that a strain may leave behind: a burst, and what comes a second after it.
const MOST_LOG: u64 = 4 << 20;

/// How long the end of a strain may take once it was told to end.
const END: Duration = Duration::from_secs(5);

/// How a strain may end as well where the kernel that it talks to is its own: that kernel is slow, has other bounds, and goes
/// down alone when it is out of something.
const OWN_KERNEL: &[&str] = &["ENDLESS", "Killed", "Memory", "SENT"];

struct Strain {
    name: &'static str,
    script: &'static str,
    /// What it says, or the reason it ends with; `ENDLESS` when it was still at it.
    expect: &'static [&'static str],
}

/// What a neighbour noticed of a strain.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// Which.
    pub name: &'static str,
    /// What it said, or how it ended.
    pub answer: String,
    /// Calls of the neighbour meanwhile.
    pub calls: usize,
    /// The 99th percentile of the neighbour's calls just before.
    pub quiet: Duration,
    /// And meanwhile.
    pub under: Duration,
}

impl Noticed {
    /// How many times slower the neighbour was.
    #[must_use]
    pub fn factor(&self) -> f64 {
        self.under.as_secs_f64() / self.quiet.as_secs_f64().max(1e-6)
    }
}

const STRAINS: &[Strain] = &[
    Strain {
        name: "a fork bomb",
        script: r"
while True:
    try:
        if os.fork() == 0: continue
    except OSError: time.sleep(0.001)",
        expect: &["ENDLESS"],
    },
    Strain {
        name: "a fork bomb in sessions of its own",
        script: r"
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass",
        expect: &["ENDLESS"],
    },
    Strain {
        name: "a bomb of threads",
        script: r"
import threading
made = 0
try:
    while made < 5000: threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); made += 1
except RuntimeError: pass
say('HELD' if made < 70 else made); os._exit(0)",
        expect: &["HELD"],
    },
    Strain {
        name: "programs started without end",
        script: r"
while True: subprocess.run(['/bin/true'])",
        expect: &["ENDLESS"],
    },
    Strain {
        name: "a memory hog",
        script: r"
hog = []
while True: hog.append(bytearray(b'x') * (8 << 20))",
        expect: &["Memory"],
    },
    Strain {
        name: "a hog of many processes",
        script: r"
for _ in range(20):
    if os.fork() == 0:
        hog = bytearray(b'x') * (20 << 20); time.sleep(1); os._exit(0)
say('HELD' if any(os.WIFSIGNALED(os.wait()[1]) for _ in range(20)) else 'NOT HELD')",
        // All of them where the kernel ends a group at once, else as many as it takes.
        expect: &["Memory", "HELD"],
    },
    Strain {
        name: "memory in files without names",
        script: r"
try: fd = os.memfd_create('x')
except OSError as e: say(name(e.errno)); sys.exit()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fds = [fd] + [os.memfd_create('x') for _ in range(60)]
try:
    for fd in fds:
        for _ in range(10): os.write(fd, bytes(1 << 20))
    time.sleep(1)
    say('NOT HELD')
except OSError as e: say(name(e.errno))",
        expect: &["Memory", "ENOSYS"],
    },
    Strain {
        name: "memory that is shared by key",
        script: r"
L.shmat.restype = ctypes.c_void_p
for key in range(1, 61):
    n = L.shmget(ctypes.c_int(key), ctypes.c_size_t(10 << 20), 0o1600)
    if n < 0: say('REFUSED'); break
    at = L.shmat(n, None, 0)
    ctypes.memset(at, 1, 10 << 20)
    L.shmdt(ctypes.c_void_p(at))
else:
    time.sleep(1); say('NOT HELD')",
        expect: &["Memory", "REFUSED"],
    },
    Strain {
        name: "memory in semaphores and messages",
        script: r"
def fill(make):
    for n in range(20000):
        ctypes.set_errno(0)
        if make(n) < 0: return name(ctypes.get_errno())
    return 'NOT HELD'
def message(n):
    q = L.msgget(0, 0o1600)
    return q if q < 0 else L.msgsnd(q, ctypes.create_string_buffer(8200), 8000, 0o4000)
say(fill(lambda n: L.semget(0, 32000, 0o1600)) + ' ' + fill(message))",
        expect: &["Memory", "ENOSYS ENOSYS"],
    },
    Strain {
        name: "10 GiB of output",
        script: r"
b = b'the same line again and again\n' * 2048
for _ in range((10 << 30) // len(b)): os.write(2, b)
say('WRITTEN')",
        expect: &["ENDLESS"],
    },
    Strain {
        name: "100 000 files",
        script: r"
def fill(folder):
    for i in range(100000):
        try: os.close(os.open('%s/%d' % (folder, i), os.O_CREAT | os.O_WRONLY))
        except OSError as e: return name(e.errno)
    return 'MADE'
say(fill('/tmp') + ' ' + fill('/dev/shm'))",
        expect: &["ENOSPC ENOSPC"],
    },
    Strain {
        name: "100 000 folders and links",
        script: r"
def fill(make):
    for i in range(100000):
        try: make('/tmp/%s%s%d' % (make.__name__[0], 'f' * 200, i))
        except OSError as e: return name(e.errno)
    return 'MADE'
say(fill(os.mkdir) + ' ' + fill(lambda p: os.symlink('x' * 200, p)))",
        expect: &["ENOSPC ENOSPC"],
    },
    Strain {
        name: "a full disk",
        script: r"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(folder):
    try:
        for i in range(10000):
            with open('%s/%d' % (folder, i), 'wb', buffering=0) as f:
                if f.write(bytes(1 << 20)) < 1 << 20: return 'ENOSPC'
    except OSError as e: return name(e.errno)
say(fill('/tmp') + ' ' + fill('/dev/shm'))",
        expect: &["ENOSPC ENOSPC"],
    },
    Strain {
        name: "busy loops",
        script: r"
for _ in range(7):
    if os.fork() == 0: break
while True: pass",
        expect: &["ENDLESS"],
    },
    Strain {
        name: "busy loops in sessions of their own",
        script: r"
for _ in range(15):
    if os.fork() == 0: os.setsid(); break
while True: pass",
        expect: &["ENDLESS"],
    },
    Strain {
        name: "descriptors without end",
        script: r"
fds = []
try:
    while len(fds) < 1 << 20: fds.append(os.open('/dev/null', os.O_RDONLY))
except OSError as e: a = name(e.errno)
for fd in fds[10:]: os.close(fd)
try:
    while True: fds.append(os.dup(0))
except OSError as e: say(a + ' ' + name(e.errno))",
        expect: &["EMFILE EMFILE"],
    },
    Strain {
        name: "descriptors under way",
        script: r"
import array
a, b = socket.socketpair(); a.setblocking(False)
n = 0
try:
    while n < 100000:
        socket.send_fds(a, [b'x'], [0] * 200); n += 200
        if n % 1000 == 0:
            c, d = socket.socketpair(); c.setblocking(False); socket.send_fds(c, [b'x'], [b.fileno()]); a = c; b = d
except OSError as e: say(name(e.errno))
else: say('SENT')",
        expect: &["ETOOMANYREFS", "EAGAIN", "EMFILE"],
    },
    Strain {
        name: "pipes filled",
        script: r"
import fcntl
made = 0
try:
    while True:
        r, w = os.pipe(); os.set_blocking(w, False)
        try: fcntl.fcntl(w, 1031, 1 << 20)
        except OSError: pass
        try:
            while True: os.write(w, bytes(65536))
        except BlockingIOError: made += 1
except OSError as e: say(name(e.errno))",
        expect: &["EMFILE", "Memory"],
    },
    Strain {
        name: "watches on files",
        script: r"
n = 0
try:
    while n < 1 << 20: 
        if L.inotify_init() < 0: break
        n += 1
finally: say('HELD' if n < 1 << 20 else 'MADE')",
        expect: &["HELD"],
    },
    Strain {
        name: "a crowd of timers and signals",
        script: r"
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
for n in range(1 << 20):
    if L.sigqueue(os.getpid(), 40, ctypes.c_void_p(0)) < 0: say('HELD'); break
else: say('SENT')",
        expect: &["HELD"],
    },
    Strain {
        name: "flushes of the disk",
        script: r"
until = time.time() + 1
while time.time() < until: L.sync(); tried(lambda: call('syncfs', os.open('/usr', 0)) )
say('DONE')",
        expect: &["DONE"],
    },
    Strain {
        name: "grandchildren that stay behind",
        script: r"
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(s, signal.SIG_IGN)
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(1000)
say('LEFT')",
        expect: &["LEFT"],
    },
];

/// A server that does not want to end.
const STUBBORN: &str = r"#!/usr/bin/python3 -I
import os, signal, socket
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1): signal.signal(s, signal.SIG_IGN)
server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
if os.fork() == 0: os.setsid()
while True: server.accept()[0].close()
";

/// Puts every strain whose name contains `filter` on the place, each in an instance of its own.
///
/// # Errors
/// The ground cannot be laid out, or an attacker does not start.
pub async fn all(
    place: &Place<'_>,
    filter: &str,
    mut each: impl FnMut(&Noticed, bool),
) -> io::Result<Tally> {
    let ground = Ground::new(place).await?;
    let mut tally = Tally::default();
    for strain in STRAINS.iter().filter(|s| s.name.contains(filter)) {
        let (noticed, mut holes) = one(place, &ground, strain).await?;
        let slow = (place.bearable)
            .is_some_and(|bearable| noticed.under > bearable.max(noticed.quiet * LOOSE));
        if slow {
            holes.push(format!(
                "{}: a neighbour's p99 went from {:?} to {:?}",
                strain.name, noticed.quiet, noticed.under
            ));
        }
        each(&noticed, holes.is_empty());
        tally.made += 1;
        tally.holes.extend(holes);
    }
    if "ignored".contains(filter) {
        tally.made += 1;
        tally.holes.extend(stubborn(place).await?);
    }
    tally.holes.extend(ground.look().await);
    Ok(tally)
}

async fn one(
    place: &Place<'_>,
    ground: &Ground,
    strain: &Strain,
) -> io::Result<(Noticed, Vec<String>)> {
    let mut holes = Vec::new();
    let (attacker, sink) = ground.attacker(place, limits()).await?;
    let (_, quiet) = watch(ground, LOOK * 2, std::future::ready(())).await?;
    let mut said = None;
    let attack = async {
        said = Some(make(&*attacker, strain.script).await);
    };
    // One that has to end is waited for, however slow the machine is at the moment.
    let most = if strain.expect.contains(&"ENDLESS") || place.own_kernel {
        LOOK * 2
    } else {
        LOOK * 20
    };
    // A strain that is over at once is still looked at for a while: what it leaves may be what hurts.
    let (calls, under) = watch(ground, most, attack).await?;
    let answer = match said {
        None => "ENDLESS".to_owned(),
        Some(Ok((text, _))) if !text.is_empty() => text,
        Some(Ok((_, exit))) => reason(exit),
        Some(Err(_)) if attacker.is_gone() => reason(attacker.exited().await),
        Some(Err(error)) => format!("no answer: {error}"),
    };
    let own = place.own_kernel && OWN_KERNEL.contains(&&*answer);
    if !own && !strain.expect.contains(&&*answer) {
        holes.push(format!(
            "{}: {answer:?}, expected one of {:?}; last line {:?}",
            strain.name,
            strain.expect,
            sink.last()
        ));
    }
    let logged = sink.bytes.load(Ordering::Relaxed);
    if logged > MOST_LOG {
        holes.push(format!("{}: {logged} bytes of log", strain.name));
    }
    if !attacker.is_gone() && !["ENDLESS", "Memory"].contains(&&*answer) {
        // The instance goes on, empty, for its next call. Where its memory is full, of files or segments that nobody
        // removed, that is its own affair.
        let left = "\nsay(sorted(set(processes()) - {1, os.getpid()}) or 'NONE')";
        match make(&*attacker, left).await {
            Ok((text, _)) if text == "NONE" => {}
            other => holes.push(format!("{}: left behind {other:?}", strain.name)),
        }
    }
    attacker.kill();
    if tokio::time::timeout(END, attacker.exited()).await.is_err() {
        holes.push(format!("{}: it does not end", strain.name));
    }
    let noticed = Noticed {
        name: strain.name,
        answer,
        calls,
        quiet,
        under,
    };
    Ok((noticed, holes))
}

/// Calls the neighbour, one call after another, for at least [`LOOK`] and for as long as `meanwhile` takes, at most `most`.
/// Gives back how many calls there were, and their 99th percentile.
async fn watch(
    ground: &Ground,
    most: Duration,
    meanwhile: impl Future<Output = ()>,
) -> io::Result<(usize, Duration)> {
    let began = Instant::now();
    let mut took = Vec::new();
    let mut meanwhile = std::pin::pin!(meanwhile);
    let mut over = false;
    loop {
        let call = async {
            let began = Instant::now();
            ground.call().await.map(|()| began.elapsed())
        };
        let mut call = std::pin::pin!(call);
        let one = loop {
            if over {
                break call.await;
            }
            tokio::select! {
                one = &mut call => break one,
                () = &mut meanwhile => over = true,
            }
        };
        took.push(one?);
        let elapsed = began.elapsed();
        if elapsed >= LOOK && over || elapsed >= most {
            break;
        }
        // Not as fast as it goes: the neighbour is a function, not a load generator.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took.sort_unstable();
    let at = (took.len() * 99).div_ceil(100).saturating_sub(1);
    Ok((took.len(), took[at]))
}

/// A server that ignores the signal to end is ended.
async fn stubborn(place: &Place<'_>) -> io::Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let bundle = bundle(folder.path(), "stubborn", &[("serve", STUBBORN)])?;
    let mut spec = spec(bundle, 1, server(), std::sync::Arc::default());
    spec.limits = Limits { ..limits() };
    (place.dress)(&mut spec);
    let instance = (place.isolation.start(spec).await).map_err(io::Error::other)?;
    let mut holes = Vec::new();
    instance.drain();
    let asked = tokio::time::timeout(Duration::from_millis(300), instance.exited()).await;
    if asked.is_ok() {
        holes.push("an ignored SIGTERM: it ended, so nothing was shown".to_owned());
    }
    instance.kill();
    match tokio::time::timeout(END, instance.exited()).await {
        Ok(exit) if exit.reason == Reason::Killed => {}
        other => holes.push(format!("an ignored SIGTERM: {other:?}")),
    }
    Ok(holes)
}

fn reason(exit: Exit) -> String {
    match exit.reason {
        Reason::Exited => format!("{exit}"),
        other => format!("{other:?}"),
    }
}
