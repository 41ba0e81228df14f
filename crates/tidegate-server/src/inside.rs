//! The platform as functions see it from inside: one function calls another by its name.
//!
//! Nothing listens for it. What code connects to under a name of the platform's comes here as a connection, with the
//! instance that made it, and is served by the same threads as any other. Who calls is known without a key: it is the
//! instance, and it cannot say that it is another. Only calls are served, never what controls the server.
//!
//! Functions that call one another in a circle would do so for ever. So each call knows how many led to it: the platform
//! remembers it of the call that an instance has at hand, and nobody inside has to pass anything on.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request};
use parking_lot::RwLock;
use tidegate_core::{FunctionKey, InstanceId};
use tidegate_dialect_native::{ApiError, call, inside, route_inside};
use tidegate_egress::{Inside, Seat};
use tidegate_instance::INSTANCE;
use tidegate_platform::{ATTEMPT, Body, Caller, Function, Lineage, MAX_DEPTH, Platform, WHO_CALLS};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::body::ServerBody;
use crate::service::{Service, error};
use crate::worker::{Accepted, Workers};

/// The function that calls: `namespace/name`. Unlike what the platform says to language hosts, whose headers begin with
/// `x-tidegate-`, this and the next are for the code.
const CALLER: HeaderName = HeaderName::from_static(WHO_CALLS[0]);

/// The call that this one was made for, where that is known exactly.
const CAUSE: HeaderName = HeaderName::from_static(WHO_CALLS[1]);

/// Where functions are called by their names, and where OpenFaaS's gateway is in its own world.
const PORTS: [u16; 2] = [80, 8080];

/// What functions made for OpenFaaS call the gateway.
const GATEWAYS: [&str; 2] = ["gateway", "gateway.openfaas"];

/// What names end with in a cluster.
const CLUSTER: [&str; 2] = [".svc.cluster.local", ".svc"];

/// Who calls from inside.
pub(crate) struct Insider {
    function: FunctionKey,
    instance: InstanceId,
    /// Among the connections of the instance, which has this one for as long as it is served.
    _seat: Seat,
}

/// Takes what functions connect to, once the server is there.
#[derive(Default)]
pub(crate) struct Door(RwLock<Option<Opened>>);

struct Opened {
    platform: Platform,
    workers: Arc<Workers>,
    room: Arc<Semaphore>,
}

// === impl Door ===

impl Door {
    /// Has connections served, at most so many at once.
    pub(crate) fn open(&self, platform: &Platform, workers: &Arc<Workers>, max: usize) {
        *self.0.write() = Some(Opened {
            platform: platform.clone(),
            workers: workers.clone(),
            room: Arc::new(Semaphore::new(max)),
        });
    }

    /// No more. The platform has the door, which must not have the platform for ever.
    pub(crate) fn close(&self) {
        *self.0.write() = None;
    }
}

impl Inside for Door {
    fn knows(&self, caller: &FunctionKey, name: &str) -> bool {
        let name = short(name);
        if is_gateway(name) {
            return true;
        }
        let opened = self.0.read();
        let key = inside(name, &caller.namespace);
        key.zip(opened.as_ref())
            .is_some_and(|(key, opened)| opened.platform.function(key).is_some())
    }

    fn accept(
        &self,
        caller: &FunctionKey,
        instance: InstanceId,
        connection: TcpStream,
        seat: Seat,
    ) {
        let opened = self.0.read();
        // As many as from outside; the next is reset, which is what a full server would do.
        let room = opened.as_ref().map(|o| o.room.clone().try_acquire_owned());
        let (Some(Opened { workers, .. }), Some(Ok(permit))) = (&*opened, room) else {
            let _ = connection.set_zero_linger();
            return;
        };
        let insider = Arc::new(Insider {
            function: caller.clone(),
            instance,
            _seat: seat,
        });
        let workers = workers.clone();
        tokio::spawn(async move {
            if let Ok(stream) = connection.into_std() {
                let accepted = Accepted {
                    stream,
                    // What the connection says itself is what the code chose: it may be anybody's address.
                    peer: (INSTANCE, 0).into(),
                    permit,
                    insider: Some(insider),
                };
                workers.hand_over(accepted).await;
            }
        });
    }

    fn ports(&self) -> &[u16] {
        &PORTS
    }
}

