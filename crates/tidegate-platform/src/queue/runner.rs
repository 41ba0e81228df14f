//! Attempts at what is queued: each is a call like any other, with a record of its own.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use tidegate_contract::{BodyFault, Prefix};
use tidegate_core::queue::{Ended, Verdict};
use tidegate_core::record::{Cause, CauseKind};
use tidegate_core::{Access, FunctionKey, Limit, Outcome};
use tidegate_engine::{CallContext, Chosen, Failure, Function, ReplyBody};
use tidegate_queue::{
    Allowance, Answer, Attempt, Body as Kept, Courier, Destination, Listener, MAX_INLINE_BYTES,
    Payload, Ran, Rate, Runner, Submission, Target, Told, Work, plain,
};
use tokio::time::Instant;

use super::QueueDoor;
use super::accept::{Named, millis};
use super::marks::{DOOR_HEADERS, Marks};
use crate::platform::WeakPlatform;
use crate::{Body, Platform};

/// Of one function at once, where it does not say: enough to keep a machine's processors busy with one function, few
/// enough that they are let go when callers who wait for an answer come.
const AT_ONCE: u32 = 32;

/// The outcome of an answer that is not the code's.
const OUTCOME: HeaderName = HeaderName::from_static("x-tidegate-outcome");

/// An answer that was cut has this header, with the bytes that were kept of it.
const CUT: &str = "x-tidegate-cut";

/// Headers by which code is told who calls and why; only the platform says so.
pub const WHO_CALLS: [&str; 2] = ["tidegate-caller", "tidegate-cause"];

/// The header by which code is told which attempt at a call that is made later this is, counted from 1.
pub const ATTEMPT: &str = "tidegate-attempt";

/// Functions that may call one another, or be told of one another's ends, one the next, until it is taken for a circle.
/// Real chains have a handful.
pub const MAX_DEPTH: u32 = 32;

/// Runs what is queued on a platform.
pub(crate) struct PlatformRunner {
    platform: WeakPlatform,
    courier: Option<Courier>,
    doors: Vec<Arc<dyn QueueDoor>>,
}

impl PlatformRunner {
    pub(crate) fn new(
        platform: WeakPlatform,
        courier: Option<Courier>,
        doors: Vec<Arc<dyn QueueDoor>>,
    ) -> Self {
        Self {
            platform,
            courier,
            doors,
        }
    }

    fn door(&self, word: &str) -> Option<&Arc<dyn QueueDoor>> {
        self.doors.iter().find(|door| door.word() == word)
    }
}

#[async_trait]
impl Runner for PlatformRunner {
    async fn run(&self, work: &Work, attempt: Attempt) -> Ran {
        let Some(platform) = self.platform.upgrade() else {
            return released();
        };
        let began = std::time::Instant::now();
        let submission = &work.submission;
        let path = &submission.request.path_and_query;
        let ran = platform
            .attempt(work, &submission.function, path, attempt)
            .await;
        if let Verdict::Ended(ended) = &ran.verdict
            && let Some(door) = self.door(&submission.door)
        {
            door.ended(&submission.function, began, ended, ran.answer.as_ref());
        }
        ran
    }

    async fn deliver(&self, work: &Work, url: &str, attempt: Attempt) -> Ran {
        let inside = self.doors.iter().find_map(|door| door.inside(url));
        if let Some((function, path)) = inside {
            let Some(platform) = self.platform.upgrade() else {
                return released();
            };
            // Whoever names an address may not call what is private; a destination that is named as a function may be.
            if platform.is_private(&function) {
                return Ran::refused(private(&function));
            }
            return platform.attempt(work, &function, &path, attempt).await;
        }
        match (&self.courier, self.platform.upgrade()) {
            (Some(courier), Some(platform)) => {
                let deliver = async |work: Work| courier.deliver(&work, url, attempt).await;
                platform.witness_told(work, url, attempt, deliver).await
            }
            (Some(_), None) => released(),
            (None, _) => Ran::refused("this server tells nobody of ends: see queue.callbacks"),
        }
    }

    fn lane(&self, function: &FunctionKey) -> Allowance {
        let platform = self.platform.upgrade();
        platform.map_or(NOTHING, |platform| platform.allowance(function))
    }

    fn address(&self, item: Submission) -> Submission {
        match self.platform.upgrade() {
            Some(platform) => platform.under_its_rules(item),
            None => item,
        }
    }

