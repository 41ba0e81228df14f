//! What becomes of contexts of the Python and the Node templates: their trees, and what is said of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::{BuildConfig, Prepared};

/// Files of a context: path and content.
type Files<'a> = &'a [(&'a str, &'a str)];

const PYTHON_DOCKERFILE: &str = "FROM python:3.12-alpine\nRUN pip install -r requirements.txt\nCOPY function function\n\
    ENV fprocess=\"python index.py\"\nENV mode=\"http\"\nENV upstream_url=\"http://127.0.0.1:5000\"\nCMD [\"fwatchdog\"]\n";

fn template(language: &str, process: &str) -> String {
    format!("language: {language}\nfprocess: {process}\nwelcome_message: |\n  hello\n")
}

fn context(language: &str, process: &str, files: Files<'_>) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder can be made");
    let template = template(language, process);
    for (name, text) in [("template.yml", &*template)].iter().chain(files) {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("folders can be made");
        fs::write(path, text).expect("files can be written");
    }
    root
}

fn prepared(
    language: &str,
    process: &str,
    files: Files<'_>,
    config: &BuildConfig,
) -> Result<(tempfile::TempDir, Prepared), String> {
    let root = context(language, process, files);
    let out = tempfile::tempdir().expect("a folder can be made");
    match super::prepare(root.path(), config, out.path()) {
        Ok(prepared) => Ok((out, prepared)),
        Err(error) => Err(error.to_string()),
    }
}

/// The tree's files, those that say what is installed with their content, and what is known of it.
fn golden(language: &str, process: &str, files: Files<'_>) -> String {
    shown(language, process, files, &BuildConfig::default())
}

fn shown(language: &str, process: &str, files: Files<'_>, config: &BuildConfig) -> String {
    let (out, prepared) = match prepared(language, process, files, config) {
        Ok(made) => made,
        Err(error) => return error,
    };
    let mut names = Vec::new();
    list(out.path(), "", &mut names);
    names.sort();
    let mut text = names.join("\n");
    for name in ["requirements.txt", "package.json"] {
        if let Ok(content) = fs::read_to_string(out.path().join(name)) {
            write!(text, "\n=== {name}\n{content}").expect("a string can be written to");
        }
    }
    let known = serde_json::to_string_pretty(&prepared).expect("it is JSON");
    write!(text, "\n=== prepared\n{known}").expect("a string can be written to");
    text
}

fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("it can be listed") {
        let entry = entry.expect("it can be listed");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            list(&entry.path(), &format!("{name}/"), names);
        } else {
            names.push(name);
        }
    }
}

const EVENT: (&str, &str) = (
    "function/handler.py",
    "from .util import shout\n\ndef handle(event, context):\n    return shout(event.body)\n",
);

#[test]
fn a_handler_of_events_without_packages() {
    insta::assert_snapshot!(golden(
        "python3-http",
        "python index.py",
        &[
            EVENT,
            ("Dockerfile", PYTHON_DOCKERFILE),
            ("function/util.py", ""),
            ("function/requirements.txt", "# none\n"),
            ("function/handler_test.py", "from .handler import handle\n"),
            ("function/tox.ini", ""),
            ("index.py", "import flask\n"),
            ("requirements.txt", "flask\nwaitress\ntox==3.*\n"),
        ],
    ));
}

#[test]
fn a_handler_that_uses_flask_has_it() {
    insta::assert_snapshot!(golden(
        "python3-flask-debian",
        "python index.py",
        &[
            (
                "function/handler.py",
                "from flask import request\ndef handle(req):\n    return request.path\n",
            ),
            ("function/__init__.py", "version = 1\n"),
            (
                "function/requirements.txt",
                "requests==2.32 # why\n-r more.txt\n./lib\n",
            ),
            ("function/more.txt", "pyyaml\n"),
            ("requirements.txt", "flask\nwaitress\norjson>=3\n"),
        ],
    ));
}

#[test]
fn classic_python() {
    insta::assert_snapshot!(golden(
        "python3",
        "python3 index.py",
        &[("function/handler.py", "def handle(req):\n    return req\n")],
    ));
}

