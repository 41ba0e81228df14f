use super::*;
use proptest::prelude::*;

fn scale(min: u32, max: u32, concurrency: u32, idle_s: u64) -> Scale {
    Scale {
        min,
        max,
        initial: 1,
        concurrency,
        target_milli: 1000,
        idle: Duration::from_secs(idle_s),
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

/// A pool driven by `decide` alone, with a clock that moves only when told.
#[derive(Debug, Default)]
struct Pool {
    ready: Vec<Ready>,
    starting: u32,
    queued: u32,
    next: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Call,
    End(usize),
    Started,
    Wait(u64),
}

impl Pool {
    fn apply(&mut self, s: &Scale, now: Duration, step: &Step) {
        match step {
            Step::Call => self.queued += 1,
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
    }

    fn decide(&self, s: &Scale, now: Duration) -> Decision {
        decide(
            s,
            &Observation {
                now,
                ready: &self.ready,
                starting: self.starting,
                queued: self.queued,
            },
        )
    }

    fn carry_out(&mut self, decision: &Decision) {
        self.starting += decision.start;
        self.ready.retain(|r| !decision.stop.contains(&r.id));
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Call),
        any::<usize>().prop_map(Step::End),
        Just(Step::Started),
        (0..200_u64).prop_map(Step::Wait),
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
            pool.carry_out(&decision);
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
            pool.carry_out(&decision);
        }
        now += s.idle;
        let decision = pool.decide(&s, now);
        pool.carry_out(&decision);
        if s.max > 0 {
            prop_assert_eq!(pool.queued, 0);
        }
        prop_assert_eq!(pool.ready.len() as u32, s.min);
    }
}

proptest! {
    #[test]
    fn parts_together_are_the_whole_but_for_rounding(min in 0_u32..50, more in 0_u32..50, percent in 0_u8..=100) {
        let whole = scale(min, (min + more).max(1), 1, 60);
        let (one, other) = (part(&whole, percent), part(&whole, 100 - percent));
        prop_assert!(one.min <= one.max && one.initial <= one.max && one.max >= 1);
        prop_assert!((whole.min..=whole.min + 1).contains(&(one.min + other.min)));
        prop_assert!((whole.max..=whole.max + 1).contains(&(one.max + other.max)) );
        prop_assert_eq!(part(&whole, 100), whole);
        prop_assert_eq!(part(&whole, 0).min, 0);
    }
}
