//! OpenFaaS's API, as its own clients speak it.
//!
//! A second client beside the native one, for functions that are wanted in OpenFaaS's words: what its command line can do
//! with a server is all that is done here. It knows a user by name and key, signs build contexts with the key, and answers
//! are plain texts.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method};
use reqwest::{Request, Response, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tidegate_document::ErrorBody;
use tidegate_openfaas::FunctionDeployment;
use tidegate_openfaas::build::{BUILD_PATH, NDJSON, PUBLIC_KEY_PATH, PublicKey, SIGNATURE_HEADER};

use super::{ANSWER, Client, Error, Lines, body};

/// The one user.
pub(crate) const USER: &str = "admin";

/// Where functions are that are in no namespace by name.
pub(crate) const USUAL_NAMESPACE: &str = "openfaas-fn";

/// One server, and the key for it.
pub(crate) struct Gateway {
    client: Client,
    authorization: Option<HeaderValue>,
    secret: Option<String>,
}

/// What is read of a function's state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) image: String,
    pub(crate) env_process: Option<String>,
    pub(crate) env_vars: Option<BTreeMap<String, String>>,
    pub(crate) constraints: Option<Vec<String>>,
    pub(crate) secrets: Option<Vec<String>>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) limits: Option<Json>,
    pub(crate) requests: Option<Json>,
    pub(crate) read_only_root_filesystem: bool,
    /// Wanted.
    pub(crate) replicas: u64,
    /// Ready.
    pub(crate) available_replicas: u64,
    /// Where the newest deployment stands, where the server says so: `pending`, `ready` or `failed`.
    #[serde(skip)]
    pub(crate) phase: Option<String>,
}

/// What a deploy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deployed {
    Created,
    Updated,
    /// It was so already, and the server says so.
    Unchanged,
}

/// On the answer to an update that changed nothing.
const UNCHANGED: &str = "x-tidegate-unchanged";

/// The header with [`Status::phase`].
const PHASE: &str = "x-tidegate-phase";

/// The annotation by which a server says why a function does not serve as it was deployed.
const TROUBLE: &str = "tidegate.dev/message";

impl Status {
    /// Why it does not serve as it was deployed.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(TROUBLE).map(String::as_str)
    }
}

/// A line of a function's log.
#[derive(Debug, Deserialize)]
struct LogLine {
    #[serde(default)]
    text: String,
}

