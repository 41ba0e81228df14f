//! Functions, whichever dialect's they are.
//!
//! A function belongs to the dialect whose document it is. Every other dialect may call it, list it and read its logs; a
//! write through another is refused, since only the owner knows how to keep the document its client sent. Two documents of
//! different kinds that would be the same function cannot both be: the second is refused.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{FunctionKey, FunctionRef, FunctionSpec};
use tidegate_engine::Function;
use tidegate_store::{Object, ObjectKey, Put, Query};

use crate::{Error, Lower, Platform, Status};

/// A function as another dialect tells of it.
#[derive(Clone, Debug)]
pub struct View {
    /// Where it is called.
    pub key: FunctionKey,
    /// The dialect that it belongs to, in a word: `openfaas`.
    pub dialect: &'static str,
    /// Its document, in its own dialect's shape.
    pub object: Object,
    /// What it was lowered to; its code is the source.
    pub spec: FunctionSpec,
}

impl Platform {
    /// The document that is the function called so, of whichever kind.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn owner_of(&self, key: FunctionRef<'_>) -> Result<Option<ObjectKey>, Error> {
        for lower in self.kinds() {
            let Some(document) = lower.document(key) else {
                continue;
            };
            match self.get(&document).await {
                Ok(_) => return Ok(Some(document)),
                Err(Error::Store(tidegate_store::Error::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The function called so, waited for while its document is there and is being brought in line for the first time.
    /// `None` where there is no such document, or what it asks for does not run.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn callable(
        &self,
        key: FunctionRef<'_>,
        within: Duration,
    ) -> Result<Option<Arc<Function>>, Error> {
        let until = tokio::time::Instant::now() + within;
        loop {
            // Registered before the look, so that a change between the two is not missed.
            let mut settled = std::pin::pin!(self.settled());
            settled.as_mut().enable();
            if let Some(function) = self.function(key)
                && self.access(&function).is_some()
            {
                return Ok(Some(function));
            }
            let Some(document) = self.owner_of(key).await? else {
                return Ok(None);
            };
            let object = match self.get(&document).await {
                // Deleted since the line above.
                Err(Error::Store(tidegate_store::Error::NotFound { .. })) => return Ok(None),
                found => found?,
            };
            if Status::of(&object).is_settled(object.generation())
                || tokio::time::timeout_at(until, settled).await.is_err()
            {
                return Ok(self.function(key));
            }
        }
    }

    /// The function called so, unless it is of the kind that asks.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn foreign(
        &self,
        key: FunctionRef<'_>,
        asking: (&str, &str),
    ) -> Result<Option<View>, Error> {
        for lower in self.others(asking) {
            let Some(document) = lower.document(key) else {
                continue;
            };
            match self.get(&document).await {
                Ok(object) => return Ok(view(lower.as_ref(), object)),
                Err(Error::Store(tidegate_store::Error::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The functions of a namespace, or of all, that are not of the kind that asks, by name. A document that asks for
    /// something that cannot be is left out: its own dialect tells of it.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn foreigners(
        &self,
        namespace: Option<&str>,
        asking: (&str, &str),
    ) -> Result<Vec<View>, Error> {
        let mut views = Vec::new();
        for lower in self.others(asking) {
            let (api_version, kind) = lower.kind();
            let mut query = Query::kind(api_version, kind);
            if let Some(namespace) = namespace {
                query = query.namespace(namespace);
            }
            let objects = self.list_all(&query).await?;
            views.extend(
                objects
                    .into_iter()
                    .filter_map(|object| view(lower.as_ref(), object)),
            );
        }
        views.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(views)
    }

    /// Says that a function is another dialect's, where it is.
    ///
    /// # Errors
    /// It is; the message says whose.
    pub async fn require_own(
        &self,
        key: FunctionRef<'_>,
        asking: (&str, &str),
    ) -> Result<(), Error> {
        match self.foreign(key, asking).await? {
            Some(view) => Err(Error::InUse(format!(
                "function {} belongs to {}: change or delete it with a client of that",
                view.key,
                title(view.dialect)
            ))),
            None => Ok(()),
        }
    }

    /// Stores a document, unless it is a function whose place another kind of document has.
    pub(crate) async fn place(&self, object: Object, only_new: bool) -> Result<Put, Error> {
        let store = self.store().objects();
        let lowerer = self.lowerer(object.key());
        let _held = match lowerer {
            Some(_) => Some(self.placing().lock().await),
            None => None,
        };
        // What cannot be lowered has no place; the dialect that sent it has checked it, or its status will say so.
        if let Some(lower) = lowerer
            && let Ok(lowered) = lower.lower(&object)
        {
            self.require_own(lowered.key.borrowed(), lower.kind())
                .await?;
            self.admit_function(object.key(), &lowered.key.namespace, &lowered.spec)
                .await?;
        }
        if only_new {
            return Ok(Put::Created(store.create(object).await?));
        }
        Ok(store.put(object).await?)
    }

    fn others(&self, asking: (&str, &str)) -> impl Iterator<Item = &Arc<dyn Lower>> {
        self.kinds().filter(move |lower| lower.kind() != asking)
    }
}

fn view(lower: &dyn Lower, object: Object) -> Option<View> {
    let lowered = lower.lower(&object).ok()?;
    Some(View {
        key: lowered.key,
        dialect: lower.dialect(),
        object,
        spec: lowered.spec,
    })
}

/// A dialect's name as people write it.
fn title(dialect: &str) -> &str {
    match dialect {
        "native" => "Tidegate's own API",
        "openfaas" => "OpenFaaS",
        other => other,
    }
}
