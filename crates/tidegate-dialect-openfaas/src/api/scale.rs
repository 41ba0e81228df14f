//! Numbers of replicas that come from outside: set by hand, or through an alert.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use tidegate_platform::{Error, LowerError, Object, StoreError};

use super::answer::{Answer, Params, Refusal, Sent};
use super::place::{Place, Segment};
use super::status;
use crate::lower::Stored;
use crate::{OpenFaas, scaling};

/// Most alerts that are taken at once: a group of them has one a function.
const MAX_ALERTS: usize = 1000;

/// What is asked for by hand. The name in the path counts, whatever `serviceName` says.
#[derive(Deserialize)]
struct Wanted {
    replicas: u64,
    namespace: Option<String>,
}

/// Sets the number of replicas, zero included; a call starts one again.
pub(super) async fn scale(
    State(openfaas): State<OpenFaas>,
    Segment(name): Segment,
    params: Params,
    sent: Sent,
) -> Answer<StatusCode> {
    let wanted: Wanted = sent
        .object()
        .map_err(|_| Refusal::bad("Error unmarshalling request body"))?;
    let replicas = u32::try_from(wanted.replicas).unwrap_or(u32::MAX);
    let place = Place::of(&name, wanted.namespace.as_deref(), &params);
    let object = place.own(openfaas.platform()).await?;
    ask(&openfaas, &place, &object, Some(replicas)).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn ask(
    openfaas: &OpenFaas,
    place: &Place,
    object: &Object,
    replicas: Option<u32>,
) -> Answer<()> {
    match scaling::ask(openfaas.platform(), object.key(), replicas).await {
        Err(Error::Store(StoreError::NotFound { .. })) => Err(place.not_found()),
        asked => asked.map(drop).map_err(Refusal::from),
    }
}

/// What an alert manager sends.
#[derive(Deserialize)]
struct Alerts {
    #[serde(default)]
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    #[serde(default)]
    status: String,
    #[serde(default)]
    labels: AlertLabels,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AlertLabels {
    function_name: String,
}

/// Scales what alerts are about: up where they fire, back where they are resolved. All are dealt with, whatever comes of
/// the others.
pub(super) async fn alert(State(openfaas): State<OpenFaas>, sent: Sent) -> Answer<StatusCode> {
    let sent: Alerts = sent
        .object()
        .ok()
        .filter(|sent: &Alerts| sent.alerts.len() <= MAX_ALERTS)
        .ok_or_else(|| Refusal::bad("Unable to parse alert, bad format."))?;
    let mut failed = Vec::new();
    for (at, alert) in sent.alerts.iter().enumerate() {
        if let Err(refused) = act(&openfaas, alert).await {
            failed.push(format!("[{at}] {}", refused.text));
        }
    }
    if failed.is_empty() {
        return Ok(StatusCode::OK);
    }
    Err(Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        failed.join("\n"),
    ))
}

async fn act(openfaas: &OpenFaas, alert: &Alert) -> Answer<()> {
    let name = &alert.labels.function_name;
    if name.is_empty() {
        return Err(Refusal::bad("the alert has no label function_name"));
    }
    let firing = match &*alert.status {
        "firing" => true,
        "resolved" => false,
        other => {
            return Err(Refusal::bad(format!(
                "status {other:?} is neither firing nor resolved"
            )));
        }
    };
    let place = Place::of(name, None, &Params::default());
    let object = place.own(openfaas.platform()).await?;
    let invalid = |error: LowerError| Refusal::bad(error.to_string());
    let stored = Stored::of(&object).map_err(invalid)?;
    let labels = stored.labels();
    let current = status::replicas(openfaas, &object).map_err(invalid)?;
    let wanted = scaling::alert(&labels, current, firing).map_err(invalid)?;
    // An alert is sent again and again while it fires.
    if wanted == stored.replicas {
        return Ok(());
    }
    ask(openfaas, &place, &object, wanted).await
}
