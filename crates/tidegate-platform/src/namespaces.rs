//! Namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_core::egress::{Rule, RuleError};
use tidegate_store::{Object, ObjectKey, Query};

use crate::egress::List;
use crate::{Error, Platform};

/// The namespace that is always there.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Well-known namespaces of other systems' clients, all the default one here: a function deployed by one client is there
/// for the next.
const ALIASES: [&str; 3] = ["openfaas-fn", "guest", "_"];

/// What is named of that which keeps a namespace from going.
const NAMED: usize = 3;

/// Annotation of a namespace: all that its functions reach, whatever they ask for, divided by commas.
pub const EGRESS: &str = "tidegate.dev/egress";

pub(crate) const API_VERSION: &str = "tidegate.dev/v1";
pub(crate) const KIND: &str = "Namespace";

/// What is to be changed of a namespace; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceChange {
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// All annotations.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The specification: `{"quotas": {…}}`.
    pub spec: Option<serde_json::Value>,
}

/// The namespace that a client's word means.
#[must_use]
pub fn canonical_namespace(name: &str) -> &str {
    if ALIASES.contains(&name) {
        DEFAULT_NAMESPACE
    } else {
        name
    }
}

impl Platform {
    /// Every namespace, by name; the default one has a document only once somebody gave it one.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn namespaces(&self) -> Result<Vec<Object>, Error> {
        let mut all = self.list_all(&all()).await?;
        if !all.iter().any(|o| o.key().name() == DEFAULT_NAMESPACE) {
            all.push(Object::with_spec(
                &key(DEFAULT_NAMESPACE)?,
                serde_json::json!({}),
            )?);
        }
        all.sort_by(|a, b| a.key().name().cmp(b.key().name()));
        Ok(all)
    }

    /// Makes a namespace; one that is there stays as it is.
    ///
    /// # Errors
    /// The name breaks the rule, or the store cannot write.
    pub async fn create_namespace(&self, name: &str) -> Result<Object, Error> {
        let name = tidegate_core::Name::new(name).map_err(|e| Error::Invalid(e.to_string()))?;
        let key = key(name.as_str())?;
        match self
            .store()
            .objects()
            .create(Object::with_spec(&key, serde_json::json!({}))?)
            .await
        {
            Err(tidegate_store::Error::AlreadyExists { .. }) => {
                Ok(self.store().objects().get(&key).await?)
            }
            made => Ok(made?),
        }
    }

    /// A namespace, with the labels and annotations that it was given.
    ///
    /// # Errors
    /// It is not there, or the store cannot read.
    pub async fn namespace(&self, name: &str) -> Result<Object, Error> {
        let key = key(name).map_err(|_| missing(name))?;
        match self.store().objects().get(&key).await {
            Err(tidegate_store::Error::NotFound { .. }) if name == DEFAULT_NAMESPACE => {
                Ok(Object::with_spec(&key, serde_json::json!({}))?)
            }
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing(name)),
            found => Ok(found?),
        }
    }

    /// Makes a namespace that must not be there yet, with labels and annotations.
    ///
    /// # Errors
    /// It is there, the name or a label breaks a rule, or the store cannot write.
    pub async fn make_namespace(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Object, Error> {
        let name = tidegate_core::Name::new(name).map_err(|e| Error::Invalid(e.to_string()))?;
        if name.as_str() == DEFAULT_NAMESPACE {
            return Err(tidegate_store::Error::AlreadyExists {
                key: key(name.as_str())?,
            }
            .into());
        }
        let described = described(name.as_str(), labels, annotations, serde_json::json!({}))?;
        let made = self.store().objects().create(described).await?;
        self.egress_lists().forget(name.as_str());
        Ok(made)
    }

    /// Makes a namespace, or changes one that is there.
    ///
    /// # Errors
    /// The name, a label, an annotation or the specification breaks a rule, or the store cannot write.
    pub async fn change_namespace(
        &self,
        name: &str,
        change: NamespaceChange,
    ) -> Result<Object, Error> {
        let made = self.create_namespace(name).await?;
        if change == NamespaceChange::default() {
            return Ok(made);
        }
        let object = match change.spec {
            Some(spec) => made.replace_spec(spec)?,
            None => made,
        };
        let object = object.edit_metadata(|metadata| {
            for (field, given) in [
                ("labels", change.labels),
                ("annotations", change.annotations),
            ] {
                if let Some(given) = given {
                    metadata.insert(field.to_owned(), serde_json::json!(given));
                }
            }
        })?;
        check(&object)?;
        let put = self.store().objects().put(object).await;
        self.egress_lists().forget(name);
        Ok(put?.object())
    }

    /// Gives a namespace other labels and annotations, in place of those that it had. What else it says stays.
    ///
    /// # Errors
    /// It is not there, a label breaks a rule, or the store cannot write.
    pub async fn describe_namespace(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Object, Error> {
        let key = key(name).map_err(|_| missing(name))?;
        let spec = match self.store().objects().get(&key).await {
            Ok(object) => object.spec().cloned(),
            Err(tidegate_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let spec = spec.unwrap_or_else(|| serde_json::json!({}));
        let described = described(name, labels, annotations, spec)?;
        // The default one is there without a document.
        let changed = if name == DEFAULT_NAMESPACE {
            let put = self.store().objects().put(described).await;
            put.map(tidegate_store::Put::object)
        } else {
            self.store().objects().update(described).await
        };
        self.egress_lists().forget(name);
        match changed {
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing(name)),
            changed => Ok(changed?),
        }
    }

    /// All that functions of a namespace reach, where it says so. Those of instances that run are what it said when they
    /// started.
    pub(crate) async fn namespace_egress(&self, name: &str) -> Result<List, Error> {
        let since = match self.egress_lists().find(name) {
            Ok(list) => return Ok(list),
            Err(since) => since,
        };
        let list = match self.store().objects().get(&key(name)?).await {
            Err(tidegate_store::Error::NotFound { .. }) => None,
            found => found?.annotation(EGRESS).map(egress).transpose()?,
        };
        let list = list.map(Arc::from);
        self.egress_lists().keep(name, &list, &since);
        Ok(list)
    }

    /// Removes an empty namespace.
    ///
    /// # Errors
    /// It is the default one, is not there, or holds functions or secrets.
    pub async fn delete_namespace(&self, name: &str) -> Result<(), Error> {
        if canonical_namespace(name) == DEFAULT_NAMESPACE {
            return Err(Error::Invalid(format!(
                "namespace {name:?} is always there; delete what is in it"
            )));
        }
        let held = self
            .store()
            .objects()
            .list(&Query::everything().namespace(name), None, None)
            .await?;
        // Revisions go with their functions.
        let not_owned = |o: &&Object| !crate::revisions::is_revision(o.key());
        let more = held.next.is_some() || held.items.iter().filter(not_owned).count() > NAMED;
        let held: Vec<_> = held.items.iter().filter(not_owned).take(NAMED).collect();
        if !held.is_empty() {
            let names: Vec<_> = held
                .iter()
                .map(|o| format!("{} {}", o.key().kind(), o.key().name()))
                .collect();
            return Err(Error::InUse(format!(
                "namespace {name:?} still holds {}{}; delete them first",
                names.join(", "),
                if more { " and more" } else { "" }
            )));
        }
        let gone = self
            .store()
            .objects()
            .delete(&key(name)?, tidegate_store::Preconditions::default())
            .await;
        match gone {
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing(name)),
            Err(error) => Err(error.into()),
            Ok(_) => {
                self.egress_lists().forget(name);
                self.builds().forget_namespace(name).await;
                Ok(())
            }
        }
    }

    /// Whether functions may be put there.
    ///
    /// # Errors
    /// They may not, and how to change that.
    pub async fn require_namespace(&self, name: &str) -> Result<(), Error> {
        if name == DEFAULT_NAMESPACE {
            return Ok(());
        }
        let key = key(name).map_err(|_| missing(name))?;
        match self.store().objects().get(&key).await {
            Ok(_) => Ok(()),
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing(name)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Every namespace that has a document.
pub(crate) fn all() -> Query {
    Query::kind(API_VERSION, KIND)
}

pub(crate) fn is_namespace(key: &ObjectKey) -> bool {
    (key.api_version(), key.kind()) == (API_VERSION, KIND)
}

fn key(name: &str) -> Result<ObjectKey, Error> {
    Ok(ObjectKey::new(API_VERSION, KIND, "", name)?)
}

fn egress(list: &str) -> Result<Vec<Rule>, Error> {
    let entries = list.split(',').map(str::trim).filter(|e| !e.is_empty());
    let rules: Result<_, _> = entries.map(str::parse).collect();
    rules.map_err(|e: RuleError| Error::Invalid(format!("annotation {EGRESS}: {e}")))
}

fn described(
    name: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    spec: serde_json::Value,
) -> Result<Object, Error> {
    let object = Object::with_spec(&key(name)?, spec)?;
    let object = object.edit_metadata(|metadata| {
        for (field, given) in [("labels", labels), ("annotations", annotations)] {
            if !given.is_empty() {
                metadata.insert(field.to_owned(), serde_json::json!(given));
            }
        }
    })?;
    check(&object)?;
    Ok(object)
}

/// Refuses what a namespace cannot say.
fn check(object: &Object) -> Result<(), Error> {
    object.annotation(EGRESS).map(egress).transpose()?;
    crate::quotas::quota_of(object).map(drop)
}

fn missing(name: &str) -> Error {
    Error::NotFound(format!(
        "namespace {name:?} does not exist; make it with 'tidegate namespace create {name}'"
    ))
}
