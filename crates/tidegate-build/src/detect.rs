//! What the code is, told from its content.
//!
//! A language is a module here: it looks for its own entry in a folder and says how a file of its own is called. Which
//! language a folder is of is told in steps, the surest first: an entry by its well-known name, a manifest, the only file
//! of a language, a program. What the user says comes before all of them.

mod go;
mod java;
mod node;
mod php;
mod program;
mod python;
mod ruby;
mod rust;

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::tree::{Kind, Tree};

/// How much of a file decides what it is. A handler may stand far down in a long file, and missing it only warns.
const LOOK: u64 = crate::source::LOOK;

/// Files that tell the language of a folder, and what else than a language we run they tell.
const FOREIGN: &[(&str, &str)] = &[
    ("deno.json", "Deno"),
    ("mix.exs", "Elixir"),
    ("Package.swift", "Swift"),
    ("build.sbt", "Scala"),
    ("deps.edn", "Clojure"),
    ("pubspec.yaml", "Dart"),
    ("Dockerfile", "container images"),
];

/// Manifests that tell the language of a folder. A project in another language often has a `package.json` for its web
/// pages, so that comes last.
const MANIFESTS: &[(&str, Runtime)] = &[
    ("go.mod", Runtime::Go),
    ("Cargo.toml", Runtime::Rust),
    ("pom.xml", Runtime::Java),
    ("build.gradle", Runtime::Java),
    ("build.gradle.kts", Runtime::Java),
    ("config.ru", Runtime::Ruby),
    ("composer.json", Runtime::Php),
    ("Gemfile", Runtime::Ruby),
    ("pyproject.toml", Runtime::Python),
    ("requirements.txt", Runtime::Python),
    ("package.json", Runtime::Node),
];

/// Endings of source files.
const SOURCES: &[(&str, Runtime)] = &[
    ("py", Runtime::Python),
    ("js", Runtime::Node),
    ("mjs", Runtime::Node),
    ("cjs", Runtime::Node),
    ("ts", Runtime::Node),
    ("mts", Runtime::Node),
    ("cts", Runtime::Node),
    ("tsx", Runtime::Node),
    ("go", Runtime::Go),
    ("rs", Runtime::Rust),
    ("java", Runtime::Java),
    ("jar", Runtime::Java),
    ("class", Runtime::Java),
    ("rb", Runtime::Ruby),
    ("ru", Runtime::Ruby),
    ("php", Runtime::Php),
];

/// Endings of source files that cannot be run.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("jsx", "JSX"),
    ("kt", "Kotlin"),
    ("kts", "Kotlin"),
    ("scala", "Scala"),
    ("clj", "Clojure"),
    ("cs", "C#"),
    ("csproj", "C#"),
    ("fs", "F#"),
    ("swift", "Swift"),
    ("ex", "Elixir"),
    ("exs", "Elixir"),
    ("erl", "Erlang"),
    ("hs", "Haskell"),
    ("dart", "Dart"),
    ("lua", "Lua"),
    ("r", "R"),
    ("jl", "Julia"),
    ("zig", "Zig"),
    ("c", "C"),
    ("cpp", "C++"),
    ("wasm", "WebAssembly"),
    ("wat", "WebAssembly"),
];

/// Who runs the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// The Python host.
    Python,
    /// Node: JavaScript and TypeScript.
    Node,
    /// The kernel, once the Go compiler has made a program of it.
    Go,
    /// The kernel, once the Rust compiler has made a program of it.
    Rust,
    /// The Java virtual machine, once the compiler has made classes of it.
    Java,
    /// The Ruby interpreter.
    Ruby,
    /// The PHP interpreter.
    Php,
    /// The kernel: an ELF program or a script with a `#!` line.
    #[default]
    Executable,
}

/// What the code is and how it is called, unless the user says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// Who runs it.
    pub runtime: Runtime,
    /// How it is called: `host`, `http` or `stdio`.
    pub contract: &'static str,
    /// The file to load, run or build from, relative to the archive's root.
    pub entry: String,
}

