//! What is kept of an invocation: what led to it, how it ended, how long its parts took, and what it used.
//!
//! A [`Record`] is a value without a home. The engine makes one when a call ends, whatever keeps records writes it, and a
//! dialect renders it its own way. Times are in microseconds: that is what a warm call is measured in.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use crate::{FunctionKey, InstanceId, InvocationId, Limit, Outcome};

/// What led to an invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Of which kind.
    pub kind: CauseKind,
    /// The invocation that asked for this one: a function's that called another, the one that failed for a retry's
    /// destination, the queued one for each of its attempts.
    pub parent: Option<InvocationId>,
    /// The trigger's name, or the event's id; absent where somebody simply called.
    pub name: Option<Arc<str>>,
    /// Which attempt of a queued invocation this is, counted from 1; 0 for one that was not queued.
    pub attempt: u32,
}

/// The kinds of [`Cause`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CauseKind {
    /// Somebody outside called and waits for the answer.
    #[default]
    Call,
    /// Another function called.
    Function,
    /// An invocation that was accepted to run later.
    Queue,
    /// A schedule's tick.
    Schedule,
    /// An event of a source other than a schedule.
    Event,
    /// The destination of another invocation that succeeded or failed.
    Destination,
}

/// A place in a distributed trace, as W3C's `traceparent` carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, never zero.
    pub trace: u128,
    /// The span that called; zero where the trace begins here.
    pub parent: u64,
    /// The span of this invocation, never zero.
    pub span: u64,
    /// Whether whoever began the trace wants it kept.
    pub sampled: bool,
}

/// The parts of a start, where a call waited for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdStart {
    /// Namespaces, mounts, cgroup; microseconds.
    pub sandbox_us: u64,
    /// Process or fork, until its first instruction of ours; microseconds.
    pub runtime_us: u64,
    /// Loading the code, until it could be called; microseconds.
    pub load_us: u64,
}

/// How long the parts of an invocation took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From its arrival, or from when it was due, until it had a slot. Holds the start, where there was one.
    pub queue_us: u64,
    /// The start that it waited for; absent for a warm call.
    pub cold: Option<ColdStart>,
    /// From the slot until the last byte had left the instance.
    pub run_us: u64,
}

/// What an invocation used, as far as it can be told from its neighbours on the same instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Used {
    /// Nothing measures it here, or it never reached an instance.
    #[default]
    Unmeasured,
    /// Other invocations ran on the instance between the two looks at its counters.
    Shared,
    /// It had the instance for itself.
    Alone {
        /// Processor time in microseconds.
        cpu_us: u64,
        /// The instance's highest memory so far, in bytes.
        memory_peak: u64,
    },
}

/// Whether a record may be given up under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Never given up: queued invocations, and those that failed. Not those that were turned away at the door: whoever
    /// called knows, and there may be any number of them just when there is most else to do.
    Kept,
    /// May be given up under load, and is counted then.
    Sampled,
}

/// Which invocations of a function leave a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// All of them.
    #[default]
    All,
    /// Those that did not end well.
    Errors,
    /// One in so many, and those that did not end well.
    Sampled(NonZeroU32),
    /// None. They still count towards usage.
    None,
}

/// What is kept of one invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one.
    pub id: InvocationId,
    /// What led to it.
    pub cause: Cause,
    /// Its place in a distributed trace; absent where nobody asked for one.
    pub trace: Option<TraceContext>,
    /// What was called.
    pub function: Arc<FunctionKey>,
    /// The revision that answered, or was to; empty where none was chosen.
    pub revision: Arc<str>,
    /// When it arrived, in microseconds since the Unix epoch.
    pub received_us: u64,
    /// How long its parts took.
    pub times: Times,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not end well, for people; at most [`MAX_MESSAGE`] bytes.
    pub message: Option<Box<str>>,
    /// The status of the code's answer, where there was one.
    pub status: Option<u16>,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// What it used.
    pub used: Used,
    /// The memory that its instance may use, in bytes: what is billed.
    pub memory_limit: u64,
    /// Where it ran; absent where it ran nowhere.
    pub instance: Option<InstanceId>,
}

