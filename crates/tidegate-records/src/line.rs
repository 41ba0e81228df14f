//! What a function printed.

use std::sync::Arc;

use tidegate_core::{FunctionKey, InstanceId, InvocationId};

/// Longest [`Line::text`] that is kept, in bytes; what is longer is cut. A line is read by people, and must fit an item.
pub const MAX_LINE: usize = 16 * 1024;

/// Where a function printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Standard output.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
    /// A message of the platform's about the instance.
    System = 2,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub function: Arc<FunctionKey>,
    /// During which invocation, where that is known exactly.
    pub invocation: Option<InvocationId>,
    /// Where it ran.
    pub instance: InstanceId,
    /// Where to.
    pub stream: Stream,
    /// When it arrived, in microseconds since the Unix epoch.
    pub time_us: u64,
    /// The text, without its line end; at most [`MAX_LINE`] bytes of it are kept.
    pub text: Arc<str>,
}

// === impl Stream ===

impl Stream {
    /// All of them, in the order of their numbers in what is written.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::System];

    /// The stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}