    fn tell(&self, work: &Work, told: &Told<'_>, to: Listener<'_>) -> Option<Payload> {
        let door = self.door(&work.submission.door);
        Some(match (door, to) {
            (Some(door), Listener::Callback(_)) => door.callback(work, told),
            _ => plain(work, told, to),
        })
    }
}

const NOTHING: Allowance = Allowance {
    concurrency: 0,
    rate: None,
};

impl Platform {
    async fn attempt(&self, work: &Work, key: &FunctionKey, path: &str, attempt: Attempt) -> Ran {
        let Some(function) = self.function(key.borrowed()) else {
            return match self.owner_of(key.borrowed()).await {
                Ok(None) => Ran::refused(format!("function {key} does not exist")),
                Ok(Some(_)) => setback(format!("no revision of function {key} is ready")),
                Err(error) => setback(error.to_string()),
            };
        };
        let submission = &work.submission;
        if submission.depth > MAX_DEPTH {
            return Ran::refused(format!(
                "{MAX_DEPTH} functions have called one another until {key}: it is taken for a circle"
            ));
        }
        let marks = Marks::read(&submission.request.headers);
        if marks.told && self.is_private(key) {
            return Ran::refused(private(key));
        }
        let request = match self.request(work, path, attempt).await {
            Ok(request) => request,
            Err(ran) => return *ran,
        };
        let context = CallContext {
            id: crate::new_id(),
            prefix: Prefix::default(),
            caller: marks.caller,
            received: Instant::now(),
            depth: submission.depth,
            cause: Cause {
                // One that nobody called for is told by what did.
                kind: match submission.cause.kind {
                    CauseKind::Call | CauseKind::Function => CauseKind::Queue,
                    other => other,
                },
                parent: Some(submission.id),
                name: submission.cause.name.clone(),
                attempt: attempt.number,
            },
            trace: submission.trace,
        };
        let called = match &marks.revision {
            None => self.call(&function, request, context).await,
            Some(named) => match self.chosen(&function, named).await {
                Ok(chosen) => self.call_chosen(&function, chosen, request, context).await,
                Err(ran) => return *ran,
            },
        };
        let ran = match called {
            Ok(response) => answered(response).await,
            Err(failure) => failed(&failure),
        };
        // Once the server ends, what the code needs of it may be gone: such a failure says nothing of the code.
        let is_fine = matches!(&ran.verdict, Verdict::Ended(ended) if ended.outcome == Outcome::Ok);
        if self.queue_is_draining() && !is_fine {
            return released();
        }
        match &self.rules().of(key).codes {
            Some(codes) => by_code(ran, codes),
            None => ran,
        }
    }

    /// The revision that goes by a name now.
    async fn chosen(&self, function: &Arc<Function>, named: &Named) -> Result<Chosen, Box<Ran>> {
        let key = function.key();
        let word = &named.word;
        match self.choose(function, word).await {
            Ok(chosen) if chosen.access() == Access::Private && !named.may_be_private => {
                Err(Box::new(Ran::refused(format!(
                    "revision {word:?} of function {key} is private now"
                ))))
            }
            Ok(chosen) => Ok(chosen),
            // With nobody there at all, they could not be looked through.
            Err(unknown) if unknown.there.is_empty() => Err(Box::new(setback(format!(
                "the revisions of function {key} cannot be read"
            )))),
            Err(unknown) => Err(Box::new(Ran::refused(format!(
                "function {key} has no revision or tag {word:?} any more; there are {}",
                unknown.there.join(", ")
            )))),
        }
    }

