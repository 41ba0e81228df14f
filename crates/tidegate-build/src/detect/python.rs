//! What can be told of Python code without running it.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::tree::Tree;

/// Largest dependency list that is looked into, in bytes; it only decides on a warning.
const MAX_LIST: u64 = 256 << 10;

/// Whether a `handler` or an `app` is bound at the top level of the module.
///
/// A scan of lines, not a parser: it sees definitions, assignments and imports that begin in the first column. What it
/// does not see only costs a warning, or a `--runtime python` for a file with a `#!` line.
pub(super) fn has_handler(source: &str) -> bool {
    source.lines().any(|line| {
        let line = line.trim_end();
        if let Some(names) = line
            .starts_with("from ")
            .then(|| line.split_once(" import "))
            .flatten()
        {
            return names.1.split(['(', ')', ',', ' ']).any(is_entry);
        }
        let definition = line
            .strip_prefix("async def ")
            .or_else(|| line.strip_prefix("def "))
            .or_else(|| line.strip_prefix("class "));
        if let Some(rest) = definition {
            return is_entry(identifier(rest));
        }
        let name = identifier(line);
        let rest = line[name.len()..].trim_start();
        is_entry(name)
            && (rest.starts_with(':') || rest.starts_with('=') && !rest.starts_with("=="))
    })
}

fn is_entry(name: &str) -> bool {
    matches!(name, "handler" | "app")
}

fn identifier(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// Says that dependencies are listed and not installed.
pub(super) fn warn_dependencies(tree: &mut Tree, root: &Path) {
    for (name, lists) in [
        ("requirements.txt", requirements as fn(&str) -> bool),
        ("pyproject.toml", project),
    ] {
        let mut text = String::new();
        let read = fs::File::open(root.join(name))
            .and_then(|f| f.take(MAX_LIST).read_to_string(&mut text));
        if read.is_ok() && lists(&text) {
            tree.warnings.push(format!(
                "{name} lists dependencies, which are not installed yet; only packages of the machine's own Python can \
                 be imported"
            ));
        }
    }
}

fn requirements(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .any(|line| !line.is_empty() && !line.starts_with('#'))
}

fn project(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else {
        return false;
    };
    let listed = table
        .get("project")
        .and_then(|p| p.get("dependencies"))
        .and_then(toml::Value::as_array)
        .is_some_and(|list| !list.is_empty());
    let poetry = table
        .get("tool")
        .and_then(|t| t.get("poetry")?.get("dependencies")?.as_table())
        .is_some_and(|list| list.keys().any(|name| name != "python"));
    listed || poetry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_level_names_are_seen() {
        for (source, expected) in [
            ("def handler(event, context):\n", true),
            ("async def handler(e, c): ...", true),
            ("app = Flask(__name__)", true),
            ("app: ASGIApp = make()", true),
            ("from web import app", true),
            ("from web import (handler, other)", true),
            ("class app:", true),
            ("    def handler(self):", false),
            ("application = 1", false),
            ("app == 2", false),
            ("print('def handler')", false),
            ("héhandler = 1", false),
        ] {
            assert_eq!(has_handler(source), expected, "{source}");
        }
    }

    #[test]
    fn listed_dependencies_are_seen() {
        assert!(requirements("# tools\nflask==3\n"));
        assert!(!requirements("# nothing\n\n"));
        assert!(project("[project]\ndependencies = ['x']"));
        assert!(!project("[project]\ndependencies = []"));
        assert!(!project("[tool.poetry.dependencies]\npython = '^3.11'"));
        assert!(project("[tool.poetry.dependencies]\nflask = '*'"));
        assert!(!project("not toml ["));
    }
}
