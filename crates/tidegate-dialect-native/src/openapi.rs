//! The OpenAPI document of the control routes.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::api::{
    code, functions, images, list, logs, namespaces, queue, records, secrets, server, triggers,
    versions,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Tidegate", description = "Functions, from a file to a URL. Functions are called at /fn/NAME[.NAMESPACE]/rest, which this document does not describe: what they answer is theirs."),
    paths(
        server::server_info,
        code::head_code,
        code::put_code,
        list::list_all_functions,
        list::list_functions,
        functions::get_function,
        functions::put_function,
        functions::delete_function,
        functions::scale_function,
        logs::function_logs,
        logs::function_build,
        versions::list_revisions,
        versions::get_revision,
        versions::put_traffic,
        versions::roll_back,
        versions::promote,
        images::list_images,
        images::get_image,
        images::delete_image,
        images::pull_image,
        images::import_image,
        images::alias_image,
        images::prune_images,
        images::list_runtimes,
        images::put_runtime,
        images::delete_runtime,
        triggers::list_all_triggers,
        triggers::list_triggers,
        triggers::get_trigger,
        triggers::put_trigger,
        triggers::delete_trigger,
        triggers::pause_trigger,
        triggers::resume_trigger,
        triggers::fire_trigger,
        namespaces::list_namespaces,
        namespaces::create_namespace,
        namespaces::delete_namespace,
        queue::list_queued,
        queue::get_queued,
        queue::cancel_queued,
        queue::queued_result,
        queue::list_dead_letters,
        queue::get_dead_letter,
        queue::redrive_dead_letters,
        queue::purge_dead_letters,
        queue::purge_dead_letter,
        queue::callback_key,
        records::list_records,
        records::get_record,
        records::record_logs,
        records::usage,
        records::cost,
        secrets::list_secrets,
        secrets::put_secret,
        secrets::delete_secret,
    ),
    modifiers(&Key),
    security(("key" = [])),
)]
struct Document;

/// The admin key as a bearer token.
struct Key;

impl Modify for Key {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// The OpenAPI document of the control routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests {
    /// The document as it was last agreed on. To agree on a change: run this test with `TIDEGATE_BLESS=1`, read the diff.
    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_document_is_the_one_that_was_agreed_on() {
        let document = serde_json::to_value(super::openapi()).unwrap();
        let mut text = serde_json::to_string_pretty(&document).unwrap();
        text.push('\n');
        if std::env::var_os("TIDEGATE_BLESS").is_some() {
            std::fs::write(GOLDEN, &text).unwrap();
        }
        let golden = std::fs::read_to_string(GOLDEN).unwrap();
        assert!(
            text == golden,
            "the OpenAPI document changed; see GOLDEN's comment"
        );
    }
}
