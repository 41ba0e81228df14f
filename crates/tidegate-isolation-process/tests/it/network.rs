//! The way out of a sandbox.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidegate_core::{InstanceId, Network};
use tidegate_instance::{InstanceSpec, LogSink, LogStream, Outbound, Outlet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, call, get};

/// Says where each connection was meant to go, and answers every question with its own bytes, turned round.
#[derive(Default)]
pub(crate) struct Echo {
    opened: Mutex<Vec<(InstanceId, Arc<dyn LogSink>)>>,
    met: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Outbound for Echo {
    fn open(&self, instance: InstanceId, logs: Arc<dyn LogSink>) -> Arc<dyn Outlet> {
        self.opened.lock().push((instance, logs));
        Arc::new(Mirror(self.met.clone()))
    }
}

struct Mirror(Arc<Mutex<Vec<SocketAddr>>>);

#[async_trait]
impl Outlet for Mirror {
    fn accept(&self, mut connection: TcpStream, to: SocketAddr) {
        self.0.lock().push(to);
        tokio::spawn(async move {
            let mut said = Vec::new();
            connection.read_to_end(&mut said).await?;
            said.extend(format!(" to {to}").bytes());
            connection.write_all(&said).await
        });
    }

    async fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        Some(question.iter().rev().copied().collect())
    }
}

pub(crate) fn outbound(mut spec: InstanceSpec) -> (InstanceSpec, Arc<Echo>) {
    let echo = Arc::new(Echo::default());
    spec.network = Network::Outbound;
    spec.outbound = Some(echo.clone());
    (spec, echo)
}

const CONNECTS: &str = "#!/usr/bin/python3
import socket
for to in [('1.1.1.1', 443), ('169.254.169.254', 80), ('10.0.0.1', 1), ('192.0.0.1', 53)]:
    s = socket.create_connection(to, 5)
    s.sendall(b'hello')
    s.shutdown(socket.SHUT_WR)
    print(s.makefile().read())
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.connect(('192.0.0.1', 53)); s.send(b'abc'); print(s.recv(9).decode())
print(open('/etc/resolv.conf').read().split()[:2])
";

pub(crate) async fn connections_come_to_the_outlet_with_the_address_that_was_meant(world: &World) {
    let (spec, logs) = world.per_call(CONNECTS);
    let (spec, echo) = outbound(spec);
    let id = spec.id;
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(
        answer.text(),
        "hello to 1.1.1.1:443\nhello to 169.254.169.254:80\nhello to 10.0.0.1:1\nhello to 192.0.0.1:53\n\
         cba\n['nameserver', '192.0.0.1']\n",
        "{:?}",
        logs.lines()
    );
    let (whose, log) = echo.opened.lock().pop().expect("it was opened");
    assert_eq!(whose, id);
    log.line(id, LogStream::System, None, b"a refusal");
    logs.wait_for("a refusal").await;
}

const REFUSED: &str = "#!/usr/bin/python3
import errno, socket, struct, time
def said(kind, family, to):
    s = socket.socket(family, kind); s.settimeout(5)
    began = time.monotonic()
    try:
        s.connect(to); s.send(b'x'); s.recv(1); word = 'REACHED'
    except OSError as e:
        word = errno.errorcode.get(e.errno, repr(e))
    return word if time.monotonic() - began < 1 else word + ' late'
print('udp', said(socket.SOCK_DGRAM, socket.AF_INET, ('8.8.8.8', 123)))
print('door', said(socket.SOCK_STREAM, socket.AF_INET, ('127.0.0.2', 1)))
print('loopback', said(socket.SOCK_STREAM, socket.AF_INET, ('127.0.0.1', 22)))
print('v6', said(socket.SOCK_STREAM, socket.AF_INET6, ('2606:4700::1111', 443)))
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print('MADE')
except OSError as e:
    print(errno.errorcode[e.errno])
try:
    s = socket.socket(); s.setsockopt(0, 19, 1); print('TRANSPARENT')
except OSError as e:
    print(errno.errorcode[e.errno])
# The route that makes every address the namespace's own, to be taken away.
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.send(struct.pack('=IHHIIBBBBBBBBI', 28, 25, 5, 1, 0, 2, 0, 0, 0, 255, 4, 254, 2, 0))
print(errno.errorcode[-struct.unpack_from('=i', s.recv(4096), 16)[0]])
server = socket.create_server(('0.0.0.0', 0)); server.settimeout(5)
socket.create_connection(('127.0.0.1', server.getsockname()[1])); server.accept()
print('its own server is reached')
";

