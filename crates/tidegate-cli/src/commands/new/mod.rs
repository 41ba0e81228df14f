//! `new`: a folder to begin with.
//!
//! The templates are whole files under `templates/`, embedded, so that they can be read and tried as they are. Nothing is
//! fetched: what a new folder needs is the language alone.

mod templates;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum as _};
use tidegate_core::Name;

use crate::context::Context;
use crate::error::{Error, Result};
use templates::{Lang, Template};

const README: &str = include_str!("../../../templates/common/README.md");
const IGNORE: &str = include_str!("../../../templates/common/tidegateignore");

/// Words that Cargo does not take as the name of a package, among those that are names of functions.
const RESERVED: [&str; 38] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "if", "impl", "in",
    "let", "loop", "macro", "match", "mod", "move", "mut", "pub", "ref", "return", "static",
    "struct", "test", "trait", "type", "use",
];

/// Make a folder with a function to begin with
///
/// A handler, its tests, a request to try it with and a page that says how to run, test and deploy it.
#[derive(Args)]
pub(crate) struct New {
    /// The function's name, or the folder's path, whose last part is the name
    #[arg(value_name = "NAME")]
    path: PathBuf,
    /// The language
    #[arg(short, long, value_enum, value_name = "LANG")]
    lang: Lang,
    /// An HTTP server on $PORT, instead of a handler
    #[arg(long)]
    http: bool,
}

impl New {
    pub(crate) fn run(self, context: &mut Context) -> Result {
        let last = self.path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let name =
            Name::new(last).map_err(|e| Error::usage(e).hint("it is the function's name too"))?;
        let Some(template) = self.lang.template(self.http) else {
            let able: Vec<String> = Lang::value_variants()
                .iter()
                .filter(|l| l.template(true).is_some())
                .map(|l| l.word())
                .collect();
            return Err(Error::usage(format!(
                "--http has no template for {}; it has for {}",
                self.lang.word(),
                able.join(", ")
            )));
        };
        refuse_what_is_there(&self.path)?;
        for (path, text) in rendered(&template, &name) {
            write(&self.path.join(&path), &text)?;
            context.note(format!("  {path}"));
        }
        let folder = self.path.display();
        let (flags, request) = (template.flags, template.request.0);
        context.note(format!("made {folder}; next:"));
        context.note(format!("  cd {folder}"));
        context.note(format!("  tidegate run .{flags} -d @{request}"));
        context.note(format!("  tidegate dev .{flags}"));
        context.line(folder)
    }
}

/// Files and their texts, in the order of their paths.
fn rendered(template: &Template, name: &Name) -> Vec<(String, String)> {
    let mut test = String::new();
    if let Some(command) = template.test {
        test = format!("\nTest it:\n\n    {command}\n");
    }
    let readme = README
        .replace("{{about}}", template.about)
        .replace("{{flags}}", template.flags)
        .replace("{{test}}", &test)
        .replace("request/hello.json", template.request.0);
    let mut ignore = IGNORE.to_owned();
    for unsent in template.unsent {
        ignore.push_str(unsent);
        ignore.push('\n');
    }
    let files = template.files.iter().chain([&template.request]);
    let mut files: Vec<(String, String)> = files
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .chain([
            ("README.md".to_owned(), readme),
            (".tidegateignore".to_owned(), ignore),
        ])
        .map(|(path, text)| {
            let text = text
                .replace("{{name}}", name.as_str())
                .replace("{{crate}}", &package(name.as_str()));
            (path, text)
        })
        .collect();
    files.sort();
    files
}

/// The name as Cargo takes it.
fn package(name: &str) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) || RESERVED.contains(&name) {
        format!("fn-{name}")
    } else {
        name.to_owned()
    }
}

fn refuse_what_is_there(path: &Path) -> Result {
    let shown = path.display();
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(Error::usage(format!(
                "{shown} is there and not empty; give another name"
            ))),
            None => Ok(()),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::usage(format!("{shown} is there and no folder")).because(&e)),
    }
}

fn write(path: &Path, text: &str) -> Result {
    let failed =
        |e: std::io::Error| Error::failed(format!("cannot write {}", path.display())).because(&e);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)?;
    #[cfg(unix)]
    if text.starts_with("#!") {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled_in() {
        let name = Name::new("2fa").unwrap();
        for lang in Lang::value_variants() {
            for template in [lang.template(false), lang.template(true)]
                .into_iter()
                .flatten()
            {
                let files = rendered(&template, &name);
                for (path, text) in &files {
                    assert!(!text.contains("{{"), "{lang:?} {path}");
                    assert!(text.ends_with('\n'), "{lang:?} {path}");
                }
                for part in [
                    "README.md",
                    ".gitignore",
                    ".tidegateignore",
                    template.request.0,
                ] {
                    assert!(
                        files.iter().any(|(path, _)| path == part),
                        "{lang:?} {part}"
                    );
                }
            }
        }
        assert_eq!(package("2fa"), "fn-2fa");
        assert_eq!(package("type"), "fn-type");
        assert_eq!(package("resize"), "resize");
    }
}
