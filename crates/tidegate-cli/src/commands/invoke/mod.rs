//! `invoke`.

mod later;

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use reqwest::{Body, Response, Url};
use tidegate_core::{Name, format_duration, parse_duration};
use tidegate_document::{ErrorBody, Function};

use self::later::{Later, come_back};
use super::functions::{missing, path, url};
use crate::client::{self, ANSWER, Client, MAX_ERROR, of_stream};
use crate::context::Context;
use crate::error::{Error, Result};

/// How the platform says whose an error is.
const OUTCOME: &str = "x-tidegate-outcome";

/// How a request says which revision it is for.
const REVISION: &str = "x-tidegate-revision";

/// Where the id of the request is.
const REQUEST_ID: &str = "x-request-id";

/// Outcomes for which the function wrote the answer itself.
const ITS_OWN: [&str; 2] = ["ok", "application"];

const EXAMPLES: &str = "\
Examples:
  tidegate invoke thumbnail -d @photo.jpg > small.jpg
  tidegate invoke notes --path '/search?q=tide' -i
  tidegate invoke mail -d '{\"to\":\"a@b.org\"}' --async                 later; prints an id
  tidegate invoke mail -d @mail.json --async --idempotency-key order-17  once, however often it is asked for
  tidegate invoke report --async --wait                                  durably, and yet waiting for it";

/// Call a function and print what it answers
///
/// Fails if the status is 400 or more.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Invoke {
    /// The function
    name: Name,
    #[command(flatten)]
    call: Request,
    /// The revision to call, by its word, a tag or 'latest', whoever has the traffic
    #[arg(long, value_name = "REVISION", value_parser = revision)]
    revision: Option<HeaderValue>,
    /// Give up after this time: 30s; by default the function's own limit rules
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    #[command(flatten)]
    later: Later,
}

/// What is sent to a function.
#[derive(Args)]
pub(crate) struct Request {
    /// The body: a text, @FILE, or - for standard input
    #[arg(short, long, value_name = "DATA|@FILE|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// A header, 'Name: value'; can be given many times
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The method [default: POST with data, GET without]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<Method>,
    /// What follows the function's own address: /rest?query
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Show status and headers on standard error
    #[arg(short, long)]
    include: bool,
}

