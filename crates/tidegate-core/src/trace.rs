//! Where a call stands in a distributed trace, as W3C's Trace Context has it: reading and writing `traceparent`.
//!
//! What does not read as the recommendation wants it is as if nothing had been sent. Nothing else is decided here: what
//! comes with it (`tracestate`) is somebody else's text, passed on or dropped together with it.

use std::num::NonZeroU32;

use crate::record::TraceContext;
use crate::{FunctionKey, InvocationId};

/// Length of a `traceparent` of version 0: `00-<32 hex>-<16 hex>-<2 hex>`.
pub const TRACEPARENT_LEN: usize = 55;

/// The version that is written.
const VERSION: u8 = 0;

/// A version that there cannot be.
const INVALID_VERSION: u8 = 0xff;

/// The flag of a trace that its beginner wants kept.
const SAMPLED: u8 = 1;

/// How many of the calls that come without a place in a trace are to be kept in the trace that they begin: one in so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling(pub NonZeroU32);

/// Something that belongs to a trace and leaves no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub kind: StepKind,
    /// The queued call that it was done for.
    pub id: InvocationId,
    /// The function of that call.
    pub function: FunctionKey,
    /// Its own place.
    pub trace: TraceContext,
    /// When it began, in microseconds since the Unix epoch.
    pub began_us: u64,
    /// When it had ended, in microseconds since the Unix epoch.
    pub ended_us: u64,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What a [`Step`] was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A call was accepted to be made later.
    Accepted,
    /// Somebody was told of an end, by address.
    Told {
        /// The host of the address.
        host: String,
        /// Which attempt it was, counted from 1.
        attempt: u32,
    },
}

impl TraceContext {
    /// The place of an invocation that nothing traced led to: it begins a trace, of its own number. One that is not to be
    /// kept says so to whatever follows, so that a trace is kept whole or not at all.
    #[must_use]
    pub const fn begin(id: InvocationId, sampling: Sampling) -> Self {
        Self {
            trace: id.as_u128(),
            parent: 0,
            span: span_of(id),
            // The low bits of an id are random.
            sampled: id.as_u128().is_multiple_of(sampling.0.get() as u128),
        }
    }

    /// The place of an invocation below the span that a `traceparent` names. `None` where it does not read as one.
    #[must_use]
    pub fn from_traceparent(value: &[u8], id: InvocationId) -> Option<Self> {
        let (head, rest) = value.split_at_checked(TRACEPARENT_LEN)?;
        let dashes = head[2] == b'-' && head[35] == b'-' && head[52] == b'-';
        let version = hex(&head[..2]).filter(|v| *v != u128::from(INVALID_VERSION))?;
        // Later versions may have more after another dash; this one has not.
        let whole = match rest {
            [] => true,
            [b'-', ..] => version > u128::from(VERSION),
            _ => false,
        };
        let trace = hex(&head[3..35]).filter(|trace| *trace != 0)?;
        let parent = hex(&head[36..52]).filter(|parent| *parent != 0)? as u64;
        let flags = hex(&head[53..])? as u8;
        (dashes && whole).then_some(Self {
            trace,
            parent,
            span: span_of(id),
            sampled: flags & SAMPLED != 0,
        })
    }

    /// The place of an invocation that this one led to.
    #[must_use]
    pub const fn child(self, id: InvocationId) -> Self {
        Self {
            parent: self.span,
            span: span_of(id),
            ..self
        }
    }

    /// What the code of this invocation is told.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!(
            "{VERSION:02x}-{:032x}-{:016x}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        )
    }
}

/// The span of an invocation: the half of its id that is random, whose first bit is always set, so that it is never zero.
#[must_use]
pub const fn span_of(id: InvocationId) -> u64 {
    id.as_u128() as u64 | 1 << 63
}

/// Lower-case digits only, as the recommendation has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: InvocationId = InvocationId::from_u128(7);

    fn read(text: &str) -> Option<TraceContext> {
        TraceContext::from_traceparent(text.as_bytes(), ID)
    }

    #[test]
    fn what_is_written_is_read_as_a_child_of_it() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = read(given).unwrap();
        assert!(context.sampled);
        assert_eq!(context.parent, 0xb7ad_6b71_6920_3331);
        let told = context.traceparent();
        assert_eq!(
            told,
            "00-0af7651916cd43dd8448eb211c80319c-8000000000000007-01"
        );
        let other = InvocationId::from_u128(8);
        let child = TraceContext::from_traceparent(told.as_bytes(), other).unwrap();
        assert_eq!(child, context.child(other));
        assert_eq!(child.trace, context.trace);
    }

    #[test]
    fn a_trace_begins_with_no_parent_and_is_kept_or_not_as_a_whole() {
        let half = Sampling(NonZeroU32::new(2).unwrap());
        let kept = TraceContext::begin(InvocationId::from_u128(8), half);
        assert!(kept.sampled && kept.parent == 0 && kept.trace == 8);
        let left = TraceContext::begin(InvocationId::from_u128(9), half);
        assert!(!left.sampled && !left.child(ID).sampled);
        let read = read(&left.traceparent()).unwrap();
        assert_eq!(read, left.child(ID));
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let good = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        for (text, reads) in [
            (format!("00-{good}-00"), true),
            (format!("00-{good}-ff"), true),
            (format!("cc-{good}-01"), true),
            (format!("cc-{good}-01-what-the-future-brings"), true),
            (format!("cc-{good}-01.what"), false),
            (format!("00-{good}-01-more"), false),
            (format!("ff-{good}-01"), false),
            (format!("00-{good}-1"), false),
            (format!("00-{good}-0x"), false),
            (format!("00-{}-01", good.to_uppercase()), false),
            (format!("00_{good}-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
            (
                format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16)),
                false,
            ),
            (String::new(), false),
        ] {
            assert_eq!(read(&text).is_some(), reads, "{text:?}");
        }
    }
}
