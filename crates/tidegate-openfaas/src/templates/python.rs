//! Python: handlers behind Flask, and the classic one, which is a process a call.
//!
//! Our entry keeps the rules of the templates without Flask, so a handler that does not use it has nothing installed for
//! it. One that does gets the real one among its packages, and runs within it.

use std::fs;
use std::path::Path;

use super::shared::{self, Interpreted, variables, write};
use super::{Context, TemplateError, remarks};
use crate::Prepared;

const ENTRY: &str = include_str!("../../../../runtimes/openfaas/python/index.py");
const CLASSIC: &str = include_str!("../../../../runtimes/openfaas/python/classic.py");

macro_rules! library {
    ($($name:literal),*) => {
        &[$((
            concat!("tidegate_openfaas/", $name),
            include_str!(concat!("../../../../runtimes/openfaas/python/tidegate_openfaas/", $name)),
        )),*]
    };
}

const LIBRARY: &[(&str, &str)] = library!(
    "__init__.py",
    "answers.py",
    "flask_app.py",
    "plain.py",
    "request.py",
    "serve.py",
    "template.py"
);

/// Threads of the server that the templates have.
const THREADS: u32 = 4;

/// Deepest folder of a handler that is looked through for imports; what is copied is bounded the same way.
const MAX_DEPTH: usize = 64;

/// Modules that come with Flask and mean that it is used.
const FLASK: &[&str] = &["flask", "werkzeug"];

/// Modules that come with Flask and may be used without it.
const WITH_FLASK: &[&str] = &["jinja2", "markupsafe", "itsdangerous", "click", "blinker"];

/// What the template's own list has, for its entry and its tests.
const TEMPLATES_OWN: &[&str] = &["flask", "waitress", "tox"];

pub(super) const LANGUAGES: &[&str] = &[
    "python3-http",
    "python3-http-debian",
    "python3-flask",
    "python3-flask-debian",
    "python3",
];

pub(super) fn prepare(context: &Context<'_>, out: &Path) -> Result<Prepared, TemplateError> {
    let language = &*context.template.language;
    let classic = language == "python3";
    let folder = context.handler_folder()?;
    context.copy_handler(out, "handler.py")?;
    demand_handle(context, folder)?;
    if !out.join("function/__init__.py").exists() {
        write(out, "function/__init__.py", "")?;
    }
    let mut uses = Uses::default();
    uses.folder(&out.join("function"), folder, 0)?;
    requirements(context, folder, &uses, out)?;
    let said = remarks::read(context)?;
    let (entry, library) = if classic {
        (CLASSIC, &[] as &[_])
    } else {
        (ENTRY, LIBRARY)
    };
    let entry = entry
        .replace("@LANGUAGE@", language)
        .replace("@FLASK@", if uses.flask { "True" } else { "False" });
    write(out, "index.py", &entry)?;
    for (name, text) in library {
        write(out, name, text)?;
    }
    Ok(Interpreted {
        runtime: "python",
        entry: "index.py",
        is_classic: classic,
        handler: "app",
        process: if classic {
            "python3 index.py"
        } else {
            "python index.py"
        },
        is_entry,
        env: variables(if classic {
            &[]
        } else {
            &[
                ("cgi_headers", "true"),
                ("mode", "http"),
                ("upstream_url", "http://127.0.0.1:5000"),
            ]
        }),
        at_once: THREADS,
    }
    .prepared(context, said))
}

/// Whether a process is the template's entry, which our host stands for.
fn is_entry(process: &str) -> bool {
    let words: Vec<&str> = process.split(' ').collect();
    matches!(
        words[..],
        ["python" | "python3", "index.py"] | ["python" | "python3", "-u", "index.py"]
    )
}

/// Says early what would otherwise fail when the function starts. A name that is made at run time passes.
fn demand_handle(context: &Context<'_>, folder: &str) -> Result<(), TemplateError> {
    let name = format!("{folder}/handler.py");
    let text = context.text(&name)?.unwrap_or_default();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let there = text.split(|c| !is_word(c)).any(|word| word == "handle")
        || text.contains("import *")
        || text.contains("globals()");
    if there {
        return Ok(());
    }
    let parameters = match &*context.template.language {
        "python3-http" | "python3-http-debian" => "event, context",
        _ => "req",
    };
    Err(TemplateError::Context(format!(
        "{name} defines no `handle`, expected `def handle({parameters})`"
    )))
}

/// What a handler's files import of what the templates have installed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Uses {
    /// Flask itself.
    flask: bool,
    /// Packages that come with Flask.
    beside: bool,
    /// The server.
    waitress: bool,
}

