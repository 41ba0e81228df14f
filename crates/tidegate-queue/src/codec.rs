//! What a row holds, as bytes under sums.
//!
//! A row has three values of ours. The *state* is what the rules read and change: of one size, so that SQLite can change it
//! in place. The *head* is what was submitted without the body, and never changes. The *body* is the body. State and head
//! end with the first bytes of their SHA-256, which the head's also binds to the id; the head holds that of the body. A
//! flipped bit in any of the three is found when it is read, and a row that belongs elsewhere is too.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::queue::{Answers, Ended, Item, Policy, Progress, Reason, Retried, Seq, Spread};
use tidegate_core::record::{Cause, CauseKind, TraceContext};
use tidegate_core::{FunctionKey, InvocationId, Outcome};
use tidegate_store::Digest;
use tidegate_store::sqlite::sum_parts;

use crate::bytes::{In, Out};
use crate::submission::{
    Answer, Body, Callback, Destination, Ending, Finished, Payload, Spooled, Submission, Target,
};

/// Bytes of a sum that are kept. An accident passes eight bytes once in 10¹⁹ times; nobody forges rows of a file that is
/// readable to the server alone.
const SUM: usize = 8;
/// The first byte of what is written today.
const VERSION: u8 = 1;

fn seal(domain: &str, mut out: Out, beside: &[u8]) -> Vec<u8> {
    let sum = sum_parts(domain, &[&out.0, beside]);
    out.0.extend_from_slice(&sum[..SUM]);
    out.0
}

fn open<'a>(domain: &str, sealed: &'a [u8], beside: &[u8]) -> Option<In<'a>> {
    let (content, stored) = sealed.split_at_checked(sealed.len().checked_sub(SUM)?)?;
    let sum = sum_parts(domain, &[content, beside]);
    let mut content = In(content);
    (sum[..SUM] == *stored && content.u8()? == VERSION).then_some(content)
}

// === the state ===

const STATE: &str = "tidegate queue state\n";

/// What of an item is read at each step of its life.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) item: Item,
    /// In milliseconds since the Unix epoch.
    pub(crate) accepted_ms: u64,
    pub(crate) keep_result_ms: u64,
    /// Whether its body is a blob.
    pub(crate) spooled: bool,
}

pub(crate) fn encode_state(id: InvocationId, state: &State) -> Vec<u8> {
    let item = &state.item;
    let mut out = Out(Vec::with_capacity(112));
    out.u8(VERSION);
    out.u64(item.seq.cast_unsigned());
    out.u64(state.accepted_ms);
    out.u64(state.keep_result_ms);
    out.u8(u8::from(state.spooled));
    out.u64(item.due_ms);
    out.u8(u8::from(item.behind));
    out.u64(item.deadline_ms);
    out.u8(u8::from(item.key.is_some()));
    out.u64(item.key.unwrap_or(0).cast_unsigned());
    let progress = item.progress;
    out.u32(progress.tries);
    out.u32(progress.failures);
    out.u32(progress.setbacks);
    let policy = item.policy;
    out.u32(policy.retries);
    out.u64(policy.min_delay_ms);
    out.u64(policy.max_delay_ms);
    out.u8(match policy.spread {
        Spread::Full => 0,
        Spread::Equal => 1,
        Spread::Exponential => 2,
        Spread::None => 3,
    });
    out.u8(match policy.retried.answers {
        Answers::Never => 0,
        Answers::Unavailable => 1,
        Answers::Server => 2,
        Answers::All => 3,
    });
    out.u8(u8::from(policy.retried.failures));
    out.u8(u8::from(policy.retried.limits));
    out.u64(policy.max_age_ms);
    seal(STATE, out, &id.as_u128().to_be_bytes())
}

pub(crate) fn decode_state(id: InvocationId, seq: Seq, bytes: &[u8]) -> Option<State> {
    let mut input = open(STATE, bytes, &id.as_u128().to_be_bytes())?;
    let found = input.u64()?.cast_signed();
    let accepted_ms = input.u64()?;
    let keep_result_ms = input.u64()?;
    let spooled = input.u8()? == 1;
    let due_ms = input.u64()?;
    let behind = input.u8()? == 1;
    let deadline_ms = input.u64()?;
    let has_key = input.u8()? == 1;
    let key = input.u64()?.cast_signed();
    let progress = Progress {
        tries: input.u32()?,
        failures: input.u32()?,
        setbacks: input.u32()?,
    };
    let policy = Policy {
        retries: input.u32()?,
        min_delay_ms: input.u64()?,
        max_delay_ms: input.u64()?,
        spread: match input.u8()? {
            0 => Spread::Full,
            1 => Spread::Equal,
            2 => Spread::Exponential,
            3 => Spread::None,
            _ => return None,
        },
        retried: Retried {
            answers: match input.u8()? {
                0 => Answers::Never,
                1 => Answers::Unavailable,
                2 => Answers::Server,
                3 => Answers::All,
                _ => return None,
            },
            failures: input.u8()? == 1,
            limits: input.u8()? == 1,
        },
        max_age_ms: input.u64()?,
    };
    let item = Item {
        seq,
        due_ms,
        behind,
        deadline_ms,
        key: has_key.then_some(key),
        progress,
        policy,
    };
    (found == seq).then_some(State {
        item,
        accepted_ms,
        keep_result_ms,
        spooled,
    })
}

