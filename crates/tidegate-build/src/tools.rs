//! Which tools this machine has to build with.
//!
//! A tool is looked for in the usual folders, not only in the server's `PATH`, since a service is often started with a bare
//! one. What is found is kept with the program's time, so that an upgrade is seen, and what is missing is looked for again
//! each time, so that installing it needs no restart. Inside a build there is `/usr` and what [`Tool::folders`] names,
//! nothing else of the machine: version managers' shims, which need a home folder, are passed by, and rustup's are
//! resolved to the toolchain behind them.

mod version;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// A tool by the role that it has in builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ToolName {
    /// The interpreter that runs functions.
    Python,
    /// Of that interpreter.
    Pip,
    /// A faster pip.
    Uv,
    /// The interpreter that runs functions.
    Node,
    /// Comes with Node, or apart from it.
    Npm,
    /// The compiler.
    Go,
    /// Of the toolchain that `rustc` is of.
    Cargo,
    /// The compiler.
    Rustc,
    /// A linker, which Rust and some packages need.
    Cc,
    /// The virtual machine that runs functions.
    Java,
    /// The compiler.
    Javac,
    /// `mvn`.
    Maven,
    /// The interpreter that runs functions.
    Ruby,
    /// Bundler.
    Bundle,
    /// The interpreter that runs functions.
    Php,
    /// Of PHP.
    Composer,
    /// Fetches sources.
    Git,
}

/// Where tools are looked for.
#[derive(Clone, Debug, Default)]
pub struct ToolPaths {
    /// Folders, first come first.
    pub folders: Vec<PathBuf>,
    /// Programs that are taken whatever lies in the folders.
    pub programs: BTreeMap<ToolName, PathBuf>,
    /// The home folder of the server's user; never shown to a build as a whole.
    pub home: Option<PathBuf>,
    /// Where cargo has what it installed, `~/.cargo` where absent.
    pub cargo_home: Option<PathBuf>,
    /// Where rustup has its toolchains, `~/.rustup` where absent.
    pub rustup_home: Option<PathBuf>,
}

/// A tool that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Absolute.
    pub program: PathBuf,
    /// As it says itself: `3.11.2`.
    pub version: String,
    /// Folders that it needs beside `/usr`.
    pub folders: Vec<PathBuf>,
}

/// A tool that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word} {why}; {get}")]
pub struct Missing {
    /// Its name.
    pub word: &'static str,
    /// What is wrong: `is not installed`.
    pub why: String,
    /// How to get it.
    pub get: &'static str,
}

/// One line of `doctor`.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Which tool.
    pub name: ToolName,
    /// What was found.
    pub tool: Result<Arc<Tool>, Missing>,
}

/// The tools of this machine. Cheap to make; looking at a tool runs it once for its version.
#[derive(Debug)]
pub struct Tools {
    paths: ToolPaths,
    found: Mutex<HashMap<ToolName, (Stamp, Arc<Tool>)>>,
}

/// When a tool was other than it is.
type Stamp = (PathBuf, Option<SystemTime>);

/// What is known of a tool beforehand.
struct Known {
    name: ToolName,
    word: &'static str,
    programs: &'static [&'static str],
    version: &'static [&'static str],
    get: &'static str,
}

const fn known(
    name: ToolName,
    word: &'static str,
    programs: &'static [&'static str],
    version: &'static [&'static str],
    get: &'static str,
) -> Known {
    Known {
        name,
        word,
        programs,
        version,
        get,
    }
}