impl Uses {
    fn folder(&mut self, folder: &Path, name: &str, depth: usize) -> Result<(), TemplateError> {
        if depth > MAX_DEPTH {
            return Ok(());
        }
        for entry in fs::read_dir(folder).map_err(shared::io(name))? {
            let entry = entry.map_err(shared::io(name))?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let inner = format!("{name}/{file}");
            let kind = entry.file_type().map_err(shared::io(&inner))?;
            if kind.is_dir() {
                self.folder(&entry.path(), &inner, depth + 1)?;
            } else if kind.is_file() && file.ends_with(".py") {
                // One that is too large or no text is nobody's handler.
                if let Ok(Some(text)) = shared::text(&entry.path(), &inner) {
                    self.text(&text);
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            let modules = if let Some(rest) = line.strip_prefix("from ") {
                rest.split_whitespace().next().unwrap_or("")
            } else if let Some(rest) = line.strip_prefix("import ") {
                rest.split('#').next().unwrap_or("")
            } else {
                continue;
            };
            for module in modules.split(',') {
                let root = module
                    .trim()
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or("");
                self.flask |= FLASK.contains(&root) || root.starts_with("flask_");
                self.beside |= WITH_FLASK.contains(&root);
                self.waitress |= root == "waitress";
            }
        }
    }
}

/// Writes the list of what is installed: the handler's, what somebody added to the template's, and Flask where it is used.
fn requirements(
    context: &Context<'_>,
    folder: &str,
    uses: &Uses,
    out: &Path,
) -> Result<(), TemplateError> {
    let name = format!("{folder}/requirements.txt");
    let own = context.text(&name)?.unwrap_or_default();
    let mut list: String = own.lines().map(|line| moved(line) + "\n").collect();
    let names: Vec<String> = own.lines().filter_map(project).collect();
    let hashed = own.contains("--hash=");
    let mut more = Vec::new();
    let template = context.text("requirements.txt")?;
    for line in template.iter().flat_map(|text| text.lines()) {
        if let Some(name) = project(line)
            && !TEMPLATES_OWN.contains(&&*name)
            && !names.contains(&name)
        {
            more.push(line.trim().to_owned());
        }
    }
    for (used, package) in [
        (uses.flask || uses.beside, "flask"),
        (uses.waitress, "waitress"),
    ] {
        if used && !names.iter().any(|name| name == package) {
            more.push(package.to_owned());
        }
    }
    if hashed && !more.is_empty() {
        return Err(TemplateError::Context(format!(
            "{name} pins by hash and lacks {}; add it there, with its hashes",
            more.join(", ")
        )));
    }
    for line in more {
        list.push_str(&line);
        list.push('\n');
    }
    if list.trim().is_empty() {
        return Ok(());
    }
    write(out, "requirements.txt", &list)
}

/// A line of the handler's list as one beside the handler's folder says it.
fn moved(line: &str) -> String {
    let text = line.trim();
    for option in ["-r", "--requirement", "-c", "--constraint"] {
        if let Some(rest) = text.strip_prefix(option)
            && rest.starts_with([' ', '=', '\t'])
        {
            let file = rest.trim_start_matches([' ', '=', '\t']);
            return format!("{option} {}", below(file));
        }
    }
    if text.starts_with("./") || text.starts_with("../") {
        return format!("./{}", below(text));
    }
    line.to_owned()
}

/// A path below the handler's folder, which is `function` in the tree whatever it was called.
fn below(path: &str) -> String {
    let mut parts = vec!["function"];
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The project that a line requires, as its name is compared; `None` for what is no requirement by name.
fn project(line: &str) -> Option<String> {
    let text = line.split(" #").next().unwrap_or(line).trim();
    if text.starts_with(['#', '-', '.', '/']) {
        return None;
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
        .unwrap_or(text.len());
    let name = text[..end].to_ascii_lowercase().replace(['_', '.'], "-");
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{Uses, below, is_entry, moved, project};

    fn uses(text: &str) -> Uses {
        let mut uses = Uses::default();
        uses.text(text);
        uses
    }

    #[test]
    fn imports_of_flask_are_found() {
        for text in [
            "import flask",
            "    from flask import request",
            "from flask.views import View",
            "import os, flask as f",
            "from flask_cors import CORS",
            "from werkzeug.exceptions import NotFound",
        ] {
            assert!(uses(text).flask, "{text}");
        }
        for text in [
            "# import flask",
            "import flasks",
            "from .flask import x",
            "x = 'import flask'",
            "from . import flask",
            "import os # flask, x",
        ] {
            assert_eq!(uses(text), Uses::default(), "{text}");
        }
        assert!(uses("from jinja2 import Template").beside);
        assert!(uses("import waitress").waitress);
    }

    #[test]
    fn names_are_compared_as_pip_does() {
        for (line, name) in [
            ("Flask==3.1", Some("flask")),
            ("ruamel.yaml[jinja2]>=0.1 # why", Some("ruamel-yaml")),
            ("a_b @ https://example.test/x", Some("a-b")),
            ("# flask", None),
            ("-r other.txt", None),
            ("./local", None),
            ("", None),
        ] {
            assert_eq!(project(line).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn paths_move_with_the_list() {
        for (line, expected) in [
            ("-r more.txt", "-r function/more.txt"),
            ("--constraint=a/b.txt", "--constraint function/a/b.txt"),
            ("./lib", "./function/lib"),
            ("../x", "./x"),
            ("requests>=2", "requests>=2"),
            ("--no-binary :all:", "--no-binary :all:"),
        ] {
            assert_eq!(moved(line), expected);
        }
        assert_eq!(below("a/../../../b"), "../b");
    }

    #[test]
    fn the_entry_is_known_by_its_name() {
        assert!(is_entry("python index.py") && is_entry("python3 -u index.py"));
        assert!(!is_entry("python app.py") && !is_entry("gunicorn index:app"));
    }
}
