//! Calls: `/function/NAME[.NAMESPACE]/rest…`, and where those go that are made later.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tidegate_core::{Access, FunctionRef, InvocationId, Limit, Outcome};
use tidegate_platform::{
    Body, BodyFault, CallBody, CallContext, Caller, Failure, Function, Led, Prefix,
    canonical_namespace, new_id,
};
use tokio::time::Instant;

use crate::OpenFaas;
use crate::metrics::{FunctionCounters, NAMESPACE};

pub(crate) const CALL_PREFIX: &str = "/function/";
pub(crate) const ASYNC_PREFIX: &str = "/async-function/";

pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
pub(crate) const START_TIME: HeaderName = HeaderName::from_static("x-start-time");
pub(crate) const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Marks an error that is the platform's, which a queue's worker may try again.
const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");

/// How long a call waits for the first version of its function: what OpenFaaS gives a replica to come up.
const FIRST_VERSION: Duration = Duration::from_secs(100);

/// Whose errors they are.
const PROXY: HeaderValue = HeaderValue::from_static("proxy");
const MIDDLEWARE: HeaderValue = HeaderValue::from_static("faas-middleware");

pub(crate) const SERVER: HeaderValue =
    HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A request that is for a function.
pub struct Routed {
    target: Target,
    /// Bytes of the path that led to the function.
    prefix: usize,
    /// Whether the call is to be made later, and how its function was addressed then.
    later: Option<String>,
    /// What led to it, where that is not somebody outside.
    led: Led,
}

enum Target {
    Function(Callee),
    /// Needs a credential that the request does not have.
    Private,
    /// Not there, or not yet.
    Unready {
        name: String,
        namespace: String,
        is_admin: bool,
    },
}

/// A function that may be called.
struct Callee {
    function: Arc<Function>,
    /// The credential was for us, so the code must not see it.
    strip_credential: bool,
}

/// The body of an answer, which says when it has ended.
pub struct CountedBody {
    body: CallBody,
    _count: Option<Count>,
}

/// Counts a call when it is dropped, which is when its answer has left, or its caller has without one.
pub(crate) struct Count {
    counters: Arc<FunctionCounters>,
    /// None while there is no answer.
    pub(crate) code: Option<StatusCode>,
    began: Instant,
}

impl Routed {
    /// The same for a call that something other than a caller outside led to.
    #[must_use]
    pub fn led_by(mut self, led: Led) -> Self {
        self.led = led;
        self
    }
}

/// The status by which a call counts whose caller left before there was an answer: a common convention of proxies.
const CALLER_LEFT: u16 = 499;

impl OpenFaas {
    /// Finds the function that a request is for, if its path is one of a call's. `is_admin` is asked only where the
    /// function is private, or not known to be public.
    #[must_use]
    pub fn route(&self, uri: &Uri, is_admin: impl Fn() -> bool) -> Option<Routed> {
        self.route_for(uri, |_| is_admin())
    }

    /// The same for a caller who may call some private functions and others not. One that is not ready is none to be asked
    /// about.
    #[must_use]
    pub fn route_for(&self, uri: &Uri, may: impl Fn(Option<&Function>) -> bool) -> Option<Routed> {
        let path = uri.path();
        let (rest, is_later) = match path.strip_prefix(CALL_PREFIX) {
            Some(rest) => (rest, false),
            None => (path.strip_prefix(ASYNC_PREFIX)?, true),
        };
        let before = path.len() - rest.len();
        let word = rest.split('/').next().unwrap_or("");
        let (name, namespace) = split(word);
        let found = self.platform().function(FunctionRef {
            namespace: canonical_namespace(namespace),
            group: "",
            name,
        });
        let access = found.as_ref().and_then(|f| self.platform().access(f));
        let target = match (found, access) {
            (Some(function), Some(Access::Private)) if !may(Some(&function)) => Target::Private,
            (Some(function), Some(access)) => Target::Function(Callee::of(function, access)),
            _ => Target::Unready {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                is_admin: may(None),
            },
        };
        Some(Routed {
            target,
            prefix: before + word.len(),
            later: is_later.then(|| word.to_owned()),
            led: Led::default(),
        })
    }