/// Every tool, in the order of `doctor`.
const TOOLS: &[Known] = &[
    known(
        ToolName::Python,
        "python3",
        &["python3"],
        &["--version"],
        "in Debian and Ubuntu: apt install python3",
    ),
    known(
        ToolName::Pip,
        "pip",
        &["python3"],
        &["-m", "pip", "--version"],
        "in Debian and Ubuntu: apt install python3-pip",
    ),
    known(
        ToolName::Uv,
        "uv",
        &["uv"],
        &["--version"],
        "it is optional: python3 -m pip install uv",
    ),
    known(
        ToolName::Node,
        "node",
        &["node", "nodejs"],
        &["--version"],
        "in Debian and Ubuntu: apt install nodejs",
    ),
    known(
        ToolName::Npm,
        "npm",
        &["npm"],
        &["--version"],
        "in Debian and Ubuntu: apt install npm",
    ),
    known(
        ToolName::Go,
        "go",
        &["go"],
        &["version"],
        "in Debian and Ubuntu: apt install golang, or unpack a release of Go to /usr/local/go",
    ),
    known(
        ToolName::Cargo,
        "cargo",
        &["cargo"],
        &["--version"],
        "in Debian and Ubuntu: apt install cargo, or install rustup for the user that the server runs as",
    ),
    known(
        ToolName::Rustc,
        "rustc",
        &["rustc"],
        &["--version"],
        "in Debian and Ubuntu: apt install rustc, or install rustup for the user that the server runs as",
    ),
    known(
        ToolName::Cc,
        "cc",
        &["cc", "gcc", "clang"],
        &["--version"],
        "in Debian and Ubuntu: apt install gcc libc6-dev",
    ),
    known(
        ToolName::Java,
        "java",
        &["java"],
        &["-version"],
        "in Debian and Ubuntu: apt install default-jdk-headless",
    ),
    known(
        ToolName::Javac,
        "javac",
        &["javac"],
        &["-version"],
        "in Debian and Ubuntu: apt install default-jdk-headless",
    ),
    known(
        ToolName::Maven,
        "mvn",
        &["mvn"],
        &["-v"],
        "in Debian and Ubuntu: apt install maven",
    ),
    known(
        ToolName::Ruby,
        "ruby",
        &["ruby"],
        &["--version"],
        "in Debian and Ubuntu: apt install ruby",
    ),
    known(
        ToolName::Bundle,
        "bundle",
        &["bundle"],
        &["--version"],
        "in Debian and Ubuntu: apt install ruby-bundler",
    ),
    known(
        ToolName::Php,
        "php",
        &["php"],
        &["--version"],
        "in Debian and Ubuntu: apt install php-cli",
    ),
    known(
        ToolName::Composer,
        "composer",
        &["composer"],
        &["--version", "--no-ansi"],
        "in Debian and Ubuntu: apt install composer",
    ),
    known(
        ToolName::Git,
        "git",
        &["git"],
        &["--version"],
        "in Debian and Ubuntu: apt install git",
    ),
];

// === impl ToolName ===

impl ToolName {
    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.known().word
    }

    fn known(self) -> &'static Known {
        TOOLS
            .iter()
            .find(|k| k.name == self)
            .expect("the table has every name")
    }
}

// === impl ToolPaths ===

impl ToolPaths {
    /// The usual folders and those of `PATH`, for the user whose environment this reads.
    #[must_use]
    pub fn from_env(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let cargo_home = path("CARGO_HOME").or_else(|| Some(home.as_ref()?.join(".cargo")));
        let rustup_home = path("RUSTUP_HOME").or_else(|| Some(home.as_ref()?.join(".rustup")));
        let mut folders: Vec<PathBuf> = [
            "/usr/bin",
            "/usr/local/bin",
            "/usr/local/go/bin",
            "/usr/lib/go/bin",
        ]
        .map(PathBuf::from)
        .into();
        folders.extend(cargo_home.as_ref().map(|h| h.join("bin")));
        folders.extend(home.as_ref().map(|h| h.join(".local/bin")));
        for folder in std::env::split_paths(&get("PATH").unwrap_or_default()) {
            // A version manager's shims find their programs through files that a build does not see.
            let shim = folder.components().any(|c| c.as_os_str() == "shims");
            if folder.is_absolute() && !shim && !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self {
            folders,
            programs: BTreeMap::new(),
            home,
            cargo_home,
            rustup_home,
        }
    }
}

// === impl Tools ===

impl Tools {
    /// Nothing is run before a tool is asked for.
    #[must_use]
    pub fn find(paths: ToolPaths) -> Self {
        Self {
            paths,
            found: Mutex::default(),
        }
    }

