//! Node: handlers behind Express, and the classic one, which is a process a call.
//!
//! Our entry keeps the rules of Express without it. Packages are the handler's own, installed where Node finds them from the
//! handler's folder upwards; a handler that requires Express, which the templates have one folder above, has it added.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::shared::{self, Interpreted, SERVED_AT_ONCE, variables, write};
use super::{Context, TemplateError, remarks};
use crate::Prepared;

const ENTRY: &str = include_str!("../../../../runtimes/openfaas/node/index.js");
const CLASSIC: &str = include_str!("../../../../runtimes/openfaas/node/classic.js");

macro_rules! library {
    ($($name:literal),*) => {
        &[$((
            concat!("tidegate-openfaas/", $name),
            include_str!(concat!("../../../../runtimes/openfaas/node/tidegate-openfaas/", $name)),
        )),*]
    };
}

const LIBRARY: &[(&str, &str)] = library!(
    "forms.cjs",
    "pages.cjs",
    "reply.cjs",
    "request.cjs",
    "serve.cjs",
    "template.cjs"
);

/// Deepest folder of a handler that is looked through for what it requires; what is copied is bounded the same way.
const MAX_DEPTH: usize = 64;

/// Packages of the templates' own, with the versions up to `node20` and from `node22` on.
const EXPRESS: &[(&str, &str, &str)] = &[
    ("express", "^4.18.2", "^5.1.0"),
    ("body-parser", "^1.20.2", "^2.2.0"),
    ("get-stdin", "^8.0.0", "^8.0.0"),
];

/// What of a `package.json` names packages for run time.
const DEPENDENCIES: &[&str] = &["dependencies", "optionalDependencies", "peerDependencies"];

/// Members of the handler's `package.json` that say how packages are installed.
const KEPT: &[&str] = &[
    "name",
    "version",
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bundleDependencies",
    "bundledDependencies",
    "overrides",
];

/// Scripts that npm runs for the package itself when it installs; there is no such moment here.
const SCRIPTS: &[&str] = &["preinstall", "install", "postinstall", "prepare"];

/// Lock files that npm reads.
const LOCKS: &[&str] = &["npm-shrinkwrap.json", "package-lock.json"];

pub(super) const LANGUAGES: &[&str] = &[
    "node12", "node14", "node16", "node17", "node18", "node20", "node22", "node",
];

pub(super) fn prepare(context: &Context<'_>, out: &Path) -> Result<Prepared, TemplateError> {
    let language = &*context.template.language;
    let classic = language == "node";
    let folder = context.handler_folder()?;
    if !context.has(&format!("{folder}/handler/index.js")) {
        context.demand("handler.js")?;
    }
    context.copy(folder, out, "function")?;
    let mut said = remarks::read(context)?;
    packages(context, folder, out, &mut said.notes)?;
    let (entry, library) = if classic {
        (CLASSIC, &[] as &[_])
    } else {
        (ENTRY, LIBRARY)
    };
    write(out, "index.js", &entry.replace("@LANGUAGE@", language))?;
    for (name, text) in library {
        write(out, name, text)?;
    }
    Ok(Interpreted {
        runtime: "node",
        entry: "index.js",
        is_classic: classic,
        handler: "handler",
        process: "node index.js",
        is_entry: |process| process == "node index.js",
        env: variables(if classic {
            &[("cgi_headers", "true")]
        } else {
            &[
                ("cgi_headers", "true"),
                ("mode", "http"),
                ("upstream_url", "http://127.0.0.1:3000"),
                ("exec_timeout", "10s"),
                ("write_timeout", "15s"),
                ("read_timeout", "15s"),
                ("prefix_logs", "false"),
            ]
        }),
        at_once: SERVED_AT_ONCE,
    }
    .prepared(context, said))
}

