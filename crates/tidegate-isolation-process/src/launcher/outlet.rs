//! The way out of a sandbox: no route leads anywhere, and every connection ends at a door.
//!
//! The namespace has a loopback device and nothing else. Where the instance may reach the network, a route says that every
//! address there is is the namespace's own, and a rule of the packet filter hands each connection to one listening socket,
//! which the server holds: what it accepts says whom the code meant to reach. So code connects to whatever it likes by
//! ordinary means, and nothing leaves but what the server dials for it, after it has judged. A second socket is the name
//! server's. Neither needs a right outside of the namespace: it is the same for root and an ordinary user, and changes
//! nothing of the machine's own network.
//!
//! Socket and rule are made ahead of time; the route comes when the sandbox becomes a function's that asks for it.
//! Datagrams have no connection to accept, so none leave but questions for names: they are refused at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::NETFILTER;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tidegate_instance::{INSTANCE, RESOLVER};

use super::netlink::{ACKNOWLEDGE, APPEND, CREATE, Packet};
use crate::sys;

/// Where the door listens. Loopback, so that no address that code could mean is taken.
const DOOR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 1);

/// Connections that may wait to be taken at the door.
const WAITING: i32 = 128;

/// Port of name servers.
const DOMAIN: u16 = 53;

/// Number of the loopback device in every namespace.
const LOOPBACK: u32 = 1;

/// The sockets of a namespace, which the server gets.
pub(super) struct Outlet {
    /// Accepts every connection to somewhere else.
    pub(super) door: OwnedFd,
    /// Hears every question for names.
    pub(super) names: OwnedFd,
}

impl Outlet {
    /// Makes the door of the current network namespace. Nothing leads to it yet.
    pub(super) fn make() -> io::Result<Self> {
        let door = socket(SocketType::STREAM, DOOR)?;
        rustix::net::listen(&door, WAITING)?;
        let names = socket(SocketType::DGRAM, SocketAddrV4::new(RESOLVER, DOMAIN))?;
        rule()?;
        Ok(Self { door, names })
    }
}

/// A socket at an address that the namespace need not have.
fn socket(kind: SocketType, at: SocketAddrV4) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    sys::transparent(socket.as_fd())?;
    rustix::net::bind(&socket, &SocketAddr::V4(at))?;
    Ok(socket)
}

/// Makes every address the current namespace's own.
pub(super) fn open() -> io::Result<()> {
    /// Kinds of messages, and what they hold.
    const NEW_ADDRESS: u16 = 20;
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const NEW_ROUTE: u16 = 24;
    const DEVICE: u16 = 4;
    const SOURCE: u16 = 7;
    const IPV4: u8 = 2;
    const HOST_SCOPE: u8 = 254;
    const LOCAL_TABLE: u8 = 255;
    const STATIC: u8 = 4;
    const LOCAL_ROUTE: u8 = 2;
    let mut address = vec![IPV4, 32, 0, HOST_SCOPE];
    address.extend(LOOPBACK.to_ne_bytes());
    let mut route = vec![IPV4, 0, 0, 0, LOCAL_TABLE, STATIC, HOST_SCOPE, LOCAL_ROUTE];
    route.extend(0_u32.to_ne_bytes());
    Packet::default()
        .message(NEW_ADDRESS, ACKNOWLEDGE | CREATE, &address, |a| {
            a.put(LOCAL, &INSTANCE.octets());
            a.put(ADDRESS, &INSTANCE.octets());
        })
        .message(NEW_ROUTE, ACKNOWLEDGE | CREATE, &route, |a| {
            a.put(DEVICE, &LOOPBACK.to_ne_bytes());
            a.put(SOURCE, &INSTANCE.octets());
        })
        .send(None)
}

/// In the packet filter: what is TCP and not for loopback goes to the door.
fn rule() -> io::Result<()> {
    /// The packet filter's own numbers: of messages, of what they hold, and of what its instructions take.
    const TABLES: u16 = 10;
    const BEGIN: u16 = 0x10;
    const END: u16 = 0x11;
    const NEW_TABLE: u16 = TABLES << 8;
    const NEW_CHAIN: u16 = (TABLES << 8) | 3;
    const NEW_RULE: u16 = (TABLES << 8) | 6;
    const BEFORE_ROUTING: u32 = 0;
    /// Before address translation, where packets are marked and turned.
    const MANGLE: i32 = -150;
    const NOT_EQUAL: u32 = 1;
    const EQUAL: u32 = 0;
    const NETWORK_HEADER: u32 = 1;
    /// Where a packet's destination begins.
    const DESTINATION: u32 = 16;
    const PROTOCOL: u32 = 16;
    const TCP: u8 = 6;
    const IPV4: u32 = 2;
    const NAME: &str = "tidegate";
    /// Registers.
    const R1: u32 = 1;
    const R2: u32 = 2;

    let whole = [0, 0, 0, 10];
    let ipv4 = [2, 0, 0, 0];
    let make = ACKNOWLEDGE | CREATE;
    Packet::default()
        .message(BEGIN, 0, &whole, |_| {})
        .message(NEW_TABLE, make, &ipv4, |a| a.word(1, NAME))
        .message(NEW_CHAIN, make, &ipv4, |a| {
            a.word(1, NAME);
            a.word(3, NAME);
            a.nest(4, |hook| {
                hook.number(1, BEFORE_ROUTING);
                hook.put(2, &MANGLE.to_be_bytes());
            });
            a.word(7, "filter");
        })
        .message(NEW_RULE, make | APPEND, &ipv4, |a| {
            a.word(1, NAME);
            a.word(2, NAME);
            a.nest(4, |rule| {
                let mut then = |name: &str, fill: &dyn Fn(&mut super::netlink::Attributes<'_>)| {
                    rule.nest(1, |one| {
                        one.word(1, name);
                        one.nest(2, |data| fill(data));
                    });
                };
                let compare = |how: u32, with: u8| {
                    move |a: &mut super::netlink::Attributes<'_>| {
                        a.number(1, R1);
                        a.number(2, how);
                        a.nest(3, |value| value.put(1, &[with]));
                    }
                };
                then("payload", &|a| {
                    a.number(1, R1);
                    a.number(2, NETWORK_HEADER);
                    a.number(3, DESTINATION);
                    a.number(4, 1);
                });
                then("cmp", &compare(NOT_EQUAL, DOOR.ip().octets()[0]));
                then("meta", &|a| {
                    a.number(2, PROTOCOL);
                    a.number(1, R1);
                });
                then("cmp", &compare(EQUAL, TCP));
                for (register, value) in [
                    (R1, &DOOR.ip().octets()[..]),
                    (R2, &DOOR.port().to_be_bytes()[..]),
                ] {
                    then("immediate", &|a| {
                        a.number(1, register);
                        a.nest(2, |data| data.put(1, value));
                    });
                }
                then("tproxy", &|a| {
                    a.number(1, IPV4);
                    a.number(2, R1);
                    a.number(3, R2);
                });
            });
        })
        .message(END, 0, &whole, |_| {})
        .send(Some(NETFILTER))
}
