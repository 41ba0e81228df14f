//! A registry that does what a test says.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate_image::Reference;

use crate::made::Made;

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) then: Then,
}

/// What follows the body that there is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    End,
    /// The connection ends before the length that was announced.
    Cut,
    /// Nothing, for ever.
    Silence,
    /// More of the same, for ever.
    More,
    /// One byte at a time, so slowly that no connection is quiet.
    Trickle,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Where a range begins.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("range");
        let from = range
            .strip_prefix("bytes=")
            .and_then(|it| it.strip_suffix('-'));
        from.map_or(0, |from| from.parse().unwrap())
    }
}

impl Reply {
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::status(200).body(body)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            then: Then::End,
        }
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// The rest of a blob, as a registry answers a range.
    pub(crate) fn rest(blob: &[u8], from: usize) -> Self {
        if from == 0 {
            return Self::ok(blob);
        }
        Self::status(206).body(&blob[from..]).header(
            "content-range",
            format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()),
        )
    }

    /// Cut after so many bytes of it.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        let whole = self.body.len().to_string();
        self.body.truncate(after);
        self.header("content-length", whole).then(Then::Cut)
    }
}

type Body = StreamBody<Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send>>>;
type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let answer: Arc<Answer> = Arc::new(answer);
        let log = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let reply = respond(&request, &*answer, &log);
                        async move { Ok::<_, Infallible>(reply) }
                    });
                    // A connection that is cut is what some tests are about.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            asked,
            server,
        }
    }

    /// One image, or several, under any name and tag: the first by tag, all by digest.
    pub(crate) async fn serving(images: &[&Made]) -> Self {
        let images: Vec<Made> = images.iter().map(|made| (*made).clone()).collect();
        Self::start(move |asked| serve(&images, asked)).await
    }

    pub(crate) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Requests whose path has this in it.
    pub(crate) fn asked_for(&self, part: &str) -> Vec<Asked> {
        let asked = self.asked().into_iter();
        asked.filter(|asked| asked.path.contains(part)).collect()
    }
}

/// As an honest registry would.
pub(crate) fn serve(images: &[Made], asked: &Asked) -> Reply {
    let last = asked.path.rsplit('/').next().unwrap();
    let found = images.iter().find_map(|made| made.find(last));
    match found {
        Some(content) if asked.path.contains("/blobs/") => Reply::rest(content, asked.from()),
        Some(content) => Reply::ok(content),
        None if asked.path.contains("/manifests/") && !last.starts_with("sha256:") => {
            Reply::ok(&images[0].manifest)
        }
        None => Reply::status(404),
    }
}

fn respond(
    request: &Request<Incoming>,
    answer: &Answer,
    log: &Mutex<Vec<Asked>>,
) -> Response<Body> {
    let asked = Asked {
        path: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    let reply = answer(&asked);
    log.lock().unwrap().push(asked);
    let mut response = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    if reply.then == Then::End {
        response = response.header("content-length", reply.body.len());
    }
    let frame = |bytes: Bytes| Ok(Frame::data(bytes));
    let body = Bytes::from(reply.body);
    let first = stream::iter([frame(body.clone())]);
    let body: Pin<Box<dyn Stream<Item = _> + Send>> = match reply.then {
        Then::End => Box::pin(first),
        // What there is leaves only when nothing more is ready.
        Then::Cut => Box::pin(first.chain(stream::once(async {
            tokio::task::yield_now().await;
            Err(io::Error::other("cut"))
        }))),
        Then::Silence => Box::pin(first.chain(stream::pending())),
        Then::More => Box::pin(stream::repeat_with(move || frame(body.clone()))),
        Then::Trickle => Box::pin(stream::unfold(body, |mut left| async move {
            if left.is_empty() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            let byte = left.split_to(1);
            Some((Ok(Frame::data(byte)), left))
        })),
    };
    response.body(StreamBody::new(body)).unwrap()
}