    /// The tool, with its version. May run it, for at most a few seconds.
    ///
    /// # Errors
    /// It is not there, or does not run; says how to get it.
    pub fn get(&self, name: ToolName) -> Result<Arc<Tool>, Missing> {
        let known = name.known();
        let missing = |why: String| Missing {
            word: known.word,
            why,
            get: known.get,
        };
        let program = self
            .program(known)
            .ok_or_else(|| missing("is not installed".into()))?;
        let time = std::fs::metadata(&program).and_then(|m| m.modified()).ok();
        let stamp = (program.clone(), time);
        let kept = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tool)) = kept().get(&name).filter(|(s, _)| *s == stamp) {
            return Ok(tool.clone());
        }
        let tool = match name {
            ToolName::Cargo | ToolName::Rustc => self.rust(&program, known),
            _ => self.plain(&program, known),
        };
        let tool = Arc::new(tool.map_err(|why| match name {
            ToolName::Pip => missing(format!("is missing for {}", program.display())),
            _ => missing(why),
        })?);
        kept().insert(name, (stamp, tool.clone()));
        Ok(tool)
    }

    /// Every tool that a build may use, looked at side by side.
    #[must_use]
    pub fn toolchains(&self) -> Vec<Toolchain> {
        std::thread::scope(|scope| {
            let looks: Vec<_> = TOOLS
                .iter()
                .map(|k| (k.name, scope.spawn(move || self.get(k.name))))
                .collect();
            looks
                .into_iter()
                .map(|(name, look)| Toolchain {
                    name,
                    tool: look.join().unwrap_or_else(|_| {
                        Err(Missing {
                            word: name.as_str(),
                            why: "could not be looked at".into(),
                            get: name.known().get,
                        })
                    }),
                })
                .collect()
        })
    }

    fn program(&self, known: &Known) -> Option<PathBuf> {
        // pip is a module of the interpreter that runs functions.
        let name = match known.name {
            ToolName::Pip => ToolName::Python,
            name => name,
        };
        if let Some(program) = self.paths.programs.get(&name) {
            return is_program(program).then(|| program.clone());
        }
        self.paths
            .folders
            .iter()
            .flat_map(|folder| known.programs.iter().map(move |p| folder.join(p)))
            .find(|p| is_program(p))
    }

    fn plain(&self, program: &Path, known: &Known) -> Result<Tool, String> {
        let program = self.seen_inside(program);
        let version = version::of(&program, known.version, &self.environment())?;
        let folders = match known.name {
            // A program of its own among others.
            ToolName::Uv => folder_alone(&program),
            _ => self.prefix(&program),
        };
        Ok(Tool {
            program,
            version,
            folders,
        })
    }

    /// The toolchain's own program: what lies in `~/.cargo/bin` is mostly rustup's, which would look for a toolchain, and
    /// try to fetch it, within the build.
    fn rust(&self, program: &Path, known: &Known) -> Result<Tool, String> {
        let rustc = self
            .program(ToolName::Rustc.known())
            .ok_or("has no rustc beside it")?;
        let root = version::output(&rustc, &["--print", "sysroot"], &self.environment())?;
        let root = PathBuf::from(root.trim());
        let own = root.join("bin").join(known.programs[0]);
        let (program, folders) = if is_program(&own) {
            let folders = if root.starts_with("/usr") {
                Vec::new()
            } else {
                vec![root]
            };
            (own, folders)
        } else {
            (program.to_owned(), self.prefix(program))
        };
        let version = version::of(&program, known.version, &self.environment())?;
        Ok(Tool {
            program,
            version,
            folders,
        })
    }

    /// A path that means the same inside: where a link leads out of `/usr`, as those of Debian's alternatives do, the file
    /// behind it.
    fn seen_inside(&self, program: &Path) -> PathBuf {
        let real = std::fs::canonicalize(program);
        match (program.starts_with("/usr"), real) {
            (true, Ok(real)) if leaves_usr(program) => real,
            (false, Ok(real)) => real,
            _ => program.to_owned(),
        }
    }

    /// The folder that a program was installed to, where that is not below `/usr`.
    fn prefix(&self, program: &Path) -> Vec<PathBuf> {
        if program.starts_with("/usr") {
            return Vec::new();
        }
        let Some(folder) = program.parent() else {
            return Vec::new();
        };
        let above = folder
            .parent()
            .filter(|_| folder.file_name().is_some_and(|n| n == "bin"));
        // `~/bin/node`, or `/bin/node`: what is above is not an installation but the user's files, or everything.
        let private = |p: &Path| {
            p.parent().is_none() || self.paths.home.as_ref().is_some_and(|h| h.starts_with(p))
        };
        match above {
            Some(above) if !private(above) => vec![above.to_owned()],
            _ => vec![folder.to_owned()],
        }
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut env = vec![
            ("PATH", OsString::from("/usr/local/bin:/usr/bin:/bin")),
            ("LANG", "C.UTF-8".into()),
            // Asked as root, it would wait for an answer.
            ("COMPOSER_ALLOW_SUPERUSER", "1".into()),
        ];
        for (name, path) in [
            ("HOME", &self.paths.home),
            ("CARGO_HOME", &self.paths.cargo_home),
            ("RUSTUP_HOME", &self.paths.rustup_home),
        ] {
            env.extend(path.as_ref().map(|p| (name, p.clone().into())));
        }
        env
    }
}

fn folder_alone(program: &Path) -> Vec<PathBuf> {
    match program.parent() {
        Some(folder) if !program.starts_with("/usr") => vec![folder.to_owned()],
        _ => Vec::new(),
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Whether the way to the file, link by link, passes through something that is not below `/usr`.
fn leaves_usr(program: &Path) -> bool {
    let mut at = program.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        let Ok(target) = std::fs::read_link(&at) else {
            return false;
        };
        if target.is_absolute() && !target.starts_with("/usr") {
            return true;
        }
        at = at.parent().unwrap_or(Path::new("/")).join(target);
    }
    true
}

#[cfg(test)]
mod tests;
