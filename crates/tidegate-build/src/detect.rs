//! What the code is, told from its content.

mod python;

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::tree::{Kind, Tree};

/// How much of a file decides what it is. A handler may stand far down in a long file, and missing it only warns.
const LOOK: u64 = 256 << 10;

/// Python files that are the entry when several lie in a folder, first come first.
const PYTHON_ENTRIES: &[&str] = &["handler.py", "main.py", "app.py", "function.py"];

/// Programs that are the entry when several lie in a folder.
const PROGRAM_ENTRIES: &[&str] = &["handler", "main", "app", "function", "run", "bootstrap"];

/// Files that tell the language of a folder which cannot be run yet.
const MARKERS: &[(&str, &str)] = &[
    ("package.json", "JavaScript"),
    ("deno.json", "JavaScript"),
    ("go.mod", "Go"),
    ("Cargo.toml", "Rust"),
    ("pom.xml", "Java"),
    ("build.gradle", "Java"),
    ("build.gradle.kts", "Kotlin"),
    ("Gemfile", "Ruby"),
    ("composer.json", "PHP"),
    ("mix.exs", "Elixir"),
    ("Package.swift", "Swift"),
    ("Dockerfile", "container images"),
];

/// Endings of source files that cannot be run yet.
const SOURCES: &[(&str, &str)] = &[
    ("js", "JavaScript"),
    ("mjs", "JavaScript"),
    ("cjs", "JavaScript"),
    ("ts", "TypeScript"),
    ("go", "Go"),
    ("rs", "Rust"),
    ("java", "Java"),
    ("jar", "Java"),
    ("kt", "Kotlin"),
    ("rb", "Ruby"),
    ("php", "PHP"),
    ("cs", "C#"),
    ("csproj", "C#"),
    ("swift", "Swift"),
    ("ex", "Elixir"),
    ("exs", "Elixir"),
    ("lua", "Lua"),
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
    /// How it is called: `host` or `stdio`.
    pub contract: &'static str,
    /// The file to load or run, relative to the archive's root.
    pub entry: String,
}

/// Why it is not known what the code is.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// A language whose host does not exist yet.
    #[error(
        "not supported yet: {language} ({found}); supported are Python files and executables (ELF programs, or scripts that begin with '#!')"
    )]
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
    #[error(
        "cannot tell what {0} is; supported are Python files (.py) and executables (ELF programs, or scripts that begin with '#!')"
    )]
    Unknown(String),
    /// A folder with several candidates, or none.
    #[error(
        "cannot tell which file of {} to run{found}; name it with --entry, or call it handler.py, main.py, app.py or function.py",
        folder.display()
    )]
    NoEntry {
        /// The folder.
        folder: PathBuf,
        /// The candidates, if any.
        found: String,
    },
    /// What `entry` names is not there.
    #[error("entry {0} is not a file of the folder, or was left out of it")]
    MissingEntry(String),
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

/// What one file is.
enum Guess {
    Python { handler: bool },
    Program,
}

/// Finds out about a packed tree whose files lie under `root`; `only` when it is a single file. Adds warnings.
pub(crate) fn detect(
    tree: &mut Tree,
    root: &Path,
    only: Option<&str>,
    wanted_entry: Option<&str>,
    wanted: Option<Runtime>,
) -> Result<Detected, DetectError> {
    let entry = match (only, wanted_entry) {
        (Some(name), None) => name.to_owned(),
        (_, Some(entry)) => {
            let entry = entry.strip_prefix("./").unwrap_or(entry);
            if !files(tree).any(|p| p == entry) {
                return Err(DetectError::MissingEntry(entry.to_owned()));
            }
            entry.to_owned()
        }
        (None, None) => find_entry(tree, root, wanted)?,
    };
    let runtime = match (wanted, guess(&root.join(&entry), &entry)) {
        // The user's word stands against the content, but not against what the kernel can run.
        (Some(Runtime::Python), guessed) => {
            warn_handler(tree, &entry, &guessed);
            Runtime::Python
        }
        (Some(Runtime::Executable), Ok(Guess::Program)) => Runtime::Executable,
        (Some(Runtime::Executable), Ok(Guess::Python { .. }))
            if has_shebang(&root.join(&entry)) =>
        {
            Runtime::Executable
        }
        (Some(Runtime::Executable), Ok(Guess::Python { .. })) => {
            return Err(DetectError::NoShebang(entry));
        }
        (Some(runtime), _) => runtime,
        (_, Err(error)) => return Err(error),
        (None, Ok(Guess::Program)) => Runtime::Executable,
        (None, guessed @ Ok(Guess::Python { .. })) => {
            warn_handler(tree, &entry, &guessed);
            Runtime::Python
        }
    };
    match runtime {
        Runtime::Python if only.is_none() => python::warn_dependencies(tree, root),
        Runtime::Executable => tree.set_executable(&entry),
        _ => {}
    }
    Ok(Detected {
        contract: runtime.contract(),
        runtime,
        entry,
    })
}