/// Writes what is installed: the handler's packages, and those of the template that it requires.
fn packages(
    context: &Context<'_>,
    folder: &str,
    out: &Path,
    notes: &mut Vec<String>,
) -> Result<(), TemplateError> {
    let name = format!("{folder}/package.json");
    let own = manifest(context, &name)?;
    let template = manifest(context, "package.json")?.unwrap_or_default();
    if own.is_some() {
        // Installed anew; those of the sender's machine may be for another.
        let there = out.join("function/node_modules");
        if there.is_dir() {
            fs::remove_dir_all(&there).map_err(shared::io(&format!("{folder}/node_modules")))?;
        }
    }
    let own = own.unwrap_or_default();
    if let Some(text) = context.text(&name)? {
        for script in SCRIPTS {
            if own
                .get("scripts")
                .is_some_and(|all| all.get(script).is_some())
            {
                let line = line_of(&text, script);
                notes.push(format!(
                    "{name} line {line}: the script {script} is not run"
                ));
            }
        }
    }
    let mut required = BTreeSet::new();
    requires(&out.join("function"), folder, 0, &mut required)?;
    let mut made: Map<String, Value> = own
        .iter()
        .filter(|(name, _)| KEPT.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut changed = move_paths(&mut made);
    let modern = context.template.language == "node22";
    for (package, old, new) in EXPRESS {
        if required.contains(*package) && !names(&made, package) {
            let usual = if modern { *new } else { *old };
            let version = member(&template, package).unwrap_or(usual);
            add(&mut made, package, version);
            changed = true;
        }
    }
    // What somebody added to the template's own list is there for every handler.
    let added: Vec<(String, String)> = template
        .get("dependencies")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(package, _)| !EXPRESS.iter().any(|(known, ..)| known == package))
        .filter(|(package, _)| !names(&made, package))
        .filter_map(|(package, version)| Some((package.clone(), version.as_str()?.to_owned())))
        .collect();
    for (package, version) in added {
        add(&mut made, &package, &version);
        changed = true;
    }
    // The templates install what is for development too; what is required of it is needed here as well.
    let development: Vec<(String, String)> = made
        .get("devDependencies")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(package, _)| required.contains(*package) && !names(&made, package))
        .filter_map(|(package, version)| Some((package.clone(), version.as_str()?.to_owned())))
        .collect();
    for (package, version) in development {
        if let Some(Value::Object(all)) = made.get_mut("devDependencies") {
            all.remove(&package);
        }
        add(&mut made, &package, &version);
        changed = true;
    }
    let any = DEPENDENCIES.iter().any(|kind| {
        made.get(*kind)
            .and_then(Value::as_object)
            .is_some_and(|all| !all.is_empty())
    });
    if !any {
        return Ok(());
    }
    made.insert("private".to_owned(), Value::Bool(true));
    write(out, "package.json", &format!("{:#}\n", Value::Object(made)))?;
    for file in LOCKS {
        let from = format!("{folder}/{file}");
        if !context.has(&from) {
            continue;
        }
        if changed {
            notes.push(format!(
                "{from} is not used, since it lacks packages that the handler requires; name them in {name}"
            ));
        } else {
            context.copy(&from, out, file)?;
            break;
        }
    }
    let settings = format!("{folder}/.npmrc");
    if context.has(&settings) {
        context.copy(&settings, out, ".npmrc")?;
    }
    Ok(())
}

/// A `package.json`; `None` where there is none.
fn manifest(
    context: &Context<'_>,
    name: &str,
) -> Result<Option<Map<String, Value>>, TemplateError> {
    let Some(text) = context.text(name)? else {
        return Ok(None);
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(manifest)) => Ok(Some(manifest)),
        Ok(_) => Err(TemplateError::Context(format!("{name} is not an object"))),
        Err(error) => {
            let shown = error.to_string();
            let what = shown.split(" at line ").next().unwrap_or(&shown);
            Err(TemplateError::Context(format!(
                "{name} line {}, column {}: {what}",
                error.line(),
                error.column()
            )))
        }
    }
}

/// Whether a package is installed for run time already.
fn names(manifest: &Map<String, Value>, package: &str) -> bool {
    DEPENDENCIES.iter().any(|kind| {
        manifest
            .get(*kind)
            .is_some_and(|all| all.get(package).is_some())
    })
}

fn member<'a>(manifest: &'a Map<String, Value>, package: &str) -> Option<&'a str> {
    manifest.get("dependencies")?.get(package)?.as_str()
}

fn add(manifest: &mut Map<String, Value>, package: &str, version: &str) {
    let all = manifest
        .entry("dependencies")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(all) = all {
        all.insert(package.to_owned(), Value::String(version.to_owned()));
    }
}

