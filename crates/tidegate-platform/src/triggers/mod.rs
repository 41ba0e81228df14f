//! Triggers: objects that say when a function is to be called by nobody.
//!
//! Each tick becomes a queued invocation like any other, so what happens to it once it was accepted is the queue's matter:
//! retries, dead letters, records. A trigger only says when, whom, and with what. Its document holds that; its status holds
//! how far it has come, and is written by the loop of `tidegate-trigger-schedule` alone.
//!
//! A trigger may belong to a function's document, where that document says when the function is called. The controller
//! keeps such in line with it, and they go with it; nobody else writes them, but anybody may pause them.

mod owned;
mod request;
mod run;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Deserialize as _;
use tidegate_core::queue::{Policy, Retrying};
use tidegate_core::schedule::{Missed, Plan, UTC};
use tidegate_core::{FunctionKey, FunctionRef, InvocationId, Name};
use tidegate_document::{API_VERSION, TRIGGER as KIND, TriggerSpec};
use tidegate_store::{Object, ObjectKey, OwnerReference, Preconditions, Put, Query};
use tidegate_trigger_schedule::{Id, Known, State, Wanted};

use crate::{Error, LowerError, Platform};

pub use owned::Scheduled;
pub(crate) use owned::Wishes;
pub use request::MAX_TRIGGER_BODY;
pub use run::NotQueued;

/// Tries of a change that others race with: the loop writes the status whenever a trigger ticks.
const TRIES: usize = 16;

/// A trigger.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Its document.
    pub object: Object,
    /// What is wanted.
    pub spec: TriggerSpec,
    /// How far it has come.
    pub state: State,
}

/// A trigger that was asked for by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiredTrigger {
    /// The invocation that comes of it.
    pub invocation: InvocationId,
}

/// The zones there are: the machine's, or those in the binary where it has none.
pub(crate) fn zones() -> TimeZoneDatabase {
    jiff::tz::db().clone()
}

// === what is wanted of one ===

/// Reads what a document says.
fn spec_of(object: &Object) -> Result<TriggerSpec, LowerError> {
    let spec = object
        .spec()
        .ok_or_else(|| LowerError::new("spec", "is missing"))?;
    TriggerSpec::deserialize(spec).map_err(|e| LowerError::new("spec", e.to_string()))
}

/// Checks all of it; the message names the field, the value and what would do.
fn check(spec: &TriggerSpec) -> Result<(), LowerError> {
    Name::new(&spec.function).map_err(|e| LowerError::new("spec.function", e.to_string()))?;
    plan(spec, &Arc::from(""), Timestamp::UNIX_EPOCH)?;
    retrying(spec)
        .over(Policy::default())
        .map_err(|e| LowerError::new(format!("spec.async.{}", e.field), e.why))?;
    request::check(&spec.request)
}

/// What the loop wants to know of it. What cannot be read, which no door lets in, is as if it were absent.
fn wanted(spec: &TriggerSpec) -> Wanted {
    Wanted {
        schedule: spec.schedule.clone(),
        zone: spec.time_zone.clone().unwrap_or_else(|| UTC.to_owned()),
        missed: missed(spec).unwrap_or_default(),
        jitter: jitter(spec).unwrap_or_default(),
        paused: spec.paused,
    }
}

/// What becomes of its calls that do not succeed, over what its function says of that.
fn retrying(spec: &TriggerSpec) -> Retrying {
    let said = &spec.later;
    Retrying {
        retries: said.retries,
        retry_on: said.retry_on.clone(),
        backoff: said.backoff.clone(),
        max_backoff: said.max_backoff.clone(),
        jitter: said.jitter.clone(),
        max_age: said.max_age.clone(),
    }
}

fn missed(spec: &TriggerSpec) -> Result<Missed, LowerError> {
    let word = spec.missed.as_deref().unwrap_or(Missed::Once.as_str());
    word.parse()
        .map_err(|e| LowerError::new("spec.missed", format!("{e}")))
}

fn jitter(spec: &TriggerSpec) -> Result<Duration, LowerError> {
    let text = spec.jitter.as_deref().unwrap_or("0s");
    Plan::parse_jitter(text).map_err(|e| LowerError::new("spec.jitter", e.to_string()))
}