    /// Makes the call.
    pub async fn call(
        &self,
        routed: Routed,
        mut request: Request<Body>,
        caller: Option<Caller>,
    ) -> Response<CountedBody> {
        let received = Instant::now();
        let id = new_id();
        if let Some(call_id) = &routed.later {
            if *request.method() == Method::DELETE {
                // A call's id is nobody's function, so that who asks is known here.
                let is_admin = matches!(routed.target, Target::Unready { is_admin: true, .. });
                return plain(self.cancel(call_id, is_admin).await);
            }
            if *request.method() != Method::POST {
                return plain(refused(StatusCode::METHOD_NOT_ALLOWED, String::new()));
            }
        }
        let Callee {
            function,
            strip_credential,
        } = match routed.target {
            Target::Function(callee) => callee,
            Target::Unready {
                name,
                namespace,
                is_admin,
            } => match self.awaited(&name, &namespace, is_admin).await {
                Ok(callee) => callee,
                Err(refused) => return plain(*refused),
            },
            Target::Private => return plain(unauthorized()),
        };
        if !is_passed(request.method()) {
            return plain(refused(StatusCode::METHOD_NOT_ALLOWED, String::new()));
        }
        if strip_credential {
            request.headers_mut().remove(AUTHORIZATION);
        }
        if let Some(addressed) = &routed.later {
            let (prefix, led) = (routed.prefix, routed.led);
            let accepted = self.accept(&function, addressed, prefix, led, request, caller.as_ref());
            return plain(accepted.await);
        }
        let mut count = Count::begin(self.metrics().of(function.key()), received);
        let start_time = start_time();
        let call_id = complete(&mut request, id, &start_time, caller.as_ref());
        let kind = request.headers().get(CONTENT_TYPE).cloned();
        let context = CallContext {
            id,
            prefix: Prefix { len: routed.prefix },
            // What is told of the caller is told above, in this dialect's way.
            caller: None,
            received,
            depth: routed.led.depth,
            cause: routed.led.cause,
            trace: routed.led.trace,
        };
        let called = self.platform().call(&function, request, context).await;
        let mut response = match called {
            Ok(response) => {
                let mut response = response.map(CallBody::Reply);
                // One that the code has not given is the request's, else text.
                let headers = response.headers_mut();
                if !headers.contains_key(CONTENT_TYPE) {
                    headers.insert(CONTENT_TYPE, kind.unwrap_or(TEXT));
                }
                response
            }
            Err(failure) => self.failed(&function, &failure),
        };
        let headers = response.headers_mut();
        headers.insert(START_TIME, start_time);
        headers.insert(SERVED_BY, SERVER);
        if let Some(call_id) = call_id {
            headers.insert(CALL_ID, call_id);
        }
        count.code = Some(response.status());
        response.map(|body| CountedBody {
            body,
            _count: Some(count),
        })
    }

