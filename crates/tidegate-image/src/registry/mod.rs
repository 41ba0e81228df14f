//! A client of registries: just enough of the distribution specification to read images.
//!
//! Our own over the HTTP client that is here in any case, because what it has to be careful about is most of it: a blob goes
//! on where it was cut off, credentials stay with the registry when it redirects to a store of blobs, and every answer,
//! redirect, retry and wait has a bound. Redirects are followed here and not by the HTTP client for that reason.

mod auth;
mod blob;
mod trust;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use crate::{Credentials, Error, Event, ImageDigest, Progress, Reference, Settings};

/// Attempts at one request, or at a blob without any of it coming.
const ATTEMPTS: u32 = 5;
/// Longest wait between two.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Redirects from a registry to where a blob is.
const MAX_REDIRECTS: usize = 5;
/// Of an answer that says what went wrong: what is shown of it is a line.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Of a message from outside in one of ours, in characters.
const MAX_SHOWN: usize = 300;

/// The HTTP clients for all registries: made when first needed, because reading the system's certificates takes a while.
/// Those for this machine's own addresses use no proxy, and the one of them that speaks no TLS has no certificates.
#[derive(Default)]
pub(crate) struct Clients {
    beyond: tokio::sync::OnceCell<reqwest::Client>,
    loopback: tokio::sync::OnceCell<reqwest::Client>,
    loopback_tls: tokio::sync::OnceCell<reqwest::Client>,
}

/// One repository of a registry, with what has been agreed on with it.
pub(crate) struct Registry {
    clients: Arc<Clients>,
    base: Url,
    /// Whether one on this machine has said that it wants TLS after all.
    wants_tls: AtomicBool,
    registry: String,
    repository: String,
    credentials: Credentials,
    authorization: Mutex<Option<HeaderValue>>,
    settings: Arc<Settings>,
    progress: Arc<dyn Progress>,
}