fn plan(spec: &TriggerSpec, uid: &Arc<str>, made: Timestamp) -> Result<Plan, LowerError> {
    use tidegate_core::schedule::ScheduleError;
    missed(spec)?;
    jitter(spec)?;
    wanted(spec).plan(uid, made, &zones()).map_err(|error| {
        // A zone in front of the schedule is the schedule's.
        let of_zone = matches!(&error, ScheduleError::Zone { value } if Some(value) == spec.time_zone.as_ref());
        let field = if of_zone { "spec.timeZone" } else { "spec.schedule" };
        LowerError::new(field, error.to_string())
    })
}

// === impl Trigger ===

impl Trigger {
    /// A trigger from its document.
    ///
    /// # Errors
    /// It says something that cannot be; the message names the field, the value and what would do.
    pub fn of(object: Object) -> Result<Self, LowerError> {
        Ok(Self {
            spec: spec_of(&object)?,
            state: object
                .status()
                .and_then(|status| State::deserialize(status).ok())
                .unwrap_or_default(),
            object,
        })
    }

    /// The function's document that it belongs to, where it belongs to one.
    #[must_use]
    pub fn owner(&self) -> Option<OwnerReference> {
        self.object.owner_references().next()
    }

    /// The next ticks, at most so many; none while it is paused.
    #[must_use]
    pub fn upcoming(&self, now: Timestamp, count: usize) -> Vec<Timestamp> {
        if self.spec.paused {
            return Vec::new();
        }
        let from = self.state.cursor.unwrap_or_else(|| self.made()).max(now);
        match plan(&self.spec, &self.id().uid, self.made()) {
            Ok(plan) => plan.schedule.upcoming(from, count),
            Err(_) => Vec::new(),
        }
    }

    /// The zone whose time its schedule speaks of.
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        let plan = plan(&self.spec, &self.id().uid, self.made());
        plan.map_or(TimeZone::UTC, |plan| plan.schedule.zone().clone())
    }

    fn made(&self) -> Timestamp {
        let made = self.object.creation_timestamp().parse();
        made.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn id(&self) -> Id {
        let key = self.object.key();
        Id {
            namespace: key.namespace().into(),
            name: key.name().into(),
            uid: self.object.uid().into(),
        }
    }

    fn known(self) -> Known {
        Known {
            id: self.id(),
            made: self.made(),
            wanted: wanted(&self.spec),
            state: self.state,
        }
    }

    /// The function that is called.
    fn function(&self) -> Result<FunctionKey, LowerError> {
        let name = |field: &str, text: &str| {
            Name::new(text).map_err(|e| LowerError::new(field, e.to_string()))
        };
        Ok(FunctionKey::new(
            &name("metadata.namespace", self.object.key().namespace())?,
            &name("spec.function", &self.spec.function)?,
        ))
    }
}

// === impl Platform ===

impl Platform {
    /// Stores a trigger, new or changed; `only_new` where there must be none yet.
    ///
    /// # Errors
    /// It says something that cannot be, there is no such function, it belongs to a function's document, or the store
    /// cannot write.
    pub async fn put_trigger(&self, object: Object, only_new: bool) -> Result<Put, Error> {
        self.require_queue()?;
        let spec = spec_of(&object).map_err(invalid)?;
        check(&spec).map_err(invalid)?;
        let key = object.key().clone();
        self.require_namespace(key.namespace()).await?;
        self.require_function(key.namespace(), &spec.function)
            .await?;
        if only_new {
            return Ok(Put::Created(self.create(object).await?));
        }
        if let Some(before) = self.find_trigger(&key).await? {
            require_unowned(&before)?;
        }
        self.put(object).await
    }

    /// A trigger.
    ///
    /// # Errors
    /// It is not there, or the store cannot read.
    pub async fn trigger(&self, namespace: &str, name: &str) -> Result<Trigger, Error> {
        let key = key(namespace, name)?;
        let found = self.find_trigger(&key).await?;
        found.ok_or_else(|| missing(&key))
    }

