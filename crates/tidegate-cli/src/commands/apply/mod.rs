//! `apply`: what a manifest wants becomes what is there.
//!
//! Unlike `deploy`, nothing is kept from before: the manifest is the whole truth of a function, so that what it says today
//! is what runs today, whoever applied what earlier. Functions are on their way side by side and told in the order in which
//! they stand.

mod difference;
mod filter;
mod one;
mod openfaas;
mod trigger;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tidegate_core::Name;
use tidegate_document::{API_VERSION, Function, Metadata, NAMESPACE, Namespace};
use tidegate_manifest::{Input, Loaded, Loader, MANIFEST, MAX_MANIFEST, Source};
use tidegate_openfaas::stack::Stack;

use super::functions::{list, path};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::exit;
use crate::progress::Spinner;
use crate::time::elapsed;
use filter::Filter;
pub(super) use one::{Action, Outcome, Work};
pub(super) use openfaas::{Places, gateway, read_text, template};
pub(super) use trigger::{TriggerWork, exists as trigger_exists, remove as remove_trigger};

/// Functions on their way at once: enough to hide the waiting, few enough that a server has cores left for calls.
const AT_ONCE: usize = 4;

/// Make functions what manifests say
///
/// Creates functions and triggers that are not there, updates what differs, and leaves alone what is as it should be. With
/// --prune, deletes what the manifests no longer have. OpenFaaS's stack files and Function objects are manifests too: their functions are built by
/// the server, and deployed as faas-cli does.
#[derive(Args)]
pub(crate) struct Apply {
    /// A manifest, a folder with one, or - for standard input; can be given many times
    #[arg(
        short,
        long = "file",
        required = true,
        value_name = "FILE|FOLDER|-",
        allow_hyphen_values = true
    )]
    files: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// How manifests are applied.
#[derive(Args, Clone, Default)]
pub(crate) struct How {
    /// Variables for the manifest from this file, instead of the .env beside it; can be given many times
    #[arg(long = "env-file", value_name = "FILE")]
    pub(super) env_files: Vec<PathBuf>,
    /// Delete functions and triggers that an earlier apply of the same project made, and that are no longer wanted
    #[arg(long)]
    pub(super) prune: bool,
    /// Delete only those with these labels: app=shop
    #[arg(short = 'l', long, value_name = "LABELS", requires = "prune")]
    pub(super) selector: Option<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not wait until the functions are ready
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Wait until the functions are ready, which is the default
    #[arg(long, conflicts_with = "no_wait")]
    pub(super) wait: bool,
    /// Create namespaces that are not there
    #[arg(long)]
    pub(super) create_namespaces: bool,
    /// Only functions whose names match: 'shop-*'
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["regex", "prune"])]
    pub(super) filter: Option<String>,
    /// Only functions whose names match this regular expression, anywhere
    #[arg(long, value_name = "REGEX", conflicts_with = "prune")]
    pub(super) regex: Option<String>,
    /// Print what became of each function as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Apply {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let mut inputs = Vec::new();
        for file in &self.files {
            inputs.push(if file.as_os_str() == "-" {
                Input::Text {
                    name: "standard input".to_owned(),
                    text: standard_input(context)?,
                    folder: PathBuf::from("."),
                }
            } else {
                Input::Path(file.clone())
            });
        }
        apply(context, &inputs, &self.how).await
    }
}