impl Invoke {
    /// The call of a function.
    pub(super) fn of(name: Name, call: Request) -> Self {
        Self {
            name,
            call,
            revision: None,
            timeout: None,
            later: Later::default(),
        }
    }

    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let (address, private) = look(&client, &context.namespace, &self.name).await?;
        let request = self.request(context, &client, &address, private)?;
        let mut response = client.call(request).await.map_err(|e| self.late(e))?;
        if self.call.include {
            show_head(context, &response);
        }
        let failed = response.status().as_u16() >= 400;
        if self.later.later && !failed {
            let later = &self.later;
            return later
                .accepted(context, &client, &self.name, &response, self.timeout)
                .await;
        }
        // What an error says is also wanted for the line on standard error, if it is short enough to be one.
        let mut copy = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if failed && copy.len() + chunk.len() <= MAX_ERROR {
                        copy.extend_from_slice(&chunk);
                    }
                    context.bytes(&chunk)?;
                }
                Ok(None) => break,
                Err(e) => {
                    return Err(self.cut(context, &client, e));
                }
            }
        }
        if failed {
            if context.process.terminal.stdout && !copy.ends_with(b"\n") && !copy.is_empty() {
                context.line("")?;
            }
            return Err(self.told(context, &response_facts(&response), &copy));
        }
        Ok(())
    }

    fn request(
        &self,
        context: &mut Context,
        client: &Client,
        address: &str,
        private: bool,
    ) -> Result<reqwest::Request> {
        let url = join(address, self.call.path.as_deref().unwrap_or(""))?;
        let method = match (&self.call.method, &self.call.data) {
            (Some(method), _) => method.clone(),
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        };
        let mut request = reqwest::Request::new(method, url);
        let headers = request.headers_mut();
        for (name, value) in &self.call.headers {
            headers.append(name, value.clone());
        }
        if let Some(revision) = &self.revision {
            headers.insert(REVISION, revision.clone());
        }
        self.later.write(headers);
        // The key is for the platform. A function that anyone may call never needs it, and so never sees it. An older
        // revision may need it although the newest does not; the platform keeps it from the code.
        if (private || self.revision.is_some())
            && !headers.contains_key(AUTHORIZATION)
            && let Some(key) = client.authorization()
        {
            headers.insert(AUTHORIZATION, key);
        }
        // With --wait it is the answer that is to come in time.
        *request.timeout_mut() = self.timeout.filter(|_| !self.later.wait);
        if let Some(data) = &self.call.data {
            let Data { body, kind, length } = body(context, data)?;
            if let (Some(length), false) = (length, self.sets(&CONTENT_LENGTH)) {
                request
                    .headers_mut()
                    .insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            if let (Some(kind), false) = (kind, self.sets(&CONTENT_TYPE)) {
                request
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            *request.body_mut() = Some(body);
        }
        Ok(request)
    }

    fn sets(&self, header: &HeaderName) -> bool {
        self.call.headers.iter().any(|(name, _)| name == header)
    }

    /// A function that takes longer than the caller wants to wait is no server that cannot be reached.
    fn late(&self, error: client::Error) -> Error {
        match (error, self.timeout) {
            (client::Error::TimedOut { .. }, Some(limit)) => Error::failed(format!(
                "{} did not answer within {}",
                self.name,
                format_duration(limit)
            )),
            (error, _) => error.into(),
        }
    }

    /// The answer broke off: the time was over, the instance died, or the connection did.
    fn cut(&self, context: &Context, client: &Client, error: reqwest::Error) -> Error {
        let name = &self.name;
        if let (true, Some(limit)) = (error.is_timeout(), self.timeout) {
            return Error::failed(format!(
                "the answer of {name} was not whole within {}",
                format_duration(limit)
            ));
        }
        let error = Error::from(client::Error::transport(client.shown(), None, error));
        let mut told = Error::failed(format!("the answer of {name} broke off"));
        told.causes = error.causes;
        told.hint(format!(
            "{} shows what it wrote last",
            context.advice(format!("logs {name} --tail 20"))
        ))
    }

    /// The error for an answer that is one.
    fn told(&self, context: &Context, facts: &Facts, body: &[u8]) -> Error {
        let name = &self.name;
        let mut message = format!("{name} answered {}", facts.status);
        if let Some(outcome) = &facts.outcome {
            message = format!("{message} ({outcome})");
        }
        let platform = facts
            .outcome
            .as_deref()
            .is_some_and(|o| !ITS_OWN.contains(&o));
        let said = serde_json::from_slice::<ErrorBody>(body).ok();
        // Where it was to be made later, nothing but the platform can have answered so.
        let platform = platform || self.later.later && said.is_some();
        if let Some(said) = said.filter(|_| platform) {
            message = format!("{message}: {}", said.error);
        }
        let error = Error::failed(message);
        if self.later.later && platform {
            // It was not accepted, so that nothing of it was run.
            return match &facts.come_back {
                Some(time) => error.hint(format!("it was not accepted; try again in {time}")),
                None => error.hint("it was not accepted, and will not be made"),
            };
        }
        match &facts.request {
            Some(id) => error.hint(format!(
                "{} shows what it wrote",
                context.advice(format!("logs {name} --request {id}"))
            )),
            None => error,
        }
    }
}

/// What of a response's head is needed after its body.
struct Facts {
    status: u16,
    outcome: Option<String>,
    request: Option<String>,
    come_back: Option<String>,
}

fn response_facts(response: &Response) -> Facts {
    let text = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    Facts {
        status: response.status().as_u16(),
        outcome: text(OUTCOME),
        request: text(REQUEST_ID),
        come_back: come_back(response.headers()),
    }
}

/// Where the function is called and whether that needs a key. Whoever may call but not look gets the plain address.
async fn look(client: &Client, namespace: &str, name: &Name) -> Result<(String, bool)> {
    let found: Result<Function, _> = client
        .get(&path(namespace, name.as_str()), &[], ANSWER)
        .await;
    match found {
        Ok(function) => {
            let private = function.spec.access.as_deref() == Some("private");
            Ok((url(client, &function), private))
        }
        Err(e) if matches!(e.status(), Some(401 | 403)) => Ok((
            client.function_url(namespace, name.as_str()),
            e.status() == Some(403),
        )),
        Err(e) => Err(missing(client, e, namespace, name.as_str()).await),
    }
}

/// The address with what follows it, which must not lead elsewhere: `..` would reach the platform's own pages.
fn join(address: &str, rest: &str) -> Result<Url> {
    let refuse = |why: &str| Error::usage(format!("--path {rest:?} {why}"));
    if !rest.is_empty() && !rest.starts_with(['/', '?']) {
        return Err(refuse("does not begin with '/' or '?'"));
    }
    let base = Url::parse(address).map_err(|_| refuse("makes no URL"))?;
    let url = Url::parse(&format!("{address}{rest}")).map_err(|_| refuse("makes no URL"))?;
    let below = url
        .path()
        .strip_prefix(base.path())
        .is_some_and(|p| p.is_empty() || p.starts_with('/'));
    if below {
        Ok(url)
    } else {
        Err(refuse("leaves the function's address"))
    }
}

/// What is sent.
struct Data {
    body: Body,
    /// Its type, where that can be told.
    kind: Option<&'static str>,
    /// Its length, where only we know: small servers seldom read a body in chunks.
    length: Option<u64>,
}

fn body(context: &mut Context, data: &str) -> Result<Data> {
    if data == "-" {
        return Ok(Data {
            body: of_stream(context.stdin()),
            kind: Some("application/octet-stream"),
            length: None,
        });
    }
    let Some(file) = data.strip_prefix('@') else {
        let json = serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok();
        let kind = if json {
            "application/json"
        } else {
            "text/plain; charset=utf-8"
        };
        return Ok(Data {
            body: data.to_owned().into(),
            kind: Some(kind),
            length: None,
        });
    };
    let opened = std::fs::File::open(file)
        .map_err(|e| Error::usage(format!("cannot read {file}")).because(&e))?;
    let kind = match Path::new(file).extension().and_then(|e| e.to_str()) {
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("csv") => "text/csv",
        Some("xml") => "application/xml",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    let length = opened
        .metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|meta| meta.len());
    Ok(Data {
        body: of_stream(opened.take(length.unwrap_or(u64::MAX))),
        kind: Some(kind),
        length,
    })
}

fn show_head(context: &mut Context, response: &Response) {
    let mut head = format!("{:?} {}", response.version(), response.status());
    for (name, value) in response.headers() {
        head.push_str(&format!(
            "\n{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    // Asked for, so shown even where everything else is to be quiet.
    let quiet = std::mem::replace(&mut context.quiet, false);
    context.note(format!("{head}\n"));
    context.quiet = quiet;
}

pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| "write it as 'Name: value'".to_owned())?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| format!("{:?} is not the name of a header", name.trim()))?;
    let value: HeaderValue = value
        .trim()
        .parse()
        .map_err(|_| "the value has characters that a header cannot have".to_owned())?;
    Ok((name, value))
}

fn revision(text: &str) -> Result<HeaderValue, String> {
    text.parse()
        .map_err(|_| "no revision or tag has such characters".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_function() {
        let at = "http://h:1/fn/x";
        for (rest, expected) in [
            ("", Some("http://h:1/fn/x")),
            ("/a/b?c=1", Some("http://h:1/fn/x/a/b?c=1")),
            ("?c=1", Some("http://h:1/fn/x?c=1")),
            ("/a/../b", Some("http://h:1/fn/x/b")),
            ("/../y", None),
            ("/%2e%2e/y", None),
            ("y", None),
        ] {
            let url = join(at, rest).ok().map(|u| u.to_string());
            assert_eq!(url.as_deref(), expected, "{rest}");
        }
    }
}