/// Makes packages that are folders of the handler's found from beside it. Tells whether there were any.
fn move_paths(manifest: &mut Map<String, Value>) -> bool {
    let mut moved = false;
    for kind in ["dependencies", "devDependencies", "optionalDependencies"] {
        let Some(Value::Object(all)) = manifest.get_mut(kind) else {
            continue;
        };
        for version in all.values_mut() {
            let Some(text) = version.as_str() else {
                continue;
            };
            let path = ["file:", "link:"]
                .iter()
                .find_map(|start| text.strip_prefix(start))
                .or_else(|| text.starts_with('.').then_some(text));
            if let Some(path) = path
                && !path.starts_with('/')
            {
                *version =
                    Value::String(format!("file:./function/{}", path.trim_start_matches("./")));
                moved = true;
            }
        }
    }
    moved
}

/// The line on which a script is named; the first where it cannot be told.
fn line_of(text: &str, name: &str) -> usize {
    let quoted = format!("\"{name}\"");
    text.lines()
        .position(|line| line.contains(&quoted))
        .map_or(1, |at| at + 1)
}

/// Packages that files below a folder require or import. Tests are left out: nothing of theirs runs.
fn requires(
    folder: &Path,
    name: &str,
    depth: usize,
    found: &mut BTreeSet<String>,
) -> Result<(), TemplateError> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(shared::io(name))? {
        let entry = entry.map_err(shared::io(name))?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let inner = format!("{name}/{file}");
        let kind = entry.file_type().map_err(shared::io(&inner))?;
        if kind.is_dir() {
            if !matches!(
                &*file,
                "node_modules" | "test" | "tests" | "__tests__" | ".git"
            ) {
                requires(&entry.path(), &inner, depth + 1, found)?;
            }
            continue;
        }
        let is_code = [".js", ".cjs", ".mjs", ".ts"]
            .iter()
            .any(|ending| file.ends_with(ending));
        let is_test = file.contains(".test.") || file.contains(".spec.");
        if kind.is_file() && is_code && !is_test {
            // One that is too large or no text was made by a bundler, and requires nothing any more.
            if let Ok(Some(text)) = shared::text(&entry.path(), &inner) {
                required_by(&text, found);
            }
        }
    }
    Ok(())
}

/// Packages by `require('…')`, `import '…'`, `import('…')` and `from '…'`.
fn required_by(text: &str, found: &mut BTreeSet<String>) {
    for (at, quote) in text.match_indices(['"', '\'']) {
        let before = text[..at].trim_end();
        let before = before.strip_suffix('(').unwrap_or(before).trim_end();
        let named = ["require", "import", "from"].iter().any(|word| {
            before.strip_suffix(word).is_some_and(|rest| {
                !rest.ends_with(|c: char| c.is_alphanumeric() || "_$.'\"`".contains(c))
            })
        });
        if !named {
            continue;
        }
        let rest = &text[at + 1..];
        let Some(path) = rest.find(quote).map(|end| &rest[..end]) else {
            continue;
        };
        let mut parts = path.splitn(3, '/');
        let package = match (parts.next(), parts.next()) {
            (Some(scope), Some(name)) if scope.starts_with('@') => format!("{scope}/{name}"),
            (Some(name), _) => name.to_owned(),
            (None, _) => continue,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "@._-/:~".contains(c);
        if !package.starts_with('.') && !package.is_empty() && package.chars().all(is_name) {
            found.insert(package);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{line_of, required_by};

    #[test]
    fn requires_are_found() {
        let text = "const a = require('express');\nimport b from \"@scope/pkg/deep\"\nimport 'side/effect'\nawait import( 'late' )\n\
                    require('./local'); require(\"../up\"); obj.require('no'); x = 'from'; y = 'text'; my_require('no2')\n\
                    export * from 'again'; import { c } from 'node:fs'; require('unclosed";
        let mut found = BTreeSet::new();
        required_by(text, &mut found);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(
            found,
            ["@scope/pkg", "again", "express", "late", "node:fs", "side"]
        );
    }

    #[test]
    fn a_script_is_found_by_its_line() {
        assert_eq!(
            line_of("{\n \"scripts\": {\n  \"prepare\": \"x\"\n}}", "prepare"),
            3
        );
    }
}