impl Gateway {
    /// A client for the server at this address. Nothing is sent yet.
    pub(crate) fn new(base: Url, key: Option<&str>) -> Result<Self, Error> {
        let authorization = match key {
            Some(key) => {
                let pair = BASE64_STANDARD.encode(format!("{USER}:{key}"));
                let mut value =
                    HeaderValue::try_from(format!("Basic {pair}")).map_err(|_| Error::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self {
            client: Client::new(base, None)?,
            authorization,
            secret: key.map(str::to_owned),
        })
    }

    /// The server's address without a slash at the end.
    pub(crate) fn shown(&self) -> String {
        self.client.shown()
    }

    /// What build contexts are signed with.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// The address of a function.
    pub(crate) fn function_url(&self, namespace: Option<&str>, name: &str) -> String {
        let host = match namespace {
            Some(namespace) if namespace != USUAL_NAMESPACE => format!("{name}.{namespace}"),
            _ => name.to_owned(),
        };
        format!("{}/function/{host}", self.shown())
    }

    /// A function, if it is there.
    pub(crate) async fn function(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Status>, Error> {
        let mut request = self.request(Method::GET, &format!("/system/function/{name}"));
        if let Some(namespace) = namespace {
            request
                .url_mut()
                .query_pairs_mut()
                .append_pair("namespace", namespace);
        }
        match self.success(self.client.send(request).await?).await {
            Ok(response) => {
                let phase = response.headers().get(PHASE);
                let phase = phase.and_then(|v| v.to_str().ok()).map(str::to_owned);
                let status: Status = self.client.document(response).await?;
                Ok(Some(Status { phase, ..status }))
            }
            Err(e) if e.status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The functions of a namespace, as they are told.
    pub(crate) async fn functions(&self, namespace: Option<&str>) -> Result<Vec<Json>, Error> {
        let mut request = self.request(Method::GET, "/system/functions");
        if let Some(namespace) = namespace {
            request
                .url_mut()
                .query_pairs_mut()
                .append_pair("namespace", namespace);
        }
        let response = self.success(self.client.send(request).await?).await?;
        self.client.document(response).await
    }

    /// Changes a function that is there, or makes one that is not; which of the two it was.
    pub(crate) async fn deploy(&self, deployment: &FunctionDeployment) -> Result<Deployed, Error> {
        match self
            .write(Method::PUT, "/system/functions", deployment)
            .await
        {
            Ok(response) if response.headers().contains_key(UNCHANGED) => Ok(Deployed::Unchanged),
            Ok(_) => Ok(Deployed::Updated),
            Err(e) if e.status() == Some(404) => {
                self.write(Method::POST, "/system/functions", deployment)
                    .await?;
                Ok(Deployed::Created)
            }
            Err(e) => Err(e),
        }
    }

    /// Deletes a function.
    pub(crate) async fn delete(&self, namespace: Option<&str>, name: &str) -> Result<(), Error> {
        let function = json!({ "functionName": name, "namespace": namespace });
        self.write(Method::DELETE, "/system/functions", &function)
            .await
            .map(drop)
    }

    /// Asks for a number of instances.
    pub(crate) async fn scale(
        &self,
        namespace: Option<&str>,
        name: &str,
        replicas: u32,
    ) -> Result<(), Error> {
        let wish = json!({ "serviceName": name, "replicas": replicas, "namespace": namespace });
        self.write(
            Method::POST,
            &format!("/system/scale-function/{name}"),
            &wish,
        )
        .await
        .map(drop)
    }

    /// The namespaces that are there.
    pub(crate) async fn namespaces(&self) -> Result<Vec<String>, Error> {
        let request = self.request(Method::GET, "/system/namespaces");
        let response = self.success(self.client.send(request).await?).await?;
        self.client.document(response).await
    }

    /// Makes a namespace.
    pub(crate) async fn create_namespace(&self, name: &str) -> Result<(), Error> {
        let mark = json!({ "openfaas": "1" });
        let namespace = json!({ "name": name, "labels": mark, "annotations": mark });
        self.write(Method::POST, "/system/namespace/", &namespace)
            .await
            .map(drop)
    }

    /// The last lines that a function wrote.
    pub(crate) async fn last_lines(
        &self,
        namespace: Option<&str>,
        name: &str,
        lines: u32,
    ) -> Result<Vec<String>, Error> {
        let mut request = self.request(Method::GET, "/system/logs");
        request
            .url_mut()
            .query_pairs_mut()
            .append_pair("name", name)
            .append_pair("tail", &lines.to_string())
            .append_pair("follow", "false")
            .extend_pairs(namespace.map(|n| ("namespace", n)));
        let response = self.success(self.client.send(request).await?).await?;
        let mut stream = Lines::new(self.shown(), response);
        let mut texts = Vec::new();
        while let Some(line) = stream.next::<LogLine>().await? {
            texts.push(line.text.trim_end().to_owned());
        }
        Ok(texts)
    }

    /// The key that the builder opens secrets with.
    pub(crate) async fn public_key(&self) -> Result<PublicKey, Error> {
        let request = self.request(Method::GET, PUBLIC_KEY_PATH);
        let response = self.success(self.client.send(request).await?).await?;
        self.client.document(response).await
    }

    /// Sends a build context of `size` bytes, and gives the lines that its build answers. No limit of time: an image may
    /// take as long as its packages do.
    pub(crate) async fn build(
        &self,
        context: impl Read + Send + Sync + 'static,
        size: u64,
        signature: Option<&str>,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Lines, Error> {
        let mut request = self.request(Method::POST, BUILD_PATH);
        *request.timeout_mut() = None;
        let headers = request.headers_mut();
        // The signature alone says who it is.
        headers.remove(AUTHORIZATION);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        headers.insert(ACCEPT, HeaderValue::from_static(NDJSON));
        if let Some(signature) = signature {
            let value = HeaderValue::try_from(signature).map_err(|_| Error::Token)?;
            headers.insert(SIGNATURE_HEADER, value);
        }
        *request.body_mut() = Some(body::of_reader(context, sent));
        let response = self.success(self.client.send(request).await?).await?;
        Ok(Lines::new(self.shown(), response))
    }

    async fn write(
        &self,
        method: Method,
        path: &str,
        document: &impl Serialize,
    ) -> Result<Response, Error> {
        let mut request = self.request(method, path);
        body::write(&mut request, self.shown(), document)?;
        self.success(self.client.send(request).await?).await
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let mut url = self.client.base.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        let mut request = Request::new(method, url);
        *request.timeout_mut() = Some(ANSWER);
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        request
    }

    /// The response if it is a success, else what the server says in its first line.
    async fn success(&self, response: Response) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = body::read(self.shown(), response, body::MAX_ERROR).await?;
        // Whatever is at this address, the server itself says some things in its own form.
        if let Ok(body) = serde_json::from_slice::<ErrorBody>(&bytes) {
            return Err(Error::Answered { status, body });
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some(line) = text.lines().map(str::trim).find(|l| !l.is_empty()) else {
            return Err(Error::bare(status));
        };
        Err(Error::Answered {
            status,
            body: ErrorBody {
                error: line.to_owned(),
                reason: String::new(),
                request_id: None,
            },
        })
    }
}