    /// A function that was deployed a moment ago: its callers wait for its first version, as they would for a replica.
    async fn awaited(
        &self,
        name: &str,
        namespace: &str,
        is_admin: bool,
    ) -> Result<Callee, Box<Response<CallBody>>> {
        let key = FunctionRef {
            namespace: canonical_namespace(namespace),
            group: "",
            name,
        };
        let internal = |status, text: String| {
            let mut response = refused(status, text);
            response.headers_mut().insert(INTERNAL, PROXY);
            Box::new(response)
        };
        let found = self.platform().callable(key, FIRST_VERSION).await;
        let found = found
            .map_err(|error| internal(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))?;
        let access = found.as_ref().and_then(|f| self.platform().access(f));
        match (found, access) {
            (Some(_), Some(Access::Private)) if !is_admin => Err(Box::new(unauthorized())),
            (Some(function), Some(access)) => Ok(Callee::of(function, access)),
            (Some(_), None) => Err(internal(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("No endpoints available for: {name}.\n"),
            )),
            (None, _) => {
                // One that is there and does not run is told apart from one that is not.
                if matches!(self.platform().owner_of(key).await, Ok(Some(_))) {
                    return Err(internal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("No endpoints available for: {name}.\n"),
                    ));
                }
                Err(Box::new(refused(
                    StatusCode::NOT_FOUND,
                    format!("error finding function {name}.{namespace}: it does not exist\n"),
                )))
            }
        }
    }

    /// The answer to a call that brought no response from the code.
    fn failed(&self, function: &Function, failure: &Failure) -> Response<CallBody> {
        let name = &function.key().name;
        let status = match failure.outcome {
            Outcome::Limit(Limit::Concurrency) => {
                let most = self.max_inflight(function);
                let text = match most {
                    Some(most) => format!(
                        "Concurrent request limit exceeded. Max concurrent requests: {most}\n"
                    ),
                    None => format!("{}\n", failure.message),
                };
                let mut response = refused(StatusCode::TOO_MANY_REQUESTS, text);
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                headers.insert(INTERNAL, if most.is_some() { MIDDLEWARE } else { PROXY });
                return with_retry(response, failure);
            }
            Outcome::Limit(Limit::Quota) => StatusCode::TOO_MANY_REQUESTS,
            Outcome::Platform | Outcome::Limit(Limit::Capacity) => StatusCode::SERVICE_UNAVAILABLE,
            Outcome::Limit(Limit::Timeout | Limit::FirstByte) => StatusCode::GATEWAY_TIMEOUT,
            Outcome::Limit(Limit::Idle) => StatusCode::REQUEST_TIMEOUT,
            Outcome::Limit(Limit::Body) => StatusCode::PAYLOAD_TOO_LARGE,
            Outcome::Cancelled => StatusCode::BAD_REQUEST,
            Outcome::Ok | Outcome::Application | Outcome::Function | Outcome::Limit(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let text = if status == StatusCode::INTERNAL_SERVER_ERROR {
            format!("Can't reach service for: {name}. {}\n", failure.message)
        } else {
            format!("{}\n", failure.message)
        };
        let mut response = refused(status, text);
        response.headers_mut().insert(INTERNAL, PROXY);
        with_retry(response, failure)
    }

    /// How many calls an instance of the function takes, where it refuses more.
    fn max_inflight(&self, function: &Function) -> Option<u32> {
        let members = self.platform().members(function);
        let scale = &members.first()?.revision.spec.scale;
        scale.waiting.map(|_| scale.concurrency)
    }
}

impl Callee {
    fn of(function: Arc<Function>, access: Access) -> Self {
        Self {
            function,
            strip_credential: access == Access::Private,
        }
    }
}

/// What follows the last dot is the namespace.
pub(crate) fn split(word: &str) -> (&str, &str) {
    word.rsplit_once('.').unwrap_or((word, NAMESPACE))
}

/// Methods that a function may be called with.
fn is_passed(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
            | Method::HEAD
    )
}

/// Unix time in nanoseconds.
pub(crate) fn start_time() -> HeaderValue {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = since.map_or(0, |since| since.as_nanos());
    HeaderValue::try_from(nanoseconds.to_string()).unwrap_or(HeaderValue::from_static("0"))
}

/// Sets what the request does not say, and gives the id under which the call is told of.
pub(crate) fn complete<B>(
    request: &mut Request<B>,
    id: InvocationId,
    start_time: &HeaderValue,
    caller: Option<&Caller>,
) -> Option<HeaderValue> {
    // HTTP/2 has the host in the address.
    let authority = request.uri().authority().map(|host| host.as_str());
    let authority = authority.and_then(|host| HeaderValue::from_str(host).ok());
    let headers = request.headers_mut();
    if !headers.contains_key(CALL_ID)
        && let Ok(value) = HeaderValue::try_from(id.hyphenated())
    {
        headers.insert(CALL_ID, value);
    }
    headers.insert(START_TIME, start_time.clone());
    if let Some(caller) = caller
        && !headers.contains_key(FORWARDED_FOR)
    {
        headers.insert(FORWARDED_FOR, caller.peer.clone());
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned().or(authority)
    {
        headers.insert(FORWARDED_HOST, host);
    }
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, SERVER);
    }
    headers.get(CALL_ID).cloned()
}

