//! Secrets: sealed before they enter the store, opened only for a function that names them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_core::{FunctionKey, FunctionSpec};
use tidegate_store::{Object, ObjectKey, Preconditions, Query};

use crate::{Error, Platform};

pub(crate) const API_VERSION: &str = "tidegate.dev/v1";
pub(crate) const KIND: &str = "Secret";

/// Largest value in bytes: a key, a certificate chain, a service account, not a data set.
const MAX_VALUE: usize = 64 * 1024;

/// What is told of a secret.
#[derive(Clone, Debug)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Length of the value in bytes.
    pub size: u64,
    /// RFC 3339.
    pub created: String,
}

impl Platform {
    /// Stores a secret, new or changed. Functions that use it get new instances.
    ///
    /// # Errors
    /// The name breaks the rule, the value is too large, the namespace is not there, or the store cannot write.
    pub async fn put_secret(
        &self,
        namespace: &str,
        name: &str,
        value: &[u8],
    ) -> Result<SecretInfo, Error> {
        let sealed = self.sealed(namespace, name, value).await?;
        let put = self.store().objects().put(sealed).await?;
        Ok(info(&put.object()))
    }

    /// Stores a secret that must not be there yet.
    ///
    /// # Errors
    /// It is there, or as [`Platform::put_secret`].
    pub async fn create_secret(
        &self,
        namespace: &str,
        name: &str,
        value: &[u8],
    ) -> Result<SecretInfo, Error> {
        let sealed = self.sealed(namespace, name, value).await?;
        Ok(info(&self.store().objects().create(sealed).await?))
    }

    /// Changes a secret that must be there. Functions that use it get new instances.
    ///
    /// # Errors
    /// It is not there, or as [`Platform::put_secret`].
    pub async fn update_secret(
        &self,
        namespace: &str,
        name: &str,
        value: &[u8],
    ) -> Result<SecretInfo, Error> {
        let sealed = self.sealed(namespace, name, value).await?;
        match self.store().objects().update(sealed).await {
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing(namespace, name)),
            changed => Ok(info(&changed?)),
        }
    }

    /// A secret as it is stored.
    async fn sealed(&self, namespace: &str, name: &str, value: &[u8]) -> Result<Object, Error> {
        let key = key(namespace, name).map_err(|_| {
            Error::Invalid(format!(
                "secret name {name:?} is not allowed: 1 to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, and so each part between dots"
            ))
        })?;
        if value.len() > MAX_VALUE {
            return Err(Error::Invalid(format!(
                "secret {name:?} is {} bytes long; at most {MAX_VALUE} are stored",
                value.len()
            )));
        }
        self.require_namespace(namespace).await?;
        let sealed = self.store().keyring().seal(&aad(namespace, name), value)?;
        let spec = serde_json::json!({ "sealed": STANDARD.encode(sealed), "size": value.len() });
        Ok(Object::with_spec(&key, spec)?)
    }

    /// The secrets of a namespace, by name, without their values.
    ///
    /// # Errors
    /// What keeps the store from reading.
    pub async fn secrets(&self, namespace: &str) -> Result<Vec<SecretInfo>, Error> {
        let query = Query::kind(API_VERSION, KIND).namespace(namespace);
        Ok(self.list_all(&query).await?.iter().map(info).collect())
    }

    /// Removes a secret; one that functions use only when forced.
    ///
    /// # Errors
    /// It is not there, or is used.
    pub async fn delete_secret(
        &self,
        namespace: &str,
        name: &str,
        force: bool,
    ) -> Result<(), Error> {
        let users = self.users_of_secret(namespace, name);
        if !force && !users.is_empty() {
            let names: Vec<_> = users.iter().map(|key| key.name.to_string()).collect();
            return Err(Error::InUse(format!(
                "secret {name:?} is used by {}",
                names.join(", ")
            )));
        }
        match self
            .store()
            .objects()
            .delete(&key(namespace, name)?, Preconditions::default())
            .await
        {
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing(namespace, name)),
            gone => gone.map(drop).map_err(Error::from),
        }
    }

    /// Says which of the secrets that a function names is not there.
    ///
    /// # Errors
    /// The first that is missing, and how to make it.
    pub async fn require_secrets(&self, namespace: &str, spec: &FunctionSpec) -> Result<(), Error> {
        self.secrets_generation(namespace, spec).await.map(drop)
    }

    /// A number that changes when a secret that the function names does.
    pub(crate) async fn secrets_generation(
        &self,
        namespace: &str,
        spec: &FunctionSpec,
    ) -> Result<u64, Error> {
        let mut sum = 0_u64;
        for used in &spec.secrets {
            let object = self.secret(namespace, &used.name).await?;
            // Versions only grow, so a sum of them changes with any of them.
            sum = sum.wrapping_add(
                object
                    .resource_version()
                    .map_or(0, tidegate_store::ResourceVersion::get),
            );
        }
        Ok(sum)
    }

    pub(crate) async fn secret_value(&self, namespace: &str, name: &str) -> Result<Vec<u8>, Error> {
        let object = self.secret(namespace, name).await?;
        let sealed = object
            .spec()
            .and_then(|spec| spec.get("sealed"))
            .and_then(|sealed| sealed.as_str())
            .and_then(|sealed| STANDARD.decode(sealed).ok())
            .ok_or_else(|| Error::Invalid(format!("secret {name:?} is stored without a value")))?;
        Ok(self
            .store()
            .keyring()
            .open_sealed(&aad(namespace, name), &sealed)?)
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Object, Error> {
        match self.store().objects().get(&key(namespace, name)?).await {
            Err(tidegate_store::Error::NotFound { .. }) => Err(missing(namespace, name)),
            found => Ok(found?),
        }
    }

    /// Functions that have a revision at work which names the secret.
    pub(crate) fn users_of_secret(&self, namespace: &str, name: &str) -> Vec<FunctionKey> {
        let mut users = Vec::new();
        self.engine().for_each(|function| {
            if *function.key().namespace == *namespace
                && self
                    .engine()
                    .members(function)
                    .iter()
                    .any(|member| member.revision.spec.secrets.iter().any(|s| s.name == name))
            {
                users.push(function.key().clone());
            }
        });
        users.sort();
        users
    }
}

fn key(namespace: &str, name: &str) -> Result<ObjectKey, Error> {
    Ok(ObjectKey::new(API_VERSION, KIND, namespace, name)?)
}

/// Ties a sealed value to its place, so that one moved elsewhere does not open.
fn aad(namespace: &str, name: &str) -> Vec<u8> {
    format!("secret/{namespace}/{name}").into_bytes()
}

fn missing(namespace: &str, name: &str) -> Error {
    Error::NotFound(format!(
        "secret {name:?} does not exist in namespace {namespace:?}; make it with 'tidegate secret set {name}'"
    ))
}

fn info(object: &Object) -> SecretInfo {
    SecretInfo {
        name: object.key().name().to_owned(),
        namespace: object.key().namespace().to_owned(),
        size: object
            .spec()
            .and_then(|s| s.get("size"))
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0),
        created: object.creation_timestamp().to_owned(),
    }
}
