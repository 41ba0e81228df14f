//! What can be told of Python code without running it.

use super::Folder;

/// Files that are the entry when several lie in a folder, first come first.
const ENTRIES: &[&str] = &["handler.py", "main.py", "app.py", "function.py"];

pub(super) fn known(folder: &Folder<'_>) -> Option<&'static str> {
    folder.first(ENTRIES)
}

pub(super) fn find<'a>(folder: &Folder<'a>) -> Option<&'a str> {
    known(folder).or_else(|| folder.only(&[".py"]))
}

pub(super) fn look(folder: &Folder<'_>, entry: &str) -> (&'static str, Option<String>) {
    let text = folder.text(entry);
    if has_handler(&text) {
        return ("host", None);
    }
    // A server of its own, run as a script.
    if text.contains("__name__") && text.contains("PORT") && text.contains("serve") {
        return ("http", None);
    }
    let warning = format!(
        "{entry} has neither 'def handler(event, context)' nor an 'app' at its top level that can be seen; unless one \
         appears when it is loaded, the deploy will fail"
    );
    ("host", Some(warning))
}

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
}
