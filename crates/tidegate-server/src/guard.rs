//! Drive-by protection: a web page that a person happens to open must not be able to use the control routes of the server
//! on their machine.
//!
//! A page's requests carry its `Origin`, and a page that rebinds its own name to 127.0.0.1 carries that name in `Host`.
//! So both have to be ours. No `Access-Control-Allow-Origin` is ever sent, so answers are not readable either.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use tidegate_dialect_native::ApiError;

/// Where browsers say whose page sends a request.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Checks that a control request does not come from somebody else's web page.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Result<(), ApiError> {
    let Some(authority) = authority(uri, headers) else {
        return refuse("the request names no host");
    };
    if !is_ours(host(authority), hosts) {
        return refuse(&format!(
            "host {:?} is not one this server answers control requests for; add it to the setting 'hosts'",
            host(authority)
        ));
    }
    match foreign_origin(authority, headers) {
        None => Ok(()),
        Some(origin) => refuse(&format!(
            "control requests from the web page {origin:?} are not accepted"
        )),
    }
}

/// Whether a browser says that somebody else's web page sends this. It adds a password that a person has typed for us to
/// such a request, and the page need not know it.
pub(crate) fn is_of_another_page(uri: &Uri, headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let authority = authority(uri, headers).unwrap_or_default();
    // A link or a picture is fetched without an origin.
    !matches!(site, None | Some(b"same-origin" | b"none"))
        || foreign_origin(authority, headers).is_some()
}

/// Whom the client means to speak to.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    uri.authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| headers.get(header::HOST)?.to_str().ok())
}

/// The page that a request is from, unless it is ours or none.
fn foreign_origin<'a>(authority: &str, headers: &'a HeaderMap) -> Option<&'a str> {
    let origin = headers.get(header::ORIGIN)?;
    let origin = origin.to_str().unwrap_or("unreadable");
    let ours = origin
        .split_once("://")
        .is_some_and(|(_, from)| from == authority);
    (!ours).then_some(origin)
}

fn refuse(why: &str) -> Result<(), ApiError> {
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign", why))
}

fn is_ours(host: &str, hosts: &[String]) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok()
        || hosts.contains(&host)
}

/// The host without its port.
fn host(authority: &str) -> &str {
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_and_names_of_others_are_refused() {
        let hosts = ["tidegate.example".to_owned()];
        for (host, origin, good) in [
            ("localhost:8080", None, true),
            ("127.0.0.1:8080", None, true),
            ("[::1]:8080", None, true),
            ("openwhisk.localhost:8080", None, true),
            ("tidegate.example", None, true),
            // An address cannot be rebound to by name; a page there still has its Origin.
            ("192.168.1.5:8080", None, true),
            ("evil.example", None, false),
            ("localhost.evil.example", None, false),
            ("localhost:8080", Some("http://localhost:8080"), true),
            ("localhost:8080", Some("http://localhost:3000"), false),
            ("localhost:8080", Some("https://evil.example"), false),
            ("localhost:8080", Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let answer = check(
                &Uri::from_static("/tidegate/v1/functions"),
                &headers,
                &hosts,
            );
            assert_eq!(answer.is_ok(), good, "{host} {origin:?}");
        }
        assert!(check(&Uri::from_static("/"), &HeaderMap::new(), &hosts).is_err());
    }
    #[test]
    fn a_browser_says_whose_page_it_is() {
        let of = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:8080"));
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_of_another_page(&Uri::from_static("/function/f"), &headers)
        };
        assert!(!of(&[]));
        assert!(!of(&[
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!of(&[("sec-fetch-site", "none")]));
        assert!(of(&[("origin", "https://evil.example")]));
        assert!(of(&[("origin", "null")]));
        assert!(of(&[("sec-fetch-site", "cross-site")]));
        assert!(of(&[("sec-fetch-site", "same-site")]));
    }
}
