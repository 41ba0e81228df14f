//! What labels say of the number of instances, and what clients ask for by hand.
//!
//! A deployment's labels are lowered to a [`Scale`], whose rules are the core's: `rps` and `cpu` are metrics of its own,
//! `capacity` is a part of the concurrency. `queue` counts as `capacity`: a queued call is a call at hand from the moment
//! it is worked at, and a function that was written for it runs. Other types name rules of somebody's Prometheus, which
//! there is none of here, so they are refused.
//!
//! Without a type the metric is `rps`, as in the paid edition, and a target is 50 calls a second. The free edition knows
//! neither label, only a maximum and a factor, and asks for more instances above five calls a second; so a deployment that
//! bounds its scaling and says nothing of a target gets an instance for every five.
//!
//! *Desired replicas* live in two places. What a client asked for, by hand or through an alert, is stored beside the
//! deployment ([`ask`]) and outlives a restart; what scaling makes of it is the pool's ([`desired`]). Asked for none, a
//! function sleeps until its next call, which is held while an instance starts, and then has its minimum again. Each
//! request has a number of its own, so that it can be put to sleep once more.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::{ByHand, FunctionRef, Metric, Scale, parse_go_duration, scale as rules};
use tidegate_platform::{Error, LowerError, Object, ObjectKey, Platform, StoreError};

const MIN: &str = "com.openfaas.scale.min";
const MAX: &str = "com.openfaas.scale.max";
const FACTOR: &str = "com.openfaas.scale.factor";
const TYPE: &str = "com.openfaas.scale.type";
const TARGET: &str = "com.openfaas.scale.target";
const PROPORTION: &str = "com.openfaas.scale.target-proportion";
const ZERO: &str = "com.openfaas.scale.zero";
const ZERO_DURATION: &str = "com.openfaas.scale.zero-duration";

/// Most instances of one function: what a host could ever hold, far above what labels ask for.
const MOST: u32 = 1000;
/// What absent labels mean.
const DEFAULT_MAX: u32 = 20;
const DEFAULT_FACTOR: u32 = 10;
const DEFAULT_TARGET: f64 = 50.0;
const DEFAULT_PROPORTION: f64 = 0.9;
const DEFAULT_ZERO: Duration = Duration::from_secs(15 * 60);
/// Calls a second above which the free edition asks for more, in thousandths.
const FREE_TARGET_MILLI: u64 = 5_000;
/// Largest target: cores and calls beyond any machine's, and far from where numbers overflow.
const MOST_TARGET: f64 = 1e9;
/// How long fewer instances have to do before one is stopped. A load that is gone is gone from the rate in ten seconds, so
/// the minimum is reached well within the minute that clients wait for it.
const IDLE: Duration = Duration::from_secs(30);
/// Tries of a change that others make at the same time.
const TRIES: usize = 8;
/// How long a change that was asked for may take to be in force before it is answered all the same: what is reported from
/// then on speaks of it, unless the function is still being built.
const SETTLE: Duration = Duration::from_secs(2);

/// The scale that labels ask for. `concurrency` is a hard limit of calls that an instance takes at once, at least one;
/// `replicas` is what a client has asked for since, by hand or through an alert. Calls wait as the server lets them; where
/// they are to be refused instead, the caller sets `waiting`. See [`of`] for a stored deployment's.
///
/// # Errors
/// A label has an impossible value. The error's field is the label, its message the value and what would be accepted.
pub(crate) fn scale(
    labels: &BTreeMap<String, String>,
    concurrency: u32,
    replicas: Option<u32>,
) -> Result<Scale, LowerError> {
    let (min, max) = bounds(labels)?;
    // Checked even though only alerts use it: a mistake is told when it is made.
    factor(labels)?;
    if replicas.is_some_and(|n| n > MOST) {
        return Err(LowerError::new(
            "replicas",
            format!("{} is above {MOST}", replicas.unwrap_or(0)),
        ));
    }
    let target = decimal(labels, TARGET, DEFAULT_TARGET, MOST_TARGET)?
        * decimal(labels, PROPORTION, DEFAULT_PROPORTION, 1.0)?;
    let target_milli = ((target * 1000.0).round() as u64).max(1);
    let says = |label| labels.contains_key(label);
    let (metric, part_milli) = match labels.get(TYPE).map(String::as_str) {
        Some("rps") => (Metric::Rate { target_milli }, 1000),
        Some("cpu") => (Metric::Cpu { target_milli }, 1000),
        Some("capacity" | "queue") => {
            let part = target_milli / u64::from(concurrency.max(1));
            (Metric::Concurrency, part.clamp(1, 1000) as u32)
        }
        None => {
            let free = (says(MAX) || says(FACTOR)) && !says(TARGET) && !says(PROPORTION);
            let target_milli = if free {
                FREE_TARGET_MILLI
            } else {
                target_milli
            };
            (Metric::Rate { target_milli }, 1000)
        }
        Some(other) => {
            return Err(wrong(
                TYPE,
                other,
                "is not measured here; choose rps, capacity, cpu or queue",
            ));
        }
    };
    let mut scale = Scale {
        min,
        max: max.max(replicas.unwrap_or(0)),
        initial: 0,
        concurrency,
        target_milli: part_milli,
        idle: IDLE,
        zero: zero(labels)?,
        by_hand: replicas.map(|instances| ByHand { instances, turn: 0 }),
        metric,
        waiting: None,
    };
    // A new revision takes over when it has what it is to keep; one that is asleep is not woken for it.
    if replicas != Some(0) {
        scale.initial = rules::floor(&scale);
    }
    Ok(scale)
}

