//! What this server is.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::OpenFaas;

/// Neither is one of the names that clients know: by these they tell what they may test, and all of it may be.
const NAME: &str = "tidegate";

pub(super) async fn info(State(openfaas): State<OpenFaas>) -> Json<Value> {
    let config = openfaas.config();
    Json(json!({
        "provider": {
            "provider": NAME,
            "version": { "sha": config.commit, "release": config.release },
            "orchestration": NAME,
        },
        "version": {
            "commit_message": format!("{NAME} {}", config.release),
            "sha": config.commit,
            "release": config.release,
        },
        "arch": arch(),
    }))
}

/// The architecture by the word that clients choose images by.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}