pub(crate) async fn what_is_no_connection_is_refused_at_once(world: &World) {
    let (spec, _) = world.per_call(REFUSED);
    let (spec, echo) = outbound(spec);
    let instance = world.start(spec).await;
    let text = call(&*instance, b"").await.expect("called").text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "udp ECONNREFUSED");
    // The door itself leads nowhere: it is closed without a word.
    assert!(
        ["door REACHED", "door ECONNRESET"].contains(&lines[1]),
        "{text}"
    );
    assert_eq!(
        lines[2..],
        [
            "loopback ECONNREFUSED",
            "v6 ENETUNREACH",
            "EAFNOSUPPORT",
            "EPERM",
            "EPERM",
            "its own server is reached"
        ],
        "{text}"
    );
    assert!(echo.met.lock().is_empty());
}

pub(crate) async fn every_kind_of_program_has_it(world: &World) {
    let ask = "import socket
def fetch():
    s = socket.create_connection(('1.2.3.4', 80), 5); s.sendall(b'from python'); s.shutdown(socket.SHUT_WR)
    return s.makefile().read()
";
    let handler = format!("{ask}\ndef handler(event, context=None):\n    return fetch()\n");
    let (spec, logs) = world.python(&handler);
    let (spec, _) = outbound(spec);
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(
        answer.ends_with("from python to 1.2.3.4:80"),
        "{answer} {:?}",
        logs.lines()
    );
    let (spec, logs) = world.node(
        "const net = require('net');
module.exports = () => new Promise((done, failed) => {
  let text = '';
  const s = net.connect(80, '1.2.3.4', () => s.end('from node'));
  s.on('data', (d) => { text += d; }).on('end', () => done(text)).on('error', failed);
});",
    );
    let (spec, _) = outbound(spec);
    let instance = world.start(spec).await;
    let answer = get(&*instance, "/", None).await.expect("called");
    assert!(
        answer.ends_with("from node to 1.2.3.4:80"),
        "{answer} {:?}",
        logs.lines()
    );
}

pub(crate) async fn a_connection_ends_with_its_instance(world: &World) {
    let (spec, _) = world.per_call(
        "#!/usr/bin/python3
import socket, time
s = socket.create_connection(('1.2.3.4', 80), 5)
print(s.recv(1))
",
    );
    let (mut spec, _) = outbound(spec);
    let (tell, told) = tokio::sync::oneshot::channel();
    let hold = Arc::new(Hold(Mutex::new(Some(tell))));
    spec.outbound = Some(hold);
    let instance = world.start(spec).await;
    let process = instance.exec(Default::default()).await.expect("it runs");
    let mut connection: TcpStream = told.await.expect("it connects");
    instance.kill();
    instance.exited().await;
    drop(process);
    // Reset or ended: nobody holds the other side any more.
    let read = connection.read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

struct Hold(Mutex<Option<tokio::sync::oneshot::Sender<TcpStream>>>);
struct Holding(Mutex<Option<tokio::sync::oneshot::Sender<TcpStream>>>);

impl Outbound for Hold {
    fn open(&self, _: InstanceId, _: Arc<dyn LogSink>) -> Arc<dyn Outlet> {
        Arc::new(Holding(Mutex::new(self.0.lock().take())))
    }
}

#[async_trait]
impl Outlet for Holding {
    fn accept(&self, connection: TcpStream, _: SocketAddr) {
        if let Some(tell) = self.0.lock().take() {
            let _ = tell.send(connection);
        }
    }

    async fn answer(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

pub(crate) async fn without_anybody_to_judge_there_is_none(world: &World) {
    let (mut spec, logs) = world.per_call(
        "#!/usr/bin/python3
import socket
s = socket.socket(); s.settimeout(2)
print(s.connect_ex(('1.1.1.1', 80)))
",
    );
    spec.network = Network::Outbound;
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    assert_eq!(answer.text(), "101\n");
    logs.wait_for("network \"outbound\" is \"none\"").await;
}

pub(crate) async fn the_machines_network_asks_whom_the_machine_asks(world: &World) {
    let (mut spec, _) = world.per_call("#!/bin/sh\ncat /etc/resolv.conf\n");
    spec.network = Network::Host;
    let instance = world.start(spec).await;
    let answer = call(&*instance, b"").await.expect("called");
    let machines = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(answer.text(), machines);
}
