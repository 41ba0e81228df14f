//! The build context of a function: its template with its handler laid over it.
//!
//! A template is a folder `template/NAME` beside the stack file, as OpenFaaS's own command line pulls it. One that is not
//! there is no obstacle: the server knows the usual templates by their names, so a description that says the name alone
//! stands for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use tidegate_build::{Kind, MAX_ARCHIVE, Tree};
use tidegate_openfaas::BuildConfig;
use tidegate_openfaas::build::{Content, ContextFile, Signer, write_context};
use tidegate_openfaas::stack::{DOCKERFILE, Recipe};

use crate::error::{Error, Result};

/// A template's description.
const TEMPLATE_FILE: &str = "template.yml";

/// Largest description in bytes; they are some lines.
const MAX_TEMPLATE_FILE: u64 = 256 << 10;

/// Largest secret of a build in bytes: a file of settings or a key.
const MAX_SECRET: u64 = 256 << 10;

/// The handler's folder, unless its template says otherwise.
const HANDLER_FOLDER: &str = "function";

/// The build argument that names further packages.
const PACKAGES: &str = "ADDITIONAL_PACKAGE";

/// Top-level entries of a handler's folder that are no part of it: what builds left, and templates.
const SKIPPED: [&str; 2] = ["build", "template"];

/// What a template says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    pub(crate) fprocess: Option<String>,
    pub(crate) handler_folder: Option<String>,
    build_options: Vec<BuildOption>,
    pub(crate) welcome_message: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct BuildOption {
    name: String,
    packages: Vec<String>,
}

/// Where the paths of a stack file are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The stack file's folder.
    pub(crate) folder: PathBuf,
}

/// What is sent to a builder.
pub(super) struct Packed {
    files: Vec<ContextFile>,
    /// What was left out, a line each.
    pub(super) warnings: Vec<String>,
    /// Files in the handler's folder.
    pub(super) handler_files: usize,
    packages: BTreeSet<String>,
}

/// The archive of a context.
pub(super) struct Archive {
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) signature: Option<String>,
}

impl Places {
    /// A path of the stack file: beside it or, as OpenFaaS's command line has it, in the folder that one is in.
    pub(crate) fn path(&self, written: &str) -> PathBuf {
        let beside = self.folder.join(written);
        let here = PathBuf::from(written);
        if !beside.exists() && here.exists() {
            here
        } else {
            beside
        }
    }

    /// The folder of a template, where it is.
    pub(crate) fn template(&self, lang: &str) -> Option<PathBuf> {
        let one_name = !lang.is_empty() && !lang.contains(['/', '\\']) && lang != "..";
        one_name
            .then(|| self.path(&format!("template/{lang}")))
            .filter(|folder| folder.is_dir())
    }
}

/// A file's text, bounded.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read_bytes(path, most)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!(
            "it is larger than {} KiB",
            most >> 10
        )));
    }
    Ok(bytes)
}

/// What the template in a folder says of itself.
pub(crate) fn template(folder: &Path) -> Result<Template> {
    let path = folder.join(TEMPLATE_FILE);
    let wrong = || Error::usage(format!("cannot read template {}", path.display()));
    let text = read_text(&path, MAX_TEMPLATE_FILE).map_err(|e| wrong().because(&e))?;
    serde_saphyr::from_str(&text).map_err(|e| {
        let mut error = wrong();
        error.causes.push(e.without_snippet().to_string());
        error
    })
}

/// Puts a context together, so far only as a list.
pub(super) fn assemble(places: &Places, recipe: &Recipe, copy: &[String]) -> Result<Packed> {
    let mut files = BTreeMap::new();
    let mut warnings = Vec::new();
    let mut packages = BTreeSet::new();
    let plain = recipe.lang == DOCKERFILE;
    let found = match plain {
        true => None,
        false => places.template(&recipe.lang),
    };
    let mut described = Template::default();
    if let Some(folder) = &found {
        described = template(folder)?;
        lay(folder, "", &[], &mut files, &mut warnings)?;
    } else if !plain {
        let text = serde_json::json!({ "language": recipe.lang });
        insert(
            &mut files,
            TEMPLATE_FILE,
            Content::Bytes(format!("{text}\n").into_bytes()),
            0o644,
        );
    }
    for wanted in &recipe.options {
        let option = described.build_options.iter().find(|o| o.name == *wanted);
        let Some(option) = option else {
            let lang = &recipe.lang;
            return Err(match found {
                Some(_) => Error::usage(format!(
                    "template {lang} has no build option {wanted:?}; it has {}",
                    listed(described.build_options.iter().map(|o| o.name.as_str()))
                )),
                None => Error::usage(format!(
                    "build option {wanted:?} is explained by template/{lang}/{TEMPLATE_FILE}, which is not there"
                ))
                .hint(format!("fetch it with 'tidegate template pull {lang}'")),
            });
        };
        packages.extend(option.packages.iter().cloned());
    }
    let inner = match (&described.handler_folder, plain) {
        (_, true) => "",
        (Some(folder), _) => folder
            .strip_prefix("./")
            .unwrap_or(folder)
            .trim_matches('/'),
        (None, _) => HANDLER_FOLDER,
    };
    let handler = places.path(&recipe.handler);
    lay(&handler, inner, &SKIPPED, &mut files, &mut warnings)?;
    for path in copy {
        extra(places, path, inner, &mut files, &mut warnings)?;
    }
    let inside = |path: &str| inner.is_empty() || path.starts_with(&format!("{inner}/"));
    let count = files
        .iter()
        .filter(|(path, file)| inside(path) && !matches!(file.content, Content::Folder))
        .count();
    Ok(Packed {
        handler_files: count,
        files: files.into_values().collect(),
        warnings,
        packages,
    })
}

