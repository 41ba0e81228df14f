//! How code is called.
//!
//! A contract takes the canonical call, an HTTP request with a little context, to an instance, and brings the response
//! back, both bodies as streams. It knows nothing of where the instance runs nor of which client spoke; [`Contract`] is
//! an enum rather than a trait object so that a warm call allocates nothing for the choice, and callers never match on it.
//!
//! Connections are kept in *lanes*, one a serving thread: a request, its connection and the task that drives the
//! connection are polled on the same thread, and no lock is contended. A generic pooled client on a work-stealing runtime
//! costs about a third more processor time a request.

#![forbid(unsafe_code)]

mod body;
mod head;
mod http1;
mod process;
mod ready;
mod stdio;
mod tunnel;
mod vacant;
mod watchdog;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tidegate_core::{FunctionSpec, InvocationId};
use tidegate_instance::{Exit, Instance, LogSink, Program};

use head::Reader;

pub use body::{AnswerBody, Body, BodyFault, BodyWatch};
pub use http1::{Lanes, enter_lane};
pub use ready::NotReady;
pub use tunnel::Carried;
pub use vacant::Vacant;
pub use watchdog::{Told, Watchdog};

/// Calls an instance of an HTTP server takes at once, where the function does not say.
const HTTP_CONCURRENCY: u32 = 100;

/// How code is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contract {
    /// A language host of ours loads the code and speaks HTTP/1.1 over descriptors it is handed.
    Host,
    /// The code is an HTTP server on `$PORT`.
    Http,
    /// The code is a program that reads the request body and writes the response body, a process a call.
    Stdio,
    /// What is between the caller and the code is what a watchdog of OpenFaaS's would be, as the environment says.
    Watchdog(Arc<Watchdog>),
}

/// What a call carries beside the request.
#[derive(Clone, Debug)]
pub struct CallInfo {
    /// The invocation.
    pub id: InvocationId,
    /// The part of the path that led to the function, `/fn/thumbnail`; what follows it is what the code sees.
    pub prefix: Prefix,
    /// Time left until the deadline.
    pub remaining: Duration,
    /// The caller's address and scheme, if it came over the network.
    pub caller: Option<Caller>,
}

/// The part of a path before what the code sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Length in bytes of the prefix in the request's path.
    pub len: usize,
}

/// Who called, ready to be written into headers: made once a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The address without the port, for `X-Forwarded-For`.
    pub address: HeaderValue,
    /// The address with the port.
    pub peer: HeaderValue,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// An instance, ready to be called in the way its contract says.
pub struct Target {
    instance: Arc<dyn Instance>,
    contract: Contract,
    lanes: Lanes,
    bundle: PathBuf,
    logs: Arc<dyn LogSink>,
    /// Calls that are counted; not all contracts do.
    in_flight: AtomicU32,
}

/// What a contract needs beside an instance.
pub struct Surroundings {
    /// Serving threads.
    pub lanes: usize,
    /// The unpacked bundle on this machine.
    pub bundle: PathBuf,
    /// Where a contract says what it has to say of calls.
    pub logs: Arc<dyn LogSink>,
}

/// Why a call brought no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The instance was not reached; nothing of the request was consumed, so it may be sent again.
    #[error("the instance could not be reached: {source}")]
    Unreached {
        /// The request as it was.
        request: Box<Request<Body>>,
        /// Why.
        source: std::io::Error,
    },
    /// The connection ended before a response did.
    #[error("the instance closed the connection before it answered")]
    Closed,
    /// The instance answered something that is not a response.
    #[error("the instance's response could not be read: {0}")]
    Protocol(hyper::Error),
    /// The process of this call failed.
    #[error("the process {0}")]
    Exit(Exit),
    /// The process of this call could not be started.
    #[error("the process could not be started: {0}")]
    Exec(std::io::Error),
    /// The caller's body failed.
    #[error(transparent)]
    Request(#[from] BodyFault),
    /// The code had not answered in the time that the contract gives it. It may still be running.
    #[error("the function did not answer within {0:?}, its own limit")]
    Late(Duration),
    /// The call failed, and the contract has words of its own for that.
    #[error("{error}")]
    Answered {
        /// What the caller gets.
        response: Box<Response<AnswerBody>>,
        /// What happened.
        error: Box<CallError>,
    },
}

/// The function says something about how it is called that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The word is none of the contracts'.
    #[error(
        "unknown contract {0:?}: choose 'host' (a handler or app that a language host loads), 'http' (a server on $PORT) or 'stdio' (a process a call)"
    )]
    Unknown(String),
    /// A variable that the contract reads has a value with which it cannot work.
    #[error("environment variable {name:?} is {value:?}: {wanted}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value, shortened.
        value: String,
        /// What would be accepted.
        wanted: &'static str,
    },
    /// A variable that the contract reads is not set.
    #[error("environment variable {name:?} is not set: {wanted}")]
    Missing {
        /// Its name.
        name: &'static str,
        /// What would be accepted.
        wanted: &'static str,
    },
}

