//! What the languages are to this isolation: an interpreter under `/usr`, and how it runs somebody's code.
//!
//! A language is a row of [`ALL`], so adding one adds a row and, where it has a host of ours, a folder of `runtimes/`.
//! Only Python is more than that: its hosts are forked from a zygote and take connections as descriptors. Every other
//! host is an interpreter that loads the code and then serves HTTP/1.1 on `$PORT`, which makes it the same thing to the
//! isolation as a server that the user wrote. Such a host says why it cannot load the code with its last line on standard
//! error and ends with code 1, and that line becomes the message of the failed start.
//!
//! The hosts' files are in this binary. The launcher writes them into the root that all sandboxes start from, at
//! `/runtime/NAME`, so that they cost no mount and nobody can have changed them.

mod find;
mod table;

use std::path::{Path, PathBuf};

pub(crate) use find::{Interpreter, find};
pub(crate) use table::{ALL, NODE, PYTHON};
use tidegate_core::Limits;
use tidegate_instance::{Program, Runtime, StartError};

use crate::options::Options;

/// What a language sets in the environment of some code.
type Env = fn(&Code<'_>) -> Vec<(&'static str, String)>;

/// A language, as far as running it goes.
pub(crate) struct Language {
    /// The word for it in configuration, documents and messages: `ruby`.
    pub(crate) name: &'static str,
    /// `Ruby`.
    pub(crate) title: &'static str,
    /// Where interpreters usually are, the best first. None for languages whose programs the kernel runs.
    pub(crate) programs: &'static [&'static str],
    /// How an interpreter is asked for its version.
    pub(crate) version: &'static [&'static str],
    /// Oldest version that is supported.
    pub(crate) oldest: (u32, u32),
    /// The Debian package that has it.
    pub(crate) package: &'static str,
    /// Bytes of memory below which not even the interpreter starts.
    pub(crate) least_memory: u64,
    /// The host's files, by path below its folder.
    pub(crate) sources: &'static [(&'static str, &'static str)],
    /// Arguments with which the interpreter becomes our host; absent where there is none. On the machine's own files
    /// Python's is a zygote's child instead, and Node's has waited.
    pub(crate) host: Option<fn(&Code<'_>) -> Vec<String>>,
    /// Arguments with which the interpreter runs the user's own program.
    pub(crate) run: fn(&Code<'_>) -> Vec<String>,
    /// Set for host and program alike, unless the function sets it itself.
    pub(crate) env: Env,
    /// Set beside it for a command of the function's own, where what a command line would else say can be said so.
    pub(crate) own_env: Env,
}

/// What a command line is made of.
pub(crate) struct Code<'a> {
    /// Relative to the bundle.
    pub(crate) entry: &'a str,
    /// Bytes that the function may use.
    pub(crate) memory: u64,
    /// The interpreter's version.
    pub(crate) version: &'a str,
    /// Whether it lives on from call to call.
    pub(crate) stays: bool,
}

impl Code<'_> {
    /// The entry, seen from inside.
    pub(crate) fn path(&self) -> String {
        format!("/function/{}", self.entry)
    }
}

/// How a program is started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Program and arguments, seen from inside.
    pub(crate) argv: Vec<String>,
    /// Added to the environment where it does not say otherwise.
    pub(crate) defaults: Vec<(String, String)>,
    /// Added to the environment in any case.
    pub(crate) fixed: Vec<(String, String)>,
    /// It is a host of ours, whose last words are about the code.
    pub(crate) is_host: bool,
}

