//! What families share: files moved from a context into a tree, and what they say alike of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use tidegate_build::{LinkError, check_link};

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
        copy(&self.root.join(from), out, to, from)
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

/// Writes a file of the tree, its folders made, in place of what is there.
pub(super) fn write(out: &Path, name: &str, content: &str) -> Result<(), TemplateError> {
    make_folders(out, name, name)?;
    let path = out.join(name);
    make_room(&path, name)?;
    fs::write(path, content).map_err(io(name))
}

/// Writes a script of the tree that can be executed.
pub(super) fn write_program(out: &Path, name: &str, content: &str) -> Result<(), TemplateError> {
    write(out, name, content)?;
    fs::set_permissions(out.join(name), fs::Permissions::from_mode(0o755)).map_err(io(name))
}

/// Copies a file, a link or a folder with all in it to a place in the tree, over what is there. `name` is what messages
/// call it.
pub(super) fn copy(from: &Path, out: &Path, to: &str, name: &str) -> Result<(), TemplateError> {
    let depth = make_folders(out, to, name)?;
    copy_in(from, &out.join(to), name, depth)
}

/// Makes the folders that a place in the tree is in, and gives how many there are. None of them may be a link: what is
/// put there would be put wherever that leads.
fn make_folders(out: &Path, to: &str, name: &str) -> Result<usize, TemplateError> {
    let (mut folder, mut depth) = (out.to_owned(), 0);
    let parents = to.rsplit_once('/').map_or("", |(parents, _)| parents);
    for part in parents.split('/') {
        if part.is_empty() {
            continue;
        }
        folder.push(part);
        depth += 1;
        make_folder(&folder, name)?;
    }
    Ok(depth)
}

fn make_folder(folder: &Path, name: &str) -> Result<(), TemplateError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(io(name)(error)),
        Ok(()) => Ok(()),
        Err(_) => match fs::symlink_metadata(folder).map_err(io(name))?.is_dir() {
            true => Ok(()),
            false => Err(TemplateError::Context(format!(
                "{name} would lie in {:?}, which is a link or a file, and not a folder",
                folder.file_name().unwrap_or_default()
            ))),
        },
    }
}

/// A file is put in place of a link, never through it.
fn make_room(at: &Path, name: &str) -> Result<(), TemplateError> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(name)(error)),
        _ => Ok(()),
    }
}

/// `depth` is how many folders of the tree `to` is in.
fn copy_in(from: &Path, to: &Path, name: &str, depth: usize) -> Result<(), TemplateError> {
    if depth > MAX_DEPTH {
        return Err(TemplateError::Context(format!(
            "{name} is nested deeper than {MAX_DEPTH} folders"
        )));
    }
    let kind = fs::symlink_metadata(from).map_err(io(name))?.file_type();
    if kind.is_dir() {
        make_folder(to, name)?;
        for entry in fs::read_dir(from).map_err(io(name))? {
            let entry = entry.map_err(io(name))?;
            let file = entry.file_name();
            let inner = format!("{name}/{}", file.to_string_lossy());
            copy_in(&entry.path(), &to.join(file), &inner, depth + 1)?;
        }
        return Ok(());
    }
    make_room(to, name)?;
    if kind.is_symlink() {
        let target = fs::read_link(from).map_err(io(name))?;
        // It stayed inside where it was, which was deeper, maybe.
        let checked = match target.to_str() {
            Some(target) => check_link(target, depth),
            None => Err(LinkError::Malformed),
        };
        checked.map_err(|why| {
            TemplateError::Context(format!("link {name} points to {target:?}, which {why}"))
        })?;
        symlink(target, to).map_err(io(name))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A context with a link deep inside that stays in it, and an empty tree.
    fn folders() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let all = tempfile::tempdir().unwrap();
        let (root, out) = (all.path().join("a/b/context"), all.path().join("a/b/out"));
        fs::create_dir_all(root.join("1/2/3")).unwrap();
        fs::create_dir_all(&out).unwrap();
        symlink("../../../victim", root.join("1/2/3/link")).unwrap();
        fs::write(root.join("file"), "new").unwrap();
        (all, root, out)
    }

    #[test]
    fn a_link_that_would_lead_out_of_its_new_place_is_refused() {
        let (_all, root, out) = folders();
        let link = root.join("1/2/3/link");
        copy(&link, &out, "1/2/3/link", "link").unwrap();
        for to in ["link", "1/link", "1/2/link"] {
            let error = copy(&link, &out, to, "link").unwrap_err().to_string();
            assert!(error.contains("which leaves the folder"), "{error}");
            assert!(fs::symlink_metadata(out.join(to)).is_err(), "{to}");
        }
        // So is one that comes with its folder.
        let error = copy(&root.join("1/2"), &out, "moved", "2").unwrap_err();
        assert!(error.to_string().contains("link 2/3/link"), "{error}");
    }

    #[test]
    fn nothing_is_put_behind_a_link_or_written_through_one() {
        let (_all, root, out) = folders();
        fs::create_dir(out.join("victim")).unwrap();
        symlink("victim", out.join("folder")).unwrap();
        for refused in [
            copy(&root.join("file"), &out, "folder/file", "file"),
            copy(&root.join("1"), &out, "folder", "1"),
            write(&out, "folder/file", "new"),
            write(&out, "folder/sub/file", "new"),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("which is a link or a file"), "{error}");
        }
        assert_eq!(fs::read_dir(out.join("victim")).unwrap().count(), 0);
        fs::write(out.join("kept"), "old").unwrap();
        symlink("kept", out.join("written")).unwrap();
        write(&out, "written", "new").unwrap();
        assert_eq!(fs::read_to_string(out.join("kept")).unwrap(), "old");
        assert_eq!(fs::read_to_string(out.join("written")).unwrap(), "new");
    }
}
