//! A reverse proxy that decides nothing: the ceiling for anything that stands between a caller and a server.
//!
//! `bench-proxy PORT UPSTREAM`, with `UPSTREAM` as `ADDR:PORT`. One thread; idle connections to the upstream are kept in a
//! list of that thread and used again, the last one first; bodies pass through without being copied.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header::CONNECTION};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Idle connections kept; more than any load here has open at once.
const MOST_IDLE: usize = 256;

type Sender = SendRequest<Incoming>;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(port), Some(upstream)) = (words.next(), words.next()) else {
        anyhow::bail!("usage: bench-proxy PORT UPSTREAM");
    };
    let port = port
        .parse()
        .with_context(|| format!("port is {port:?}; expected a number up to 65535"))?;
    let upstream = upstream
        .parse()
        .with_context(|| format!("upstream is {upstream:?}; expected ADDR:PORT"))?;
    let pool = Rc::new(Pool {
        upstream,
        idle: RefCell::default(),
    });
    tidegate_bench::serve(port, move |request| forward(Rc::clone(&pool), request))
}

async fn forward(pool: Rc<Pool>, mut request: Request<Incoming>) -> Response<Passed> {
    if let Some(target) = request.uri().path_and_query() {
        *request.uri_mut() = Uri::from(target.clone());
    }
    request.headers_mut().remove(CONNECTION);
    match send(&pool, request).await {
        Ok((mut answer, sender)) => {
            answer.headers_mut().remove(CONNECTION);
            answer.map(|body| Passed {
                body: Some(body),
                lent: Some((pool, sender)),
            })
        }
        Err(_) => {
            let mut answer = Response::new(Passed {
                body: None,
                lent: None,
            });
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }
    }
}

async fn send(pool: &Pool, request: Request<Incoming>) -> Result<(Response<Incoming>, Sender)> {
    let mut sender = pool.take().await?;
    let answer = sender.send_request(request).await?;
    Ok((answer, sender))
}

struct Pool {
    upstream: SocketAddr,
    idle: RefCell<Vec<Sender>>,
}

impl Pool {
    async fn take(&self) -> Result<Sender> {
        loop {
            let Some(mut sender) = self.idle.borrow_mut().pop() else {
                return self.connect().await;
            };
            // Errs where the upstream closed it while it was idle.
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
    }

    async fn connect(&self) -> Result<Sender> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    fn give_back(&self, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < MOST_IDLE {
            idle.push(sender);
        }
    }
}

/// The upstream's body on its way; its connection goes back to the pool when the last byte has passed.
struct Passed {
    body: Option<Incoming>,
    lent: Option<(Rc<Pool>, Sender)>,
}

impl Passed {
    fn finished(&mut self) {
        if let Some((pool, sender)) = self.lent.take() {
            pool.give_back(sender);
        }
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if frame.is_none() {
            self.finished();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        // A body of known length is not asked again once its last byte is out; the end shows here instead.
        if self.is_end_stream() {
            self.finished();
        }
    }
}
