//! Packages that a command of a Dockerfile installs.

use std::path::PathBuf;

use super::stage::{Origin, Stage, absolute};

/// What is installed from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Install {
    /// pip, from lists and by name.
    Pip {
        /// Absolute paths of the lists, and where they are in the context: what is installed stays, whatever becomes of
        /// the list.
        lists: Vec<(String, PathBuf)>,
        /// As a line of a list has them.
        packages: Vec<String>,
    },
    /// npm and its kin, from the `package.json` of a folder.
    Node { folder: String },
    /// Bundler, from the `Gemfile` of a folder.
    Ruby { folder: String },
    /// Composer, from the `composer.json` of a folder.
    Php { folder: String },
}

/// Packages of Python that are tools of the installation itself.
const TOOLS: &[&str] = &["pip", "setuptools", "wheel"];

impl Install {
    /// The runtime whose packages they are.
    pub(super) const fn runtime(&self) -> &'static str {
        match self {
            Self::Pip { .. } => "python",
            Self::Node { .. } => "node",
            Self::Ruby { .. } => "ruby",
            Self::Php { .. } => "php",
        }
    }
}

/// `pip install …`, after those two words.
pub(super) fn pip(
    stage: &Stage,
    folder: &str,
    words: &[String],
) -> Result<Option<Install>, String> {
    let (mut lists, mut packages) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match &**word {
            "-r" | "--requirement" => {
                let list = words.next().ok_or("-r names no file")?;
                lists.push(absolute(folder, list));
            }
            word if word.starts_with("--requirement=") => {
                lists.push(absolute(folder, &word["--requirement=".len()..]));
            }
            "-U"
            | "--upgrade"
            | "--user"
            | "-q"
            | "--quiet"
            | "--no-cache-dir"
            | "--no-cache"
            | "--disable-pip-version-check"
            | "--no-input"
            | "--prefer-binary"
            | "--compile"
            | "--no-compile"
            | "--break-system-packages"
            | "--no-warn-script-location"
            | "--root-user-action=ignore" => {}
            word if word.starts_with('-') => {
                return Err(format!(
                    "{word} has no counterpart; packages are installed from lists of requirements"
                ));
            }
            word if TOOLS.contains(&name_of(word)) => {}
            word if is_requirement(word) => packages.push(word.to_owned()),
            word => {
                return Err(format!(
                    "{word} is not a package by name; packages are installed from lists of requirements"
                ));
            }
        }
    }
    let lists = lists
        .into_iter()
        .map(
            |list| match stage.files.get(&list).map(|file| &file.origin) {
                Some(Origin::Context(source)) => Ok((list, source.clone())),
                _ => Err(absent(&list)),
            },
        )
        .collect::<Result<Vec<_>, _>>()?;
    Ok((!lists.is_empty() || !packages.is_empty()).then_some(Install::Pip { lists, packages }))
}

/// The package's name in `name[extra]==1`.
fn name_of(word: &str) -> &str {
    let end = word
        .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .unwrap_or(word.len());
    &word[..end]
}

fn is_requirement(word: &str) -> bool {
    let name = name_of(word);
    !name.is_empty()
        && !name.starts_with('.')
        && !word.contains('/')
        && word[name.len()..]
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "[],=<>!~.*+-_".contains(c))
}

/// `npm …`, `yarn …`, `pnpm …`, after the first word.
pub(super) fn node(
    stage: &Stage,
    folder: &str,
    tool: &str,
    words: &[String],
) -> Result<Option<Install>, String> {
    let mut folder = folder.to_owned();
    let mut verb = None;
    let mut rest = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match &**word {
            "--prefix" | "-C" | "--cwd" => {
                folder = absolute(&folder, words.next().map_or("", String::as_str));
            }
            "--only" | "--omit" | "--loglevel" => {
                words.next();
            }
            word if word.starts_with('-') => {
                if matches!(word, "-g" | "--global" | "--location=global") {
                    return Err("programs for all of the machine are not installed".to_owned());
                }
            }
            word if verb.is_none() => verb = Some(word.to_owned()),
            word => rest.push(word.to_owned()),
        }
    }
    match verb.as_deref() {
        Some("config" | "cache" | "audit" | "fund" | "set" | "prune") => return Ok(None),
        Some("i" | "install" | "ci" | "add" | "clean-install" | "install-clean") => {}
        None if tool == "yarn" => {}
        Some("test" | "t") => return Ok(None),
        _ => return Err("only packages are installed; what else it does is not done".to_owned()),
    }
    if let Some(package) = rest.first() {
        return Err(format!(
            "{package} is not installed by name; list it in package.json"
        ));
    }
    demand(stage, &absolute(&folder, "package.json"))?;
    Ok(Some(Install::Node { folder }))
}

/// `bundle …`, after the first word.
pub(super) fn bundle(
    stage: &Stage,
    folder: &str,
    words: &[String],
) -> Result<Option<Install>, String> {
    match words.first().map(String::as_str) {
        Some("config") => Ok(None),
        None | Some("install") => {
            demand(stage, &absolute(folder, "Gemfile"))?;
            let folder = folder.to_owned();
            Ok(Some(Install::Ruby { folder }))
        }
        Some(word) => Err(format!("{word} is not done; install is")),
    }
}

/// `composer …`, after the first word.
pub(super) fn composer(
    stage: &Stage,
    folder: &str,
    words: &[String],
) -> Result<Option<Install>, String> {
    match words
        .iter()
        .find(|word| !word.starts_with('-'))
        .map(String::as_str)
    {
        Some("install") => {
            demand(stage, &absolute(folder, "composer.json"))?;
            let folder = folder.to_owned();
            Ok(Some(Install::Php { folder }))
        }
        Some("dump-autoload" | "dumpautoload" | "clear-cache" | "clearcache") => Ok(None),
        _ => Err("only install is done".to_owned()),
    }
}

fn demand(stage: &Stage, path: &str) -> Result<(), String> {
    if stage.files.contains_key(path) {
        return Ok(());
    }
    Err(absent(path))
}

fn absent(path: &str) -> String {
    format!("there is no {path} yet; COPY it before")
}
