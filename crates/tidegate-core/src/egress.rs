//! What a function may reach: a list of hosts and networks, each with a port where only one is meant.
//!
//! A name is matched as the code asked for it, a network by the address that is dialled; so an entry says what somebody
//! would say of a firewall, and nothing has to be resolved to decide.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest host name in bytes, as the name system has it.
const MAX_HOST: usize = 253;

/// One entry of a list of what may be reached: `api.example.org`, `*.example.org:443`, `10.0.0.0/8`, `[2001:db8::1]:443`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    to: To,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum To {
    /// Lower case.
    Host(String),
    /// Every name below this one, and not itself.
    Below(String),
    /// Addresses that begin with so many of these bits.
    Network(IpAddr, u8),
}

/// An entry that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host, pattern or network, such as \"api.example.org\", \"*.example.org:443\" or \"10.0.0.0/8\""
)]
pub struct RuleError(String);

impl Rule {
    /// Whether it lets a connection to this port pass: `names` are those that the address was asked for by.
    #[must_use]
    pub fn permits(&self, names: &[impl AsRef<str>], address: IpAddr, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
            && (names.iter().any(|name| self.names(name.as_ref())) || self.contains(address))
    }

    /// Whether this name, in lower case and without a dot at its end, is one that it means.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        match &self.to {
            To::Host(host) => name == host,
            To::Below(host) => name
                .strip_suffix(host.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            To::Network(..) => false,
        }
    }

    /// Whether it means this address. An IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let To::Network(ours, bits) = self.to else {
            return false;
        };
        let differing = match (ours, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= u32::from(bits)
    }

    /// Whether it means addresses and no names.
    #[must_use]
    pub fn is_network(&self) -> bool {
        matches!(self.to, To::Network(..))
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let wrong = || RuleError(text.to_owned());
        let network = |text: &str| -> Option<To> {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
                None => (text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(most);
            // One form of an address: what is an IPv4 address is written as one.
            (bits <= most && address == address.to_canonical())
                .then_some(To::Network(address, bits))
        };
        if let Some(to) = network(text) {
            return Ok(Self { to, port: None });
        }
        let (rest, port) = match text.rsplit_once(':') {
            Some((rest, port)) => match port.parse() {
                Ok(port) if port > 0 => (rest, Some(port)),
                _ => return Err(wrong()),
            },
            None => (text, None),
        };
        let bare = rest
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(to) = network(bare.unwrap_or(rest)) {
            // Without brackets, the last part of an IPv6 address would be the port.
            let is_v6 = matches!(to, To::Network(IpAddr::V6(_), _));
            return match is_v6 && bare.is_none() {
                true => Err(wrong()),
                false => Ok(Self { to, port }),
            };
        }
        let (below, host) = match rest.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, rest),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_name = !host.is_empty()
            && host.len() <= MAX_HOST
            && host.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
            // An address that is written in some odd way, or a mistake in one.
            && host
                .rsplit('.')
                .next()
                .is_some_and(|last| last.bytes().any(|b| !b.is_ascii_digit()));
        match (is_name, below) {
            (true, true) => Ok(Self {
                to: To::Below(host),
                port,
            }),
            (true, false) => Ok(Self {
                to: To::Host(host),
                port,
            }),
            (false, _) => Err(wrong()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Host(host) => f.write_str(host)?,
            To::Below(host) => write!(f, "*.{host}")?,
            To::Network(address, bits) => {
                let whole = u32::from(*bits) == if address.is_ipv4() { 32 } else { 128 };
                let bracket = address.is_ipv6() && self.port.is_some();
                let (open, close) = if bracket { ("[", "]") } else { ("", "") };
                write!(f, "{open}{address}")?;
                if !whole {
                    write!(f, "/{bits}")?;
                }
                f.write_str(close)?;
            }
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_written_in_one_spelling() {
        for (text, shown) in [
            ("API.Example.org.", "api.example.org"),
            ("*.example.org:443", "*.example.org:443"),
            ("db", "db"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:80", "1.2.3.4:80"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("1a.2b", "1a.2b"),
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), shown);
            assert_eq!(shown.parse::<Rule>().unwrap(), rule, "{text}");
        }
        for wrong in [
            "",
            "*",
            "a.*.org",
            "*.",
            "a b",
            "a..b",
            "https://a.org",
            "a.org:0",
            "a.org:x",
            "a.org/8",
            "1.2.3",
            "10.0.0.0/33",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.org:1:2",
            "-:70000",
            "::ffff:1.2.3.4",
        ] {
            let error = wrong.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }

    #[test]
    fn names_and_networks_are_matched_with_their_port() {
        let permits = |rule: &str, name: &str, address: &str, port| {
            let names: Vec<_> = [name].into_iter().filter(|n| !n.is_empty()).collect();
            let rule: Rule = rule.parse().unwrap();
            rule.permits(&names, address.parse().unwrap(), port)
        };
        assert!(permits("a.org", "a.org", "1.1.1.1", 443));
        assert!(!permits("a.org", "b.a.org", "1.1.1.1", 443));
        assert!(!permits("a.org", "", "1.1.1.1", 443));
        assert!(permits("*.a.org:443", "x.y.a.org", "1.1.1.1", 443));
        assert!(!permits("*.a.org:443", "x.y.a.org", "1.1.1.1", 80));
        assert!(!permits("*.a.org", "a.org", "1.1.1.1", 80));
        assert!(!permits("*.a.org", "bada.org", "1.1.1.1", 80));
        assert!(permits("10.0.0.0/8", "", "10.200.0.1", 1));
        assert!(permits("10.0.0.0/8", "any.org", "::ffff:10.200.0.1", 1));
        assert!(!permits("10.0.0.0/8", "", "11.0.0.1", 1));
        assert!(!permits("0.0.0.0/0", "", "::1", 1));
        assert!(permits("0.0.0.0/0", "", "9.9.9.9", 1));
    }
}
