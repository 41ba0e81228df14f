//! `describe`.

use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;
use tidegate_core::Name;
use tidegate_document::{Function, SecretUse};

use super::functions::{get, url};
use crate::context::Context;
use crate::error::Result;
use crate::time::age;

/// Show everything about a function
#[derive(Args)]
pub(crate) struct Describe {
    /// The function
    name: Name,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Describe {
    pub(crate) async fn run(self, context: &mut Context) -> Result {
        let client = context.client()?;
        let function = get(&client, &context.namespace, self.name.as_str()).await?;
        if self.json {
            return context.json(&function);
        }
        let text = describe(&function, &url(&client, &function), Timestamp::now());
        context.bytes(text.as_bytes())
    }
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
    let age = age(&meta.creation_timestamp, now);
    page.row(
        "Created",
        &format!("{} ({age} ago)", meta.creation_timestamp),
    );
    page.map("Labels", &meta.labels);
    page.row("Runtime", &spec.runtime);
    page.row("Contract", spec.contract.as_deref().unwrap_or(""));
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
    page.row("Network", spec.network.as_deref().unwrap_or(""));
    page.row("Access", spec.access.as_deref().unwrap_or(""));
    let i = status.instances;
    page.row(
        "Instances",
        &format!(
            "{} idle, {} busy, {} starting, {} draining; {} calls waiting",
            i.idle, i.busy, i.starting, i.draining, i.queued
        ),
    );
    page.row("Invocations", &status.invocations.to_string());
    page.0
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

struct Page(String);

impl Page {
    /// A row, unless there is nothing to say.
    fn row(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            writeln!(self.0, "{:<13}{value}", format!("{name}:"))
                .expect("writing to a string does not fail");
        }
    }

    fn map(&mut self, name: &str, values: &std::collections::BTreeMap<String, String>) {
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
