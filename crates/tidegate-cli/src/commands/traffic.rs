//! `traffic`, `promote` and `rollback`: who takes a function's calls.

use clap::Args;
use tidegate_core::Name;
use tidegate_core::traffic::LATEST;
use tidegate_document::{
    Function, FunctionStatus, Promotion, Rollback as Back, RolloutPhase, Traffic as Part,
    TrafficChange,
};

use super::deploy::{Gradual, Ship, tag};
use super::functions::{get, missing, path, short};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::table::Table;

/// How long the server holds its answer until the traffic is as asked, in seconds.
const HOLD: &str = "20";

/// Show or change who takes a function's calls
///
/// `tidegate traffic NAME` shows it; `tidegate traffic NAME 3f2a1b4c5d6e=90 latest=10` splits it. A change makes no new
/// revision and restarts nothing.
#[derive(Args)]
pub(crate) struct Traffic {
    /// The function
    name: Name,
    /// Revision, tag or 'latest', and its percent of the calls; all together make 100
    #[arg(value_name = "REVISION=PERCENT", value_parser = part)]
    parts: Vec<(String, u8)>,
    /// Name a revision, which is then called at TAG---NAME as well; can be given many times
    #[arg(long = "tag", value_name = "TAG=REVISION", value_parser = tagged)]
    tags: Vec<(String, String)>,
    /// Take a tag away; can be given many times
    #[arg(long, value_name = "TAG")]
    untag: Vec<String>,
    /// Print the traffic as JSON
    #[arg(long)]
    json: bool,
}

/// Give a version of a function all of its calls
///
/// By default the newest that is ready. At once, or little by little with --over.
#[derive(Args)]
pub(crate) struct Promote {
    /// The function
    name: Name,
    /// The revision, a tag, or 'latest'
    #[arg(default_value = LATEST)]
    revision: String,
    #[command(flatten)]
    rollout: Gradual,
    /// Print the function as JSON
    #[arg(long)]
    json: bool,
}

/// Give the calls of a function back to an earlier version, at once
///
/// By default the ready one before the one that has most of the calls now. The next deploy takes them again.
#[derive(Args)]
pub(crate) struct Rollback {
    /// The function
    name: Name,
    /// Another revision to go back to, or a tag
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// Print the function as JSON
    #[arg(long)]
    json: bool,
}

impl Traffic {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let before = get(&client, &context.namespace, self.name.as_str()).await?;
        if self.parts.is_empty() && self.tags.is_empty() && self.untag.is_empty() {
            return self.show(context, &before);
        }
        let change = self.change(&before)?;
        let target = target(context, &self.name, "traffic");
        let sent = client
            .put_waiting(&target, &[("wait", HOLD)], &change)
            .await;
        let function = arrived(context, &client, &self.name, sent).await?;
        context.note(format!("traffic of {}: {}", self.name, shares(&function)));
        if self.json {
            self.show(context, &function)?;
        }
        Ok(())
    }

    fn show(&self, context: &mut Context, function: &Function) -> Result {
        let status = function.status.clone().unwrap_or_default();
        if self.json {
            return context.json(&status.traffic);
        }
        if status.traffic.is_empty() {
            context.note(format!(
                "{} has no revision that takes calls yet",
                self.name
            ));
            return Ok(());
        }
        let mut table = Table::new(&[
            "REVISION",
            "TRAFFIC",
            "TAGS",
            "INSTANCES",
            "CALLS",
            "ERRORS",
        ]);
        for part in &status.traffic {
            table.row(vec![
                part.revision.clone(),
                format!("{}%", part.percent),
                match part.tags.as_slice() {
                    [] => "-".to_owned(),
                    tags => tags.join(","),
                },
                (part.instances.idle + part.instances.busy).to_string(),
                part.invocations.to_string(),
                part.errors.to_string(),
            ]);
        }
        context.line(table.render())?;
        if let Some(rollout) = &status.rollout {
            match rollout.phase {
                RolloutPhase::Running => context.note(format!(
                    "rolling out {}: {} % so far, instead of {}",
                    rollout.revision, rollout.percent, rollout.from
                )),
                RolloutPhase::RolledBack => context.note(rollout.message.clone()),
                RolloutPhase::Done => {}
            }
        }
        Ok(())
    }

    /// The new traffic: the parts that are given or else those there are, and the tags.
    fn change(&self, before: &Function) -> Result<TrafficChange> {
        let newest = before.status.as_ref().map_or("", |s| s.revision.as_str());
        let mut traffic: Vec<Part> = if self.parts.is_empty() {
            let whole = Part {
                latest: true,
                percent: 100,
                ..Part::default()
            };
            let kept = before.spec.traffic.iter().filter(|p| p.percent > 0);
            let kept: Vec<Part> = kept
                .map(|p| Part {
                    tag: None,
                    ..p.clone()
                })
                .collect();
            if kept.is_empty() { vec![whole] } else { kept }
        } else {
            let sum: u32 = self.parts.iter().map(|(_, n)| u32::from(*n)).sum();
            if sum != 100 {
                return Err(Error::usage(format!(
                    "the percents sum to {sum}, not to 100"
                )));
            }
            let part = |(word, percent): &(String, u8)| to(word, *percent, None);
            self.parts.iter().map(part).collect()
        };
        let mut gone: Vec<&str> = self.untag.iter().map(String::as_str).collect();
        for tag in &gone {
            let is_there = |p: &&Part| p.tag.as_deref() == Some(*tag);
            if !before.spec.traffic.iter().any(|p| is_there(&p)) {
                return Err(Error::failed(format!("{} has no tag {tag}", self.name)));
            }
        }
        gone.extend(self.tags.iter().map(|(tag, _)| tag.as_str()));
        for part in &before.spec.traffic {
            if let Some(tag) = part.tag.as_deref().filter(|tag| !gone.contains(tag)) {
                let revision = part.revision.as_deref().unwrap_or(newest);
                traffic.push(to(revision, 0, Some(tag)));
            }
        }
        for (tag, word) in &self.tags {
            // A tag stays where it is put, however many newer ones come.
            let revision = if word == LATEST { newest } else { word };
            traffic.push(to(revision, 0, Some(tag)));
        }
        Ok(TrafficChange { traffic })
    }
}