fn warn_handler(tree: &mut Tree, entry: &str, guessed: &Result<Guess, DetectError>) {
    if !matches!(guessed, Ok(Guess::Python { handler: true })) {
        tree.warnings.push(format!(
            "{entry} has neither 'def handler(event, context)' nor an 'app' at its top level that can be seen; unless \
             one appears when it is loaded, the deploy will fail"
        ));
    }
}

fn files(tree: &Tree) -> impl Iterator<Item = &str> {
    tree.nodes
        .iter()
        .filter(|n| !matches!(n.kind, Kind::Folder))
        .map(|n| n.path.as_str())
}

fn find_entry(tree: &Tree, root: &Path, wanted: Option<Runtime>) -> Result<String, DetectError> {
    let top: Vec<&str> = files(tree).filter(|p| !p.contains('/')).collect();
    let python = || top.iter().copied().filter(|p| p.ends_with(".py"));
    let known = |names: &[&'static str]| names.iter().copied().find(|n| top.contains(n));
    if wanted != Some(Runtime::Executable)
        && let Some(entry) = known(PYTHON_ENTRIES)
    {
        return Ok(entry.to_owned());
    }
    if wanted.is_none()
        && let Some((found, language)) = MARKERS.iter().find(|(m, _)| top.contains(m))
    {
        return Err(DetectError::Language {
            language,
            found: format!("found {found}"),
        });
    }
    let sole = |mut candidates: Vec<&str>| match candidates.len() {
        1 => candidates.pop().map(str::to_owned),
        _ => None,
    };
    if wanted != Some(Runtime::Executable)
        && let Some(entry) = sole(python().collect())
    {
        return Ok(entry);
    }
    let is_program = |p: &&str| matches!(guess(&root.join(p), p), Ok(Guess::Program));
    let programs: Vec<&str> = top.iter().copied().filter(is_program).collect();
    if wanted != Some(Runtime::Python) {
        let stem = |p: &&str| PROGRAM_ENTRIES.contains(&p.split('.').next().unwrap_or(p));
        let named: Vec<&str> = programs.iter().copied().filter(stem).collect();
        if let Some(entry) = sole(programs.clone()).or_else(|| sole(named)) {
            return Ok(entry);
        }
    }
    let mut candidates: Vec<&str> = python().chain(programs).collect();
    candidates.dedup();
    candidates.truncate(8);
    Err(DetectError::NoEntry {
        folder: root.to_owned(),
        found: if candidates.is_empty() {
            String::new()
        } else {
            format!(" (found {})", candidates.join(", "))
        },
    })
}

fn guess(path: &Path, name: &str) -> Result<Guess, DetectError> {
    let head = read_head(path)?;
    if head.starts_with(b"\x7fELF") {
        return Ok(Guess::Program);
    }
    let extension = name
        .rsplit('/')
        .next()
        .and_then(|n| n.rsplit_once('.'))
        .map_or("", |(_, e)| e);
    let shebang = head.starts_with(b"#!");
    if extension == "py" {
        let handler = python::has_handler(&String::from_utf8_lossy(&head));
        return Ok(if shebang && !handler {
            Guess::Program
        } else {
            Guess::Python { handler }
        });
    }
    if shebang {
        return Ok(Guess::Program);
    }
    let found = || name.to_owned();
    if let Some((_, language)) = SOURCES.iter().find(|(e, _)| *e == extension) {
        return Err(DetectError::Language {
            language,
            found: found(),
        });
    }
    Err(match (&head[..head.len().min(4)], extension) {
        (_, "sh" | "bash" | "pl") => DetectError::NoShebang(found()),
        ([b'M', b'Z', ..], _) => DetectError::System {
            found: found(),
            system: "Windows",
        },
        ([0xcf | 0xce, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe], _) => DetectError::System {
            found: found(),
            system: "macOS",
        },
        _ => DetectError::Unknown(found()),
    })
}

fn has_shebang(path: &Path) -> bool {
    read_head(path).is_ok_and(|head| head.starts_with(b"#!"))
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
