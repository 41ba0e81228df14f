//! What can go wrong between a client and a server.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::StatusCode;
use tidegate_core::format_duration;
use tidegate_document::ErrorBody;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody listens there.
    #[error("connection to {url} refused")]
    Refused {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// No connection.
    #[error("cannot reach the server at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// A connection that broke.
    #[error("the connection to the server at {url} broke off")]
    Broken {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The client's own limit.
    #[error("the server at {url} did not answer{}", within(.after))]
    TimedOut {
        url: String,
        after: Option<Duration>,
    },
    /// The server said no.
    #[error("{}", .body.error)]
    Answered { status: StatusCode, body: ErrorBody },
    /// Something that a Tidegate server does not say.
    #[error("{url} gave {what}")]
    Unexpected {
        url: String,
        what: String,
        #[source]
        source: Option<serde_json::Error>,
    },
    /// More than any answer of a Tidegate server.
    #[error("{url} answered more than {} KiB", .limit >> 10)]
    TooLarge { url: String, limit: usize },
    /// The client could not be made.
    #[error("cannot set up HTTP")]
    Setup(#[source] reqwest::Error),
    /// No address.
    #[error("server address {url:?} {why}; write it as http://127.0.0.1:8080")]
    Url { url: String, why: &'static str },
    /// No header value.
    #[error(
        "the key has characters that a key never has; was it copied whole and without line breaks?"
    )]
    Token,
}

impl Error {
    /// Sorts a failure of the transport.
    pub(crate) fn transport(url: String, after: Option<Duration>, source: reqwest::Error) -> Self {
        // The address is in the message already, and its query would only be noise.
        let source = source.without_url();
        let refused = is_refused(&source);
        if refused {
            Self::Refused { url, source }
        } else if source.is_timeout() && !source.is_connect() {
            Self::TimedOut { url, after }
        } else if source.is_connect() {
            Self::Unreachable { url, source }
        } else {
            Self::Broken { url, source }
        }
    }

    /// An error without a body, as an answer to HEAD is.
    pub(crate) fn bare(status: StatusCode) -> Self {
        Self::Answered {
            status,
            body: ErrorBody {
                error: format!("the server answered {status}"),
                reason: String::new(),
                request_id: None,
            },
        }
    }

    /// The status, where the server answered.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(status.as_u16()),
            _ => None,
        }
    }
}

fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        next = cause.source();
    }
    false
}

fn within(after: &Option<Duration>) -> String {
    after.map_or_else(String::new, |d| format!(" within {}", format_duration(d)))
}
