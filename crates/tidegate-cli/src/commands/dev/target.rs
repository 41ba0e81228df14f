//! What is worked at: code alone, or one function of a manifest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tidegate_core::Name;
use tidegate_manifest::{Input, Source, WantedTrigger};

use crate::client::Client;
use crate::commands::apply::{Action, TriggerWork, Work, load, remove_trigger, trigger_exists};
use crate::commands::deploy::{Deploy, What, is_address};
use crate::commands::functions::url;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::time::elapsed;

/// See the module.
pub(super) enum Target {
    Code {
        deploy: Box<Deploy>,
        name: Name,
        /// Digest of what was sent last, ready or not.
        sent: Option<String>,
    },
    Manifest {
        file: PathBuf,
        root: PathBuf,
        name: Name,
        /// Whether a deploy has gone well.
        ready: bool,
        tried: bool,
        /// Triggers that were made here.
        triggers: BTreeSet<String>,
    },
}

/// What a look at the code led to.
pub(super) enum Shipped {
    /// Nothing that matters has changed.
    Same,
    /// It is called here.
    New(String),
}

impl Target {
    pub(super) fn of(context: &mut Context, what: What, path: &Path) -> Result<Self> {
        if path.to_str().is_some_and(is_address) {
            return Err(Error::usage(
                "a repository elsewhere does not change as you type; clone it, and give the folder",
            ));
        }
        let mut what = what;
        // With a manifest the name chooses among its functions.
        let chosen = what.name.take();
        let mut deploy = what.of(path.to_owned());
        if let Some(file) = deploy.manifest()? {
            return Self::manifest(context, file, chosen.as_ref());
        }
        deploy.name = chosen;
        if !path.exists() {
            return Err(Error::usage(format!(
                "no file or folder {}",
                path.display()
            )));
        }
        let name = deploy.name(context)?;
        deploy.name = Some(name.clone());
        Ok(Self::Code {
            deploy: Box::new(deploy),
            name,
            sent: None,
        })
    }

    fn manifest(context: &mut Context, file: PathBuf, chosen: Option<&Name>) -> Result<Self> {
        let loaded = load(context, &[Input::Path(file.clone())], &[])?;
        let names: Vec<&str> = loaded.functions.iter().map(|f| f.name.as_str()).collect();
        let found = match chosen {
            Some(name) => loaded.functions.iter().find(|f| f.name == *name),
            None if loaded.functions.len() == 1 => loaded.functions.first(),
            None => None,
        };
        let wanted = found.ok_or_else(|| {
            let said = match chosen {
                Some(name) => format!("{} has no function {name}", file.display()),
                None => format!("{} has {} functions", file.display(), names.len()),
            };
            Error::usage(said).hint(format!("choose with --name: {}", names.join(", ")))
        })?;
        let Source::Path { .. } = &wanted.source else {
            return Err(Error::usage(format!(
                "the code of {} is at the server, where it does not change",
                wanted.name
            )));
        };
        if let Some(namespace) = &wanted.namespace {
            namespace.as_str().clone_into(&mut context.namespace);
        }
        let root = file.parent().map(Path::to_owned).unwrap_or_default();
        let root = if root.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            root
        };
        Ok(Self::Manifest {
            name: wanted.name.clone(),
            file,
            root,
            ready: false,
            tried: false,
            triggers: BTreeSet::new(),
        })
    }

    /// What to watch.
    pub(super) fn root(&self) -> &Path {
        match self {
            Self::Code { deploy, .. } => &deploy.path,
            Self::Manifest { root, .. } => root,
        }
    }

    pub(super) fn name(&self) -> &Name {
        match self {
            Self::Code { name, .. } | Self::Manifest { name, .. } => name,
        }
    }

    /// Deploys what is there now, unless it is what was deployed last. `made` is set as soon as the server may have a
    /// function of it; `follows` says that its log is shown anyway.
    pub(super) async fn ship(
        &mut self,
        context: &mut Context,
        client: &Client,
        made: &mut bool,
        follows: bool,
    ) -> Result<Shipped> {
        match self {
            Self::Code { deploy, name, sent } => {
                let packed = deploy.pack()?;
                if sent.as_ref() == Some(&packed.digest) {
                    return Ok(Shipped::Same);
                }
                deploy.follows = follows;
                deploy.verb = sent.is_some().then_some("redeployed");
                *sent = Some(packed.digest.clone());
                *made = true;
                let function = deploy.send(context, client, name, packed).await?;
                Ok(Shipped::New(url(client, &function)))
            }
            Self::Manifest {
                file,
                name,
                ready,
                tried,
                triggers,
                ..
            } => {
                let began = Instant::now();
                let loaded = load(context, &[Input::Path(file.clone())], &[])?;
                let Some(wanted) = loaded.functions.iter().find(|f| f.name == *name) else {
                    return Err(Error::failed(format!(
                        "{} no longer has a function {name}",
                        file.display()
                    )));
                };
                let namespace = context.namespace.clone();
                let work = Work {
                    client,
                    wanted,
                    namespace: &namespace,
                    dry_run: false,
                    wait: true,
                    draw: context.draws(),
                };
                *made = true;
                let outcome = work.run().await;
                let again = std::mem::replace(tried, true);
                for warning in &outcome.warnings {
                    context.warn(warning);
                }
                let unchanged = outcome.action == Action::Unchanged;
                if let Some(error) = outcome.error {
                    if unchanged && again {
                        // It has been told.
                        return Ok(Shipped::Same);
                    }
                    for line in outcome.log.iter().filter(|_| !follows) {
                        context.note(format!("  | {line}"));
                    }
                    return Err(error);
                }
                // A function of this name in another namespace is another.
                let is_here = |t: &&WantedTrigger| {
                    let elsewhere = t
                        .namespace
                        .as_ref()
                        .is_some_and(|n| n.as_str() != namespace);
                    t.function() == name.as_str() && !elsewhere
                };
                let wanted = loaded.triggers.iter().filter(is_here);
                follow(context, client, wanted, triggers).await?;
                if unchanged && *ready {
                    return Ok(Shipped::Same);
                }
                *ready = true;
                if !unchanged {
                    let verb = if again { "redeployed" } else { "deployed" };
                    context.note(format!("{verb} {name} in {}", elapsed(began.elapsed())));
                }
                Ok(Shipped::New(outcome.url.unwrap_or_default()))
            }
        }
    }

    /// Takes away the triggers that were made here, as far as the server is there.
    pub(super) async fn take_back(&mut self, context: &mut Context, client: &Client) {
        if let Self::Manifest { triggers, .. } = self {
            for name in std::mem::take(triggers) {
                take_back(context, client, &name).await;
            }
        }
    }
}

