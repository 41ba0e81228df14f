//! A host and a port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest host name in bytes, as the name system has it.
const MAX_HOST: usize = 253;

/// A host and a port: `registry.example.org:443`, `[2001:db8::1]:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Lower case, without a dot at its end; an IPv6 address without brackets.
    host: String,
    port: u16,
}

/// Something of the operator's that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}, such as {example:?}")]
pub struct ParseError {
    pub(crate) value: String,
    pub(crate) what: &'static str,
    pub(crate) example: &'static str,
}

impl Target {
    /// `None` when this is no host name and no address.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        let named = host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let fits = !host.is_empty() && host.len() <= MAX_HOST && port > 0;
        (fits && (named || host.parse::<IpAddr>().is_ok())).then(|| Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Where a URL leads: `https://host/path` to port 443 of the host.
    ///
    /// # Errors
    /// It is no `http` or `https` URL.
    pub fn of_url(url: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError {
            // What stands before an `@` is a password.
            value: url
                .rsplit_once('@')
                .map_or(url, |(_, rest)| rest)
                .to_owned(),
            what: "URL of a registry",
            example: "https://registry.example.org/simple",
        };
        let url: http::Uri = url.parse().map_err(|_| wrong())?;
        let default = match url.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(wrong()),
        };
        let host = url.host().ok_or_else(wrong)?;
        Self::new(host, url.port_u16().unwrap_or(default)).ok_or_else(wrong)
    }

    /// Lower case; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the host is one in its ordinary spelling.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.rsplit_once(':')
            .and_then(|(host, port)| {
                let bare = host.contains(':') && !host.starts_with('[');
                if bare {
                    return None;
                }
                Self::new(host, port.parse().ok()?)
            })
            .ok_or_else(|| ParseError {
                value: text.to_owned(),
                what: "host with a port",
                example: "registry.example.org:443",
            })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_all_their_spellings() {
        for (text, shown) in [
            ("Registry.Example.ORG.:443", "registry.example.org:443"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "host",
            "host:",
            "host:0",
            "host:70000",
            ":80",
            "a b:80",
            "::1:80",
            "[x]y:80",
            "h\u{fc}:80",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_leads_to_its_port_and_its_password_is_not_quoted() {
        let of = |url| Target::of_url(url).map(|t| t.to_string());
        assert_eq!(
            of("https://u:p@registry.example.org/simple").unwrap(),
            "registry.example.org:443"
        );
        assert_eq!(of("http://10.0.0.1:4873").unwrap(), "10.0.0.1:4873");
        let error = of("ftp://user:secret@host/x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
