//! `template`: what handlers of OpenFaaS's are laid over.
//!
//! A template is a folder `template/NAME`. The server knows the usual ones by their names, so they need not be here to
//! deploy; they are for those that have their own, and for OpenFaaS's command line, which begins new functions with them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tidegate_build::{Kind, Tree};
use tidegate_openfaas::stack::{self, Surroundings, TemplateSource};

use super::apply::{Places, read_text, template};
use super::catalog::{PublishedTemplate, address, read, unknown};
use super::deploy::{fetch, is_address};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::progress::Spinner;
use crate::table::Table;

/// The public list.
const PUBLIC: &str = "https://raw.githubusercontent.com/openfaas/store/master/templates.json";

/// Where OpenFaaS's command line has another one named.
const VARIABLE: &str = "OPENFAAS_TEMPLATE_STORE_URL";

/// A template's description.
const FILE: &str = "template.yml";

/// Stack files that are looked for where nothing is named.
const STACKS: [&str; 2] = ["stack.yaml", "stack.yml"];

/// Largest stack file in bytes.
const MAX_STACK: u64 = 1 << 20;

/// Templates for handlers, in OpenFaaS's form
#[derive(Args)]
pub(crate) struct Template {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(List),
    Pull(Pull),
}

/// List the templates of a store
#[derive(Args)]
struct List {
    #[command(flatten)]
    from: From,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct From {
    /// The store's list: an address or a file [env: OPENFAAS_TEMPLATE_STORE_URL] [default: OpenFaaS's public one]
    #[arg(long, value_name = "URL|FILE")]
    store: Option<String>,
}

/// Fetch templates into ./template
///
/// By name from the store, from a git repository (URL, with #REF for a branch or tag), or from a folder. Where none is
/// named, those of the stack file's configuration.templates.
#[derive(Args)]
struct Pull {
    /// A name of the store, the address of a git repository, or a folder; can be given many times
    #[arg(value_name = "NAME|URL|FOLDER")]
    sources: Vec<String>,
    /// The stack file whose templates are fetched [default: stack.yaml or stack.yml]
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "sources")]
    file: Option<PathBuf>,
    /// Replace templates that are there
    #[arg(long)]
    overwrite: bool,
    /// Where templates are kept
    #[arg(long, default_value = "template", value_name = "FOLDER")]
    into: PathBuf,
    #[command(flatten)]
    from: From,
}

impl Template {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        match self.command {
            Command::List(command) => command.run(context).await,
            Command::Pull(command) => command.run(context).await,
        }
    }
}

impl From {
    async fn all(&self, context: &Context) -> Result<(String, Vec<PublishedTemplate>)> {
        let source = address(context, self.store.as_deref(), VARIABLE, PUBLIC)?;
        Ok((source.clone(), read(&source, "--store").await?))
    }
}

impl List {
    async fn run(self, context: &mut Context) -> Result {
        let (source, all) = self.from.all(context).await?;
        if self.json {
            return context.json(&all);
        }
        if all.is_empty() {
            context.note(format!("no templates in {source}"));
            return Ok(());
        }
        let mut table = Table::new(&["NAME", "LANGUAGE", "SOURCE", "DESCRIPTION"]);
        for template in &all {
            table.row(vec![
                template.template.clone(),
                template.language.clone(),
                template.source.clone(),
                template
                    .description
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ]);
        }
        context.line(table.render())
    }
}

/// Where templates are fetched from.
enum Origin {
    Folder(PathBuf),
    Repository(String),
}

impl Origin {
    /// What a store says; one of somebody's own may name a plain folder.
    fn published(source: &str) -> Self {
        let path = Path::new(source);
        if path.is_dir() && !path.join(".git").exists() && !path.join("HEAD").is_file() {
            Self::Folder(path.to_owned())
        } else {
            Self::Repository(source.to_owned())
        }
    }
}

impl Pull {
    async fn run(self, context: &mut Context) -> Result {
        let wanted = match self.sources.is_empty() {
            false => self.named(context).await?,
            true => self.of_stack(context).await?,
        };
        let mut pulled = 0;
        for (origin, only) in wanted {
            pulled += self.pull(context, origin, only.as_deref()).await?;
        }
        if pulled == 0 {
            context.note("nothing was fetched");
        }
        Ok(())
    }

    /// What the command line names.
    async fn named(&self, context: &Context) -> Result<Vec<(Origin, Option<String>)>> {
        let mut wanted = Vec::new();
        for source in &self.sources {
            let path = Path::new(source);
            if source.contains("://") || is_address(source) {
                wanted.push((Origin::Repository(source.clone()), None));
            } else if path.is_dir() || source.starts_with(['/', '.']) {
                wanted.push((Origin::Folder(path.to_owned()), None));
            } else {
                let repository = self.of_store(context, source).await?;
                wanted.push((repository, Some(source.clone())));
            }
        }
        Ok(wanted)
    }

    async fn of_store(&self, context: &Context, name: &str) -> Result<Origin> {
        let (source, all) = self.from.all(context).await?;
        // The same name may be published by several, each with its own before it.
        let (publisher, plain) = match name.split_once('/') {
            Some((publisher, plain)) => (Some(publisher), plain),
            None => (None, name),
        };
        let found = all
            .iter()
            .find(|t| t.template == plain && publisher.is_none_or(|p| t.source == p));
        match found {
            Some(found) => Ok(Origin::published(&found.repo)),
            None => {
                let names = all.iter().map(|t| t.template.as_str());
                Err(unknown("template", "template", name, &source, names))
            }
        }
    }

