//! What this server is.

use axum::Json;
use axum::extract::State;
use tidegate_platform::Runtime;

use super::{Context, images};
use crate::document::{RuntimeInfo, ServerInfo};

/// What this server is.
#[utoipa::path(get, path = "/tidegate/v1", tag = "server", security(()), responses((status = 200, body = ServerInfo)))]
pub(crate) async fn server_info(State(context): State<Context>) -> Json<ServerInfo> {
    let told = |runtime: Runtime| RuntimeInfo {
        name: runtime.name,
        version: runtime.version,
        available: runtime.available.is_ok(),
        detail: runtime.available.unwrap_or_else(|how| how),
    };
    let tools = context.platform.tools().await;
    let runtimes = context.platform.runtimes().into_iter().map(|mut runtime| {
        // What is compiled needs nothing to run, and its compiler to be deployed.
        let compiler = match &*runtime.name {
            "go" => "go",
            "rust" => "cargo",
            _ => return runtime,
        };
        if let Some(tool) = tools.iter().find(|tool| tool.name == compiler) {
            runtime.version.clone_from(&tool.version);
            runtime.available.clone_from(&tool.available);
        }
        runtime
    });
    let mut runtimes: Vec<RuntimeInfo> = runtimes.map(told).collect();
    match context.platform.added_runtimes().await {
        Ok(added) => runtimes.extend(added.into_iter().map(images::runtime_info)),
        Err(error) => tracing::error!(%error, "runtimes could not be read"),
    }
    Json(ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes,
        tools: tools.into_iter().map(told).collect(),
        capabilities: context.info.capabilities.to_vec(),
    })
}
