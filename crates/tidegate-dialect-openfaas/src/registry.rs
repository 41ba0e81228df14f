//! Images that no build of ours made: imported ones, and those of registries.
//!
//! Such an image is a server on port 8080 with a watchdog in it, so the platform runs its command as it is, with the
//! deployment's environment, and calls it by HTTP. A deploy waits for the pull, so that a client is told in a sentence what
//! is wrong with the name; a pull that takes longer than clients wait goes on without it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate_core::{Code, Probe};
use tidegate_openfaas::FunctionDeployment;
use tidegate_platform::{
    Error, ImageError, ImageName, ImageUse, Login, LowerError, Platform, RegistryCredentials,
};

use crate::annotations;
use crate::lower::{Stored, words};

/// The runtime of functions that are images.
pub(crate) const RUNTIME: &str = "image";

/// Calls an instance takes at once, where nothing says how many: as many as one with a watchdog of ours.
pub(crate) const CONCURRENCY: u32 = 100;

/// Where every function of OpenFaaS's listens.
const PORT: u16 = 8080;

/// What a watchdog answers once its function is up.
const HEALTH: &str = "/_/health";

/// What of a deployment names secrets with credentials of registries, beside the annotation.
const PULL_SECRETS: &str = "imagePullSecrets";

/// Most of them.
const MAX_PULL_SECRETS: usize = 16;

/// How long a deploy waits for a pull. Clients give up after a minute.
const PATIENCE: Duration = Duration::from_secs(45);

/// Why there is no image.
pub(crate) struct Unavailable(pub(crate) String);

/// What a function has for its code where all of it is in the image.
pub(crate) fn no_code() -> Code {
    Code {
        digest: String::new(),
        entry: String::new(),
        layer: None,
    }
}

/// The image that a deployment names.
pub(crate) fn image(
    stored: &Stored,
    deployment: &FunctionDeployment,
) -> Result<ImageUse, LowerError> {
    let annotations = words(stored.sent("annotations"));
    Ok(ImageUse {
        name: deployment.image.clone(),
        digest: stored.digest.clone(),
        read_only: deployment.read_only_root_filesystem,
        contract: Some("http".to_owned()),
        port: Some(PORT),
        ready: Some(match annotations::ready_path(&annotations) {
            Some(path) => Probe {
                path,
                may_be_missing: false,
            },
            // A server without a watchdog may have no such path, and need not.
            None => Probe {
                path: HEALTH.to_owned(),
                may_be_missing: true,
            },
        }),
        pull_secrets: pull_secrets(stored)?,
        ..ImageUse::default()
    })
}

/// Secrets with credentials of registries.
pub(crate) fn pull_secrets(stored: &Stored) -> Result<Vec<String>, LowerError> {
    let annotations = words(stored.sent("annotations"));
    let noted = annotations
        .get(annotations::PULL_SECRETS)
        .map(String::as_str)
        .unwrap_or_default();
    let mut names: Vec<String> = noted
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let wrong = |why: String| LowerError::new(PULL_SECRETS, why);
    match stored.sent(PULL_SECRETS) {
        None => {}
        Some(Value::Array(list)) => {
            for item in list {
                // Kubernetes has them as objects.
                let name = item.as_str().or_else(|| item["name"].as_str());
                let name = name.ok_or_else(|| {
                    wrong(format!(
                        "{item} is not a secret's name, nor an object with one"
                    ))
                })?;
                names.push(name.to_owned());
            }
        }
        Some(other) => return Err(wrong(format!("{other} is not a list of secrets' names"))),
    }
    if names.len() > MAX_PULL_SECRETS {
        return Err(wrong(format!(
            "names {} secrets; at most {MAX_PULL_SECRETS} are looked at",
            names.len()
        )));
    }
    Ok(names)
}

/// The digest of a name: of an image that is here, or else of what its registry has. `None` where that takes longer than
/// clients wait; the platform then goes on with it.
pub(crate) async fn resolve(
    platform: &Platform,
    namespace: &str,
    name: &str,
    pull_secrets: &[String],
    login: Option<&str>,
) -> Result<Option<String>, Unavailable> {
    let gone = |error: Error| Unavailable(sentence(name, &error));
    let reference: ImageName = name
        .parse()
        .map_err(|e| Unavailable(format!("validation failed: image: {e}")))?;
    if let Some(known) = platform.known_image(name).map_err(gone)? {
        return Ok(Some(known.digest.to_string()));
    }
    let login = match login {
        Some(text) => Login::Given(credentials(text)?),
        None => Login::Secrets(pull_secrets),
    };
    let pulling = platform.pull_image(namespace, &reference, login, Arc::new(()));
    match tokio::time::timeout(PATIENCE, pulling).await {
        Ok(pulled) => Ok(Some(pulled.map_err(gone)?.digest.to_string())),
        Err(_) => Ok(None),
    }
}

/// The member `registryAuth` of a deployment: `user:password`, or a whole configuration with one login, in base64.
fn credentials(text: &str) -> Result<RegistryCredentials, Unavailable> {
    let pair = STANDARD
        .decode(text.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => Ok(RegistryCredentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }),
        None => Err(Unavailable(
            "validation failed: registryAuth: is not user:password in base64".to_owned(),
        )),
    }
}

/// Why, and what would do.
fn sentence(name: &str, error: &Error) -> String {
    let help = match error {
        Error::Image(ImageError::Unauthorized { .. }) => {
            "Name a secret with a Docker configuration in the annotation tidegate.dev/pull-secrets, or log the server's user in"
        }
        Error::Invalid(_)
        | Error::Image(
            ImageError::NotFound { .. }
            | ImageError::Unreachable { .. }
            | ImageError::Untrusted { .. },
        ) => {
            "Build it here: 'faas-cli up' with OPENFAAS_REMOTE_BUILDER set to this gateway; or bring it here: 'tidegate image import'"
        }
        _ => return format!("image {name:?} cannot be had: {error}"),
    };
    format!("image {name:?} cannot be had: {error}. {help}")
}