/// Why an attempt failed.
enum Failure {
    /// It may go better another time, after this wait where the other side names one.
    Passing(String, Option<Duration>),
    /// It will not.
    Lasting(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

impl Registry {
    pub(crate) fn new(
        reference: &Reference,
        credentials: &Credentials,
        clients: &Arc<Clients>,
        settings: Arc<Settings>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, Error> {
        let registry = reference.registry().to_owned();
        // The name that people write is not the host that answers.
        let host = match registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let near = is_loopback(host);
        let scheme = if near || settings.insecure.contains(&registry) {
            "http"
        } else {
            "https"
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{}/", reference.repository()))
            .map_err(|e| Error::invalid(format!("image name {reference}"), e.to_string()))?;
        Ok(Self {
            clients: Arc::clone(clients),
            base,
            wants_tls: AtomicBool::new(false),
            registry,
            repository: reference.repository().to_owned(),
            credentials: credentials.clone(),
            authorization: Mutex::default(),
            settings,
            progress,
        })
    }

    /// The client for an address, which may be that of a store of blobs or of a token service.
    async fn client(&self, url: &Url) -> Result<reqwest::Client, Error> {
        let near = is_loopback_url(url);
        let tls = !near || url.scheme() == "https";
        let cell = match (near, tls) {
            (false, _) => &self.clients.beyond,
            (true, false) => &self.clients.loopback,
            (true, true) => &self.clients.loopback_tls,
        };
        let settings = Arc::clone(&self.settings);
        let made =
            cell.get_or_try_init(|| crate::pull::blocking(move || client(near, tls, &settings)));
        made.await.cloned()
    }

    /// A manifest or index by tag or digest.
    pub(crate) async fn manifest(&self, wanted: &str) -> Result<Vec<u8>, Error> {
        self.document(
            &format!("manifests/{wanted}"),
            &format!("manifest {wanted}"),
            crate::manifest::ACCEPT,
        )
        .await
    }

    /// A blob that fits in memory, checked against its digest.
    pub(crate) async fn small_blob(
        &self,
        digest: &ImageDigest,
        what: &str,
    ) -> Result<Vec<u8>, Error> {
        let content = self
            .document(&format!("blobs/{digest}"), what, "*/*")
            .await?;
        check(&content, digest, what)?;
        Ok(content)
    }

    async fn document(
        &self,
        path: &str,
        what: &str,
        accept: &'static str,
    ) -> Result<Vec<u8>, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static(accept));
        let mut attempt = 0;
        loop {
            let failure = match self.get(path, &headers, what).await {
                Ok(answer) => match self.whole(answer, what).await {
                    Ok(content) => return Ok(content),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            attempt += 1;
            self.after(failure, attempt, None).await?;
        }
    }

    /// All of an answer's body, under the bound for documents.
    async fn whole(&self, answer: Response, what: &str) -> Result<Vec<u8>, Failure> {
        let most = self.settings.max_manifest_bytes;
        match read(answer, most, self.settings.idle).await {
            Ok((content, true)) => Ok(content),
            Ok((_, false)) => Err(Failure::Lasting(crate::manifest::too_large(
                format!("{what} of {}", self.name()),
                &self.settings,
            ))),
            Err(reason) => Err(Failure::Passing(reason, None)),
        }
    }

    fn url(&self, path: &str) -> Result<Url, Error> {
        let invalid = |why: &str| Error::invalid(format!("address of {}", self.name()), why);
        let mut url = self.base.join(path).map_err(|e| invalid(&e.to_string()))?;
        if self.wants_tls.load(Ordering::Relaxed) {
            url.set_scheme("https")
                .map_err(|()| invalid("it cannot be one of https"))?;
        }
        Ok(url)
    }

    /// Of the image, without its tag.
    fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Waits for the next attempt, if there is to be one.
    async fn after(
        &self,
        failure: Failure,
        attempt: u32,
        layer: Option<usize>,
    ) -> Result<(), Error> {
        let (reason, asked) = match failure {
            Failure::Lasting(error) => return Err(error),
            Failure::Passing(reason, asked) => (reason, asked),
        };
        if attempt >= ATTEMPTS {
            return Err(Error::Unreachable {
                registry: self.registry.clone(),
                reason,
            });
        }
        let doubled = self
            .settings
            .retry
            .saturating_mul(1 << (attempt - 1).min(10));
        let wait = asked.unwrap_or(doubled).min(LONGEST_WAIT);
        tracing::debug!(
            registry = self.registry,
            reason,
            attempt,
            "a registry failed, and is asked again"
        );
        self.progress.report(Event::Retry {
            layer,
            reason,
            wait_ms: wait.as_millis() as u64,
        });
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// One attempt at a request: with what the registry wants to know of us, and to where it redirects.
    async fn get(&self, path: &str, headers: &HeaderMap, what: &str) -> Result<Response, Failure> {
        let mut asked = false;
        loop {
            let url = self.url(path)?;
            let answer = self.follow(&url, headers).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            // Only what the registry itself says is a question for credentials.
            let own = same_origin(answer.url(), &url);
            if status == StatusCode::UNAUTHORIZED && own && !asked {
                asked = true;
                let challenge = auth::Challenge::of(answer.headers());
                let refused = said(&self.told(answer).await);
                self.authorize(challenge, &refused).await?;
                continue;
            }
            let wait = retry_after(&answer);
            let content = self.told(answer).await;
            let plain = own && url.scheme() == "http" && is_loopback_url(&url);
            if plain && status == StatusCode::BAD_REQUEST && wants_tls(&content) {
                self.wants_tls.store(true, Ordering::Relaxed);
                continue;
            }
            return Err(self.refused(status, wait, &said(&content), what, own));
        }
    }

    async fn follow(&self, first: &Url, headers: &HeaderMap) -> Result<Response, Failure> {
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self
                .client(&url)
                .await?
                .get(url.clone())
                .headers(headers.clone());
            if same_origin(&url, first)
                && let Some(value) = self.authorization.lock().clone()
            {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = self.send(request).await?;
            let status = answer.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let invalid =
                |why: &str| Error::invalid(format!("redirect by registry {}", self.registry), why);
            let next = answer
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| url.join(value).ok())
                .ok_or_else(|| invalid("it has no valid address"))?;
            if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none() {
                return Err(invalid("it leads to what is neither http nor https").into());
            }
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(invalid("it leads from https to http").into());
            }
            // A registry out there has no business with what listens on this machine.
            if !is_here(first) && is_here(&next) {
                return Err(invalid("it leads to this machine").into());
            }
            url = next;
        }
        Err(Error::invalid(
            format!("redirect by registry {}", self.registry),
            format!("there are more than {MAX_REDIRECTS}"),
        )
        .into())
    }

    /// The head of the answer, in time.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let passing = |reason| Failure::Passing(reason, None);
        let limit = self.settings.connect + self.settings.idle;
        match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(match trust::refused(&e) {
                Some(error) => Failure::Lasting(error),
                None => passing(told(&e)),
            }),
            Err(_) => Err(passing(format!(
                "it did not answer within {} seconds",
                limit.as_secs_f64()
            ))),
        }
    }

    /// What an answer that is no success means.
    fn refused(
        &self,
        status: StatusCode,
        wait: Option<Duration>,
        said: &str,
        what: &str,
        own: bool,
    ) -> Failure {
        match status {
            StatusCode::NOT_FOUND => Failure::Lasting(Error::NotFound {
                name: self.name(),
                reason: format!("the registry has no {what}"),
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if own => {
                Failure::Lasting(self.unauthorized(said))
            }
            // What a store of blobs was told of us may have run out; the registry redirects to a new address.
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS => Failure::Passing(format!("{status}{said}"), wait),
            _ if status.is_server_error() => Failure::Passing(format!("{status}{said}"), wait),
            _ => Failure::Lasting(Error::invalid(
                format!("answer of registry {} for {what}", self.registry),
                format!("{status}{said}"),
            )),
        }
    }

    fn unauthorized(&self, said: &str) -> Error {
        let had = match self.credentials {
            Credentials::Anonymous => "no credentials were given",
            Credentials::Basic { .. } | Credentials::Token(_) => {
                "the credentials that were given do not suffice"
            }
        };
        Error::Unauthorized {
            registry: self.registry.clone(),
            name: self.name(),
            reason: format!("{had}{said}"),
        }
    }

    /// As much of an answer that says what went wrong as is looked at.
    async fn told(&self, answer: Response) -> Vec<u8> {
        match read(answer, MAX_ERROR_BYTES, self.settings.idle).await {
            Ok((content, _)) => content,
            Err(_) => Vec::new(),
        }
    }
}

/// The message in what was told, after a colon; nothing where there is none.
fn said(content: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        errors: Vec<One>,
        #[serde(default)]
        details: String,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Said>(content) {
        Ok(Said { errors, details }) => match errors.into_iter().next() {
            Some(One { code, message }) if message.is_empty() => code,
            Some(One { message, .. }) => message,
            None => details,
        },
        Err(_) => String::new(),
    };
    let text: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_SHOWN)
        .collect();
    if text.is_empty() {
        text
    } else {
        format!(": {text}")
    }
}

/// Whether it was told that TLS should have been spoken. Servers have no code for that, but all that tell it, Go's and nginx
/// among them, do so in words that have the scheme's name in capitals.
fn wants_tls(content: &[u8]) -> bool {
    content.windows(5).any(|word| word == b"HTTPS")
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Whether content is what was asked for.
pub(crate) fn check(content: &[u8], expected: &ImageDigest, what: &str) -> Result<(), Error> {
    let found = ImageDigest::of(content);
    if found == *expected {
        return Ok(());
    }
    Err(Error::Digest {
        what: what.to_owned(),
        expected: expected.clone(),
        found,
    })
}

fn client(near: bool, tls: bool, settings: &Settings) -> Result<reqwest::Client, Error> {
    // An error means that one is installed, which is all that is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect)
        .redirect(reqwest::redirect::Policy::none());
    if near {
        builder = builder.no_proxy();
    }
    if !tls {
        builder = builder.tls_certs_only([]);
    } else if let Some(file) = &settings.ca_file {
        builder = builder.tls_backend_preconfigured(trust::beside_the_systems(file)?);
    }
    builder
        .build()
        .map_err(|e| Error::invalid("the setting-up of TLS", told(&e)))
}

/// The body as far as the bound, and whether that was all of it.
async fn read(answer: Response, most: usize, idle: Duration) -> Result<(Vec<u8>, bool), String> {
    if answer
        .content_length()
        .is_some_and(|length| length > most as u64)
    {
        return Ok((Vec::new(), false));
    }
    let mut content = Vec::new();
    let mut body = answer.bytes_stream();
    // A document is small: all of it must come in the time that a piece of a blob may take.
    let within = tokio::time::timeout(idle, async {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|e| told(&e))?;
            let room = most - content.len();
            content.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                return Ok(false);
            }
        }
        Ok(true)
    });
    match within.await {
        Ok(complete) => complete.map(|complete| (content, complete)),
        Err(_) => Err(format!(
            "its answer did not come within {} seconds",
            idle.as_secs_f64()
        )),
    }
}