    /// The triggers of a namespace, or all, by name.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn triggers(&self, namespace: Option<&str>) -> Result<Vec<Trigger>, Error> {
        let mut query = Query::kind(API_VERSION, KIND);
        if let Some(namespace) = namespace {
            query = query.namespace(namespace);
        }
        let objects = self.list_all(&query).await?;
        // What is damaged or newer than this server is left out, as it is not acted on either.
        Ok(objects.into_iter().filter_map(read).collect())
    }

    /// Removes a trigger. What it started goes on.
    ///
    /// # Errors
    /// It is not there, belongs to a function's document, or the store cannot write.
    pub async fn delete_trigger(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let trigger = self.trigger(namespace, name).await?;
        require_unowned(&trigger)?;
        let meant = Preconditions {
            uid: Some(trigger.object.uid().to_owned()),
            ..Preconditions::default()
        };
        self.delete(trigger.object.key(), meant).await.map(drop)
    }

    /// Pauses a trigger, or lets it go on.
    ///
    /// # Errors
    /// It is not there, or the store cannot write.
    pub async fn pause_trigger(
        &self,
        namespace: &str,
        name: &str,
        paused: bool,
    ) -> Result<Trigger, Error> {
        let mut tries = 0;
        loop {
            let trigger = self.trigger(namespace, name).await?;
            if trigger.spec.paused == paused {
                return Ok(trigger);
            }
            let spec = TriggerSpec {
                paused,
                ..trigger.spec
            };
            let changed = trigger.object.replace_spec(stored(&spec)?)?;
            match self.store().objects().update(changed).await {
                Err(tidegate_store::Error::Conflict { .. }) if tries < TRIES => tries += 1,
                written => return Trigger::of(written?).map_err(invalid),
            }
        }
    }

    /// Has a trigger's function called now, whatever its schedule says and whether it is paused or not.
    ///
    /// # Errors
    /// It is not there, there is no such function, or nothing is accepted now.
    pub async fn fire_trigger(&self, namespace: &str, name: &str) -> Result<FiredTrigger, Error> {
        let trigger = self.trigger(namespace, name).await?;
        self.require_function(namespace, &trigger.spec.function)
            .await?;
        let invocation = self.enqueue_fired(&trigger, None).await?;
        Ok(FiredTrigger { invocation })
    }

    async fn find_trigger(&self, key: &ObjectKey) -> Result<Option<Trigger>, Error> {
        match self.get(key).await {
            Ok(object) => Trigger::of(object).map(Some).map_err(invalid),
            Err(Error::Store(tidegate_store::Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn require_function(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let place = FunctionRef {
            namespace,
            group: "",
            name,
        };
        match self.owner_of(place).await? {
            Some(_) => Ok(()),
            None => Err(Error::Invalid(format!(
                "spec.function: function {name:?} does not exist in namespace {namespace:?}; deploy it first"
            ))),
        }
    }
}

fn key(namespace: &str, name: &str) -> Result<ObjectKey, Error> {
    Ok(ObjectKey::new(API_VERSION, KIND, namespace, name)?)
}

fn read(object: Object) -> Option<Trigger> {
    let key = object.key().clone();
    match Trigger::of(object) {
        Ok(trigger) => Some(trigger),
        Err(error) => {
            tracing::error!(trigger = %key, %error, "a trigger cannot be read and is left out");
            None
        }
    }
}

fn stored(spec: &TriggerSpec) -> Result<serde_json::Value, Error> {
    serde_json::to_value(spec).map_err(|e| Error::Invalid(e.to_string()))
}

fn require_unowned(trigger: &Trigger) -> Result<(), Error> {
    match trigger.owner() {
        None => Ok(()),
        Some(owner) => Err(Error::InUse(format!(
            "trigger {:?} belongs to function {:?}, which says when it is called; change it there, or pause the trigger",
            trigger.object.key().name(),
            owner.name
        ))),
    }
}

fn missing(key: &ObjectKey) -> Error {
    Error::NotFound(format!(
        "trigger {:?} does not exist in namespace {:?}",
        key.name(),
        key.namespace()
    ))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: LowerError) -> Error {
    Error::Invalid(error.to_string())
}
