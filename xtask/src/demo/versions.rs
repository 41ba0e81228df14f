//! Versions of one function at work: a second beside the first, both with half of the calls, the second alone, and back.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::Demo;
use super::curl::{Reply, Request};

/// The function that all of it is shown with.
pub(super) const NAME: &str = "greeting";
/// Calls under a split of one half each. That one half gets none of them by chance happens once in 2^63 runs.
const CALLS: usize = 64;
const REVISION: &str = "x-tidegate-revision:";

/// The revisions as they come to be.
#[derive(Default)]
pub(super) struct Versions {
    url: String,
    first: String,
    second: String,
}

/// The steps in their order: what each shows, and how.
type Step = fn(&mut Versions, &Demo<'_>) -> Result<String>;
pub(super) const STEPS: [(&str, Step); 5] = [
    ("a first version", Versions::first),
    ("a second takes over", Versions::second),
    ("tidegate traffic, half and half", Versions::split),
    ("tidegate promote", Versions::promote),
    ("tidegate rollback", Versions::rollback),
];

impl Versions {
    fn first(&mut self, demo: &Demo<'_>) -> Result<String> {
        self.first = self.deploy(demo, "good morning")?;
        Ok(format!("revision {}", self.first))
    }

    fn second(&mut self, demo: &Demo<'_>) -> Result<String> {
        self.second = self.deploy(demo, "good evening")?;
        ensure!(
            self.second != self.first,
            "another text is not another revision"
        );
        Ok(format!("revision {}", self.second))
    }

    fn split(&mut self, demo: &Demo<'_>) -> Result<String> {
        let parts = [format!("{}=50", self.first), format!("{}=50", self.second)];
        demo.server.run(&["traffic", NAME, &parts[0], &parts[1]])?;
        let seen = self.answers(demo, CALLS)?;
        let count = |text: &str| seen.get(text).copied().unwrap_or(0);
        let (morning, evening) = (count("good morning"), count("good evening"));
        ensure!(
            morning > 0 && evening > 0 && morning + evening == CALLS,
            "of {CALLS} answers {morning} were of the first, {evening} of the second"
        );
        Ok(format!("{morning} and {evening} of {CALLS} calls"))
    }

    fn promote(&mut self, demo: &Demo<'_>) -> Result<String> {
        demo.server.run(&["promote", NAME, &self.second])?;
        self.all_say(demo, "good evening")
    }

    fn rollback(&mut self, demo: &Demo<'_>) -> Result<String> {
        demo.server.run(&["rollback", NAME])?;
        self.all_say(demo, "good morning")
    }

    /// Deploys a version that answers `text`; returns its revision, as its answers name it.
    fn deploy(&mut self, demo: &Demo<'_>, text: &str) -> Result<String> {
        let file = demo.home.path().join("greeting.py");
        fs::write(
            &file,
            format!("def handler(event, context):\n    return {text:?}\n"),
        )
        .context("cannot write the function")?;
        self.url = demo.server.deploy(&file, NAME, &[])?;
        let reply = self.call(demo)?;
        ensure!(reply.text() == text, "{}", reply.excerpt());
        let revision = reply
            .head
            .lines()
            .find_map(|line| line.strip_prefix(REVISION));
        Ok(revision
            .context("the answer does not name its revision")?
            .trim()
            .to_owned())
    }

    fn all_say(&self, demo: &Demo<'_>, text: &str) -> Result<String> {
        let seen = self.answers(demo, CALLS / 4)?;
        if seen.len() != 1 || !seen.contains_key(text) {
            bail!("the answers are {seen:?}; expected all to be {text:?}");
        }
        Ok(format!("all calls answer {text:?}"))
    }

    fn answers(&self, demo: &Demo<'_>, calls: usize) -> Result<BTreeMap<String, usize>> {
        let mut seen = BTreeMap::new();
        for _ in 0..calls {
            *seen.entry(self.call(demo)?.text()).or_insert(0) += 1;
        }
        Ok(seen)
    }

    fn call(&self, demo: &Demo<'_>) -> Result<Reply> {
        let reply = Request::new("")
            .at(&self.url)
            .send(demo.root, demo.home.path())?;
        ensure!(
            reply.status == 200,
            "status {}: {}",
            reply.status,
            reply.excerpt()
        );
        Ok(reply)
    }
}
