//! What attempts reach for, all of it really there: files and sockets of the machine, and a victim.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, process};

use tidegate_core::{FunctionKey, InstanceId, InvocationId, Limits, Name, Network};
use tidegate_instance::{
    Instance, InstanceSpec, Isolation, LogSink, LogStream, Program, SecretFile,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::door::Door;
use crate::inside;

/// How long a call of the victim may take before it counts as harmed: a hundred times what it takes on a busy machine.
const CALL: Duration = Duration::from_secs(10);

/// Where attempts are made.
pub struct Place<'a> {
    /// What they are made against.
    pub isolation: &'a dyn Isolation,
    /// Whether what runs there talks to a kernel of its own rather than the machine's.
    pub own_kernel: bool,
    /// What a neighbour's 99th percentile may be under a strain, however short it is without. Absent where nothing is promised.
    pub bearable: Option<Duration>,
    /// The folder that Tidegate keeps its data in.
    pub state: PathBuf,
    /// Changes what is started, to have it run in an image for one.
    pub dress: Box<dyn Fn(&mut InstanceSpec) + Send + Sync + 'a>,
}

/// The things around the attempts.
pub struct Ground {
    folder: tempfile::TempDir,
    mark: String,
    address: Ipv4Addr,
    port: u16,
    abstract_name: String,
    listeners: Vec<TcpListener>,
    datagrams: Option<UdpSocket>,
    sockets: Vec<UnixListener>,
    door: Option<Door>,
    victim: Arc<dyn Instance>,
    next: AtomicU64,
}

/// Most lines of the platform's own that are kept: the door is silent long before.
const MAX_TOLD: usize = 1000;

/// Counts what it is given, and keeps what the platform says itself.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) bytes: AtomicU64,
    last: parking_lot::Mutex<String>,
    told: parking_lot::Mutex<Vec<String>>,
}

impl LogSink for Sink {
    fn line(&self, _: InstanceId, stream: LogStream, _: Option<InvocationId>, text: &[u8]) {
        self.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        let text = String::from_utf8_lossy(text).into_owned();
        let mut told = self.told.lock();
        if stream == LogStream::System && told.len() < MAX_TOLD {
            told.push(text.clone());
        }
        *self.last.lock() = text;
    }
}

impl Sink {
    pub(crate) fn last(&self) -> String {
        self.last.lock().clone()
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().clone()
    }
}

const VICTIM: &str = r"#!/usr/bin/python3 -I
import ctypes, os, socket
mark = os.environ['MARK']
for path in ('/tmp/victim', '/dev/shm/victim'):
    with open(path, 'w') as f: f.write(mark)
c = ctypes.CDLL(None)
# In its own names for such things, which nobody else has to see; where they are refused there is nothing to see.
c.shmget(4242, 64, 0o1666)
c.mq_open(b'/victim', 0o102, 0o666, None)
nameless = socket.socket(socket.AF_UNIX); nameless.bind('\0victim'); nameless.listen()
server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])), backlog=64)
def read(path):
    with open(path) as f: return f.read()
while True:
    s, _ = server.accept()
    try:
        s.settimeout(5); s.recv(4096)
        intact = all(read(p) == mark for p in ('/tmp/victim', '/dev/shm/victim', '/run/secrets/other'))
        s.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n' + (b'intact' if intact else b'HARMED'))
    except OSError: pass
    finally: s.close()
";

impl Ground {
    /// Lays everything out and starts the victim. Nobody has a network.
    ///
    /// # Errors
    /// The machine or the isolation does not let that be.
    pub async fn new(place: &Place<'_>) -> io::Result<Self> {
        Self::laid_out(place, None).await
    }

    /// The same with a way out for everybody, held to a list where `listed`.
    ///
    /// # Errors
    /// The same, and a machine without an address but loopback.
    pub async fn with_a_door(place: &Place<'_>, listed: bool) -> io::Result<Self> {
        let address = own_address().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let door = Door::new(address, listed).await?;
        Self::laid_out(place, Some(door)).await
    }

