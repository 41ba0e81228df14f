use super::*;
use crate::Metric;
use proptest::prelude::*;

pub(super) fn scale(min: u32, max: u32, concurrency: u32, idle_s: u64) -> Scale {
    Scale {
        min,
        max,
        initial: 1,
        concurrency,
        target_milli: 1000,
        idle: Duration::from_secs(idle_s),
        zero: None,
        by_hand: None,
        metric: crate::Metric::default(),
        waiting: None,
    }
}

fn ready(id: u64, in_flight: u32, idle_since_s: u64) -> Ready {
    Ready {
        id: InstanceId(id),
        in_flight,
        idle_since: Duration::from_secs(idle_since_s),
    }
}

fn at(now_s: u64, ready: &[Ready], starting: u32, queued: u32) -> Observation<'_> {
    Observation {
        now: Duration::from_secs(now_s),
        ready,
        starting,
        queued,
        quiet_since: Duration::ZERO,
        load_milli: 0,
        held: 0,
        asleep: false,
        told: false,
    }
}

/// A scale by calls a second.
fn by_rate(min: u32, max: u32, target: u64) -> Scale {
    Scale {
        metric: Metric::Rate {
            target_milli: target * 1000,
        },
        ..scale(min, max, 10, 30)
    }
}

#[test]
fn a_first_call_starts_one_and_a_hundred_share_the_starts() {
    let s = scale(0, 100, 1, 60);
    assert_eq!(decide(&s, &at(0, &[], 0, 1)).start, 1);
    assert_eq!(decide(&s, &at(0, &[], 0, 100)).start, STARTS_AT_ONCE);
    assert_eq!(decide(&s, &at(0, &[], STARTS_AT_ONCE, 100)).start, 0);
    assert_eq!(
        decide(&scale(0, 100, 100, 60), &at(0, &[], 0, 100)).start,
        1
    );
}

#[test]
fn a_target_below_one_starts_before_instances_are_full() {
    let s = Scale {
        target_milli: 700,
        ..scale(0, 10, 10, 60)
    };
    assert_eq!(decide(&s, &at(0, &[ready(1, 7, 0)], 0, 0)).start, 0);
    assert_eq!(decide(&s, &at(0, &[ready(1, 8, 0)], 0, 0)).start, 1);
}

#[test]
fn only_instances_past_the_idle_time_stop_longest_idle_first() {
    let s = scale(0, 10, 1, 60);
    let r = [ready(1, 0, 50), ready(2, 0, 10), ready(3, 1, 0)];
    assert_eq!(decide(&s, &at(60, &r, 0, 0)).stop, []);
    assert_eq!(decide(&s, &at(70, &r, 0, 0)).stop, [InstanceId(2)]);
    assert_eq!(
        decide(&s, &at(110, &r, 0, 0)).stop,
        [InstanceId(2), InstanceId(1)]
    );
    let kept = scale(2, 10, 1, 60);
    assert_eq!(decide(&kept, &at(110, &r, 0, 0)).stop, [InstanceId(2)]);
}

#[test]
fn a_lowered_maximum_stops_idle_instances_at_once() {
    let r = [ready(1, 0, 100), ready(2, 0, 99), ready(3, 1, 0)];
    let decision = decide(&scale(0, 1, 1, 60), &at(100, &r, 0, 0));
    assert_eq!(decision.stop, [InstanceId(2), InstanceId(1)]);
}

#[test]
fn a_rate_wants_as_many_as_share_it_and_counts_up_to_the_maximum() {
    let s = by_rate(1, 5, 50);
    let one = [ready(1, 3, 0)];
    for (per_second, wanted) in [
        (0, 1),
        (49, 1),
        (50, 1),
        (51, 2),
        (100, 2),
        (101, 3),
        (999, 5),
    ] {
        let seen = Observation {
            load_milli: per_second * 1000,
            ..at(0, &one, 0, 0)
        };
        let decision = decide(&s, &seen);
        assert_eq!(decision.wanted, wanted, "{per_second} a second");
        assert_eq!(decision.start, wanted - 1);
    }
    let cpu = Metric::Cpu { target_milli: 500 };
    assert_eq!(wanted_by_load(cpu, 1200), 3);
    assert_eq!(wanted_by_load(Metric::Concurrency, 1200), 0);
}

