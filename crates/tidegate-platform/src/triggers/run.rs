//! The loop's view of the platform: which triggers there are, and who accepts what comes of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_contract::Body;
use tidegate_core::record::{Cause, CauseKind};
use tidegate_core::{Backoff, InvocationId};
use tidegate_store::{Event, Query, ResourceVersion};
use tidegate_trigger_schedule::{
    Change, Cursors, Fire, Fired, Id, Refused, State, SystemClock, Tick, Unwritten,
};
use tokio::sync::mpsc;

use super::{API_VERSION, KIND, Trigger, key, read, zones};
use crate::{Error, Later, Platform};

/// Tries of writing a status that somebody changes the trigger under.
const WRITES: usize = 16;

/// Pause before the store is read again after it could not be.
const RELIST: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Triggers that are read at once.
const PAGE: usize = 500;

/// The door that what comes of triggers is said to have come through: nobody waits for an answer of its own shape.
const DOOR: &str = "native";

/// Why a call was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    /// There is no room now, or the store fails.
    #[error("{message}")]
    Later {
        /// For people.
        message: String,
        /// When to try again, where that is known.
        after: Option<Duration>,
    },
    /// It never will be.
    #[error("{message}")]
    Never {
        /// For people.
        message: String,
    },
}

struct OfPlatform(Platform);

impl Platform {
    /// Acts on triggers from now on, where there is somebody who accepts what comes of them.
    pub(crate) fn follow_triggers(&self) {
        if self.require_queue().is_err() {
            return;
        }
        let seam = Arc::new(OfPlatform(self.clone()));
        self.spawn(async move {
            let clock = Arc::new(SystemClock);
            tidegate_trigger_schedule::run(seam.clone(), seam, clock, zones()).await;
        });
    }

    /// Accepts the call that comes of a trigger.
    pub(super) async fn enqueue_fired(
        &self,
        trigger: &Trigger,
        idempotency: Option<String>,
    ) -> Result<InvocationId, Error> {
        self.require_queue()?;
        let function = trigger.function().map_err(super::invalid)?;
        let request = &trigger.spec.request;
        let later = Later {
            door: DOOR,
            method: request.method().to_owned(),
            path_and_query: request.path().to_owned(),
            headers: super::request::headers(request),
            retrying: super::retrying(&trigger.spec),
            cause: Cause {
                kind: CauseKind::Schedule,
                name: Some(trigger.object.key().name().into()),
                ..Cause::default()
            },
            idempotency,
            ..Later::default()
        };
        let body = request.body.as_ref();
        let body = body.map_or_else(Body::empty, |body| {
            Body::full(Bytes::copy_from_slice(body.as_bytes()))
        });
        let accepted = self.enqueue(crate::new_id(), &function, later, body).await;
        Ok(accepted.map_err(NotQueued::from)?.id)
    }

    pub(super) fn require_queue(&self) -> Result<(), Error> {
        if self.in_queue().is_some() {
            return Ok(());
        }
        Err(Error::Invalid(
            "this server has no queue, so that no trigger can be acted on".to_owned(),
        ))
    }

    async fn tell_all(&self, changes: &mpsc::Sender<Change>) -> Result<ResourceVersion, Error> {
        let query = Query::kind(API_VERSION, KIND);
        let (mut version, mut from) = (None, None::<String>);
        tell(changes, Change::Listing).await;
        loop {
            let page = self.list(&query, Some(PAGE), from.as_deref()).await?;
            for key in &page.damaged {
                tracing::error!(trigger = %key, "a damaged trigger was left out");
            }
            // Changes after the first page come through the watch.
            let version = *version.get_or_insert(page.resource_version);
            for trigger in page.items.into_iter().filter_map(read) {
                tell(changes, Change::Put(Box::new(trigger.known()))).await;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => {
                    tell(changes, Change::Listed).await;
                    return Ok(version);
                }
            }
        }
    }