    /// The request, as it was made.
    async fn request(
        &self,
        work: &Work,
        path: &str,
        attempt: Attempt,
    ) -> Result<Request<Body>, Box<Ran>> {
        let kept = &work.submission.request;
        let unusable = |what: &str| {
            Box::new(Ran::refused(format!(
                "{what} of the request cannot be sent"
            )))
        };
        let body = match &kept.body {
            Kept::Inline(bytes) => Body::full(bytes.clone()),
            Kept::Spooled(spooled) => {
                let Some(queued) = self.in_queue() else {
                    return Err(Box::new(released()));
                };
                let bytes = queued.queue.spooled(spooled).await;
                let bytes = bytes.map_err(|error| {
                    Box::new(setback(format!("the request body cannot be read: {error}")))
                })?;
                let frames = bytes.map_ok(Frame::data).map_err(|error| {
                    tracing::error!(%error, "a request body that was kept cannot be read");
                    BodyFault::Lost
                });
                Body::kept(UnsyncBoxBody::new(StreamBody::new(frames)), spooled.bytes)
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() =
            Method::try_from(kept.method.as_str()).map_err(|_| unusable("the method"))?;
        *request.uri_mut() = Uri::try_from(path).map_err(|_| unusable("the path"))?;
        let headers = request.headers_mut();
        // What an answer says of who calls is not to be believed.
        let is_told =
            matches!(work.submission.target, Target::Url(_)) || Marks::read(&kept.headers).told;
        for (name, value) in &kept.headers {
            if name.starts_with(DOOR_HEADERS) || is_told && WHO_CALLS.contains(&name.as_str()) {
                continue;
            }
            if let (Ok(name), Ok(value)) = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::from_bytes(value),
            ) {
                headers.append(name, value);
            }
        }
        headers.insert(
            HeaderName::from_static(ATTEMPT),
            HeaderValue::from(attempt.number),
        );
        Ok(request)
    }

    fn allowance(&self, function: &FunctionKey) -> Allowance {
        let rules = self.rules().of(function);
        let found = self.function(function.borrowed());
        let members = found.map(|f| self.members(&f)).unwrap_or_default();
        let room = members.iter().map(|member| {
            let scale = &member.revision.spec.scale;
            scale.max.saturating_mul(scale.concurrency)
        });
        // Where no revision is ready one is tried now and then.
        let room = room.max().unwrap_or(1).clamp(1, AT_ONCE);
        Allowance {
            concurrency: rules.concurrency.unwrap_or(room),
            rate: rules.rate.map(|per_second| Rate {
                per_second,
                burst: std::num::NonZeroU32::new(per_second.ceil() as u32)
                    .unwrap_or(std::num::NonZeroU32::MIN),
            }),
        }
    }

    /// Checks what a function's document says of its queue against what there is.
    ///
    /// # Errors
    /// A destination may not be reached, or is a function that does not exist; the field and why, for people.
    pub async fn check_queue_rules(
        &self,
        rules: &super::QueueRules,
    ) -> Result<(), (&'static str, String)> {
        for (field, to) in [
            ("onSuccess", &rules.on_success),
            ("onFailure", &rules.on_failure),
        ] {
            match to {
                None => {}
                Some(Destination::Url(url)) => {
                    self.check_callback(url).map_err(|why| (field, why))?;
                }
                Some(Destination::Function(key)) => match self.owner_of(key.borrowed()).await {
                    Ok(None) => {
                        return Err((
                            field,
                            format!("function {key} does not exist; deploy it first"),
                        ));
                    }
                    Ok(Some(_)) => {}
                    Err(error) => return Err((field, error.to_string())),
                },
            }
        }
        Ok(())
    }

    /// The function that an address means, as code inside would call it, and the path below it.
    pub(super) fn inside(&self, url: &str) -> Option<(FunctionKey, String)> {
        let doors = &self.in_queue()?.doors;
        doors.iter().find_map(|door| door.inside(url))
    }

    /// Whether a function is known to be private.
    pub(super) fn is_private(&self, key: &FunctionKey) -> bool {
        let function = self.function(key.borrowed());
        function.and_then(|function| self.access(&function)) == Some(Access::Private)
    }
}

/// Reads the answer to its end, and keeps the beginning.
async fn answered(response: Response<ReplyBody>) -> Ran {
    let (head, mut body) = response.into_parts();
    let status = head.status;
    let mut outcome = match head.extensions.get::<Outcome>() {
        Some(outcome) => *outcome,
        None if head.headers.get(OUTCOME).is_some_and(|o| o == "function") => Outcome::Function,
        None if status.is_client_error() || status.is_server_error() => Outcome::Application,
        None => Outcome::Ok,
    };
    let (mut kept, mut whole) = (BytesMut::new(), true);
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                let room = MAX_INLINE_BYTES - kept.len();
                whole &= data.len() <= room;
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
            // Trailers are not kept.
            Ok(Err(_)) => {}
            Err(fault) => {
                outcome = of_fault(fault);
                broken = Some(fault.to_string());
                break;
            }
        }
    }
    let mut headers: Vec<(String, Vec<u8>)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    if !whole {
        // Its length would be another's.
        headers.retain(|(name, _)| name != "content-length");
        headers.push((CUT.to_owned(), kept.len().to_string().into()));
    }
    let retry_after = head.headers.get(RETRY_AFTER);
    let ended = Ended {
        outcome,
        // What broke off is no answer, whatever it began with.
        status: broken.is_none().then_some(status.as_u16()),
        retry_after_ms: retry_after.and_then(retry_after_ms),
    };
    let message = match (broken, outcome) {
        (Some(message), _) => Some(message),
        (None, Outcome::Ok) => None,
        (None, _) => Some(format!("it answered {status}{}", said(&kept))),
    };
    let answer = Answer {
        status: status.as_u16(),
        headers,
        body: kept.freeze(),
    };
    Ran {
        message,
        ..Ran::ended(ended, Some(answer))
    }
}

