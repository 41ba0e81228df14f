use proptest::prelude::*;

use super::*;

const PLAN: Plan = Plan {
    over: Duration::from_secs(100),
    steps: 10,
    max_errors_ppm: 50_000,
    min_requests: 20,
};

const fn tally(calls: u64, errors: u64) -> Tally {
    Tally { calls, errors }
}

fn seen(passed_s: u64, candidate: Tally, stable: Tally) -> Seen {
    Seen {
        passed: Duration::from_secs(passed_s),
        candidate,
        stable,
    }
}

#[test]
fn shares_grow_by_steps_and_the_last_is_everything() {
    let at = |s| percent(&PLAN, Duration::from_secs(s));
    assert_eq!(
        (at(0), at(9), at(10), at(55), at(90), at(1000)),
        (10, 10, 20, 60, 100, 100)
    );
    let fine = Plan { steps: 100, ..PLAN };
    assert_eq!(percent(&fine, Duration::ZERO), 1);
    let one = Plan { steps: 1, ..PLAN };
    assert_eq!(percent(&one, Duration::ZERO), 100);
}

#[test]
fn a_revision_that_serves_well_gets_everything() {
    let mut progress = Progress::default();
    let mut calls = 0;
    let mut last = 0;
    for _ in 0..99 {
        calls += 100;
        match step(
            &PLAN,
            &mut progress,
            &seen(1, tally(calls, calls / 50), tally(calls, 0)),
        ) {
            Step::Go(percent) => {
                assert!(percent >= last);
                last = percent;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last, 100);
    let end = step(
        &PLAN,
        &mut progress,
        &seen(1, tally(calls, 0), tally(calls, 0)),
    );
    assert_eq!(end, Step::Done);
}

#[test]
fn too_many_failures_take_it_back_once_there_are_enough_calls() {
    let mut progress = Progress::default();
    let few = step(&PLAN, &mut progress, &seen(1, tally(19, 19), tally(0, 0)));
    assert_eq!(few, Step::Go(10));
    let enough = step(&PLAN, &mut progress, &seen(1, tally(20, 20), tally(100, 1)));
    assert_eq!(
        enough,
        Step::Back {
            candidate: tally(20, 20),
            stable: tally(100, 1)
        }
    );
}

#[test]
fn failures_before_the_window_do_not_count_in_it() {
    let mut progress = Progress {
        candidate: tally(1000, 900),
        ..Progress::default()
    };
    let next = step(
        &PLAN,
        &mut progress,
        &seen(1, tally(1100, 901), tally(0, 0)),
    );
    assert_eq!(next, Step::Go(10));
    // And a late rise is found although all calls together are few enough.
    let mut progress = Progress {
        candidate: tally(100_000, 0),
        ..Progress::default()
    };
    let next = step(
        &PLAN,
        &mut progress,
        &seen(1, tally(100_020, 10), tally(0, 0)),
    );
    assert!(matches!(next, Step::Back { .. }), "{next:?}");
}

#[test]
fn where_both_fail_alike_it_goes_on() {
    let mut progress = Progress::default();
    let next = step(
        &PLAN,
        &mut progress,
        &seen(1, tally(100, 50), tally(100, 60)),
    );
    assert_eq!(next, Step::Go(10));
}

#[test]
fn what_has_no_calls_left_is_judged_by_its_last() {
    let mut progress = Progress::default();
    let both = seen(1, tally(20, 20), tally(20, 20));
    assert!(matches!(step(&PLAN, &mut progress, &both), Step::Go(_)));
    // The new one takes all calls by now, and what both fail for goes on.
    let alone = seen(1, tally(60, 60), tally(20, 20));
    assert!(matches!(step(&PLAN, &mut progress, &alone), Step::Go(_)));
}

#[test]
fn counters_that_began_anew_count_from_nothing() {
    assert_eq!(tally(5, 1).since(tally(100, 0)), tally(5, 1));
    assert_eq!(tally(5, 1).to_string(), "1 of 5 calls failed (20.0 %)");
    assert_eq!(percent_text(50_000), "5.0");
    assert_eq!(percent_text(1_234), "0.1");
}

proptest! {
    /// Whatever comes, the share never falls, never exceeds the whole, and the end comes in time.
    #[test]
    fn shares_only_grow_and_the_end_comes(
        over_s in 1_u64..10_000,
        steps in 0_u32..200,
        looks in proptest::collection::vec((0_u64..500, 0_u64..200), 1..200),
    ) {
        let plan = Plan { over: Duration::from_secs(over_s), steps, ..PLAN };
        let (mut progress, mut last, mut calls, mut time) = (Progress::default(), 0, 0, 0);
        for (passed, more) in looks {
            calls += more;
            time += passed;
            match step(&plan, &mut progress, &seen(passed, tally(calls, 0), tally(0, 0))) {
                Step::Go(percent) => {
                    prop_assert!(percent >= last && (1..=100).contains(&percent));
                    prop_assert!(time < over_s);
                    last = percent;
                }
                Step::Done => {
                    prop_assert!(time >= over_s);
                    break;
                }
                Step::Back { .. } => prop_assert!(false, "nothing failed"),
            }
        }
    }

    /// It is taken back only for a window that is large enough and worse than both bounds.
    #[test]
    fn it_is_taken_back_for_a_reason(
        looks in proptest::collection::vec((0_u64..50, 0_u64..50, 0_u64..50, 0_u64..50), 1..100),
    ) {
        let (mut progress, mut candidate, mut stable) = (Progress::default(), tally(0, 0), tally(0, 0));
        for (good, bad, other_good, other_bad) in looks {
            candidate = tally(candidate.calls + good + bad, candidate.errors + bad);
            stable = tally(stable.calls + other_good + other_bad, stable.errors + other_bad);
            if let Step::Back { candidate, stable } = step(&PLAN, &mut progress, &seen(0, candidate, stable)) {
                prop_assert!(candidate.calls >= PLAN.min_requests);
                prop_assert!(candidate.ppm() > 50_000 && candidate.ppm() > stable.ppm());
                break;
            }
        }
    }
}