    /// What the stack file names.
    async fn of_stack(&self, context: &mut Context) -> Result<Vec<(Origin, Option<String>)>> {
        let beside = STACKS.iter().map(PathBuf::from).find(|p| p.is_file());
        let Some(path) = self.file.clone().or(beside) else {
            return Err(
                Error::usage("no template was named, and there is no stack.yaml here")
                    .hint("'tidegate template list' shows those of the store"),
            );
        };
        let name = path.display().to_string();
        let text = read_text(&path, MAX_STACK)
            .map_err(|e| Error::usage(format!("cannot read {name}")).because(&e))?;
        let env = context.process.env.clone();
        let places = Places {
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        };
        let around = Surroundings {
            env: &|name| {
                env.get(name)
                    .cloned()
                    .and_then(|v: OsString| v.into_string().ok())
            },
            file: &|name| read_text(&places.path(name), MAX_STACK),
        };
        let stack = stack::read(&name, &text, &around).map_err(|mistakes| {
            for mistake in &mistakes.0 {
                context.report(&Error::usage(mistake));
            }
            Error::silent(crate::exit::USAGE)
        })?;
        if stack.templates.is_empty() {
            return Err(Error::usage(format!(
                "{name} has no configuration.templates"
            )));
        }
        let mut wanted = Vec::new();
        for TemplateSource { name, source } in stack.templates {
            if !self.overwrite && self.into.join(&name).is_dir() {
                context.note(format!("template {name} is there; --overwrite replaces it"));
                continue;
            }
            let origin = match source {
                Some(source) if source.contains("://") || is_address(&source) => {
                    Origin::Repository(source)
                }
                Some(source) => Origin::Folder(places.path(&source)),
                None => self.of_store(context, &name).await?,
            };
            wanted.push((origin, Some(name)));
        }
        Ok(wanted)
    }

    /// Copies the templates of one place, or the one that is meant, and tells how many.
    async fn pull(
        &self,
        context: &mut Context,
        origin: Origin,
        only: Option<&str>,
    ) -> Result<usize> {
        let (folder, shown, _fetched) = match origin {
            Origin::Folder(folder) => {
                let shown = folder.display().to_string();
                (folder, shown, None)
            }
            Origin::Repository(address) => {
                let spinner = Spinner::new(context.draws(), "fetching templates".to_owned());
                let fetched = tokio::task::spawn_blocking(move || fetch(&address))
                    .await
                    .map_err(|e| Error::unexpected("fetching failed").because(&e))??;
                drop(spinner);
                (
                    fetched.folder.clone(),
                    fetched.source.clone(),
                    Some(fetched),
                )
            }
        };
        let mut there = templates(&folder)?;
        if let Some(only) = only {
            // Where the name is a publisher's, what it is called here is what follows.
            let only = only.rsplit('/').next().unwrap_or(only);
            there.retain(|(name, _)| name == only);
            if there.is_empty() {
                return Err(Error::failed(format!("no template {only} in {shown}")));
            }
        }
        if there.is_empty() {
            return Err(Error::failed(format!(
                "no templates in {shown}: no folder template/NAME with a {FILE}"
            )));
        }
        let mut pulled = 0;
        for (name, from) in there {
            let to = self.into.join(&name);
            if to.exists() && !self.overwrite {
                context.note(format!("template {name} is there; --overwrite replaces it"));
                continue;
            }
            let described = template(&from)?;
            for warning in copy(&from, &self.into, &to)? {
                context.warn(format!("template {name}: {warning}"));
            }
            context.line(format!("pulled {name}"))?;
            if let Some(text) = described.welcome_message {
                context.note(text.trim_end());
            }
            pulled += 1;
        }
        Ok(pulled)
    }
}

/// The templates below a folder: it is one itself, or holds them, or has a folder `template` that does.
fn templates(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let name_of = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    if folder.join(FILE).is_file()
        && let Some(name) = folder.canonicalize().ok().as_deref().and_then(name_of)
    {
        return Ok(vec![(name, folder.to_owned())]);
    }
    let inner = folder.join("template");
    let holder = if inner.is_dir() {
        inner
    } else {
        folder.to_owned()
    };
    let failed = |e: std::io::Error| {
        Error::usage(format!("cannot read the folder {}", holder.display())).because(&e)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&holder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.join(FILE).is_file()
            && let Some(name) = name_of(&path)
        {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Copies a template beside its place, and then puts it there in one step; gives what was left out.
fn copy(from: &Path, into: &Path, to: &Path) -> Result<Vec<String>> {
    let failed =
        |e: std::io::Error| Error::failed(format!("cannot write {}", to.display())).because(&e);
    let tree = Tree::read(from).map_err(|e| Error::failed(&e))?;
    fs::create_dir_all(into).map_err(failed)?;
    let made = tempfile::Builder::new()
        .prefix(".pull-")
        .tempdir_in(into)
        .map_err(failed)?;
    let root = made.path().join("template");
    fs::create_dir(&root).map_err(failed)?;
    for node in &tree.nodes {
        let target = root.join(&node.path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        match &node.kind {
            Kind::Folder => fs::create_dir_all(&target).map_err(failed)?,
            Kind::File { .. } => {
                fs::copy(from.join(&node.path), &target).map_err(failed)?;
            }
            Kind::Link { target: link } => make_link(link, &target).map_err(failed)?,
        }
    }
    if to.exists() {
        fs::rename(to, made.path().join("earlier")).map_err(failed)?;
    }
    fs::rename(&root, to).map_err(failed)?;
    Ok(tree.warnings)
}

#[cfg(unix)]
fn make_link(to: &str, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn make_link(_: &str, _: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other("links are not made on this system"))
}
