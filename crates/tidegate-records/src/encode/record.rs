//! A record as bytes: some seventy of them.

use std::sync::Arc;

use tidegate_core::record::{
    Cause, CauseKind, ColdStart, MAX_MESSAGE, Record, Times, TraceContext, Used,
};
use tidegate_core::{FunctionKey, InstanceId};

use super::{
    Head, Input, Malformed, OUTCOMES, cut, outcome_number, put_item, put_number, put_text,
};

/// Longest name of a trigger or event that is kept, in bytes: ids of events may be long, and are theirs to choose.
const MAX_NAME: usize = 256;
/// Longest name of a revision that is kept, in bytes; ours are far shorter.
const MAX_REVISION: usize = 256;

const HAS_TRACE: u16 = 1;
const TRACE_SAMPLED: u16 = 1 << 1;
const HAS_COLD: u16 = 1 << 2;
const HAS_MESSAGE: u16 = 1 << 3;
const HAS_STATUS: u16 = 1 << 4;
const HAS_INSTANCE: u16 = 1 << 5;
const USED_SHARED: u16 = 1 << 6;
const USED_ALONE: u16 = 1 << 7;
const HAS_ATTEMPT: u16 = 1 << 8;
/// Four bits of the flags are the kind of the cause.
const KIND_SHIFT: u32 = 12;

fn flags(record: &Record) -> u16 {
    let mut flags = (record.cause.kind as u16) << KIND_SHIFT;
    let mut set = |condition: bool, bit: u16| {
        if condition {
            flags |= bit;
        }
    };
    set(record.trace.is_some(), HAS_TRACE);
    set(
        record.trace.is_some_and(|trace| trace.sampled),
        TRACE_SAMPLED,
    );
    set(record.times.cold.is_some(), HAS_COLD);
    set(record.message.is_some(), HAS_MESSAGE);
    set(record.status.is_some(), HAS_STATUS);
    set(record.instance.is_some(), HAS_INSTANCE);
    set(record.used == Used::Shared, USED_SHARED);
    set(matches!(record.used, Used::Alone { .. }), USED_ALONE);
    set(record.cause.attempt != 0, HAS_ATTEMPT);
    flags
}

/// Appends a record that belongs to the function with this number.
pub(crate) fn put_record(out: &mut Vec<u8>, function: u64, record: &Record) {
    let head = Head {
        function,
        time_us: record.received_us,
        id: Some(record.id),
        outcome: outcome_number(record.outcome),
        parent: record.cause.parent,
        name: record.cause.name.as_deref().map(|name| cut(name, MAX_NAME)),
    };
    put_item(out, &head, |out| {
        out.extend_from_slice(&flags(record).to_le_bytes());
        put_text(out, cut(&record.revision, MAX_REVISION));
        put_number(out, record.times.queue_us);
        put_number(out, record.times.run_us);
        put_number(out, record.bytes_in);
        put_number(out, record.bytes_out);
        put_number(out, record.memory_limit);
        if let Some(trace) = record.trace {
            out.extend_from_slice(&trace.trace.to_le_bytes());
            out.extend_from_slice(&trace.parent.to_le_bytes());
            out.extend_from_slice(&trace.span.to_le_bytes());
        }
        if let Some(cold) = record.times.cold {
            put_number(out, cold.sandbox_us);
            put_number(out, cold.runtime_us);
            put_number(out, cold.load_us);
        }
        if let Some(message) = &record.message {
            put_text(out, cut(message, MAX_MESSAGE));
        }
        if let Some(status) = record.status {
            out.extend_from_slice(&status.to_le_bytes());
        }
        if let Some(instance) = record.instance {
            put_number(out, instance.0);
        }
        if let Used::Alone {
            cpu_us,
            memory_peak,
        } = record.used
        {
            put_number(out, cpu_us);
            put_number(out, memory_peak);
        }
        if record.cause.attempt != 0 {
            put_number(out, record.cause.attempt.into());
        }
    });
}

/// Reads what follows a record's head.
pub(crate) fn decode_record(
    head: &Head<'_>,
    mut body: Input<'_>,
    function: &Arc<FunctionKey>,
) -> Result<Record, Malformed> {
    let flags = body.u16()?;
    let has = |bit: u16| flags & bit != 0;
    let kind = *CauseKind::ALL
        .get(usize::from(flags >> KIND_SHIFT))
        .ok_or(Malformed("kind of cause"))?;
    let outcome = *OUTCOMES
        .get(usize::from(head.outcome))
        .ok_or(Malformed("outcome"))?;
    let revision = Arc::from(body.text()?);
    let (queue_us, run_us) = (body.number()?, body.number()?);
    let (bytes_in, bytes_out) = (body.number()?, body.number()?);
    let memory_limit = body.number()?;
    let trace = has(HAS_TRACE).then(|| trace(&mut body, has(TRACE_SAMPLED)));
    let cold = has(HAS_COLD).then(|| cold(&mut body));
    let (trace, cold) = (trace.transpose()?, cold.transpose()?);
    let message = has(HAS_MESSAGE).then(|| body.text()).transpose()?;
    let status = has(HAS_STATUS).then(|| body.u16()).transpose()?;
    let instance = has(HAS_INSTANCE).then(|| body.number()).transpose()?;
    let used = if has(USED_ALONE) {
        Used::Alone {
            cpu_us: body.number()?,
            memory_peak: body.number()?,
        }
    } else if has(USED_SHARED) {
        Used::Shared
    } else {
        Used::Unmeasured
    };
    let attempt = if has(HAS_ATTEMPT) { body.number()? } else { 0 };
    Ok(Record {
        id: head.id.ok_or(Malformed("record's id"))?,
        cause: Cause {
            kind,
            parent: head.parent,
            name: head.name.map(Arc::from),
            attempt: u32::try_from(attempt).map_err(|_| Malformed("attempt"))?,
        },
        trace,
        function: function.clone(),
        revision,
        received_us: head.time_us,
        times: Times {
            queue_us,
            cold,
            run_us,
        },
        outcome,
        message: message.map(Box::from),
        status,
        bytes_in,
        bytes_out,
        used,
        memory_limit,
        instance: instance.map(InstanceId),
    })
}

fn trace(body: &mut Input<'_>, sampled: bool) -> Result<TraceContext, Malformed> {
    Ok(TraceContext {
        trace: body.u128()?,
        parent: body.u64()?,
        span: body.u64()?,
        sampled,
    })
}

fn cold(body: &mut Input<'_>) -> Result<ColdStart, Malformed> {
    Ok(ColdStart {
        sandbox_us: body.number()?,
        runtime_us: body.number()?,
        load_us: body.number()?,
    })
}