/// Why it is not known what the code is.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// A language that is not run.
    #[error("not supported: {language} ({found}); {SUPPORTED}")]
    Language {
        /// Its name.
        language: &'static str,
        /// What told it.
        found: String,
    },
    /// A program for another system.
    #[error("{found} is a program for {system}; functions run on Linux, so build it for Linux")]
    System {
        /// The file.
        found: String,
        /// macOS or Windows.
        system: &'static str,
    },
    /// A script that the kernel would not run.
    #[error("{0} has no '#!' line; begin it with one, such as '#!/bin/sh'")]
    NoShebang(String),
    /// Nothing told anything.
    #[error("cannot tell what {0} is; {SUPPORTED}")]
    Unknown(String),
    /// A folder with several candidates, or none.
    #[error(
        "cannot tell which file of {} to run{found}; name it with --entry, or call it {names}",
        folder.display()
    )]
    NoEntry {
        /// The folder.
        folder: PathBuf,
        /// The candidates, if any.
        found: String,
        /// Names that are known.
        names: &'static str,
    },
    /// What `entry` names is not there.
    #[error("entry {0} is not a file of the folder, or was left out of it")]
    MissingEntry(String),
    /// A manifest is broken.
    #[error("{0}")]
    Manifest(String),
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What there is, for the end of a message.
const SUPPORTED: &str = "supported are Python, Node.js (JavaScript, TypeScript), Go, Rust, Java, Ruby, PHP, and \
    executables (ELF programs, or scripts that begin with '#!')";

/// What the user says of the code beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints<'a> {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) entry: Option<&'a str>,
    /// A command of the user's makes the entry.
    pub(crate) built: bool,
}

/// A packed tree whose files lie under `root`.
struct Folder<'a> {
    tree: &'a Tree,
    root: &'a Path,
    /// Names of the files at the top, sorted.
    top: Vec<&'a str>,
}

/// What a language made of a folder or file.
#[derive(Debug, Default)]
struct Found {
    entry: String,
    contract: &'static str,
    /// Something that may not work.
    warning: Option<String>,
}

/// Finds out about a packed tree whose files lie under `root`; `only` when it is a single file. Adds warnings.
pub(crate) fn detect(
    tree: &mut Tree,
    root: &Path,
    only: Option<&str>,
    hints: Hints<'_>,
) -> Result<Detected, DetectError> {
    let folder = Folder::new(tree, root);
    let (runtime, found) = match (only, hints.entry) {
        (Some(name), None) => named(&folder, name, hints.runtime)?,
        (_, Some(entry)) => {
            let entry = entry.strip_prefix("./").unwrap_or(entry);
            if folder.has(entry) {
                named(&folder, entry, hints.runtime)?
            } else if hints.built || node::is_made(&folder, entry) {
                made(entry, hints.runtime)
            } else {
                return Err(DetectError::MissingEntry(entry.to_owned()));
            }
        }
        (None, None) => in_folder(&folder, hints.runtime)?,
    };
    let Found {
        entry,
        contract,
        warning,
    } = found;
    tree.warnings.extend(warning);
    if runtime == Runtime::Executable {
        tree.set_executable(&entry);
    }
    Ok(Detected {
        runtime,
        contract,
        entry,
    })
}

/// A file that the user names, or that is alone.
fn named(
    folder: &Folder<'_>,
    entry: &str,
    wanted: Option<Runtime>,
) -> Result<(Runtime, Found), DetectError> {
    let runtime = match wanted {
        Some(Runtime::Executable) => {
            program::check(folder, entry)?;
            Runtime::Executable
        }
        // The user's word stands against the content, but not against what the kernel can run.
        Some(runtime) => runtime,
        None => guess(folder, entry)?,
    };
    let mut found = of_file(folder, runtime, entry);
    entry.clone_into(&mut found.entry);
    Ok((runtime, found))
}

/// A file that will be there once the code is built.
fn made(entry: &str, wanted: Option<Runtime>) -> (Runtime, Found) {
    let runtime = wanted
        .or_else(|| by_ending(SOURCES, entry))
        .unwrap_or(Runtime::Executable);
    let found = Found {
        entry: entry.to_owned(),
        contract: runtime.contract(),
        warning: None,
    };
    (runtime, found)
}

