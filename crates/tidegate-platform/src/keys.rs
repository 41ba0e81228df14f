//! Keys of the server's own: made once, and kept sealed as secrets are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_store::{Object, ObjectKey};

use crate::{Error, Platform};

const API_VERSION: &str = "tidegate.dev/v1";
const KIND: &str = "ServerKey";

impl Platform {
    /// The key of this name; made by `fresh` where there is none yet. Every server on the same data has the same.
    ///
    /// # Errors
    /// `fresh` makes none, what is kept does not open, or the store cannot read or write.
    pub async fn own_key(
        &self,
        name: &str,
        fresh: impl FnOnce() -> Result<Vec<u8>, Error> + Send,
    ) -> Result<Vec<u8>, Error> {
        let key = ObjectKey::new(API_VERSION, KIND, "", name)?;
        let objects = self.store().objects();
        let object = match objects.get(&key).await {
            Err(tidegate_store::Error::NotFound { .. }) => {
                let sealed = self.store().keyring().seal(&aad(name), &fresh()?)?;
                let spec = serde_json::json!({ "sealed": STANDARD.encode(sealed) });
                match objects.create(Object::with_spec(&key, spec)?).await {
                    // Somebody else was first, and it is his that counts.
                    Err(tidegate_store::Error::AlreadyExists { .. }) => objects.get(&key).await?,
                    made => made?,
                }
            }
            found => found?,
        };
        let sealed = object
            .spec()
            .and_then(|spec| spec["sealed"].as_str())
            .and_then(|sealed| STANDARD.decode(sealed).ok())
            .ok_or_else(|| Error::Invalid(format!("key {name:?} is stored without a value")))?;
        Ok(self.store().keyring().open_sealed(&aad(name), &sealed)?)
    }
}

/// Ties a sealed key to its place, so that one moved elsewhere does not open.
fn aad(name: &str) -> Vec<u8> {
    format!("server-key/{name}").into_bytes()
}