/// A further path, which stays what it is called inside the handler's folder.
fn extra(
    places: &Places,
    written: &str,
    inner: &str,
    files: &mut BTreeMap<String, ContextFile>,
    warnings: &mut Vec<String>,
) -> Result {
    let refuse = |why: &str| Error::usage(format!("configuration.copy: {written} {why}"));
    let mut parts = Vec::new();
    for part in Path::new(written).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => {
                parts.push(name.to_str().ok_or_else(|| refuse("is not UTF-8"))?);
            }
            _ => return Err(refuse("leaves the stack file's folder")),
        }
    }
    if parts.is_empty() {
        return Err(refuse("is the stack file's folder itself"));
    }
    let path = places.path(written);
    let to = match inner.is_empty() {
        true => parts.join("/"),
        false => format!("{inner}/{}", parts.join("/")),
    };
    if path.is_dir() {
        return lay(&path, &to, &[], files, warnings);
    }
    if !path.is_file() {
        return Err(refuse("is not there"));
    }
    insert(files, &to, Content::Copy(path), 0o644);
    Ok(())
}

/// Lays a folder over what is there.
fn lay(
    folder: &Path,
    to: &str,
    skipped: &[&str],
    files: &mut BTreeMap<String, ContextFile>,
    warnings: &mut Vec<String>,
) -> Result {
    let tree = Tree::read(folder).map_err(|e| {
        let told = Error::usage(&e);
        match std::error::Error::source(&e) {
            Some(source) => told.because(source),
            None => told,
        }
    })?;
    warnings.extend(tree.warnings);
    if !to.is_empty() {
        insert(files, to, Content::Folder, 0o755);
    }
    for node in tree.nodes {
        let first = node.path.split('/').next().unwrap_or_default();
        if skipped.contains(&first) {
            continue;
        }
        let path = match to.is_empty() {
            true => node.path.clone(),
            false => format!("{to}/{}", node.path),
        };
        match node.kind {
            Kind::Folder => insert(files, &path, Content::Folder, 0o755),
            Kind::File { executable, .. } => {
                let mode = if executable { 0o755 } else { 0o644 };
                insert(files, &path, Content::Copy(folder.join(&node.path)), mode);
            }
            Kind::Link { target } => insert(files, &path, Content::Link(target), 0o777),
        }
    }
    Ok(())
}

fn insert(files: &mut BTreeMap<String, ContextFile>, path: &str, content: Content, mode: u32) {
    let file = ContextFile {
        path: path.to_owned(),
        mode,
        content,
    };
    files.insert(path.to_owned(), file);
}

impl Packed {
    /// What goes with the context.
    pub(super) fn config(&self, image: &str, recipe: &Recipe) -> BuildConfig {
        let mut args = recipe.args.clone();
        let mut packages = self.packages.clone();
        let given = args.remove(PACKAGES).unwrap_or_default();
        packages.extend(given.split_whitespace().map(str::to_owned));
        let packages: Vec<String> = packages.into_iter().collect();
        args.insert(PACKAGES.to_owned(), packages.join(" "));
        BuildConfig {
            image: image.to_owned(),
            build_args: args,
            ..BuildConfig::default()
        }
    }

    /// Writes the archive into a temporary file, and signs it.
    pub(super) fn archive(
        self,
        config: &BuildConfig,
        sealed: Option<&[u8]>,
        secret: Option<&str>,
    ) -> Result<Archive> {
        let failed = |e: io::Error| Error::failed("cannot make the build context").because(&e);
        let file = tempfile::tempfile().map_err(failed)?;
        let mut file = write_context(file, config, self.files, sealed).map_err(failed)?;
        let size = file.stream_position().map_err(failed)?;
        if size > MAX_ARCHIVE {
            return Err(Error::usage(format!(
                "the build context is {} MiB, more than {} MiB; leave some out with .tidegateignore",
                size >> 20,
                MAX_ARCHIVE >> 20
            )));
        }
        let mut signature = None;
        if let Some(secret) = secret {
            let mut signer = Signer::new(secret.as_bytes());
            file.rewind().map_err(failed)?;
            let mut part = vec![0; 64 << 10];
            loop {
                match file.read(&mut part).map_err(failed)? {
                    0 => break,
                    n => signer.update(&part[..n]),
                }
            }
            signature = Some(signer.header());
        }
        file.rewind().map_err(failed)?;
        Ok(Archive {
            file,
            size,
            signature,
        })
    }
}

/// The secrets of a build.
pub(super) fn secrets(places: &Places, recipe: &Recipe) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut secrets = BTreeMap::new();
    for (name, written) in &recipe.secrets {
        let path = places.path(written);
        let bytes = read_bytes(&path, MAX_SECRET).map_err(|e| {
            Error::usage(format!(
                "build secret {name}: cannot read {}",
                path.display()
            ))
            .because(&e)
        })?;
        secrets.insert(name.clone(), bytes);
    }
    Ok(secrets)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}
