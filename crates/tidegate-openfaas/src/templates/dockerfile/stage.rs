//! What a Dockerfile puts where: its stages, evaluated without running anything.
//!
//! A stage is a map from paths to files of the context. What a command would have made is not in it, so a stage of which
//! a command cannot be honoured is only a failure if what runs in the end needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::glob::{Ignore, is_pattern, matches};
use super::install::Install;
use super::lex::{Line, expand};
use super::parse::{Copy, Dockerfile, Form, Instruction};
use super::{Mistake, run};
use crate::WatchdogKind;

/// Deepest folder of a context that is looked into.
const MAX_DEPTH: usize = 64;

/// Most files of a context, as many as an archive may have.
const MAX_FILES: usize = 50_000;

/// `PATH` of nearly every image.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a watchdog's image has it.
const WATCHDOG: &str = "/fwatchdog";

/// The files of a context, relative to it.
#[derive(Debug)]
pub(super) struct Files(BTreeSet<String>);

/// A file of a stage.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) origin: Origin,
    /// Whether a command or a flag has made it executable.
    pub(super) executable: bool,
    /// The instruction that put it there.
    pub(super) line: Line,
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The context: relative to it.
    Context(PathBuf),
    /// It is a watchdog, whose work is done by the platform.
    Watchdog(WatchdogKind),
}

/// A stage, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) base: String,
    name: Option<String>,
    pub(super) workdir: String,
    pub(super) env: BTreeMap<String, String>,
    args: BTreeMap<String, String>,
    /// By absolute path.
    pub(super) files: BTreeMap<String, Placed>,
    /// Those that are known to be folders.
    pub(super) folders: BTreeSet<String>,
    pub(super) cmd: Option<(Line, Form)>,
    pub(super) entrypoint: Option<(Line, Form)>,
    pub(super) installs: Vec<(Line, Install)>,
    /// Lines whose effect is none here: users, owners.
    pub(super) ignored: BTreeSet<usize>,
    pub(super) notes: Vec<String>,
    pub(super) exposed: Option<String>,
    /// The first thing that could not be honoured.
    problem: Option<Mistake>,
}

// === impl Files ===

impl Files {
    /// Lists a context.
    pub(super) fn of(root: &Path, ignore: &Ignore) -> std::io::Result<Self> {
        let mut files = BTreeSet::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in std::fs::read_dir(root.join(&folder))? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = if folder.is_empty() {
                    name
                } else {
                    format!("{folder}/{name}")
                };
                if entry.file_type()?.is_dir() {
                    if depth < MAX_DEPTH {
                        folders.push((path, depth + 1));
                    }
                } else if !ignore.leaves(&path) && files.len() < MAX_FILES {
                    files.insert(path);
                }
            }
        }
        Ok(Self(files))
    }

    /// Files that a source of `COPY` stands for, each with its name at the destination: that of a file is its last part,
    /// those of a folder are relative to it. Whether the source is one file is told too.
    fn find(&self, source: &str) -> (Vec<(String, String)>, bool) {
        let wanted = source.trim_matches('/');
        if wanted.is_empty() {
            let all = self.0.iter().map(|f| (f.clone(), f.clone()));
            return (all.collect(), false);
        }
        if self.0.contains(wanted) {
            return (vec![(wanted.to_owned(), last(wanted).to_owned())], true);
        }
        if !is_pattern(wanted) {
            return (self.inside(wanted), false);
        }
        let parts = wanted.split('/').count();
        let mut found = Vec::new();
        let mut folders = BTreeSet::new();
        for file in &self.0 {
            let mut ends = file.match_indices('/').map(|(at, _)| at);
            match ends.nth(parts - 1) {
                Some(end) if matches(wanted, &file[..end]) => {
                    folders.insert(&file[..end]);
                }
                None if matches(wanted, file) => {
                    found.push((file.clone(), last(file).to_owned()));
                }
                _ => {}
            }
        }
        for folder in folders {
            found.extend(self.inside(folder));
        }
        (found, false)
    }

    fn inside(&self, folder: &str) -> Vec<(String, String)> {
        let prefix = format!("{folder}/");
        self.0
            .range(prefix.clone()..)
            .take_while(|file| file.starts_with(&prefix))
            .map(|file| (file.clone(), file[prefix.len()..].to_owned()))
            .collect()
    }
}

