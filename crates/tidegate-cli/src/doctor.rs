//! What `doctor` says of one thing.

use serde::Serialize;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// What was looked at, in a few words: `server`, `cgroup memory`.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What was found, one line.
    pub detail: String,
    /// What to do about it, where something can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, though less well or less safely.
    Warn,
    /// Does not work.
    Fail,
}

impl Diagnosis {
    /// Nothing to do.
    pub fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::of(State::Ok, name, detail)
    }

    /// Works, though less well.
    pub fn warn(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::of(State::Warn, name, detail)
    }

    /// Does not work.
    pub fn fail(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::of(State::Fail, name, detail)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    fn of(state: State, name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state,
            detail: detail.into(),
            fix: None,
        }
    }
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}