// === impl ContractError, CallError ===

impl ContractError {
    /// Which part of a specification is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "spec.contract",
            Self::Variable { .. } | Self::Missing { .. } => "spec.env",
        }
    }
}

impl CallError {
    /// The same, with what the caller is told.
    fn answered(self, response: Response<AnswerBody>) -> Self {
        Self::Answered {
            response: Box::new(response),
            error: Box::new(self),
        }
    }
}

// === impl Contract ===

impl Contract {
    /// How a function is called: as its contract's word says, and for some as its environment says.
    ///
    /// # Errors
    /// The word is unknown, or the environment is not what the contract can work with.
    pub fn of(spec: &FunctionSpec) -> Result<Self, ContractError> {
        match &*spec.contract {
            "host" => Ok(Self::Host),
            "http" => Ok(Self::Http),
            "stdio" => Ok(Self::Stdio),
            "of-watchdog" => Ok(Self::Watchdog(Arc::new(Watchdog::newer(spec)?))),
            "classic-watchdog" => Ok(Self::Watchdog(Arc::new(Watchdog::older(spec)?))),
            other => Err(ContractError::Unknown(other.chars().take(40).collect())),
        }
    }

    /// What an instance runs so that it can be called this way; `None` where nothing has to run, and a [`Vacant`] one does.
    #[must_use]
    pub fn program(&self, spec: &FunctionSpec) -> Option<Program> {
        let (runtime, entry) = (spec.runtime.clone(), spec.code.entry.clone());
        match self {
            Self::Host => Some(Program::Host {
                runtime,
                entry,
                handler: spec.handler.clone(),
            }),
            Self::Http => Some(Program::Server {
                runtime,
                entry,
                command: spec.command.clone(),
                port: spec.root.as_ref().and_then(|root| root.port),
            }),
            Self::Stdio => Some(Program::PerCall {
                runtime,
                entry,
                command: spec.command.clone(),
            }),
            Self::Watchdog(dog) => dog.program(spec),
        }
    }

    /// Where the function's own output goes, on its way to the log.
    #[must_use]
    pub fn sink(&self, logs: Arc<dyn LogSink>) -> Arc<dyn LogSink> {
        match self {
            Self::Watchdog(dog) if dog.prefix_logs => watchdog::prefixed(logs),
            _ => logs,
        }
    }

    /// Calls an instance takes at once, where the function does not say.
    #[must_use]
    pub fn default_concurrency(&self) -> u32 {
        match self {
            Self::Host | Self::Stdio => 1,
            Self::Http => HTTP_CONCURRENCY,
            Self::Watchdog(dog) if dog.is_hosted() => dog.max_inflight().unwrap_or(1),
            Self::Watchdog(dog) => dog.concurrency(),
        }
    }

    /// The most calls that an instance can take at once this way.
    #[must_use]
    pub const fn max_concurrency(&self) -> u32 {
        match self {
            Self::Stdio => 1,
            Self::Host | Self::Http | Self::Watchdog(_) => watchdog::MAX_CONCURRENCY,
        }
    }

    /// Whether a language host of ours is at the other end of a connection.
    fn is_hosted(&self) -> bool {
        match self {
            Self::Host => true,
            Self::Http | Self::Stdio => false,
            Self::Watchdog(dog) => dog.is_hosted(),
        }
    }
}

// === impl Target ===

impl Target {
    /// Makes the instance callable from as many serving threads as there are lanes.
    #[must_use]
    pub fn new(
        instance: Arc<dyn Instance>,
        contract: Contract,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            instance,
            contract,
            lanes: Lanes::new(surroundings.lanes),
            bundle: surroundings.bundle,
            logs: surroundings.logs,
            in_flight: AtomicU32::new(0),
        }
    }

    pub(crate) fn bundle(&self) -> &Path {
        &self.bundle
    }

    pub(crate) fn logs(&self) -> &dyn LogSink {
        &*self.logs
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Arc<dyn Instance> {
        &self.instance
    }

    /// Sends the request and waits for the head of the response. Dropping the future, or the body it gave, closes the
    /// connection or kills the process; telling the code is [`Instance::cancel`]'s work.
    ///
    /// # Errors
    /// See [`CallError`]; only [`CallError::Unreached`] may be tried again.
    pub async fn call(
        self: &Arc<Self>,
        request: Request<Body>,
        info: &CallInfo,
    ) -> Result<Response<AnswerBody>, CallError> {
        match &self.contract {
            Contract::Host => http1::call(self, request, info, Reader::Host).await,
            Contract::Http => http1::call(self, request, info, Reader::Server).await,
            Contract::Stdio => stdio::call(self, request, info).await,
            Contract::Watchdog(dog) => watchdog::call(self, dog, request, info).await,
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("instance", &self.instance.id())
            .field("contract", &self.contract)
            .finish_non_exhaustive()
    }
}