// === impl Stage ===

impl Stage {
    fn new(base: String) -> Self {
        let mut files = BTreeMap::new();
        if let Some(kind) = watchdog_of(&base) {
            let line = Line {
                number: 0,
                text: String::new(),
            };
            files.insert(
                WATCHDOG.to_owned(),
                Placed {
                    origin: Origin::Watchdog(kind),
                    executable: true,
                    line,
                },
            );
        }
        Self {
            base,
            name: None,
            workdir: "/".to_owned(),
            env: BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]),
            args: BTreeMap::new(),
            files,
            folders: BTreeSet::new(),
            cmd: None,
            entrypoint: None,
            installs: Vec::new(),
            ignored: BTreeSet::new(),
            notes: Vec::new(),
            exposed: None,
            problem: None,
        }
    }

    /// A word with its variables replaced.
    pub(super) fn expand(&self, word: &str, escape: char) -> Result<String, String> {
        expand(word, escape, &|name| {
            let value = self.env.get(name).or_else(|| self.args.get(name));
            value.map(String::as_str)
        })
    }

    /// The path, from the root.
    pub(super) fn absolute(&self, path: &str) -> String {
        absolute(&self.workdir, path)
    }

    /// Whether the path is a folder, as far as can be told.
    fn is_folder(&self, path: &str) -> bool {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        path == "/"
            || self.folders.contains(path)
            || self
                .folders
                .range(prefix.clone()..)
                .next()
                .is_some_and(|f| f.starts_with(&prefix))
            || self
                .files
                .range(prefix.clone()..)
                .next()
                .is_some_and(|(f, _)| f.starts_with(&prefix))
    }

    /// The kind of the watchdog that the stage has, if any.
    pub(super) fn watchdog(&self) -> Option<WatchdogKind> {
        self.files.values().find_map(|file| match file.origin {
            Origin::Watchdog(kind) => Some(kind),
            Origin::Context(_) => None,
        })
    }

    fn place(&mut self, path: String, origin: Origin, executable: bool, line: &Line) {
        let line = line.clone();
        self.files.insert(
            path,
            Placed {
                origin,
                executable,
                line,
            },
        );
    }

    fn copy(
        &mut self,
        line: &Line,
        copy: &Copy,
        escape: char,
        files: &Files,
        stages: &[Stage],
    ) -> Result<(), String> {
        let to = self.expand(&copy.to, escape)?;
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.push(self.expand(source, escape)?);
        }
        let target = self.absolute(&to);
        let into = to.ends_with('/') || to.ends_with("/.") || matches!(&*to, "." | "..");
        let into = into || sources.len() > 1 || self.is_folder(&target);
        let executable = copy.mode.as_deref().is_some_and(run::makes_executable);
        if let Some(from) = &copy.from {
            let from = self.expand(from, escape)?;
            return self.copy_from(line, &from, &sources, &target, into, stages);
        }
        for source in &sources {
            if source.contains("://") || source.starts_with("git@") {
                return Err("nothing is fetched for it; put the file into the folder".to_owned());
            }
            if copy.is_add && is_archive(source) {
                return Err(
                    "ADD would unpack it; put what is in it into the folder, and COPY that"
                        .to_owned(),
                );
            }
            let clean = absolute("/", source);
            let (found, is_file) = files.find(&clean);
            if found.is_empty() {
                // An empty folder has nothing to copy.
                if !is_pattern(source) && clean != "/" {
                    return Err(format!("there is no {source} in the folder that was sent"));
                }
                continue;
            }
            for (file, name) in found {
                let at = if is_file && !into {
                    target.clone()
                } else {
                    absolute(&target, &name)
                };
                self.place(at, Origin::Context(PathBuf::from(file)), executable, line);
            }
        }
        Ok(())
    }

    fn copy_from(
        &mut self,
        line: &Line,
        from: &str,
        sources: &[String],
        target: &str,
        into: bool,
        stages: &[Stage],
    ) -> Result<(), String> {
        let name = from.to_ascii_lowercase();
        let by_name = stages
            .iter()
            .rfind(|stage| stage.name.as_ref() == Some(&name));
        let by_number = || from.parse::<usize>().ok().and_then(|at| stages.get(at));
        let image;
        let stage = match by_name.or_else(by_number) {
            Some(stage) => stage,
            None if watchdog_of(from).is_some() => {
                image = Stage::new(from.to_owned());
                &image
            }
            None => {
                return Err(format!(
                    "files of the image {from} are not fetched; put them into the folder"
                ));
            }
        };
        for source in sources {
            let source = absolute("/", source);
            let mut found: Vec<(String, Placed)> = Vec::new();
            if let Some(file) = stage.files.get(&source) {
                let at = if into {
                    absolute(target, last(&source))
                } else {
                    target.to_owned()
                };
                found.push((at, file.clone()));
            }
            let prefix = format!("{}/", source.trim_end_matches('/'));
            for (path, file) in &stage.files {
                if let Some(rest) = path.strip_prefix(&prefix) {
                    found.push((absolute(target, rest), file.clone()));
                }
            }
            let installs = stage.installs_in(&source, target);
            if found.is_empty() && installs.is_empty() {
                return Err(match &stage.problem {
                    Some(problem) => format!(
                        "{source} would be made by line {}, {}: {}",
                        problem.line, problem.text, problem.why
                    ),
                    None => format!(
                        "{source} did not come with the folder, and what commands of another stage make is not there"
                    ),
                });
            }
            for (at, file) in found {
                self.place(at, file.origin, file.executable, line);
            }
            self.installs.extend(installs);
        }
        Ok(())
    }

    /// Packages that another stage installs and this one copies.
    fn installs_in(&self, source: &str, target: &str) -> Vec<(Line, Install)> {
        let of_python = source.contains("/.local") || source.contains("site-packages");
        let beside = source
            .strip_suffix("/node_modules")
            .zip(target.strip_suffix("/node_modules").or(Some(target)));
        self.installs
            .iter()
            .filter_map(|(line, install)| match install {
                Install::Pip { .. } if of_python => Some((line.clone(), install.clone())),
                Install::Node { folder, .. } => {
                    let (from, to) = beside?;
                    (folder == from).then(|| {
                        let folder = to.to_owned();
                        (line.clone(), Install::Node { folder })
                    })
                }
                _ => None,
            })
            .collect()
    }
}