/// A name without what a cluster adds to it.
fn short(name: &str) -> &str {
    let cut = CLUSTER.iter().find_map(|end| name.strip_suffix(end));
    cut.unwrap_or(name)
}

fn is_gateway(name: &str) -> bool {
    GATEWAYS.contains(&name)
}

/// Takes off what only the platform may say of a call.
pub(crate) fn forget(headers: &mut HeaderMap) {
    headers.remove(CALLER);
    headers.remove(CAUSE);
    headers.remove(ATTEMPT);
}

/// Answers a request of a function's.
pub(crate) async fn answer(
    service: &Service,
    insider: &Insider,
    caller: Caller,
    mut parts: request::Parts,
    body: Body,
) -> Response<ServerBody> {
    let lineage = lineage(&service.platform, insider);
    let led = lineage.leads();
    if led.depth > MAX_DEPTH {
        return error(ApiError::new(
            StatusCode::LOOP_DETECTED,
            "loop",
            format!(
                "{MAX_DEPTH} functions have called one another until {}: it is taken for a circle",
                insider.function
            ),
        ));
    }
    let whose = insider.function.to_string();
    if let Ok(whose) = HeaderValue::try_from(whose) {
        parts.headers.insert(CALLER, whose);
    }
    if let Some(Ok(cause)) = lineage.call.map(|id| HeaderValue::from_bytes(&id.hex())) {
        parts.headers.insert(CAUSE, cause);
    }
    // Whoever is of the same namespace may call what is private in it.
    let may = |function: &Function| function.key().namespace == insider.function.namespace;
    let host = host(&parts);
    let name = short(&host);
    if is_gateway(name) {
        // One that is not ready yet cannot be asked about, so it has to be public.
        let known = |function: Option<&Function>| function.is_some_and(may);
        let Some(routed) = service.openfaas.route_for(&parts.uri, known) else {
            return not_served(&format!("{name}{}", parts.uri.path()));
        };
        let request = Request::from_parts(parts, body);
        let routed = routed.led_by(led);
        let answered = service.openfaas.call(routed, request, Some(caller)).await;
        return answered.map(ServerBody::OpenFaas);
    }
    let namespace = &insider.function.namespace;
    let routed = route_inside(
        &service.platform,
        name,
        namespace,
        &parts.uri,
        &parts.headers,
        may,
    );
    let Some(routed) = routed else {
        return not_served(name);
    };
    let request = Request::from_parts(parts, body);
    call(&service.platform, routed.led_by(led), request, Some(caller))
        .await
        .map(ServerBody::Call)
}

/// The call that the instance has at hand.
fn lineage(platform: &Platform, insider: &Insider) -> Lineage {
    let function = platform.function(insider.function.borrowed());
    // One that is not ready yet, or of a function that is going, has no call.
    let found = function.and_then(|f| platform.lineage(&f, insider.instance));
    found.unwrap_or_default()
}

/// The host that a request is for, in small letters and without its port.
fn host(parts: &request::Parts) -> String {
    let named = parts.headers.get(header::HOST);
    let host = parts
        .uri
        .host()
        .or_else(|| named.and_then(|host| host.to_str().ok()))
        .unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn not_served(what: &str) -> Response<ServerBody> {
    error(ApiError::not_found(format!(
        "{what:?} is no function: inside, functions are at http://NAME/ and http://NAME.NAMESPACE/, and at http://gateway:8080/function/NAME"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_with_and_without_what_a_cluster_adds() {
        for (name, cut) in [
            ("gateway", "gateway"),
            ("gateway.openfaas.svc.cluster.local", "gateway.openfaas"),
            ("thumbnail.team.svc", "thumbnail.team"),
            ("api.example.org", "api.example.org"),
        ] {
            assert_eq!(short(name), cut);
        }
        assert!(is_gateway("gateway.openfaas") && !is_gateway("gateway.other"));
    }

    #[test]
    fn the_host_is_read_as_it_was_meant() {
        for (uri, given, read) in [
            ("/", "Thumbnail:80", "thumbnail"),
            ("/", "thumbnail.team.", "thumbnail.team"),
            ("http://a.b:8080/x", "c", "a.b"),
            ("/", "", ""),
        ] {
            let request = Request::get(uri).header(header::HOST, given).body(());
            let (parts, ()) = request.unwrap().into_parts();
            assert_eq!(host(&parts), read);
        }
    }
}
