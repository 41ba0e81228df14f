//! A small listener beside the main one: pages that tools fetch at a port of their own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tidegate_dialect_openfaas::{METRICS_TYPE, OpenFaas};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::settings::SideListener;
use crate::{Error, guard};

/// Connections at once: a few scrapers.
const CONNECTIONS: usize = 64;

/// Longest life of a connection: a scrape is one short request, and the scraper comes back with another.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a side listener. A default address that is in use turns it off, with a warning: another server has it.
pub(crate) async fn bind(
    what: &str,
    settings: Option<SideListener>,
) -> Result<Option<TcpListener>, Error> {
    let Some(SideListener { address, explicit }) = settings else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if !explicit && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                %address,
                "{what} are not served: the address is in use; '--listen openfaas-metrics=ADDR' chooses another"
            );
            Ok(None)
        }
        Err(source) => Err(Error::Listen {
            address,
            source,
            hint: "; 'off' turns this listener off",
        }),
    }
}

/// Serves OpenFaaS's metrics until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    openfaas: OpenFaas,
    hosts: Arc<[String]>,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout);
    let builder = Arc::new(builder);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&listener, &room) => accepted,
        };
        let Ok((stream, permit)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (builder, openfaas) = (builder.clone(), openfaas.clone());
        let (hosts, stop) = (hosts.clone(), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&openfaas, &hosts, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // One that breaks concerns nobody else.
                _ = connection => {}
                () = stop.cancelled() => {}
                () = tokio::time::sleep(CONNECTION_TIME) => {}
            }
        });
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let (stream, _peer) = listener.accept().await?;
    Ok((stream, permit))
}

fn answer<B>(openfaas: &OpenFaas, hosts: &[String], request: &Request<B>) -> Response<Full<Bytes>> {
    let answer = |status: StatusCode, kind: &'static str, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    };
    const TEXT: &str = "text/plain; charset=utf-8";
    if let Err(refused) = guard::check(request.uri(), request.headers(), hosts) {
        return answer(refused.status, TEXT, format!("{}\n", refused.body.error));
    }
    match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET) => answer(StatusCode::OK, METRICS_TYPE, openfaas.metrics_page()),
        ("/healthz", &Method::GET) => answer(StatusCode::OK, TEXT, "OK".to_owned()),
        ("/metrics" | "/healthz", _) => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new()),
        _ => answer(
            StatusCode::NOT_FOUND,
            TEXT,
            "404 page not found\n".to_owned(),
        ),
    }
}

/// The address, once it is known.
pub(crate) fn address(listener: &TcpListener) -> Option<SocketAddr> {
    listener.local_addr().ok()
}