/// Brings the triggers that a function is to have in line with what its manifest says. Those that were there before are
/// somebody's, and stay when they are no longer wanted.
async fn follow(
    context: &mut Context,
    client: &Client,
    wanted: impl Iterator<Item = &WantedTrigger>,
    made: &mut BTreeSet<String>,
) -> Result {
    let mut left_over = made.clone();
    for wanted in wanted {
        let namespace = context.namespace.clone();
        let work = TriggerWork {
            client,
            wanted,
            namespace: &namespace,
            dry_run: false,
        };
        let name = wanted.name.as_str();
        // Noted before it is made: whoever ends this in the midst of it is not to leave a trigger that fires for good.
        let is_new = !made.contains(name) && !trigger_exists(client, &namespace, name).await?;
        if is_new {
            made.insert(name.to_owned());
        }
        let outcome = work.run().await;
        let shown = outcome.shown(&namespace);
        left_over.remove(&outcome.name);
        for warning in &outcome.warnings {
            context.warn(format!("{shown}: {warning}"));
        }
        if let Some(error) = outcome.error {
            return Err(error);
        }
        if outcome.action == Action::Created {
            made.insert(name.to_owned());
        } else if is_new {
            // Somebody else was quicker.
            made.remove(name);
        }
        if outcome.action != Action::Unchanged {
            let next = outcome.next.map(|next| format!(", next at {next}"));
            let next = next.unwrap_or_default();
            context.note(format!("{} {shown}{next}", outcome.action.done()));
        }
    }
    for name in left_over {
        made.remove(&name);
        take_back(context, client, &name).await;
    }
    Ok(())
}

async fn take_back(context: &mut Context, client: &Client, name: &str) {
    let namespace = context.namespace.clone();
    match remove_trigger(client, &namespace, name).await {
        Ok(true) => context.note(format!("deleted trigger {name}")),
        // It was never made, or somebody else did.
        Ok(false) => {}
        Err(error) => context.warn(format!("trigger {name} is still there: {}", error.message)),
    }
}