/// The first line of an answer that is an error, where it is text.
fn said(body: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(MOST)]);
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() && !line.contains('\u{fffd}') => format!(": {line}"),
        _ => String::new(),
    }
}

fn failed(failure: &Failure) -> Ran {
    let ended = Ended {
        outcome: failure.outcome,
        status: None,
        retry_after_ms: failure.retry_after.map(millis),
    };
    Ran::ended(ended, None).because(failure.message.clone())
}

/// Why nothing is told to a function.
pub(super) fn private(function: &FunctionKey) -> String {
    format!(
        "function {function} is private: only 'onSuccess' and 'onFailure' may name it, as {}.{}",
        function.name, function.namespace
    )
}

/// Whether an answer is a failure is for its status to say.
fn by_code(ran: Ran, codes: &[u16]) -> Ran {
    let Verdict::Ended(ended) = ran.verdict else {
        return ran;
    };
    let Some(status) = ended.status else {
        return ran;
    };
    let outcome = if codes.contains(&status) {
        Outcome::Function
    } else {
        Outcome::Ok
    };
    Ran {
        verdict: Verdict::Ended(Ended { outcome, ..ended }),
        ..ran
    }
}

pub(crate) fn of_fault(fault: BodyFault) -> Outcome {
    match fault {
        BodyFault::InstanceGone => Outcome::Function,
        BodyFault::Deadline => Outcome::Limit(Limit::Timeout),
        BodyFault::Idle(_) => Outcome::Limit(Limit::Idle),
        BodyFault::TooLarge { .. } => Outcome::Limit(Limit::Body),
        _ => Outcome::Platform,
    }
}

/// In milliseconds: a number of seconds, or a date.
fn retry_after_ms(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = then.duration_since(jiff::Timestamp::now());
    u64::try_from(left.as_millis()).ok()
}

fn released() -> Ran {
    Ran {
        verdict: Verdict::Release,
        message: None,
        answer: None,
    }
}

/// Nobody's failure but ours: it is tried again until it is too old.
fn setback(message: String) -> Ran {
    let ended = Ended {
        outcome: Outcome::Platform,
        status: None,
        retry_after_ms: None,
    };
    Ran::ended(ended, None).because(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: Option<u16>, outcome: Outcome) -> Ran {
        let ended = Ended {
            outcome,
            status,
            retry_after_ms: None,
        };
        Ran::ended(ended, None)
    }

    #[test]
    fn a_list_of_codes_says_what_a_failure_is() {
        let codes = [429, 503];
        let told = |status, outcome| match by_code(ended(status, outcome), &codes).verdict {
            Verdict::Ended(ended) => ended.outcome,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(Some(503), Outcome::Application), Outcome::Function);
        assert_eq!(told(Some(500), Outcome::Application), Outcome::Ok);
        let timeout = Outcome::Limit(Limit::Timeout);
        assert_eq!(told(None, timeout), timeout);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text| retry_after_ms(&HeaderValue::from_static(text));
        assert_eq!(read("7"), Some(7000));
        assert_eq!(read("soon"), None);
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        let date = read("Tue, 31 Dec 2199 23:59:59 GMT");
        assert!(date.is_some_and(|ms| ms > 1_000_000_000_000), "{date:?}");
    }

    #[test]
    fn a_line_of_an_error_is_told() {
        assert_eq!(said(b"no such row\nmore"), ": no such row");
        assert_eq!(said(b""), "");
        assert_eq!(said(&[0xff, 0xfe]), "");
    }
}