/// The entry of a folder of which nothing else is said.
fn in_folder(
    folder: &Folder<'_>,
    wanted: Option<Runtime>,
) -> Result<(Runtime, Found), DetectError> {
    if let Some(runtime) = wanted {
        return match find(folder, runtime)? {
            Some(found) => Ok((runtime, found)),
            None => Err(folder.no_entry(runtime)),
        };
    }
    if let Some(entry) = python::known(folder) {
        return named(folder, entry, None);
    }
    let mut nothing = None;
    for (manifest, runtime) in MANIFESTS {
        if folder.has(manifest) {
            if let Some(found) = find(folder, *runtime)? {
                // A script with a `#!` line is a program, whatever lists its packages.
                return match *runtime {
                    Runtime::Python => named(folder, &found.entry, None),
                    runtime => Ok((runtime, found)),
                };
            }
            nothing.get_or_insert(*runtime);
        }
    }
    if let Some((found, language)) = FOREIGN.iter().find(|(m, _)| folder.has(m)) {
        return Err(DetectError::Language {
            language,
            found: format!("found {found}"),
        });
    }
    // The surest after a manifest: a file by a name that says that it is the entry.
    for runtime in [
        Runtime::Node,
        Runtime::Ruby,
        Runtime::Php,
        Runtime::Go,
        Runtime::Java,
        Runtime::Rust,
        Runtime::Python,
        Runtime::Executable,
    ] {
        if let Some(found) = find(folder, runtime)? {
            return match runtime {
                Runtime::Executable => Ok((runtime, found)),
                _ if found.entry.ends_with(".toml") => Ok((runtime, found)),
                _ => named(folder, &found.entry, None),
            };
        }
    }
    if nothing.is_none()
        && let Some(error) = folder
            .top
            .iter()
            .find_map(|p| match program::guess(folder, p) {
                Err(error @ (DetectError::Language { .. } | DetectError::System { .. })) => {
                    Some(error)
                }
                _ => None,
            })
    {
        return Err(error);
    }
    Err(folder.no_entry(nothing.unwrap_or(Runtime::Executable)))
}

/// The entry that this language would begin with.
fn find(folder: &Folder<'_>, runtime: Runtime) -> Result<Option<Found>, DetectError> {
    let entry = match runtime {
        Runtime::Python => python::find(folder).map(str::to_owned),
        Runtime::Node => node::find(folder)?,
        Runtime::Go => go::find(folder),
        Runtime::Rust => rust::find(folder),
        Runtime::Java => java::find(folder),
        Runtime::Ruby => ruby::find(folder).map(str::to_owned),
        Runtime::Php => php::find(folder).map(str::to_owned),
        Runtime::Executable => program::find(folder).map(str::to_owned),
    };
    Ok(entry.map(|entry| {
        let mut found = of_file(folder, runtime, &entry);
        found.entry = entry;
        found
    }))
}

/// How a file of this language is called.
fn of_file(folder: &Folder<'_>, runtime: Runtime, entry: &str) -> Found {
    let (contract, warning) = match runtime {
        Runtime::Python => python::look(folder, entry),
        Runtime::Node => node::look(folder, entry),
        Runtime::Go => go::look(folder, entry),
        Runtime::Rust => rust::look(folder, entry),
        Runtime::Java => java::look(folder, entry),
        Runtime::Ruby => ruby::look(folder, entry),
        Runtime::Php => (runtime.contract(), None),
        Runtime::Executable => (runtime.contract(), None),
    };
    Found {
        entry: String::new(),
        contract,
        warning,
    }
}

/// Which language a file is of. A script with a `#!` line and no handler is a program.
fn guess(folder: &Folder<'_>, entry: &str) -> Result<Runtime, DetectError> {
    let text = folder.text(entry);
    match (by_ending(SOURCES, entry), manifest_of(entry)) {
        (None, Some(runtime)) => Ok(runtime),
        (Some(runtime), _) => {
            let handler = match runtime {
                Runtime::Python => python::has_handler(&text),
                Runtime::Node => node::exports(&text),
                Runtime::Ruby => ruby::has_handler(&text),
                _ => false,
            };
            Ok(if text.starts_with("#!") && !handler {
                Runtime::Executable
            } else {
                runtime
            })
        }
        (None, None) => program::guess(folder, entry).map(|()| Runtime::Executable),
    }
}

