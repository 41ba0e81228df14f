//! Single values: what is written, and what would be taken in its place.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tidegate_core::{parse_bytes, parse_duration};
use tidegate_egress::{Policy as EgressPolicy, Target};

/// What stands between commas.
pub(super) fn list(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(',').map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned)
}

/// A number of bytes above zero.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match parse_bytes(text) {
        Ok(0) => Err("write a size above zero, such as 2Gi".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// A whole number above zero.
pub(super) fn whole<T: FromStr + Default + PartialOrd>(text: &str) -> Result<T, &'static str> {
    let number = text.parse().ok().filter(|n| *n > T::default());
    number.ok_or("write a whole number above zero")
}

pub(super) fn registries(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = list(text).collect();
    for word in &words {
        if word.contains('/') {
            return Err(format!(
                "{word:?} is no registry; write registry.example.org or registry.example.org:5000"
            ));
        }
        if word == "any" || word == "none" {
            return Err(format!("{word:?} stands alone, or write registries alone"));
        }
    }
    Ok(words)
}

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let text = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let text = if text.starts_with(':') {
        format!("127.0.0.1{text}")
    } else {
        text
    };
    text.parse()
        .map_err(|_| "write an address and a port such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:0")
}

pub(super) fn hosts(text: &str) -> Result<Vec<String>, String> {
    let hosts: Vec<String> = list(text).map(|host| host.to_ascii_lowercase()).collect();
    match hosts.iter().find(|h| h.contains(['/', ':', ' '])) {
        Some(bad) => Err(format!(
            "{bad:?} is not a host name; write it without scheme and port"
        )),
        None => Ok(hosts),
    }
}

pub(super) fn allowed(text: &str) -> Result<EgressPolicy, String> {
    let mut policy = EgressPolicy::default();
    for word in list(text) {
        let word = word.as_str();
        if let Ok(network) = word.parse() {
            policy.networks.push(network);
            continue;
        }
        let (host, ports) = match word.rsplit_once(':').map(|(h, p)| (h, p.parse())) {
            Some((host, Ok(port))) => (host, vec![port]),
            _ => (word, vec![80, 443]),
        };
        for port in ports {
            let target = Target::new(host, port).ok_or_else(|| {
                format!("{word:?} is no host name, address or network; write registry.example.org, registry.example.org:4873 or 10.0.0.0/8")
            })?;
            policy.named.push(target);
        }
    }
    Ok(policy)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("write a duration above zero, such as 30s".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn logging_filter(text: &str) -> Result<String, String> {
    text.parse::<tracing_subscriber::filter::Targets>()
        .map(|_| text.to_owned())
        .map_err(|_| {
            "write error, warn, info, debug, trace, or a filter such as info,tidegate_engine=debug"
                .to_owned()
        })
}

pub(super) fn one_of<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let words: Vec<_> = choices
                    .iter()
                    .map(|(word, _)| format!("{word:?}"))
                    .collect();
                format!("write {}", words.join(" or "))
            })
    }
}
