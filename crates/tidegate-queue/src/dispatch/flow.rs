//! One function's part: what of it may start, and when.
//!
//! Times are milliseconds of a clock that never goes back, but for those of items, which are of the queue's own.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_core::queue::{Ended, Verdict};
use tidegate_core::{Backoff, Limit, Outcome};

use super::runner::{Allowance, Rate};
use crate::writer::Taken;

/// Items of a function that are leased ahead: enough to fill the slots that come free while more are fetched.
const AHEAD: u32 = 32;
/// The pause after the first setback: a start's time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that follows from setbacks alone: a function that can run again is found to soon enough.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest pause that somebody may ask for. Items may ask for more, for themselves.
const ASKED: u64 = 60_000;
/// What is allowed while nothing went wrong.
const ALL: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) allowance: Allowance,
    /// Leased, and not begun.
    pub(super) ready: VecDeque<Taken>,
    pub(super) running: u32,
    /// Whether some are being leased.
    pub(super) taking: bool,
    /// What the file has of it: how many, and when the next that is not leased is due.
    pub(super) queued: u64,
    pub(super) next_due_ms: u64,
    /// When it is to be considered again.
    pub(super) timer: Option<u64>,
    /// How many may run at once, by experience.
    allowed: u32,
    setbacks: u32,
    paused_at: u64,
    paused_until: u64,
    tokens: f64,
    filled_at: u64,
}

/// What the end of an attempt says of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Attempts reach it.
    Reached,
    /// It is to be left alone; for so many milliseconds, where somebody said.
    Pause(Option<u64>),
    /// Nothing.
    None,
}

impl Flow {
    pub(super) fn new(allowance: Allowance, now: u64) -> Self {
        let burst = allowance.rate.map_or(0, |rate| rate.burst.get());
        Self {
            allowance,
            ready: VecDeque::new(),
            running: 0,
            taking: false,
            queued: 0,
            next_due_ms: u64::MAX,
            timer: None,
            allowed: ALL,
            setbacks: 0,
            paused_at: 0,
            paused_until: 0,
            tokens: f64::from(burst),
            filled_at: now,
        }
    }

    /// Whether it may not run at all, so that nothing of it is to be held.
    pub(super) fn is_stopped(&self) -> bool {
        self.allowance.concurrency == 0
    }

    /// Whether nothing of it is queued or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.queued == 0 && self.running == 0 && self.ready.is_empty() && !self.taking
    }

    /// Until when there is something to remember of it though it is idle: what it started counts against its rate, and a
    /// pause goes on, also for items that come one by one.
    pub(super) fn remembered_until(&mut self, now: u64) -> u64 {
        let missing = match self.allowance.rate {
            Some(rate) => f64::from(rate.burst.get()) - self.fill(now),
            None => 0.0,
        };
        self.paused_until.max(self.filled_by(missing, now))
    }

    /// Whether one more may start now.
    pub(super) fn may_start(&mut self, now: u64) -> bool {
        self.running < self.most() && now >= self.paused_until && self.fill(now) >= 1.0
    }

    /// When one more may start for all that is known now, if only time is in the way.
    pub(super) fn may_start_at(&mut self, now: u64) -> Option<u64> {
        if self.running >= self.most() {
            return None;
        }
        let mut at = self.paused_until.max(now);
        let missing = 1.0 - self.fill(now);
        at = at.max(self.filled_by(missing, now));
        Some(at)
    }

    /// When so many tokens more are there.
    fn filled_by(&self, missing: f64, now: u64) -> u64 {
        match self.allowance.rate {
            Some(rate) if missing > 0.0 => {
                let wait = (missing / rate.per_second.max(1e-6) * 1000.0).ceil();
                // Ages beyond any deadline are cut off.
                now.saturating_add(wait.min(1e15) as u64)
            }
            _ => now,
        }
    }

    /// How many are to be leased ahead now, if it is time.
    pub(super) fn wanted(&self) -> usize {
        let most = self.most().min(AHEAD);
        let most = match self.allowance.rate {
            Some(rate) => most.min(rate.burst.get()),
            None => most,
        };
        let have = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        // Half of them at once, so that a fetch is worth it.
        if have > most / 2 {
            0
        } else {
            (most - have) as usize
        }
    }

    pub(super) fn began(&mut self) {
        self.running += 1;
        if self.allowance.rate.is_some() {
            self.tokens -= 1.0;
        }
    }

    /// An attempt that began at `began` is over.
    pub(super) fn ended(&mut self, sign: Sign, began: u64, now: u64) {
        let ran = self.running;
        self.running = self.running.saturating_sub(1);
        match sign {
            Sign::None => {}
            Sign::Reached => {
                self.setbacks = 0;
                if self.allowed != ALL {
                    self.allowed += 1;
                    if self.allowed > self.allowance.concurrency {
                        self.allowed = ALL;
                    }
                }
            }
            // Those that began before the last pause tell nothing new.
            Sign::Pause(_) if began <= self.paused_at && self.setbacks > 0 => {}
            Sign::Pause(asked) => {
                self.setbacks = self.setbacks.saturating_add(1);
                self.allowed = (ran / 2).max(1);
                let pause = Backoff::new(PAUSE, LONGEST).delay(self.setbacks);
                let pause = u64::try_from(pause.as_millis()).unwrap_or(ASKED);
                self.paused_at = now;
                self.paused_until = now + pause.max(asked.unwrap_or(0).min(ASKED));
            }
        }
    }

    /// It cannot be worked on for some time.
    pub(super) fn pause(&mut self, now: u64, ms: u64) {
        self.paused_until = self.paused_until.max(now + ms);
    }

    fn most(&self) -> u32 {
        self.allowance.concurrency.min(self.allowed)
    }

    /// The tokens there are; any number where starts are not counted.
    fn fill(&mut self, now: u64) -> f64 {
        let Some(Rate { per_second, burst }) = self.allowance.rate else {
            return f64::MAX;
        };
        let since = now.saturating_sub(self.filled_at) as f64 / 1000.0;
        self.filled_at = now;
        self.tokens = (self.tokens + since * per_second).min(f64::from(burst.get()));
        // What a sum of fractions lacks to a whole is no reason to wait.
        self.tokens + 1e-9
    }
}

