//! How a command ends other than well.
//!
//! One struct rather than an enum a command: what becomes of an error here is always the same, a line, its causes, hints
//! and an exit code, and every command already knows all four where it fails. The client underneath has a real enum, which
//! the commands take apart.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;

use crate::client;
use crate::exit;

/// Result of a command.
pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Causes shown at most; longer chains repeat themselves.
const MAX_CAUSES: usize = 6;

/// The server's word for a registry that wants a login, which no key for the server itself is.
const REGISTRY: &str = "registry-unauthorized";

/// Why a command ended.
#[derive(Debug)]
pub(crate) struct Error {
    /// See [`exit`].
    pub(crate) code: u8,
    /// One line. Empty where the code says it all: closed output, or a failure that has been told.
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    pub(crate) hints: Vec<String>,
}

impl Error {
    fn new(code: u8, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::new(exit::FAILED, message)
    }

    /// The command was wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// Nobody answers.
    pub(crate) fn unreachable(message: impl Display) -> Self {
        Self::new(exit::UNREACHABLE, message)
    }

    /// What should not be.
    pub(crate) fn unexpected(message: impl Display) -> Self {
        Self::new(exit::UNEXPECTED, message)
    }

    /// The reader of the output is gone: a normal end.
    pub(crate) fn closed_pipe() -> Self {
        Self::new(exit::OK, "")
    }

    /// Ends with this code without a word, all having been said.
    pub(crate) fn silent(code: u8) -> Self {
        Self::new(code, "")
    }

    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Adds another mistake, on a line of its own.
    pub(crate) fn also(mut self, mistake: impl Display) -> Self {
        self.message = format!("{}\n       {mistake}", self.message);
        self
    }

    /// Adds what is behind an error, without what the message or the cause before already says.
    pub(crate) fn because(mut self, error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next.filter(|_| self.causes.len() < MAX_CAUSES) {
            let text = cause.to_string();
            let said = self.causes.last().unwrap_or(&self.message);
            if !said.ends_with(&text) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        use client::Error as E;
        let source = error.source();
        let with_causes = |told: Self| match source {
            Some(source) => told.because(source),
            None => told,
        };
        match &error {
            E::Refused { url, .. } => Self::unreachable(format!("no Tidegate server at {url}"))
                .hint("start one with 'tidegate up', or set TIDEGATE_URL or --url to where one is"),
            E::Unreachable { source, .. } | E::Broken { source, .. } => {
                // Between the two ends of the chain stand only the layers of the HTTP library.
                Self::unreachable(&error).because(root(source))
            }
            E::TimedOut { .. } => Self::unreachable(&error),
            E::Answered { status, body } => {
                let told = match status.as_u16() {
                    // Busy, shutting down or out of room is a refusal; any other failure of the server is a mistake of ours.
                    500 | 501 | 505 | 506 | 508.. => Self::unexpected(&body.error),
                    _ => Self::failed(&body.error),
                };
                let told = match &body.request_id {
                    Some(id) if told.code == exit::UNEXPECTED => {
                        told.hint(format!("the server's log has more under request {id}"))
                    }
                    _ => told,
                };
                match status.as_u16() {
                    401 => told.hint(
                        "give a key with 'tidegate login', TIDEGATE_TOKEN or --token; a server's first start prints where \
                         its admin key is",
                    ),
                    403 if body.reason == REGISTRY => told.hint(
                        "'tidegate secret set NAME --from-file ~/.docker/config.json' keeps what 'docker login' wrote; name \
                         it with --pull-secret",
                    ),
                    403 => told.hint("the key that was sent does not allow this; see 'tidegate login'"),
                    _ => told,
                }
            }
            E::Unexpected { .. } | E::TooLarge { .. } => with_causes(Self::unexpected(&error))
                .hint("is this the address of a Tidegate server?"),
            E::Setup(_) => with_causes(Self::unexpected(&error)),
            E::Url { .. } | E::Token => Self::usage(&error),
        }
    }
}

/// The end of a chain of causes.
pub(crate) fn root<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

impl From<io::Error> for Error {
    /// Only writing to stdout is propagated bare; everything else is wrapped where its path is known.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::closed_pipe()
        } else {
            Self::failed("cannot write the output").because(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer: inner")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_do_not_repeat_each_other() {
        let error = Error::failed("it failed").because(&Outer(io::Error::other("inner")));
        assert_eq!(error.causes, ["outer: inner"]);
    }

    #[test]
    fn a_closed_pipe_is_a_normal_end() {
        let error = Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((error.code, error.message.as_str()), (exit::OK, ""));
        let error = Error::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.code, exit::FAILED);
    }
}
