//! `invoke --async`.

use std::time::Duration;

use clap::Args;
use http::header::{HeaderMap, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use reqwest::{Response, Url};
use tidegate_core::{Name, format_duration};
use tidegate_document::queue::headers as names;

use super::super::queue::{result, time};
use super::REQUEST_ID;
use crate::client::Client;
use crate::context::Context;
use crate::error::{Error, Result};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What is preferred.
const LATER: &str = "respond-async";

/// How an answer says that it did as was preferred. A function may answer 202 by itself.
const APPLIED: &str = "preference-applied";

/// How a call that is to be made later is asked for.
#[derive(Args, Default)]
#[command(next_help_heading = "Calls to be made later")]
pub(super) struct Later {
    /// Have the call made later: prints its id once it is on disk; it is made whatever happens then
    #[arg(long = "async")]
    pub(super) later: bool,
    /// Not before this time has passed: 10m
    #[arg(long, value_name = "TIME", value_parser = time, requires = "later")]
    delay: Option<Duration>,
    /// Give it up when it has become so old: 1h; by default the function's own limit, or 6h
    #[arg(long, value_name = "TIME", value_parser = time, requires = "later")]
    max_age: Option<Duration>,
    /// A word for this call: asked for again with the same word, it is not made again
    #[arg(long, value_name = "WORD", value_parser = word, requires = "later")]
    idempotency_key: Option<HeaderValue>,
    /// Calls with the same word are made one at a time, in the order in which they were accepted
    #[arg(long, value_name = "WORD", value_parser = word, requires = "later")]
    order_key: Option<HeaderValue>,
    /// Have the answer sent there by POST
    #[arg(long, value_name = "URL", value_parser = address, requires = "later")]
    callback: Option<HeaderValue>,
    /// Wait for the answer and print it
    #[arg(long, requires = "later")]
    pub(super) wait: bool,
}

impl Later {
    /// Adds what says all that to a request.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if !self.later {
            return;
        }
        headers.append(PREFER, HeaderValue::from_static(LATER));
        let duration = |d: &Option<Duration>| {
            let text = format_duration((*d)?);
            HeaderValue::try_from(text).ok()
        };
        for (name, value) in [
            (names::DELAY, duration(&self.delay)),
            (names::MAX_AGE, duration(&self.max_age)),
            (names::IDEMPOTENCY_KEY, self.idempotency_key.clone()),
            (names::ORDER_KEY, self.order_key.clone()),
            (names::CALLBACK, self.callback.clone()),
        ] {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// What follows from an answer that is no error.
    pub(super) async fn accepted(
        &self,
        context: &mut Context,
        client: &Client,
        name: &Name,
        response: &Response,
        timeout: Option<Duration>,
    ) -> Result {
        let text = |header: &str| response.headers().get(header)?.to_str().ok();
        let id = text(REQUEST_ID).unwrap_or_default().to_owned();
        let applied = text(APPLIED).is_some_and(|p| p.contains(LATER));
        if response.status() != StatusCode::ACCEPTED || !applied || id.is_empty() {
            return Err(Error::failed(format!(
                "{name} was called at once and answered {}: this server makes no calls later",
                response.status().as_u16()
            )));
        }
        let again = text(names::DUPLICATE) == Some("true");
        if self.wait {
            context.note(format!(
                "accepted{} {id}",
                if again { " before:" } else { "" }
            ));
            return result(context, client, &id, Some(timeout)).await;
        }
        context.line(&id)?;
        context.note(format!(
            "{}; 'tidegate queue result {id} --wait' has its answer",
            if again {
                "it was accepted before, with the same idempotency key"
            } else {
                "accepted"
            }
        ));
        Ok(())
    }
}

/// When to come back, as a refusal says it.
pub(super) fn come_back(response: &HeaderMap) -> Option<String> {
    let seconds: u64 = response.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(format_duration(Duration::from_secs(seconds)))
}

fn word(text: &str) -> Result<HeaderValue, String> {
    match text.parse() {
        Ok(word) if !text.is_empty() => Ok(word),
        _ => Err("write a word of visible ASCII characters, such as order-4711".to_owned()),
    }
}

fn address(text: &str) -> Result<HeaderValue, String> {
    let why = || "write an address such as https://example.org/done".to_owned();
    let url = Url::parse(text).map_err(|_| why())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(why());
    }
    url.as_str().parse().map_err(|_| why())
}
