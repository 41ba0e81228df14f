//! Secrets: named, never told.
//!
//! Clients read the status and nothing else, so an answer has no body, except where a request makes no sense: then a line
//! says why, for whoever looks.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_platform::{Error, StoreError};

use super::answer::{Answer, Params, Refusal, Sent};
use super::place::{namespace, require_namespace};
use crate::{OpenFaas, shown_namespace};

/// A secret as clients send it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Secret {
    name: Option<String>,
    namespace: Option<String>,
    value: Option<String>,
    /// Bytes in base64; wins over `value`.
    raw_value: Option<String>,
}

/// A secret as clients read it.
#[derive(Serialize)]
pub(super) struct Named {
    name: String,
    namespace: String,
}

/// A secret that is meant, with a name and where it is.
struct Meant {
    namespace: String,
    name: String,
    value: Vec<u8>,
}

/// The names of a namespace's secrets.
pub(super) async fn list(
    State(openfaas): State<OpenFaas>,
    params: Params,
) -> Answer<Json<Vec<Named>>> {
    let namespace = namespace(&[params.get("namespace")]);
    require_namespace(openfaas.platform(), &namespace).await?;
    let secrets = openfaas.platform().secrets(&namespace).await?;
    let named = secrets.into_iter().map(|secret| Named {
        name: secret.name,
        namespace: shown_namespace(&namespace).to_owned(),
    });
    Ok(Json(named.collect()))
}

/// Makes a secret that must not be there yet.
pub(super) async fn create(
    State(openfaas): State<OpenFaas>,
    params: Params,
    sent: Sent,
) -> Answer<StatusCode> {
    let secret = Meant::read(&sent, &params)?;
    let platform = openfaas.platform();
    require_namespace(platform, &secret.namespace).await?;
    done(platform.create_secret(&secret.namespace, &secret.name, &secret.value)).await
}

/// Changes a secret that must be there. Functions that use it get new instances.
pub(super) async fn replace(
    State(openfaas): State<OpenFaas>,
    params: Params,
    sent: Sent,
) -> Answer<StatusCode> {
    let secret = Meant::read(&sent, &params)?;
    let platform = openfaas.platform();
    done(platform.update_secret(&secret.namespace, &secret.name, &secret.value)).await
}

/// Removes a secret, even one that functions use, as clients expect: their instances keep the value that they have, and no
/// new one starts until there is a secret of this name again.
pub(super) async fn delete(
    State(openfaas): State<OpenFaas>,
    params: Params,
    sent: Sent,
) -> Answer<StatusCode> {
    let secret = Meant::read(&sent, &params)?;
    let platform = openfaas.platform();
    done(platform.delete_secret(&secret.namespace, &secret.name, true)).await
}

impl Meant {
    fn read(sent: &Sent, params: &Params) -> Answer<Self> {
        let secret: Secret = sent.read()?;
        let name = secret.name.unwrap_or_default();
        if name.is_empty() {
            return Err(Refusal::bad("name is required"));
        }
        let value = match secret.raw_value.filter(|raw| !raw.is_empty()) {
            Some(raw) => STANDARD
                .decode(raw)
                .map_err(|e| Refusal::bad(format!("rawValue is not base64: {e}")))?,
            None => secret.value.unwrap_or_default().into_bytes(),
        };
        Ok(Self {
            namespace: namespace(&[secret.namespace.as_deref(), params.get("namespace")]),
            name,
            value,
        })
    }
}

async fn done<T>(change: impl Future<Output = Result<T, Error>>) -> Answer<StatusCode> {
    change.await.map_err(refused)?;
    Ok(StatusCode::ACCEPTED)
}

/// A name that none can have is not there either, which is all that a status can say of it when it is looked for.
fn refused(error: Error) -> Refusal {
    match error {
        Error::NotFound(_) | Error::Store(StoreError::NotFound { .. }) => {
            Refusal::empty(StatusCode::NOT_FOUND)
        }
        Error::InUse(_) | Error::Store(StoreError::AlreadyExists { .. }) => {
            Refusal::empty(StatusCode::CONFLICT)
        }
        error => error.into(),
    }
}