/// The languages as they are on this machine.
#[derive(Default)]
pub(crate) struct Languages(Vec<(&'static Language, Result<Interpreter, String>)>);

impl Languages {
    /// Looks for every interpreter, all at once. Blocks until the last has said its version.
    pub(crate) fn look(options: &Options) -> Self {
        let found = std::thread::scope(|scope| {
            let asked: Vec<_> = ALL
                .iter()
                .map(|language| {
                    let wanted = wanted(options, language.name);
                    (language, scope.spawn(move || find(language, wanted)))
                })
                .collect();
            asked
                .into_iter()
                .map(|(language, answer)| {
                    let lost = || Err(format!("the search for {} failed", language.title));
                    (language, answer.join().unwrap_or_else(|_| lost()))
                })
                .collect()
        });
        Self(found)
    }

    /// All of them, present or not.
    pub(crate) fn runtimes(&self) -> Vec<Runtime> {
        self.0
            .iter()
            .map(|(language, found)| Runtime {
                name: language.name.to_owned(),
                version: found.as_ref().ok().and_then(|i| i.version.clone()),
                available: found.as_ref().map(Interpreter::place).map_err(Clone::clone),
            })
            .collect()
    }

    /// The interpreter of this language, or in one sentence why there is none.
    pub(crate) fn interpreter(&self, name: &str) -> Result<&Interpreter, StartError> {
        self.get(name).map(|(_, interpreter)| interpreter)
    }

    fn get(&self, name: &str) -> Result<(&'static Language, &Interpreter), StartError> {
        let Some((language, found)) = self.0.iter().find(|(l, _)| l.name == name) else {
            // None was looked for.
            let language = known(name)?.title;
            return Err(StartError::Runtime(format!(
                "{language} was not looked for"
            )));
        };
        match found {
            Ok(interpreter) => Ok((language, interpreter)),
            Err(missing) => Err(StartError::Runtime(missing.clone())),
        }
    }

    /// How this program is started. `None` for a host that a zygote forks, or that has waited.
    ///
    /// In an image the interpreter is the image's, whatever this machine has: it is looked up in `PATH` there, and its
    /// version is not known.
    ///
    /// # Errors
    /// The runtime is unknown or missing here, has no host, or needs more memory than the function may use.
    pub(crate) fn command(
        &self,
        program: &Program,
        limits: &Limits,
        concurrency: u32,
        in_image: bool,
    ) -> Result<Option<Command>, StartError> {
        let (runtime, entry, handler, own, is_host) = match program {
            Program::Host {
                runtime,
                entry,
                handler,
            } => (runtime, entry, handler.as_deref(), &[][..], true),
            Program::Server {
                runtime,
                entry,
                command,
                ..
            }
            | Program::PerCall {
                runtime,
                entry,
                command,
            } => (runtime, entry, None, &command[..], false),
        };
        let (language, interpreter, version) = if in_image {
            let language = match known(runtime) {
                Err(_) if !own.is_empty() => &table::PROGRAM,
                other => other?,
            };
            (language, language.in_image().map(str::to_owned), "")
        } else {
            let (language, here) = self.get(runtime)?;
            let program = here.program.as_ref();
            (
                language,
                program.map(|program| program.to_string_lossy().into_owned()),
                here.version.as_deref().unwrap_or_default(),
            )
        };
        if limits.memory < language.least_memory {
            return Err(StartError::Runtime(format!(
                "{} does not start with {} MiB of memory; give the function at least {} MiB",
                language.title,
                limits.memory >> 20,
                language.least_memory >> 20
            )));
        }
        let code = Code {
            entry,
            memory: limits.memory,
            version,
            stays: !matches!(program, Program::PerCall { .. }),
        };
        let arguments = if !is_host {
            (language.run)(&code)
        } else if !in_image && (runtime == table::PYTHON || runtime == table::NODE) {
            return Ok(None);
        } else if let Some(host) = language.host {
            host(&code)
        } else {
            return Err(StartError::Runtime(format!(
                "{} has no host that could load {entry:?}; use the contract http or stdio",
                language.title
            )));
        };
        let argv = match interpreter {
            Some(program) if !in_image && is_called(language, own) => {
                let mut argv = own.to_vec();
                argv[0] = program;
                argv
            }
            _ if !own.is_empty() => own.to_vec(),
            Some(program) => std::iter::once(program).chain(arguments).collect(),
            None => arguments,
        };
        let mut defaults = (language.env)(&code);
        if !own.is_empty() {
            defaults.extend((language.own_env)(&code));
        }
        let defaults = defaults
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let fixed = if is_host {
            host_env(&code, handler, limits, concurrency)
        } else {
            Vec::new()
        };
        Ok(Some(Command {
            argv,
            defaults,
            fixed,
            is_host,
        }))
    }
}

impl Language {
    /// What images call the interpreter.
    fn in_image(&self) -> Option<&'static str> {
        match self.name {
            _ if self.programs.is_empty() => None,
            table::PYTHON => Some("python3"),
            name => Some(name),
        }
    }
}

/// The language of this name.
fn known(name: &str) -> Result<&'static Language, StartError> {
    ALL.iter().find(|l| l.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|l| l.name).collect();
        StartError::Runtime(format!(
            "runtime {name:?} is unknown to the process isolation, which has {}",
            known.join(", ")
        ))
    })
}

/// Whether a command of the function's own begins with the language's interpreter, which need not be called so here: an
/// image has a `python`, and a machine often only a `python3`.
fn is_called(language: &Language, command: &[String]) -> bool {
    let version = |c: char| c.is_ascii_digit() || c == '.';
    command.first().is_some_and(|program| {
        program
            .strip_prefix(language.name)
            .is_some_and(|rest| rest.chars().all(version))
    })
}

/// What every host is told, beside `PORT` and what functions are told too.
fn host_env(
    code: &Code<'_>,
    handler: Option<&str>,
    limits: &Limits,
    concurrency: u32,
) -> Vec<(String, String)> {
    let mut env = vec![
        ("TIDEGATE_ENTRY", code.path()),
        ("TIDEGATE_CONCURRENCY", concurrency.to_string()),
        ("TIDEGATE_MEMORY", limits.memory.to_string()),
        ("TIDEGATE_MAX_BODY", limits.body.to_string()),
        (
            "TIDEGATE_TIMEOUT_MS",
            limits.timeout.as_millis().to_string(),
        ),
    ];
    if let Some(handler) = handler {
        env.push(("TIDEGATE_HANDLER", handler.to_owned()));
    }
    env.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The interpreter that the configuration names.
fn wanted<'a>(options: &'a Options, name: &str) -> Option<&'a Path> {
    if name == table::PYTHON && options.python.is_some() {
        return options.python.as_deref();
    }
    options.interpreters.get(name).map(PathBuf::as_path)
}

#[cfg(test)]
mod tests;
