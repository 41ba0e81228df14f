//! One thread, one listener, a task for every connection.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

/// Serves HTTP/1.1 on loopback port `port` (0 picks one) until the process is killed, on the calling thread alone. Prints
/// `listening on ADDR` once it can be called.
///
/// # Errors
///
/// When the port cannot be bound or the runtime not be built. A broken connection ends that connection only.
pub fn serve<H, F, B>(port: u16, handler: H) -> Result<()>
where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data: 'static> + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let handler = Rc::new(handler);
    LocalSet::new().block_on(&runtime, async move {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(at)
            .await
            .with_context(|| format!("cannot listen on {at}"))?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            // Small answers leave at once.
            stream.set_nodelay(true)?;
            let handler = Rc::clone(&handler);
            tokio::task::spawn_local(async move {
                let service = service_fn(|request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // A load generator drops its connections when its time is up, which is no error worth a line.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}