// === the head and the body ===

const HEAD: &str = "tidegate queue head\n";
const BODY: &str = "tidegate queue body\n";

/// Everything but the body, under a sum that binds it to the body and the id.
pub(crate) fn encode_head(submission: &Submission) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(512));
    out.u8(VERSION);
    key(&mut out, &submission.function);
    match &submission.target {
        Target::Function => out.u8(0),
        Target::Url(url) => {
            out.u8(1);
            out.text(url);
        }
    }
    out.text(&submission.door);
    let request = &submission.request;
    out.text(&request.method);
    out.text(&request.path_and_query);
    out.pairs(&request.headers);
    match &request.body {
        Body::Inline(bytes) => {
            out.u8(0);
            out.0
                .extend_from_slice(&sum_parts(BODY, &[bytes.as_ref()])[..SUM]);
        }
        Body::Spooled(spooled) => {
            out.u8(1);
            out.0.extend_from_slice(spooled.digest.as_bytes());
            out.u64(spooled.bytes);
        }
    }
    let cause = &submission.cause;
    out.u8(cause_number(cause.kind));
    out.option(cause.parent, |out, id| out.u128(id.as_u128()));
    out.option(cause.name.as_deref(), Out::text);
    out.u32(cause.attempt);
    out.option(submission.trace, |out, trace| {
        out.u128(trace.trace);
        out.u64(trace.parent);
        out.u64(trace.span);
        out.u8(u8::from(trace.sampled));
    });
    out.u32(submission.depth);
    out.u64(submission.due_ms);
    out.option(submission.order_key.as_deref(), Out::text);
    out.option(submission.idempotency.as_deref(), Out::text);
    for end in [&submission.on_success, &submission.on_failure] {
        out.option(end.as_ref(), |out, destination| match destination {
            Destination::Function(function) => {
                out.u8(0);
                key(out, function);
            }
            Destination::Url(url) => {
                out.u8(1);
                out.text(url);
            }
        });
    }
    out.option(submission.callback.as_ref(), |out, callback| {
        out.text(&callback.url);
    });
    out.u64(submission.keep_result_ms);
    seal(HEAD, out, &submission.id.as_u128().to_be_bytes())
}

/// The submission of a row; the policy is in its state.
pub(crate) fn decode_head(
    id: InvocationId,
    policy: Policy,
    head: &[u8],
    body: Bytes,
) -> Result<Submission, &'static str> {
    let mut input = open(HEAD, head, &id.as_u128().to_be_bytes())
        .ok_or("the sum of its request does not fit")?;
    let submission = read_head(&mut input, id, policy, body);
    submission.ok_or("its request is not in a form that is known")?
}

type Read = Option<Result<Submission, &'static str>>;

fn read_head(input: &mut In<'_>, id: InvocationId, policy: Policy, body: Bytes) -> Read {
    let function = read_key(input)?;
    let target = match input.u8()? {
        0 => Target::Function,
        1 => Target::Url(input.string()?),
        _ => return None,
    };
    let door = input.string()?;
    let (method, path_and_query, headers) = (input.string()?, input.string()?, input.pairs()?);
    let body = match input.u8()? {
        0 => {
            let stored = input.array::<SUM>()?;
            if sum_parts(BODY, &[body.as_ref()])[..SUM] != stored {
                return Some(Err("the sum of its body does not fit"));
            }
            Body::Inline(body)
        }
        1 => Body::Spooled(Spooled {
            digest: digest(input)?,
            bytes: input.u64()?,
        }),
        _ => return None,
    };
    let cause = Cause {
        kind: *CauseKind::ALL.get(usize::from(input.u8()?))?,
        parent: input.option(In::u128)?.map(InvocationId::from_u128),
        name: input.option(In::text)?.map(Arc::from),
        attempt: input.u32()?,
    };
    let trace = input.option(|input| {
        Some(TraceContext {
            trace: input.u128()?,
            parent: input.u64()?,
            span: input.u64()?,
            sampled: input.u8()? == 1,
        })
    })?;
    let depth = input.u32()?;
    let due_ms = input.u64()?;
    let (order_key, idempotency) = (input.option(In::string)?, input.option(In::string)?);
    let (on_success, on_failure) = (input.option(destination)?, input.option(destination)?);
    let callback = input.option(In::string)?.map(|url| Callback { url });
    let keep_result_ms = input.u64()?;
    Some(Ok(Submission {
        id,
        function,
        target,
        door,
        request: Payload {
            method,
            path_and_query,
            headers,
            body,
        },
        cause,
        trace,
        depth,
        due_ms,
        policy,
        order_key,
        idempotency,
        on_success,
        on_failure,
        callback,
        keep_result_ms,
    }))
}

