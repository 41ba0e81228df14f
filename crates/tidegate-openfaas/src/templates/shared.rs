//! What families share: files moved from a context into a tree, and what they say alike of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::remarks::Said;
use super::{Context, TemplateError};
use crate::{Prepared, WatchdogKind};

/// Largest file that is read to be understood, in bytes: manifests and Dockerfiles are written by hand.
const MAX_TEXT: u64 = 1 << 20;

/// Deepest folder that is copied; what a context may be unpacked to is bounded the same way.
const MAX_DEPTH: usize = 64;

/// Calls that an instance with a server takes at once. Upstream there is no bound; this one is what servers get here that
/// say nothing.
pub(super) const SERVED_AT_ONCE: u32 = 100;

/// Calls that an instance takes at once where each is a process: they share the instance's memory.
pub(super) const FORKED_AT_ONCE: u32 = 32;

/// What an interpreter runs for a handler: an entry behind of-watchdog, or a classic one, which is a process a call.
pub(super) struct Interpreted {
    pub(super) runtime: &'static str,
    pub(super) entry: &'static str,
    pub(super) is_classic: bool,
    /// Which attribute of the entry is the handler, where our host loads it.
    pub(super) handler: &'static str,
    /// The template's own word for how its entry is started.
    pub(super) process: &'static str,
    /// Whether a process is that entry, which our host stands for.
    pub(super) is_entry: fn(&str) -> bool,
    /// What the template's Dockerfile sets.
    pub(super) env: BTreeMap<String, String>,
    /// Calls that an instance takes at once, unless it is classic.
    pub(super) at_once: u32,
}

impl Interpreted {
    /// The result for a context, with what its author changed in the template over what the template says.
    pub(super) fn prepared(self, context: &Context<'_>, mut said: Said) -> Prepared {
        let process = said
            .env
            .remove("fprocess")
            .unwrap_or_else(|| context.process(self.process));
        let mut env = self.env;
        env.append(&mut said.env);
        let served = !self.is_classic;
        Prepared {
            language: context.template.language.clone(),
            runtime: self.runtime.to_owned(),
            entry: self.entry.to_owned(),
            handler: served.then(|| self.handler.to_owned()),
            hosted: served && (self.is_entry)(&process),
            watchdog: if served {
                WatchdogKind::OfWatchdog
            } else {
                WatchdogKind::ClassicWatchdog
            },
            process,
            env,
            concurrency: if served { self.at_once } else { FORKED_AT_ONCE },
            build: tidegate_core::Build::default(),
            notes: said.notes,
        }
    }
}

/// An environment.
pub(super) fn variables(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl Context<'_> {
    /// What the watchdog runs: the template's own word for it where it has one.
    pub(super) fn process(&self, usual: &str) -> String {
        match self.template.fprocess.as_deref().map(str::trim) {
            Some(own) if !own.is_empty() => own.to_owned(),
            _ => usual.to_owned(),
        }
    }

    /// Name of the handler's folder.
    pub(super) fn handler_folder(&self) -> Result<&str, TemplateError> {
        let folder = self
            .template
            .handler_folder
            .as_deref()
            .unwrap_or("function");
        let folder = folder.trim_end_matches('/');
        if folder.is_empty()
            || folder
                .split('/')
                .any(|part| matches!(part, "" | "." | ".."))
        {
            return Err(TemplateError::Context(format!(
                "template.yml: handler_folder {folder:?} is not the name of a folder beside it, such as \"function\""
            )));
        }
        Ok(folder)
    }

    /// A text file of the context; `None` where there is none.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, TemplateError> {
        text(&self.root.join(name), name)
    }

    /// Whether the context has this file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.root.join(name).is_file()
    }

    /// Copies a file or folder of the context to a place in the tree.
    pub(super) fn copy(&self, from: &str, out: &Path, to: &str) -> Result<(), TemplateError> {
        copy(&self.root.join(from), &out.join(to), from)
    }

    /// Copies the handler's folder, demanding one file of it.
    pub(super) fn copy_handler(&self, out: &Path, demanded: &str) -> Result<(), TemplateError> {
        let folder = self.handler_folder()?;
        self.demand(demanded)?;
        self.copy(folder, out, "function")
    }

    /// Fails unless the handler's folder has this file.
    pub(super) fn demand(&self, file: &str) -> Result<(), TemplateError> {
        let folder = self.handler_folder()?;
        if self.has(&format!("{folder}/{file}")) {
            return Ok(());
        }
        Err(TemplateError::Context(format!(
            "there is no {folder}/{file}, in which template {} looks for the handler",
            self.template.language
        )))
    }
}

/// A text file; `None` where there is none. `name` is what messages call it.
pub(super) fn text(path: &Path, name: &str) -> Result<Option<String>, TemplateError> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_TEXT + 1).read_to_end(&mut bytes))
        .map_err(io(name))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(TemplateError::Context(format!(
            "{name} is larger than {} MiB",
            MAX_TEXT >> 20
        )));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text.trim_start_matches('\u{feff}').to_owned())),
        Err(_) => Err(TemplateError::Context(format!("{name} is not UTF-8"))),
    }
}

/// Writes a file of the tree, its folders made.
pub(super) fn write(out: &Path, name: &str, content: &str) -> Result<(), TemplateError> {
    let path = out.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io(name))?;
    }
    fs::write(path, content).map_err(io(name))
}

/// Writes a script of the tree that can be executed.
pub(super) fn write_program(out: &Path, name: &str, content: &str) -> Result<(), TemplateError> {
    write(out, name, content)?;
    fs::set_permissions(out.join(name), fs::Permissions::from_mode(0o755)).map_err(io(name))
}

/// Copies a file, a link or a folder with all in it over what is there. `name` is what messages call it.
pub(super) fn copy(from: &Path, to: &Path, name: &str) -> Result<(), TemplateError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(io(name))?;
    }
    copy_in(from, to, name, 0)
}

fn copy_in(from: &Path, to: &Path, name: &str, depth: usize) -> Result<(), TemplateError> {
    if depth > MAX_DEPTH {
        return Err(TemplateError::Context(format!(
            "{name} is nested deeper than {MAX_DEPTH} folders"
        )));
    }
    let kind = fs::symlink_metadata(from).map_err(io(name))?.file_type();
    if kind.is_dir() {
        match fs::create_dir(to) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io(name)(error));
            }
            _ => {}
        }
        for entry in fs::read_dir(from).map_err(io(name))? {
            let entry = entry.map_err(io(name))?;
            let file = entry.file_name();
            let inner = format!("{name}/{}", file.to_string_lossy());
            copy_in(&entry.path(), &to.join(file), &inner, depth + 1)?;
        }
        return Ok(());
    }
    // A file is put in place of a link, never through it.
    match fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(name)(error)),
        _ => {}
    }
    if kind.is_symlink() {
        fs::read_link(from)
            .and_then(|target| symlink(target, to))
            .map_err(io(name))
    } else if kind.is_file() {
        fs::copy(from, to).map(drop).map_err(io(name))
    } else {
        Err(TemplateError::Context(format!(
            "{name} is neither a file nor a folder"
        )))
    }
}

/// The error of a file.
pub(super) fn io(what: &str) -> impl FnOnce(std::io::Error) -> TemplateError {
    let what = what.to_owned();
    move |source| TemplateError::Io { what, source }
}
