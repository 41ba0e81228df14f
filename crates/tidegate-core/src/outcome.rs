//! How an invocation ended, in words that metrics, records and retry rules read instead of message text.

use std::fmt;

/// How an invocation ended. Whose fault it was is part of the answer, so nobody has to guess it from a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The function answered.
    Ok,
    /// The function answered with an error of its own making (a 4xx or 5xx that the code chose).
    Application,
    /// The code failed: an exception, a crash, a broken response, a start that never became ready.
    Function,
    /// Tidegate failed.
    Platform,
    /// A limit ended or refused it.
    Limit(Limit),
    /// The caller hung up.
    Cancelled,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The total time an invocation may take.
    Timeout,
    /// The time until the first byte of the response.
    FirstByte,
    /// The time without progress of a body.
    Idle,
    /// Memory of the instance.
    Memory,
    /// Processes and threads of the instance.
    Processes,
    /// What the instance may write to files.
    Disk,
    /// Size of the request body.
    Body,
    /// All instances busy and the waiting room full, or the wait too long.
    Concurrency,
    /// The server is draining or has no room for another instance.
    Capacity,
    /// What the namespace may use is used up for now.
    Quota,
}

impl Outcome {
    /// All of them, in the order of their numbers in what is written to disk: new ones go to the end.
    pub const ALL: [Self; 15] = [
        Self::Ok,
        Self::Application,
        Self::Function,
        Self::Platform,
        Self::Cancelled,
        Self::Limit(Limit::Timeout),
        Self::Limit(Limit::FirstByte),
        Self::Limit(Limit::Idle),
        Self::Limit(Limit::Memory),
        Self::Limit(Limit::Processes),
        Self::Limit(Limit::Disk),
        Self::Limit(Limit::Body),
        Self::Limit(Limit::Concurrency),
        Self::Limit(Limit::Capacity),
        Self::Limit(Limit::Quota),
    ];

    /// The stable word for it: label value in metrics, header value, record field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Application => "application",
            Self::Function => "function",
            Self::Platform => "platform",
            Self::Limit(limit) => limit.as_str(),
            Self::Cancelled => "cancelled",
        }
    }
}

impl Limit {
    /// The stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "limit-timeout",
            Self::FirstByte => "limit-first-byte",
            Self::Idle => "limit-idle",
            Self::Memory => "limit-memory",
            Self::Processes => "limit-processes",
            Self::Disk => "limit-disk",
            Self::Body => "limit-body",
            Self::Concurrency => "limit-concurrency",
            Self::Capacity => "limit-capacity",
            Self::Quota => "limit-quota",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
