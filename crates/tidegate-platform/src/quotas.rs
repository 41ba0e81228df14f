//! What namespaces may use.
//!
//! A namespace says so in its document, or in annotations of it for clients that can only give those. Calls are held to
//! it by an [`Allowance`], which costs a call two additions and, where nothing is limited, nothing else. Functions and
//! their code are held to it when they are stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde_json::Value;
use tidegate_core::quota::{Quota, QuotaLimit, until_tomorrow};
use tidegate_core::{FunctionSpec, Limit, format_bytes, parse_bytes};
use tidegate_engine::Failure;
use tidegate_store::{Digest, Object, ObjectKey, Query};
use tokio::sync::Notify;

use crate::ledger::now_us;
use crate::{Error, Platform};

/// What annotations of a namespace that limit it begin with.
pub const QUOTA_ANNOTATION: &str = "tidegate.dev/quota-";

/// The members of `spec.quotas`, and what follows [`QUOTA_ANNOTATION`].
const MEMBERS: [(&str, &str); 7] = [
    ("requestsPerSecond", "requests-per-second"),
    ("burst", "burst"),
    ("concurrent", "concurrent"),
    ("queued", "queued"),
    ("gbSecondsPerDay", "gb-seconds-per-day"),
    ("functions", "functions"),
    ("storage", "storage"),
];

/// When a call is tried again that had too many beside it.
const SOON: Duration = Duration::from_secs(1);

/// Millionths in one.
const MILLION: u64 = 1_000_000;

/// What every namespace may use.
#[derive(Default)]
pub(crate) struct Allowances(Mutex<HashMap<Box<str>, Arc<Allowance>>>);

/// What one namespace may use, and what it uses now.
pub(crate) struct Allowance {
    namespace: Box<str>,
    /// Nothing where nothing is limited.
    quota: ArcSwapOption<Quota>,
    /// Calls that were admitted and have not ended.
    under_way: AtomicU64,
    /// When the bucket of the rate is full, in nanoseconds since `epoch`.
    full_at: AtomicU64,
    epoch: Instant,
    refused: [AtomicU64; QuotaLimit::ALL.len()],
    /// Places that are held for invocations on their way into the queue.
    reserved: Mutex<u64>,
    /// Notified when one is given back.
    given_back: Notify,
}

/// A place among what a namespace may have queued, given back when it is dropped.
pub(crate) struct Reserved(Arc<Allowance>);

impl Allowances {
    /// That of a namespace, made if it is new.
    pub(crate) fn of(&self, namespace: &str) -> Arc<Allowance> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(namespace) {
            return known.clone();
        }
        let made = Arc::new(Allowance::new(namespace));
        all.insert(namespace.into(), made.clone());
        made
    }

    /// Changes what a namespace may use, from the next call on.
    pub(crate) fn set(&self, namespace: &str, quota: Quota) {
        let quota = (!quota.is_open()).then(|| Arc::new(quota));
        self.of(namespace).quota.store(quota);
    }

    /// How many calls were refused by which limit of which namespace.
    pub(crate) fn refused(&self) -> Vec<(String, QuotaLimit, u64)> {
        let all = self.0.lock();
        let each = all.values().flat_map(|one| {
            let counts = QuotaLimit::ALL.iter().zip(&one.refused);
            counts.map(|(limit, count)| {
                let count = count.load(Ordering::Relaxed);
                (one.namespace.to_string(), *limit, count)
            })
        });
        let mut refused: Vec<_> = each.filter(|(_, _, count)| *count > 0).collect();
        refused.sort_by(|a, b| (&a.0, a.1.as_str()).cmp(&(&b.0, b.1.as_str())));
        refused
    }

    /// Namespaces that are limited now.
    fn limited(&self) -> Vec<Box<str>> {
        let all = self.0.lock();
        let limited = all.values().filter(|one| one.quota.load().is_some());
        limited.map(|one| one.namespace.clone()).collect()
    }
}