#[test]
fn a_changed_dockerfile_is_heeded_or_named() {
    let dockerfile = "FROM python:3.12\nRUN apt-get update && apt-get install -y ffmpeg\nCOPY models /models\n\
        ENV fprocess=\"gunicorn -b :5000 index:app\" exec_timeout=2m\nENV mode=http\n";
    let config = BuildConfig {
        build_args: [("ADDITIONAL_PACKAGE", "git jq"), ("TOKEN", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..BuildConfig::default()
    };
    insta::assert_snapshot!(shown(
        "python3-http",
        "python index.py",
        &[EVENT, ("Dockerfile", dockerfile)],
        &config
    ));
}

#[test]
fn a_node_handler_with_packages_and_their_lock() {
    insta::assert_snapshot!(golden(
        "node20",
        "node index.js",
        &[
            (
                "function/handler.js",
                "const chalk = require('chalk');\nmodule.exports = async (event) => chalk(event);\n",
            ),
            (
                "function/package.json",
                r#"{"name": "f", "main": "handler.js", "type": "commonjs", "scripts": {"test": "jest"},
"dependencies": {"chalk": "^4"}, "devDependencies": {"jest": "^29"}, "packageManager": "yarn@4"}"#,
            ),
            ("function/package-lock.json", "{}"),
            ("function/yarn.lock", ""),
            ("function/.npmrc", "registry=https://npm.example.test/\n"),
            ("function/node_modules/chalk/index.js", ""),
            ("function/test/handler.test.js", "require('express')"),
            (
                "package.json",
                r#"{"dependencies": {"express": "^4.18.2", "body-parser": "^1"}}"#
            ),
        ],
    ));
}

#[test]
fn what_a_node_handler_requires_of_the_template_is_added() {
    insta::assert_snapshot!(golden(
        "node22",
        "node index.js",
        &[
            (
                "function/handler.js",
                "const express = require('express');\nconst parser = require(\"body-parser\");\nconst mock = require('mock/data');\n\
                 module.exports = async () => 1;\n",
            ),
            (
                "function/package.json",
                "{\"dependencies\": {\"local\": \"file:../lib\", \"own\": \"./packages/own\"},\n\"devDependencies\": {\"mock\": \"1\", \"jest\": \"2\"},\n\
                 \"scripts\": {\n\"prepare\": \"tsc\"}}",
            ),
            ("function/package-lock.json", "{}"),
            (
                "package.json",
                r#"{"dependencies": {"express": "^5.0.1", "morgan": "^1.10"}}"#
            ),
        ],
    ));
}

#[test]
fn classic_node_and_no_packages() {
    insta::assert_snapshot!(golden(
        "node",
        "node index.js",
        &[(
            "function/handler.js",
            "module.exports = async (context) => context;\n"
        )],
    ));
}

#[test]
fn contexts_that_cannot_be_used() {
    let cases: &[(&str, Files<'_>, &str)] = &[
        (
            "python3-http",
            &[],
            "there is no function/handler.py, in which template python3-http looks for the handler",
        ),
        (
            "python3-http",
            &[(
                "function/handler.py",
                "def handler(event, context):\n    pass\n",
            )],
            "function/handler.py defines no `handle`, expected `def handle(event, context)`",
        ),
        (
            "python3-flask",
            &[("function/handler.py", "")],
            "function/handler.py defines no `handle`, expected `def handle(req)`",
        ),
        (
            "python3-http",
            &[
                (
                    "function/handler.py",
                    "import flask\ndef handle(e, c): pass\n",
                ),
                (
                    "function/requirements.txt",
                    "requests==2 --hash=sha256:00\n",
                ),
            ],
            "function/requirements.txt pins by hash and lacks flask; add it there, with its hashes",
        ),
        (
            "node20",
            &[("function/index.js", "")],
            "there is no function/handler.js, in which template node20 looks for the handler",
        ),
        (
            "node20",
            &[
                ("function/handler.js", ""),
                (
                    "function/package.json",
                    "{\n  \"dependencies\": {\n    \"a\": \"1\",\n  }\n}",
                ),
            ],
            "function/package.json line 4, column 3: trailing comma",
        ),
        (
            "node20",
            &[
                ("function/handler.js", ""),
                ("function/package.json", "[1]"),
            ],
            "function/package.json is not an object",
        ),
        (
            "python27-flask",
            &[],
            "template python27-flask needs Python 2.7, which is not run here; template python3-flask calls handlers in the same way",
        ),
        (
            "bun-express",
            &[],
            "template bun-express needs Bun, which is not run here; template node22 calls handlers in the same way",
        ),
    ];
    for (language, files, expected) in cases {
        let error = prepared(language, "x", files, &BuildConfig::default())
            .map(|(_, prepared)| prepared)
            .expect_err(expected);
        assert_eq!(error, *expected);
    }
}

#[test]
fn every_template_of_both_families_is_known() {
    for language in super::python::LANGUAGES {
        let (_, prepared) = prepared(
            language,
            "python3 -u index.py",
            &[("function/handler.py", "def handle(*_): pass\n")],
            &BuildConfig::default(),
        )
        .expect("it is known");
        assert_eq!(
            (prepared.hosted, prepared.runtime.as_str()),
            (*language != "python3", "python")
        );
    }
    for language in super::node::LANGUAGES {
        let (_, prepared) = prepared(
            language,
            "node index.js",
            &[("function/handler.js", "")],
            &BuildConfig::default(),
        )
        .expect("it is known");
        assert_eq!(
            (prepared.hosted, prepared.runtime.as_str()),
            (*language != "node", "node")
        );
    }
}
