//! Registers functions and times first calls.
//!
//! ```text
//! bench-client register --url URL --token-file FILE --path /…/{name} --template NAME --prefix P --count N
//! bench-client cold     --url URL --prefix P --count N [--at-once | --one-function | --pause MILLISECONDS]
//! ```
//!
//! `register` reads the document of a function that is there and puts it back under other names, over one connection, then
//! waits until each can be called.
//! `cold` calls `P-0` … `P-(N-1)`, each for the first time: one after another, all at once over as many connections, or, with
//! `--one-function`, all at once and all `P-0`; with `--pause`, one after another and so long between. A call's time is from its first byte sent to its answer's last byte read; the
//! connection is open before. Both print one JSON object.

#![forbid(unsafe_code)]
// What it prints is its result.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

/// Longest time for one call; a cold start that takes longer has failed.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Longest time for a function that is registered to be taken up; within the time for a call.
const SETTLE_SECONDS: u32 = 20;
/// Longest answer read; documents and greetings are far below.
const LONGEST_ANSWER: usize = 1 << 20;
/// How much of a wrong answer is shown.
const EXCERPT: usize = 300;

fn main() -> Result<()> {
    let args = Args::parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let told = LocalSet::new().block_on(&runtime, async {
        match args.chore.as_str() {
            "register" => register(&args).await,
            "cold" => cold(&args).await,
            other => bail!("no chore {other:?}; there are register and cold"),
        }
    })?;
    println!("{told}");
    Ok(())
}

/// The command line: a chore, then `--name value` pairs and flags.
struct Args {
    chore: String,
    words: Vec<String>,
}

impl Args {
    fn parse() -> Result<Self> {
        let mut words = std::env::args().skip(1);
        Ok(Self {
            chore: words
                .next()
                .context("no chore; expected register or cold")?,
            words: words.collect(),
        })
    }

    fn value(&self, name: &str) -> Result<&str> {
        let at = self.words.iter().position(|word| word == name);
        at.and_then(|at| self.words.get(at + 1))
            .map(String::as_str)
            .with_context(|| format!("{name} is missing"))
    }

    fn flag(&self, name: &str) -> bool {
        self.words.iter().any(|word| word == name)
    }

    /// How long to wait before each call; no time where it is not said.
    fn pause(&self) -> Result<Duration> {
        if !self.flag("--pause") {
            return Ok(Duration::ZERO);
        }
        let text = self.value("--pause")?;
        let millis = text
            .parse()
            .with_context(|| format!("pause is {text:?}; expected milliseconds"))?;
        Ok(Duration::from_millis(millis))
    }

    fn count(&self) -> Result<usize> {
        let text = self.value("--count")?;
        text.parse()
            .with_context(|| format!("count is {text:?}; expected a number"))
    }
}

// === Registering