/// Evaluates a file. What comes out is its last stage.
pub(super) fn evaluate(
    file: &Dockerfile,
    files: &Files,
    given: &BTreeMap<String, String>,
) -> Result<Stage, Mistake> {
    let mut globals = platform();
    let mut stages: Vec<Stage> = Vec::new();
    for (line, instruction) in &file.instructions {
        let escape = file.escape;
        if let Instruction::From { image, name } = instruction {
            let image = expand(image, escape, &|name| globals.get(name).map(String::as_str))
                .map_err(|why| Mistake::new(line, why))?;
            let earlier = stages
                .iter()
                .rfind(|stage| stage.name.as_deref() == Some(&*image.to_ascii_lowercase()));
            let mut stage = earlier.cloned().unwrap_or_else(|| Stage::new(image));
            stage.name.clone_from(name);
            stage.args = platform();
            stages.push(stage);
            continue;
        }
        let (last, before) = match stages.split_last_mut() {
            Some((last, before)) => (last, &*before),
            None => {
                if let Instruction::Arg(args) = instruction {
                    for (name, default) in args {
                        let value = given.get(name).cloned().or_else(|| default.clone());
                        globals.insert(name.clone(), value.unwrap_or_default());
                    }
                    continue;
                }
                return Err(Mistake::new(line, "a Dockerfile begins with FROM"));
            }
        };
        let done = apply(last, line, instruction, escape, |name| {
            given.get(name).or_else(|| globals.get(name)).cloned()
        });
        let done = match (done, instruction) {
            (Ok(()), Instruction::Copy(copy)) => last.copy(line, copy, escape, files, before),
            (done, _) => done,
        };
        if let Err(why) = done
            && last.problem.is_none()
        {
            last.problem = Some(Mistake::new(line, why));
        }
    }
    let Some(stage) = stages.pop() else {
        return Err(Mistake {
            line: 1,
            text: String::new(),
            why: "the Dockerfile is empty; it begins with FROM".to_owned(),
        });
    };
    match stage.problem {
        Some(problem) => Err(problem),
        None => Ok(stage),
    }
}

