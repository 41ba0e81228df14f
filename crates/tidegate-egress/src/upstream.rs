//! The operator's own proxies, as the environment names them.

use std::fmt;

use base64::Engine;
use http::HeaderValue;

use crate::policy::Network;
use crate::target::{ParseError, Target};

/// The proxies that connections go through, and what goes past them.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    /// For plain requests.
    pub http: Option<Upstream>,
    /// For tunnels.
    pub https: Option<Upstream>,
    /// What is dialled all the same.
    pub past: NoProxy,
}

/// One proxy. `Debug` does not show its password.
#[derive(Clone)]
pub struct Upstream {
    pub(crate) at: Target,
    pub(crate) authorization: Option<HeaderValue>,
}

/// Hosts that are dialled although there is a proxy.
#[derive(Clone, Debug, Default)]
pub struct NoProxy {
    all: bool,
    networks: Vec<Network>,
    /// Each with everything below it, and the port where one was given.
    hosts: Vec<(String, Option<u16>)>,
}

impl Upstreams {
    /// As `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say, small letters before capitals.
    ///
    /// # Errors
    /// A proxy that is no `http` URL: nothing else can be spoken to.
    pub fn from_env(read: impl Fn(&str) -> Option<String>) -> Result<Self, ParseError> {
        let value = |name: &str| {
            read(name)
                .or_else(|| read(&name.to_uppercase()))
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        let proxy = |name: &str| {
            value(name)
                .or_else(|| value("all_proxy"))
                .map(|url| Upstream::new(&url))
                .transpose()
        };
        Ok(Self {
            http: proxy("http_proxy")?,
            https: proxy("https_proxy")?,
            past: NoProxy::new(&value("no_proxy").unwrap_or_default()),
        })
    }

    /// The proxy that this target is reached through.
    pub(crate) fn of(&self, target: &Target, tunnel: bool) -> Option<&Upstream> {
        let proxy = if tunnel { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.past.names(target))
    }
}

impl Upstream {
    /// From `http://user:password@host:port`, or `host:port`.
    ///
    /// # Errors
    /// It is something else.
    pub fn new(url: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError {
            value: url
                .rsplit_once('@')
                .map_or(url, |(_, rest)| rest)
                .to_owned(),
            what: "URL of an HTTP proxy",
            example: "http://proxy.example.org:3128",
        };
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(wrong()),
            None => url,
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let at = Target::of_url(&format!("http://{host}")).map_err(|_| wrong())?;
        let authorization = user
            .map(|user| {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let mut pair = unescape(name).ok_or_else(wrong)?;
                pair.push(b':');
                pair.extend(unescape(password).ok_or_else(wrong)?);
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                let mut value =
                    HeaderValue::try_from(format!("Basic {encoded}")).map_err(|_| wrong())?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        Ok(Self { at, authorization })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.at)
    }
}

/// Percent escapes, which a password with odd characters has.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

impl NoProxy {
    /// From a list with commas: host names with what is below them, addresses, networks, `*`. What is none of these is
    /// passed over, as every tool does with it.
    #[must_use]
    pub fn new(list: &str) -> Self {
        let mut past = Self::default();
        for entry in list.split([',', ' ']).map(str::trim) {
            let bare = entry.trim_start_matches("*.").trim_start_matches('.');
            if entry == "*" {
                past.all = true;
            } else if let Ok(network) = entry.parse() {
                past.networks.push(network);
            } else if let Ok(target) = bare.parse::<Target>() {
                past.hosts
                    .push((target.host().to_owned(), Some(target.port())));
            } else if let Some(target) = Target::new(bare, 1) {
                past.hosts.push((target.host().to_owned(), None));
            }
        }
        past
    }

    fn names(&self, target: &Target) -> bool {
        let host = target.host();
        let below = |(name, port): &(String, Option<u16>)| {
            let here = host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            here && port.is_none_or(|port| port == target.port())
        };
        self.all
            || self.hosts.iter().any(below)
            || target
                .address()
                .is_some_and(|a| self.networks.iter().any(|n| n.contains(a)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_proxies_and_what_goes_past_them() {
        let env = |name: &str| {
            Some(match name {
                "https_proxy" => "http://us%65r:p%40ss@proxy.corp:3128/".to_owned(),
                "HTTPS_PROXY" => "http://other:1".to_owned(),
                "ALL_PROXY" => "10.0.0.9:8080".to_owned(),
                "NO_PROXY" => "localhost, .corp,10.0.0.0/8,mirror.org:8081".to_owned(),
                _ => return None,
            })
        };
        let upstreams = Upstreams::from_env(env).unwrap();
        let of = |target: &str, tunnel| {
            let found = upstreams.of(&target.parse().unwrap(), tunnel);
            found.map(|u| u.at.to_string())
        };
        assert_eq!(of("a.org:443", true).as_deref(), Some("proxy.corp:3128"));
        assert_eq!(of("a.org:80", false).as_deref(), Some("10.0.0.9:8080"));
        for past in [
            "x.corp:443",
            "corp:443",
            "10.2.3.4:443",
            "localhost:443",
            "mirror.org:8081",
        ] {
            assert_eq!(of(past, true), None, "{past}");
        }
        for through in ["mirror.org:443", "xcorp:443", "11.2.3.4:443"] {
            assert!(of(through, true).is_some(), "{through}");
        }
        let https = upstreams.https.as_ref().unwrap();
        // user:p@ss
        assert_eq!(https.authorization.as_ref().unwrap(), "Basic dXNlcjpwQHNz");
        assert!(!format!("{upstreams:?}").contains("dXNl"));
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_without_its_password() {
        for bad in [
            "socks5://h:1",
            "https://u:secret@h:1",
            "http://",
            "http://u:%zz@h",
        ] {
            let error = Upstream::new(bad).unwrap_err().to_string();
            assert!(
                error.contains("HTTP proxy") && !error.contains("secret"),
                "{error}"
            );
        }
        assert!(NoProxy::new("*").names(&"x:1".parse().unwrap()));
        assert!(!NoProxy::new("").names(&"x:1".parse().unwrap()));
    }
}