async fn register(args: &Args) -> Result<Value> {
    let token_file = args.value("--token-file")?;
    let token =
        std::fs::read_to_string(token_file).with_context(|| format!("cannot read {token_file}"))?;
    let token = format!("Bearer {}", token.trim());
    let (path, prefix, count) = (
        args.value("--path")?,
        args.value("--prefix")?,
        args.count()?,
    );
    let mut connection = Connection::open(args.value("--url")?).await?;

    let template = path.replace("{name}", args.value("--template")?);
    let (status, body) = connection
        .call(Method::GET, &template, &token, Bytes::new())
        .await?;
    if status != StatusCode::OK {
        bail!("GET {template} answered {status}: {}", excerpt(&body));
    }
    let mut document: Value = serde_json::from_slice(&body).context("the document is not JSON")?;
    prepare(&mut document)?;

    let began = Instant::now();
    for number in 0..count {
        let name = format!("{prefix}-{number}");
        let target = path.replace("{name}", &name);
        document["metadata"]["name"] = Value::String(name);
        let (status, body) = connection
            .call(
                Method::PUT,
                &target,
                &token,
                Bytes::from(document.to_string()),
            )
            .await?;
        if !status.is_success() {
            bail!("PUT {target} answered {status}: {}", excerpt(&body));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    // Written is not yet taken up: a call of one that is not would measure the platform's bookkeeping.
    for number in 0..count {
        let name = format!("{prefix}-{number}");
        let target = format!("{}?wait={SETTLE_SECONDS}", path.replace("{name}", &name));
        let (status, body) = connection
            .call(Method::GET, &target, &token, Bytes::new())
            .await?;
        if status != StatusCode::OK {
            bail!("GET {target} answered {status}: {}", excerpt(&body));
        }
    }
    Ok(json!({"registered": count, "seconds": seconds}))
}

/// Leaves of a stored document what its author wrote: what the server added belongs to the one it was read from.
fn prepare(document: &mut Value) -> Result<()> {
    let object = document
        .as_object_mut()
        .context("the document is not an object")?;
    object.remove("status");
    object
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .context("the document has no metadata")?
        .retain(|key, _| {
            matches!(
                key.as_str(),
                "name" | "namespace" | "labels" | "annotations"
            )
        });
    Ok(())
}

// === First calls

async fn cold(args: &Args) -> Result<Value> {
    let (url, prefix, count) = (args.value("--url")?, args.value("--prefix")?, args.count()?);
    let one = args.flag("--one-function");
    let targets =
        (0..count).map(|number| format!("/fn/{prefix}-{}/", if one { 0 } else { number }));
    let times = if one || args.flag("--at-once") {
        at_once(url, targets).await?
    } else {
        let pause = args.pause()?;
        let mut connection = Connection::open(url).await?;
        let mut times = Vec::with_capacity(count);
        for target in targets {
            tokio::time::sleep(pause).await;
            times.push(first_call(&mut connection, &target).await);
            if !connection.usable().await {
                connection = Connection::open(url).await?;
            }
        }
        times
    };
    Ok(summary(times))
}

async fn at_once(
    url: &str,
    targets: impl Iterator<Item = String>,
) -> Result<Vec<Result<Duration>>> {
    let mut ready = Vec::new();
    for target in targets {
        ready.push((Connection::open(url).await?, target));
    }
    let mut calls = JoinSet::new();
    for (mut connection, target) in ready {
        calls.spawn_local(async move { first_call(&mut connection, &target).await });
    }
    Ok(calls.join_all().await)
}

async fn first_call(connection: &mut Connection, target: &str) -> Result<Duration> {
    let began = Instant::now();
    let (status, body) = connection
        .call(Method::GET, target, "", Bytes::new())
        .await?;
    let took = began.elapsed();
    if status != StatusCode::OK {
        bail!("GET {target} answered {status}: {}", excerpt(&body));
    }
    Ok(took)
}

fn summary(times: Vec<Result<Duration>>) -> Value {
    let count = times.len();
    let mut first_failure = None;
    let mut micros = Vec::new();
    for time in times {
        match time {
            Ok(time) => micros.push(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            Err(error) if first_failure.is_none() => first_failure = Some(format!("{error:#}")),
            Err(_) => {}
        }
    }
    micros.sort_unstable();
    let at = |part| tidegate_bench::percentile(&micros, part);
    json!({
        "calls": count,
        "failures": count - micros.len(),
        "first_failure": first_failure,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "max_us": at(1.0),
    })
}

// === A connection

struct Connection {
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    async fn open(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("url is {url:?}"))?;
        let host = uri
            .authority()
            .with_context(|| format!("url is {url:?}; expected http://ADDR:PORT"))?
            .to_string();
        let stream = TcpStream::connect(&host)
            .await
            .with_context(|| format!("cannot connect to {host}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(Self { host, sender })
    }

    /// Whether another call can be made on it.
    async fn usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    async fn call(
        &mut self,
        method: Method,
        target: &str,
        token: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, &self.host);
        if !token.is_empty() {
            request = request
                .header(header::AUTHORIZATION, token)
                .header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body))?;
        let call = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER)
                .collect()
                .await
                .map_err(|error| anyhow::anyhow!(error))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(CALL_LIMIT, call)
            .await
            .with_context(|| format!("{target} did not answer within {} s", CALL_LIMIT.as_secs()))?
            .with_context(|| format!("{target} broke off"))
    }
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{prepare, summary};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_document_keeps_what_its_author_wrote() {
        let mut document = json!({
            "metadata": {"name": "a", "labels": {"x": "y"}, "uid": "1", "resourceVersion": "7", "generation": 2},
            "spec": {"runtime": "python"},
            "status": {"ready": true},
        });
        prepare(&mut document).unwrap();
        assert_eq!(
            document,
            json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"runtime": "python"}})
        );
        assert!(prepare(&mut json!([])).is_err());
        assert!(prepare(&mut json!({})).is_err());
    }

    #[test]
    fn failures_are_counted_beside_the_times() {
        let told = summary(vec![
            Ok(Duration::from_micros(30)),
            Err(anyhow::anyhow!("503")),
            Ok(Duration::from_micros(10)),
        ]);
        assert_eq!(told["failures"], 1);
        assert_eq!(told["first_failure"], "503");
        assert_eq!((&told["p50_us"], &told["max_us"]), (&json!(10), &json!(30)));
    }
}
