//! Brings the engine in line with what is stored.
//!
//! One watch over the store, one task a document that changed, which reads the document as it is then. Everything it does
//! can be done again: a restart lists everything, puts to work what had been ready, and carries on with what had not.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::{Backoff, FunctionKey};
use tidegate_engine::Revision;
use tidegate_store::{Event, Object, ObjectKey, Query, ResourceVersion};
use tokio::sync::{Notify, Semaphore};

use crate::builds::BuildStatus;
use crate::lower::{Lowered, Switch};
use crate::status::{Phase, Status};
use crate::{Error, Platform, revision, secrets};

/// Functions that are made ready at the same time. Each may start instances and unpack code.
const AT_ONCE: usize = 8;

/// Tries of reading a document before its change is left to the next one.
const READS: u32 = 5;

/// Pause before the store is read again after it could not be.
const RELIST: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Documents that are being brought in line.
pub(crate) struct Controller {
    /// And whether something came for one since it was last read.
    busy: Mutex<HashMap<ObjectKey, bool>>,
    /// Where a document's function is called, to remove it when the document is gone or names another place.
    places: Mutex<HashMap<ObjectKey, FunctionKey>>,
    room: Semaphore,
    /// Notified at every change of a document, before it is looked at.
    pub(crate) changed: Notify,
}

/// The phase of a document's own generation, for those who only want to know whether it is done.
#[must_use]
pub fn settled_phase(object: &Object) -> Option<Phase> {
    let status = Status::of(object);
    status
        .is_settled(object.generation())
        .then_some(status.phase)
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            busy: Mutex::default(),
            places: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
            changed: Notify::new(),
        }
    }
}

