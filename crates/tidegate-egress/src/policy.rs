//! What may be reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::address::{self, Kind};
use crate::target::{ParseError, Target};
use crate::upstream::Upstreams;

/// Ports below this are services of a machine's own, all but the web's.
const FIRST_FREE_PORT: u16 = 1024;

/// What may be reached, and how much. The operator's to say: nothing of what a user sends belongs in here.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Reached in any case, at whatever address: registries that the operator named.
    pub named: Vec<Target>,
    /// Where given, only these names are reached, beside [`Policy::named`]; addresses by [`Policy::networks`].
    pub hosts: Option<Vec<HostPattern>>,
    /// Addresses that are reached although they are private or this machine's.
    pub networks: Vec<Network>,
    /// Whether all private addresses are reached.
    pub private: bool,
    /// Where given, only these ports are reached; else 80, 443 and those above 1023.
    pub ports: Option<Vec<u16>>,
    /// The operator's own proxies.
    pub upstreams: Upstreams,
    /// How much, and for how long.
    pub limits: Limits,
}

/// How much a job may use of the network, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. A package manager opens a dozen.
    pub connections: usize,
    /// Bytes in both directions together, of the whole job.
    pub bytes: u64,
    /// Until a host answers, its name's resolution included.
    pub connect: Duration,
    /// Without a byte in either direction. A server may think for a while about what a repository holds.
    pub idle: Duration,
    /// Until a request's head has arrived, from the connection's begin or the end of the request before.
    pub head: Duration,
}

/// `registry.example.org`, or with `*.` before it every name below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    below: bool,
    host: String,
}

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            bytes: 8 << 30,
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(120),
            head: Duration::from_secs(60),
        }
    }
}

impl Policy {
    /// Judges the name. The error ends the sentence `refused TARGET: `.
    pub(crate) fn judge_name(&self, target: &Target) -> Result<(), String> {
        if self.named.contains(target) {
            return Ok(());
        }
        let port = target.port();
        let open = match &self.ports {
            Some(ports) => ports.contains(&port),
            None => matches!(port, 80 | 443) || port >= FIRST_FREE_PORT,
        };
        if !open {
            return Err(format!("port {port} is not one that may be reached"));
        }
        let host = target.host();
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        let by_address = target
            .address()
            .is_some_and(|a| self.networks.iter().any(|n| n.contains(a)));
        if by_address || hosts.iter().any(|p| p.matches(host)) {
            Ok(())
        } else {
            Err(format!(
                "{host} is not among the hosts that the operator allows"
            ))
        }
    }

    /// Judges an address that the target has.
    pub(crate) fn judge_address(&self, target: &Target, address: SocketAddr) -> Result<(), String> {
        let ip = address.ip();
        if self.named.contains(target) || self.networks.iter().any(|n| n.contains(ip)) {
            return Ok(());
        }
        let kind = address::kind(ip);
        let words = match kind {
            Kind::Loopback | Kind::LinkLocal | Kind::Special => kind.words(),
            Kind::Public | Kind::Private => match address::is_own(address) {
                Ok(true) => "this machine's own address",
                Ok(false) if kind == Kind::Public || self.private => return Ok(()),
                Ok(false) => kind.words(),
                Err(error) => {
                    return Err(format!(
                        "whether {ip} is this machine's own address cannot be told: {error}"
                    ));
                }
            },
        };
        Err(format!(
            "{ip} is {words}, which the operator has not allowed"
        ))
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        if self.below {
            host.strip_suffix(&self.host)
                .is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
        } else {
            host == self.host
        }
    }
}

impl FromStr for HostPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (below, host) = match text.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, text),
        };
        // Any port will do: only the name is of interest.
        match Target::new(host, 1) {
            Some(target) if !host.contains('*') => Ok(Self {
                below,
                host: target.host().to_owned(),
            }),
            _ => Err(ParseError {
                value: text.to_owned(),
                what: "host name or pattern",
                example: "*.example.org",
            }),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{below}{}", self.host)
    }
}

impl Network {
    /// Whether it is one of these. An IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError {
            value: text.to_owned(),
            what: "network",
            example: "10.0.0.0/8",
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(policy: &Policy, target: &str, address: &str) -> Result<(), String> {
        let target: Target = target.parse().unwrap();
        let address: IpAddr = address.parse().unwrap();
        policy.judge_name(&target)?;
        policy.judge_address(&target, SocketAddr::new(address, target.port()))
    }

    #[test]
    fn by_default_the_public_network_is_reached_and_nothing_else() {
        let policy = Policy::default();
        for (target, address) in [
            ("a.org:443", "1.1.1.1"),
            ("a.org:80", "8.8.8.8"),
            ("a.org:4873", "9.9.9.9"),
        ] {
            assert_eq!(judge(&policy, target, address), Ok(()));
        }
        for (target, address, words) in [
            ("a.org:22", "1.1.1.1", "port 22"),
            ("a.org:443", "127.0.0.1", "loopback"),
            ("a.org:443", "10.0.0.1", "private"),
            ("a.org:443", "169.254.169.254", "link-local"),
            ("a.org:443", "0.0.0.0", "nobody's"),
            ("a.org:443", "::ffff:10.0.0.1", "private"),
        ] {
            let error = judge(&policy, target, address).unwrap_err();
            assert!(error.contains(words), "{target} {address}: {error}");
        }
    }

    #[test]
    fn the_operator_opens_what_is_his() {
        let policy = Policy {
            named: vec![
                "registry.corp:8443".parse().unwrap(),
                "127.0.0.1:22".parse().unwrap(),
            ],
            networks: vec!["10.1.0.0/16".parse().unwrap()],
            ..Policy::default()
        };
        assert_eq!(judge(&policy, "registry.corp:8443", "127.0.0.1"), Ok(()));
        assert_eq!(judge(&policy, "127.0.0.1:22", "127.0.0.1"), Ok(()));
        assert!(judge(&policy, "registry.corp:8444", "127.0.0.1").is_err());
        assert_eq!(judge(&policy, "x:80", "10.1.2.3"), Ok(()));
        assert!(judge(&policy, "x:80", "10.2.2.3").is_err());
        let private = Policy {
            private: true,
            ..Policy::default()
        };
        assert_eq!(judge(&private, "x:80", "10.2.2.3"), Ok(()));
        for never in [
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "224.0.0.1",
        ] {
            assert!(judge(&private, "x:80", never).is_err(), "{never}");
        }
    }

    #[test]
    fn a_list_of_hosts_is_all_there_is() {
        let policy = Policy {
            hosts: Some(vec![
                "*.example.org".parse().unwrap(),
                "one.net".parse().unwrap(),
            ]),
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            ..Policy::default()
        };
        for good in [
            "a.example.org:443",
            "a.b.example.org:443",
            "one.net:443",
            "10.1.1.1:443",
        ] {
            assert_eq!(policy.judge_name(&good.parse().unwrap()), Ok(()), "{good}");
        }
        for bad in [
            "example.org:443",
            "badexample.org:443",
            "x.one.net:443",
            "1.1.1.1:443",
        ] {
            assert!(policy.judge_name(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        for wrong in ["", "*", "a.*.org", "*.", "a b"] {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
        for wrong in ["10.0.0.0/33", "x/8", "fd00::/129", "10.0.0.0/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("9.9.9.9".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
    }
}
