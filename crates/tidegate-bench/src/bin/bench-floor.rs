//! What the queue is measured beside: a file that is appended to and synced in groups.
//!
//! ```text
//! bench-floor serve  --file FILE
//! bench-floor append --file FILE --senders N --seconds N
//! ```
//!
//! `serve` answers each request 202 when its body is in the file, on disk: the queue's promise without the queue. `append`
//! has no HTTP either: senders with 1 KiB each, one after the other; it prints one JSON object.

#![forbid(unsafe_code)]
// What it prints is its result.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tidegate_bench::{Appender, percentile, serve};
use tokio::task::{JoinSet, LocalSet};

/// What a sender sends.
const BODY: usize = 1024;
/// Largest body that is served; the bench sends [`BODY`].
const LONGEST_BODY: usize = 64 * 1024;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1))
            .with_context(|| format!("{name} is missing"))
    };
    let appender = Appender::open(Path::new(value("--file")?))?;
    match words.first().map(String::as_str) {
        Some("serve") => serve(0, move |request| {
            let appender = appender.clone();
            async move {
                let mut answer = Response::new(Empty::<Bytes>::new());
                *answer.status_mut() = match take(request, &appender).await {
                    Ok(()) => StatusCode::ACCEPTED,
                    Err(_) => StatusCode::SERVICE_UNAVAILABLE,
                };
                answer
            }
        }),
        Some("append") => {
            let senders = value("--senders")?.parse().context("--senders")?;
            let seconds = value("--seconds")?.parse().context("--seconds")?;
            append(&appender, senders, Duration::from_secs(seconds))
        }
        _ => bail!("expected serve or append"),
    }
}

async fn take(request: Request<Incoming>, appender: &Appender) -> Result<()> {
    let body = Limited::new(request.into_body(), LONGEST_BODY);
    let body = body.collect().await.map_err(|e| anyhow::anyhow!(e))?;
    appender.append(body.to_bytes()).await
}

fn append(appender: &Appender, senders: usize, length: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut took = LocalSet::new().block_on(&runtime, async {
        let body = Bytes::from(vec![b'x'; BODY]);
        let end = Instant::now() + length;
        let mut tasks = JoinSet::new();
        for _ in 0..senders {
            let (appender, body) = (appender.clone(), body.clone());
            tasks.spawn_local(async move {
                let mut took = Vec::new();
                while Instant::now() < end {
                    let began = Instant::now();
                    appender.append(body.clone()).await?;
                    took.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
                anyhow::Ok(took)
            });
        }
        let mut all = Vec::new();
        for took in tasks.join_all().await {
            all.append(&mut took?);
        }
        anyhow::Ok(all)
    })?;
    took.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "a count of appends")]
    let per_second = took.len() as f64 / length.as_secs_f64();
    let at = |part| percentile(&took, part);
    println!(
        "{}",
        json!({"requests": took.len(), "per_second": per_second, "p50_us": at(0.5), "p99_us": at(0.99)})
    );
    Ok(())
}