impl Sign {
    /// What a verdict says of the function.
    pub(super) fn of(verdict: &Verdict) -> Self {
        let Verdict::Ended(Ended {
            outcome,
            status,
            retry_after_ms,
        }) = verdict
        else {
            return Self::None;
        };
        match outcome {
            Outcome::Platform
            | Outcome::Limit(Limit::Concurrency | Limit::Capacity | Limit::Quota) => {
                Self::Pause(*retry_after_ms)
            }
            // It says itself that it has too much to do.
            Outcome::Application
                if matches!(status, Some(429 | 503)) && retry_after_ms.is_some() =>
            {
                Self::Pause(*retry_after_ms)
            }
            Outcome::Cancelled => Self::None,
            _ => Self::Reached,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn flow(concurrency: u32, rate: Option<(f64, u32)>) -> Flow {
        let rate = rate.map(|(per_second, burst)| Rate {
            per_second,
            burst: NonZeroU32::new(burst).unwrap(),
        });
        Flow::new(Allowance { concurrency, rate }, 0)
    }

    #[test]
    fn a_rate_is_kept() {
        let mut flow = flow(100, Some((10.0, 2)));
        let (mut now, mut started) = (0, Vec::new());
        while now < 1000 {
            while flow.may_start(now) {
                flow.began();
                flow.ended(Sign::Reached, now, now);
                started.push(now);
            }
            let next = flow.may_start_at(now).unwrap();
            assert!(next > now, "time alone is in the way");
            now = next;
        }
        assert_eq!(started[..4], [0, 0, 100, 200]);
        assert_eq!(started.len(), 11);
    }

    #[test]
    fn what_was_started_is_remembered_until_the_rate_allows_all_again() {
        let mut flow = flow(1, Some((2.0, 3)));
        assert_eq!(flow.remembered_until(0), 0);
        flow.began();
        flow.ended(Sign::Reached, 0, 0);
        flow.began();
        flow.ended(Sign::Reached, 0, 0);
        assert_eq!(flow.remembered_until(0), 1000);
        assert_eq!(flow.remembered_until(400), 1000);
        assert_eq!(flow.remembered_until(1000), 1000);
        flow.pause(1000, 70);
        assert_eq!(flow.remembered_until(1000), 1070);
    }

    #[test]
    fn setbacks_make_it_careful_and_successes_bold() {
        let mut flow = flow(8, None);
        for _ in 0..8 {
            assert!(flow.may_start(0));
            flow.began();
        }
        assert!(!flow.may_start(0));
        // Eight that began together tell one thing.
        for _ in 0..8 {
            flow.ended(Sign::Pause(None), 0, 50);
        }
        let at = flow.may_start_at(50).unwrap();
        assert!((51..=50 + 100).contains(&at), "{at}");
        let width = [0, 1, 2, 3].map(|later| {
            let now = at + later;
            let mut began = 0;
            while flow.may_start(now) {
                flow.began();
                began += 1;
            }
            for _ in 0..began {
                flow.ended(Sign::Reached, now, now + 1);
            }
            began
        });
        assert_eq!(width, [4, 8, 8, 8]);
    }

    #[test]
    fn pauses_grow_and_a_wish_is_honoured() {
        let mut flow = flow(1, None);
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..12 {
            flow.began();
            flow.ended(Sign::Pause(None), now, now + 1);
            let at = flow.may_start_at(now + 1).unwrap();
            pauses.push(at - now - 1);
            now = at;
        }
        assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&10_000));
        flow.began();
        flow.ended(Sign::Pause(Some(1 << 40)), now, now);
        assert_eq!(flow.may_start_at(now), Some(now + ASKED));
    }
}
