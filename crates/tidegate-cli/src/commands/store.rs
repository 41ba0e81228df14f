//! `store`: functions that others published, in OpenFaaS's form.

use clap::{Args, Subcommand};
use tidegate_core::Name;
use tidegate_manifest::Origin;
use tidegate_openfaas::FunctionDeployment;
use tidegate_openfaas::stack::{Stack, StackFunction};

use super::apply::{How, deploy_stack};
use super::catalog::{Functions, Published, address, read, unknown};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;

/// The public list.
const PUBLIC: &str = "https://raw.githubusercontent.com/openfaas/store/master/functions.json";

/// Where OpenFaaS's command line has another one named.
const VARIABLE: &str = "OPENFAAS_STORE";

/// Functions that others published, in the form of OpenFaaS's store
#[derive(Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(List),
    Inspect(Inspect),
    Deploy(Deploy),
}

#[derive(Args)]
struct From {
    /// The store's list: an address or a file [env: OPENFAAS_STORE] [default: OpenFaaS's public one]
    #[arg(long, value_name = "URL|FILE")]
    store: Option<String>,
}

/// List the functions of a store
#[derive(Args)]
struct List {
    #[command(flatten)]
    from: From,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Show one function of a store as JSON
#[derive(Args)]
struct Inspect {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    from: From,
}

/// Deploy a function of a store
///
/// Its image is one that this server has, or else comes from its registry.
#[derive(Args)]
struct Deploy {
    /// Its name in the store
    #[arg(value_name = "NAME")]
    published: String,
    /// What to call it, if not the same
    #[arg(long = "name", value_name = "NAME")]
    name: Option<Name>,
    /// A variable of its environment, over the store's; can be given many times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = super::deploy::variable)]
    env: Vec<(String, String)>,
    /// Do not wait until it is ready
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    from: From,
}

impl Store {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        match self.command {
            Command::List(command) => command.run(context).await,
            Command::Inspect(command) => {
                let (_, function) = command.from.one(context, &command.name).await?;
                context.json(&function)
            }
            Command::Deploy(command) => command.run(context).await,
        }
    }
}

impl From {
    async fn all(&self, context: &Context) -> Result<(String, Vec<Published>)> {
        let source = address(context, self.store.as_deref(), VARIABLE, PUBLIC)?;
        let list: Functions = read(&source, "--store").await?;
        Ok((source, list.functions))
    }

    async fn one(&self, context: &Context, name: &str) -> Result<(String, Published)> {
        let (source, all) = self.all(context).await?;
        let named = |f: &&Published| f.name == name || f.title.eq_ignore_ascii_case(name);
        match all.iter().find(named) {
            Some(function) => Ok((source, function.clone())),
            None => {
                let names = all.iter().map(|f| f.name.as_str());
                Err(unknown("function", "store", name, &source, names))
            }
        }
    }
}

impl List {
    async fn run(self, context: &mut Context) -> Result {
        let (source, all) = self.from.all(context).await?;
        if self.json {
            return context.json(&all);
        }
        if all.is_empty() {
            context.note(format!("no functions in {source}"));
            return Ok(());
        }
        let mut table = Table::new(&["NAME", "AUTHOR", "DESCRIPTION"]);
        for function in &all {
            let what = match function.description.is_empty() {
                true => &function.title,
                false => &function.description,
            };
            let what = what.lines().next().unwrap_or_default();
            table.row(vec![
                function.name.clone(),
                function.author.clone(),
                what.to_owned(),
            ]);
        }
        context.line(table.render())
    }
}

impl Deploy {
    async fn run(self, context: &mut Context) -> Result {
        let (source, published) = self.from.one(context, &self.published).await?;
        let platform = platform();
        let Some(image) = published.images.get(platform) else {
            let others: Vec<&str> = published.images.keys().map(String::as_str).collect();
            return Err(Error::failed(format!(
                "{} has no image for {platform} in {source}; it has for {}",
                published.name,
                others.join(", ")
            )));
        };
        let name = self.name.as_ref().map_or(&*published.name, Name::as_str);
        let mut environment = published.environment;
        environment.extend(self.env);
        let deployment = FunctionDeployment {
            service: name.to_owned(),
            image: image.clone(),
            env_process: Some(published.fprocess).filter(|p| !p.is_empty()),
            env_vars: Some(environment).filter(|e| !e.is_empty()),
            labels: Some(published.labels),
            annotations: Some(published.annotations),
            read_only_root_filesystem: published.read_only_root_filesystem,
            ..FunctionDeployment::default()
        };
        let stack = Stack {
            functions: vec![StackFunction {
                deployment,
                recipe: None,
                origin: Origin::default(),
            }],
            ..Stack::default()
        };
        let how = How {
            no_wait: self.no_wait,
            ..How::default()
        };
        deploy_stack(context, stack, &how).await
    }
}

/// This machine, as a store's images name it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "arm" => "armhf",
        other => other,
    }
}