impl Platform {
    /// Puts everything stored to work, then follows the changes.
    pub(crate) async fn control(&self) -> Result<(), Error> {
        let from = self.adopt_all().await?;
        let platform = self.clone();
        self.spawn(async move {
            let (mut from, mut failures) = (from, 0);
            loop {
                match platform.follow(from).await {
                    Error::Store(tidegate_store::Error::Expired { .. }) => {}
                    error => tracing::error!(%error, "the store's changes could not be followed"),
                }
                tokio::time::sleep(RELIST.delay(failures)).await;
                match platform.resubmit_all().await {
                    Ok(version) => (from, failures) = (version, 0),
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        tracing::error!(%error, "the store could not be listed");
                    }
                }
            }
        });
        Ok(())
    }

    /// Deals once more with a document whose generation could not be made ready: what was in the way may be gone.
    ///
    /// # Errors
    /// The document is not there, or the store cannot write.
    pub async fn retry(&self, object: Object) -> Result<Object, Error> {
        let status = Status {
            phase: Phase::Pending,
            ..Status::of(&object)
        };
        let status = serde_json::to_value(&status).map_err(|e| Error::Invalid(e.to_string()))?;
        Ok(self
            .store()
            .objects()
            .update_status(object.replace_status(status)?)
            .await?)
    }

    async fn follow(&self, from: ResourceVersion) -> Error {
        let mut watch = match self.watch(&Query::everything(), Some(from)) {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        loop {
            match watch.next().await {
                Some(Ok(
                    Event::Added(object) | Event::Modified(object) | Event::Deleted(object),
                )) => self.changed(object.key()),
                Some(Ok(Event::Bookmark(_))) => {}
                Some(Err(error)) => return error.into(),
                // The store is closing with the server.
                None => std::future::pending().await,
            }
        }
    }

    fn changed(&self, key: &ObjectKey) {
        if self.lowerer(key).is_some() {
            self.submit(key.clone());
        } else if (key.api_version(), key.kind()) == (secrets::API_VERSION, secrets::KIND) {
            self.secret_changed(key.namespace(), key.name());
        }
    }

    /// Functions that name the secret are looked at again, which replaces their instances.
    fn secret_changed(&self, namespace: &str, name: &str) {
        let users = self.users_of_secret(namespace, name);
        let documents: Vec<ObjectKey> = {
            let places = self.controller().places.lock();
            places
                .iter()
                .filter(|(_, place)| users.contains(place))
                .map(|(k, _)| k.clone())
                .collect()
        };
        for key in documents {
            self.submit(key);
        }
    }

    /// Has a document looked at, by the one task that looks at it. What it says is read there and then: of several changes
    /// the newest counts, in whatever order news of them came.
    fn submit(&self, key: ObjectKey) {
        self.controller().changed.notify_waiters();
        match self.controller().busy.lock().entry(key.clone()) {
            Entry::Occupied(mut again) => {
                again.insert(true);
                return;
            }
            Entry::Vacant(first) => first.insert(false),
        };
        let platform = self.clone();
        self.spawn(async move {
            loop {
                platform.look_at(&key).await;
                platform.notify_settled();
                let mut busy = platform.controller().busy.lock();
                if !busy.get_mut(&key).is_some_and(std::mem::take) {
                    busy.remove(&key);
                    break;
                }
            }
        });
    }

    async fn look_at(&self, key: &ObjectKey) {
        let mut failures = 0;
        let object = loop {
            match self.get(key).await {
                Ok(object) => break object,
                Err(Error::Store(tidegate_store::Error::NotFound { .. })) => {
                    self.builds().forget(key);
                    let place = self.controller().places.lock().remove(key);
                    if let Some(place) = place {
                        self.engine().remove(place.borrowed());
                    }
                    return;
                }
                Err(error) => {
                    failures += 1;
                    tracing::error!(object = %key, %error, "a function could not be read");
                    if failures == READS {
                        return;
                    }
                    tokio::time::sleep(RELIST.delay(failures)).await;
                }
            }
        };
        self.bring_in_line(object).await;
    }

    async fn bring_in_line(&self, object: Object) {
        let before = Status::of(&object);
        let generation = object.generation();
        let mut build = before.build.clone();
        let outcome = self.make_ready(&object, &before, &mut build).await;
        let status = match outcome {
            Ok(Some(revision)) => Status {
                observed_generation: generation,
                phase: Phase::Ready,
                message: String::new(),
                revision: revision.id.to_string(),
                serving: Some((*revision.spec).clone()),
                build,
            },
            // Nothing to do, and the status says so already.
            Ok(None) => return,
            Err(message) => Status {
                observed_generation: generation,
                phase: Phase::Failed,
                message,
                revision: before.revision.clone(),
                serving: before
                    .serving
                    .clone()
                    .or_else(|| self.serving(object.key())),
                build,
            },
        };
        if status == before {
            return;
        }
        tracing::info!(object = %object.key(), generation, phase = ?status.phase, revision = status.revision, message = status.message, "function brought in line");
        let written = match serde_json::to_value(&status) {
            Ok(status) => match object.replace_status(status) {
                Ok(object) => self.store().objects().update_status(object).await.map(drop),
                Err(error) => Err(error),
            },
            Err(error) => return tracing::error!(%error, "a status could not be written as JSON"),
        };
        match written {
            // A newer version is on its way here and brings its own status.
            Ok(())
            | Err(
                tidegate_store::Error::Conflict { .. } | tidegate_store::Error::NotFound { .. },
            ) => {}
            Err(error) => tracing::error!(%error, "a function's status could not be stored"),
        }
    }

    /// Makes the document's own generation serve. The revision that does, or `None` where nothing was to be done.
    async fn make_ready(
        &self,
        object: &Object,
        before: &Status,
        build: &mut BuildStatus,
    ) -> Result<Option<Revision>, String> {
        let mut lowered = self.lower(object).map_err(|e| e.to_string())?;
        if before.is_settled(object.generation()) && before.build.failed {
            return Ok(None);
        }
        let (built, how) = self.built(object, &lowered).await;
        *build = how;
        lowered.spec = built.map_err(|e| e.to_string())?;
        // Builds have bounds of their own, and a slow one keeps nobody else from being made ready.
        let _room = self.controller().room.acquire().await;
        let namespace = lowered.key.namespace.clone();
        lowered.spec.secrets_generation = self
            .secrets_generation(&namespace, &lowered.spec)
            .await
            .map_err(|e| e.to_string())?;
        let revision = revision::of(lowered.spec.clone()).map_err(|e| e.to_string())?;
        self.move_place(object.key(), &lowered);
        let serving = self
            .function(lowered.key.borrowed())
            .and_then(|f| self.engine().current(&f));
        let is_serving =
            serving.is_some_and(|r| r.id == revision.id && r.spec.scale == revision.spec.scale);
        let settled = before.is_settled(object.generation());
        if settled
            && (is_serving || before.phase == Phase::Failed && before.revision != *revision.id)
        {
            return Ok(None);
        }
        self.engine()
            .prepare(&lowered.spec.runtime)
            .await
            .map_err(|e| e.to_string())?;
        // Unpacked now rather than at the first call, and said now if it cannot be.
        let digest = lowered.spec.code.digest.parse();
        let digest = digest.map_err(|e: tidegate_store::DigestError| e.to_string())?;
        self.bundles()
            .built(&digest)
            .await
            .map_err(|e| e.to_string())?;
        match lowered.switch {
            Switch::AtOnce => self.engine().install(&lowered.key, revision.clone()),
            Switch::WhenReady => {
                self.engine()
                    .deploy(&lowered.key, revision.clone())
                    .await
                    .map_err(|e| e.to_string())?;
            }
        }
        Ok(Some(revision))
    }

    /// Remembers where a document's function is called; what it left behind elsewhere is removed.
    fn move_place(&self, document: &ObjectKey, lowered: &Lowered) {
        let before = self
            .controller()
            .places
            .lock()
            .insert(document.clone(), lowered.key.clone());
        if let Some(before) = before.filter(|before| *before != lowered.key) {
            self.engine().remove(before.borrowed());
        }
    }

    /// What serves in a document's place now.
    fn serving(&self, document: &ObjectKey) -> Option<tidegate_core::FunctionSpec> {
        let place = self.controller().places.lock().get(document).cloned()?;
        let function = self.function(place.borrowed())?;
        self.engine().current(&function).map(|r| (*r.spec).clone())
    }

    /// At start: everything that was ready is put to work without starting anything, everything else is dealt with as if
    /// it had just changed.
    async fn adopt_all(&self) -> Result<ResourceVersion, Error> {
        let mut version = None;
        for lower in self.kinds() {
            let (api_version, kind) = lower.kind();
            let query = Query::kind(api_version, kind);
            let mut from: Option<String> = None;
            loop {
                let page = self.list(&query, None, from.as_deref()).await?;
                for key in &page.damaged {
                    tracing::error!(object = %key, "a damaged function was left out");
                }
                // Changes after the first page come through the watch.
                version.get_or_insert(page.resource_version);
                for object in page.items {
                    self.adopt(object).await;
                }
                match page.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        match version {
            Some(version) => Ok(version),
            None => Ok(self
                .list(&Query::everything(), Some(1), None)
                .await?
                .resource_version),
        }
    }

    async fn adopt(&self, object: Object) {
        let status = Status::of(&object);
        let Ok(mut lowered) = self.lower(&object) else {
            return self.submit(object.key().clone());
        };
        self.move_place(object.key(), &lowered);
        let ready = status.phase == Phase::Ready && status.is_settled(object.generation());
        let spec = if ready {
            // What was built serves again as it is, with the numbers of instances that are wanted now.
            if let Some(serving) = status.serving {
                lowered.spec = tidegate_core::FunctionSpec {
                    scale: lowered.spec.scale,
                    ..serving
                };
            }
            match self
                .secrets_generation(&lowered.key.namespace, &lowered.spec)
                .await
            {
                Ok(generation) => lowered.spec.secrets_generation = generation,
                Err(error) => {
                    tracing::warn!(object = %object.key(), %error, "a secret is missing");
                }
            }
            Some(lowered.spec)
        } else {
            status.serving
        };
        if let Some(revision) = spec.and_then(|spec| revision::of(spec).ok()) {
            let (engine, runtime) = (self.engine().clone(), revision.spec.runtime.clone());
            self.engine().install(&lowered.key, revision);
            self.spawn(async move {
                if let Err(error) = engine.prepare(&runtime).await {
                    tracing::warn!(runtime, %error, "a runtime that functions need is not available");
                }
            });
        }
        if !ready {
            self.submit(object.key().clone());
        }
    }

    /// After a gap in the watch: everything stored is looked at, and what is no longer stored is removed.
    async fn resubmit_all(&self) -> Result<ResourceVersion, Error> {
        let version = self
            .list(&Query::everything(), Some(1), None)
            .await?
            .resource_version;
        let mut gone: std::collections::HashSet<ObjectKey> =
            self.controller().places.lock().keys().cloned().collect();
        for lower in self.kinds() {
            let (api_version, kind) = lower.kind();
            for object in self.list_all(&Query::kind(api_version, kind)).await? {
                gone.remove(object.key());
                self.submit(object.key().clone());
            }
        }
        for key in gone {
            self.submit(key);
        }
        Ok(version)
    }
}