#[test]
fn a_call_without_a_place_starts_one_whatever_the_rate_says() {
    let s = by_rate(1, 3, 50);
    let full = [ready(1, 10, 0)];
    assert_eq!(decide(&s, &at(0, &full, 0, 1)).start, 1);
    assert_eq!(decide(&s, &at(0, &full, 1, 1)).start, 0);
    let same = by_rate(1, 1, 50);
    assert_eq!(decide(&same, &at(0, &full, 0, 9)).start, 0);
}

#[test]
fn what_was_wanted_of_late_is_kept_and_the_rest_goes_busy_ones_last() {
    let s = by_rate(1, 9, 50);
    let r = [
        ready(1, 2, 0),
        ready(2, 0, 9),
        ready(3, 1, 0),
        ready(4, 0, 8),
    ];
    let seen = |held| Observation {
        held,
        ..at(10, &r, 0, 0)
    };
    assert_eq!(
        decide(&s, &seen(4)),
        Decision {
            wanted: 1,
            ..Decision::default()
        }
    );
    let one_less = decide(&s, &seen(3));
    assert_eq!(
        (one_less.stop, one_less.leave),
        (vec![InstanceId(4)], vec![])
    );
    let least = decide(&s, &seen(0));
    assert_eq!(least.stop, [InstanceId(4), InstanceId(2)]);
    assert_eq!(least.leave, [InstanceId(3)]);
}

#[test]
fn a_function_at_rest_is_kept_at_none_until_a_call() {
    let s = Scale {
        zero: Some(Duration::from_secs(900)),
        ..scale(2, 9, 1, 30)
    };
    let r = [ready(1, 0, 100), ready(2, 0, 100)];
    let quiet = |now, ready, queued| Observation {
        quiet_since: Duration::from_secs(100),
        ..at(now, ready, 0, queued)
    };
    assert_eq!(decide(&s, &quiet(999, &r, 0)).stop, []);
    assert_eq!(
        decide(&s, &quiet(1000, &r, 0)).stop,
        [InstanceId(1), InstanceId(2)]
    );
    assert_eq!(decide(&s, &quiet(1000, &[], 0)).start, 0);
    assert_eq!(
        decide(&s, &quiet(1000, &[], 1)).start,
        2,
        "all of the minimum again"
    );
    let busy = [ready(1, 1, 0), ready(2, 0, 100)];
    assert_eq!(decide(&s, &quiet(5000, &busy, 0)).stop, []);
}

#[test]
fn what_is_asked_for_by_hand_takes_the_place_of_the_minimum() {
    let asked = |min, instances| Scale {
        by_hand: Some(ByHand { instances, turn: 1 }),
        ..scale(min, 9, 1, 30)
    };
    assert_eq!(floor(&asked(1, 4)), 4);
    assert_eq!(floor(&asked(6, 4)), 4);
    assert_eq!(floor(&asked(1, 40)), 9);
    assert_eq!(floor(&asked(3, 0)), 3, "once it was called");
    assert_eq!(floor(&asked(0, 0)), 1, "once it was called");
    assert_eq!(decide(&asked(1, 4), &at(0, &[], 0, 0)).start, 4);
}

#[test]
fn whoever_is_told_goes_there_at_once_but_for_calls() {
    let s = scale(1, 9, 1, 30);
    let r = [
        ready(1, 0, 9),
        ready(2, 1, 0),
        ready(3, 0, 9),
        ready(4, 1, 0),
    ];
    let told = Observation {
        told: true,
        held: 4,
        ..at(10, &r, 0, 0)
    };
    let decision = decide(&s, &told);
    assert_eq!(decision.stop, [InstanceId(1), InstanceId(3)]);
    assert_eq!(decision.leave, []);
    let none = decide(
        &s,
        &Observation {
            asleep: true,
            ..told
        },
    );
    assert_eq!(none.stop, [InstanceId(1), InstanceId(3)]);
    assert_eq!(none.leave.len(), 2, "they end after the calls they have");
    assert_eq!((none.wanted, none.start), (0, 0));
}

/// A pool driven by `decide` alone, with a clock that moves only when told.
#[derive(Debug, Default)]
struct Pool {
    ready: Vec<Ready>,
    /// What takes no more calls.
    leaving: Vec<Ready>,
    starting: u32,
    queued: u32,
    next: u64,
    quiet_since: Duration,
    load: Option<Load>,
    load_milli: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Call,
    End(usize),
    Started,
    Wait(u64),
    Load(u64),
}