/// Applies manifests, and tells what became of each function.
pub(super) async fn apply(context: &mut Context, inputs: &[Input], how: &How) -> Result {
    let began = Instant::now();
    let filter = Filter::of(how)?;
    let (inputs, stacks) = openfaas::split(context, inputs)?;
    let mut loaded = match inputs.is_empty() {
        true => Loaded::default(),
        false => load(context, &inputs, &how.env_files)?,
    };
    let mut stacks = openfaas::load(context, stacks)?;
    loaded.functions.retain(|f| filter.takes(f.name.as_str()));
    loaded.triggers.retain(|t| filter.takes(t.function()));
    for stack in &mut stacks {
        stack.retain(|name| filter.takes(name));
    }
    let nothing = loaded.functions.is_empty() && loaded.triggers.is_empty();
    if nothing && stacks.iter().all(|s| s.is_empty()) {
        filter.found_nothing()?;
    }
    openfaas::check(context, &stacks)?;
    if how.prune && !stacks.is_empty() {
        context.warn("functions of stack files are not pruned; delete those that are left over with 'tidegate delete'");
    }
    let client = context.client()?;
    if how.prune
        && how
            .selector
            .as_deref()
            .is_some_and(|s| trigger::equalities(s).is_err())
    {
        // A selector that cannot choose among the triggers is told before anything is done.
        for namespace in namespaces(context, &loaded) {
            left_over_triggers(context, &client, &loaded, how, &namespace).await?;
        }
    }
    if how.create_namespaces && !how.dry_run && !nothing {
        create_namespaces(context, &client, &loaded).await?;
    }
    let mut tally = Tally::default();
    let mut told = Told::default();
    let spinner = Spinner::new(
        context.draws() && !loaded.functions.is_empty(),
        format!("applying {} functions", loaded.functions.len()),
    );
    let (draw, namespace) = (false, context.namespace.clone());
    let mut outcomes = stream::iter(loaded.functions.iter().map(|wanted| {
        let work = Work {
            client: &client,
            wanted,
            namespace: wanted.namespace.as_ref().map_or(&*namespace, Name::as_str),
            dry_run: how.dry_run,
            wait: !how.no_wait,
            draw,
        };
        async move { work.run().await }
    }))
    .buffered(AT_ONCE);
    while let Some(outcome) = outcomes.next().await {
        tally.tell(context, outcome, how, &mut told)?;
        if tally.unreachable {
            // The others would say the same.
            break;
        }
    }
    drop(outcomes);
    drop(spinner);
    for stack in &stacks {
        stack
            .apply(context, how, &mut tally, &mut told.functions)
            .await?;
    }
    // After the functions, which they name.
    for wanted in &loaded.triggers {
        if tally.unreachable {
            break;
        }
        let work = TriggerWork {
            client: &client,
            wanted,
            namespace: wanted.namespace.as_ref().map_or(&*namespace, Name::as_str),
            dry_run: how.dry_run,
        };
        tally.tell(context, work.run().await, how, &mut told)?;
    }
    if how.prune && tally.failed > 0 {
        context.warn("nothing was pruned, because not everything is as it should be");
    } else if how.prune {
        prune(context, &client, &loaded, how, &mut tally, &mut told).await?;
    }
    if how.json {
        context.json(&json!({
            "dryRun": how.dry_run,
            "functions": told.functions,
            "triggers": told.triggers,
            "summary": tally.json(),
        }))?;
    }
    let took = elapsed(began.elapsed());
    context.note(tally.line(how.dry_run, &took));
    match tally.worst {
        Some(code) => Err(Error::silent(code)),
        None => Ok(()),
    }
}

/// Deploys functions that stand in no file.
pub(super) async fn deploy_stack(context: &mut Context, stack: Stack, how: &How) -> Result {
    let began = Instant::now();
    let (mut tally, mut told) = (Tally::default(), Vec::new());
    openfaas::Loaded::of(stack)
        .apply(context, how, &mut tally, &mut told)
        .await?;
    let took = elapsed(began.elapsed());
    context.note(tally.line(how.dry_run, &took));
    match tally.worst {
        Some(code) => Err(Error::silent(code)),
        None => Ok(()),
    }
}

/// Reads manifests and looks whether their code is there, so that every mistake is told before anything is done.
pub(super) fn load(
    context: &mut Context,
    inputs: &[Input],
    env_files: &[PathBuf],
) -> Result<Loaded> {
    let env = context.process.env.clone();
    let loader = Loader {
        env: &|name| env.get(name).cloned(),
        env_files: env_files.to_vec(),
    };
    let loaded = match loader.load(inputs) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            for mistake in &mistakes.0 {
                context.report(&Error::usage(mistake));
            }
            return Err(Error::silent(exit::USAGE));
        }
    };
    for warning in &loaded.warnings {
        context.warn(warning);
    }
    let mut missing = false;
    for wanted in &loaded.functions {
        if let Source::Path { written, path, .. } = &wanted.source
            && !super::deploy::is_address(written)
            && !path.exists()
        {
            missing = true;
            context.report(&Error::usage(format!(
                "function {} ({}): no file or folder {}",
                wanted.name,
                wanted.origin,
                tidy(path).display()
            )));
        }
    }
    if missing {
        return Err(Error::silent(exit::USAGE));
    }
    Ok(loaded)
}

