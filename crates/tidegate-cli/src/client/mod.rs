//! The native API, as a client speaks it.
//!
//! One connection kept, no redirects (a token must not follow one, and a function's redirect is for the caller to see), no
//! proxy for this machine's own addresses. Every answer is read under a bound, because a wrong address may be anything.

mod body;
mod error;
mod fetch;
mod gateway;

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, IF_NONE_MATCH};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Request, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_build::Archive;

pub(crate) use body::{Lines, MAX_ERROR, of_stream};
pub(crate) use error::Error;
pub(crate) use fetch::fetch;
pub(crate) use gateway::{Deployed, Gateway, Status, USER, USUAL_NAMESPACE};

use crate::credentials;

/// Where the API begins below the server's address.
const API: &str = "tidegate/v1";

/// How long a connection may take: a server that is there answers in milliseconds, one across the world in less than one
/// second, and beyond a few nobody is.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a plain request may take; the slowest is a write that waits for a disk.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// How long a request may take whose answer the server holds until something has come about.
const HELD: Duration = ANSWER.saturating_add(Duration::from_secs(20));

/// How long an upload may take: the largest archive over a slow line of 4 Mbit/s.
const UPLOAD: Duration = Duration::from_secs(600);

/// One server, and the key for it.
///
/// Streams have no limit of time: a quiet function logs nothing for days.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
}

