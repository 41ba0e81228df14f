//! How often, and after how long, an invocation that did not succeed is tried again.

use std::time::Duration;

use super::{Guard, Guards};
use crate::{Backoff, Limit, Outcome};

/// What becomes of an invocation that does not succeed. Durations are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How often it is tried again after a failure of the function. Throttles and faults of the platform do not count.
    pub retries: u32,
    /// The delay after the first failure; at least 1.
    pub min_delay_ms: u64,
    /// No delay is longer, unless the function asked for it.
    pub max_delay_ms: u64,
    /// How delays grow and are spread.
    pub spread: Spread,
    /// Which ends are failures that another attempt may cure.
    pub retried: Retried,
    /// The age at which it is given up, counted from when it was due first.
    pub max_age_ms: u64,
}

/// How delays grow from failure to failure, and how much chance is in them. Chance keeps what failed together from coming
/// back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Spread {
    /// Anything from nothing to the doubled delay.
    #[default]
    Full,
    /// Half of the doubled delay, and up to another half.
    Equal,
    /// The doubled delay exactly.
    Exponential,
    /// Always the least delay.
    None,
}

/// Which ends count as failures that are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retried {
    /// Answers with a status of the code's own choice.
    pub answers: Answers,
    /// The code failed: exception, crash, broken answer, a start that never became ready.
    pub failures: bool,
    /// It ran into a limit on time, memory, processes or disk.
    pub limits: bool,
}

/// Which answers of the code count as failures. All others are answers, and the invocation is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Answers {
    /// None.
    Never,
    /// 429 and 502 to 504: somebody may be better off later.
    Unavailable,
    /// 429 and everything from 500.
    #[default]
    Server,
    /// Everything from 400.
    All,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// In the engine's words.
    pub outcome: Outcome,
    /// The status of the code's answer, where there was one.
    pub status: Option<u16>,
    /// What the answer's `Retry-After` asked for, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// What an invocation has behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Attempts that ended, whichever way.
    pub tries: u32,
    /// Those that count: failures of the function.
    pub failures: u32,
    /// Throttles and faults of the platform since the last failure.
    pub setbacks: u32,
}

/// What follows from the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more is to be done.
    Done,
    /// Another attempt.
    Again {
        /// When, in milliseconds since the Unix epoch.
        due_ms: u64,
        /// With this behind it.
        progress: Progress,
    },
    /// It is given up.
    Dead(Reason),
}

/// Why an invocation was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It failed as often as its policy allows.
    Failed,
    /// It ended in a way that its policy does not try again.
    NotRetried,
    /// It became too old before it succeeded.
    TooOld,
    /// Who runs it said that it can never run: the function is gone, a destination is forbidden.
    Refused,
    /// What was stored of it is not what was written.
    Damaged,
}

/// To which account an end goes.
enum Kind {
    Done,
    Failure { retried: bool },
    Setback,
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: 2,
            min_delay_ms: 1000,
            // A function that is down for long is asked every five minutes, not forgotten.
            max_delay_ms: 5 * 60 * 1000,
            spread: Spread::default(),
            retried: Retried::default(),
            max_age_ms: 6 * 60 * 60 * 1000,
        }
    }
}