    async fn laid_out(place: &Place<'_>, door: Option<Door>) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tidegate-ground-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let at = folder.path();
        let mark = format!(
            "mark-{:x}-{:x}",
            process::id(),
            std::ptr::from_ref(place).addr()
        );
        fs::write(at.join("outside"), &mark)?;
        let address = own_address().unwrap_or(NOBODY);
        let local = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = local.local_addr()?.port();
        let mut listeners = vec![local];
        // On every address where that is free there: one that answers is what an attempt has to miss.
        listeners.extend(TcpListener::bind((address, port)).ok());
        listeners.extend(TcpListener::bind(("::1", port)).ok());
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let datagrams = UdpSocket::bind((address, port)).ok();
        if let Some(socket) = &datagrams {
            socket.set_nonblocking(true)?;
        }
        let abstract_name = format!("tidegate-ground-{port}");
        let sockets = vec![
            UnixListener::bind(at.join("socket"))?,
            UnixListener::bind_addr(&UnixAddr::from_abstract_name(&abstract_name)?)?,
        ];
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        let bundle = bundle(at, "victim", &[("serve", VICTIM)])?;
        let mut spec = spec(bundle, 1, server(), Arc::default());
        spec.env.push(("MARK".to_owned(), mark.clone()));
        spec.secrets.push(SecretFile {
            name: "other".to_owned(),
            value: Arc::from(mark.as_bytes()),
        });
        open(&mut spec, door.as_ref());
        (place.dress)(&mut spec);
        let victim = (place.isolation.start(spec).await).map_err(io::Error::other)?;
        Ok(Self {
            folder,
            mark,
            address,
            port,
            abstract_name,
            listeners,
            datagrams,
            sockets,
            door,
            victim,
            next: AtomicU64::new(2),
        })
    }