pub(crate) fn refused(status: StatusCode, text: String) -> Response<CallBody> {
    let has_text = !text.is_empty();
    let mut response = Response::new(CallBody::Full(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    if has_text {
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
    }
    response
}

fn with_retry(mut response: Response<CallBody>, failure: &Failure) -> Response<CallBody> {
    if let Some(seconds) = failure.retry_after_seconds() {
        let seconds = HeaderValue::from(seconds);
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, seconds);
    }
    response
}

fn unauthorized() -> Response<CallBody> {
    let mut response = refused(
        StatusCode::UNAUTHORIZED,
        "the function is private: send the admin's credentials\n".to_owned(),
    );
    response.headers_mut().insert(
        http::header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"Restricted\""),
    );
    response
}

fn plain(response: Response<CallBody>) -> Response<CountedBody> {
    response.map(|body| CountedBody { body, _count: None })
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyFault>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Count {
    pub(crate) fn begin(counters: Arc<FunctionCounters>, began: Instant) -> Self {
        counters.started();
        Self {
            counters,
            code: None,
            began,
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let code = self
            .code
            .or_else(|| StatusCode::from_u16(CALLER_LEFT).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.counters.ended(code, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use tidegate_platform::DEFAULT_NAMESPACE;

    use super::*;

    #[test]
    fn the_namespace_is_what_follows_the_last_dot() {
        for (word, want) in [
            ("hello", ("hello", "openfaas-fn")),
            ("hello.openfaas-fn", ("hello", "openfaas-fn")),
            ("hello.team", ("hello", "team")),
            ("a.b.team", ("a.b", "team")),
            (".openfaas-fn", ("", "openfaas-fn")),
            ("", ("", "openfaas-fn")),
        ] {
            assert_eq!(split(word), want);
        }
        assert_eq!(canonical_namespace(NAMESPACE), DEFAULT_NAMESPACE);
    }

    #[test]
    fn a_request_is_told_what_it_does_not_say() {
        let caller = Caller {
            address: HeaderValue::from_static("10.0.0.1"),
            peer: HeaderValue::from_static("10.0.0.1:5000"),
            scheme: "http",
        };
        let now = HeaderValue::from_static("1");
        let id = InvocationId::from_u128(0xabc);
        let mut request = Request::new(());
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("here:8080"));
        let told = complete(&mut request, id, &now, Some(&caller)).unwrap();
        assert_eq!(told, "00000000-0000-0000-0000-000000000abc");
        let headers = request.headers_mut();
        assert_eq!(headers[FORWARDED_FOR], "10.0.0.1:5000");
        assert_eq!(headers[FORWARDED_HOST], "here:8080");
        assert_eq!(headers[START_TIME], "1");
        assert_eq!(headers[USER_AGENT], SERVER);

        for (name, value) in [
            (CALL_ID, "mine"),
            (FORWARDED_FOR, "1.2.3.4"),
            (FORWARDED_HOST, "there"),
            (START_TIME, "forged"),
            (USER_AGENT, "curl"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let told = complete(&mut request, id, &now, Some(&caller)).unwrap();
        assert_eq!(told, "mine");
        let headers = request.headers();
        assert_eq!(headers[FORWARDED_FOR], "1.2.3.4");
        assert_eq!(headers[FORWARDED_HOST], "there");
        assert_eq!(headers[START_TIME], "1");
        assert_eq!(headers[USER_AGENT], "curl");

        let mut request = Request::get("http://over.http2/").body(()).unwrap();
        complete(&mut request, id, &now, None);
        assert_eq!(request.headers()[FORWARDED_HOST], "over.http2");
    }

    #[test]
    fn a_call_whose_caller_left_ends_as_well() {
        let counters = Arc::<FunctionCounters>::default();
        drop(Count::begin(counters.clone(), Instant::now()));
        let mut answered = Count::begin(counters.clone(), Instant::now());
        answered.code = Some(StatusCode::OK);
        drop(answered);
        assert_eq!(counters.ended_with(StatusCode::OK), 1);
        let left = StatusCode::from_u16(CALLER_LEFT).unwrap();
        assert_eq!(counters.ended_with(left), 1);
    }
}