impl Allowance {
    fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            quota: ArcSwapOption::empty(),
            under_way: AtomicU64::new(0),
            full_at: AtomicU64::new(0),
            epoch: Instant::now(),
            refused: Default::default(),
            reserved: Mutex::new(0),
            given_back: Notify::new(),
        }
    }

    /// Lets a call in. `today`: what the namespace was billed today by this moment, in millionths of a GB-second.
    pub(crate) fn admit(&self, today: impl FnOnce(u64) -> u64) -> Result<(), Failure> {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let refused = match self.quota.load().as_deref() {
            None => return Ok(()),
            Some(quota) => self.check(quota, under_way, today),
        };
        if let Err((limit, failure)) = refused {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            self.count(limit);
            return Err(failure);
        }
        Ok(())
    }

    /// A call that was let in is over.
    pub(crate) fn ended(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one more invocation may be accepted that is to run later, beside so many that wait already.
    fn admit_queued(&self, waiting: impl Fn() -> u64) -> Result<(), Failure> {
        match self.most_queued() {
            Some(most) if waiting() >= most => Err(self.refuse_queued(most)),
            _ => Ok(()),
        }
    }

    /// Holds a place for one more; nothing where there is no bound. `waiting` counts what was accepted, and must count a
    /// new one before its place is given back: so what is accepted and what is about to be are never more than there may be.
    async fn reserve_queued(
        self: &Arc<Self>,
        waiting: impl Fn() -> u64,
    ) -> Result<Option<Reserved>, Failure> {
        loop {
            let mut given_back = std::pin::pin!(self.given_back.notified());
            given_back.as_mut().enable();
            {
                let mut reserved = self.reserved.lock();
                let Some(most) = self.most_queued() else {
                    return Ok(None);
                };
                let waiting = waiting();
                if waiting + *reserved < most {
                    *reserved += 1;
                    return Ok(Some(Reserved(self.clone())));
                }
                if waiting >= most || *reserved == 0 {
                    return Err(self.refuse_queued(most));
                }
            }
            // The last places are held by some that are being written, which may yet come to nothing.
            given_back.await;
        }
    }

    fn most_queued(&self) -> Option<u64> {
        let quota = self.quota.load();
        quota.as_deref().and_then(|quota| quota.queued)
    }

    fn refuse_queued(&self, most: u64) -> Failure {
        self.count(QuotaLimit::Queued);
        self.refuse(
            QuotaLimit::Queued,
            &format!("{most} invocations that wait to run"),
            "the next is let in when one of them has ended",
            SOON,
        )
    }

    fn check(
        &self,
        quota: &Quota,
        under_way: u64,
        today: impl FnOnce(u64) -> u64,
    ) -> Result<(), (QuotaLimit, Failure)> {
        let refuse = |limit, may: &str, reset: &str, after| {
            Err((limit, self.refuse(limit, may, reset, after)))
        };
        if let Some(most) = quota.gb_seconds_per_day {
            let now_us = now_us();
            if today(now_us) >= most.saturating_mul(MILLION) {
                let after = until_tomorrow(now_us / MILLION);
                return refuse(
                    QuotaLimit::GbSecondsPerDay,
                    &format!("{most} GB-seconds a day"),
                    &format!(
                        "it resets at midnight UTC, in {}h {}m",
                        after.as_secs() / 3600,
                        after.as_secs() % 3600 / 60
                    ),
                    after,
                );
            }
        }
        if let Some(most) = quota.concurrent
            && under_way > u64::from(most)
        {
            return refuse(
                QuotaLimit::Concurrent,
                &format!("{most} invocations at once"),
                "the next is let in when one of them has ended",
                SOON,
            );
        }
        // Last, so that a call which is refused for something else takes nothing of it.
        if let Some(after) = quota.rate().and_then(|rate| self.wait_for(rate)) {
            return refuse(
                QuotaLimit::RequestsPerSecond,
                &format!(
                    "{} invocations a second",
                    quota.requests_per_second.unwrap_or_default()
                ),
                &format!("the next is let in after {}ms", after.as_millis().max(1)),
                after,
            );
        }
        Ok(())
    }

    /// Takes a call out of the rate's bucket, or says when there will be one in it.
    fn wait_for(&self, rate: tidegate_core::quota::Rate) -> Option<Duration> {
        let now = self.epoch.elapsed().as_nanos() as u64;
        let mut wait = None;
        // Err: nothing was taken.
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let taken = rate.take(full_at, now);
                wait = taken.err();
                taken.ok()
            });
        wait
    }

    fn count(&self, limit: QuotaLimit) {
        if let Some(at) = QuotaLimit::ALL.iter().position(|one| *one == limit) {
            self.refused[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn refuse(&self, limit: QuotaLimit, may: &str, reset: &str, after: Duration) -> Failure {
        Failure {
            retry_after: Some(after),
            ..Failure::busy(
                Limit::Quota,
                format!(
                    "namespace {:?} may have {may} (quota {}): {reset}",
                    self.namespace,
                    limit.as_str()
                ),
            )
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        *self.0.reserved.lock() -= 1;
        self.0.given_back.notify_waiters();
    }
}

/// What a namespace's document says that it may use: `spec.quotas`, and annotations for what is not said there.
///
/// # Errors
/// A value is none, or a member is unknown.
pub(crate) fn quota_of(object: &Object) -> Result<Quota, Error> {
    let invalid = |place: String, why: &str| Error::Invalid(format!("{place}: {why}"));
    let quotas = object.spec().and_then(|spec| spec.get("quotas"));
    let quotas = match quotas {
        None | Some(Value::Null) => None,
        Some(Value::Object(members)) => Some(members),
        Some(_) => return Err(invalid("spec.quotas".to_owned(), "is no object")),
    };
    let known = |name: &&String| MEMBERS.iter().all(|(member, _)| name != member);
    if let Some(unknown) = quotas.and_then(|members| members.keys().find(known)) {
        let all: Vec<_> = MEMBERS.iter().map(|(member, _)| *member).collect();
        let why = format!("is not known; there are {}", all.join(", "));
        return Err(invalid(format!("spec.quotas.{unknown}"), &why));
    }
    let mut quota = Quota::default();
    for (member, note) in MEMBERS {
        let name = format!("{QUOTA_ANNOTATION}{note}");
        let (place, text) = match (
            quotas.and_then(|members| members.get(member)),
            object.annotation(&name),
        ) {
            (Some(Value::String(text)), _) => (format!("spec.quotas.{member}"), text.clone()),
            (Some(other), _) => (format!("spec.quotas.{member}"), other.to_string()),
            (None, Some(text)) => (format!("annotation {name}"), text.trim().to_owned()),
            (None, None) => continue,
        };
        let whole = || {
            let why = "write a whole number above zero";
            let number = text.parse::<u64>().ok().filter(|n| *n > 0);
            number.ok_or_else(|| invalid(place.clone(), &format!("{text:?}: {why}")))
        };
        let small = || {
            let number = u32::try_from(whole()?);
            number.map_err(|_| invalid(place.clone(), &format!("{text}: is too large")))
        };
        match member {
            "requestsPerSecond" => quota.requests_per_second = Some(small()?),
            "burst" => quota.burst = Some(small()?),
            "concurrent" => quota.concurrent = Some(small()?),
            "queued" => quota.queued = Some(whole()?),
            "gbSecondsPerDay" => quota.gb_seconds_per_day = Some(whole()?),
            "functions" => quota.functions = Some(small()?),
            _ => {
                let bytes = parse_bytes(&text);
                quota.storage = Some(bytes.map_err(|e| invalid(place, &e.to_string()))?);
            }
        }
    }
    if quota.burst.is_some() && quota.requests_per_second.is_none() {
        let why = "is for requestsPerSecond, which is not limited";
        return Err(invalid("spec.quotas.burst".to_owned(), why));
    }
    Ok(quota)
}

impl Platform {
    /// Whether an invocation of this namespace may be accepted now that is to run later.
    pub(crate) fn admit_queued(&self, namespace: &str) -> Result<(), Failure> {
        let allowance = self.ledger().allowances.of(namespace);
        allowance.admit_queued(|| self.queued_in(namespace))
    }

    /// Whether there is a bound to what a namespace may have queued.
    pub(crate) fn limits_queued(&self, namespace: &str) -> bool {
        let allowance = self.ledger().allowances.of(namespace);
        allowance.most_queued().is_some()
    }

    /// A place for one among what the namespace may have queued; nothing where that is not limited.
    pub(crate) async fn reserve_queued(
        &self,
        namespace: &str,
    ) -> Result<Option<Reserved>, Failure> {
        let allowance = self.ledger().allowances.of(namespace);
        allowance.reserve_queued(|| self.queued_in(namespace)).await
    }

    /// How many calls were refused, by namespace and limit, since the server started.
    #[must_use]
    pub fn refused_by_quota(&self) -> Vec<(String, QuotaLimit, u64)> {
        self.ledger().allowances.refused()
    }

    /// What a namespace may use.
    ///
    /// # Errors
    /// It is not there, or the store cannot read.
    pub async fn quota(&self, namespace: &str) -> Result<Quota, Error> {
        quota_of(&self.namespace(namespace).await?)
    }

    /// A namespace's document changed, or is gone.
    pub(crate) fn quota_changed(&self, namespace: &str, object: Option<&Object>) {
        let quota = object.map_or_else(|| Ok(Quota::default()), quota_of);
        match quota {
            Ok(quota) => self.ledger().allowances.set(namespace, quota),
            // What is stored was looked at before; whoever wrote past that finds what stood before in force.
            Err(error) => {
                tracing::error!(namespace, %error, "the quotas of a namespace cannot be read");
            }
        }
    }

    /// Reads what all namespaces may use: at start, and after a gap in the watch.
    pub(crate) async fn read_quotas(&self) -> Result<(), Error> {
        let mut before: HashSet<Box<str>> =
            self.ledger().allowances.limited().into_iter().collect();
        for object in self.list_all(&crate::namespaces::all()).await? {
            before.remove(object.key().name());
            self.quota_changed(object.key().name(), Some(&object));
        }
        for gone in before {
            self.quota_changed(&gone, None);
        }
        Ok(())
    }

    /// Whether a function may be stored beside what its namespace has. Asked while nobody else stores one.
    pub(crate) async fn admit_function(
        &self,
        document: &ObjectKey,
        namespace: &str,
        spec: &FunctionSpec,
    ) -> Result<(), Error> {
        let quota = match self.namespace(namespace).await {
            Ok(object) => quota_of(&object).unwrap_or_default(),
            // Whoever stores it says so in its own words.
            Err(Error::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if quota.functions.is_none() && quota.storage.is_none() {
            return Ok(());
        }
        let (mut others, mut digests, mut is_new) = (0_u64, HashSet::new(), true);
        for lower in self.kinds() {
            let (api_version, kind) = lower.kind();
            let query = Query::kind(api_version, kind).namespace(document.namespace());
            for object in self.list_all(&query).await? {
                if object.key() == document {
                    is_new = false;
                    continue;
                }
                others += 1;
                let lowered = lower.lower(&object);
                digests.extend(
                    lowered
                        .iter()
                        .flat_map(|l| crate::platform::digests(&l.spec)),
                );
            }
        }
        let refuse = |limit: QuotaLimit, may: &str, how: &str| {
            Err(Error::Quota(format!(
                "namespace {namespace:?} may have {may} (quota {}): {how}",
                limit.as_str()
            )))
        };
        if let Some(most) = quota.functions
            && is_new
            && others >= u64::from(most)
        {
            return refuse(
                QuotaLimit::Functions,
                &format!("{most} functions"),
                "delete one, or have the quota raised",
            );
        }
        if let Some(most) = quota.storage {
            let mut used = self.bytes_of(&digests).await?;
            let own: HashSet<Digest> = crate::platform::digests(spec).into_iter().collect();
            used += self
                .bytes_of(&own.difference(&digests).copied().collect())
                .await?;
            if used > most {
                return refuse(
                    QuotaLimit::Storage,
                    &format!("{} of code", format_bytes(most)),
                    &format!(
                        "with this function it would have {}; delete one, or have the quota raised",
                        format_bytes(used)
                    ),
                );
            }
        }
        Ok(())
    }

    async fn bytes_of(&self, digests: &HashSet<Digest>) -> Result<u64, Error> {
        let mut sum = 0;
        for digest in digests {
            sum += self.store().blobs().size(digest).await?.unwrap_or(0);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: &Value, annotations: &Value) -> Result<Quota, String> {
        let document = json!({
            "apiVersion": "tidegate.dev/v1", "kind": "Namespace",
            "metadata": { "name": "team", "annotations": annotations }, "spec": spec,
        });
        quota_of(&Object::new(document).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_document_says_more_than_annotations_of_it() {
        let quota = read(
            &json!({ "quotas": { "requestsPerSecond": 10, "storage": "1Gi" } }),
            &json!({ "tidegate.dev/quota-requests-per-second": "5", "tidegate.dev/quota-functions": " 3 " }),
        );
        let want = Quota {
            requests_per_second: Some(10),
            functions: Some(3),
            storage: Some(1 << 30),
            ..Quota::default()
        };
        assert_eq!(quota, Ok(want));
        assert_eq!(read(&json!({}), &json!({})), Ok(Quota::default()));
    }

    #[test]
    fn what_is_no_quota_is_refused_with_its_place() {
        for (spec, annotations, part) in [
            (
                &json!({ "quotas": 3 }),
                &json!({}),
                "spec.quotas: is no object",
            ),
            (
                &json!({ "quotas": { "concurent": 1 } }),
                &json!({}),
                "spec.quotas.concurent",
            ),
            (
                &json!({ "quotas": { "concurrent": 0 } }),
                &json!({}),
                "spec.quotas.concurrent",
            ),
            (
                &json!({ "quotas": { "burst": 5 } }),
                &json!({}),
                "spec.quotas.burst",
            ),
            (
                &json!({ "quotas": { "storage": "much" } }),
                &json!({}),
                "spec.quotas.storage",
            ),
            (
                &json!({}),
                &json!({ "tidegate.dev/quota-queued": "-1" }),
                "annotation tidegate.dev/quota-queued",
            ),
        ] {
            let error = read(spec, annotations).unwrap_err();
            assert!(error.starts_with(part), "{error}");
        }
    }

    fn allowance(quota: Quota) -> Arc<Allowance> {
        let all = Allowances::default();
        all.set("team", quota);
        all.of("team")
    }

    #[test]
    fn calls_at_once_are_bounded_and_make_room_when_they_end() {
        let team = allowance(Quota {
            concurrent: Some(2),
            ..Quota::default()
        });
        let admit = || team.admit(|_| 0);
        assert!(admit().is_ok() && admit().is_ok());
        let refused = admit().unwrap_err();
        assert!(refused.message.contains("(quota concurrent)"), "{refused}");
        team.ended();
        assert!(admit().is_ok());
        assert!(admit().is_err());
    }

    #[test]
    fn a_day_that_is_used_up_says_when_the_next_begins() {
        let team = allowance(Quota {
            gb_seconds_per_day: Some(5),
            ..Quota::default()
        });
        assert!(team.admit(|_| 4_999_999).is_ok());
        let refused = team.admit(|_| 5_000_000).unwrap_err();
        assert!(refused.message.contains("midnight UTC"), "{refused}");
        assert!(refused.retry_after.unwrap() <= Duration::from_secs(24 * 3600));
        assert_eq!(team.under_way.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_waits_to_run_is_bounded_however_many_come_at_once() {
        let team = allowance(Quota {
            queued: Some(2),
            ..Quota::default()
        });
        let waiting = Arc::new(AtomicU64::new(0));
        let count = || waiting.load(Ordering::Relaxed);
        assert!(team.admit_queued(count).is_ok());
        let first = team.reserve_queued(count).await.unwrap();
        let second = team.reserve_queued(count).await.unwrap();
        // Whether there is room for a third is known when what becomes of these is.
        let (third, fourth) = (team.reserve_queued(count), team.reserve_queued(count));
        let mut third = std::pin::pin!(third);
        let mut fourth = std::pin::pin!(fourth);
        assert!(futures_util::poll!(&mut third).is_pending());
        assert!(futures_util::poll!(&mut fourth).is_pending());
        waiting.store(1, Ordering::Relaxed);
        drop(first);
        assert!(futures_util::poll!(&mut third).is_pending());
        // The second came to nothing.
        drop(second);
        let third = third.await.unwrap();
        assert!(third.is_some());
        assert!(futures_util::poll!(&mut fourth).is_pending());
        waiting.store(2, Ordering::Relaxed);
        drop(third);
        let refused = fourth.await.err().unwrap();
        assert!(refused.message.contains("(quota queued)"), "{refused}");
        assert!(team.admit_queued(count).is_err());
    }

    #[test]
    fn refusals_are_counted_and_a_change_counts_at_once() {
        let all = Allowances::default();
        let quota = Quota {
            requests_per_second: Some(1),
            ..Quota::default()
        };
        all.set("team", quota);
        let team = all.of("team");
        assert!(team.admit(|_| 0).is_ok());
        let refused = team.admit(|_| 0).unwrap_err();
        assert!(refused.retry_after.unwrap() <= Duration::from_secs(1));
        let counted = vec![("team".to_owned(), QuotaLimit::RequestsPerSecond, 1)];
        assert_eq!(all.refused(), counted);
        all.set("team", Quota::default());
        assert!(team.admit(|_| 0).is_ok());
    }
}
