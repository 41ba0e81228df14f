//! Rust.

use super::Folder;
use crate::source;

/// Packages whose users serve HTTP.
const SERVERS: &[&str] = &[
    "axum",
    "actix-web",
    "hyper",
    "warp",
    "rocket",
    "poem",
    "salvo",
    "tide",
    "tiny_http",
    "rouille",
    "ntex",
    "viz",
    "pavex",
];

pub(super) fn find(folder: &Folder<'_>) -> Option<String> {
    folder
        .first(&[
            "Cargo.toml",
            "main.rs",
            "handler.rs",
            "app.rs",
            "function.rs",
        ])
        .or_else(|| folder.only(&[".rs"]))
        .map(str::to_owned)
}

pub(super) fn look(folder: &Folder<'_>, entry: &str) -> (&'static str, Option<String>) {
    let serves = match entry.strip_suffix("Cargo.toml") {
        Some(place) => {
            let table: toml::Table = folder.text(entry).parse().unwrap_or_default();
            let uses = table
                .get("dependencies")
                .and_then(toml::Value::as_table)
                .is_some_and(|list| list.keys().any(|name| SERVERS.contains(&&**name)));
            let reads_port = [format!("{place}src"), format!("{place}src/bin")]
                .iter()
                .any(|at| {
                    source::files(&folder.root.join(at), ".rs")
                        .iter()
                        .any(|name| folder.text(&format!("{at}/{name}")).contains("\"PORT\""))
                });
            uses || reads_port
        }
        None => folder.text(entry).contains("\"PORT\""),
    };
    (if serves { "http" } else { "stdio" }, None)
}
