//! JavaScript and TypeScript.

use serde_json::Value;

use super::{DetectError, Folder};

/// Names of the entry, less their endings, where `package.json` names none.
const STEMS: &[&str] = &["index", "handler", "app", "function", "server", "main"];

const ENDINGS: &[&str] = &["mjs", "js", "cjs", "ts", "mts", "cts", "tsx"];

pub(super) fn find(folder: &Folder<'_>) -> Result<Option<String>, DetectError> {
    if let Some(package) = package(folder)?
        && let Some(main) = main(&package)
    {
        let tried = [
            main.clone(),
            format!("{main}.js"),
            format!("{main}/index.js"),
            main.strip_suffix(".js")
                .map(|m| format!("{m}.ts"))
                .unwrap_or_default(),
        ];
        if let Some(found) = tried.into_iter().find(|p| folder.has(p)) {
            return Ok(Some(found));
        }
        if builds(&package) {
            return Ok(Some(main));
        }
        return Err(DetectError::Manifest(format!(
            "package.json: \"main\" names {main}, which is not there, and no script \"build\" would make it"
        )));
    }
    for place in ["", "src/"] {
        for stem in STEMS {
            for ending in ENDINGS {
                let name = format!("{place}{stem}.{ending}");
                if folder.has(&name) {
                    return Ok(Some(name));
                }
            }
        }
    }
    Ok(folder
        .only(&[".mjs", ".js", ".cjs", ".ts", ".mts", ".cts"])
        .map(str::to_owned))
}

pub(super) fn look(folder: &Folder<'_>, entry: &str) -> (&'static str, Option<String>) {
    if !folder.has(entry) {
        return ("host", None);
    }
    let text = folder.text(entry);
    // One that only listens when it is the program itself exports what it is for a host.
    let listens = text.contains(".listen(") || text.contains("serve(");
    if listens && text.contains("PORT") && !text.contains("require.main === module") {
        return ("http", None);
    }
    let warning = (!exports(&text)).then(|| {
        format!(
            "{entry} exports nothing that can be seen; unless it exports a handler or an app when it is loaded, the \
             deploy will fail"
        )
    });
    ("host", warning)
}

/// Whether something is exported, in either way.
pub(super) fn exports(text: &str) -> bool {
    text.lines().map(str::trim_start).any(|line| {
        line.starts_with("export ")
            || line.starts_with("export{")
            || line.contains("module.exports")
            || line.starts_with("exports.")
            || line.contains(" exports.")
    })
}

/// Whether a `build` script makes a file that is not there.
pub(super) fn is_made(folder: &Folder<'_>, entry: &str) -> bool {
    ENDINGS.iter().any(|e| entry.ends_with(&format!(".{e}")))
        && matches!(package(folder), Ok(Some(package)) if builds(&package))
}

fn package(folder: &Folder<'_>) -> Result<Option<Value>, DetectError> {
    if !folder.has("package.json") {
        return Ok(None);
    }
    serde_json::from_str(folder.text("package.json").trim_start_matches('\u{feff}'))
        .map(Some)
        .map_err(|e| DetectError::Manifest(format!("package.json: {e}")))
}

fn builds(package: &Value) -> bool {
    package
        .get("scripts")
        .and_then(|s| s.get("build")?.as_str())
        .is_some_and(|s| !s.trim().is_empty())
}

/// The file that `main` or `exports` names.
fn main(package: &Value) -> Option<String> {
    let exports = package.get("exports").map(|e| e.get(".").unwrap_or(e));
    let named = package
        .get("main")
        .and_then(Value::as_str)
        .or_else(|| condition(exports?, 0))?;
    let named = named.strip_prefix("./").unwrap_or(named);
    (!named.is_empty()).then(|| named.to_owned())
}

/// What Node would take of conditional exports, which nest.
fn condition(value: &Value, depth: usize) -> Option<&str> {
    match value {
        Value::String(path) => Some(path),
        Value::Object(map) if depth < 4 => ["node", "import", "default", "require"]
            .iter()
            .find_map(|c| condition(map.get(*c)?, depth + 1)),
        _ => None,
    }
}
