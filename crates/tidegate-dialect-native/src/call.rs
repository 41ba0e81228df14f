//! Calls: from a request on the main listener to a function's response.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::Full;
use tidegate_core::traffic::TAG_MARK;
use tidegate_core::{Access, FunctionRef, InvocationId};
use tidegate_platform::{
    Body, CallBody, CallContext, Caller, Chosen, DEFAULT_NAMESPACE, Function, Later, Led, Platform,
    Prefix, canonical_namespace, new_id,
};

use crate::error::ApiError;
use crate::later;

/// Where calls live on the main listener.
const CALL_PREFIX: &str = "/fn/";
/// What a host name that names a function ends with.
const HOST_SUFFIX: &str = ".fn.localhost";

/// The outcome of an answer that is not the code's.
const OUTCOME: header::HeaderName = header::HeaderName::from_static("x-tidegate-outcome");
const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");

/// A function that a request's path or host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CallTarget<'a> {
    name: &'a str,
    namespace: &'a str,
    /// Bytes of the path that led to it.
    prefix: usize,
}

/// How a request says which revision it is for.
const REVISION: header::HeaderName = header::HeaderName::from_static("x-tidegate-revision");
const REVISION_PARAMETER: &str = "tidegate-revision";
/// Longest word that names a revision; longer ones are not looked for.
const MAX_REVISION_WORD: usize = 64;

/// The function that a request is for, if it is for one: `/fn/NAME[.NAMESPACE]/rest…`, or a host name
/// `NAME[.NAMESPACE].fn.localhost`.
fn target<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<CallTarget<'a>> {
    let path = uri.path();
    if let Some(rest) = path.strip_prefix(CALL_PREFIX) {
        let word = rest.split('/').next().unwrap_or("");
        return Some(split(word, CALL_PREFIX.len() + word.len()));
    }
    let host = uri.host().or_else(|| {
        headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
    })?;
    let host = host.split(':').next().unwrap_or(host);
    let word = host.strip_suffix(HOST_SUFFIX)?;
    Some(split(word, 0))
}

fn split(word: &str, prefix: usize) -> CallTarget<'_> {
    let (name, namespace) = word.split_once('.').unwrap_or((word, DEFAULT_NAMESPACE));
    CallTarget {
        name,
        namespace: canonical_namespace(namespace),
        prefix,
    }
}

/// A call that found its function, or the answer it gets instead.
pub struct Routed {
    function: Result<Arc<Function>, Box<ApiError>>,
    prefix: Prefix,
    /// The credential was for us, so the code must not see it.
    strip_credential: bool,
    /// The revision that the request names.
    named: Option<Box<Named>>,
    /// What led to it, where that is not somebody outside.
    led: Led,
}

/// A revision that a request names.
struct Named {
    word: String,
    /// Whether a private one may be called.
    is_admin: bool,
}

/// Finds the function that a request is for, if it is for one. `is_admin` is asked only where the function is private.
#[must_use]
pub fn route(
    platform: &Platform,
    uri: &Uri,
    headers: &HeaderMap,
    is_admin: impl FnOnce() -> bool,
) -> Option<Routed> {
    let target = target(uri, headers)?;
    Some(routed(platform, target, uri, headers, |_| is_admin(), true))
}

/// Finds the function that a request of another function is for, by the host that it names: `NAME` in the caller's
/// namespace, or `NAME.NAMESPACE`. `None`: there is no such function. `may` is asked only where it is private.
#[must_use]
pub fn route_inside(
    platform: &Platform,
    host: &str,
    namespace: &str,
    uri: &Uri,
    headers: &HeaderMap,
    may: impl FnOnce(&Function) -> bool,
) -> Option<Routed> {
    let key = inside(host, namespace)?;
    platform.function(key)?;
    let target = CallTarget {
        name: key.name,
        namespace: key.namespace,
        prefix: 0,
    };
    // A credential is for the code: who calls is known without one.
    Some(routed(platform, target, uri, headers, may, false))
}

/// The function that a host name means to code in this namespace, whether there is one or not.
#[must_use]
pub fn inside<'a>(host: &'a str, namespace: &'a str) -> Option<FunctionRef<'a>> {
    let (name, namespace) = match host.split_once('.') {
        Some((name, namespace)) => (name, canonical_namespace(namespace)),
        None => (host, namespace),
    };
    (!name.is_empty() && !namespace.contains('.')).then_some(FunctionRef {
        namespace,
        group: "",
        name,
    })
}