/// The scale of a stored deployment: [`scale`], with the number of the last request.
pub(crate) fn of(
    labels: &BTreeMap<String, String>,
    concurrency: u32,
    replicas: Option<u32>,
    turn: u64,
) -> Result<Scale, LowerError> {
    let mut scale = scale(labels, concurrency, replicas)?;
    if let Some(by_hand) = &mut scale.by_hand {
        by_hand.turn = turn;
    }
    Ok(scale)
}

/// Replicas that the function at this place is meant to have now: what is reported as `replicas`. Until it is in the
/// engine, while it is built for the first time, what its scale begins with.
pub(crate) fn desired(platform: &Platform, place: FunctionRef<'_>, scale: &Scale) -> u32 {
    let function = platform
        .function(place)
        .filter(|f| platform.access(f).is_some());
    match (function, scale.by_hand) {
        (Some(function), _) => platform.counts(&function).wanted,
        (None, Some(ByHand { instances: 0, .. })) => 0,
        (None, _) => rules::floor(scale),
    }
}

/// Stores that a client wants so many replicas, or with `None` what the labels say, and waits a moment for that to be in
/// force. Restarts nothing. With none, what is idle ends at once, what has calls after them, and the next call wakes the
/// function. More than the labels' maximum raises it.
///
/// # Errors
/// There is no such deployment, the number is beyond any sense, or the store cannot write.
pub(crate) async fn ask(
    platform: &Platform,
    key: &ObjectKey,
    replicas: Option<u32>,
) -> Result<Object, Error> {
    if let Some(n) = replicas.filter(|&n| n > MOST) {
        return Err(Error::Invalid(format!(
            "replicas: {n} is above {MOST}, the most that a function may have"
        )));
    }
    let mut tries = 0;
    loop {
        let object = platform.get(key).await?;
        let Some(serde_json::Value::Object(mut spec)) = object.spec().cloned() else {
            return Err(Error::Invalid("spec: is missing".to_owned()));
        };
        let turn = spec.get("turn").and_then(serde_json::Value::as_u64);
        spec.insert(
            "turn".to_owned(),
            turn.unwrap_or(0).saturating_add(1).into(),
        );
        spec.insert("replicas".to_owned(), replicas.into());
        match platform.put(object.replace_spec(spec.into())?).await {
            Ok(put) => {
                let generation = put.object().generation();
                return platform.settle(key, generation, SETTLE).await;
            }
            Err(Error::Store(StoreError::Conflict { .. })) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// What an alert makes of a function that now has `current` replicas desired: what to [`ask`] for. One that fires adds a
/// part of the maximum, up to it; one that is resolved leaves the number to the labels again.
///
/// # Errors
/// As [`scale`].
pub(crate) fn alert(
    labels: &BTreeMap<String, String>,
    current: u32,
    firing: bool,
) -> Result<Option<u32>, LowerError> {
    let (_, max) = bounds(labels)?;
    let step = max.saturating_mul(factor(labels)?).div_ceil(100);
    // Who has more than the maximum has it by hand, and loses nothing by an alert.
    Ok(firing.then(|| current.saturating_add(step).min(max).max(current)))
}

fn bounds(labels: &BTreeMap<String, String>) -> Result<(u32, u32), LowerError> {
    let min = whole(labels, MIN, MOST)?;
    let max = whole(labels, MAX, MOST)?;
    let bounds = (
        min.unwrap_or(1),
        max.unwrap_or(DEFAULT_MAX.max(min.unwrap_or(1))),
    );
    if bounds.0 > bounds.1 {
        return Err(wrong(
            MIN,
            &bounds.0.to_string(),
            &format!("is above {MAX}, which is {}", bounds.1),
        ));
    }
    Ok(bounds)
}

fn factor(labels: &BTreeMap<String, String>) -> Result<u32, LowerError> {
    Ok(whole(labels, FACTOR, 100)?.unwrap_or(DEFAULT_FACTOR))
}

fn zero(labels: &BTreeMap<String, String>) -> Result<Option<Duration>, LowerError> {
    let after = match labels.get(ZERO_DURATION) {
        None => DEFAULT_ZERO,
        Some(text) => parse_go_duration(text)
            .ok()
            .filter(|d| !d.is_zero())
            .ok_or_else(|| {
                wrong(
                    ZERO_DURATION,
                    text,
                    "is not a duration above zero, such as 90s or 15m",
                )
            })?,
    };
    match labels.get(ZERO).map(String::as_str) {
        Some("true") => Ok(Some(after)),
        None | Some("false") => Ok(None),
        Some(other) => Err(wrong(ZERO, other, "is neither true nor false")),
    }
}

/// A whole number of at least one.
fn whole(
    labels: &BTreeMap<String, String>,
    label: &str,
    most: u32,
) -> Result<Option<u32>, LowerError> {
    let Some(text) = labels.get(label) else {
        return Ok(None);
    };
    text.parse::<u32>()
        .ok()
        .filter(|n| (1..=most).contains(n))
        .map(Some)
        .ok_or_else(|| {
            wrong(
                label,
                text,
                &format!("is not a whole number between 1 and {most}"),
            )
        })
}

/// A number above zero.
fn decimal(
    labels: &BTreeMap<String, String>,
    label: &str,
    absent: f64,
    most: f64,
) -> Result<f64, LowerError> {
    let Some(text) = labels.get(label) else {
        return Ok(absent);
    };
    text.parse::<f64>()
        .ok()
        .filter(|n| *n > 0.0 && *n <= most)
        .ok_or_else(|| {
            wrong(
                label,
                text,
                &format!("is not a number above 0 and at most {most}"),
            )
        })
}

fn wrong(label: &str, value: &str, why: &str) -> LowerError {
    LowerError::new(label, format!("{value:?} {why}"))
}

#[cfg(test)]
mod tests;
