//! What all recipes share: the source they look at, the tools they ask for, and the key of what they decide.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{PlanError, Wanted};
use crate::digest::Hasher;
use crate::plan::{Compile, Dependencies, Generated, HOME, Plan, Step};
use crate::source;
use crate::tools::{Tool, ToolName, Tools};

/// Largest manifest or lock file in bytes; lock files of large projects have a few MiB.
const MAX_MANIFEST: u64 = 32 << 20;

/// Part of every key. Raised when a recipe makes something else of the same input than before.
const RECIPES: &str = "1";

/// Certificates of the authorities that this machine trusts, where Debian and its kin have them. Tools that bring a list of
/// their own are pointed here, so that a company's own authority is enough to be installed once.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A recipe's view of what it plans for.
pub(super) struct Context<'a> {
    pub(super) source: &'a Path,
    pub(super) wanted: &'a Wanted,
    tools: &'a Tools,
    folders: Vec<PathBuf>,
    versions: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Context<'a> {
    pub(super) fn new(source: &'a Path, wanted: &'a Wanted, tools: &'a Tools) -> Self {
        Self {
            source,
            wanted,
            tools,
            folders: Vec::new(),
            versions: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A tool that the plan needs.
    pub(super) fn tool(&mut self, name: ToolName) -> Result<Arc<Tool>, PlanError> {
        let tool = self
            .tools
            .get(name)
            .map_err(|missing| PlanError::ToolMissing {
                runtime: self.wanted.runtime,
                missing,
            })?;
        for folder in &tool.folders {
            if !self.folders.contains(folder) {
                self.folders.push(folder.clone());
            }
        }
        let version = format!("{} {}", name.as_str(), tool.version);
        if !self.versions.contains(&version) {
            self.versions.push(version);
        }
        Ok(tool)
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.source.join(name).is_file()
    }

    /// Paths of the files in a folder of the source with this ending, sorted.
    pub(super) fn files_in(&self, folder: &str, ending: &str) -> Vec<String> {
        source::files(&self.source.join(folder), ending)
            .into_iter()
            .map(|name| format!("{folder}/{name}"))
            .collect()
    }

    /// A text file of the source, if it is there.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, PlanError> {
        let path = self.source.join(name);
        let failed = |source| PlanError::Read {
            path: path.clone(),
            source,
        };
        if !path.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .and_then(|f| f.take(MAX_MANIFEST + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(manifest(
                name,
                format!("larger than {} MiB", MAX_MANIFEST >> 20),
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.trim_start_matches('\u{feff}').to_owned())),
            Err(_) => Err(manifest(name, "is not UTF-8")),
        }
    }

    /// The stage that makes a layer.
    pub(super) fn dependencies(
        &self,
        inputs: Vec<String>,
        files: Vec<Generated>,
        pinned: bool,
        mut steps: Vec<Step>,
    ) -> Result<Dependencies, PlanError> {
        self.set_env(&mut steps);
        let mut key = self.key("dependencies", &files, &steps);
        for input in &inputs {
            let path = self.source.join(input);
            let failed = |source| PlanError::Read {
                path: path.clone(),
                source,
            };
            key.field(input.as_bytes());
            key.file(fs::File::open(&path).map_err(failed)?)
                .map_err(failed)?;
        }
        Ok(Dependencies {
            inputs,
            files,
            key: key.hex(),
            pinned,
            steps,
        })
    }

    /// The stage that makes a bundle.
    pub(super) fn compile(
        &self,
        files: Vec<Generated>,
        mut steps: Vec<Step>,
        entry: impl Into<String>,
        handler: Option<String>,
    ) -> Compile {
        self.set_env(&mut steps);
        Compile {
            key: self.key("compile", &files, &steps).hex(),
            files,
            steps,
            entry: entry.into(),
            handler,
        }
    }

    pub(super) fn finish(self, mut plan: Plan) -> Plan {
        plan.tools = self.folders;
        plan.notes.extend(self.notes);
        plan
    }

    /// What every step has, and what the user added, which wins.
    fn set_env(&self, steps: &mut [Step]) {
        for step in steps {
            let mut env = vec![("HOME".to_owned(), HOME.to_owned())];
            env.append(&mut step.env);
            // What lies in an archive never has a later time, so nothing is ever dated by the clock.
            env.push(("SOURCE_DATE_EPOCH".into(), "315532800".into()));
            env.retain(|(k, _)| !self.wanted.env.iter().any(|(name, _)| name == k));
            env.extend(self.wanted.env.iter().cloned());
            step.env = env;
        }
    }

    fn key(&self, stage: &str, files: &[Generated], steps: &[Step]) -> Hasher {
        let mut key = Hasher::new();
        for part in [RECIPES, stage, std::env::consts::ARCH] {
            key.field(part.as_bytes());
        }
        key.list(&self.versions);
        // Lists of what a user may add to say how long they are: nobody makes one plan look like another.
        key.count(files.len());
        for file in files {
            key.field(file.path.as_bytes());
            key.field(file.content.as_bytes());
        }
        key.count(steps.len());
        for step in steps {
            key.list(&step.command);
            key.count(step.env.len());
            for (name, value) in &step.env {
                key.field(name.as_bytes());
                key.field(value.as_bytes());
            }
        }
        key
    }
}

/// A command of a plan.
pub(super) fn step<S: Into<String>>(
    title: impl Into<String>,
    command: impl IntoIterator<Item = S>,
    env: &[(&str, &str)],
    network: bool,
) -> Step {
    Step {
        title: title.into(),
        command: command.into_iter().map(Into::into).collect(),
        env: env
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        network,
    }
}

/// A few commands of the shell, which end at the first that fails. Arguments are `$1`, `$2`, … and so never quoted.
pub(super) fn shell(
    title: impl Into<String>,
    script: &str,
    arguments: &[&str],
    env: &[(&str, &str)],
    network: bool,
) -> Step {
    let mut command = vec!["/bin/sh", "-ec", script, "sh"];
    command.extend(arguments);
    step(title, command, env, network)
}

/// The program's path as an argument.
pub(super) fn program(tool: &Tool) -> String {
    tool.program.to_string_lossy().into_owned()
}

/// `PATH` inside a step, with the folders of these tools before the usual ones.
pub(super) fn path_of(tools: &[&Tool]) -> String {
    let mut path = String::new();
    for tool in tools {
        if let Some(folder) = tool.program.parent() {
            let folder = folder.to_string_lossy();
            if !path.split(':').any(|p| p == folder) {
                path.push_str(&folder);
                path.push(':');
            }
        }
    }
    path + "/usr/local/bin:/usr/bin:/bin"
}

/// A name for a program beside the source's own files.
pub(super) fn free_name(context: &Context<'_>, name: &str) -> String {
    let mut free = name.to_owned();
    while fs::symlink_metadata(context.source.join(&free)).is_ok() {
        free.push_str("-program");
    }
    free
}

/// The environment that points a tool to [`AUTHORITIES`], by the variable it reads.
pub(super) fn authorities(variable: &'static str) -> Option<(&'static str, &'static str)> {
    Path::new(AUTHORITIES)
        .is_file()
        .then_some((variable, AUTHORITIES))
}

pub(super) fn manifest(file: &str, why: impl Into<String>) -> PlanError {
    PlanError::Manifest {
        file: file.to_owned(),
        why: why.into(),
    }
}

/// A manifest in TOML, its error in one line with the place.
pub(super) fn toml_table(file: &str, text: &str) -> Result<toml::Table, PlanError> {
    text.parse().map_err(|e: toml::de::Error| {
        let line = e
            .span()
            .map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        let what = e.message().lines().next().unwrap_or("not TOML").to_owned();
        manifest(
            file,
            match line {
                Some(line) => format!("line {line}: {what}"),
                None => what,
            },
        )
    })
}

/// A manifest in JSON.
pub(super) fn json(file: &str, text: &str) -> Result<serde_json::Value, PlanError> {
    serde_json::from_str(text).map_err(|e| {
        let text = e.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        manifest(
            file,
            format!("line {}, column {}: {what}", e.line(), e.column()),
        )
    })
}
