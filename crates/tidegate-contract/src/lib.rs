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
mod stdio;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tidegate_core::{FunctionSpec, InvocationId};
use tidegate_instance::{Exit, Instance, Program};

pub use body::{AnswerBody, Body, BodyFault, BodyWatch};
pub use http1::{Lanes, enter_lane};

/// Calls an instance of an HTTP server takes at once, where the function does not say.
const HTTP_CONCURRENCY: u32 = 100;

/// How code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// A language host of ours loads the code and speaks HTTP/1.1 over descriptors it is handed.
    Host,
    /// The code is an HTTP server on `$PORT`.
    Http,
    /// The code is a program that reads the request body and writes the response body, a process a call.
    Stdio,
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
}

/// The word is none of the contracts'.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown contract {0:?}: choose 'host' (a handler or app that a language host loads), 'http' (a server on $PORT) or 'stdio' (a process a call)"
)]
pub struct UnknownContract(String);

// === impl Contract ===

impl std::str::FromStr for Contract {
    type Err = UnknownContract;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "host" => Ok(Self::Host),
            "http" => Ok(Self::Http),
            "stdio" => Ok(Self::Stdio),
            other => Err(UnknownContract(other.chars().take(40).collect())),
        }
    }
}

impl Contract {
    /// What an instance runs so that it can be called this way.
    #[must_use]
    pub fn program(self, spec: &FunctionSpec) -> Program {
        let (runtime, entry) = (spec.runtime.clone(), spec.code.entry.clone());
        match self {
            Self::Host => Program::Host {
                runtime,
                entry,
                handler: spec.handler.clone(),
            },
            Self::Http => Program::Server {
                runtime,
                entry,
                command: spec.command.clone(),
                port: None,
            },
            Self::Stdio => Program::PerCall {
                runtime,
                entry,
                command: spec.command.clone(),
            },
        }
    }

    /// Calls an instance takes at once, where the function does not say.
    #[must_use]
    pub const fn default_concurrency(self) -> u32 {
        match self {
            Self::Host | Self::Stdio => 1,
            Self::Http => HTTP_CONCURRENCY,
        }
    }

    /// The most calls that an instance can take at once this way.
    #[must_use]
    pub const fn max_concurrency(self) -> u32 {
        match self {
            Self::Stdio => 1,
            Self::Host | Self::Http => 1000,
        }
    }
}

// === impl Target ===

impl Target {
    /// Makes the instance callable from as many serving threads as there are lanes.
    #[must_use]
    pub fn new(instance: Arc<dyn Instance>, contract: Contract, lanes: usize) -> Self {
        Self {
            instance,
            contract,
            lanes: Lanes::new(lanes),
        }
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
        match self.contract {
            Contract::Host | Contract::Http => http1::call(self, request, info).await,
            Contract::Stdio => stdio::call(self, request, info).await,
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
