//! Turns at the processor, for machines where no control group holds a sandbox to its share.
//!
//! A sandbox that uses more than its share, or of which more processes want to run at once than [`AT_ONCE`], is stopped, all
//! of it at once, and continued in turns of a few processes each, with a rest between two turns where it used more than its
//! share in the first. So a neighbour competes with those few, however many there are; with sixty that run at once, even
//! process 1 would come too late to stop them. Who keeps below both is never touched.
//!
//! Priorities would not do: where the kernel shares the processor out by session, they count within one only, and a program
//! may make as many sessions as it has processes; and an ordinary user can lower a priority and never raise it again.
//!
//! What was used, and how long processes waited for a processor, the kernel's accounts of each process tell. One that ended
//! between two looks, and that nobody waited for, is in no account.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A turn: what a neighbour that wants the processor may have to wait for, and a hundred times what a stop costs.
const TURN: Duration = Duration::from_millis(4);

/// How many processes a turn is for. The programs of a pipeline need one another.
pub(super) const AT_ONCE: usize = 4;

/// Who used less since the last look only slept, and woke up to see why.
const EAGER: Duration = Duration::from_micros(500);

/// Longest rest: a program with a hundredth of a core is served once in a while and not forgotten.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Shortest time that tells how much is used.
const TELLING: Duration = Duration::from_millis(2);

/// What to do with a sandbox's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// With all of them.
    Stop,
    /// With the next [`AT_ONCE`], of those that use the processor and of those that sleep.
    Continue,
    /// With all of them.
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Below its share, as far as is known.
    Free,
    Runs {
        until: Instant,
    },
    Rests {
        until: Instant,
    },
}

/// Who is to run now: decisions without effects.
#[derive(Debug)]
pub(super) struct Turns {
    /// Thousandths of a core that it may use.
    share: u128,
    /// Thousandths of a core that it uses of late, while it runs.
    rate: u128,
    /// How many of its processes want to run at once, in thousandths.
    wanting: u128,
    phase: Phase,
    /// It has run since then, where it does, as far as [`Turns::ran`] does not have it.
    since: Instant,
    ran: Duration,
    used: Used,
}

/// Since the last look, by all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// On a processor.
    pub(super) ran: Duration,
    /// Able to run, and without a processor.
    pub(super) waited: Duration,
}

impl Turns {
    /// `share`: thousandths of a core, more than none.
    pub(super) fn new(share: u32, now: Instant) -> Self {
        Self {
            share: u128::from(share.max(1)),
            rate: 0,
            wanting: 0,
            phase: Phase::Free,
            since: now,
            ran: Duration::ZERO,
            used: Used::default(),
        }
    }

    /// When to ask again, where that is not only after the next look.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.phase {
            Phase::Free => None,
            Phase::Runs { until } | Phase::Rests { until } => Some(until),
        }
    }

    /// What was used since the last look, and how many processes used any of late.
    pub(super) fn used(&mut self, used: Used, eager: usize, now: Instant) {
        self.count(now);
        self.used.ran += used.ran;
        self.used.waited += used.waited;
        if self.ran < TELLING {
            return;
        }
        let per_time = |spent: Duration| spent.as_micros() * 1000 / self.ran.as_micros();
        let rate = per_time(self.used.ran);
        let mut wanting = per_time(self.used.ran + self.used.waited);
        if self.phase != Phase::Free && eager > AT_ONCE {
            // Those whose turn it was stand for the others.
            wanting = wanting * eager as u128 / AT_ONCE as u128;
        }
        // More counts at once, less little by little: those that ran may have been the ones that sleep.
        self.rate = rate.max(u128::midpoint(self.rate, rate));
        self.wanting = wanting.max(u128::midpoint(self.wanting, wanting));
        (self.ran, self.used) = (Duration::ZERO, Used::default());
    }

    /// What is to be done now.
    pub(super) fn step(&mut self, now: Instant) -> Option<Do> {
        let is_over = self.rate > self.share || self.wanting > AT_ONCE as u128 * 1000;
        match self.phase {
            Phase::Free if is_over => Some(self.rest(TURN, now)),
            Phase::Free => None,
            Phase::Runs { .. } | Phase::Rests { .. } if !is_over => {
                self.count(now);
                self.phase = Phase::Free;
                Some(Do::Free)
            }
            Phase::Runs { until } if now >= until => {
                let ran = now.saturating_duration_since(until) + TURN;
                Some(self.rest(ran, now))
            }
            Phase::Rests { until } if now >= until => {
                self.phase = Phase::Runs { until: now + TURN };
                self.since = now;
                Some(Do::Continue)
            }
            Phase::Runs { .. } | Phase::Rests { .. } => None,
        }
    }

    fn rest(&mut self, ran: Duration, now: Instant) -> Do {
        self.count(now);
        let rest = ran.as_micros() * self.rate.saturating_sub(self.share) / self.share;
        let rest = Duration::from_micros(u64::try_from(rest).unwrap_or(u64::MAX));
        self.phase = Phase::Rests {
            until: now + rest.min(LONGEST_REST),
        };
        Do::Stop
    }

    fn count(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Rests { .. }) {
            self.ran += now.saturating_duration_since(self.since);
        }
        self.since = now;
    }
}

