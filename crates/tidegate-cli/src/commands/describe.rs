//! `describe`.

use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;
use tidegate_core::Name;
use tidegate_document::{
    Function, FunctionSpec, FunctionStatus, Instances, Revision, RolloutPhase, SecretUse,
    TrafficStatus,
};

use super::functions::{get, path, url};
use crate::client::{ANSWER, Client};
use crate::context::Context;
use crate::error::Result;
use crate::time::age;

/// Show everything about a function
#[derive(Args)]
pub(crate) struct Describe {
    /// The function
    name: Name,
    /// Show one of its revisions instead, by its word, a tag or 'latest'
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Describe {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        if let Some(revision) = &self.revision {
            return self.one(context, &client, revision).await;
        }
        let function = get(&client, &context.namespace, self.name.as_str()).await?;
        if self.json {
            return context.json(&function);
        }
        let text = describe(&function, &url(&client, &function), Timestamp::now());
        context.text(&text)
    }

    async fn one(&self, context: &mut Context, client: &Client, revision: &str) -> Result {
        // So that a function that is not there is told as such.
        let function = get(client, &context.namespace, self.name.as_str()).await?;
        let name = &function.metadata.name;
        let mut target = path(&context.namespace, name);
        let word: String = utf8_percent_encode(revision);
        target.push_str(&format!("/revisions/{word}"));
        let revision: Revision = client.get(&target, &[], ANSWER).await?;
        if self.json {
            return context.json(&revision);
        }
        let text = describe_revision(name, &revision, Timestamp::now());
        context.text(&text)
    }
}

