//! What a Dockerfile has run: the watchdog and its process, or a server of its own.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::TemplateError;
use super::super::shared::write_program;
use super::Program;
use super::parse::Form;
use super::stage::{Origin, Stage, last};
use super::tree::{HOME, Tree};
use crate::WatchdogKind;

/// Programs that run a file of the function's, and whose they are.
const INTERPRETERS: &[(&str, &str)] = &[
    ("python", "python"),
    ("python3", "python"),
    ("gunicorn", "python"),
    ("uvicorn", "python"),
    ("hypercorn", "python"),
    ("waitress-serve", "python"),
    ("flask", "python"),
    ("node", "node"),
    ("nodejs", "node"),
    ("npm", "node"),
    ("npx", "node"),
    ("ruby", "ruby"),
    ("bundle", "ruby"),
    ("rackup", "ruby"),
    ("puma", "ruby"),
    ("php", "php"),
    ("java", "java"),
];

/// Programs of packages, and the modules that they are.
const MODULES: &[(&str, &str)] = &[
    ("gunicorn", "gunicorn"),
    ("uvicorn", "uvicorn"),
    ("hypercorn", "hypercorn"),
    ("waitress-serve", "waitress"),
    ("flask", "flask"),
];

/// Folders where images have an interpreter that is elsewhere on a machine.
const PROGRAM_FOLDERS: &[&str] = &["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];

/// What a file is called that holds a command which is more than words.
const SCRIPT: &str = "tidegate-start";

/// Characters that mean something to a shell.
const SPECIAL: &str = "$&|;<>()*?[]{}~\"'`\\#!";

/// Finds out what runs.
pub(super) fn find(stage: &Stage, tree: &mut Tree, out: &Path) -> Result<Program, TemplateError> {
    let words = words(stage)?;
    let mut notes = Vec::new();
    let mut env: BTreeMap<String, String> = stage.env.clone();
    // What every image has is what every function has.
    if env
        .get("PATH")
        .is_some_and(|path| path == super::stage::PATH)
    {
        env.remove("PATH");
    }
    for value in env.values_mut() {
        *value = moved(value, tree);
    }
    let first = words.first().map_or("", |word| last(word));
    let is_watchdog = first == "fwatchdog"
        || first == "of-watchdog"
        || words.first().is_some_and(|word| {
            let file = stage.files.get(&stage.absolute(word));
            file.is_some_and(|file| matches!(file.origin, Origin::Watchdog(_)))
        });
    let (watchdog, process, serves) = if is_watchdog {
        let kind = stage.watchdog().unwrap_or_else(|| {
            let kind = if env.contains_key("mode") || env.contains_key("upstream_url") {
                WatchdogKind::OfWatchdog
            } else {
                WatchdogKind::ClassicWatchdog
            };
            notes.push(format!(
                "which watchdog the image {} has cannot be told; it is taken for {}",
                stage.base,
                kind.as_str()
            ));
            kind
        });
        let own = env.remove("fprocess").unwrap_or_default();
        let newer = match kind {
            WatchdogKind::OfWatchdog => env.remove("function_process"),
            WatchdogKind::ClassicWatchdog => None,
        };
        let process = newer.filter(|process| !process.is_empty()).unwrap_or(own);
        let mode = env.get("mode").map(String::as_str);
        let is_http = kind == WatchdogKind::OfWatchdog && mode == Some("http");
        if process.is_empty() && mode != Some("static") {
            notes.push("the Dockerfile sets no fprocess: a deployment has to name one".to_owned());
        }
        let is_kept = is_http || mode == Some("static");
        (kind, process, is_kept)
    } else {
        env.insert("mode".to_owned(), "http".to_owned());
        env.insert(
            "upstream_url".to_owned(),
            "http://127.0.0.1:8080".to_owned(),
        );
        let port = stage.exposed.as_deref().unwrap_or("8080");
        let expected = if port.trim_end_matches("/tcp") == "8080" {
            ""
        } else {
            ", whatever EXPOSE says"
        };
        notes.push(format!(
            "there is no watchdog in the Dockerfile: its command is called as an HTTP server on port 8080{expected}"
        ));
        let line = one_line(&words, tree, out)?;
        (WatchdogKind::OfWatchdog, line, true)
    };
    let (process, runtime) = adapted(&process, tree, &mut notes);
    let entry = process
        .split(' ')
        .map(|word| word.strip_prefix("./").unwrap_or(word))
        .map(|word| word.strip_prefix(&format!("{HOME}/")).unwrap_or(word))
        .find(|word| tree.files.contains(*word))
        .unwrap_or_default()
        .to_owned();
    Ok(Program {
        watchdog,
        process,
        env,
        runtime,
        entry,
        serves,
        notes,
    })
}

/// `ENTRYPOINT` and `CMD` as one list of words.
fn words(stage: &Stage) -> Result<Vec<String>, TemplateError> {
    let list = |form: &Form| match form {
        Form::Exec(words) => words.clone(),
        Form::Shell(text) if text.contains(|c| SPECIAL.contains(c)) => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()]
        }
        Form::Shell(text) => text.split_whitespace().map(ToOwned::to_owned).collect(),
    };
    let words = match (&stage.entrypoint, &stage.cmd) {
        // A line for the shell takes no words from CMD.
        (Some((_, form @ Form::Shell(_))), _) => list(form),
        (Some((_, form)), cmd) => {
            let mut words = list(form);
            words.extend(cmd.iter().flat_map(|(_, form)| list(form)));
            words
        }
        (None, Some((_, form))) => list(form),
        (None, None) => Vec::new(),
    };
    if words.iter().all(String::is_empty) {
        return Err(TemplateError::Context(format!(
            "the Dockerfile has neither CMD nor ENTRYPOINT, and what the image {} runs is not known; end it with CMD \
             [\"fwatchdog\"], or with the command of an HTTP server on port 8080",
            stage.base
        )));
    }
    Ok(words)
}