impl Policy {
    /// When an invocation that was due first at `due_ms` is given up, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn deadline_ms(&self, due_ms: u64) -> u64 {
        due_ms.saturating_add(self.max_age_ms)
    }

    /// What follows from the end of an attempt at `now_ms`. `random` is any number, new for each call.
    #[must_use]
    pub fn after(
        &self,
        guards: &impl Guards,
        ended: &Ended,
        before: Progress,
        deadline_ms: u64,
        now_ms: u64,
        random: u64,
    ) -> Next {
        let tries = before.tries.saturating_add(1);
        let (progress, in_a_row) = match self.kind(ended) {
            Kind::Done => return Next::Done,
            Kind::Failure { retried: false } => return Next::Dead(Reason::NotRetried),
            Kind::Failure { retried: true } => {
                let failures = before.failures.saturating_add(1);
                if guards.on(Guard::Attempts) && failures > self.retries {
                    return Next::Dead(Reason::Failed);
                }
                let progress = Progress {
                    tries,
                    failures,
                    setbacks: 0,
                };
                (progress, failures)
            }
            Kind::Setback => {
                let setbacks = before.setbacks.saturating_add(1);
                let progress = Progress {
                    tries,
                    failures: before.failures,
                    setbacks,
                };
                (progress, setbacks)
            }
        };
        let left_ms = deadline_ms.saturating_sub(now_ms);
        let asked = ended.retry_after_ms.unwrap_or(0);
        let is_setback = matches!(self.kind(ended), Kind::Setback);
        let asked = self.granted(guards, asked, is_setback, left_ms);
        let delay = self.delay_ms(in_a_row, random).max(asked);
        let due_ms = now_ms.saturating_add(delay);
        if guards.on(Guard::AgeAtRetry) && due_ms >= deadline_ms {
            return Next::Dead(Reason::TooOld);
        }
        Next::Again { due_ms, progress }
    }

    /// How much later somebody who asks for it is asked again, in milliseconds.
    ///
    /// What a function asks for is honoured, as far as there is time: a wish that lasts beyond the deadline is no reason to
    /// give up before it, so it is cut to the longest delay, and where not even that is left, it is passed over. What a
    /// throttle says, which may be a whole day, is never waited for longer than that: it may be lifted.
    fn granted(&self, guards: &impl Guards, asked: u64, is_setback: bool, left_ms: u64) -> u64 {
        let cut = asked.min(self.max_delay_ms);
        let wish = if is_setback { cut } else { asked };
        if !guards.on(Guard::Wish) || wish < left_ms {
            wish
        } else if cut < left_ms {
            cut
        } else {
            0
        }
    }

    /// The delay in milliseconds after this many failures or setbacks in a row.
    #[must_use]
    pub fn delay_ms(&self, in_a_row: u32, random: u64) -> u64 {
        let min = self.min_delay_ms.max(1);
        let backoff = Backoff::new(
            Duration::from_millis(min),
            Duration::from_millis(self.max_delay_ms.max(min)),
        );
        let doubled = u64::try_from(backoff.delay(in_a_row).as_millis()).unwrap_or(u64::MAX);
        match self.spread {
            Spread::Full => within(random, doubled),
            Spread::Equal => doubled - doubled / 2 + within(random, doubled / 2),
            Spread::Exponential => doubled,
            Spread::None => min,
        }
    }

    fn kind(&self, ended: &Ended) -> Kind {
        let retried = self.retried;
        match ended.outcome {
            Outcome::Ok => Kind::Done,
            Outcome::Application => match ended.status {
                Some(status) if retried.answers.includes(status) => Kind::Failure { retried: true },
                _ => Kind::Done,
            },
            Outcome::Function => Kind::Failure {
                retried: retried.failures,
            },
            // An owned call is cancelled only by a server that goes down.
            Outcome::Platform | Outcome::Cancelled => Kind::Setback,
            Outcome::Limit(Limit::Concurrency | Limit::Capacity | Limit::Quota) => Kind::Setback,
            // The body will not shrink.
            Outcome::Limit(Limit::Body) => Kind::Failure { retried: false },
            Outcome::Limit(
                Limit::Timeout
                | Limit::FirstByte
                | Limit::Idle
                | Limit::Memory
                | Limit::Processes
                | Limit::Disk,
            ) => Kind::Failure {
                retried: retried.limits,
            },
        }
    }
}

/// A number from 0 to `most`, both included.
fn within(random: u64, most: u64) -> u64 {
    match most.checked_add(1) {
        Some(count) => random % count,
        None => random,
    }
}

// === impl Retried ===

impl Default for Retried {
    fn default() -> Self {
        Self {
            answers: Answers::default(),
            failures: true,
            limits: true,
        }
    }
}

// === impl Answers ===

impl Answers {
    fn includes(self, status: u16) -> bool {
        match self {
            Self::Never => false,
            Self::Unavailable => matches!(status, 429 | 502..=504),
            Self::Server => status == 429 || status >= 500,
            Self::All => status >= 400,
        }
    }
}

// === impl Reason ===

impl Reason {
    /// All of them, in the order of their numbers in what is written.
    pub const ALL: [Self; 5] = [
        Self::Failed,
        Self::NotRetried,
        Self::TooOld,
        Self::Refused,
        Self::Damaged,
    ];

    /// The stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::NotRetried => "not-retried",
            Self::TooOld => "too-old",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AllGuards;
    use super::*;

    fn ended(outcome: Outcome, status: Option<u16>) -> Ended {
        Ended {
            outcome,
            status,
            retry_after_ms: None,
        }
    }

    fn after(policy: &Policy, ended: &Ended, before: Progress) -> Next {
        policy.after(&AllGuards, ended, before, u64::MAX, 1000, 0)
    }

