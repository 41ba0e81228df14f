//! From a stage to a tree: its files, and what its packages are installed from.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::TemplateError;
use super::super::shared::{self, write};
use super::Mistake;
use super::install::Install;
use super::stage::{Origin, Stage};

/// Where the tree is for a function; the other name of `/function`.
pub(super) const HOME: &str = "/home/app";

/// Folders of images that are not a function's own, where no `WORKDIR` says what is.
const SYSTEM: &[&str] = &[
    "bin", "boot", "dev", "etc", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run",
    "sbin", "srv", "sys", "tmp", "usr", "var",
];

/// Manifests of Node's packages, first the one that must be there.
const NODE: &[&str] = &[
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    ".npmrc",
    ".yarnrc.yml",
];

/// A tree, and what its folder is called in the Dockerfile.
pub(super) struct Tree {
    pub(super) root: String,
    /// Files, relative to it.
    pub(super) files: BTreeSet<String>,
    pub(super) notes: Vec<String>,
}

impl Tree {
    /// The path in the tree of one in the image.
    pub(super) fn inside<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.root == "/" {
            return path.strip_prefix('/');
        }
        path.strip_prefix(&*self.root)?.strip_prefix('/')
    }
}

/// Lays the stage's files into `out`.
pub(super) fn lay(stage: &Stage, folder: &Path, out: &Path) -> Result<Tree, TemplateError> {
    let mut tree = Tree {
        root: stage.workdir.clone(),
        files: BTreeSet::new(),
        notes: Vec::new(),
    };
    for (path, file) in &stage.files {
        let Origin::Context(source) = &file.origin else {
            continue;
        };
        let inside = tree
            .inside(path)
            .filter(|inside| tree.root != "/" || !is_system(inside));
        let Some(inside) = inside else {
            let why = if tree.root == "/" {
                format!(
                    "{path} is outside of the function's folder; name a folder with WORKDIR, such as {HOME}, and put the \
                     files there"
                )
            } else {
                format!(
                    "{path} is outside of {}, the last WORKDIR, which is all that a function has of its own",
                    tree.root
                )
            };
            return Err(Mistake::new(&file.line, why).into());
        };
        let name = source.to_string_lossy();
        shared::copy(&folder.join(source), out, inside, &name)?;
        if file.executable {
            let path = out.join(inside);
            let is_file = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
            if is_file {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                    .map_err(shared::io(&name))?;
            }
        }
        tree.files.insert(inside.to_owned());
    }
    if !tree.files.is_empty() && !matches!(&*tree.root, HOME | "/function" | "/") {
        tree.notes.push(format!(
            "the folder {} is {HOME} here; code that names it by its path does not find it",
            tree.root
        ));
    }
    Ok(tree)
}

fn is_system(inside: &str) -> bool {
    let first = inside.split('/').next().unwrap_or(inside);
    inside.contains('/') && SYSTEM.contains(&first)
}

/// Puts manifests where a build here looks for them, at the root. Gives the runtime that has packages, if any.
pub(super) fn install(
    stage: &Stage,
    tree: &Tree,
    folder: &Path,
    out: &Path,
) -> Result<Option<&'static str>, TemplateError> {
    let mut runtime: Option<&'static str> = None;
    let mut lists: Vec<String> = Vec::new();
    let mut named: Vec<String> = Vec::new();
    let mut node: Option<String> = None;
    for (line, install) in &stage.installs {
        let mistake = |why: String| TemplateError::from(Mistake::new(line, why));
        if let Some(other) = runtime.filter(|r| *r != install.runtime()) {
            return Err(mistake(format!(
                "packages of {other} are installed already, and a function has those of one language"
            )));
        }
        runtime = Some(install.runtime());
        let at_root = |path: &str| {
            tree.inside(path).map(ToOwned::to_owned).ok_or_else(|| {
                mistake(format!(
                    "{path} is outside of {}, the last WORKDIR",
                    tree.root
                ))
            })
        };
        match install {
            Install::Pip {
                lists: of,
                packages,
            } => {
                for (path, source) in of {
                    let list = match tree.inside(path) {
                        Some(inside) if tree.files.contains(inside) => inside.to_owned(),
                        _ => {
                            // Another stage's, or one that was removed again.
                            let free = format!("requirements-{}.txt", lists.len());
                            let name = source.to_string_lossy();
                            shared::copy(&folder.join(source), out, &free, &name)?;
                            free
                        }
                    };
                    if !lists.contains(&list) {
                        lists.push(list);
                    }
                }
                named.extend(packages.iter().cloned());
            }
            Install::Node { folder } => {
                let folder = if *folder == tree.root {
                    String::new()
                } else {
                    at_root(folder)?
                };
                match &node {
                    Some(earlier) if *earlier != folder => {
                        return Err(mistake(
                            "packages are installed for one package.json; list them all in that of the last WORKDIR"
                                .to_owned(),
                        ));
                    }
                    _ => node = Some(folder),
                }
            }
            Install::Ruby { folder } | Install::Php { folder } => {
                if *folder != tree.root {
                    let file = if runtime == Some("ruby") {
                        "Gemfile"
                    } else {
                        "composer.json"
                    };
                    return Err(mistake(format!(
                        "packages are installed from the {file} in {}, the last WORKDIR",
                        tree.root
                    )));
                }
            }
        }
    }
    if let Some(folder) = node {
        node_manifests(&folder, out)?;
    }
    if !lists.is_empty() || !named.is_empty() {
        requirements(&lists, &named, tree, out)?;
    }
    Ok(runtime)
}

/// Writes the list that pip is given, where it is not there as it stands.
fn requirements(
    lists: &[String],
    named: &[String],
    tree: &Tree,
    out: &Path,
) -> Result<(), TemplateError> {
    const LIST: &str = "requirements.txt";
    if lists == [LIST] && named.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    if lists.iter().any(|list| list == LIST) {
        text = shared::text(&out.join(LIST), LIST)?.unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    } else if tree.files.contains(LIST) {
        // Not installed upstream, and so not here.
        fs::rename(out.join(LIST), out.join("requirements-unused.txt"))
            .map_err(shared::io(LIST))?;
    }
    for list in lists.iter().filter(|list| *list != LIST) {
        text.push_str(&format!("-r {list}\n"));
    }
    for package in named {
        text.push_str(&format!("{package}\n"));
    }
    write(out, LIST, &text)
}

/// Node looks for packages in every folder above the file that asks, so those of a folder may as well be the root's.
fn node_manifests(folder: &str, out: &Path) -> Result<(), TemplateError> {
    if !folder.is_empty() {
        for file in NODE {
            let from = out.join(folder).join(file);
            if from.is_file() {
                shared::copy(&from, out, file, file)?;
            }
        }
    }
    // A build script is a command of its own, which the Dockerfile does not run.
    let name = NODE[0];
    let Some(text) = shared::text(&out.join(name), name)? else {
        return Ok(());
    };
    let mut package: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| TemplateError::Context(format!("{name}: {e}")))?;
    let scripts = package
        .get_mut("scripts")
        .and_then(serde_json::Value::as_object_mut);
    if let Some(scripts) = scripts
        && scripts.remove("build").is_some()
    {
        write(out, name, &format!("{package:#}\n"))?;
    }
    Ok(())
}
