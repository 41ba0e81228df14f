//! One function on its way: its image built, the function deployed and waited for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tidegate_openfaas::FunctionDeployment;
use tidegate_openfaas::build::{BuildResult, BuildState};
use tidegate_openfaas::seal::seal;
use tidegate_openfaas::stack::{Recipe, StackFunction};

use super::context::{Packed, Places, assemble, secrets};
use super::shown;
use crate::client::{Deployed, Gateway, Status, USUAL_NAMESPACE};
use crate::commands::apply::difference::difference;
use crate::commands::apply::{Action, Outcome};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::progress;
use crate::time::elapsed;

/// How long an instance is waited for. Its image is built by then, so that what is left is a start, which has its own,
/// shorter limit at the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Wait between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Lines shown of a build or a start that failed.
const SHOWN: usize = 20;

/// An annotation that servers add where it is not given.
const SCRAPE: &str = "prometheus.io.scrape";

/// What Tidegate notes on functions.
const OURS: &str = "tidegate.dev/";

/// See the module.
pub(super) struct Ship<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) function: &'a StackFunction,
    pub(super) namespace: Option<String>,
    pub(super) places: &'a Places,
    pub(super) copy: &'a [String],
}

impl Ship<'_> {
    pub(super) fn outcome(&self) -> Outcome {
        let namespace = self.namespace.as_deref();
        // Its two names are one.
        let namespace = namespace
            .filter(|n| *n != USUAL_NAMESPACE)
            .unwrap_or("default");
        Outcome::new(namespace, &self.function.deployment.service)
    }

    /// Has the image built, telling what the build says as it goes; where nothing is to be changed, only looks whether
    /// everything for it is there.
    pub(super) async fn build(
        &self,
        context: &mut Context,
        dry_run: bool,
        outcome: &mut Outcome,
    ) -> Result {
        let Some(recipe) = &self.function.recipe else {
            return Ok(());
        };
        let packed = assemble(self.places, recipe, self.copy)?;
        outcome.warnings.extend(packed.warnings.iter().cloned());
        let secrets = secrets(self.places, recipe)?;
        let handler = self.places.path(&recipe.handler);
        let what = shown(self.function, &handler);
        if dry_run {
            let files = match packed.handler_files {
                1 => "1 file".to_owned(),
                n => format!("{n} files"),
            };
            outcome.notes.push(format!(
                "would build {what} ({files}, template {})",
                recipe.lang
            ));
            return Ok(());
        }
        context.note(format!("> build {what} with template {}", recipe.lang));
        let sealed = if secrets.is_empty() {
            None
        } else {
            let key = self.gateway.public_key().await?;
            let sealed = seal(&key, &secrets);
            Some(sealed.map_err(|e| Error::failed("cannot seal the build's secrets").because(&e))?)
        };
        let said = self
            .send(context, packed, recipe, sealed.as_deref())
            .await?;
        if let Err((lines, why)) = said {
            // On a terminal they have been read as they came.
            if context.quiet {
                outcome.log = lines;
            }
            let name = &self.function.deployment.service;
            return Err(Error::failed(format!("{name} could not be built: {why}")));
        }
        Ok(())
    }

    /// Sends the context and tells the lines; gives the last of them where it failed.
    async fn send(
        &self,
        context: &mut Context,
        packed: Packed,
        recipe: &Recipe,
        sealed: Option<&[u8]>,
    ) -> Result<Result<(), (Vec<String>, String)>> {
        let config = packed.config(&self.function.deployment.image, recipe);
        let archive = packed.archive(&config, sealed, self.gateway.secret())?;
        let bar = progress::bytes(context.draws(), "uploading", archive.size);
        let counted = bar.clone();
        let signature = archive.signature.as_deref();
        let answer = self
            .gateway
            .build(archive.file, archive.size, signature, move |n| {
                counted.inc(n);
            })
            .await;
        bar.finish_and_clear();
        let mut answer = answer?;
        let mut last = VecDeque::new();
        while let Some(result) = answer.next::<BuildResult>().await? {
            for line in result.log.iter().flat_map(|text| text.lines()) {
                context.note(format!("  | {line}"));
                if last.len() == SHOWN {
                    last.pop_front();
                }
                last.push_back(line.to_owned());
            }
            match result.status {
                BuildState::InProgress => {}
                BuildState::Success => return Ok(Ok(())),
                BuildState::Failed => {
                    let why = result.error.trim();
                    let why = match why.strip_prefix("build failed: ").unwrap_or(why) {
                        "" => "the server gives no reason".to_owned(),
                        why => why.to_owned(),
                    };
                    return Ok(Err((last.into(), why)));
                }
            }
        }
        Ok(Err((
            last.into(),
            "the server did not say how it ended".to_owned(),
        )))
    }

    /// Deploys, and waits if told to.
    pub(super) async fn deploy(&self, dry_run: bool, wait: bool, outcome: &mut Outcome) -> Result {
        let deployment = self.deployment()?;
        let (namespace, name) = (self.namespace.as_deref(), deployment.service.as_str());
        if dry_run {
            let there = self.gateway.function(namespace, name).await?;
            outcome.action = match &there {
                Some(_) => Action::Updated,
                None => Action::Created,
            };
            let wanted = of_deployment(&deployment);
            outcome.difference = difference(there.map(|s| of_status(&s)).as_ref(), &wanted);
            if outcome.action == Action::Updated
                && outcome.difference.is_empty()
                && self.function.recipe.is_none()
            {
                outcome.action = Action::Unchanged;
            }
            return Ok(());
        }
        outcome.action = match self.gateway.deploy(&deployment).await? {
            Deployed::Created => Action::Created,
            Deployed::Updated => Action::Updated,
            Deployed::Unchanged => Action::Unchanged,
        };
        outcome.url = Some(self.gateway.function_url(namespace, name));
        match wait {
            true => self.wait(outcome).await,
            false => Ok(()),
        }
    }

    /// What the server is told. The template's own process is named where the template is here, as OpenFaaS's command line
    /// does; else the server knows it.
    fn deployment(&self) -> Result<FunctionDeployment> {
        let mut deployment = self.function.deployment.clone();
        deployment.namespace.clone_from(&self.namespace);
        if let Some(recipe) = &self.function.recipe
            && deployment.env_process.is_none()
            && let Some(folder) = self.places.template(&recipe.lang)
        {
            let template = super::template(&folder)?;
            deployment.env_process = template.fprocess.filter(|p| !p.is_empty());
        }
        Ok(deployment)
    }

    async fn wait(&self, outcome: &mut Outcome) -> Result {
        let namespace = self.namespace.as_deref();
        let name = self.function.deployment.service.as_str();
        let began = Instant::now();
        let mut serves = false;
        let why = loop {
            match self.gateway.function(namespace, name).await? {
                Some(status) => match (status.trouble(), status.phase.as_deref()) {
                    (Some(why), _) => {
                        serves = status.available_replicas > 0;
                        break format!("{name} could not be started: {why}");
                    }
                    // What is available may be of the deployment before.
                    (None, Some("pending")) => {}
                    (None, Some("ready")) => return Ok(()),
                    (None, _) if status.available_replicas > 0 => return Ok(()),
                    // Nothing is to run until the first call.
                    (None, _) if status.replicas == 0 => return Ok(()),
                    (None, _) => {}
                },
                None => return Err(Error::failed(format!("{name} was deleted meanwhile"))),
            }
            if began.elapsed() > PATIENCE {
                break format!("{name} is still not ready after {}", elapsed(PATIENCE));
            }
            tokio::time::sleep(PAUSE).await;
        };
        let lines = u32::try_from(SHOWN).unwrap_or(u32::MAX);
        // Whatever goes wrong here, the function is not ready.
        let log = self.gateway.last_lines(namespace, name, lines).await;
        outcome.log = log.unwrap_or_default();
        let error = Error::failed(why);
        Err(match serves {
            true => error.hint("the deployment before it keeps serving"),
            false => error,
        })
    }
}

