//! What this machine permits, and what it does not: said aloud rather than found out later.

use std::fmt;

/// Everything that was tried, in the order in which it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// One entry a thing tried.
    pub capabilities: Vec<Capability>,
}

/// One thing the isolation needs of the machine.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capability {
    /// A few words: `memory limit`, `network namespaces`.
    pub name: String,
    /// How well it works here.
    pub state: State,
    /// One sentence: what is used, or what is missing, what that means, and how to get it.
    pub detail: String,
}

/// How well something works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As meant.
    Ok,
    /// By weaker means.
    Degraded,
    /// Not at all.
    Missing,
}

/// What [`Report::has_outbound`] looks at.
pub(crate) const OUTBOUND: &str = "outbound network";

impl Report {
    /// The entry of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Capability> {
        self.capabilities.iter().find(|c| c.name == name)
    }

    /// Whether instances can be given a way out.
    #[must_use]
    pub fn has_outbound(&self) -> bool {
        self.get(OUTBOUND).is_some_and(|c| c.state == State::Ok)
    }

    /// What does not work as meant.
    pub fn shortcomings(&self) -> impl Iterator<Item = &Capability> {
        self.capabilities.iter().filter(|c| c.state != State::Ok)
    }

    pub(crate) fn note(&mut self, name: &str, state: State, detail: impl Into<String>) {
        self.capabilities.push(Capability {
            name: name.to_owned(),
            state,
            detail: detail.into(),
        });
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in &self.capabilities {
            writeln!(f, "{:<8}  {:<20} {}", c.state, c.name, c.detail)?;
        }
        Ok(())
    }
}
