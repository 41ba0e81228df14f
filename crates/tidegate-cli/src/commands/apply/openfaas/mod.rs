//! Functions of OpenFaaS's manifests: built by the server, and deployed as its own clients deploy them.
//!
//! Images are built one after the other, since what a build says is read as it goes; then the functions are deployed and
//! waited for side by side.

mod context;
mod ship;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use tidegate_manifest::{Input, Mistakes, Text, open};
use tidegate_openfaas::stack::{self, Kind, Stack, StackFunction, Surroundings};

use super::{AT_ONCE, How, Tally, tell};
use crate::client::{Client, Gateway};
use crate::context::Context;
use crate::credentials;
use crate::error::{Error, Result};
use crate::exit;
use crate::openfaas as clients;
use crate::progress::Spinner;
use crate::run::{DEFAULT_NAMESPACE, DEFAULT_URL};
pub(crate) use context::{Places, read_text, template};
use ship::Ship;

/// Largest file of variables that a stack file names, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The functions of one file.
pub(super) struct Loaded {
    stack: Stack,
    places: Places,
}

/// A text that is OpenFaaS's.
pub(super) struct Found {
    text: Text,
    kind: Kind,
}

/// Looks what inputs are: those that are our own, and those that are OpenFaaS's.
pub(super) fn split(context: &mut Context, inputs: &[Input]) -> Result<(Vec<Input>, Vec<Found>)> {
    let mut mistakes = Mistakes::default();
    let (mut own, mut found) = (Vec::new(), Vec::new());
    for input in inputs {
        for text in open(input, &mut mistakes) {
            let ending = Path::new(&text.name).extension();
            if ending.is_some_and(|e| e == "toml") {
                own.push(text.into());
                continue;
            }
            match stack::kind(&text.name, &text.text) {
                Kind::Other => own.push(text.into()),
                Kind::Mixed => {
                    context.report(
                        &Error::usage(format!(
                            "{} has OpenFaaS's objects beside Tidegate's",
                            text.name
                        ))
                        .hint("put each kind into a file of its own"),
                    );
                    return Err(Error::silent(exit::USAGE));
                }
                kind => found.push(Found { text, kind }),
            }
        }
    }
    told(context, &mistakes)?;
    Ok((own, found))
}

/// Reads what was found, so that every mistake is told before anything is done.
pub(super) fn load(context: &mut Context, found: Vec<Found>) -> Result<Vec<Loaded>> {
    let env = context.process.env.clone();
    let mut mistakes = Mistakes::default();
    let mut loaded = Vec::new();
    for Found { text, kind } in found {
        let places = Places {
            folder: text.folder.clone(),
        };
        let file = |name: &str| read_text(&places.path(name), MAX_FILE);
        let lookup = |name: &str| {
            env.get(name)
                .cloned()
                .and_then(|v: OsString| v.into_string().ok())
        };
        let around = Surroundings {
            env: &lookup,
            file: &file,
        };
        let read = match kind {
            Kind::Stack => stack::read(&text.name, &text.text, &around),
            _ => stack::objects(&text.name, &text.text),
        };
        match read {
            Ok(stack) => {
                for note in &stack.notes {
                    context.warn(note);
                }
                loaded.push(Loaded { stack, places });
            }
            Err(more) => mistakes.0.extend(more.0),
        }
    }
    told(context, &mistakes)?;
    Ok(loaded)
}

/// Looks whether the handlers are there.
pub(super) fn check(context: &mut Context, loaded: &[Loaded]) -> Result {
    let mut missing = false;
    for Loaded { stack, places } in loaded {
        for function in &stack.functions {
            let Some(recipe) = &function.recipe else {
                continue;
            };
            let handler = places.path(&recipe.handler);
            if handler.is_dir() {
                continue;
            }
            missing = true;
            let handler: PathBuf = handler.components().collect();
            context.report(&Error::usage(format!(
                "function {} ({}): the handler {} is no folder that is there",
                function.deployment.service,
                function.origin,
                handler.display()
            )));
        }
    }
    match missing {
        true => Err(Error::silent(exit::USAGE)),
        false => Ok(()),
    }
}

fn told(context: &mut Context, mistakes: &Mistakes) -> Result {
    for mistake in &mistakes.0 {
        context.report(&Error::usage(mistake));
    }
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(Error::silent(exit::USAGE)),
    }
}