fn manifest_of(entry: &str) -> Option<Runtime> {
    let name = entry.rsplit('/').next().unwrap_or(entry);
    MANIFESTS.iter().find(|(m, _)| *m == name).map(|(_, r)| *r)
}

fn by_ending<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    let ending = name
        .rsplit('/')
        .next()
        .and_then(|n| n.rsplit_once('.'))
        .map(|(_, e)| e)?;
    table.iter().find(|(e, _)| *e == ending).map(|(_, t)| *t)
}

// === impl Folder ===

impl<'a> Folder<'a> {
    fn new(tree: &'a Tree, root: &'a Path) -> Self {
        let top = files(tree).filter(|p| !p.contains('/')).collect();
        Self { tree, root, top }
    }

    fn has(&self, path: &str) -> bool {
        files(self.tree).any(|p| p == path)
    }

    fn files(&self) -> impl Iterator<Item = &'a str> {
        files(self.tree)
    }

    /// The first of the names that is there.
    fn first(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|n| self.has(n))
    }

    /// The only file at the top with one of the endings.
    fn only(&self, endings: &[&str]) -> Option<&'a str> {
        let mut fitting = self
            .top
            .iter()
            .filter(|n| endings.iter().any(|e| n.ends_with(e)));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// The beginning of a file, or nothing.
    fn text(&self, path: &str) -> String {
        crate::source::head(&self.root.join(path)).unwrap_or_default()
    }

    fn no_entry(&self, runtime: Runtime) -> DetectError {
        let fits = |name: &&str| match runtime {
            Runtime::Executable => {
                by_ending(SOURCES, name).is_some() || program::guess(self, name).is_ok()
            }
            runtime => by_ending(SOURCES, name) == Some(runtime),
        };
        let mut candidates: Vec<&str> = self.top.iter().copied().filter(fits).collect();
        candidates.truncate(8);
        DetectError::NoEntry {
            folder: self.root.to_owned(),
            found: if candidates.is_empty() {
                String::new()
            } else {
                format!(" (found {})", candidates.join(", "))
            },
            names: match runtime {
                Runtime::Python => "handler.py, main.py, app.py or function.py",
                Runtime::Node => "index.js, handler.js, app.js, function.js or server.js",
                Runtime::Go => "handler.go or main.go",
                Runtime::Rust => "src/main.rs",
                Runtime::Java => "Handler.java or Main.java",
                Runtime::Ruby => "handler.rb, app.rb or config.ru",
                Runtime::Php => "handler.php or index.php",
                Runtime::Executable => "handler, main, app or function, with its language's ending",
            },
        }
    }
}

fn files(tree: &Tree) -> impl Iterator<Item = &str> {
    tree.nodes
        .iter()
        .filter(|n| !matches!(n.kind, Kind::Folder))
        .map(|n| n.path.as_str())
}

fn read_head(path: &Path) -> Result<Vec<u8>, DetectError> {
    let mut head = Vec::new();
    fs::File::open(path)
        .and_then(|f| f.take(LOOK).read_to_end(&mut head))
        .map_err(|source| DetectError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(head)
}

// === impl Runtime ===

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Python,
        Self::Node,
        Self::Go,
        Self::Rust,
        Self::Java,
        Self::Ruby,
        Self::Php,
        Self::Executable,
    ];

    /// The word for it in documents: `python`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Java => "java",
            Self::Ruby => "ruby",
            Self::Php => "php",
            Self::Executable => "executable",
        }
    }

    /// How its code is called unless the user or the code says otherwise.
    #[must_use]
    pub const fn contract(self) -> &'static str {
        match self {
            Self::Python | Self::Node | Self::Java | Self::Ruby | Self::Php => "host",
            Self::Go => "http",
            Self::Rust | Self::Executable => "stdio",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "runtime {text:?} is not known; write python, node, go, rust, java, ruby, php or executable"
                )
            })
    }
}

#[cfg(test)]
mod tests;
