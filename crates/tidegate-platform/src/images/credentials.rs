//! What is shown to a registry.

use tidegate_image::{Credentials, Reference};

use crate::{Error, Platform};

/// Largest Docker configuration that is read, in bytes: a login for each of many registries.
const MAX_CONFIG: u64 = 1 << 20;

impl Platform {
    /// The credentials for a name's registry: of the first secret that has some, else of the server's own configuration.
    pub(super) async fn registry_login(
        &self,
        namespace: &str,
        name: &Reference,
        pull_secrets: &[String],
    ) -> Result<Credentials, Error> {
        for secret in pull_secrets {
            let value = self.secret_value(namespace, secret).await?;
            let json = std::str::from_utf8(&value).map_err(|_| {
                Error::Invalid(format!(
                    "secret {secret:?} is not text; a pull secret is a Docker configuration"
                ))
            })?;
            let found = Credentials::from_docker_config(json, name.registry())
                .map_err(|e| Error::Invalid(format!("secret {secret:?}: {e}")))?;
            if found != Credentials::Anonymous {
                return Ok(found);
            }
        }
        let Some(path) = self.image_store().docker_config.clone() else {
            return Ok(Credentials::Anonymous);
        };
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(path)?
                .take(MAX_CONFIG)
                .read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        });
        let json = match crate::builds::joined(read.await) {
            Ok(json) => json,
            // Most servers have none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Credentials::Anonymous);
            }
            Err(error) => return Err(Error::Invalid(format!("{shown}: {error}"))),
        };
        match Credentials::from_docker_config(&json, name.registry()) {
            Ok(found) => Ok(found),
            // A login that cannot be used is none: many images need no login at all, and a registry that wants one says so.
            Err(error) => {
                tracing::warn!(file = shown, %error, "a registry's credentials could not be used");
                Ok(Credentials::Anonymous)
            }
        }
    }
}
