//! Brings the engine in line with what is stored.
//!
//! One watch over the store, one task a document that changed, which reads the document as it is then. Everything it does
//! can be done again: a restart lists everything, puts to work what had been ready, and carries on with what had not.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tidegate_core::traffic::Target;
use tidegate_core::{Backoff, FunctionKey};
use tidegate_engine::{Arrangement, LogQuery, Revision, UnknownRevision};
use tidegate_store::{Event, Object, ObjectKey, Query, ResourceVersion};
use tokio::sync::{Notify, Semaphore};

use crate::builds::BuildStatus;
use crate::images::{Furnished, RUNTIME_KIND};
use crate::lower::{Lowered, Switch};
use crate::revisions::{KeptRevision, RevisionPhase, Verdict};
use crate::status::{Phase, Status};
use crate::traffic::{self, RolloutPhase, TrafficPart, Wanted};
use crate::triggers::Wishes;
use crate::{Error, Platform, namespaces, revision, secrets};

/// Functions that are made ready at the same time. Each may start instances and unpack code.
const AT_ONCE: usize = 8;

/// Tries of reading a document before its change is left to the next one.
const READS: u32 = 5;

/// Tries of writing a status that others write into as well.
const WRITES: u32 = 4;

/// Pause before the store is read again after it could not be.
const RELIST: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// Lines of a log that a revision which failed keeps.
const LOG_LINES: usize = 20;

/// Documents that are being brought in line.
pub(crate) struct Controller {
    busy: Mutex<HashMap<ObjectKey, Busy>>,
    /// Notified when a document changes that is being brought in line.
    changed: Notify,
    /// Where a document's function is called, to remove it when the document is gone or names another place.
    places: Mutex<HashMap<ObjectKey, FunctionKey>>,
    room: Semaphore,
}

/// A document that is being brought in line.
#[derive(Default)]
struct Busy {
    /// Something came for it since it was last read.
    again: bool,
    /// The newest generation that is known of.
    generation: u64,
}

/// What became of a document's generation.
enum Outcome {
    /// It serves as it should, or the one before it does where it was given up; the status to that effect.
    Arranged(Box<Status>),
    /// A newer generation is there, and is dealt with next.
    Overtaken,
}

