//! PHP, classic: a process a call, which hands standard input to `App\Handler::handle` and echoes what it returns.
//!
//! Packages are installed from the handler's `composer.json`, which moves to the root of the tree without its own classes:
//! those are found by the entry itself, so that a change of code installs and dumps nothing.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::shared::{FORKED_AT_ONCE, write};
use super::{Context, TemplateError};
use crate::{Prepared, WatchdogKind};

const ENTRY: &str = include_str!("../../../../runtimes/openfaas/php/index.php");

pub(super) const LANGUAGES: &[&str] = &["php7", "php8"];

/// What `composer.json` says of the handler's own code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Own {
    /// Prefixes of classes and the folder of each, the longest first.
    classes: Vec<(String, String)>,
    /// Files that are loaded in any case.
    files: Vec<String>,
    /// What only Composer can make a list of, its paths from the root of the tree.
    rest: Map<String, Value>,
}

pub(super) fn prepare(context: &Context<'_>, out: &Path) -> Result<Prepared, TemplateError> {
    context.copy_handler(out, "src/Handler.php")?;
    write(out, "index.php", ENTRY)?;
    let folder = context.handler_folder()?;
    let mut notes = Vec::new();
    let mut own = Own::default();
    let name = format!("{folder}/composer.json");
    if let Some(text) = context.text(&name)? {
        let Ok(Value::Object(mut package)) = serde_json::from_str(&text) else {
            return Err(TemplateError::Context(format!(
                "{name} is not a JSON object"
            )));
        };
        own = own_code(package.remove("autoload").as_ref(), &name)?;
        // Packages that came with the handler are not installed once more.
        if !context.has(&format!("{folder}/vendor/autoload.php")) {
            package.remove("autoload-dev");
            if !own.rest.is_empty() {
                package.insert("autoload".to_owned(), Value::Object(own.rest.clone()));
            }
            write(
                out,
                "composer.json",
                &format!("{}\n", Value::Object(package)),
            )?;
            let lock = format!("{folder}/composer.lock");
            if context.has(&lock) {
                context.copy(&lock, out, "composer.lock")?;
            }
        }
    }
    if !own.classes.iter().any(|(prefix, _)| prefix == "App\\") {
        own.classes.push(("App\\".to_owned(), "src".to_owned()));
    }
    own.classes
        .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    write(out, "autoload.php", &autoload(&own))?;
    let script = format!("{folder}/php-extension.sh");
    if context
        .text(&script)?
        .is_some_and(|text| does_something(&text))
    {
        notes.push(format!(
            "{script} is not run; the extensions of PHP are those of this machine"
        ));
    }
    Ok(Prepared {
        language: context.template.language.clone(),
        runtime: "php".to_owned(),
        entry: "index.php".to_owned(),
        handler: None,
        hosted: false,
        watchdog: WatchdogKind::ClassicWatchdog,
        process: context.process("php index.php"),
        env: std::collections::BTreeMap::new(),
        concurrency: FORKED_AT_ONCE,
        build: tidegate_core::Build::default(),
        notes,
    })
}

fn own_code(autoload: Option<&Value>, name: &str) -> Result<Own, TemplateError> {
    let mut own = Own::default();
    let Some(autoload) = autoload.and_then(Value::as_object) else {
        return Ok(own);
    };
    for (kind, value) in autoload {
        match (kind.as_str(), value) {
            ("psr-4", Value::Object(map)) => {
                for (prefix, folders) in map {
                    for folder in strings(folders) {
                        own.classes.push((prefix.clone(), inside(&folder, name)?));
                    }
                }
            }
            ("files", value) => {
                for file in strings(value) {
                    own.files.push(inside(&file, name)?);
                }
            }
            ("classmap", value) => {
                let mut paths = Vec::new();
                for path in strings(value) {
                    paths.push(format!("function/{}", inside(&path, name)?));
                }
                own.rest.insert(kind.clone(), json!(paths));
            }
            ("psr-0", Value::Object(map)) => {
                let mut moved = Map::new();
                for (prefix, folders) in map {
                    let mut paths = Vec::new();
                    for path in strings(folders) {
                        paths.push(format!("function/{}", inside(&path, name)?));
                    }
                    moved.insert(prefix.clone(), json!(paths));
                }
                own.rest.insert(kind.clone(), Value::Object(moved));
            }
            // Only makes a class map shorter.
            _ => {}
        }
    }
    Ok(own)
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all
            .iter()
            .filter_map(Value::as_str)
            .map(ToOwned::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// A path of `composer.json`, which may not leave the handler's folder.
fn inside(path: &str, name: &str) -> Result<String, TemplateError> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if path.starts_with('/') || parts.contains(&"..") {
        return Err(TemplateError::Context(format!(
            "{name}: autoload path {path:?} does not stay inside the handler's folder"
        )));
    }
    Ok(parts.join("/"))
}

/// The file that tells the entry of the handler's own code.
fn autoload(own: &Own) -> String {
    let mut text = "<?php\n\nreturn [\n    'classes' => [\n".to_owned();
    for (prefix, folder) in &own.classes {
        text.push_str(&format!(
            "        [{}, {}],\n",
            quoted(prefix),
            quoted(folder)
        ));
    }
    text.push_str("    ],\n    'files' => [\n");
    for file in &own.files {
        text.push_str(&format!("        {},\n", quoted(file)));
    }
    text + "    ],\n];\n"
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Whether a script has more in it than comments and words to the reader.
fn does_something(script: &str) -> bool {
    script.lines().map(str::trim).any(|line| {
        !(line.is_empty()
            || line.starts_with('#')
            || line.starts_with("echo ")
            || line.starts_with("set "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_classes_are_told_from_what_composer_has_to_find() {
        let autoload = json!({
            "psr-4": {"App\\": "src/", "App\\More\\": ["./lib", "more"]},
            "files": ["src/helpers.php"],
            "classmap": ["old/"],
            "exclude-from-classmap": ["tests"],
        });
        let own = own_code(Some(&autoload), "composer.json").unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            own.classes,
            [
                pair("App\\", "src"),
                pair("App\\More\\", "lib"),
                pair("App\\More\\", "more")
            ]
        );
        assert_eq!(own.files, ["src/helpers.php"]);
        assert_eq!(
            Value::Object(own.rest),
            json!({"classmap": ["function/old"]})
        );
        let outside = json!({"files": ["../x.php"]});
        assert_eq!(
            own_code(Some(&outside), "composer.json")
                .unwrap_err()
                .to_string(),
            "composer.json: autoload path \"../x.php\" does not stay inside the handler's folder"
        );
    }

    #[test]
    fn words_of_php_are_quoted() {
        assert_eq!(quoted("App\\"), "'App\\\\'");
        assert_eq!(quoted("it's"), "'it\\'s'");
    }

    #[test]
    fn a_script_of_comments_does_nothing() {
        assert!(!does_something(
            "#!/bin/sh\n\necho \"x\"\n# docker-php-ext-install gd\n"
        ));
        assert!(does_something("#!/bin/sh\ndocker-php-ext-install gd\n"));
    }
}