    #[test]
    fn failures_are_counted_and_setbacks_are_not() {
        let policy = Policy::default();
        let mut progress = Progress::default();
        for failures in 1..=2 {
            for setbacks in 1..=50 {
                let throttled = ended(Outcome::Limit(Limit::Concurrency), None);
                match after(&policy, &throttled, progress) {
                    Next::Again { progress: now, .. } => progress = now,
                    other => panic!("{other:?}"),
                }
                assert_eq!(progress.setbacks, setbacks);
            }
            match after(&policy, &ended(Outcome::Function, None), progress) {
                Next::Again { progress: now, .. } => progress = now,
                other => panic!("{other:?}"),
            }
            assert_eq!((progress.failures, progress.setbacks), (failures, 0));
        }
        assert_eq!(progress.tries, 102);
        let last = after(&policy, &ended(Outcome::Function, None), progress);
        assert_eq!(last, Next::Dead(Reason::Failed));
    }

    #[test]
    fn a_throttle_that_lasts_longer_than_the_age_is_waited_for_all_the_same() {
        let mut throttled = ended(Outcome::Limit(Limit::Quota), None);
        throttled.retry_after_ms = Some(20 * 60 * 60 * 1000);
        let policy = Policy::default();
        let six_hours = policy.deadline_ms(0);
        let next = policy.after(&AllGuards, &throttled, Progress::default(), six_hours, 0, 0);
        match next {
            Next::Again { due_ms, .. } => assert_eq!(due_ms, policy.max_delay_ms),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_code_answered_is_an_answer_unless_the_policy_says_otherwise() {
        let next = |answers, status| {
            let mut policy = Policy::default();
            policy.retried.answers = answers;
            let ended = ended(Outcome::Application, Some(status));
            after(&policy, &ended, Progress::default())
        };
        for (answers, failing, fine) in [
            (Answers::Never, vec![], vec![400, 429, 500, 503]),
            (Answers::Unavailable, vec![429, 503], vec![404, 500]),
            (Answers::Server, vec![429, 500, 503], vec![404]),
            (Answers::All, vec![404, 500], vec![]),
        ] {
            for status in failing {
                assert!(matches!(next(answers, status), Next::Again { .. }));
            }
            for status in fine {
                assert_eq!(next(answers, status), Next::Done, "{answers:?} {status}");
            }
        }
        let body = ended(Outcome::Limit(Limit::Body), None);
        assert_eq!(
            after(&Policy::default(), &body, Progress::default()),
            Next::Dead(Reason::NotRetried)
        );
    }

    #[test]
    fn delays_grow_and_stay_within_their_bounds() {
        let delays = |spread, random| {
            let policy = Policy {
                spread,
                ..Policy::default()
            };
            [1, 2, 3, 30].map(|n| policy.delay_ms(n, random))
        };
        assert_eq!(delays(Spread::Exponential, 7), [1000, 2000, 4000, 300_000]);
        assert_eq!(delays(Spread::None, 7), [1000; 4]);
        for random in [0, 1, 12_345, u64::MAX / 3, u64::MAX] {
            let doubled = delays(Spread::Exponential, 0);
            for (full, most) in delays(Spread::Full, random).into_iter().zip(doubled) {
                assert!(full <= most);
            }
            for (equal, most) in delays(Spread::Equal, random).into_iter().zip(doubled) {
                assert!((most / 2..=most).contains(&equal));
            }
        }
    }

    #[test]
    fn a_wish_to_be_asked_later_is_honoured_up_to_the_greatest_age() {
        let mut unavailable = ended(Outcome::Application, Some(503));
        unavailable.retry_after_ms = Some(60_000);
        let policy = Policy::default();
        let next = |deadline| {
            policy.after(
                &AllGuards,
                &unavailable,
                Progress::default(),
                deadline,
                1000,
                0,
            )
        };
        assert!(matches!(next(u64::MAX), Next::Again { due_ms: 61_000, .. }));
        assert!(matches!(next(61_001), Next::Again { due_ms: 61_000, .. }));
        // There is less time than was asked for: it is asked again while there is some.
        assert!(matches!(next(61_000), Next::Again { due_ms: 1000, .. }));
        unavailable.retry_after_ms = Some(u64::MAX);
        let hour = policy.after(
            &AllGuards,
            &unavailable,
            Progress::default(),
            3_600_000,
            1000,
            0,
        );
        assert!(matches!(
            hour,
            Next::Again {
                due_ms: 301_000,
                ..
            }
        ));
    }
}
