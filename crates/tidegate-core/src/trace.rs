//! Where a call stands in a distributed trace, as W3C's Trace Context has it: reading and writing `traceparent`.
//!
//! What does not read as the recommendation wants it is as if nothing had been sent. Nothing else is decided here: what
//! comes with it (`tracestate`) is somebody else's text, passed on or dropped together with it.

use crate::InvocationId;
use crate::record::TraceContext;

/// Length of a `traceparent` of version 0: `00-<32 hex>-<16 hex>-<2 hex>`.
pub const TRACEPARENT_LEN: usize = 55;

/// The version that is written.
const VERSION: u8 = 0;

/// A version that there cannot be.
const INVALID_VERSION: u8 = 0xff;

/// The flag of a trace that its beginner wants kept.
const SAMPLED: u8 = 1;

impl TraceContext {
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
const fn span_of(id: InvocationId) -> u64 {
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
