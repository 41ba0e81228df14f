//! A server that says what it was told to say, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::Response;
use serde_json::{Value, json};

/// One answer: status, headers, body.
type Answer = (u16, Vec<(&'static str, String)>, Bytes);

/// Headers that say how a call is to be made later.
const LATER: [&str; 6] = [
    "prefer",
    "x-tidegate-delay",
    "x-tidegate-max-age",
    "idempotency-key",
    "x-tidegate-order-key",
    "x-callback-url",
];

#[derive(Default)]
struct Script {
    answers: BTreeMap<String, Vec<Answer>>,
    asked: Vec<Asked>,
}

/// One request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /path?query`.
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) content_type: Option<String>,
    /// Those by which a call is made later.
    pub(crate) later: Vec<String>,
    /// Of a build context.
    pub(crate) signature: Option<String>,
    pub(crate) body: Bytes,
}

/// A scripted server on a port of its own; gone when dropped.
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    pub(crate) url: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let app = Router::new().fallback(answer).with_state(script.clone());
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    tokio::select! {
                        served = axum::serve(listener, app) => served.unwrap(),
                        _ = stopped => {}
                    }
                });
        });
        Self {
            script,
            url,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Answers `GET /path?query`, below the API's root, with this document. Several answers to one line are given in turn,
    /// the last of them again and again.
    pub(crate) fn on(self, line: &str, status: u16, document: &Value) -> Self {
        let (method, path) = line.split_once(' ').unwrap();
        self.raw(
            &format!("{method} /tidegate/v1{path}"),
            status,
            &[("content-type", "application/json")],
            &document.to_string(),
        )
    }

    /// The same, with lines of documents.
    pub(crate) fn lines(self, line: &str, documents: &[Value]) -> Self {
        let (method, path) = line.split_once(' ').unwrap();
        let body: String = documents.iter().map(|d| format!("{d}\n")).collect();
        self.raw(&format!("{method} /tidegate/v1{path}"), 200, &[], &body)
    }

    /// Answers a line, as it is, with any bytes. One that ends in `*` is for all that begin so and have no answer of their
    /// own.
    pub(crate) fn raw(
        self,
        line: &str,
        status: u16,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Self {
        let headers = headers.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let answer = (status, headers, Bytes::from(body.to_owned()));
        let mut script = self.script.lock().unwrap();
        script
            .answers
            .entry(line.to_owned())
            .or_default()
            .push(answer);
        drop(script);
        self
    }

    /// Everything that was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }

    /// The one request that begins so.
    pub(crate) fn the(&self, line: &str) -> Asked {
        let mut all = self.asked();
        all.retain(|a| a.line.starts_with(line));
        assert_eq!(all.len(), 1, "requests {line}");
        all.remove(0)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the server failed"
            );
        }
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let text = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
    let line = format!("{} {}", head.method, head.uri);
    let mut script = script.lock().unwrap();
    script.asked.push(Asked {
        line: line.clone(),
        authorization: text("authorization"),
        content_type: text("content-type"),
        later: LATER
            .into_iter()
            .filter_map(|name| Some(format!("{name}: {}", text(name)?)))
            .collect(),
        signature: text("x-build-signature"),
        body,
    });
    let begins = |known: &&String| {
        let beginning = known.strip_suffix('*');
        beginning.is_some_and(|beginning| line.starts_with(beginning))
    };
    let known = match script.answers.contains_key(&line) {
        true => line.clone(),
        false => script
            .answers
            .keys()
            .find(begins)
            .cloned()
            .unwrap_or(line.clone()),
    };
    let (status, headers, body) = match script.answers.get_mut(&known) {
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers[0].clone(),
        // Unless the test says otherwise, there is nothing to build.
        None if head.uri.path().ends_with("/build") => (200, Vec::new(), Bytes::new()),
        None => {
            let error = json!({ "error": format!("nothing at {line}"), "reason": "not-found" });
            (404, Vec::new(), Bytes::from(error.to_string()))
        }
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap()
}
