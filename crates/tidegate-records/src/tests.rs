//! What the tests in this crate share.

use std::sync::Arc;

use proptest::prelude::*;
use tidegate_core::record::{Cause, CauseKind, ColdStart, Record, Times, TraceContext, Used};
use tidegate_core::{FunctionKey, InstanceId, InvocationId, Outcome};

use crate::encode::{
    Batch, Entry, Kind, OUTCOMES, decode_line, decode_record, encode, put_line, put_record,
};
use crate::line::{Line, Stream};
use crate::usage::Totals;

pub(crate) fn function(namespace: &str, name: &str) -> Arc<FunctionKey> {
    Arc::new(FunctionKey {
        namespace: namespace.into(),
        group: "".into(),
        name: name.into(),
    })
}

/// A call that went well, and whose id was made this many milliseconds after the epoch.
pub(crate) fn record(ms: u64) -> Record {
    Record {
        id: InvocationId::from_u128(u128::from(ms) << 80 | 7),
        cause: Cause::default(),
        trace: None,
        function: function("default", "hello"),
        revision: "hello-1".into(),
        received_us: ms * 1000,
        times: Times {
            queue_us: 20,
            cold: None,
            run_us: 1234,
        },
        outcome: Outcome::Ok,
        message: None,
        status: Some(200),
        bytes_in: 0,
        bytes_out: 12,
        used: Used::Shared,
        memory_limit: 128 << 20,
        instance: Some(InstanceId(3)),
    }
}

prop_compose! {
    fn causes()(kind in 0..CauseKind::ALL.len(), parent: Option<u128>, name in prop::option::of(".{0,40}"), attempt: u32) -> Cause {
        Cause {
            kind: CauseKind::ALL[kind],
            parent: parent.map(InvocationId::from_u128),
            name: name.map(Arc::from),
            attempt,
        }
    }
}

prop_compose! {
    fn times()(queue_us: u64, run_us: u64, cold: Option<(u64, u64, u64)>) -> Times {
        let cold = cold.map(|(sandbox_us, runtime_us, load_us)| ColdStart { sandbox_us, runtime_us, load_us });
        Times { queue_us, cold, run_us }
    }
}

fn used() -> impl Strategy<Value = Used> {
    prop_oneof![
        Just(Used::Unmeasured),
        Just(Used::Shared),
        any::<(u64, u64)>().prop_map(|(cpu_us, memory_peak)| Used::Alone {
            cpu_us,
            memory_peak
        }),
    ]
}

prop_compose! {
    fn records()(
        id: u128,
        cause in causes(),
        trace: Option<(u128, u64, u64, bool)>,
        revision in ".{0,30}",
        received_us: u64,
        times in times(),
        outcome in 0..OUTCOMES.len(),
        message in prop::option::of(".{0,80}"),
        numbers: (u64, u64, u64),
        status: Option<u16>,
        used in used(),
        instance: Option<u64>,
    ) -> Record {
        Record {
            id: InvocationId::from_u128(id),
            cause,
            trace: trace.map(|(trace, parent, span, sampled)| TraceContext { trace, parent, span, sampled }),
            function: function("ns", "f"),
            revision: revision.into(),
            received_us,
            times,
            outcome: OUTCOMES[outcome],
            message: message.map(Box::from),
            status,
            bytes_in: numbers.0,
            bytes_out: numbers.1,
            used,
            memory_limit: numbers.2,
            instance: instance.map(InstanceId),
        }
    }
}

fn batch(kind: Kind, items: &[u8]) -> Vec<u8> {
    let entry = Entry {
        number: 5,
        key: function("ns", "f"),
        hours: vec![(480_000, Totals::default())],
    };
    let mut out = Vec::new();
    encode(&mut out, kind, &[entry], &[items]);
    out
}

fn decode_all(bytes: &[u8]) -> Option<Vec<Record>> {
    let batch = Batch::decode(bytes, Kind::Records).ok()?;
    let items = batch.items().map(|item| {
        let (head, body) = item.ok()?;
        decode_record(&head, body, batch.function(head.function).ok()?).ok()
    });
    items.collect()
}

proptest! {
    #[test]
    fn records_round_trip(records in prop::collection::vec(records(), 0..6)) {
        let mut items = Vec::new();
        for record in &records {
            put_record(&mut items, 5, record);
        }
        let bytes = batch(Kind::Records, &items);
        prop_assert_eq!(decode_all(&bytes), Some(records));
        // Cut anywhere, it is read to the cut or refused, and nothing panics.
        for length in 0..bytes.len() {
            let _ = decode_all(&bytes[..length]);
        }
        prop_assert!(Batch::decode(&bytes, Kind::Lines).is_err());
    }

    #[test]
    fn lines_round_trip(id: Option<u128>, time_us: u64, instance: u64, stream in 0..3_usize, text in ".{0,200}") {
        let line = Line {
            function: function("ns", "f"),
            invocation: id.map(InvocationId::from_u128),
            instance: InstanceId(instance),
            stream: Stream::ALL[stream],
            time_us,
            text: text.into(),
        };
        let mut items = Vec::new();
        put_line(&mut items, 5, &line);
        let bytes = batch(Kind::Lines, &items);
        let batch = Batch::decode(&bytes, Kind::Lines).unwrap();
        let (head, body) = batch.items().next().unwrap().unwrap();
        prop_assert_eq!(decode_line(&head, body, &line.function), Ok(line));
    }

    #[test]
    fn a_flipped_bit_is_read_as_something_or_refused(record in records(), at: prop::sample::Index, bit in 0..8_u32) {
        let mut items = Vec::new();
        put_record(&mut items, 5, &record);
        let mut bytes = batch(Kind::Records, &items);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let _ = decode_all(&bytes);
    }

    #[test]
    fn any_bytes_are_read_as_something_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode_all(&bytes);
        let _ = decode_all(&[&[1, 1, 1, 5, 0, 0, 0, 0], &*bytes].concat());
    }
}

#[test]
fn texts_are_cut_to_what_fits() {
    let mut long = record(1);
    let text = "é".repeat(100_000);
    long.revision = text.as_str().into();
    long.message = Some(text.as_str().into());
    long.cause.name = Some(text.as_str().into());
    let mut items = Vec::new();
    put_record(&mut items, 5, &long);
    let read = decode_all(&batch(Kind::Records, &items)).unwrap();
    assert!(read[0].message.as_ref().unwrap().len() <= tidegate_core::record::MAX_MESSAGE);
    assert!(text.starts_with(&*read[0].revision));
}

#[test]
fn a_warm_call_takes_few_bytes() {
    let mut items = Vec::new();
    put_record(&mut items, 5, &record(1_700_000_000_000));
    assert!(items.len() <= 64, "{}", items.len());
}