/// The words with single spaces between them; where that would not be the same words, a script that runs them.
fn one_line(words: &[String], tree: &mut Tree, out: &Path) -> Result<String, TemplateError> {
    let plain = |word: &String| !word.is_empty() && !word.contains(char::is_whitespace);
    if words.iter().all(plain) {
        return Ok(words.join(" "));
    }
    let mut name = SCRIPT.to_owned();
    while tree.files.contains(&name) {
        name.push('-');
    }
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("'{}'", moved(word, tree).replace('\'', "'\\''")))
        .collect();
    write_program(
        out,
        &name,
        &format!("#!/bin/sh\nexec {}\n", quoted.join(" ")),
    )?;
    tree.files.insert(name.clone());
    Ok(format!("./{name}"))
}

/// A list of paths with those of the function's folder where it is here.
fn moved(value: &str, tree: &Tree) -> String {
    if tree.root == "/" || tree.root == HOME {
        return value.to_owned();
    }
    let piece = |piece: &str| match piece.strip_prefix(&*tree.root) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{HOME}{rest}"),
        _ => piece.to_owned(),
    };
    value.split(':').map(piece).collect::<Vec<_>>().join(":")
}

/// The process as this machine can run it, and under which runtime.
fn adapted(process: &str, tree: &Tree, notes: &mut Vec<String>) -> (String, &'static str) {
    let mut words: Vec<String> = process
        .split(' ')
        .map(|word| {
            if tree.root == "/" {
                // Without a folder of its own, everything lay at the root.
                match word.strip_prefix('/') {
                    Some(inside) if tree.files.contains(inside) => format!("{HOME}/{inside}"),
                    _ => word.to_owned(),
                }
            } else {
                moved(word, tree)
            }
        })
        .collect();
    let first = words.first().cloned().unwrap_or_default();
    let folder = first.rsplit_once('/').map(|(folder, _)| folder);
    let of_image = folder.is_none_or(|folder| PROGRAM_FOLDERS.contains(&folder));
    let name = last(&first);
    let Some((name, runtime)) = INTERPRETERS
        .iter()
        .find(|(program, _)| of_image && *program == name)
    else {
        return (words.join(" "), "executable");
    };
    (*name).clone_into(&mut words[0]);
    if let Some((_, module)) = MODULES.iter().find(|(program, _)| program == name) {
        notes.push(format!("{name} is run as python3 -m {module}"));
        words.splice(0..1, ["python3", "-m", module].map(ToOwned::to_owned));
    } else if *name == "python" {
        // Not every machine has it under this name.
        "python3".clone_into(&mut words[0]);
    }
    (words.join(" "), runtime)
}
