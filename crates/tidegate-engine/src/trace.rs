//! W3C's trace context on the heads of requests.
//!
//! A call that comes with a place in a trace gets a span of its own in it, and the code is told that span as its parent. A
//! call without one begins a trace where the server exports them; else code that wants one begins it, as it would
//! anywhere. What does not read is dropped, together with what came beside it, so that nobody further on takes it for a
//! place. Answers carry nothing: the recommendation has these headers on requests alone.

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_core::InvocationId;
use tidegate_core::record::TraceContext;
use tidegate_core::trace::Sampling;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where an invocation stands: as its request says, else below `led`, the place of what led to it, else, if any begin one
/// here, at a trace's begin. The request then says so to the code.
pub fn place(
    headers: &mut HeaderMap,
    id: InvocationId,
    led: Option<TraceContext>,
    begin: Option<Sampling>,
) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (first, second) = (given.next(), given.next());
    let is_given = first.is_some();
    // Two of them are none.
    let read = first
        .filter(|_| second.is_none())
        .and_then(|value| TraceContext::from_traceparent(value.as_bytes(), id));
    let place = read
        .or_else(|| led.map(|led| led.child(id)))
        .or_else(|| begin.map(|sampling| TraceContext::begin(id, sampling)));
    if read.is_none() && (is_given || headers.contains_key(TRACESTATE)) {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
    if let Some(place) = place
        && let Ok(value) = HeaderValue::try_from(place.traceparent())
    {
        headers.insert(TRACEPARENT, value);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const ID: InvocationId = InvocationId::from_u128(7);

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn code_is_told_its_own_span_and_the_state_as_it_came() {
        let mut head = headers(&[("traceparent", GIVEN), ("tracestate", "a=b,c=d")]);
        let place = place(&mut head, ID, None, None).unwrap();
        assert_eq!(head["traceparent"], place.traceparent());
        assert_eq!(head["tracestate"], "a=b,c=d");
    }

    #[test]
    fn what_does_not_read_goes_and_begins_nothing() {
        for bad in [
            &[("traceparent", "00-nonsense"), ("tracestate", "a=b")][..],
            &[("traceparent", GIVEN), ("traceparent", GIVEN)],
            &[("tracestate", "a=b")],
        ] {
            let mut head = headers(bad);
            assert_eq!(place(&mut head, ID, None, None), None);
            assert!(head.is_empty(), "{head:?}");
        }
    }

    #[test]
    fn what_nothing_led_to_begins_a_trace_where_any_are_exported() {
        let all = Sampling(std::num::NonZeroU32::MIN);
        let mut head = headers(&[("tracestate", "a=b")]);
        let begun = place(&mut head, ID, None, Some(all)).unwrap();
        assert_eq!((begun.trace, begun.parent), (7, 0));
        assert_eq!(head["traceparent"], begun.traceparent());
        assert!(!head.contains_key("tracestate"));

        let mut head = headers(&[("traceparent", GIVEN)]);
        let found = place(&mut head, ID, None, Some(all)).unwrap();
        assert_ne!(found.trace, 7);
    }

    #[test]
    fn what_led_to_a_call_counts_where_the_request_says_nothing() {
        let led = TraceContext::from_traceparent(GIVEN.as_bytes(), InvocationId::from_u128(1));
        let mut head = headers(&[]);
        let found = place(&mut head, ID, led, None).unwrap();
        assert_eq!(found.parent, led.unwrap().span);
        assert!(head.contains_key("traceparent"));

        let mut head = headers(&[("traceparent", GIVEN)]);
        let found = place(&mut head, ID, led, None).unwrap();
        assert_eq!(found.parent, 0xb7ad_6b71_6920_3331);
    }
}
