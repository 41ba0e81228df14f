//! A new revision taking over little by little: how far it is, and whether it goes on.
//!
//! Time moves the share, evidence stops it. Calls are judged in windows that are as short as the least number of calls
//! allows: a revision that fails every call is found out after that many, and one that fails rarely is compared again
//! with every window. It is taken back when more of its calls fail than the bound allows *and* more than of the revision
//! beside it, since where both fail for a reason of their own (a database that is down), going back mends nothing.
//!
//! Elapsed time is what was spent rolling out, not what a clock on the wall says, so a server that was down for an hour
//! goes on where it was.

use std::time::Duration;

use crate::traffic::WHOLE;

/// How a new revision takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long it takes.
    pub over: Duration,
    /// In how many steps, 1 to 100.
    pub steps: u32,
    /// Failed calls in a million above which it is taken back.
    pub max_errors_ppm: u32,
    /// Calls of the new revision before they are judged.
    pub min_requests: u64,
}

/// Calls that ended, and how many of them by the function's own fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub calls: u64,
    /// Those that failed.
    pub errors: u64,
}

/// A rollout under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Time spent on it.
    pub elapsed: Duration,
    /// What the new revision had done when the window began.
    pub candidate: Tally,
    /// What the revision beside it had done then.
    pub stable: Tally,
    /// What the revision beside it did in the last window in which it was called: what is compared with once it is not.
    pub reference: Tally,
}

/// What is seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Time since the last look.
    pub passed: Duration,
    /// What the new revision has done, counted since some moment.
    pub candidate: Tally,
    /// What the revision beside it has done, counted likewise.
    pub stable: Tally,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give the new revision this many percent.
    Go(u8),
    /// It has everything, and has had it for a step.
    Done,
    /// Take everything back from it.
    Back {
        /// What it did in the window.
        candidate: Tally,
        /// What the other did meanwhile.
        stable: Tally,
    },
}

/// The share of the new revision at a time: from one step at once to everything when the last step begins.
#[must_use]
pub fn percent(plan: &Plan, elapsed: Duration) -> u8 {
    let steps = plan.steps.clamp(1, u32::from(WHOLE));
    let over = plan.over.as_millis().max(1);
    let step =
        (elapsed.as_millis() * u128::from(steps) / over).min(u128::from(steps - 1)) as u32 + 1;
    (step * u32::from(WHOLE) / steps) as u8
}

/// Goes on by one look.
#[must_use]
pub fn step(plan: &Plan, progress: &mut Progress, seen: &Seen) -> Step {
    progress.elapsed = progress.elapsed.saturating_add(seen.passed);
    let candidate = seen.candidate.since(progress.candidate);
    let mut stable = seen.stable.since(progress.stable);
    if stable.calls == 0 {
        stable = progress.reference;
    }
    if candidate.calls >= plan.min_requests.max(1) {
        if candidate.ppm() > u64::from(plan.max_errors_ppm) && candidate.ppm() > stable.ppm() {
            return Step::Back { candidate, stable };
        }
        (progress.candidate, progress.stable) = (seen.candidate, seen.stable);
        progress.reference = stable;
    }
    if progress.elapsed >= plan.over {
        return Step::Done;
    }
    Step::Go(percent(plan, progress.elapsed))
}

impl Tally {
    /// What was added since; all of it where the counting began anew.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        if self.calls < before.calls || self.errors < before.errors {
            return self;
        }
        Self {
            calls: self.calls - before.calls,
            errors: self.errors - before.errors,
        }
    }

    /// Failed calls in a million.
    #[must_use]
    pub const fn ppm(self) -> u64 {
        match self.calls {
            0 => 0,
            calls => self.errors.saturating_mul(1_000_000) / calls,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} calls failed ({} %)",
            self.errors,
            self.calls,
            percent_text(self.ppm())
        )
    }
}

/// Parts in a million as percents with one digit: `5.0`.
#[must_use]
pub fn percent_text(ppm: u64) -> String {
    let tenths = (ppm + 500) / 1000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests;
