//! A number of replicas, set by hand.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use super::answer::{Answer, Params, Refusal, Sent};
use super::deploy::change;
use super::place::{Place, Segment};
use crate::OpenFaas;

/// Most replicas of one function.
const MAX_REPLICAS: u32 = 1000;

/// What is asked for. The name in the path counts, whatever `serviceName` says.
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
    Sent(body): Sent,
) -> Answer<StatusCode> {
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|_| Refusal::bad("Error unmarshalling request body"))?;
    let replicas = u32::try_from(wanted.replicas)
        .ok()
        .filter(|&n| n <= MAX_REPLICAS);
    let Some(replicas) = replicas else {
        return Err(Refusal::bad(format!(
            "replicas: {} is not between 0 and {MAX_REPLICAS}",
            wanted.replicas
        )));
    };
    let place = Place::of(&name, wanted.namespace.as_deref(), &params);
    change(openfaas.platform(), &place, |stored| {
        stored.replicas = Some(replicas);
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}