/// Everything but `FROM` and `COPY`.
fn apply(
    stage: &mut Stage,
    line: &Line,
    instruction: &Instruction,
    escape: char,
    given: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    match instruction {
        Instruction::From { .. } | Instruction::Copy(_) | Instruction::Nothing => {}
        Instruction::Run(form) => run::run(stage, line, form)?,
        Instruction::Cmd(form) => stage.cmd = Some((line.clone(), form.clone())),
        Instruction::Entrypoint(form) => stage.entrypoint = Some((line.clone(), form.clone())),
        Instruction::Workdir(path) => {
            let path = stage.expand(path, escape)?;
            stage.workdir = stage.absolute(&path);
            stage.folders.insert(stage.workdir.clone());
        }
        Instruction::Env(pairs) => {
            // All of one instruction see what was before it.
            let mut values = Vec::new();
            for (name, value) in pairs {
                values.push((name.clone(), stage.expand(value, escape)?));
            }
            stage.env.extend(values);
        }
        Instruction::Arg(args) => {
            for (name, default) in args {
                let value = match (given(name), default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => stage.expand(default, escape)?,
                    (None, None) => continue,
                };
                stage.args.insert(name.clone(), value);
            }
        }
        Instruction::User(user) => {
            let user = stage.expand(user, escape)?;
            if user != "root" && user != "0" {
                stage.ignored.insert(line.number);
            }
        }
        Instruction::Expose(port) => stage.exposed = Some(stage.expand(port, escape)?),
        Instruction::Shell => return Err("commands are those of /bin/sh".to_owned()),
    }
    Ok(())
}

/// Arguments that are set for every build.
fn platform() -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ["TARGET", "BUILD"]
        .iter()
        .flat_map(|of| {
            [
                (format!("{of}PLATFORM"), format!("linux/{arch}")),
                (format!("{of}OS"), "linux".to_owned()),
                (format!("{of}ARCH"), arch.to_owned()),
            ]
        })
        .collect()
}

/// Which watchdog an image is, by its name.
pub(super) fn watchdog_of(image: &str) -> Option<WatchdogKind> {
    let name = last(image).split([':', '@']).next().unwrap_or_default();
    if name.contains("of-watchdog") {
        Some(WatchdogKind::OfWatchdog)
    } else if name.contains("classic-watchdog") {
        Some(WatchdogKind::ClassicWatchdog)
    } else {
        None
    }
}

fn is_archive(name: &str) -> bool {
    [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// A path from the root, without `.` and `..`.
pub(super) fn absolute(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let whole = [if path.starts_with('/') { "" } else { folder }, path];
    for part in whole.iter().flat_map(|path| path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The last part of a path.
pub(super) fn last(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
}
