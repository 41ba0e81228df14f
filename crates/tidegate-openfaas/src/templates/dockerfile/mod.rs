//! A Dockerfile with a plain command.
//!
//! No image is built and nothing of one is run: a Dockerfile is read for what a function is made of, which is where files
//! of the folder go, the environment, the packages that manifests name, and the program that runs. The base image stands
//! for programs that the machine has itself. Whatever would make a file that is then missing is refused with its line
//! rather than left out, since a function that lacks a file fails later and says less.
//!
//! The last `WORKDIR` is the function's folder. The watchdog is recognised by its image, or by the address that it is
//! fetched from, and left out: its work is the platform's.

mod glob;
mod install;
pub(super) mod lex;
mod parse;
mod program;
mod run;
mod stage;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use super::shared::{self, FORKED_AT_ONCE, SERVED_AT_ONCE};
use super::{Context, TemplateError};
use crate::{Prepared, WatchdogKind};
use lex::Line;

pub(super) const LANGUAGES: &[&str] = &["dockerfile"];

/// The file's name.
pub(super) const FILE: &str = "Dockerfile";

/// Where packages of Python are installed, seen from a function.
const PYTHON_PACKAGES: &str = "/layer/python";

/// Most characters of a line that are repeated to the user.
const SHOWN: usize = 120;

/// A line that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Dockerfile line {line}: {text} cannot be honoured here: {why}")]
struct Mistake {
    line: usize,
    text: String,
    why: String,
}

impl Mistake {
    fn new(line: &Line, why: impl Into<String>) -> Self {
        let mut text: String = line.text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.chars().count() > SHOWN {
            text = text.chars().take(SHOWN).collect::<String>() + "…";
        }
        Self {
            line: line.number,
            text,
            why: why.into(),
        }
    }
}

impl From<Mistake> for TemplateError {
    fn from(mistake: Mistake) -> Self {
        Self::Context(mistake.to_string())
    }
}

pub(super) fn prepare(context: &Context<'_>, out: &Path) -> Result<Prepared, TemplateError> {
    // The handler's folder is the context itself, unless a template put it into one.
    let folder = if context.has(FILE) {
        context.root.to_owned()
    } else {
        context.root.join(context.handler_folder()?)
    };
    let text = shared::text(&folder.join(FILE), FILE)?
        .ok_or_else(|| TemplateError::Context("there is no Dockerfile in the folder".to_owned()))?;
    let ignore = shared::text(&folder.join(".dockerignore"), ".dockerignore")?
        .map(|text| glob::Ignore::parse(&text))
        .unwrap_or_default();
    let files = stage::Files::of(&folder, &ignore).map_err(shared::io("the folder"))?;
    let file = parse::parse(&text)?;
    let stage = stage::evaluate(&file, &files, &context.config.build_args)?;
    let mut tree = tree::lay(&stage, &folder, out)?;
    let mut program = program::find(&stage, &mut tree, out)?;
    let entry = if program.entry.is_empty() {
        // A program of the machine's alone: what there is of source is the Dockerfile.
        if !out.join(FILE).exists() {
            shared::write(out, FILE, &text)?;
        }
        FILE.to_owned()
    } else {
        program.entry
    };
    let installed = tree::install(&stage, &tree, &folder, out)?;
    let runtime = installed.unwrap_or(program.runtime);
    // A path of one's own takes the place of the one that leads to what was installed.
    if let Some(path) = program.env.get_mut("PYTHONPATH")
        && installed == Some("python")
    {
        *path = format!("{}:{PYTHON_PACKAGES}", path.trim_end_matches(':'));
    }
    let mut notes = tree.notes;
    notes.extend(program.notes);
    if stage.base != "scratch" && stage::watchdog_of(&stage.base).is_none() {
        notes.insert(
            0,
            format!(
                "the image {} is not used: the function runs with the programs of this machine",
                stage.base
            ),
        );
    }
    if !stage.ignored.is_empty() {
        let lines: Vec<String> = stage.ignored.iter().map(ToString::to_string).collect();
        notes.push(format!(
            "users and owners have no effect here: Dockerfile line{} {}",
            if lines.len() == 1 { "" } else { "s" },
            lines.join(", ")
        ));
    }
    notes.extend(stage.notes.iter().cloned());
    let concurrency = if program.serves {
        SERVED_AT_ONCE
    } else {
        FORKED_AT_ONCE
    };
    Ok(Prepared {
        language: context.template.language.clone(),
        runtime: runtime.to_owned(),
        entry,
        handler: None,
        hosted: false,
        watchdog: program.watchdog,
        process: program.process,
        env: program.env,
        concurrency,
        build: tidegate_core::Build {
            // Manifests that the Dockerfile does not install from are not installed from here either.
            skip: installed.is_none(),
            ..tidegate_core::Build::default()
        },
        notes,
    })
}

/// What runs, and under what.
struct Program {
    watchdog: WatchdogKind,
    /// Split on single spaces.
    process: String,
    env: BTreeMap<String, String>,
    runtime: &'static str,
    /// Its file in the tree; empty where there is none.
    entry: String,
    /// Whether it is one process for all calls.
    serves: bool,
    notes: Vec<String>,
}

#[cfg(test)]
mod tests;