    /// An instance for an attacker: a program that runs the Python that it reads.
    pub(crate) async fn attacker(
        &self,
        place: &Place<'_>,
        limits: Limits,
    ) -> io::Result<(Arc<dyn Instance>, Arc<Sink>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("attacker-{number}");
        let bundle = bundle(self.folder.path(), &name, &[("run", inside::PROGRAM)])?;
        let outside = self.folder.path();
        let link = |to: PathBuf, name: &str| std::os::unix::fs::symlink(to, bundle.join(name));
        let file = outside.join("outside");
        link(file.clone(), "absolute")?;
        let climbing = format!("{}{}", "../".repeat(64), file.display()).replace("//", "/");
        link(climbing.into(), "climbing")?;
        link("/proc/1/root".into(), "rooted")?;
        link("/run/secrets/other".into(), "secret")?;
        let program = Program::PerCall {
            runtime: "executable".to_owned(),
            entry: "run".to_owned(),
            command: Vec::new(),
        };
        let sink = Arc::<Sink>::default();
        let mut spec = spec(bundle, number, program, sink.clone());
        spec.limits = limits;
        let text = |path: &Path| path.display().to_string();
        // Backwards, so that the attacker does not find the mark in what it was given itself.
        let kram = self.mark.chars().rev().collect();
        let victim = self.victim_pid().unwrap_or_else(process::id);
        spec.env.extend(
            [
                ("OTHER_BUNDLE", text(&outside.join("victim"))),
                ("OUTSIDE_FILE", text(&file)),
                ("STATE", text(&place.state)),
                ("SOCKET", text(&outside.join("socket"))),
                ("ABSTRACT", self.abstract_name.clone()),
                ("ADDRESS", self.address.to_string()),
                ("PORT_OUTSIDE", self.port.to_string()),
                ("VICTIM_PORT", "8080".to_owned()),
                ("VICTIM_PID", victim.to_string()),
                ("SERVER_PID", process::id().to_string()),
                ("KRAM", kram),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        spec.secrets.push(SecretFile {
            name: "own".to_owned(),
            value: Arc::from(&b"mine"[..]),
        });
        open(&mut spec, self.door.as_ref());
        (place.dress)(&mut spec);
        let instance = place.isolation.start(spec).await;
        Ok((instance.map_err(io::Error::other)?, sink))
    }

    /// One call of the victim.
    pub(crate) async fn call(&self) -> io::Result<()> {
        let call = async {
            let mut stream = self.victim.connect().await?;
            (stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            if answer.ends_with("intact") {
                Ok(())
            } else {
                Err(io::Error::other(format!("the victim answered {answer:?}")))
            }
        };
        tokio::time::timeout(CALL, call).await?
    }

    /// Looks at everything again: what was harmed or reached.
    pub async fn look(&self) -> Vec<String> {
        let mut harm = Vec::new();
        if let Err(error) = self.call().await {
            harm.push(format!("the victim does not answer: {error}"));
        }
        if fs::read_to_string(self.folder.path().join("outside")).ok() != Some(self.mark.clone()) {
            harm.push("a file of the machine was changed".to_owned());
        }
        for listener in &self.listeners {
            if let Ok((_, from)) = listener.accept() {
                harm.push(format!("a server of the machine was reached from {from}"));
            }
        }
        let datagram = self.datagrams.as_ref().map(|s| s.recv_from(&mut [0; 1]));
        if let Some(Ok((_, from))) = datagram {
            harm.push(format!("a datagram reached the machine from {from}"));
        }
        for socket in &self.sockets {
            if socket.accept().is_ok() {
                harm.push("a socket of the machine was reached".to_owned());
            }
        }
        harm
    }

    /// The victim's process as the machine numbers it, where it can be told.
    fn victim_pid(&self) -> Option<u32> {
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let mark = format!("MARK={}", self.mark);
            let found = environment.split(|&b| b == 0).any(|v| v == mark.as_bytes());
            found.then_some(pid)
        })
    }
}

/// What an attacker may use: enough to make trouble.
pub(crate) const fn limits() -> Limits {
    Limits {
        memory: 128 << 20,
        cpu_milli: 1000,
        pids: 64,
        tmp: 32 << 20,
        timeout: Duration::from_secs(60),
        first_byte: Duration::from_secs(60),
        stream_idle: Duration::from_secs(60),
        body: 16 << 20,
    }
}

pub(crate) fn server() -> Program {
    Program::Server {
        runtime: "executable".to_owned(),
        entry: "serve".to_owned(),
        command: Vec::new(),
        port: None,
    }
}

pub(crate) fn spec(bundle: PathBuf, id: u64, program: Program, logs: Arc<Sink>) -> InstanceSpec {
    let name = |text: &str| Name::new(text).expect("it is a name");
    InstanceSpec {
        id: InstanceId(id),
        function: FunctionKey::new(&name("default"), &name("attempt")),
        revision: Arc::from("r1"),
        bundle,
        layer: None,
        root: None,
        program,
        env: Vec::new(),
        secrets: Vec::new(),
        limits: limits(),
        network: Network::None,
        outbound: None,
        concurrency: 1,
        ready_within: Duration::from_secs(30),
        logs,
    }
}

pub(crate) fn bundle(at: &Path, name: &str, files: &[(&str, &str)]) -> io::Result<PathBuf> {
    let bundle = at.join(name);
    fs::create_dir(&bundle)?;
    for (name, text) in files {
        let path = bundle.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(bundle)
}

/// Gives an instance the way out, where there is one.
fn open(spec: &mut InstanceSpec, door: Option<&Door>) {
    if let Some(door) = door {
        spec.network = Network::Outbound;
        spec.outbound = Some(door.outbound(&spec.function));
        let port = door.port.to_string();
        spec.env.push(("PORT_OPEN".to_owned(), port));
    }
}

/// Stands for the machine's address where it has none.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// An address of the machine's that is not loopback.
pub(crate) fn own_address() -> Option<Ipv4Addr> {
    let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        // Sends nothing: the kernel only chooses the way.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    match found {
        Ok(SocketAddr::V4(address)) => Some(*address.ip()),
        _ => None,
    }
}