/// A client for the server that is meant: the one given, or the file's own, or that of OpenFaaS's command line.
///
/// A key from the command line or its variable is only sent to a server that the user named, never to one that a file
/// names: whoever writes a file should not get the keys of those who apply it.
pub(crate) fn gateway(context: &mut Context, named: Option<&str>) -> Result<Gateway> {
    let of_file = named.filter(|url| !context.chosen && !is_usual(url));
    let variable = context
        .process
        .var("OPENFAAS_URL")
        .filter(|_| !context.chosen);
    let (text, given) = match (of_file, variable) {
        (Some(url), _) => (clients::plain(url), None),
        (None, Some(url)) => {
            let url = url
                .into_string()
                .map_err(|_| Error::usage("OPENFAAS_URL is not UTF-8 text"))?;
            (clients::plain(&url), context.token.clone())
        }
        (None, None) => (context.url.clone(), context.token.clone()),
    };
    let url = Client::parse_url(&text)?;
    let key = match credentials::find(context.env(), &url, given.as_deref()) {
        Ok(found) => found.map(|(key, _)| key),
        Err(error) => {
            context.warn(&error);
            None
        }
    };
    // Whoever logged in with OpenFaaS's command line need not do so again.
    let key = key.or_else(|| clients::key(context.env(), &text));
    if key.is_some() && url.scheme() == "http" && !credentials::is_loopback(&url) {
        context.warn(format!(
            "the key for {} is sent without TLS, where others on the way can read it",
            url.host_str().unwrap_or("the server")
        ));
    }
    Ok(Gateway::new(url, key.as_deref())?)
}

/// Whether an address is the one that everybody writes, meaning the server that is at hand.
fn is_usual(url: &str) -> bool {
    clients::plain(url).replacen("//localhost", "//127.0.0.1", 1) == DEFAULT_URL
}

impl Loaded {
    /// Functions that stand in no file, and need none.
    pub(super) fn of(stack: Stack) -> Self {
        let folder = PathBuf::from(".");
        Self {
            stack,
            places: Places { folder },
        }
    }

    pub(super) fn retain(&mut self, takes: impl Fn(&str) -> bool) {
        self.stack
            .functions
            .retain(|f| takes(&f.deployment.service));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stack.functions.is_empty()
    }

    /// Makes its functions what the file says.
    pub(super) async fn apply(
        &self,
        context: &mut Context,
        how: &How,
        tally: &mut Tally,
        told: &mut Vec<serde_json::Value>,
    ) -> Result {
        if self.is_empty() {
            return Ok(());
        }
        let gateway = gateway(context, self.stack.gateway.as_deref())?;
        let server = gateway.shown();
        if Client::parse_url(&context.url)
            .is_ok_and(|url| url.as_str().trim_end_matches('/') != server)
        {
            context.note(format!("the server is {server}"));
        }
        let usual = Some(context.namespace.as_str()).filter(|n| *n != DEFAULT_NAMESPACE);
        let usual = usual.map(str::to_owned);
        let ships: Vec<Ship<'_>> = self
            .stack
            .functions
            .iter()
            .map(|function| Ship {
                gateway: &gateway,
                function,
                namespace: function.deployment.namespace.clone().or(usual.clone()),
                places: &self.places,
                copy: &self.stack.copy,
            })
            .collect();
        if how.create_namespaces && !how.dry_run {
            create_namespaces(context, &gateway, &ships).await?;
        }
        let mut outcomes = Vec::new();
        for ship in &ships {
            let mut outcome = ship.outcome();
            match ship.build(context, how.dry_run, &mut outcome).await {
                Ok(()) => {}
                Err(error) => {
                    let over = error.code == exit::UNREACHABLE;
                    outcome.error = Some(error);
                    if over {
                        // The others would say the same.
                        tally.count(&outcome);
                        told.push(outcome.json());
                        return tell(context, outcome, how);
                    }
                }
            }
            outcomes.push(outcome);
        }
        let text = format!("deploying {} functions", ships.len());
        let spinner = Spinner::new(context.draws(), text);
        let mut outcomes =
            stream::iter(ships.iter().zip(outcomes).map(|(ship, mut outcome)| async {
                if outcome.error.is_none() {
                    let done = ship.deploy(how.dry_run, !how.no_wait, &mut outcome).await;
                    outcome.error = done.err();
                }
                outcome
            }))
            .buffered(AT_ONCE);
        while let Some(outcome) = outcomes.next().await {
            tally.count(&outcome);
            told.push(outcome.json());
            tell(context, outcome, how)?;
        }
        drop(outcomes);
        drop(spinner);
        Ok(())
    }
}

async fn create_namespaces(context: &mut Context, gateway: &Gateway, ships: &[Ship<'_>]) -> Result {
    let mut there = gateway.namespaces().await?;
    for name in ships.iter().filter_map(|ship| ship.namespace.as_ref()) {
        if there.contains(name) {
            continue;
        }
        match gateway.create_namespace(name).await {
            Ok(()) => context.note(format!("created namespace {name}")),
            // Another name for one that is there.
            Err(e) if e.status() == Some(409) => {}
            Err(e) => return Err(e.into()),
        }
        there.push(name.clone());
    }
    Ok(())
}

/// What a function is called where it stands alone.
fn shown(function: &StackFunction, path: &Path) -> String {
    let path: PathBuf = path.components().collect();
    format!("{} from {}", function.deployment.image, path.display())
}