impl Pool {
    fn apply(&mut self, s: &Scale, now: Duration, step: &Step) {
        match step {
            Step::Call => self.queued += 1,
            Step::Load(milli) => self.load_milli = *milli,
            Step::End(_) if !self.leaving.is_empty() => {
                self.leaving[0].in_flight -= 1;
                self.leaving.retain(|r| r.in_flight > 0);
            }
            Step::End(n) => {
                let mut busy: Vec<_> = self.ready.iter_mut().filter(|r| r.in_flight > 0).collect();
                let len = busy.len();
                if len > 0 {
                    let r = &mut busy[n % len];
                    r.in_flight -= 1;
                    r.idle_since = now;
                }
            }
            Step::Started if self.starting > 0 => {
                self.starting -= 1;
                self.next += 1;
                self.ready.push(Ready {
                    id: InstanceId(self.next),
                    in_flight: 0,
                    idle_since: now,
                });
            }
            Step::Started | Step::Wait(_) => {}
        }
        for r in &mut self.ready {
            while self.queued > 0 && r.in_flight < s.concurrency {
                r.in_flight += 1;
                self.queued -= 1;
            }
        }
        if self.calls() > 0 {
            self.quiet_since = now;
        }
    }

    fn calls(&self) -> u32 {
        self.queued + self.ready.iter().map(|r| r.in_flight).sum::<u32>()
    }

    fn decide(&self, s: &Scale, now: Duration) -> Decision {
        decide(
            s,
            &Observation {
                now,
                ready: &self.ready,
                starting: self.starting,
                queued: self.queued,
                quiet_since: self.quiet_since,
                load_milli: self.load_milli,
                held: self.load.as_ref().map_or(0, |load| load.held(now)),
                asleep: false,
                told: false,
            },
        )
    }

    fn carry_out(&mut self, now: Duration, decision: &Decision) {
        self.starting += decision.start;
        self.ready.retain(|r| !decision.stop.contains(&r.id));
        let leaving = self
            .ready
            .extract_if(.., |r| decision.leave.contains(&r.id));
        self.leaving.extend(leaving);
        if let Some(load) = &mut self.load {
            load.wanted(now, decision.wanted);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Call),
        any::<usize>().prop_map(Step::End),
        Just(Step::Started),
        (0..200_u64).prop_map(Step::Wait),
        (0..20_000_u64).prop_map(Step::Load),
    ]
}

proptest! {
    #[test]
    fn bounds_hold_whatever_happens_and_quiet_ends_at_the_minimum(
        min in 0..4_u32, extra in 0..6_u32, concurrency in 1..5_u32, target_milli in 1..=1000_u32,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let s = Scale { target_milli, ..scale(min, min + extra, concurrency, 60) };
        let (mut pool, mut now) = (Pool::default(), Duration::ZERO);
        for step in &steps {
            if let Step::Wait(seconds) = step {
                now += Duration::from_secs(*seconds);
            }
            pool.apply(&s, now, step);
            let before = pool.ready.clone();
            let decision = pool.decide(&s, now);
            for id in &decision.stop {
                let stopped = before.iter().find(|r| r.id == *id).expect("only known instances are stopped");
                prop_assert_eq!(stopped.in_flight, 0, "a busy instance is never stopped");
                prop_assert!(now - stopped.idle_since >= s.idle, "an instance has its idle time");
            }
            prop_assert!(decision.stop.is_empty() || decision.start == 0, "never both ways at once");
            pool.carry_out(now, &decision);
            let live = pool.ready.len() as u32 + pool.starting;
            prop_assert!(live <= s.max);
            prop_assert!(pool.ready.len() as u32 >= s.min.min(before.len() as u32));
            prop_assert!(pool.queued == 0 || s.max == 0 || live > 0, "a waiting call has an instance to wait for");
        }
        // Load ends: starts finish, calls end, time passes.
        for _ in 0..1000 {
            pool.apply(&s, now, &Step::Started);
            pool.apply(&s, now, &Step::End(0));
            let decision = pool.decide(&s, now);
            pool.carry_out(now, &decision);
        }
        now += s.idle;
        let decision = pool.decide(&s, now);
        pool.carry_out(now, &decision);
        if s.max > 0 {
            prop_assert_eq!(pool.queued, 0);
        }
        prop_assert_eq!(pool.ready.len() as u32, s.min);
    }
}

