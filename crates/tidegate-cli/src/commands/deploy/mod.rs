//! `deploy`.
//!
//! A deploy replaces the code and keeps the settings of the earlier deploy that the command line does not name: a new
//! version of a function should not lose its memory limit because one forgot to repeat it. What was kept is said in one
//! line, and `--reset` starts from the defaults.

mod build;
mod git;
mod image;
mod name;
mod settings;
mod ship;
mod versions;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use tidegate_build::{PackOptions, Packed, Runtime};
use tidegate_core::Name;
use tidegate_document::{API_VERSION, FUNCTION, Function, FunctionSpec, Metadata, Phase};
use tidegate_manifest::Input;

use super::apply::{How, apply};
use super::functions::{path, short, url};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::progress::Spinner;
use crate::time::elapsed;
use build::BuildSettings;
pub(super) use git::{SOURCE, fetch, is_address};
use image::ImageSettings;
use settings::Settings;
pub(super) use settings::variable;
use ship::Uploaded;
pub(super) use ship::{PATIENCE, Ship, pack, upload};
pub(super) use versions::{Gradual, tag};
use versions::{Meeting, Versions};

/// Who may run code.
const RUNTIMES: [&str; 8] = [
    "python",
    "node",
    "go",
    "rust",
    "java",
    "ruby",
    "php",
    "executable",
];