/// Why a generation was not made ready.
struct Failure {
    message: String,
    /// The revision whose fault it is, where it is one's.
    revision: Option<Revision>,
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
            changed: Notify::new(),
            places: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
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
                Some(Ok(Event::Added(object) | Event::Modified(object))) => {
                    if namespaces::is_namespace(object.key()) {
                        self.quota_changed(object.key().name(), Some(&object));
                    }
                    self.changed(object.key(), object.generation());
                }
                Some(Ok(Event::Deleted(object))) => {
                    if namespaces::is_namespace(object.key()) {
                        self.quota_changed(object.key().name(), None);
                    }
                    // Newer than any.
                    self.changed(object.key(), u64::MAX);
                }
                Some(Ok(Event::Bookmark(_))) => {}
                Some(Err(error)) => return error.into(),
                // The store is closing with the server.
                None => std::future::pending().await,
            }
        }
    }

    fn changed(&self, key: &ObjectKey, generation: u64) {
        if self.lowerer(key).is_some() {
            self.submit_generation(key.clone(), generation);
        } else if (key.api_version(), key.kind()) == (secrets::API_VERSION, secrets::KIND) {
            self.secret_changed(key.namespace(), key.name());
        } else if (key.api_version(), key.kind()) == (namespaces::API_VERSION, namespaces::KIND) {
            self.egress_lists().forget(key.name());
        } else if (key.api_version(), key.kind()) == (secrets::API_VERSION, RUNTIME_KIND) {
            // Few change, and seldom; whoever does not use it is found to be as it should.
            let all: Vec<ObjectKey> = self.controller().places.lock().keys().cloned().collect();
            for key in all {
                self.submit(key);
            }
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
        self.submit_generation(key, 0);
    }

    fn submit_generation(&self, key: ObjectKey, generation: u64) {
        match self.controller().busy.lock().entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let busy = entry.get_mut();
                busy.again = true;
                busy.generation = busy.generation.max(generation);
                self.controller().changed.notify_waiters();
                return;
            }
            Entry::Vacant(first) => drop(first.insert(Busy {
                again: false,
                generation,
            })),
        }
        let platform = self.clone();
        self.spawn(async move {
            loop {
                platform.look_at(&key).await;
                platform.notify_settled();
                let mut busy = platform.controller().busy.lock();
                match busy.get_mut(&key) {
                    // A deletion is newer than any, but whatever is made after it begins anew.
                    Some(entry) if entry.again => *entry = Busy::default(),
                    _ => {
                        busy.remove(&key);
                        break;
                    }
                }
            }
        });
    }

    /// Resolves when a newer generation of the document is there.
    pub(crate) async fn overtaken(&self, key: &ObjectKey, generation: u64) {
        loop {
            let mut changed = std::pin::pin!(self.controller().changed.notified());
            changed.as_mut().enable();
            let newest = self.controller().busy.lock().get(key).map(|b| b.generation);
            if newest.is_some_and(|newest| newest > generation) {
                return;
            }
            changed.await;
        }
    }

    async fn look_at(&self, key: &ObjectKey) {
        let mut failures = 0;
        let object = loop {
            match self.get(key).await {
                Ok(object) => break object,
                Err(Error::Store(tidegate_store::Error::NotFound { .. })) => {
                    self.builds().forget(key);
                    let place = self.controller().places.lock().remove(key);
                    self.rollouts().forget(key);
                    if let Some(place) = place {
                        self.engine().remove(place.borrowed());
                        self.ledger().set_level(&place, None);
                        self.queue_rules_changed(&place, None);
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

    async fn bring_in_line(&self, mut object: Object) {
        let mut before = Status::of(&object);
        let began = SystemTime::now();
        let mut build = before.build.clone();
        let written = match self.make_ready(&mut object, &mut before, &mut build).await {
            Ok(Outcome::Arranged(status)) => {
                let status = Status { build, ..*status };
                if status == before {
                    return;
                }
                tell(&object, &status);
                self.write_status(object, &status).await
            }
            Ok(Outcome::Overtaken) => return,
            Err(failure) => {
                if let Some(revision) = &failure.revision {
                    self.keep_failed(&object, revision, &failure.message, began)
                        .await;
                }
                self.write_failure(object, before, &failure.message, &build)
                    .await
            }
        };
        match written {
            // A newer version is on its way here and brings its own status.
            Ok(())
            | Err(Error::Store(
                tidegate_store::Error::Conflict { .. } | tidegate_store::Error::NotFound { .. },
            )) => {}
            Err(error) => tracing::error!(%error, "a function's status could not be stored"),
        }
    }

    /// Writes that a generation could not be made ready, beside what came into its status meanwhile: a rollout's steps, or
    /// traffic that was pinned. Else it would be tried all over again, a build of minutes with it.
    async fn write_failure(
        &self,
        mut object: Object,
        mut before: Status,
        message: &str,
        build: &BuildStatus,
    ) -> Result<(), Error> {
        let (uid, generation) = (object.uid().to_owned(), object.generation());
        let mut tries = 0;
        loop {
            let status = Status {
                observed_generation: generation,
                phase: Phase::Failed,
                message: message.to_owned(),
                build: build.clone(),
                ..before.clone()
            };
            if status == before {
                return Ok(());
            }
            tell(&object, &status);
            let key = object.key().clone();
            match self.write_status(object, &status).await {
                Err(Error::Store(tidegate_store::Error::Conflict { .. })) if tries < WRITES => {
                    tries += 1;
                    object = self.get(&key).await?;
                    let now = Status::of(&object);
                    let stood = |s: &Status| (s.phase, s.observed_generation);
                    // Another document, or asked for again: it is looked at once more in any case.
                    if (object.uid(), object.generation()) != (&uid, generation)
                        || stood(&now) != stood(&before)
                    {
                        return Ok(());
                    }
                    before = now;
                }
                written => return written,
            }
        }
    }

    /// Makes the document's own generation serve, as far as its traffic says. `build` is how its build went; the document
    /// and its status become newer where the status has to say meanwhile what is being waited for.
    async fn make_ready(
        &self,
        object: &mut Object,
        before: &mut Status,
        build: &mut BuildStatus,
    ) -> Result<Outcome, Failure> {
        let mut lowered = self.lower(object)?;
        let namespace = lowered.key.namespace.clone();
        lowered.spec.secrets_generation =
            self.secrets_generation(&namespace, &lowered.spec).await?;
        self.move_place(object.key(), &lowered);
        let wishes = Wishes {
            document: object,
            function: &lowered.key.name,
            schedules: &lowered.schedules,
        };
        self.keep_triggers(wishes).await?;
        let known = self.revisions(object).await?;
        self.pin(object, &lowered, before, &known).await?;
        let settled = before.is_settled(object.generation());
        let furnished = match self.furnish(object, before, &lowered).await? {
            Furnished::Here(spec, image) => {
                lowered.spec = *spec;
                Some(image)
            }
            Furnished::GivenUp => None,
            Furnished::Overtaken => return Ok(Outcome::Overtaken),
        };
        let (object, before) = (&*object, &*before);
        let revision = if furnished.is_none() || settled && before.build.failed {
            None
        } else {
            let Some((built, how)) = self.built(object, &lowered).await else {
                return Ok(Outcome::Overtaken);
            };
            // How it is found again says nothing of how it was built.
            if !settled {
                *build = how;
            }
            lowered.spec = built.map_err(|e| e.to_string())?;
            Some(revision::of(lowered.spec.clone())?)
        };
        // Builds have bounds of their own, and a slow one keeps nobody else from being made ready.
        let _room = self.controller().room.acquire().await;
        let fit = revision.filter(|revision| {
            let taken_back = before.rollout.as_ref().is_some_and(|r| {
                r.phase == RolloutPhase::RolledBack && *r.revision == *revision.id
            });
            before.phase != Phase::Failed
                || before.revision == *revision.id
                || !(taken_back || settled)
        });
        let given_up = fit.is_none();
        let latest = match fit {
            Some(revision) => revision,
            // What failed is not tried again by itself: the one before it goes on.
            None => {
                let kept = known.iter().find(|kept| kept.id == before.revision);
                match kept.and_then(|kept| kept.revision(lowered.spec.scale)) {
                    Some(latest) => latest,
                    None => return Ok(Outcome::Arranged(Box::new(before.clone()))),
                }
            }
        };
        let is_new = before.revision != *latest.id
            || !known.iter().any(|k| *k.id == *latest.id && k.can_serve());
        let blame = |message: String| Failure {
            message,
            revision: is_new.then(|| latest.clone()),
        };
        if is_new {
            self.fetch(&latest).await.map_err(blame)?;
        }
        let wanted = self.wanted(&lowered, &latest, &known, before)?;
        let generation = object.generation();
        if !self.is_in_force(&lowered, &wanted.arrangement) {
            let engine = self.engine();
            match lowered.switch {
                Switch::AtOnce => engine.install(&lowered.key, wanted.arrangement),
                Switch::WhenReady => tokio::select! {
                    biased;
                    done = engine.deploy(&lowered.key, wanted.arrangement) => {
                        done.map_err(|e| blame(e.to_string()))?;
                    }
                    () = self.overtaken(object.key(), generation) => return Ok(Outcome::Overtaken),
                },
            }
        }
        if is_new {
            self.keep(object, &latest, &known, true, Verdict::READY)
                .await?;
        }
        let plan = lowered.rollout.as_ref().map(|r| r.plan);
        let rollout = wanted.rollout.or_else(|| ended(before));
        self.rollouts()
            .follow(object.key(), &lowered.key, plan, rollout.as_ref());
        let status = Status {
            observed_generation: generation,
            phase: if given_up {
                Phase::Failed
            } else {
                Phase::Ready
            },
            message: if given_up {
                before.message.clone()
            } else {
                String::new()
            },
            revision: latest.id.to_string(),
            traffic: wanted.parts,
            rollout,
            image: furnished.unwrap_or_else(|| before.image.clone()),
            build: BuildStatus::default(),
        };
        if is_new {
            let in_use = |id: &str| {
                *latest.id == *id || status.traffic.iter().any(|part| part.revision == id)
            };
            self.prune(object, in_use).await?;
        }
        Ok(Outcome::Arranged(Box::new(status)))
    }

    /// Traffic that is pinned to revisions does not wait for another that may be long in coming, or never come.
    async fn pin(
        &self,
        object: &Object,
        lowered: &Lowered,
        before: &Status,
        known: &[KeptRevision],
    ) -> Result<(), Failure> {
        let pinned = |share: &tidegate_core::traffic::Share| share.to != Target::Latest;
        if lowered.traffic.is_empty() || !lowered.traffic.iter().all(pinned) {
            return Ok(());
        }
        let latest = known.iter().find(|kept| kept.id == before.revision);
        let Some(latest) = latest.and_then(|kept| kept.revision(lowered.spec.scale)) else {
            return Ok(());
        };
        let wanted = self.wanted(lowered, &latest, known, before)?;
        if self.is_in_force(lowered, &wanted.arrangement) {
            return Ok(());
        }
        let status = Status {
            revision: latest.id.to_string(),
            traffic: wanted.parts,
            rollout: wanted.rollout.or_else(|| ended(before)),
            ..before.clone()
        };
        let deployed = self.engine().deploy(&lowered.key, wanted.arrangement).await;
        deployed.map_err(|e| Failure::from(e.to_string()))?;
        // So that a server that ends now comes back to this. Whatever is in the way, what follows writes it once more.
        let stored = self.get(object.key()).await?;
        if stored.generation() == object.generation() {
            let _ = self.write_status(stored, &status).await;
        }
        Ok(())
    }

    /// What the traffic is to be when this is the newest revision.
    fn wanted(
        &self,
        lowered: &Lowered,
        latest: &Revision,
        known: &[KeptRevision],
        before: &Status,
    ) -> Result<Arranged, Failure> {
        let mut ready: Vec<String> = known
            .iter()
            .filter(|kept| kept.can_serve())
            .map(|kept| kept.id.clone())
            .collect();
        if !ready.iter().any(|id| **id == *latest.id) {
            ready.insert(0, latest.id.to_string());
        }
        let Wanted { parts, rollout } = traffic::wanted(lowered, &latest.id, &ready, before)
            .map_err(|e| Failure::from(format!("spec.traffic: {e}")))?;
        let mut revisions: HashMap<String, Revision> = known
            .iter()
            .filter(|kept| parts.iter().any(|part| part.revision == kept.id))
            .filter_map(|kept| Some((kept.id.clone(), kept.revision(lowered.spec.scale)?)))
            .collect();
        revisions.insert(latest.id.to_string(), latest.clone());
        let arrangement =
            traffic::arrangement(&parts, &latest.id, &revisions).ok_or_else(|| {
                Failure::from("spec.traffic: a revision cannot be read any more".to_owned())
            })?;
        Ok(Arranged {
            arrangement,
            parts: parts.into_iter().map(TrafficPart::from).collect(),
            rollout,
        })
    }

    fn is_in_force(&self, lowered: &Lowered, arrangement: &Arrangement) -> bool {
        self.function(lowered.key.borrowed())
            .is_some_and(|f| traffic::is_in_force(arrangement, &self.engine().members(&f)))
    }

    /// Gets what a revision needs: its code now rather than at the first call, so that it is said now if it cannot be.
    async fn fetch(&self, revision: &Revision) -> Result<(), String> {
        let spec = &revision.spec;
        match &spec.root {
            // The machine's own runtimes have no part in it.
            Some(root) => drop(self.image_layers(&root.image).map_err(|e| e.to_string())?),
            None => {
                let prepared = self.engine().prepare(&spec.runtime).await;
                prepared.map_err(|e| e.to_string())?;
            }
        }
        let code = Some(&spec.code.digest).filter(|digest| !digest.is_empty());
        for digest in code.into_iter().chain(&spec.code.layer) {
            let digest = digest.parse();
            let digest = digest.map_err(|e: tidegate_store::DigestError| e.to_string())?;
            self.bundles()
                .built(&digest)
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Keeps a revision that could not be made ready, with the reason and what it wrote last.
    async fn keep_failed(
        &self,
        object: &Object,
        revision: &Revision,
        message: &str,
        since: SystemTime,
    ) {
        let place = self.controller().places.lock().get(object.key()).cloned();
        let function = place.and_then(|place| self.function(place.borrowed()));
        let query = LogQuery {
            since: Some(since),
            ..LogQuery::default()
        };
        let lines = function.map(|f| f.log().tail(query, Some(LOG_LINES)).read());
        let verdict = Verdict {
            phase: RevisionPhase::Failed,
            message: message.to_owned(),
            log: lines
                .into_iter()
                .flatten()
                .map(|line| line.text.to_string())
                .collect(),
        };
        let kept = async {
            let known = self.revisions(object).await?;
            self.keep(object, revision, &known, false, verdict).await?;
            let status = Status::of(object);
            let in_use = |id: &str| {
                status.revision == id || status.traffic.iter().any(|part| part.revision == id)
            };
            self.prune(object, in_use).await
        };
        if let Err(error) = kept.await {
            tracing::error!(object = %object.key(), %error, "a revision that failed could not be kept");
        }
    }

    /// For a call that names a revision which is not at work.
    pub(crate) async fn revision_by_word(
        &self,
        place: &FunctionKey,
        word: &str,
    ) -> Result<Revision, UnknownRevision> {
        let document = {
            let places = self.controller().places.lock();
            let mut places = places.iter();
            places
                .find(|(_, at)| *at == place)
                .map(|(key, _)| key.clone())
        };
        let document = document.ok_or_else(UnknownRevision::default)?;
        let unread = |error: Error| {
            tracing::error!(%document, %error, "the revisions of a function could not be read");
            UnknownRevision::default()
        };
        let object = self.get(&document).await.map_err(unread)?;
        let known = self.revisions(&object).await.map_err(unread)?;
        let found = known
            .iter()
            .find(|kept| kept.id == word && kept.can_serve());
        let scale = self.lower(&object).ok().map(|lowered| lowered.spec.scale);
        if let Some(revision) = found
            .zip(scale)
            .and_then(|(kept, scale)| kept.revision(scale))
        {
            return Ok(revision);
        }
        let function = self.function(place.borrowed());
        let members = function
            .map(|f| self.engine().members(&f))
            .unwrap_or_default();
        let tags = members
            .iter()
            .flat_map(|m| m.tags.iter().map(ToString::to_string));
        let ids = known
            .iter()
            .filter(|kept| kept.can_serve())
            .map(|kept| kept.id.clone());
        Err(UnknownRevision {
            there: ["latest".to_owned()]
                .into_iter()
                .chain(tags)
                .chain(ids)
                .collect(),
        })
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
            self.ledger().set_level(&before, None);
            self.queue_rules_changed(&before, None);
        }
        self.ledger().set_level(&lowered.key, lowered.records);
        self.queue_rules_changed(&lowered.key, Some(lowered.queue.clone()));
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
        let version = match version {
            Some(version) => version,
            None => {
                let any = self.list(&Query::everything(), Some(1), None).await?;
                any.resource_version
            }
        };
        self.read_quotas().await?;
        Ok(version)
    }

    async fn adopt(&self, object: Object) {
        let status = Status::of(&object);
        let Ok(lowered) = self.lower(&object) else {
            return self.submit(object.key().clone());
        };
        self.move_place(object.key(), &lowered);
        let arrangement = self.kept_arrangement(&object, &lowered, &status).await;
        let is_there = arrangement.is_some();
        if let Some(arrangement) = arrangement {
            let of_the_machine =
                |share: &&tidegate_engine::Share| share.revision.spec.root.is_none();
            for share in arrangement.shares().iter().filter(of_the_machine) {
                let (engine, runtime) =
                    (self.engine().clone(), share.revision.spec.runtime.clone());
                self.spawn(async move {
                    if let Err(error) = engine.prepare(&runtime).await {
                        tracing::warn!(runtime, %error, "a runtime that functions need is not available");
                    }
                });
            }
            self.engine().install(&lowered.key, arrangement);
            let plan = lowered.rollout.as_ref().map(|r| r.plan);
            self.rollouts()
                .follow(object.key(), &lowered.key, plan, status.rollout.as_ref());
        }
        if !is_there || !status.is_settled(object.generation()) {
            self.submit(object.key().clone());
        }
    }

    /// What served when the status was written, out of the revisions that are kept.
    async fn kept_arrangement(
        &self,
        object: &Object,
        lowered: &Lowered,
        status: &Status,
    ) -> Option<Arrangement> {
        let parts: Vec<_> = status.traffic.iter().map(Into::into).collect();
        let mut revisions = HashMap::new();
        let named = status.traffic.iter().map(|part| &part.revision);
        for id in named.chain([&status.revision]) {
            if revisions.contains_key(id) || id.is_empty() {
                continue;
            }
            match self.kept(object.key(), id).await {
                Ok(Some(kept)) => {
                    revisions.insert(id.clone(), kept.revision(lowered.spec.scale)?);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(object = %object.key(), revision = id, %error, "a revision could not be read");
                }
            }
        }
        traffic::arrangement(&parts, &status.revision, &revisions)
    }

    /// After a gap in the watch: everything stored is looked at, and what is no longer stored is removed.
    async fn resubmit_all(&self) -> Result<ResourceVersion, Error> {
        let version = self
            .list(&Query::everything(), Some(1), None)
            .await?
            .resource_version;
        self.egress_lists().forget_all();
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
        self.read_quotas().await?;
        Ok(version)
    }
}

/// What the engine is to be told, and the status then.
struct Arranged {
    arrangement: Arrangement,
    parts: Vec<TrafficPart>,
    rollout: Option<traffic::Rollout>,
}

fn tell(object: &Object, status: &Status) {
    tracing::info!(object = %object.key(), generation = object.generation(), phase = ?status.phase, revision = status.revision, message = status.message, "function brought in line");
}

/// The last rollout, if it is over: it is told of until the next.
fn ended(before: &Status) -> Option<traffic::Rollout> {
    let last = before.rollout.as_ref();
    last.filter(|r| r.phase != RolloutPhase::Running).cloned()
}

// === impl Failure ===

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self {
            message,
            revision: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.to_string().into()
    }
}

impl From<crate::LowerError> for Failure {
    fn from(error: crate::LowerError) -> Self {
        error.to_string().into()
    }
}