proptest! {
    #[test]
    fn a_metric_only_adds_and_its_load_gone_all_but_the_minimum_go_within_the_idle_time(
        min in 0..4_u32, extra in 0..6_u32, concurrency in 1..5_u32, target_milli in 1..3000_u64, cpu: bool,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let metric = if cpu { Metric::Cpu { target_milli } } else { Metric::Rate { target_milli } };
        let s = Scale { metric, ..scale(min, min + extra, concurrency, 30) };
        let (mut pool, mut now) = (Pool { load: Load::of(&s), ..Pool::default() }, Duration::ZERO);
        let mut history: Vec<(Duration, u32)> = Vec::new();
        for step in &steps {
            if let Step::Wait(seconds) = step {
                now += Duration::from_secs(*seconds);
            }
            pool.apply(&s, now, step);
            let before = pool.ready.clone();
            let decision = pool.decide(&s, now);
            prop_assert!(decision.wanted >= wanted(&s, pool.calls()).clamp(s.min, s.max), "never below what the calls want");
            prop_assert!(decision.wanted >= wanted_by_load(metric, pool.load_milli).clamp(s.min, s.max));
            prop_assert!((s.min..=s.max).contains(&decision.wanted));
            for id in &decision.stop {
                let stopped = before.iter().find(|r| r.id == *id).expect("only known instances are stopped");
                prop_assert_eq!(stopped.in_flight, 0, "a busy instance is never stopped");
            }
            for id in &decision.leave {
                let left = before.iter().find(|r| r.id == *id).expect("only known instances leave");
                prop_assert!(left.in_flight > 0 && before.iter().filter(|r| r.in_flight == 0).count() == decision.stop.len());
            }
            let going = decision.stop.len() + decision.leave.len();
            prop_assert!(going == 0 || decision.start == 0, "never both ways at once");
            history.push((now, decision.wanted));
            let recent = history.iter().filter(|(then, _)| now - *then <= s.idle).map(|(_, n)| *n);
            let most = recent.max().unwrap_or(0) as usize;
            prop_assert!(going == 0 || before.len() - going >= most, "what was wanted within the idle time is kept");
            pool.carry_out(now, &decision);
            prop_assert!(pool.ready.len() as u32 + pool.starting <= s.max);
            prop_assert!(pool.queued == 0 || s.max == 0 || pool.ready.len() as u32 + pool.starting > 0);
        }
        pool.load_milli = 0;
        for _ in 0..1000 {
            pool.apply(&s, now, &Step::Started);
            pool.apply(&s, now, &Step::End(0));
            let decision = pool.decide(&s, now);
            pool.carry_out(now, &decision);
        }
        // And a sixteenth, to which the idle time is kept.
        now += s.idle + s.idle / 16;
        let decision = pool.decide(&s, now);
        pool.carry_out(now, &decision);
        if s.max > 0 {
            prop_assert_eq!(pool.queued, 0);
        }
        prop_assert_eq!(pool.ready.len() as u32, s.min);
    }

    #[test]
    fn parts_together_are_the_whole_but_for_rounding(min in 0_u32..50, more in 0_u32..50, percent in 0_u8..=100) {
        let whole = scale(min, (min + more).max(1), 1, 60);
        let (one, other) = (part(&whole, percent), part(&whole, 100 - percent));
        prop_assert!(one.min <= one.max && one.initial <= one.max && one.max >= 1);
        prop_assert!((whole.min..=whole.min + 1).contains(&(one.min + other.min)));
        prop_assert!((whole.max..=whole.max + 1).contains(&(one.max + other.max)) );
        prop_assert_eq!(part(&whole, 100), whole);
        prop_assert_eq!(part(&whole, 0).min, 0);
        let asked = Scale { by_hand: Some(ByHand { instances: min, turn: 3 }), ..whole };
        prop_assert_eq!(part(&asked, 100).by_hand.map(|b| b.turn), Some(3));
        prop_assert_eq!(floor(&part(&asked, 0)), 0);
        let of_both = floor(&part(&asked, percent)) + floor(&part(&asked, 100 - percent));
        prop_assert!(of_both >= floor(&asked).min(asked.max));
    }
}
