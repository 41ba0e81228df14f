//! What has to be run to make a source folder runnable.
//!
//! A plan is data: which commands, with which folders before them, and what of the result is kept. It is decided from the
//! content of the folder and from what tools there are, and run elsewhere, behind walls. It has up to two stages:
//!
//! *Dependencies* sees nothing but the files that name them (a lock file, a manifest), so its result can be kept by the
//! digest of those and used again whatever else changes. It may reach the network. What it makes is the bundle's *layer*,
//! mounted at `/layer` beside the code; interpreted code is then run as it was sent, and a change of it builds nothing.
//!
//! *Compile* sees the whole source and makes another bundle of it. Only its steps that fetch may reach the network.
//!
//! Inside a step there is, beside `/usr` and `/tmp`: `/stage`, writable, where the stage's input lies and where the step
//! begins; `/out`, writable and empty at first, what is in it at the end being the result; `/cache`, writable, kept from
//! build to build of a namespace, for the tools' own download caches; `/layer`, read-only, in *compile* where the stage
//! before it made one; [`HOME`], writable, with the user's package configuration ([`CONFIG_FILES`]); and [`Plan::tools`],
//! read-only, at their own paths. The folders are kept from step to step of a stage, `/tmp` need not be.
//!
//! `/stage` is made with [`Dependencies::fill`] or, where the source lies there already, [`Compile::write_files`].

use std::fs;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

/// The home folder inside a step: a folder of the machine's that the one who runs the plan mounts, writable, and removes
/// with the build.
pub const HOME: &str = "/home/build";

/// The user's package configuration: under which name a secret gives a file, and where below [`HOME`] the file is put.
/// Every recipe leaves its tools' settings so that these are read.
pub const CONFIG_FILES: &[(&str, &str)] = &[
    ("npmrc", ".npmrc"),
    ("yarnrc", ".yarnrc.yml"),
    ("pip-conf", ".config/pip/pip.conf"),
    ("uv-toml", ".config/uv/uv.toml"),
    ("cargo-config", ".cargo/config.toml"),
    ("cargo-credentials", ".cargo/credentials.toml"),
    ("go-env", ".config/go/env"),
    ("maven-settings", ".m2/settings.xml"),
    ("bundle-config", ".bundle/config"),
    ("gem-credentials", ".gem/credentials"),
    ("composer-auth", ".composer/auth.json"),
    ("netrc", ".netrc"),
    ("gitconfig", ".gitconfig"),
];

/// See the module. Without any stage the source runs as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Makes the layer.
    pub dependencies: Option<Dependencies>,
    /// Makes the bundle.
    pub compile: Option<Compile>,
    /// Folders of the machine's that the tools need and that are not under `/usr`.
    pub tools: Vec<PathBuf>,
    /// One line each: what the user should know of what was decided.
    pub notes: Vec<String>,
}

/// The stage that makes the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependencies {
    /// The files of the source that lie in `/stage`, and all of the source that it depends on.
    pub inputs: Vec<String>,
    /// Files that are written beside them.
    pub files: Vec<Generated>,
    /// Tells this stage's result from every other: 64 hexadecimal digits, over the inputs' names and contents, the files,
    /// the steps and the versions of the tools.
    pub key: String,
    /// Whether everything is pinned by hash and no package runs code when it is installed, so that namespaces may share
    /// the result.
    pub pinned: bool,
    /// In order; the first that fails ends the build.
    pub steps: Vec<Step>,
}

/// The stage that makes another bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compile {
    /// Files that are written into the source first.
    pub files: Vec<Generated>,
    /// Tells this stage's result from another's of the same source and layer: 64 hexadecimal digits, over the files, the
    /// steps and the versions of the tools.
    pub key: String,
    /// In order; the first that fails ends the build.
    pub steps: Vec<Step>,
    /// The file to load or run, relative to `/out`.
    pub entry: String,
    /// Which attribute or class of it is the handler, where the source says.
    pub handler: Option<String>,
}

/// A file that a plan adds to what a stage sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Relative to `/stage`, `/` between the parts.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does, for a progress line: `npm ci`.
    pub title: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Whether it may reach the network.
    pub network: bool,
}

// === impl Dependencies ===

impl Dependencies {
    /// Lays the stage's inputs and files into an existing folder that will be `/stage`.
    ///
    /// # Errors
    /// The source lacks a file, or the file system refuses.
    pub fn fill(&self, source: &Path, work: &Path) -> io::Result<()> {
        for input in &self.inputs {
            let to = place(work, input)?;
            // What an input is made of is copied, so that a link among them cannot lead the tool elsewhere.
            fs::copy(source.join(input), to)?;
        }
        write_files(&self.files, work)
    }
}

// === impl Compile ===

impl Compile {
    /// Adds the stage's files to the source in `work`.
    ///
    /// # Errors
    /// The file system refuses, or the source has a link where a folder is needed.
    pub fn write_files(&self, work: &Path) -> io::Result<()> {
        write_files(&self.files, work)
    }
}

fn write_files(files: &[Generated], work: &Path) -> io::Result<()> {
    for file in files {
        let to = place(work, &file.path)?;
        match fs::remove_file(&to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::File::create_new(&to)?.write_all(file.content.as_bytes())?;
    }
    Ok(())
}

/// The path of a file below the folder, its parents made. The source is somebody else's: a link where a parent should be
/// would have the server write outside.
fn place(work: &Path, relative: &str) -> io::Result<PathBuf> {
    let mut to = work.to_owned();
    let parts: Vec<Component<'_>> = Path::new(relative).components().collect();
    for (at, part) in parts.iter().enumerate() {
        let Component::Normal(name) = part else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{relative} does not stay inside the folder"),
            ));
        };
        to.push(name);
        if at + 1 == parts.len() {
            break;
        }
        match fs::symlink_metadata(&to) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("{} of the source is not a folder", to.display()),
                ));
            }
            Err(_) => fs::create_dir(&to)?,
        }
    }
    Ok(to)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn files_are_laid_out_and_never_through_a_link() {
        let (source, work, outside) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        fs::create_dir(source.path().join("a")).unwrap();
        fs::write(source.path().join("a/lock"), "x").unwrap();
        let stage = |path: &str| Dependencies {
            inputs: vec!["a/lock".into()],
            files: vec![Generated {
                path: path.into(),
                content: "y".into(),
            }],
            key: String::new(),
            pinned: false,
            steps: Vec::new(),
        };
        stage("b/c/made").fill(source.path(), work.path()).unwrap();
        assert_eq!(fs::read(work.path().join("a/lock")).unwrap(), b"x");
        assert_eq!(fs::read(work.path().join("b/c/made")).unwrap(), b"y");

        std::os::unix::fs::symlink(outside.path(), work.path().join("out")).unwrap();
        fs::write(outside.path().join("kept"), "as it was").unwrap();
        std::os::unix::fs::symlink(outside.path().join("kept"), work.path().join("direct"))
            .unwrap();
        assert!(stage("out/made").fill(source.path(), work.path()).is_err());
        assert!(stage("../made").fill(source.path(), work.path()).is_err());
        stage("direct").fill(source.path(), work.path()).unwrap();
        assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"as it was");
        assert_eq!(fs::read(work.path().join("direct")).unwrap(), b"y");
    }
}