impl Promote {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let promotion = Promotion {
            revision: Some(self.revision.clone()),
            rollout: self.rollout.rollout(),
        };
        let target = target(context, &self.name, "promote");
        let sent = client
            .post_waiting(&target, &[("wait", HOLD)], &promotion)
            .await;
        let function = arrived(context, &client, &self.name, sent).await?;
        let status = function.status.clone().unwrap_or_default();
        let running = status
            .rollout
            .as_ref()
            .filter(|r| r.phase == RolloutPhase::Running);
        context.note(match running {
            Some(rollout) => format!(
                "promoting {} of {}: it takes {} % of the calls now, instead of {}; 'tidegate revisions {}' tells how it goes",
                rollout.revision, self.name, rollout.percent, rollout.from, self.name
            ),
            None => format!("promoted {}: {}", self.name, shares(&function)),
        });
        if self.json {
            context.json(&function)?;
        }
        Ok(())
    }
}

impl Rollback {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let before = get(&client, &context.namespace, self.name.as_str()).await?;
        let back = Back {
            to: self.to.clone(),
        };
        let target = target(context, &self.name, "rollback");
        let sent = client.post_waiting(&target, &[("wait", HOLD)], &back).await;
        let function = arrived(context, &client, &self.name, sent).await?;
        context.note(format!(
            "rolled back {} from {} to {}; the next deploy takes its calls again",
            self.name,
            most(&before),
            most(&function)
        ));
        if self.json {
            context.json(&function)?;
        }
        Ok(())
    }
}

fn target(context: &Context, name: &Name, what: &str) -> String {
    format!("{}/{what}", path(&context.namespace, name.as_str()))
}

/// The function once its traffic is as it was asked to be.
async fn arrived(
    context: &Context,
    client: &Client,
    name: &Name,
    sent: Result<Function, crate::client::Error>,
) -> Result<Function> {
    let written = match sent {
        Ok(function) => function,
        // One that names the function's revisions is answered with those that there are.
        Err(error) if error.to_string().contains("revision") => return Err(error.into()),
        Err(error) => return Err(missing(client, error, &context.namespace, name.as_str()).await),
    };
    let ship = Ship {
        client,
        namespace: &context.namespace,
        name,
    };
    let function = ship.settled(&written).await?;
    let status = function.status.clone().unwrap_or_default();
    if is_as_asked(&function, &status) {
        return Ok(function);
    }
    Err(Error::failed(format!(
        "the traffic of {name} was not changed: {}",
        status.message
    ))
    .hint(format!("it stays as it was: {}", shares(&function))))
}

fn is_as_asked(function: &Function, status: &FunctionStatus) -> bool {
    let running = |r: &tidegate_document::RolloutStatus| r.phase == RolloutPhase::Running;
    if status.rollout.as_ref().is_some_and(running) {
        return true;
    }
    let has = |revision: &str, percent: u32| {
        let mut parts = status.traffic.iter();
        parts.any(|p| p.revision == revision && u32::from(p.percent) >= percent)
    };
    if function.spec.traffic.is_empty() {
        return has(&status.revision, 100);
    }
    function.spec.traffic.iter().all(|part| {
        let revision = part.revision.as_deref().unwrap_or(&status.revision);
        part.percent == 0 || has(revision, u32::from(part.percent))
    })
}

/// `3f2a1b4c5d6e 90 %, 0a1b2c3d4e5f 10 %`.
fn shares(function: &Function) -> String {
    let status = function.status.clone().unwrap_or_default();
    let parts: Vec<String> = status
        .traffic
        .iter()
        .map(|part| {
            let tags = match part.tags.as_slice() {
                [] => String::new(),
                tags => format!(" ({})", tags.join(", ")),
            };
            format!("{} {} %{tags}", short(&part.revision), part.percent)
        })
        .collect();
    parts.join(", ")
}

fn most(function: &Function) -> String {
    let status = function.status.clone().unwrap_or_default();
    let first = status.traffic.first();
    first.map_or_else(
        || "nothing".to_owned(),
        |part| short(&part.revision).to_owned(),
    )
}

fn to(word: &str, percent: u8, tag: Option<&str>) -> Part {
    Part {
        revision: (word != LATEST).then(|| word.to_owned()),
        latest: word == LATEST,
        percent,
        tag: tag.map(str::to_owned),
    }
}

fn part(text: &str) -> Result<(String, u8), String> {
    let read = text.split_once('=').and_then(|(word, percent)| {
        let percent = percent.strip_suffix('%').unwrap_or(percent);
        let percent = percent.parse().ok().filter(|n| *n <= 100)?;
        (!word.is_empty()).then(|| (word.to_owned(), percent))
    });
    read.ok_or_else(|| "write it as REVISION=PERCENT, such as latest=10".to_owned())
}

fn tagged(text: &str) -> Result<(String, String), String> {
    let (name, revision) = text
        .split_once('=')
        .filter(|(_, revision)| !revision.is_empty())
        .ok_or_else(|| "write it as TAG=REVISION, such as beta=latest".to_owned())?;
    Ok((tag(name)?, revision.to_owned()))
}
