//! `deploy`.
//!
//! A deploy replaces the code and keeps the settings of the earlier deploy that the command line does not name: a new
//! version of a function should not lose its memory limit because one forgot to repeat it. What was kept is said in one
//! line, and `--reset` starts from the defaults.

mod name;
mod settings;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tidegate_build::{Archive, PackOptions, Packed, Runtime, pack};
use tidegate_core::Name;
use tidegate_document::{
    API_VERSION, Code, FUNCTION, Function, FunctionSpec, FunctionStatus, LogLine, Metadata, Phase,
};

use super::functions::{path, short, url};
use crate::client::{ANSWER, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::progress::{self, Spinner};
use crate::time::elapsed;
use settings::Settings;

/// How long one question for the state is held open by the server, in seconds.
const HOLD: u64 = 20;

/// How long a deploy is waited for. A start has its own, shorter limit at the server; this one ends the wait for a server
/// that does not get to it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Wait between two questions, for a server that answers at once that it is not ready.
const PAUSE: Duration = Duration::from_millis(50);

/// Tries to write over a function that others are changing too.
const TRIES: usize = 4;

/// Lines shown of a start that failed.
const LOG_LINES: &str = "20";

/// Deploy a file or folder as a function, and print its URL
///
/// Python files with 'def handler(event, context)' or an ASGI or WSGI 'app', programs, and scripts with a '#!' line. A
/// deploy replaces the code and keeps earlier settings that are not given.
#[derive(Args)]
pub(crate) struct Deploy {
    /// The file or folder
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The function's name; by default made from that of the file or folder
    #[arg(long)]
    name: Option<Name>,
    /// Who runs the code; by default told from the code
    #[arg(long, value_parser = ["python", "executable"])]
    runtime: Option<String>,
    /// How it is called: host (a handler or app), stdio (a process a call), http (a server on $PORT)
    #[arg(long, value_parser = ["host", "stdio", "http"])]
    contract: Option<String>,
    /// The file to load or run, relative to the folder
    #[arg(long, value_name = "FILE")]
    entry: Option<String>,
    /// Start from the defaults, not from the settings of the earlier deploy
    #[arg(long)]
    reset: bool,
    /// Do not wait until the function is ready
    #[arg(long)]
    no_wait: bool,
    /// Print the function as JSON instead of its URL
    #[arg(long)]
    json: bool,
    // Last, since its heading would stand over all that follows.
    #[command(flatten)]
    settings: Settings,
}

impl Deploy {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let began = Instant::now();
        let settings = self.settings.clone().checked()?;
        let Packed {
            archive,
            digest,
            size,
            detected,
            warnings,
            ..
        } = self.pack()?;
        for warning in warnings {
            context.warn(warning);
        }
        let name = self.name(context)?;
        let client = context.client()?;
        upload(context, &client, archive, &digest, size).await?;
        let code = (
            detected.runtime,
            Code {
                digest,
                entry: detected.entry,
            },
        );
        let written = self
            .write(context, &client, &settings, &name, &code)
            .await?;
        if self.no_wait {
            let how = context.advice(format!("describe {name}"));
            context.note(format!("deploying {name}; {how} tells how it goes"));
            return self.print(context, &client, &written);
        }
        let function = await_ready(context, &client, &name, &written).await?;
        let status = function.status.clone().unwrap_or_default();
        match status.phase {
            Phase::Ready => {
                context.note(format!(
                    "deployed {name} (revision {}) in {}",
                    short(&status.revision),
                    elapsed(began.elapsed())
                ));
                self.print(context, &client, &function)
            }
            Phase::Failed => Err(failed(context, &client, &name, &status).await),
            Phase::Pending => Err(Error::failed(format!(
                "{name} is still not ready after {}",
                elapsed(PATIENCE)
            ))
            .hint(format!(
                "{} and {} tell how it goes",
                context.advice(format!("describe {name}")),
                context.advice(format!("logs {name}"))
            ))),
        }
    }

    fn pack(&self) -> Result<Packed> {
        let runtime = match self.runtime.as_deref().map(str::parse::<Runtime>) {
            Some(Err(why)) => return Err(Error::usage(why)),
            Some(Ok(runtime)) => Some(runtime),
            None => None,
        };
        let options = PackOptions {
            runtime,
            entry: self.entry.clone(),
            ..PackOptions::default()
        };
        pack(&self.path, &options).map_err(|e| {
            let told = Error::usage(&e);
            match std::error::Error::source(&e) {
                Some(source) => told.because(source),
                None => told,
            }
        })
    }

    fn name(&self, context: &mut Context) -> Result<Name> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let (name, from) = name::of_path(&self.path)
            .ok_or_else(|| Error::usage("the path gives no name; say one with --name"))?;
        if name.as_str() != from {
            context.note(format!("named {name}, from {from}"));
        }
        Ok(name)
    }

    /// Writes the document over the one that is there, if there is one and as long as others do so too.
    async fn write(
        &self,
        context: &mut Context,
        client: &Client,
        settings: &Settings,
        name: &Name,
        code: &(Runtime, Code),
    ) -> Result<Function> {
        let path = path(&context.namespace, name.as_str());
        let mut tried = 0;
        loop {
            tried += 1;
            let earlier: Option<Function> = match client.get(&path, &[], ANSWER).await {
                Ok(function) => Some(function),
                Err(e) if e.status() == Some(404) => None,
                Err(e) => return Err(e.into()),
            };
            let (function, kept) =
                self.document(&context.namespace, settings, name, code, earlier)?;
            match client.put(&path, &function).await {
                Ok(written) => {
                    if !kept.is_empty() {
                        context.note(format!(
                            "kept from the earlier deploy: {} (--reset starts from the defaults)",
                            kept.join(", ")
                        ));
                    }
                    return Ok(written);
                }
                Err(e) if e.status() == Some(409) && tried < TRIES => {}
                Err(e) if e.status() == Some(404) => {
                    return Err(Error::from(e).hint(format!(
                        "'tidegate namespace create {}' makes the namespace",
                        context.namespace
                    )));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The document to send, and the settings in it that are from the earlier deploy.
    fn document(
        &self,
        namespace: &str,
        settings: &Settings,
        name: &Name,
        code: &(Runtime, Code),
        earlier: Option<Function>,
    ) -> Result<(Function, Vec<String>)> {
        let mut kept = Vec::new();
        let mut metadata = Metadata {
            name: name.as_str().to_owned(),
            namespace: namespace.to_owned(),
            ..Metadata::default()
        };
        let mut spec = FunctionSpec::default();
        if let Some(earlier) = earlier {
            // Makes the write conditional: what another deploy changes in between is not lost.
            metadata.resource_version = earlier.metadata.resource_version;
            if !self.reset {
                metadata.labels = earlier.metadata.labels;
                metadata.annotations = earlier.metadata.annotations;
                spec = earlier.spec;
            }
        }
        let (runtime, detected) = (code.0.as_str(), code.0.contract());
        if spec.runtime != runtime {
            // How other code was called says nothing about this.
            spec.contract = None;
            spec.handler = None;
        }
        runtime.clone_into(&mut spec.runtime);
        spec.code.clone_from(&code.1);
        let contract = match (&self.contract, spec.contract.take()) {
            (Some(given), _) => given.clone(),
            (None, Some(before)) if before != detected => {
                kept.push(format!("contract {before}"));
                before
            }
            (None, _) => detected.to_owned(),
        };
        spec.contract = Some(contract);
        settings.apply(&mut spec, &mut metadata.labels, &mut kept)?;
        let function = Function {
            api_version: API_VERSION.to_owned(),
            kind: FUNCTION.to_owned(),
            metadata,
            spec,
            status: None,
        };
        Ok((function, kept))
    }

    fn print(&self, context: &mut Context, client: &Client, function: &Function) -> Result {
        if self.json {
            context.json(function)
        } else {
            context.line(url(client, function))
        }
    }
}

/// Sends the archive, if the server does not have it.
async fn upload(
    context: &Context,
    client: &Client,
    archive: Archive,
    digest: &str,
    size: u64,
) -> Result {
    if client.has_blob(digest).await? {
        return Ok(());
    }
    let bar = progress::bytes(context.draws(), "uploading", size);
    let counted = bar.clone();
    let sent = client
        .put_blob(digest, archive, size, move |n| counted.inc(n))
        .await;
    bar.finish_and_clear();
    Ok(sent?)
}

/// Asks until the written generation is ready or failed, or patience ends.
async fn await_ready(
    context: &Context,
    client: &Client,
    name: &Name,
    written: &Function,
) -> Result<Function> {
    let _spinner = Spinner::new(context.draws(), format!("starting {name}"));
    let path = path(&context.namespace, name.as_str());
    let generation = written.metadata.generation;
    let wanted = generation.to_string();
    let hold = HOLD.to_string();
    let query = [("waitGeneration", wanted.as_str()), ("wait", hold.as_str())];
    let began = Instant::now();
    loop {
        let function: Function = client
            .get(&path, &query, ANSWER + Duration::from_secs(HOLD))
            .await?;
        let status = function.status.clone().unwrap_or_default();
        let settled = status.observed_generation >= generation && status.phase != Phase::Pending;
        if settled {
            return Ok(function);
        }
        if began.elapsed() > PATIENCE {
            // What was read may be ready in an older generation, which is not what was asked for.
            let mut function = function;
            function.status = Some(FunctionStatus {
                phase: Phase::Pending,
                ..status
            });
            return Ok(function);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says why a start failed: the server's line, then the last lines that the code wrote.
async fn failed(
    context: &mut Context,
    client: &Client,
    name: &Name,
    status: &FunctionStatus,
) -> Error {
    let target = format!("{}/logs", path(&context.namespace, name.as_str()));
    if let Ok(mut lines) = client.lines(&target, &[("tail", LOG_LINES)]).await {
        while let Ok(Some(line)) = lines.next::<LogLine>().await {
            context.note(format!("  | {}", line.text));
        }
    }
    let why = if status.message.is_empty() {
        "the server gives no reason"
    } else {
        &status.message
    };
    let error = Error::failed(format!("{name} could not be started: {why}"));
    if status.revision.is_empty() {
        error
    } else {
        error.hint(format!(
            "the earlier revision {} keeps serving",
            short(&status.revision)
        ))
    }
}