/// One process, as far as its processor time goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) pid: i32,
    pub(super) own: Duration,
    /// Without a processor, though able to run.
    pub(super) waited: Duration,
    /// Of children that it has waited for.
    pub(super) children: Duration,
}

/// Processor time of all processes of a sandbox, those that came and went included.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    own: HashMap<i32, (Duration, Duration)>,
    /// Those that used the processor when they last might.
    eager: HashSet<i32>,
    /// Those that had a turn since the last look; absent where all might run.
    served: Option<HashSet<i32>>,
    /// Whose turn it was last, among the eager and among the others.
    last: [i32; 2],
    reaped: Duration,
}

impl Accounts {
    /// What was used since the last look. `reaped`: by all that process 1 has collected, so far.
    pub(super) fn look(&mut self, spent: &[Spent], mut reaped: Duration) -> Used {
        let mut used = Used::default();
        let mut before = std::mem::take(&mut self.own);
        for one in spent {
            let (own, waited) = before.remove(&one.pid).unwrap_or_default();
            let ran = one.own.saturating_sub(own);
            let waited = one.waited.saturating_sub(waited);
            used.ran += ran;
            used.waited += waited;
            if ran + waited > EAGER {
                self.eager.insert(one.pid);
            } else if self.served.as_ref().is_none_or(|s| s.contains(&one.pid)) {
                self.eager.remove(&one.pid);
            }
            reaped += one.children;
            self.own.insert(one.pid, (one.own, one.waited));
        }
        // Whoever is gone was counted while it was there, and is counted whole by who waited for it.
        let counted: Duration = before.into_values().map(|(own, _)| own).sum();
        used.ran += reaped.saturating_sub(self.reaped).saturating_sub(counted);
        self.reaped = reaped;
        self.eager.retain(|pid| self.own.contains_key(pid));
        if let Some(served) = &mut self.served {
            served.clear();
        }
        used
    }

    /// How many used the processor when they last might.
    pub(super) fn eager(&self) -> usize {
        self.eager.len()
    }

    /// Who is next, in the order of their numbers: of those that use the processor, and of those that sleep, which may
    /// have changed their minds.
    pub(super) fn next(&mut self, mut pids: Vec<i32>) -> Vec<i32> {
        pids.sort_unstable();
        let (eager, others): (Vec<i32>, Vec<i32>) =
            pids.into_iter().partition(|pid| self.eager.contains(pid));
        let mut next = Vec::with_capacity(2 * AT_ONCE);
        for (mut pids, last) in [eager, others].into_iter().zip(&mut self.last) {
            let first = pids.partition_point(|pid| pid <= last);
            pids.rotate_left(first);
            pids.truncate(AT_ONCE);
            *last = pids.last().copied().unwrap_or(*last);
            next.extend(pids);
        }
        self.served.get_or_insert_default().extend(&next);
        next
    }