/// Longest [`Record::message`] in bytes: a sentence or two, so that a record stays small whatever a function says.
pub const MAX_MESSAGE: usize = 512;

// === impl CauseKind ===

impl CauseKind {
    /// All of them, in the order of their numbers in what is written.
    pub const ALL: [Self; 6] = [
        Self::Call,
        Self::Function,
        Self::Queue,
        Self::Schedule,
        Self::Event,
        Self::Destination,
    ];

    /// The stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Function => "function",
            Self::Queue => "queue",
            Self::Schedule => "schedule",
            Self::Event => "event",
            Self::Destination => "destination",
        }
    }
}

// === impl Level ===

impl Level {
    /// Whether an invocation that ended so leaves a record. The id decides about sampling, so that a retry of the same
    /// question gets the same answer.
    #[must_use]
    pub fn keeps(self, outcome: Outcome, id: InvocationId) -> bool {
        match self {
            Self::All => true,
            Self::Errors => outcome != Outcome::Ok,
            // The low bits of an id are random.
            Self::Sampled(n) => {
                outcome != Outcome::Ok || id.as_u128().is_multiple_of(n.get().into())
            }
            Self::None => false,
        }
    }
}

/// The text says nothing of which invocations leave a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no level of records: choose \"all\", \"errors\", \"sampled:100\" for one in a hundred, or \"none\""
)]
pub struct LevelError(String);

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let sampled = |n: &str| n.parse().ok().map(Self::Sampled);
        match text {
            "all" => Ok(Self::All),
            "errors" => Ok(Self::Errors),
            "none" => Ok(Self::None),
            _ => text
                .strip_prefix("sampled:")
                .and_then(sampled)
                .ok_or_else(|| LevelError(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Errors => f.write_str("errors"),
            Self::Sampled(n) => write!(f, "sampled:{n}"),
            Self::None => f.write_str("none"),
        }
    }
}

// === impl Record ===

impl Record {
    /// Whether it may be given up under load.
    #[must_use]
    pub fn class(&self) -> Class {
        match (self.cause.kind, self.outcome) {
            (
                CauseKind::Call | CauseKind::Function,
                Outcome::Ok
                | Outcome::Application
                | Outcome::Limit(Limit::Concurrency | Limit::Capacity | Limit::Quota),
            ) => Class::Sampled,
            _ => Class::Kept,
        }
    }

    /// Whether somebody who waited for an answer was turned away at the door: there was no room, or a quota is used up.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        let no_room = matches!(
            self.outcome,
            Outcome::Limit(Limit::Concurrency | Limit::Capacity | Limit::Quota)
        );
        no_room && self.instance.is_none() && self.class() == Class::Sampled
    }

    /// The time from its arrival to its end, in microseconds.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.times.queue_us.saturating_add(self.times.run_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_as_it_is_written() {
        for text in ["all", "errors", "sampled:100", "none"] {
            assert_eq!(text.parse::<Level>().unwrap().to_string(), text);
        }
        for bad in ["", "some", "sampled", "sampled:0", "sampled:-1", "ALL"] {
            assert!(bad.parse::<Level>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_level_decides_by_outcome_and_id() {
        let id = InvocationId::from_u128;
        let tenth = Level::Sampled(NonZeroU32::new(10).unwrap());
        let kept = (0..1000).filter(|n| tenth.keeps(Outcome::Ok, id(*n)));
        assert_eq!(kept.count(), 100);
        assert!(tenth.keeps(Outcome::Function, id(1)));
        assert!(Level::Errors.keeps(Outcome::Application, id(1)));
        assert!(!Level::Errors.keeps(Outcome::Ok, id(0)));
        assert!(!Level::None.keeps(Outcome::Platform, id(0)));
    }
}
