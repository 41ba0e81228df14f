//! Revisions as they are kept: an object each, owned by the function's document and gone with it.
//!
//! One is written when its revision is ready, or has failed and says why. They are what a restart, a rollback and a call by
//! name begin from, so none of these builds or lowers anything. How many instances there may be is no part of one: that is
//! the function's, whichever revisions it has.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_core::{FunctionSpec, Scale};
use tidegate_engine::Revision;
use tidegate_store::{Digest, Object, ObjectKey, Preconditions, Query};

use crate::{Error, Platform, revision};

const API_VERSION: &str = "tidegate.dev/v1";
const KIND: &str = "Revision";

/// The function that a revision is of, for selecting.
const FUNCTION_LABEL: &str = "tidegate.dev/function";

/// Longest part of a function's name in a revision's: what the store allows, less the revision's own word and, for names
/// that had to be cut, a word that keeps them apart.
const MAX_NAME: usize = 220;

/// Longest name that can be a label's value.
const MAX_LABEL: usize = 63;

/// Tries of a write that others race with; nobody but the controller writes revisions.
const TRIES: usize = 4;

/// A revision as it is kept.
#[derive(Clone, Debug)]
pub struct KeptRevision {
    /// Its word, unique among the function's.
    pub id: String,
    /// Which one of the function it is, from 1.
    pub number: u64,
    /// The document's generation that it was made from.
    pub generation: u64,
    /// What made it: an annotation `tidegate.dev/cause` of the document, or `deploy`, or `secret`.
    pub cause: String,
    /// RFC 3339.
    pub created: String,
    /// What it is, built. Its scale says nothing but the concurrency.
    pub spec: FunctionSpec,
    /// How it came out.
    pub phase: RevisionPhase,
    /// One line of why, where it is not ready.
    pub message: String,
    /// What its code wrote last, where it failed.
    pub log: Vec<String>,
}

/// How a revision came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevisionPhase {
    /// It is not known: the server ended at a bad moment.
    #[default]
    Unknown,
    /// It has shown that it starts.
    Ready,
    /// It could not be made ready.
    Failed,
    /// It was ready, and failed too many calls while it was rolled out.
    RolledBack,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    id: String,
    number: u64,
    generation: u64,
    cause: String,
    function: FunctionSpec,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredStatus {
    phase: RevisionPhase,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<String>,
}

/// How a revision came out, and why.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) phase: RevisionPhase,
    pub(crate) message: String,
    pub(crate) log: Vec<String>,
}

impl Verdict {
    pub(crate) const READY: Self = Self {
        phase: RevisionPhase::Ready,
        message: String::new(),
        log: Vec::new(),
    };
}

impl KeptRevision {
    /// Whether it can be given traffic.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        matches!(self.phase, RevisionPhase::Ready | RevisionPhase::RolledBack)
    }

    fn of(object: &Object) -> Option<Self> {
        let spec = Spec::deserialize(object.spec()?).ok()?;
        let status = object
            .status()
            .and_then(|s| StoredStatus::deserialize(s).ok())
            .unwrap_or_default();
        Some(Self {
            id: spec.id,
            number: spec.number,
            generation: spec.generation,
            cause: spec.cause,
            created: object.creation_timestamp().to_owned(),
            spec: spec.function,
            phase: status.phase,
            message: status.message,
            log: status.log,
        })
    }

    /// As the engine runs it: with the function's bounds of now, and its own concurrency.
    pub(crate) fn revision(&self, scale: Scale) -> Option<Revision> {
        let mut spec = self.spec.clone();
        spec.scale = Scale {
            concurrency: spec.scale.concurrency,
            ..scale
        };
        let contract = tidegate_contract::Contract::of(&spec).ok()?;
        Some(Revision {
            id: Arc::from(self.id.as_str()),
            spec: Arc::new(spec),
            contract,
        })
    }
}