/// What is deployed.
enum Payload<'a> {
    Code(&'a Uploaded),
    /// An image by its name.
    Image(&'a str),
}

/// The name of a runtime: a language, and perhaps a version.
fn runtime(text: &str) -> Result<String, String> {
    if RUNTIMES.contains(&language(text)) && !text.ends_with(':') {
        return Ok(text.to_owned());
    }
    Err(format!(
        "choose {}, with a version after a colon where an image is that runtime",
        RUNTIMES.join(", ")
    ))
}

/// A runtime without its version.
pub(super) fn language(runtime: &str) -> &str {
    runtime.split(':').next().unwrap_or(runtime)
}

/// How code may be called.
const CONTRACTS: [&str; 3] = ["host", "stdio", "http"];

/// Tries to write over a function that others are changing too.
const TRIES: usize = 4;

/// Deploy a file or folder as a function, and print its URL
///
/// Code in any of the languages, told from its content; a program or a script with a '#!' line; with --image a container
/// image. A deploy replaces the code and keeps earlier settings that are not given. A manifest, or a folder with a
/// tidegate.toml or tidegate.yaml, is applied as 'apply' does.
#[derive(Args)]
pub(crate) struct Deploy {
    /// The file or folder, an archive, a manifest, or the address of a git repository: URL.git[#REF][:FOLDER]
    #[arg(value_name = "PATH", required_unless_present = "image")]
    given: Option<PathBuf>,
    #[arg(skip)]
    pub(super) path: PathBuf,
    /// The function's name; by default made from that of the file or folder
    #[arg(long)]
    pub(super) name: Option<Name>,
    /// Who runs the code: python, node, go, rust, java, ruby, php or executable, with a version where an image is that
    /// runtime (python:3.13); by default told from the code
    #[arg(long, value_parser = runtime)]
    runtime: Option<String>,
    /// How it is called: host (a handler or app), stdio (a process a call), http (a server on $PORT)
    #[arg(long, value_parser = CONTRACTS)]
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
    #[command(flatten)]
    build: BuildSettings,
    #[command(flatten)]
    image: ImageSettings,
    // Last, since its heading would stand over all that follows.
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    versions: Versions,
    /// Where the code was fetched from.
    #[arg(skip)]
    source: Option<String>,
    /// What the function is called after, where that is not the path.
    #[arg(skip)]
    called: Option<String>,
    /// What was done, where that is not simply deployed.
    #[arg(skip)]
    pub(super) verb: Option<&'static str>,
    /// Whether the log is followed already, and need not be told of a failure again.
    #[arg(skip)]
    pub(super) follows: bool,
    /// Whether the build is told where nothing else is.
    #[arg(skip)]
    pub(super) aloud: bool,
}

/// The code to deploy, and how, for commands that deploy on the way to something else.
#[derive(Args, Clone)]
pub(super) struct What {
    /// The function's name; by default made from that of the file or folder
    #[arg(long)]
    pub(super) name: Option<Name>,
    /// Who runs the code: python, node, go, rust, java, ruby, php or executable, with a version where an image is that
    /// runtime (python:3.13); by default told from the code
    #[arg(long, value_parser = runtime)]
    runtime: Option<String>,
    /// How it is called: host (a handler or app), stdio (a process a call), http (a server on $PORT)
    #[arg(long, value_parser = CONTRACTS)]
    contract: Option<String>,
    /// The file to load or run, relative to the folder
    #[arg(long, value_name = "FILE")]
    entry: Option<String>,
    #[command(flatten)]
    build: BuildSettings,
    #[command(flatten)]
    settings: Settings,
}

impl What {
    /// The deploy of a path.
    pub(super) fn of(self, path: PathBuf) -> Deploy {
        Deploy {
            given: None,
            path,
            image: ImageSettings::default(),
            name: self.name,
            runtime: self.runtime,
            contract: self.contract,
            entry: self.entry,
            reset: false,
            no_wait: false,
            json: false,
            build: self.build,
            settings: self.settings,
            versions: Versions::default(),
            source: None,
            called: None,
            verb: None,
            follows: false,
            aloud: false,
        }
    }
}

impl Deploy {
    pub(crate) async fn run(mut self, context: &mut Context) -> Result {
        if let Some(image) = self.image.image.clone() {
            return self.run_image(context, &image).await;
        }
        self.path = self.given.take().unwrap_or_default();
        let fetched = match self.path.to_str().filter(|p| is_address(p)) {
            Some(address) => {
                let _spinner = Spinner::new(context.draws(), format!("fetching {address}"));
                Some(fetch(address)?)
            }
            None => None,
        };
        if let Some(fetched) = &fetched {
            self.path.clone_from(&fetched.folder);
            self.source = Some(fetched.source.clone());
            self.called = Some(fetched.name.clone());
        }
        if let Some(manifest) = self.manifest()? {
            let how = How {
                no_wait: self.no_wait,
                json: self.json,
                ..How::default()
            };
            return apply(context, &[Input::Path(manifest)], &how).await;
        }
        let packed = self.pack()?;
        let name = self.name(context)?;
        let client = context.client()?;
        let function = self.send(context, &client, &name, packed).await?;
        self.print(context, &client, &function)
    }

    /// Has the server get an image, and deploys that.
    async fn run_image(mut self, context: &mut Context, image: &str) -> Result {
        if let Some(given) = self.given.take() {
            let text = given.to_string_lossy();
            if self.name.is_some() {
                return Err(Error::usage(format!(
                    "{text:?} is given beside --name; with --image both are the function's name"
                )));
            }
            let named = Name::new(&text).map_err(|e| Error::usage(format!("{e}")))?;
            self.name = Some(named);
        }
        self.called = Some(ImageSettings::called(image).to_owned());
        let name = self.name(context)?;
        let client = context.client()?;
        let began = Instant::now();
        let settings = self.settings.clone().checked()?;
        // Before a pull, which takes its time.
        ImageSettings::check(self.contract.as_deref())?;
        self.image.fetch(context, &client, image).await?;
        let payload = Payload::Image(image);
        let function = self
            .deliver(context, &client, &name, &settings, &payload, began)
            .await?;
        self.print(context, &client, &function)
    }

    /// Sends the code, writes the document and, unless that is not wanted, waits until the function is ready.
    pub(super) async fn send(
        &self,
        context: &mut Context,
        client: &Client,
        name: &Name,
        packed: Packed,
    ) -> Result<Function> {
        let began = Instant::now();
        let settings = self.settings.clone().checked()?;
        for warning in &packed.warnings {
            context.warn(warning);
        }
        let code = ship::upload(context.draws(), client, packed).await?;
        let payload = Payload::Code(&code);
        self.deliver(context, client, name, &settings, &payload, began)
            .await
    }

    /// Writes the document, and waits.
    async fn deliver(
        &self,
        context: &mut Context,
        client: &Client,
        name: &Name,
        settings: &Settings,
        payload: &Payload<'_>,
        began: Instant,
    ) -> Result<Function> {
        let written = self.write(context, client, settings, name, payload).await?;
        if self.no_wait {
            let how = context.advice(format!("describe {name}"));
            context.note(format!("deploying {name}; {how} tells how it goes"));
            return Ok(written);
        }
        let namespace = context.namespace.clone();
        let ship = Ship {
            client,
            namespace: &namespace,
            name,
        };
        ship.build(&written, |line| build::say(context, line, self.aloud))
            .await?;
        let spinner = Spinner::new(context.draws(), format!("starting {name}"));
        let function = ship.settled(&written).await?;
        drop(spinner);
        let status = function.status.clone().unwrap_or_default();
        match status.phase {
            Phase::Ready => {
                let verb = self.verb.unwrap_or("deployed");
                context.note(format!(
                    "{verb} {name} (revision {}) in {}",
                    short(&status.revision),
                    elapsed(began.elapsed())
                ));
                if let Some(told) = versions::told(name, &function) {
                    context.note(told);
                }
                Ok(function)
            }
            Phase::Failed => {
                let (lines, error) = ship.failed(written.metadata.generation, &status).await;
                // What a build said was told while it ran.
                let told = self.follows || status.build.as_ref().is_some_and(|b| b.failed);
                for line in lines.iter().filter(|_| !told) {
                    context.note(format!("  | {line}"));
                }
                Err(error)
            }
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

    /// The manifest that the path is or has. Then the settings stand there, and nowhere else.
    pub(super) fn manifest(&self) -> Result<Option<PathBuf>> {
        let manifest = if self.path.is_dir() {
            tidegate_manifest::manifest_in(&self.path).map_err(Error::usage)?
        } else {
            Some(self.path.clone()).filter(|p| tidegate_manifest::is_manifest(p))
        };
        let told = self.name.is_some()
            || self.runtime.is_some()
            || self.contract.is_some()
            || self.entry.is_some()
            || self.reset
            || self.versions != Versions::default()
            || self.settings != Settings::default()
            || self.build != BuildSettings::default();
        match manifest {
            Some(manifest) if told => Err(Error::usage(format!(
                "the settings of functions stand in {}, and cannot be given beside it",
                manifest.display()
            ))
            .hint("change them there, or give the path of the code alone")),
            other => Ok(other),
        }
    }

    pub(super) fn pack(&self) -> Result<Packed> {
        let language = self.runtime.as_deref().map(language);
        let runtime = match language.map(str::parse::<Runtime>) {
            Some(Err(why)) => return Err(Error::usage(why)),
            Some(Ok(runtime)) => Some(runtime),
            None => None,
        };
        let options = PackOptions {
            runtime,
            entry: self.entry.clone(),
            built: self.build.has_command(),
        };
        ship::pack(&self.path, &options)
    }

    pub(super) fn name(&self, context: &mut Context) -> Result<Name> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let named = match &self.called {
            Some(text) => name::of_text(text),
            None => name::of_path(&self.path),
        };
        let (name, from) =
            named.ok_or_else(|| Error::usage("the path gives no name; say one with --name"))?;
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
        payload: &Payload<'_>,
    ) -> Result<Function> {
        let path = path(&context.namespace, name.as_str());
        let mut tried = 0;
        let mut earlier = ship::now(client, &path).await?;
        loop {
            tried += 1;
            let is_new = earlier.is_none();
            let (mut function, mut kept) =
                self.document(&context.namespace, settings, name, payload, earlier.clone())?;
            let status = earlier.as_ref().and_then(|f| f.status.as_ref());
            let said = self
                .versions
                .apply(&mut function.spec, status, name, &mut kept)?;
            let sent = if is_new {
                client.put_new(&path, &function).await
            } else {
                client.put(&path, &function).await
            };
            match sent {
                Ok(written) => {
                    if let Some(said) = said {
                        context.note(said);
                    }
                    if !kept.is_empty() {
                        context.note(format!(
                            "kept from the earlier deploy: {} (--reset starts from the defaults)",
                            kept.join(", ")
                        ));
                    }
                    return Ok(written);
                }
                Err(e) if e.status() == Some(409) && tried < TRIES => {
                    let now = ship::now(client, &path).await?;
                    match versions::met(name, earlier.as_ref(), now.as_ref(), &function) {
                        Meeting::Again => earlier = now,
                        Meeting::Lost(error) => return Err(error),
                    }
                }
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
        payload: &Payload<'_>,
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
        // The commit of an earlier deploy says nothing of this one.
        metadata.annotations.remove(SOURCE);
        if let Some(source) = &self.source {
            metadata
                .annotations
                .insert(SOURCE.to_owned(), source.clone());
        }
        match payload {
            Payload::Code(code) => self.of_code(code, &mut spec, &mut kept),
            Payload::Image(image) => {
                let contract = self.contract.as_ref();
                self.image.apply(image, contract, &mut spec, &mut kept);
            }
        }
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

    fn of_code(&self, code: &Uploaded, spec: &mut FunctionSpec, kept: &mut Vec<String>) {
        image::forget(spec);
        let (language, detected) = (code.runtime.as_str(), &code.contract);
        let before = spec.runtime.split(':').next().unwrap_or_default();
        if before != language {
            // How other code was called says nothing about this.
            spec.contract = None;
            spec.handler = None;
        }
        match &self.runtime {
            Some(given) => spec.runtime.clone_from(given),
            None if before == language && spec.runtime.contains(':') => {
                kept.push(format!("runtime {}", spec.runtime));
            }
            None => language.clone_into(&mut spec.runtime),
        }
        spec.code.clone_from(&code.code);
        let contract = match (&self.contract, spec.contract.take()) {
            (Some(given), _) => given.clone(),
            (None, Some(before)) if before != *detected => {
                kept.push(format!("contract {before}"));
                before
            }
            (None, _) => detected.clone(),
        };
        spec.contract = Some(contract);
        self.build.apply(spec, kept);
    }

    fn print(&self, context: &mut Context, client: &Client, function: &Function) -> Result {
        if self.json {
            context.json(function)
        } else {
            context.line(url(client, function))
        }
    }
}