impl Client {
    /// A client for the server at this address. Nothing is sent yet.
    pub(crate) fn new(base: Url, token: Option<&str>) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none());
        if credentials::is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if base.scheme() == "https" {
            // An error means that one is installed, which is all that is wanted.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        } else {
            // Loading the system's certificates takes longer than most commands, and redirects are not followed.
            builder = builder.tls_certs_only([]);
        }
        let token = match token {
            Some(token) => {
                let mut value =
                    HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self {
            http: builder.build().map_err(Error::Setup)?,
            base,
            token,
        })
    }

    /// Reads the address that the user gave: `http` or `https`, a host, perhaps a path, nothing else.
    pub(crate) fn parse_url(text: &str) -> Result<Url, Error> {
        let refuse = |why| Error::Url {
            url: text.chars().take(200).collect(),
            why,
        };
        let mut url = Url::parse(text).map_err(|_| refuse("is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("is neither http nor https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("names no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Not shown, since it may hold a password.
            return Err(Error::Url {
                url: format!("{}://…@{}", url.scheme(), url.host_str().unwrap_or("")),
                why: "holds a user name, which is not used (a key is given with --token)",
            });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("has a query or fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(url)
    }

    /// The server's address without a slash at the end.
    pub(crate) fn shown(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Asks for a document.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        within: Duration,
    ) -> Result<T, Error> {
        let request = self.request(Method::GET, path, query, within);
        let response = self.send(request).await?;
        self.document(response).await
    }

    /// Sends a document and reads the one that is answered.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, Error> {
        let request = self.request(Method::PUT, path, &[], ANSWER);
        self.write(request, document).await
    }

    /// Sends a document that must not be there yet.
    pub(crate) async fn put_new<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, Error> {
        let mut request = self.request(Method::PUT, path, &[], ANSWER);
        request
            .headers_mut()
            .insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        self.write(request, document).await
    }

    /// Sends a document whose answer is held for up to [`HELD`].
    pub(crate) async fn put_waiting<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        document: &impl Serialize,
    ) -> Result<T, Error> {
        let request = self.request(Method::PUT, path, query, HELD);
        self.write(request, document).await
    }

    /// Asks for something to be done, the answer to which is held for up to [`HELD`].
    pub(crate) async fn post_waiting<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        document: &impl Serialize,
    ) -> Result<T, Error> {
        let request = self.request(Method::POST, path, query, HELD);
        self.write(request, document).await
    }

    async fn write<T: DeserializeOwned>(
        &self,
        mut request: Request,
        document: &impl Serialize,
    ) -> Result<T, Error> {
        body::write(&mut request, self.shown(), document)?;
        let response = self.send(request).await?;
        self.document(response).await
    }

    /// Deletes what is there.
    pub(crate) async fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<(), Error> {
        let request = self.request(Method::DELETE, path, query, ANSWER);
        let response = self.send(request).await?;
        self.success(response).await.map(drop)
    }

    /// Deletes what is there, and reads what that came to.
    pub(crate) async fn delete_told<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let mut request = self.request(Method::DELETE, path, query, ANSWER);
        // Of many things, it takes as long as it takes.
        *request.timeout_mut() = None;
        let response = self.send(request).await?;
        self.document(response).await
    }

    /// Asks for something that is no document of ours, such as a function's answer that was kept.
    pub(crate) async fn fetch(&self, path: &str) -> Result<Response, Error> {
        let mut request = self.request(Method::GET, path, &[], ANSWER);
        *request.timeout_mut() = None;
        let response = self.send(request).await?;
        self.success(response).await
    }

    /// Reads the document of an answer that [`Self::fetch`] gave.
    pub(crate) async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        self.document(response).await
    }

    /// The page of metrics, a text.
    pub(crate) async fn metrics(&self) -> Result<String, Error> {
        let mut request = self.request(Method::GET, "", &[], ANSWER);
        let path = format!("{}/metrics", self.base.path().trim_end_matches('/'));
        request.url_mut().set_path(&path);
        let response = self.send(request).await?;
        let response = self.success(response).await?;
        let bytes = body::read(self.shown(), response, body::MAX_DOCUMENT).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Opens a stream of lines.
    pub(crate) async fn lines(&self, path: &str, query: &[(&str, &str)]) -> Result<Lines, Error> {
        let mut request = self.request(Method::GET, path, query, ANSWER);
        *request.timeout_mut() = None;
        let response = self.send(request).await?;
        Ok(Lines::new(self.shown(), self.success(response).await?))
    }

    /// Asks for something to be done at once.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, Error> {
        let request = self.request(Method::POST, path, &[], ANSWER);
        self.write(request, document).await
    }

    /// Asks for something to be done, the server telling meanwhile how it goes.
    pub(crate) async fn post_lines(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<Lines, Error> {
        let mut request = self.request(Method::POST, path, &[], ANSWER);
        *request.timeout_mut() = None;
        body::write(&mut request, self.shown(), document)?;
        let response = self.send(request).await?;
        Ok(Lines::new(self.shown(), self.success(response).await?))
    }

    /// Uploads `size` bytes, telling `sent` of every chunk; the server then tells what it makes of them.
    pub(crate) async fn put_stream(
        &self,
        path: &str,
        query: &[(&str, &str)],
        from: impl std::io::Read + Send + Sync + 'static,
        size: u64,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Lines, Error> {
        let mut request = self.request(Method::PUT, path, query, UPLOAD);
        // As long as it takes: an image may be larger than any code.
        *request.timeout_mut() = None;
        let headers = request.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        *request.body_mut() = Some(body::of_reader(from, sent));
        let response = self.send(request).await?;
        Ok(Lines::new(self.shown(), self.success(response).await?))
    }

    /// Whether the server has the archive.
    pub(crate) async fn has_blob(&self, digest: &str) -> Result<bool, Error> {
        let request = self.request(Method::HEAD, &format!("/blobs/{digest}"), &[], ANSWER);
        let response = self.send(request).await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(Error::bare(status)),
        }
    }

    /// Uploads an archive of `size` bytes, telling `sent` of every chunk.
    pub(crate) async fn put_blob(
        &self,
        digest: &str,
        archive: Archive,
        size: u64,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let mut request = self.request(Method::PUT, &format!("/blobs/{digest}"), &[], UPLOAD);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        *request.body_mut() = Some(body::of_reader(archive, sent));
        let response = self.send(request).await?;
        self.success(response).await.map(drop)
    }

    /// The address of a function.
    pub(crate) fn function_url(&self, namespace: &str, name: &str) -> String {
        let host = if namespace == "default" {
            name.to_owned()
        } else {
            format!("{name}.{namespace}")
        };
        format!("{}/fn/{host}", self.shown())
    }

    /// Sends a request as it stands, to a function. No limit on time but the request's own.
    pub(crate) async fn call(&self, request: Request) -> Result<Response, Error> {
        self.send(request).await
    }

    /// The key as a header, for private functions.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.token.clone()
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        within: Duration,
    ) -> Request {
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}/{API}{path}",
            self.base.path().trim_end_matches('/')
        ));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::new(method, url);
        *request.timeout_mut() = Some(within);
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        request
    }

    async fn send(&self, request: Request) -> Result<Response, Error> {
        let within = request.timeout().copied();
        self.http
            .execute(request)
            .await
            .map_err(|e| Error::transport(self.shown(), within, e))
    }

    /// The response if it is a success, else what the server says.
    async fn success(&self, response: Response) -> Result<Response, Error> {
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(body::error(self.shown(), response).await)
        }
    }

    async fn document<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let response = self.success(response).await?;
        let bytes = body::read(self.shown(), response, body::MAX_DOCUMENT).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Unexpected {
            url: self.shown(),
            what: "an answer that is not the document asked for".to_owned(),
            source: Some(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080")),
            ("http://host/", Ok("http://host")),
            ("https://host/base/", Ok("https://host/base")),
            ("host:8080", Err("is neither http nor https")),
            ("ftp://host", Err("is neither http nor https")),
            ("nonsense", Err("is not a URL")),
            ("http://host?x=1", Err("has a query or fragment")),
        ] {
            let said = Client::parse_url(text)
                .and_then(|url| Client::new(url, None))
                .map(|c| c.shown())
                .map_err(|e| e.to_string());
            match expected {
                Ok(shown) => assert_eq!(said.as_deref(), Ok(shown)),
                Err(why) => assert!(said.unwrap_err().contains(why), "{text}"),
            }
        }
    }

    #[test]
    fn the_namespace_default_is_left_out_of_a_functions_address() {
        let url = Client::parse_url("https://host/base/").unwrap();
        let client = Client::new(url, None).unwrap();
        assert_eq!(
            client.function_url("default", "a"),
            "https://host/base/fn/a"
        );
        assert_eq!(
            client.function_url("team", "a"),
            "https://host/base/fn/a.team"
        );
    }
}