fn routed(
    platform: &Platform,
    target: CallTarget<'_>,
    uri: &Uri,
    headers: &HeaderMap,
    may: impl FnOnce(&Function) -> bool,
    takes_credentials: bool,
) -> Routed {
    let key = FunctionRef {
        namespace: target.namespace,
        group: "",
        name: target.name,
    };
    let mut tag = None;
    let mut function = platform.function(key);
    // A function whose own name looks so is called before a tag of another.
    if function.is_none()
        && let Some((word, name)) = target.name.split_once(TAG_MARK)
    {
        function = platform.function(FunctionRef { name, ..key });
        tag = Some(word);
    }
    let Some(function) = function else {
        return Routed {
            function: Err(Box::new(unknown(target))),
            prefix: Prefix { len: target.prefix },
            strip_credential: false,
            named: None,
            led: Led::default(),
        };
    };
    let word = tag.map(str::to_owned).or_else(|| named(uri, headers));
    let is_private = platform.access(&function) == Some(Access::Private);
    // For a revision that is named, whether it is needed is known when the revision is.
    let is_admin = (is_private || word.is_some()) && may(&function);
    let (function, strip_credential, named) = match word {
        None if is_private && !is_admin => (Err(Box::new(private(&function))), false, None),
        None => (Ok(function), is_private && takes_credentials, None),
        Some(word) => (
            Ok(function),
            is_admin && takes_credentials,
            Some(Box::new(Named { word, is_admin })),
        ),
    };
    Routed {
        function,
        prefix: Prefix { len: target.prefix },
        strip_credential,
        named,
        led: Led::default(),
    }
}

impl Routed {
    /// The same for a call that something other than a caller outside led to.
    #[must_use]
    pub fn led_by(mut self, led: Led) -> Self {
        self.led = led;
        self
    }
}

/// The revision that a header or the query names.
fn named(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(REVISION) {
        return value.to_str().ok().map(|word| word.trim().to_owned());
    }
    let query = uri
        .query()
        .filter(|query| query.contains(REVISION_PARAMETER))?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == REVISION_PARAMETER)
        .map(|(_, word)| word.to_owned())
}

/// Makes the call.
pub async fn call(
    platform: &Platform,
    routed: Routed,
    mut request: Request<Body>,
    caller: Option<Caller>,
) -> Response<CallBody> {
    let id = new_id();
    let version = request.version();
    let had_body = !request.body().is_empty();
    if routed.strip_credential {
        request.headers_mut().remove(header::AUTHORIZATION);
    }
    if routed.named.is_some() {
        // Was for us; a function that passes its headers on would name a revision of another.
        request.headers_mut().remove(REVISION);
    }
    let answered = match routed.function {
        Err(refused) => Err(*refused),
        Ok(function) if later::is_wanted(request.headers()) => {
            let asked = Asked {
                prefix: routed.prefix,
                named: routed.named,
                led: routed.led,
                caller,
            };
            match accept(platform, &function, asked, request, id).await {
                Ok(response) => return response,
                Err(refused) => Err(refused),
            }
        }
        Ok(function) => {
            let received = tokio::time::Instant::now();
            let context = CallContext {
                id,
                prefix: routed.prefix,
                caller,
                received,
                depth: routed.led.depth,
                cause: routed.led.cause,
                trace: routed.led.trace,
            };
            let answered = match routed.named {
                None => Ok(platform.call(&function, request, context).await),
                Some(named) => match choose(platform, &function, &named).await {
                    Ok(chosen) => Ok(platform
                        .call_chosen(&function, chosen, request, context)
                        .await),
                    Err(refused) => Err(refused),
                },
            };
            answered.and_then(|called| called.map_err(|failure| ApiError::of_call(failure, id)))
        }
    };
    match answered {
        Ok(response) => response.map(CallBody::Reply),
        Err(mut error) => {
            let reason = HeaderValue::from_str(&error.body.reason);
            error.body.request_id = Some(id.to_string());
            let (mut parts, body) = error.into_parts();
            if let Ok(reason) = reason {
                parts.headers.insert(OUTCOME, reason);
            }
            if let Ok(id) = HeaderValue::from_bytes(&id.hex()) {
                parts.headers.insert(REQUEST_ID, id);
            }
            // What may be left of the body is not read, so the connection cannot be used again, and a caller that was not
            // told would lose its next request. Not so where there are too many calls: the body was not touched, most have
            // come whole with their head and can still be passed over, and many new connections would be no relief.
            let is_busy = matches!(
                parts.status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            if had_body && !is_busy && version <= Version::HTTP_11 {
                parts
                    .headers
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Response::from_parts(parts, CallBody::Full(Full::new(body)))
        }
    }
}

/// What is known of a call that is to be made later, beside its request.
struct Asked {
    prefix: Prefix,
    named: Option<Box<Named>>,
    led: Led,
    caller: Option<Caller>,
}

/// Has the call made later. A revision that it names is looked for now, so that a mistake is told, and again then.
async fn accept(
    platform: &Platform,
    function: &Arc<Function>,
    asked: Asked,
    request: Request<Body>,
    id: InvocationId,
) -> Result<Response<CallBody>, ApiError> {
    if let Some(named) = &asked.named {
        choose(platform, function, named).await?;
    }
    let (mut parts, body) = request.into_parts();
    if !parts.headers.contains_key(header::HOST)
        && let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    let path = &parts.uri.path()[asked.prefix.len..];
    let query = parts.uri.query().map(|q| format!("?{q}"));
    let path = match path {
        "" => "/",
        path => path,
    };
    let path = format!("{path}{}", query.unwrap_or_default());
    let wanted = later::wanted(&parts.method, path, &mut parts.headers)?;
    let wanted = Later {
        cause: asked.led.cause,
        trace: asked.led.trace,
        depth: asked.led.depth,
        caller: asked.caller,
        revision: asked.named.map(|named| tidegate_platform::Named {
            word: named.word,
            may_be_private: named.is_admin,
        }),
        ..wanted
    };
    let accepted = platform.enqueue(id, function.key(), wanted, body).await;
    accepted
        .map(later::accepted)
        .map_err(|error| later::refused(error, id))
}

/// The revision that a request names, if there is one and the caller may call it.
async fn choose(
    platform: &Platform,
    function: &Arc<Function>,
    named: &Named,
) -> Result<Chosen, ApiError> {
    let word: String = named.word.chars().take(MAX_REVISION_WORD).collect();
    let chosen = platform.choose(function, &word).await.map_err(|unknown| {
        ApiError::not_found(format!(
            "function {} has no revision or tag {word:?}; there are {}",
            function.key(),
            unknown.there.join(", ")
        ))
    })?;
    if chosen.access() == Access::Private && !named.is_admin {
        return Err(private(function));
    }
    Ok(chosen)
}

fn private(function: &Function) -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        format!(
            "function {} is private: send 'Authorization: Bearer KEY'",
            function.key()
        ),
    )
}