impl Platform {
    /// The revisions that are kept of a function, newest first.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn revisions(&self, document: &Object) -> Result<Vec<KeptRevision>, Error> {
        let prefix = format!("{}-", stem(document.key().name()));
        let query = Query::kind(API_VERSION, KIND)
            .namespace(document.key().namespace())
            .name_prefix(&prefix);
        let objects = self.list_all(&query).await?;
        // A function whose name goes on where this one's ends has revisions that begin so too.
        let own = |object: &&Object| {
            let mut owners = object.owner_references();
            owners.any(|owner| owner.uid == document.uid())
        };
        let mut all: Vec<_> = objects
            .iter()
            .filter(own)
            .filter_map(KeptRevision::of)
            .collect();
        all.sort_by_key(|revision| std::cmp::Reverse(revision.number));
        Ok(all)
    }

    /// One of them by its word.
    pub(crate) async fn kept(
        &self,
        document: &ObjectKey,
        id: &str,
    ) -> Result<Option<KeptRevision>, Error> {
        // Whatever is asked for by a caller may be no name at all.
        let Ok(key) = key(document, id) else {
            return Ok(None);
        };
        match self.get(&key).await {
            Ok(object) => Ok(KeptRevision::of(&object)),
            Err(Error::Store(tidegate_store::Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a revision, or how it came out where it is kept already. One that was ready once stays so when it fails to
    /// start later: what it was is still there to go back to.
    pub(crate) async fn keep(
        &self,
        document: &Object,
        revision: &Revision,
        known: &[KeptRevision],
        newest: bool,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let before = known.iter().find(|kept| *kept.id == *revision.id);
        if verdict.phase == RevisionPhase::Failed && before.is_some_and(KeptRevision::can_serve) {
            return Ok(());
        }
        let next = known.iter().map(|kept| kept.number).max().unwrap_or(0) + 1;
        let cause = document.annotation("tidegate.dev/cause");
        // Another of the same generation: it is not the document that changed.
        let is_same = |kept: &KeptRevision| {
            *kept.id != *revision.id && kept.generation == document.generation()
        };
        let deployed = !known.iter().any(is_same);
        let spec = Spec {
            id: revision.id.to_string(),
            number: match before {
                // What is deployed once more is the newest once more; what is the newest stays it.
                Some(kept) if !newest || kept.number + 1 == next => kept.number,
                _ => next,
            },
            generation: document.generation(),
            cause: cause
                .unwrap_or(if deployed { "deploy" } else { "secret" })
                .to_owned(),
            function: revision::without_scale(&revision.spec),
        };
        let mut object = Object::with_spec(
            &key(document.key(), &revision.id)?,
            serde_json::to_value(spec).map_err(|e| Error::Invalid(e.to_string()))?,
        )?
        .owned_by(&document.owner_reference())?;
        let name = document.key().name();
        if name.len() <= MAX_LABEL {
            object = object.edit_metadata(|metadata| {
                metadata.insert(
                    "labels".to_owned(),
                    serde_json::json!({ FUNCTION_LABEL: name }),
                );
            })?;
        }
        let stored = self.store().objects().put(object).await?.object();
        self.judge(stored, verdict).await
    }

    /// Writes how a revision came out.
    pub(crate) async fn verdict(
        &self,
        document: &ObjectKey,
        id: &str,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let object = self.get(&key(document, id)?).await?;
        self.judge(object, verdict).await
    }

    async fn judge(&self, mut object: Object, verdict: Verdict) -> Result<(), Error> {
        let status = StoredStatus {
            phase: verdict.phase,
            message: verdict.message,
            log: verdict.log,
        };
        let status = serde_json::to_value(status).map_err(|e| Error::Invalid(e.to_string()))?;
        for _ in 0..TRIES {
            let key = object.key().clone();
            let changed = object.replace_status(status.clone())?;
            match self.store().objects().update_status(changed).await {
                Err(tidegate_store::Error::Conflict { .. }) => object = self.get(&key).await?,
                written => return Ok(written.map(drop)?),
            }
        }
        Err(Error::InUse("a revision kept changing".to_owned()))
    }

    /// Lets go of the oldest revisions beyond so many, never of one that is in use. Failed ones are counted apart, so that
    /// a bad afternoon does not leave nothing to go back to.
    pub(crate) async fn prune(
        &self,
        document: &Object,
        in_use: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let all = self.revisions(document).await?;
        let (ready, failed): (Vec<_>, Vec<_>) = all.iter().partition(|kept| kept.can_serve());
        let keep = self.revisions_kept();
        let old = ready.iter().skip(keep).chain(failed.iter().skip(keep));
        for kept in old.filter(|kept| !in_use(&kept.id)) {
            let key = key(document.key(), &kept.id)?;
            let gone = self
                .store()
                .objects()
                .delete(&key, Preconditions::default())
                .await;
            match gone {
                Ok(_) | Err(tidegate_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether an object is a revision: those go with what owns them.
pub(crate) fn is_revision(key: &ObjectKey) -> bool {
    (key.api_version(), key.kind()) == (API_VERSION, KIND)
}

/// Every revision there is, for finding the code that is in use.
pub(crate) fn all() -> Query {
    Query::kind(API_VERSION, KIND)
}

/// What a kept revision's object runs.
pub(crate) fn spec_of(object: &Object) -> Option<FunctionSpec> {
    KeptRevision::of(object).map(|kept| kept.spec)
}

fn key(document: &ObjectKey, id: &str) -> Result<ObjectKey, Error> {
    let name = format!("{}-{id}", stem(document.name()));
    Ok(ObjectKey::new(
        API_VERSION,
        KIND,
        document.namespace(),
        &name,
    )?)
}

/// What the names of a function's revisions begin with.
fn stem(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let word = &Digest::of(name.as_bytes()).hex()[..12];
    // Names are ASCII.
    format!("{}-{word}", &name[..MAX_NAME])
}