fn destination(input: &mut In<'_>) -> Option<Destination> {
    match input.u8()? {
        0 => read_key(input).map(Destination::Function),
        1 => input.string().map(Destination::Url),
        _ => None,
    }
}

fn digest(input: &mut In<'_>) -> Option<Digest> {
    Some(Digest::from_bytes(input.array::<32>()?))
}

fn key(out: &mut Out, key: &FunctionKey) {
    out.text(&key.namespace);
    out.text(&key.group);
    out.text(&key.name);
}

fn read_key(input: &mut In<'_>) -> Option<FunctionKey> {
    Some(FunctionKey {
        namespace: input.text()?.into(),
        group: input.text()?.into(),
        name: input.text()?.into(),
    })
}

fn cause_number(kind: CauseKind) -> u8 {
    CauseKind::ALL
        .iter()
        .position(|other| *other == kind)
        .and_then(|at| u8::try_from(at).ok())
        .unwrap_or(0)
}

// === ends ===

const FINISHED: &str = "tidegate queue end\n";

pub(crate) fn encode_finished(finished: &Finished) -> Vec<u8> {
    let mut out = Out(Vec::with_capacity(128));
    out.u8(VERSION);
    key(&mut out, &finished.function);
    match finished.ended {
        Ending::Done(ended) => {
            out.u8(0);
            out.u8(outcome_number(ended.outcome));
            out.option(ended.status, Out::u16);
        }
        Ending::Dead(reason) => match finished.last {
            None => {
                out.u8(1);
                out.u8(reason_number(reason));
            }
            Some(last) => {
                out.u8(3);
                out.u8(reason_number(reason));
                out.u8(outcome_number(last.outcome));
                out.option(last.status, Out::u16);
            }
        },
        Ending::Cancelled => out.u8(2),
    }
    out.option(finished.message.as_deref(), Out::text);
    out.u64(finished.ended_ms);
    out.u32(finished.tries);
    out.option(finished.answer.as_ref(), |out, answer| {
        out.u16(answer.status);
        out.pairs(&answer.headers);
        out.bytes(&answer.body);
    });
    seal(FINISHED, out, &finished.id.as_u128().to_be_bytes())
}

pub(crate) fn decode_finished(id: InvocationId, bytes: &[u8]) -> Option<Finished> {
    let mut input = open(FINISHED, bytes, &id.as_u128().to_be_bytes())?;
    let function = read_key(&mut input)?;
    let (ended, last) = match input.u8()? {
        0 => (Ending::Done(read_ended(&mut input)?), None),
        1 => (Ending::Dead(reason(input.u8()?)?), None),
        2 => (Ending::Cancelled, None),
        3 => {
            let reason = reason(input.u8()?)?;
            (Ending::Dead(reason), Some(read_ended(&mut input)?))
        }
        _ => return None,
    };
    Some(Finished {
        id,
        function,
        ended,
        message: input.option(In::string)?,
        ended_ms: input.u64()?,
        tries: input.u32()?,
        answer: input.option(|input| {
            Some(Answer {
                status: input.u16()?,
                headers: input.pairs()?,
                body: Bytes::copy_from_slice(input.bytes()?),
            })
        })?,
        last,
    })
}

fn read_ended(input: &mut In<'_>) -> Option<Ended> {
    Some(Ended {
        outcome: *OUTCOMES.get(usize::from(input.u8()?))?,
        status: input.option(In::u16)?,
        retry_after_ms: None,
    })
}

/// In the order of their numbers in what is written; new ones go to the end.
const OUTCOMES: [Outcome; 15] = Outcome::ALL;

fn outcome_number(outcome: Outcome) -> u8 {
    OUTCOMES
        .iter()
        .position(|other| *other == outcome)
        .and_then(|at| u8::try_from(at).ok())
        .unwrap_or(u8::MAX)
}

/// The number of a reason in what is written.
pub(crate) fn reason_number(reason: Reason) -> u8 {
    Reason::ALL
        .iter()
        .position(|other| *other == reason)
        .and_then(|at| u8::try_from(at).ok())
        .unwrap_or(u8::MAX)
}

pub(crate) fn reason(number: u8) -> Option<Reason> {
    Reason::ALL.get(usize::from(number)).copied()
}

// === numbers of words and keys ===

/// Of an idempotency key, within its function.
pub(crate) fn word_number(function: &FunctionKey, word: &str) -> [u8; 16] {
    let sum = named("tidegate queue word\n", function, word);
    let mut number = [0; 16];
    number.copy_from_slice(&sum[..16]);
    number
}

/// Of an ordering key, within its function. Should two keys ever share one, they are ordered together, and that is all.
pub(crate) fn order_number(function: &FunctionKey, key: &str) -> i64 {
    let sum = named("tidegate queue order\n", function, key);
    let mut number = [0; 8];
    number.copy_from_slice(&sum[..8]);
    i64::from_be_bytes(number)
}

fn named(domain: &str, function: &FunctionKey, word: &str) -> [u8; 32] {
    sum_parts(
        domain,
        &[
            function.namespace.as_bytes(),
            function.group.as_bytes(),
            function.name.as_bytes(),
            word.as_bytes(),
        ],
    )
}