fn unknown(target: CallTarget<'_>) -> ApiError {
    ApiError::not_found(format!(
        "function {:?} does not exist in namespace {:?}; 'tidegate list -A' shows all there are",
        target.name, target.namespace
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uri: &str, host: &str) -> Option<(String, String, usize)> {
        let uri: Uri = uri.parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        target(&uri, &headers).map(|t| (t.name.to_owned(), t.namespace.to_owned(), t.prefix))
    }

    #[test]
    fn a_revision_is_named_by_header_or_query() {
        for (uri, header, want) in [
            ("/fn/f", None, None),
            ("/fn/f?a=b", None, None),
            ("/fn/f?a=b&tidegate-revision=beta", None, Some("beta")),
            ("/fn/f?not-tidegate-revision=beta", None, None),
            (
                "/fn/f?tidegate-revision=beta",
                Some("latest"),
                Some("latest"),
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(word) = header {
                headers.insert(REVISION, HeaderValue::from_static(word));
            }
            let found = super::named(&uri.parse().unwrap(), &headers);
            assert_eq!(found.as_deref(), want, "{uri}");
        }
    }

    #[test]
    fn a_function_is_named_by_path_or_host() {
        let some = |name: &str, namespace: &str, prefix| {
            Some((name.to_owned(), namespace.to_owned(), prefix))
        };
        for (uri, host, want) in [
            (
                "/fn/thumbnail",
                "localhost:8080",
                some("thumbnail", "default", 13),
            ),
            (
                "/fn/thumbnail/a/b?c",
                "localhost",
                some("thumbnail", "default", 13),
            ),
            (
                "/fn/thumbnail.team/a",
                "localhost",
                some("thumbnail", "team", 18),
            ),
            ("/fn/f.openfaas-fn", "localhost", some("f", "default", 17)),
            ("/a?b", "f.team.fn.localhost:8080", some("f", "team", 0)),
            ("/", "f.fn.localhost", some("f", "default", 0)),
            ("/fn/", "localhost", some("", "default", 4)),
            ("/fn", "localhost", None),
            ("/healthz", "localhost", None),
            ("/", "fn.localhost", None),
        ] {
            assert_eq!(named(uri, host), want, "{host}{uri}");
        }
    }
}