/// What is there, in the form that differences are told in.
fn of_status(status: &Status) -> Json {
    let mut labels = status.labels.clone().unwrap_or_default();
    let mut annotations = status.annotations.clone().unwrap_or_default();
    // The server's own.
    for key in ["faas_function", "uid"] {
        labels.remove(key);
    }
    annotations.retain(|key, _| key != SCRAPE && !key.starts_with(OURS));
    json!({
        "metadata": { "labels": labels, "annotations": annotations },
        "spec": {
            "image": status.image,
            "fprocess": status.env_process,
            "env": status.env_vars,
            "constraints": status.constraints,
            "secrets": status.secrets,
            "limits": status.limits,
            "requests": status.requests,
            "readOnlyRootFilesystem": status.read_only_root_filesystem.then_some(true),
        },
    })
}

fn of_deployment(deployment: &FunctionDeployment) -> Json {
    let mut annotations = deployment.annotations.clone().unwrap_or_default();
    annotations.remove(SCRAPE);
    json!({
        "metadata": { "labels": deployment.labels, "annotations": annotations },
        "spec": {
            "image": deployment.image,
            "fprocess": deployment.env_process,
            "env": deployment.env_vars,
            "constraints": deployment.constraints,
            "secrets": deployment.secrets,
            "limits": deployment.limits,
            "requests": deployment.requests,
            "readOnlyRootFilesystem": deployment.read_only_root_filesystem.then_some(true),
        },
    })
}