/// A path without its `.` in the middle.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

fn standard_input(context: &mut Context) -> Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    context
        .stdin()
        .take(MAX_MANIFEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::failed("cannot read standard input").because(&e))?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(Error::usage(format!(
            "standard input is larger than {} MiB",
            MAX_MANIFEST >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|_| Error::usage("standard input is not UTF-8 text"))
}

/// The namespaces concerned.
fn namespaces(context: &Context, loaded: &Loaded) -> BTreeSet<String> {
    let of_functions = loaded.functions.iter().map(|w| &w.namespace);
    let of_triggers = loaded.triggers.iter().map(|w| &w.namespace);
    let named = of_functions.chain(of_triggers).map(|namespace| {
        namespace
            .as_ref()
            .map_or_else(|| context.namespace.clone(), Name::to_string)
    });
    let mut all: BTreeSet<String> = named.collect();
    if all.is_empty() {
        all.insert(context.namespace.clone());
    }
    all
}

async fn create_namespaces(context: &mut Context, client: &Client, loaded: &Loaded) -> Result {
    let there: tidegate_document::NamespaceList = client
        .get("/namespaces", &[], crate::client::ANSWER)
        .await?;
    for name in namespaces(context, loaded) {
        if there.items.iter().any(|n| n.metadata.name == name) {
            continue;
        }
        let wanted = Namespace {
            api_version: API_VERSION.to_owned(),
            kind: NAMESPACE.to_owned(),
            metadata: Metadata {
                name: name.clone(),
                ..Metadata::default()
            },
            spec: None,
        };
        let _: Namespace = client.put(&format!("/namespaces/{name}"), &wanted).await?;
        context.note(format!("created namespace {name}"));
    }
    Ok(())
}

/// Deletes what carries the projects' annotation and is no longer wanted.
async fn prune(
    context: &mut Context,
    client: &Client,
    loaded: &Loaded,
    how: &How,
    tally: &mut Tally,
    told: &mut Told,
) -> Result {
    for namespace in namespaces(context, loaded) {
        for name in left_over_triggers(context, client, loaded, how, &namespace).await? {
            let outcome = trigger::delete(client, &namespace, &name, how.dry_run).await;
            tally.tell(context, outcome, how, told)?;
        }
        let there = list(client, Some(&namespace), how.selector.as_deref()).await;
        let (there, _) = match there {
            // There cannot be functions in a namespace that is not there.
            Err(e) if e.status() == Some(404) && how.dry_run => continue,
            other => other?,
        };
        for function in there {
            let meta = &function.metadata;
            let ours = meta
                .annotations
                .get(MANIFEST)
                .is_some_and(|p| loaded.projects.contains(p));
            let wanted = loaded.functions.iter().any(|w| {
                let space = w
                    .namespace
                    .as_ref()
                    .map_or(&*context.namespace, Name::as_str);
                w.name.as_str() == meta.name && space == namespace
            });
            if !ours || wanted {
                continue;
            }
            let outcome = delete(client, &namespace, &function, how.dry_run).await;
            tally.tell(context, outcome, how, told)?;
        }
    }
    Ok(())
}

/// The triggers of a namespace that are to be pruned.
async fn left_over_triggers(
    context: &Context,
    client: &Client,
    loaded: &Loaded,
    how: &How,
    namespace: &str,
) -> Result<Vec<String>> {
    let is_ours = |project: &str| loaded.projects.contains(project);
    let is_wanted = |name: &str| {
        loaded.triggers.iter().any(|w| {
            let space = w.namespace.as_ref();
            w.name.as_str() == name && space.map_or(&*context.namespace, Name::as_str) == namespace
        })
    };
    trigger::left_over(
        client,
        namespace,
        is_ours,
        is_wanted,
        how.selector.as_deref(),
    )
    .await
}

async fn delete(client: &Client, namespace: &str, function: &Function, dry_run: bool) -> Outcome {
    let name = &function.metadata.name;
    let mut outcome = Outcome::new(namespace, name);
    outcome.action = Action::Deleted;
    if dry_run {
        return outcome;
    }
    match client.delete(&path(namespace, name), &[]).await {
        Ok(()) => {}
        // Somebody else did.
        Err(e) if e.status() == Some(404) => {}
        Err(e) => outcome.error = Some(e.into()),
    }
    outcome
}

/// Tells one outcome: data to standard output, reasons to standard error.
fn tell(context: &mut Context, outcome: Outcome, how: &How) -> Result {
    let shown = outcome.shown(&context.namespace);
    for warning in &outcome.warnings {
        context.warn(format!("{shown}: {warning}"));
    }
    // Without them the error says little.
    for line in &outcome.log {
        context.aside(format!("  | {line}"));
    }
    for line in &outcome.notes {
        context.note(format!("  {line}"));
    }
    if let Some(mut error) = outcome.error {
        if !error.message.starts_with(&outcome.name) {
            error.message = format!("{shown}: {}", error.message);
        }
        context.report(&error);
        return Ok(());
    }
    if how.json {
        return Ok(());
    }
    let verb = if how.dry_run {
        outcome.action.would()
    } else {
        outcome.action.done()
    };
    let style = outcome.action.style();
    let verb = context.styled_out(style, verb);
    let place = outcome.url.as_ref().or(outcome.next.as_ref());
    match place {
        Some(place) if !how.dry_run => context.line(format!("{verb} {shown}  {place}"))?,
        _ => context.line(format!("{verb} {shown}"))?,
    }
    for line in outcome.difference.lines() {
        let line = match line.chars().next() {
            Some('+') => context.styled_out(ADDED, line),
            Some('-') => context.styled_out(REMOVED, line),
            Some('@') => context.styled_out(PLACE, line),
            _ => line.to_owned(),
        };
        context.line(format!("  {line}"))?;
    }
    Ok(())
}

const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const PLACE: Style = AnsiColor::Cyan.on_default();

/// What became of each, as JSON.
#[derive(Default)]
struct Told {
    functions: Vec<serde_json::Value>,
    triggers: Vec<serde_json::Value>,
}

/// How many of what.
#[derive(Default)]
struct Tally {
    created: usize,
    updated: usize,
    adopted: usize,
    unchanged: usize,
    deleted: usize,
    failed: usize,
    /// The exit code.
    worst: Option<u8>,
    /// Whether nobody answered once, so that asking on is waiting in vain.
    unreachable: bool,
}

impl Tally {
    /// Counts an outcome and tells it.
    fn tell(
        &mut self,
        context: &mut Context,
        outcome: Outcome,
        how: &How,
        told: &mut Told,
    ) -> Result {
        self.count(&outcome);
        match outcome.trigger {
            true => told.triggers.push(outcome.json()),
            false => told.functions.push(outcome.json()),
        }
        tell(context, outcome, how)
    }

    fn count(&mut self, outcome: &Outcome) {
        if let Some(error) = &outcome.error {
            self.failed += 1;
            self.unreachable |= error.code == exit::UNREACHABLE;
            // Code that cannot be packed is one function's trouble, not the command line's.
            let code = match error.code {
                exit::USAGE => exit::FAILED,
                code => code,
            };
            self.worst = self.worst.max(Some(code));
            return;
        }
        match outcome.action {
            Action::Created => self.created += 1,
            Action::Updated => self.updated += 1,
            Action::Adopted => self.adopted += 1,
            Action::Unchanged => self.unchanged += 1,
            Action::Deleted => self.deleted += 1,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "created": self.created,
            "updated": self.updated,
            "adopted": self.adopted,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "failed": self.failed,
        })
    }

    fn line(&self, dry_run: bool, took: &str) -> String {
        let words = [
            (self.created, "created", "create"),
            (self.updated, "updated", "update"),
            (self.adopted, "adopted", "adopt"),
            (self.unchanged, "unchanged", "leave"),
            (self.deleted, "deleted", "delete"),
            (self.failed, "failed", "fail"),
        ];
        let parts: Vec<String> = words
            .iter()
            .filter(|(n, ..)| *n > 0)
            .map(|(n, done, would)| match dry_run {
                true => format!("{would} {n}"),
                false => format!("{n} {done}"),
            })
            .collect();
        let parts = if parts.is_empty() {
            "nothing to do".to_owned()
        } else {
            parts.join(", ")
        };
        if dry_run {
            format!("would {parts}; nothing was changed")
                .replace("would nothing to do", "nothing to do")
        } else {
            format!("{parts} in {took}")
        }
    }
}