/// The innermost cause, which is the one that says something; without the address, which may hold a signature.
fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    if error.is_connect() {
        format!("no connection: {text}")
    } else {
        text
    }
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host() == b.host()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Of a registry as it is named: with its port.
fn is_loopback(registry: &str) -> bool {
    Url::parse(&format!("http://{registry}/")).is_ok_and(|url| is_loopback_url(&url))
}

fn is_loopback_url(url: &Url) -> bool {
    match address(url) {
        Some(address) => address.is_loopback(),
        None => url
            .host_str()
            .is_some_and(|host| host == "localhost" || host.ends_with(".localhost")),
    }
}

/// Whether it leads to this machine by whatever address: that of no machine leads here, too.
fn is_here(url: &Url) -> bool {
    is_loopback_url(url) || address(url).is_some_and(|address| address.is_unspecified())
}

fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// A header that is not written to logs.
fn sensitive(value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| Error::invalid("a token", "it has characters that no header can have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Of a request for the rest of a blob.
fn with(name: HeaderName, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_seen_in_all_forms() {
        for name in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "a.localhost",
        ] {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "example.com",
            "localhost.example.com",
            "128.0.0.1",
            "[::2]:80",
            "10.0.0.1",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }

    #[test]
    fn this_machine_has_more_addresses_than_loopback() {
        let here = |url: &str| is_here(&Url::parse(url).unwrap());
        for url in [
            "http://localhost/",
            "https://0.0.0.0:1/",
            "https://[::]/",
            "http://0/",
        ] {
            assert!(here(url), "{url}");
        }
        assert!(!here("https://10.0.0.1/"));
    }

    #[test]
    fn a_server_that_wants_tls_is_understood() {
        assert!(wants_tls(
            b"Client sent an HTTP request to an HTTPS server.\n"
        ));
        assert!(wants_tls(
            b"<h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port"
        ));
        assert!(!wants_tls(b"{\"errors\":[{\"code\":\"NAME_INVALID\"}]}"));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&Url::parse(a).unwrap(), &Url::parse(b).unwrap());
        assert!(same("https://a/x", "https://a:443/y"));
        assert!(!same("https://a/", "http://a/"));
        assert!(!same("https://a/", "https://a:444/"));
        assert!(!same("https://a/", "https://b/"));
    }
}
