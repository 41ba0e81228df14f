//! One connection.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use rustls::ServerConfig;
use tidegate_platform::Caller;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::inside::Insider;
use crate::patience::{Greeting, Unstalled};
use crate::service::{Service, serve};

/// What a connection buffers of requests and responses in HTTP/1.1: bounds a request's head, and lets an instance get rid
/// of a whole answer of this size while its caller is slow.
const BUFFER: usize = 320 * 1024;
/// Bytes of a request's head in HTTP/2.
const HTTP2_HEAD: u32 = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 256;
/// How often a silent HTTP/2 connection is asked whether it still lives.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// How connections are spoken to.
#[derive(Clone)]
pub(crate) struct Protocol {
    builder: Arc<Builder<TokioExecutor>>,
    tls: Option<TlsAcceptor>,
    header_timeout: Duration,
}

impl Protocol {
    pub(crate) fn new(tls: Option<Arc<ServerConfig>>, header_timeout: Duration) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(BUFFER)
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HTTP2_HEAD)
            .max_concurrent_streams(HTTP2_STREAMS)
            .keep_alive_interval(HTTP2_PING);
        Self {
            builder: Arc::new(builder),
            tls: tls.map(TlsAcceptor::from),
            header_timeout,
        }
    }
}

/// Serves a connection until it ends or the watcher tells it to finish.
pub(crate) async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    insider: Option<Arc<Insider>>,
    protocol: &Protocol,
    service: Arc<Service>,
    watcher: Watcher,
) {
    let stream = match prepare(stream) {
        Ok(stream) => Unstalled::new(stream),
        Err(error) => return tracing::debug!(%error, "a connection was gone before it was served"),
    };
    // What comes from inside has not left the machine.
    let tls = protocol.tls.as_ref().filter(|_| insider.is_none());
    let Some(tls) = tls else {
        return serve_stream(stream, (peer, insider), "http", protocol, service, watcher).await;
    };
    match tokio::time::timeout(protocol.header_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            serve_stream(stream, (peer, None), "https", protocol, service, watcher).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

fn prepare(stream: TcpStream) -> std::io::Result<tokio::net::TcpStream> {
    // Answers are written whole; waiting to fill a packet only adds latency.
    stream.set_nodelay(true)?;
    tokio::net::TcpStream::from_std(stream)
}

async fn serve_stream(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (peer, insider): (SocketAddr, Option<Arc<Insider>>),
    scheme: &'static str,
    protocol: &Protocol,
    service: Arc<Service>,
    watcher: Watcher,
) {
    // Made once a connection, copied by reference count into each request that wants it.
    let ip = peer.ip().to_canonical();
    let value =
        |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"));
    let caller = Caller {
        address: value(ip.to_string()),
        peer: value(SocketAddr::new(ip, peer.port()).to_string()),
        scheme,
    };
    let answer = hyper::service::service_fn(move |request| {
        serve(service.clone(), caller.clone(), insider.clone(), request)
    });
    let stream = Greeting::new(stream, protocol.header_timeout);
    let connection = protocol
        .builder
        .serve_connection_with_upgrades(TokioIo::new(stream), answer);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}