    /// Tells changes until some were lost.
    async fn tell_changes(&self, from: ResourceVersion, changes: &mpsc::Sender<Change>) -> Error {
        let mut watch = match self.watch(&Query::kind(API_VERSION, KIND), Some(from)) {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        loop {
            match watch.next().await {
                Some(Ok(Event::Added(object) | Event::Modified(object))) => {
                    if let Some(trigger) = read(object) {
                        tell(changes, Change::Put(Box::new(trigger.known()))).await;
                    }
                }
                Some(Ok(Event::Deleted(object))) => {
                    if let Some(trigger) = read(object) {
                        tell(changes, Change::Gone(trigger.id())).await;
                    }
                }
                Some(Ok(Event::Bookmark(_))) => {}
                Some(Err(error)) => return error.into(),
                // The store is closing with the server.
                None => std::future::pending().await,
            }
        }
    }
}

#[async_trait]
impl Cursors for OfPlatform {
    async fn follow(&self, changes: mpsc::Sender<Change>) {
        let mut failures = 0;
        loop {
            let error = match self.0.tell_all(&changes).await {
                Ok(version) => {
                    failures = 0;
                    self.0.tell_changes(version, &changes).await
                }
                Err(error) => error,
            };
            failures = u32::saturating_add(failures, 1);
            match error {
                Error::Store(tidegate_store::Error::Expired { .. }) => {}
                error => tracing::error!(%error, "triggers could not be followed"),
            }
            tokio::time::sleep(RELIST.delay(failures)).await;
        }
    }

    async fn write(&self, id: &Id, state: &State) -> Result<(), Unwritten> {
        let unwritten = |error: String| Unwritten(error);
        let status = serde_json::to_value(state).map_err(|e| unwritten(e.to_string()))?;
        let key = key(&id.namespace, &id.name).map_err(|e| unwritten(e.to_string()))?;
        let objects = self.0.store().objects();
        let mut tries = 0;
        loop {
            let object = match objects.get(&key).await {
                Ok(object) if *object.uid() == *id.uid => object,
                // Gone, or another.
                Ok(_) | Err(tidegate_store::Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(unwritten(error.to_string())),
            };
            let written = match object.replace_status(status.clone()) {
                Ok(object) => objects.update_status(object).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(_) | Err(tidegate_store::Error::NotFound { .. }) => return Ok(()),
                Err(tidegate_store::Error::Conflict { .. }) if tries < WRITES => tries += 1,
                Err(error) => return Err(unwritten(error.to_string())),
            }
        }
    }
}

#[async_trait]
impl Fire for OfPlatform {
    async fn fire(&self, id: &Id, tick: Tick) -> Result<Fired, Refused> {
        let never = |message: String| Refused::Never { message };
        let later = |message: String| Refused::Later {
            message,
            after: None,
        };
        // Read as it is now: what is sent may have changed since the trigger was told of.
        let key = key(&id.namespace, &id.name).map_err(|e| never(e.to_string()))?;
        let object = match self.0.store().objects().get(&key).await {
            Ok(object) if *object.uid() == *id.uid => object,
            Ok(_) | Err(tidegate_store::Error::NotFound { .. }) => {
                return Err(never("the trigger is gone".to_owned()));
            }
            Err(error) => return Err(later(error.to_string())),
        };
        let trigger = Trigger::of(object).map_err(|e| never(e.to_string()))?;
        let required = self
            .0
            .require_function(&id.namespace, &trigger.spec.function);
        match required.await {
            Ok(()) => {}
            Err(Error::Invalid(message)) => return Err(never(message)),
            Err(error) => return Err(later(error.to_string())),
        }
        match self.0.enqueue_fired(&trigger, Some(tick.key(id))).await {
            Ok(invocation) => Ok(Fired {
                invocation: invocation.to_string(),
            }),
            Err(Error::NotQueued(NotQueued::Later { message, after })) => {
                Err(Refused::Later { message, after })
            }
            Err(error) => Err(never(error.to_string())),
        }
    }
}

/// Tells a change; nobody listens where the loop is ending.
async fn tell(changes: &mpsc::Sender<Change>, change: Change) {
    let _ = changes.send(change).await;
}