    /// All may run from now on.
    pub(super) fn free(&mut self) {
        self.served = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Processes that each want a core, on a machine that gives a sandbox so much.
    #[derive(Clone, Copy)]
    struct Machine {
        processes: u32,
        /// Thousandths.
        gives: u32,
    }

    /// What a sandbox got in the second second of a made-up clock: thousandths of a core, the longest that it ran and
    /// rested, and the most processes that ran at once.
    struct Got {
        milli: u32,
        ran: Duration,
        rested: Duration,
        at_once: u32,
    }

    fn serve(share: u32, Machine { processes, gives }: Machine) -> Got {
        let mut now = Instant::now();
        let began = now;
        let mut turns = Turns::new(share, now);
        let (mut running, mut since, mut looked) = (processes, now, now);
        let mut unseen = Used::default();
        let mut got = Got {
            milli: 0,
            ran: Duration::ZERO,
            rested: Duration::ZERO,
            at_once: 0,
        };
        let mut all = Duration::ZERO;
        while now < began + 2000 * MS {
            now += MS;
            let is_second = now > began + 1000 * MS;
            let ran = MS * gives.min(running * 1000) / 1000;
            unseen.ran += ran;
            unseen.waited += MS * running - ran;
            if is_second {
                all += ran;
                got.at_once = got.at_once.max(running);
            }
            if now >= looked + 50 * MS {
                turns.used(std::mem::take(&mut unseen), processes as usize, now);
                looked = now;
            }
            let before = running;
            running = match turns.step(now) {
                None => running,
                Some(Do::Stop) => 0,
                Some(Do::Continue) => processes.min(AT_ONCE as u32),
                Some(Do::Free) => processes,
            };
            if running != before {
                let longest = if before == 0 {
                    &mut got.rested
                } else {
                    &mut got.ran
                };
                if is_second {
                    *longest = (*longest).max(now - since);
                }
                since = now;
            }
        }
        got.milli = u32::try_from(all.as_micros() / 1000).unwrap();
        got
    }

    #[test]
    fn who_takes_too_much_gets_its_share_in_short_turns() {
        for (share, processes, gives) in [
            (1000, 2, 2000),
            (1000, 64, 8000),
            (500, 1, 1000),
            (100, 2, 2000),
        ] {
            let got = serve(share, Machine { processes, gives });
            let case = format!("{share} {processes} {gives}: {}", got.milli);
            assert!(
                (share * 8 / 10..=share * 12 / 10).contains(&got.milli),
                "{case}"
            );
            assert!(
                got.ran <= TURN + MS && got.at_once <= 4,
                "{case}: {:?}",
                got.ran
            );
        }
    }

    #[test]
    fn a_crowd_takes_turns_and_no_rest_where_the_machine_gives_it_less_than_its_share() {
        let got = serve(
            1000,
            Machine {
                processes: 64,
                gives: 500,
            },
        );
        assert!(got.at_once <= 4, "{}", got.at_once);
        assert!((350..=500).contains(&got.milli), "{}", got.milli);
        assert!(got.rested <= MS, "{:?}", got.rested);
    }

    #[test]
    fn who_takes_its_share_or_less_is_never_stopped() {
        for (share, processes, gives) in [(1000, 1, 1000), (1000, 4, 200), (2000, 4, 1900)] {
            let got = serve(share, Machine { processes, gives });
            assert_eq!(
                (got.milli, got.ran, got.rested),
                (gives, Duration::ZERO, Duration::ZERO)
            );
        }
    }

    #[test]
    fn who_is_quiet_again_runs_on() {
        let mut now = Instant::now();
        let mut turns = Turns::new(500, now);
        now += 50 * MS;
        let busy = Used {
            ran: 200 * MS,
            ..Used::default()
        };
        turns.used(busy, 4, now);
        assert_eq!(turns.step(now), Some(Do::Stop));
        now = turns.next().unwrap();
        assert_eq!(turns.step(now), Some(Do::Continue));
        for _ in 0..5 {
            now += 50 * MS;
            turns.used(Used::default(), 4, now);
        }
        assert_eq!((turns.step(now), turns.next()), (Some(Do::Free), None));
    }

    #[test]
    fn who_sleeps_takes_nobodys_turn() {
        let mut accounts = Accounts::default();
        let pids: Vec<i32> = (2..=21).collect();
        let spent = |busy: &[i32], ran: u32| {
            let one = |&pid: &i32| Spent {
                pid,
                own: MS * if busy.contains(&pid) { ran } else { 0 },
                waited: Duration::ZERO,
                children: Duration::ZERO,
            };
            pids.iter().map(one).collect::<Vec<_>>()
        };
        accounts.look(&spent(&[2, 3, 20], 10), Duration::ZERO);
        assert_eq!(accounts.eager(), 3);
        assert_eq!(accounts.next(pids.clone()), [2, 3, 20, 4, 5, 6, 7]);
        assert_eq!(accounts.next(pids.clone()), [2, 3, 20, 8, 9, 10, 11]);
        // One of those that slept does no more; who had no turn is what it was.
        accounts.look(&spent(&[2, 3, 20, 8], 20), Duration::ZERO);
        assert_eq!(accounts.eager(), 4);
        accounts.look(&spent(&[2, 3, 20, 8], 20), Duration::ZERO);
        assert_eq!(accounts.eager(), 4);
        accounts.free();
        accounts.look(&spent(&[2, 3, 20, 8], 20), Duration::ZERO);
        assert_eq!(accounts.eager(), 0);
    }

    #[test]
    fn each_moment_counts_once_whoever_tells_of_it() {
        let mut accounts = Accounts::default();
        let spent = |pid, own: u32, children: u32| Spent {
            pid,
            own: MS * own,
            waited: MS,
            children: MS * children,
        };
        let mut ran = |spent: &[Spent], reaped: u32| accounts.look(spent, MS * reaped).ran;
        assert_eq!(ran(&[spent(2, 10, 0), spent(3, 5, 0)], 0), 15 * MS);
        // 3 ran for 4 ms more and ended, and 2 waited for it; 4 came and went unseen.
        assert_eq!(ran(&[spent(2, 11, 9 + 7)], 0), (1 + 4 + 7) * MS);
        // 2 ended and process 1 waited for it.
        assert_eq!(ran(&[], 27), Duration::ZERO);
        assert_eq!(ran(&[spent(5, 3, 0)], 27), 3 * MS);
    }
}