/// A word as a part of a path: whatever no revision has is written out.
fn utf8_percent_encode(word: &str) -> String {
    word.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

fn describe_revision(name: &str, revision: &Revision, now: Timestamp) -> String {
    let (meta, spec, status) = (&revision.metadata, &revision.spec, &revision.status);
    let mut page = Page(String::new());
    page.row("Revision", &meta.name);
    page.row("Function", name);
    page.row("Namespace", &meta.namespace);
    page.row("Number", &spec.number.to_string());
    page.row(
        "Cause",
        &format!("{} (generation {})", spec.cause, spec.generation),
    );
    page.row("Status", &format!("{:?}", status.phase));
    page.row("Message", &status.message);
    let mut name = "Log";
    for line in &status.log {
        page.row(name, line);
        name = "";
    }
    let age = age(&meta.creation_timestamp, now);
    page.row(
        "Created",
        &format!("{} ({age} ago)", meta.creation_timestamp),
    );
    page.row("Traffic", &format!("{} %", status.percent));
    let latest = status.latest.then(|| "latest".to_owned());
    let tags: Vec<String> = latest.into_iter().chain(status.tags.clone()).collect();
    page.row("Tags", &tags.join(", "));
    code(&mut page, &spec.function);
    let scale = &spec.function.scale;
    let concurrency = scale.concurrency.map(|n| n.to_string());
    page.row("Scale", &set(&[("concurrency", concurrency)]));
    access(&mut page, &spec.function);
    instances(&mut page, status.instances);
    page.row(
        "Invocations",
        &format!("{}, {} failed", status.invocations, status.errors),
    );
    page.0
}

fn describe(function: &Function, url: &str, now: Timestamp) -> String {
    let (meta, spec) = (&function.metadata, &function.spec);
    let status = function.status.clone().unwrap_or_default();
    let mut page = Page(String::new());
    page.row("Name", &meta.name);
    page.row("Namespace", &meta.namespace);
    page.row("URL", url);
    page.row("Status", &format!("{:?}", status.phase));
    page.row("Message", &status.message);
    page.row("Revision", &status.revision);
    traffic(&mut page, &status);
    let age = age(&meta.creation_timestamp, now);
    page.row(
        "Created",
        &format!("{} ({age} ago)", meta.creation_timestamp),
    );
    page.map("Labels", &meta.labels);
    code(&mut page, spec);
    if let Some(image) = &status.image {
        // An earlier revision that takes calls runs what it always ran.
        let newest = |part: &TrafficStatus| part.revision == status.revision;
        let of = if status.traffic.iter().all(newest) {
            String::new()
        } else {
            format!(" in {}", status.revision)
        };
        page.row("Image is", &format!("{}{of}", image.digest));
    }
    let scale = &spec.scale;
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    let scale = [
        ("min", number(scale.min)),
        ("max", number(scale.max)),
        ("initial", number(scale.initial)),
        ("concurrency", number(scale.concurrency)),
        ("target", scale.target.map(|n| format!("{n}%"))),
        ("idle", scale.idle.clone()),
    ];
    page.row("Scale", &set(&scale));
    access(&mut page, spec);
    instances(&mut page, status.instances);
    page.row("Invocations", &status.invocations.to_string());
    page.0
}

/// Who takes the calls, where that is not simply the newest.
fn traffic(page: &mut Page, status: &FunctionStatus) {
    let newest = |part: &TrafficStatus| {
        part.revision == status.revision && part.percent == 100 && part.tags.is_empty()
    };
    if !status.traffic.iter().all(newest) {
        let mut name = "Traffic";
        for part in &status.traffic {
            let tags = match part.tags.as_slice() {
                [] => String::new(),
                tags => format!(" ({})", tags.join(", ")),
            };
            let line = format!("{:>3} % {}{tags}", part.percent, part.revision);
            page.row(name, &line);
            name = "";
        }
    }
    if let Some(rollout) = &status.rollout
        && rollout.phase == RolloutPhase::Running
    {
        page.row(
            "Rollout",
            &format!("{} % so far, instead of {}", rollout.percent, rollout.from),
        );
    }
}

/// Code and configuration.
fn code(page: &mut Page, spec: &FunctionSpec) {
    page.row("Runtime", &spec.runtime);
    page.row("Contract", spec.contract.as_deref().unwrap_or(""));
    page.row("Image", spec.image.as_deref().unwrap_or(""));
    let command: Vec<&str> = spec
        .command
        .iter()
        .chain(&spec.args)
        .map(String::as_str)
        .collect();
    page.row("Command", &command.join(" "));
    page.row(
        "Port",
        &spec.port.map_or_else(String::new, |port| port.to_string()),
    );
    page.row("Entry", &spec.code.entry);
    page.row("Code", &spec.code.digest);
    page.row("Handler", spec.handler.as_deref().unwrap_or(""));
    page.map("Environment", &spec.env);
    let secrets: Vec<String> = spec.secrets.iter().map(secret).collect();
    page.row("Secrets", &secrets.join(", "));
    let limits = &spec.limits;
    let limits = [
        ("memory", limits.memory.clone()),
        ("cpu", limits.cpu.clone()),
        ("pids", limits.pids.map(|n| n.to_string())),
        ("tmp", limits.tmp.clone()),
        ("timeout", limits.timeout.clone()),
        ("body", limits.body.clone()),
    ];
    page.row("Limits", &set(&limits));
}

fn access(page: &mut Page, spec: &FunctionSpec) {
    page.row("Network", spec.network.as_deref().unwrap_or(""));
    if let Some(egress) = &spec.egress {
        let all = egress.join(", ");
        let all = if all.is_empty() {
            "other functions alone"
        } else {
            &all
        };
        page.row("Egress", all);
    }
    page.row("Access", spec.access.as_deref().unwrap_or(""));
    page.row("Records", spec.records.as_deref().unwrap_or(""));
}

fn instances(page: &mut Page, i: Instances) {
    page.row(
        "Instances",
        &format!(
            "{} idle, {} busy, {} starting, {} draining; {} calls waiting",
            i.idle, i.busy, i.starting, i.draining, i.queued
        ),
    );
}

/// What is set, `memory 256Mi, cpu 1`.
fn set(values: &[(&str, Option<String>)]) -> String {
    let set: Vec<String> = values
        .iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)))
        .collect();
    if set.is_empty() {
        "defaults".to_owned()
    } else {
        set.join(", ")
    }
}

fn secret(secret: &SecretUse) -> String {
    match &secret.env {
        Some(env) => format!("{} as ${env}", secret.name),
        None => format!("{} in /run/secrets/{}", secret.name, secret.name),
    }
}

/// Names and values, a line each.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// A row, unless there is nothing to say.
    pub(super) fn row(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let name = match name {
                "" => String::new(),
                name => format!("{name}:"),
            };
            writeln!(self.0, "{name:<13}{value}").expect("writing to a string does not fail");
        }
    }

    pub(super) fn text(self) -> String {
        self.0
    }

    pub(super) fn map(&mut self, name: &str, values: &std::collections::BTreeMap<String, String>) {
        let mut name = name;
        for (key, value) in values {
            if name.is_empty() {
                writeln!(self.0, "{:<13}{key}={value}", "")
                    .expect("writing to a string does not fail");
            } else {
                self.row(name, &format!("{key}={value}"));
                name = "";
            }
        }
    }
}
