//! A function that a schedule calls, as its manifest says; the schedule's time is not waited for.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Demo;

/// What the account calls it, which is the function's name too.
pub(super) const NAME: &str = "moon";
/// Relative to the workspace.
const MANIFEST: &str = "examples/moon/tidegate.toml";
/// The trigger of the manifest.
const TRIGGER: &str = "morning";

/// The steps in their order: what each shows, and how.
type Step = fn(&Demo<'_>) -> Result<String>;
pub(super) const STEPS: [(&str, Step); 3] = [
    ("tidegate apply", applied),
    ("when it is next", next),
    ("fired at once, through the queue", fired),
];

fn applied(demo: &Demo<'_>) -> Result<String> {
    demo.server.apply(&demo.root.join(MANIFEST))?;
    Ok(MANIFEST.to_owned())
}

fn next(demo: &Demo<'_>) -> Result<String> {
    let shown = demo.server.run(&["trigger", "show", TRIGGER, "--json"])?;
    let shown: Value = serde_json::from_str(&shown).context("it printed no JSON")?;
    let upcoming = shown["status"]["upcoming"].as_array();
    let next = upcoming.and_then(|all| all.first()?.as_str());
    let next = next.context("it has no next time")?;
    ensure!(next.contains("T05:30:00"), "next at {next}");
    Ok(next.to_owned())
}

fn fired(demo: &Demo<'_>) -> Result<String> {
    let id = demo.server.run(&["trigger", "fire", TRIGGER])?;
    let id = id.trim();
    let answer = demo.server.run(&["queue", "result", id, "--wait"])?;
    let answer: Value = serde_json::from_str(&answer).context("it answered no JSON")?;
    let phase = answer["phase"].as_str().context("it told no phase")?;
    Ok(format!(
        "{phase}, {} tides",
        answer["tides"].as_str().unwrap_or("?")
    ))
}
