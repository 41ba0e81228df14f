//! What kind of address one is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What keeps an address from being reached by everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Public,
    /// Of the operator's network, and perhaps his to allow.
    Private,
    Loopback,
    /// Of this link alone: the services that clouds offer to their machines live here.
    LinkLocal,
    /// Means nobody, many, or nothing that is in use.
    Special,
}

impl Kind {
    /// Ends the sentence `ADDRESS is`.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Private => "a private address",
            Self::Loopback => "this machine's loopback",
            Self::LinkLocal => "a link-local address",
            Self::Special => "an address that is nobody's",
        }
    }
}

/// Of an address as it is written; forms that carry an IPv4 address inside are judged by that.
pub(crate) fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => kind_v4(v4),
            None => kind_v6(v6),
        },
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) => Kind::Loopback,
        (169, 254, _) => Kind::LinkLocal,
        // A cloud's own service on every machine of it, under an address that looks public.
        (168, 63, 129) if address.octets()[3] == 16 => Kind::LinkLocal,
        (10, ..) | (192, 168, _) => Kind::Private,
        (172, 16..=31, _) => Kind::Private,
        // Shared by a carrier's customers; some clouds have services here.
        (100, 64..=127, _) => Kind::Private,
        // Protocol assignments, some of which are a cloud's services.
        (192, 0, 0) => Kind::Special,
        // "This" network, multicast, reserved, broadcast.
        (0 | 224.., ..) => Kind::Special,
        // Those for documents and benchmarks as well: where they are in use, it is by a laboratory or a resolver that has
        // them stand for public ones.
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let first = address.segments()[0];
    match first {
        _ if address == Ipv6Addr::LOCALHOST => Kind::Loopback,
        _ if first & 0xffc0 == 0xfe80 => Kind::LinkLocal,
        // Unique local, and the site-local that came before it.
        _ if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 => Kind::Private,
        // Documentation, and tunnels whose far end cannot be seen from the address.
        0x2001 if matches!(address.segments()[1], 0x0db8 | 0) => Kind::Special,
        // Only this range has been given out.
        0x2000..=0x3fff => Kind::Public,
        _ => Kind::Special,
    }
}

/// The IPv4 address that this one stands for: mapped, compatible, translated or tunnelled.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => of(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => of(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

/// Whether this machine itself has the address: the kernel would speak to it from that same address. Nothing is sent.
///
/// # Errors
/// It cannot be told, as when descriptors have run out: which is no leave to dial.
pub(crate) fn is_own(address: SocketAddr) -> io::Result<bool> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    is_own_seen_from(UdpSocket::bind((any, 0)), address)
}

fn is_own_seen_from(socket: io::Result<UdpSocket>, address: SocketAddr) -> io::Result<bool> {
    let no_such_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    let socket = match socket {
        Err(error) if error.raw_os_error() == Some(no_such_family) => return Ok(false),
        socket => socket?,
    };
    // What cannot be reached at all is found out by dialling.
    let ours = socket.connect(address).and_then(|()| socket.local_addr());
    Ok(ours.is_ok_and(|ours| ours.ip() == address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_a_local_address_is_seen_through() {
        for (text, expected) in [
            ("127.0.0.1", Kind::Loopback),
            ("127.255.3.4", Kind::Loopback),
            ("::1", Kind::Loopback),
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("::127.0.0.1", Kind::Loopback),
            ("64:ff9b::7f00:1", Kind::Loopback),
            ("2002:7f00:1::", Kind::Loopback),
            ("169.254.169.254", Kind::LinkLocal),
            ("::ffff:169.254.169.254", Kind::LinkLocal),
            ("168.63.129.16", Kind::LinkLocal),
            ("fe80::1", Kind::LinkLocal),
            ("febf::1", Kind::LinkLocal),
            ("10.1.2.3", Kind::Private),
            ("172.16.0.1", Kind::Private),
            ("172.31.255.255", Kind::Private),
            ("192.168.1.1", Kind::Private),
            ("100.100.100.200", Kind::Private),
            ("fd00:ec2::254", Kind::Private),
            ("fec0::1", Kind::Private),
            ("0.0.0.0", Kind::Special),
            ("0.1.2.3", Kind::Special),
            ("::", Kind::Special),
            ("224.0.0.1", Kind::Special),
            ("255.255.255.255", Kind::Special),
            ("240.0.0.1", Kind::Special),
            ("192.0.0.192", Kind::Special),
            ("198.18.0.1", Kind::Public),
            ("ff02::1", Kind::Special),
            ("2001:db8::1", Kind::Special),
            ("2001::1", Kind::Special),
            ("64:ff9b:1::1", Kind::Special),
            ("1.1.1.1", Kind::Public),
            ("172.32.0.1", Kind::Public),
            ("100.128.0.1", Kind::Public),
            ("2606:4700::1111", Kind::Public),
            ("2002:101:101::", Kind::Public),
        ] {
            assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn the_machine_knows_itself() {
        assert!(is_own("127.0.0.1:80".parse().unwrap()).unwrap());
        assert!(!is_own("192.0.2.1:80".parse().unwrap()).unwrap());
        let from = |errno: rustix::io::Errno| {
            is_own_seen_from(Err(errno.into()), "127.0.0.1:80".parse().unwrap())
        };
        from(rustix::io::Errno::MFILE).unwrap_err();
        assert!(!from(rustix::io::Errno::AFNOSUPPORT).unwrap());
    }
}
